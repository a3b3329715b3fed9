// Endpoints on the real kernel: reachability, anti-spoofing, conflicts, many at once. Needs root, iproute2 and
// busybox (ping).
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isBrindleError } from '#base/errors.ts';
import { silentLogger } from '#base/log.ts';
import { EndpointWiring, type WireRequest } from '#dataplane/endpoint-wiring.ts';
import { prepareHost } from '#dataplane/host-settings.ts';
import { type KernelAccess, openKernelAccess } from '#dataplane/kernel-access.ts';
import { HOST_MAC, ROUTE_PROTOCOL } from '#dataplane/ownership.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { addAddresses, type TestNetns, testNetns, until } from '../support/netns.ts';

interface World extends AsyncDisposable {
  readonly host: TestNetns;
  readonly containers: TestNetns[];
  readonly kernel: KernelAccess;
  readonly wiring: EndpointWiring;
  readonly warnings: object[];
}

function world(containers: number): World {
  const host = testNetns('host');
  const all = Array.from({ length: containers }, () => testNetns('c'));
  const kernel = openKernelAccess(host.path);
  prepareHost(kernel.host, [4, 6]);
  addAddresses(host, 1, ['192.0.2.1/32', '2001:db8::1/128']);
  const warnings: object[] = [];
  const wiring = new EndpointWiring(kernel, { ...silentLogger, warn: (fields) => void warnings.push(fields) });
  return {
    host,
    containers: all,
    kernel,
    wiring,
    warnings,
    async [Symbol.asyncDispose]() {
      await wiring.idle();
      kernel.close();
      for (const namespace of [...all, host]) namespace.close();
    },
  };
}

function request(w: World, index: number, addresses = [`10.65.0.${index + 1}`, `fd65::${index + 1}`]): WireRequest {
  return {
    netnsPath: w.containers[index]!.path,
    containerInterface: 'eth0',
    hostInterface: `cali${index}`,
    addresses: addresses.map((text) => IpAddress.parse(text)),
    mtu: 1450,
  };
}

const ping = (from: TestNetns, to: string, ...more: string[]) =>
  from.tryRun('busybox', 'ping', '-c1', '-W2', ...more, to).then((r) => r.status === 0);

