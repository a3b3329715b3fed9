import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { executeAll, type NetlinkApi } from '#netlink/api.ts';
import { FakeKernel } from '#netlink/fake.ts';
import type { NewRoute, Operation } from '#netlink/types.ts';
import {
  type NextHopChange,
  NextHopTracker,
  type NextHopTrackerOptions,
  type ResolvedNextHop,
} from './next-hop-tracker.ts';
import { ROUTE_PROTOCOL } from './ownership.ts';

const ip = (text: string) => IpAddress.parse(text);
const text = (r: ResolvedNextHop | null) =>
  r && r.gateways.map((g) => `${g.address ?? 'direct'}@${g.ifindex}`).join(' ');
const turns = async (): Promise<void> => {
  for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve));
};

async function world(options: Partial<NextHopTrackerOptions> = {}) {
  const kernel = new FakeKernel();
  const [host, peer] = [kernel.createNamespace(), kernel.createNamespace()];
  const other: NetlinkApi = host.connect();
  const add = (name: string, address: string): number => {
    executeAll(other, [{ op: 'veth-add', veth: { name, peer: { name, netnsFd: peer.fd } } }]);
    executeAll(peer.connect(), [{ op: 'link-set', link: name, settings: { up: true } }]);
    const { index } = other.getLink(name)!;
    executeAll(other, [
      { op: 'link-set', link: index, settings: { up: true } },
      { op: 'address-add', address: { ifindex: index, address: ip(address), prefixLength: 24 } },
    ]);
    return index;
  };
  const changes: NextHopChange[][] = [];
  const eth1 = add('eth1', '10.0.0.1');
  const eth2 = add('eth2', '10.0.1.1');
  const netlink = host.connect();
  const lookups: string[] = [];
  const counted: NetlinkApi = Object.assign(Object.create(netlink) as NetlinkApi, {
    lookupRoute: (address: IpAddress) => {
      lookups.push(`${address}`);
      return netlink.lookupRoute(address);
    },
    subscribe: netlink.subscribe.bind(netlink),
    listRoutesAsync: netlink.listRoutesAsync.bind(netlink),
  });
  const tracker = new NextHopTracker({
    netlink: counted,
    onChange: (list) => void changes.push([...list]),
    ...options,
  });
  await tracker.start();
  await turns();
  return { host, other, tracker, changes, eth1, eth2, lookups };
}

function route(destination: string, gateway: string, more: Partial<NewRoute> = {}): Operation {
  const nextHops = [{ gateway: ip(gateway) }];
  return { op: 'route-add', route: { destination: Prefix.parse(destination), protocol: 4, nextHops, ...more } };
}

describe('NextHopTracker', () => {
  it('does not let a BGP route keep its own next hop alive', async () => {
    const w = await world();
    executeAll(w.other, [
      route('172.16.0.0/16', '10.0.0.2'),
      route('172.16.5.0/24', '10.0.1.2', { protocol: ROUTE_PROTOCOL }),
    ]);
    await turns();
    assert.equal(text(w.tracker.track(ip('172.16.5.1'))), `10.0.0.2@${w.eth1}`);
    executeAll(w.other, [{ op: 'route-delete', route: { destination: Prefix.parse('172.16.0.0/16') } }]);
    await turns();
    assert.deepEqual(
      w.changes
        .splice(0)
        .flat()
        .map((c) => c.resolved),
      [null],
    );
  });

  it('takes its own routes too where it is told so', async () => {
    const w = await world({ resolveThroughOwn: true });
    executeAll(w.other, [route('172.16.5.0/24', '10.0.1.2', { protocol: ROUTE_PROTOCOL })]);
    assert.equal(text(w.tracker.track(ip('172.16.5.1'))), `10.0.1.2@${w.eth2}`);
  });

  it('does not look behind an unreachable route of somebody else, nor use the default route when told not to', async () => {
    const w = await world({ resolveThroughDefault: false });
    executeAll(w.other, [
      route('0.0.0.0/0', '10.0.0.2'),
      route('172.16.0.0/16', '10.0.0.2'),
      { op: 'route-add', route: { destination: Prefix.parse('172.16.5.0/24'), protocol: 4, type: 'unreachable' } },
    ]);
    await turns();
    assert.equal(w.tracker.track(ip('9.9.9.9')), null);
    assert.equal(w.tracker.track(ip('172.16.5.1')), null);
    assert.equal(text(w.tracker.track(ip('172.16.6.1'))), `10.0.0.2@${w.eth1}`);
  });

  it('looks again only at what a change can touch, once a turn, and tells only what changed', async () => {
    const w = await world();
    for (const address of ['10.0.0.2', '10.0.1.2', '172.16.0.1', '172.17.0.1']) w.tracker.track(ip(address));
    w.lookups.length = 0;
    executeAll(w.other, [
      route('172.16.0.0/24', '10.0.0.2'),
      { op: 'route-delete', route: { destination: Prefix.parse('172.16.0.0/24') } },
      route('172.16.0.0/24', '10.0.0.3'),
    ]);
    await turns();
    assert.deepEqual(w.lookups, ['172.16.0.1']);
    assert.deepEqual(
      w.changes.map((batch) => batch.map((c) => `${c.address} ${text(c.resolved)}`)),
      [[`172.16.0.1 10.0.0.3@${w.eth1}`]],
    );
    w.changes.length = 0;
    executeAll(w.other, [{ op: 'link-set', link: w.eth1, settings: { up: false } }]);
    await turns();
    assert.deepEqual(
      w.changes
        .flat()
        .map((c) => `${c.address} ${text(c.resolved)}`)
        .sort((a, b) => (a < b ? -1 : 1)),
      ['10.0.0.2 null', '172.16.0.1 null'],
    );
  });

  it('counts its users', async () => {
    const w = await world();
    w.tracker.track(ip('10.0.0.2'));
    w.tracker.track(ip('10.0.0.2'));
    w.tracker.untrack(ip('10.0.0.2'));
    executeAll(w.other, [{ op: 'link-set', link: w.eth1, settings: { up: false } }]);
    await turns();
    assert.equal(w.changes.flat().length, 1);
    w.tracker.untrack(ip('10.0.0.2'));
    w.tracker.untrack(ip('10.0.0.2'));
    executeAll(w.other, [{ op: 'link-set', link: w.eth1, settings: { up: true } }]);
    await turns();
    assert.equal(w.changes.flat().length, 1);
  });
});
