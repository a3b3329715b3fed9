import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isBrindleError } from '#base/errors.ts';
import { silentLogger } from '#base/log.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { EndpointWiring, type WireRequest } from './endpoint-wiring.ts';
import { FakeKernelAccess } from './fake-kernel-access.ts';
import { DOOMED_GROUP, ROUTE_PROTOCOL } from './ownership.ts';

function world(containers = 2) {
  const kernel = new FakeKernelAccess();
  const namespaces = Array.from({ length: containers }, (_, i) => kernel.createNamespace(`/run/netns/c${i}`));
  const wiring = new EndpointWiring(kernel, silentLogger);
  const request = (i: number, more: Partial<WireRequest> = {}): WireRequest => ({
    netnsPath: `/run/netns/c${i}`,
    containerInterface: 'eth0',
    hostInterface: `cali${i}`,
    addresses: [`10.65.0.${i + 1}`, `fd65::${i + 1}`].map((text) => IpAddress.parse(text)),
    mtu: 1500,
    ...more,
  });
  const routes = () => kernel.host.netlink.listRoutes({ protocol: ROUTE_PROTOCOL }).map((r) => `${r.destination}`);
  const hostLinks = () => kernel.host.netlink.listLinks().map((link) => link.name);
  return { kernel, namespaces, wiring, request, routes, hostLinks };
}

describe('EndpointWiring on the fake kernel', () => {
  it('makes both sides and the routes', () => {
    const w = world();
    const wired = w.wiring.wire(w.request(0, { containerMac: '02:00:00:00:00:AA' }));
    assert.deepEqual(w.routes(), ['10.65.0.1/32', 'fd65::1/128']);
    assert.equal(wired.containerMac, '02:00:00:00:00:aa');
    const inside = w.namespaces[0]!.routes.filter((r) => r.table === 254).map((r) => `${r.destination}`);
    assert.deepEqual(inside.sort(), ['0.0.0.0/0', '169.254.1.1/32', '::/0', 'fd65::1/128']);
    assert.deepEqual(w.wiring.check(w.request(0)), []);
  });

  it('takes everything back when a later step fails', async () => {
    const w = world();
    // The address is taken, which shows only after interface and addresses have been made.
    const taken = { destination: Prefix.parse('fd65::1/128'), protocol: 4, type: 'unreachable' as const };
    w.kernel.host.netlink.execute([{ op: 'route-add', route: taken }]);
    assert.throws(
      () => w.wiring.wire(w.request(0)),
      (e) => isBrindleError(e, 'already-exists'),
    );
    assert.deepEqual(w.wiring.list(), []);
    assert.deepEqual(w.routes(), []);
    await w.wiring.idle();
    assert.deepEqual(w.hostLinks(), ['lo']);
    assert.deepEqual(
      [...w.namespaces[0]!.links.values()].map((link) => link.name),
      ['lo'],
    );
  });

  it('deletes many doomed interfaces together, and those that come meanwhile in a second round', async () => {
    const w = world(6);
    for (let i = 0; i < 6; i++) w.wiring.wire(w.request(i));
    for (let i = 0; i < 5; i++) assert.equal(w.wiring.unwire(`cali${i}`), true);
    assert.deepEqual(w.routes(), ['10.65.0.6/32', 'fd65::6/128']);
    assert.equal(w.hostLinks().length, 7, 'nothing is deleted while the caller waits');
    await new Promise((resolve) => setImmediate(resolve));
    w.wiring.unwire('cali5');
    await w.wiring.idle();
    assert.deepEqual(w.hostLinks(), ['lo']);
    assert.deepEqual(w.routes(), []);
  });

  it('makes room for an endpoint of the same name as one that waits to be deleted', async () => {
    const w = world();
    w.wiring.wire(w.request(0));
    w.wiring.unwire('cali0');
    const again = w.wiring.wire(w.request(0));
    assert.equal(w.kernel.host.netlink.getLink(again.hostIndex)?.group, 0);
    await w.wiring.idle();
    assert.deepEqual(w.hostLinks(), ['lo', 'cali0']);
  });

  it('works when the namespace is gone before its endpoint is removed', async () => {
    const w = world();
    w.wiring.wire(w.request(0));
    w.kernel.deleteNamespace('/run/netns/c0');
    assert.throws(
      () => w.wiring.check(w.request(0)),
      (e) => isBrindleError(e, 'not-found'),
    );
    assert.equal(w.wiring.unwire('cali0'), true);
    await w.wiring.idle();
    assert.deepEqual(w.hostLinks(), ['lo']);
  });

  it('leaves alone what is not ours', async () => {
    const w = world();
    w.kernel.host.netlink.execute([
      { op: 'bridge-add', bridge: { name: 'cali-bridge' } },
      { op: 'bridge-add', bridge: { name: 'docker0' } },
    ]);
    assert.deepEqual(w.wiring.list(), []);
    await w.wiring.cleanLeftovers();
    assert.deepEqual(w.hostLinks(), ['lo', 'cali-bridge', 'docker0']);
    assert.notEqual(DOOMED_GROUP, 0);
  });
});