describe('EndpointWiring', () => {
  it('makes container and host, and two containers, reach each other over both IP versions', async () => {
    await using w = world(2);
    const first = w.wiring.wire(request(w, 0));
    w.wiring.wire({ ...request(w, 1), containerMac: '02:00:00:00:00:05' });
    assert.equal(first.hostMac, HOST_MAC);
    const [a, b] = w.containers as [TestNetns, TestNetns];
    for (const [from, to] of [
      [w.host, '10.65.0.1'],
      [w.host, 'fd65::1'],
      [a, '192.0.2.1'],
      [a, '2001:db8::1'],
      [a, '10.65.0.2'],
      [a, 'fd65::2'],
      [b, '10.65.0.1'],
      [b, 'fd65::1'],
    ] as const) {
      assert.ok(await ping(from, to), `${from.name} -> ${to}`);
    }
    assert.ok(await ping(a, 'fe80::ecee:eeff:feee:eeee%eth0'));
    assert.equal(b.netlink.getLink('eth0')?.mac, '02:00:00:00:00:05');
    assert.equal(a.netlink.getLink('eth0')?.mac, first.containerMac);
    assert.equal(a.netlink.getLink('eth0')?.mtu, 1450);
    assert.ok(a.netlink.getLink('lo')?.up);
    assert.match(await w.host.run('ip', 'route'), /^10\.65\.0\.1 dev cali0 proto 155 scope link/m);
    assert.match(
      await a.run('ip', 'route'),
      /default via 169\.254\.1\.1 dev eth0.*\n169\.254\.1\.1 dev eth0.*scope link/,
    );
    assert.match(await a.run('ip', '-6', 'route'), /default via fe80::ecee:eeff:feee:eeee dev eth0/);
    for (const index of [0, 1]) assert.deepEqual(w.wiring.check(request(w, index)), []);
  });

  it('sets the parameters of the kernel contract on the host side', async () => {
    await using w = world(1);
    w.wiring.wire(request(w, 0));
    const expected = [
      ['ipv4', 'conf', 'proxy_arp', '1'],
      ['ipv4', 'conf', 'forwarding', '1'],
      ['ipv4', 'conf', 'rp_filter', '1'],
      ['ipv4', 'neigh', 'proxy_delay', '0'],
      ['ipv6', 'conf', 'proxy_ndp', '1'],
      ['ipv6', 'conf', 'forwarding', '1'],
      ['ipv6', 'conf', 'accept_ra', '0'],
      ['ipv6', 'conf', 'accept_dad', '0'],
    ];
    for (const [family = '', kind = '', name = '', value] of expected) {
      assert.equal(w.kernel.host.readSysctl([family, kind, 'cali0', name]), value, name);
    }
    assert.equal(w.host.netlink.getLink('cali0')?.mac, HOST_MAC);
  });

  it('is answered for by proxy ARP when the container asks', async () => {
    await using w = world(1);
    // The kernel answers only for what it would forward, so there has to be a route for 169.254.1.1.
    await w.host.run('ip', 'route', 'add', 'default', 'dev', 'lo');
    w.wiring.wire(request(w, 0));
    const [c] = w.containers as [TestNetns];
    await c.run('ip', 'neigh', 'flush', 'dev', 'eth0', 'nud', 'permanent');
    assert.ok(await ping(c, '192.0.2.1'));
    assert.match(await c.run('ip', 'neigh', 'show', '169.254.1.1'), /ee:ee:ee:ee:ee:ee/);
  });

  it('drops what comes from a source that is not the container’s own', async () => {
    await using w = world(2);
    w.wiring.wire(request(w, 0));
    w.wiring.wire(request(w, 1));
    const [a] = w.containers as [TestNetns];
    // It steals its neighbour's address, and one that nobody has.
    for (const stolen of ['10.65.0.2', '10.65.7.7']) {
      addAddresses(a, a.netlink.getLink('eth0')!.index, [`${stolen}/32`]);
      const received = () => receivedEchoes(w.host);
      const before = await received();
      assert.equal(await ping(a, '192.0.2.1', '-I', stolen, '-W1'), false);
      assert.equal(await received(), before, `the host took a packet from ${stolen}`);
    }
    assert.ok(await ping(a, '192.0.2.1'));
  });

  it('stays strict where the host was set to loose filtering', async () => {
    await using w = world(1);
    w.host.sysctl(['ipv4', 'conf', 'all', 'rp_filter'], 2);
    assert.ok(prepareHost(w.kernel.host, [4, 6]).includes('ipv4.conf.all.rp_filter = 0'));
    assert.equal(w.kernel.host.readSysctl(['ipv4', 'conf', 'lo', 'rp_filter']), '2');
    assert.deepEqual(prepareHost(w.kernel.host, [4, 6]), []);
    w.wiring.wire(request(w, 0));
    assert.equal(w.kernel.host.readSysctl(['ipv4', 'conf', 'cali0', 'rp_filter']), '1');
  });

  it('wires an endpoint with one IP version only', async () => {
    await using w = world(2);
    w.wiring.wire(request(w, 0, ['10.65.0.1']));
    w.wiring.wire(request(w, 1, ['fd65::2']));
    assert.ok(await ping(w.host, '10.65.0.1'));
    assert.ok(await ping(w.host, 'fd65::2'));
    assert.deepEqual(w.wiring.check(request(w, 1, ['fd65::2'])), []);
  });

  it('switches IPv6 on in a container where the runtime switched it off', async () => {
    await using w = world(1);
    const [c] = w.containers as [TestNetns];
    for (const name of ['all', 'default', 'lo']) c.sysctl(['ipv6', 'conf', name, 'disable_ipv6'], 1);
    w.wiring.wire(request(w, 0));
    assert.ok(await ping(w.host, 'fd65::1'));
  });

  it('refuses what cannot be, and leaves nothing behind', async () => {
    await using w = world(2);
    const base = request(w, 0);
    const refused: [Partial<WireRequest>, string, RegExp][] = [
      [{ netnsPath: '/run/netns/none-of-that-name' }, 'not-found', /does not exist/],
      [{ netnsPath: '/etc/passwd' }, 'invalid-argument', /not a network namespace/],
      [{ netnsPath: '/proc/self/ns/mnt' }, 'invalid-argument', /not a network namespace/],
      [{ netnsPath: w.host.path }, 'invalid-argument', /host's own/],
      [{ containerInterface: 'lo' }, 'invalid-argument', /loopback/],
      [{ containerInterface: 'a name' }, 'invalid-argument', /interface name/],
      [{ hostInterface: 'eth7' }, 'invalid-argument', /cali/],
      [{ hostInterface: 'cali-much-too-long' }, 'invalid-argument', /interface name/],
      [{ addresses: [] }, 'invalid-argument', /at least one/],
      [{ addresses: [IpAddress.parse('127.0.0.1')] }, 'invalid-argument', /127\.0\.0\.1/],
      [{ addresses: [IpAddress.parse('10.0.0.1'), IpAddress.parse('10.0.0.1')] }, 'invalid-argument', /twice/],
      [{ mtu: 1279 }, 'invalid-argument', /1280/],
      [{ containerMac: '01:00:00:00:00:00' }, 'invalid-argument', /multicast/],
    ];
    for (const [change, code, text] of refused) {
      assert.throws(
        () => w.wiring.wire({ ...base, ...change }),
        (e) => isBrindleError(e) && e.code === code && text.test(e.message),
        JSON.stringify(change),
      );
    }
    await w.wiring.idle();
    assert.deepEqual(w.wiring.list(), []);
    assert.equal(w.containers[0]!.netlink.listLinks().length, 1);
  });

  it('refuses names and addresses that are taken, and leaves the owner alone', async () => {
    await using w = world(3);
    w.wiring.wire(request(w, 0));
    const exists = (r: WireRequest, text: RegExp) =>
      assert.throws(
        () => w.wiring.wire(r),
        (e) => isBrindleError(e, 'already-exists') && text.test(e.message),
      );
    exists({ ...request(w, 1), hostInterface: 'cali0' }, /interface cali0 exists on the host/);
    exists({ ...request(w, 1), netnsPath: w.containers[0]!.path }, /interface eth0 exists in network namespace/);
    exists(request(w, 2, ['10.65.0.9', '10.65.0.1']), /10\.65\.0\.1 is already routed to cali0/);
    exists(request(w, 2, ['fd65::1']), /fd65::1 is already routed to cali0/);
    assert.deepEqual(w.wiring.check(request(w, 0)), []);
    assert.deepEqual(
      w.wiring.list().map((link) => link.name),
      ['cali0'],
    );
    const left = w.host.netlink.listRoutes({ protocol: ROUTE_PROTOCOL }).map((r) => `${r.destination}`);
    assert.deepEqual(left, ['10.65.0.1/32', 'fd65::1/128']);
    // A second interface cannot bring a second default route.
    exists({ ...request(w, 1), netnsPath: w.containers[0]!.path, containerInterface: 'eth1' }, /default route/);
    // What failed can be tried again at once, under the same names.
    w.wiring.wire(request(w, 2));
    assert.ok(await ping(w.host, '10.65.0.3'));
  });

  it('is gone at once, and its names can be used again before the interface is deleted', async () => {
    await using w = world(1);
    for (let round = 0; round < 5; round++) {
      w.wiring.wire(request(w, 0));
      assert.ok(await ping(w.host, '10.65.0.1'));
      assert.equal(w.wiring.unwire('cali0'), true);
      assert.deepEqual(w.host.netlink.listRoutes({ protocol: ROUTE_PROTOCOL }), []);
      assert.deepEqual(w.wiring.list(), []);
    }
    assert.equal(w.wiring.unwire('cali0'), false);
    assert.equal(w.wiring.unwire('cali-none'), false);
  });

  it('finds what is wrong', async () => {
    await using w = world(1);
    const wired = w.wiring.wire(request(w, 0));
    const [c] = w.containers as [TestNetns];
    await c.run('ip', 'route', 'del', 'default');
    await c.run('ip', 'addr', 'del', '10.65.0.1/32', 'dev', 'eth0');
    w.host.netlink.execute([
      { op: 'route-delete', route: { destination: Prefix.parse('fd65::1/128'), ifindex: wired.hostIndex } },
    ]);
    const problems = w.wiring.check(request(w, 0)).join('\n');
    assert.match(problems, /no route to fd65::1\/128/);
    assert.match(problems, /has not got address 10\.65\.0\.1/);
    assert.match(problems, /no IPv4 default route/);
    w.wiring.unwire('cali0');
    assert.match(w.wiring.check(request(w, 0)).join('\n'), /does not exist on the host/);
  });

  it('wires 200 endpoints and removes them with nothing left', async () => {
    await using w = world(200);
    for (let i = 0; i < 200; i++) w.wiring.wire(request(w, i));
    assert.equal(w.wiring.list().length, 200);
    assert.equal(w.host.netlink.listRoutes({ protocol: ROUTE_PROTOCOL }).length, 400);
    assert.ok(await ping(w.host, '10.65.0.200'));
    for (let i = 0; i < 200; i++) assert.equal(w.wiring.unwire(`cali${i}`), true);
    assert.deepEqual(w.host.netlink.listRoutes({ protocol: ROUTE_PROTOCOL }), []);
    await w.wiring.idle();
    assert.deepEqual(w.warnings, []);
    await until('all interfaces are gone', () => w.host.netlink.listLinks().length === 1);
    assert.deepEqual(w.host.netlink.listRoutes({ protocol: ROUTE_PROTOCOL }), []);
    for (const c of w.containers) assert.equal(c.netlink.listLinks().length, 1);
  });

  it('clears what a crash left half-deleted', async () => {
    await using w = world(2);
    w.wiring.wire(request(w, 0));
    w.wiring.wire(request(w, 1));
    // As if the process had ended between the two halves of an unwire.
    const { DOOMED_GROUP } = await import('#dataplane/ownership.ts');
    w.host.netlink.execute([{ op: 'link-set', link: 'cali0', settings: { up: false, group: DOOMED_GROUP } }]);
    const next = new EndpointWiring(w.kernel, silentLogger);
    assert.deepEqual(
      next.list().map((link) => link.name),
      ['cali1'],
    );
    await next.cleanLeftovers();
    assert.equal(w.host.netlink.getLink('cali0'), null);
    assert.ok(await ping(w.host, '10.65.0.2'));
  });
});

/** Echo requests that the host's IPv4 stack took. */
async function receivedEchoes(namespace: TestNetns): Promise<number> {
  const lines = (await namespace.run('cat', '/proc/net/snmp')).split('\n').filter((line) => line.startsWith('Icmp:'));
  const [names = [], values = []] = lines.map((line) => line.split(' '));
  return Number(values[names.indexOf('InEchos')]);
}
