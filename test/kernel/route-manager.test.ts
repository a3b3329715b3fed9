// Routes, interfaces and next hops on the real kernel. Needs root and iproute2.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { silentLogger } from '#base/log.ts';
import { type InterfaceEvent, InterfaceMonitor } from '#dataplane/interface-monitor.ts';
import { type NextHopChange, NextHopTracker } from '#dataplane/next-hop-tracker.ts';
import { ROUTE_PROTOCOL } from '#dataplane/ownership.ts';
import { type DesiredRoute, ROUTE_SOURCES, RouteManager } from '#dataplane/route-manager.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { openNetlink } from '#netlink/kernel.ts';
import { connectNetns, type TestNetns, testNetns, until } from '../support/netns.ts';

const ip = (text: string) => IpAddress.parse(text);
const prefix = (text: string) => Prefix.parse(text);

function route(destination: string, ...gateways: string[]): DesiredRoute {
  const nextHops = gateways.map((gateway) => ({ gateway: ip(gateway), ifindex: null }));
  return { destination: prefix(destination), nextHops };
}

/** A host with two routers next door, 10.0.0.2 on eth1 and 10.0.1.2 on eth2. */
function world(): AsyncDisposable & { host: TestNetns; manager: () => Promise<RouteManager> } {
  const [host, a, b] = [testNetns('host'), testNetns('a'), testNetns('b')];
  connectNetns(host, a, { a: 'eth1', b: 'eth0', aAddresses: ['10.0.0.1/24', 'fd00::1/64'] });
  connectNetns(host, b, { a: 'eth2', b: 'eth0', aAddresses: ['10.0.1.1/24', 'fd01::1/64'] });
  const managers: (() => void)[] = [];
  return {
    host,
    async manager() {
      const netlink = openNetlink({ netns: host.path });
      const manager = new RouteManager({ netlink, clock: systemClock, log: silentLogger });
      managers.push(() => {
        manager.close();
        netlink.close();
      });
      await manager.start();
      return manager;
    },
    async [Symbol.asyncDispose]() {
      for (const close of managers) close();
      for (const namespace of [host, a, b]) namespace.close();
    },
  };
}

const ours = (host: TestNetns) =>
  host.netlink.listRoutes({ protocol: ROUTE_PROTOCOL }).map((r) => `${r.destination} ${r.type}`);

describe('RouteManager', () => {
  it('writes ECMP and blackhole routes of both IP versions, as `ip route` shows them', async () => {
    await using w = world();
    const manager = await w.manager();
    manager.set('bgp', route('192.168.0.0/24', '10.0.0.2', '10.0.1.2'));
    manager.set('bgp', route('fd99::/64', 'fd00::2', 'fd01::2'));
    manager.set('bgp', {
      destination: prefix('192.168.9.0/24'),
      nextHops: [{ gateway: ip('fd00::2'), ifindex: w.host.netlink.getLink('eth1')!.index }],
    });
    manager.set('block', route('10.65.0.0/26'));
    manager.set('block', route('fd65::/122'));
    await manager.flush();
    const v4 = await w.host.run('ip', 'route');
    assert.match(
      v4,
      /192\.168\.0\.0\/24 proto 155 \n\tnexthop via 10\.0\.0\.2 dev eth1 weight 1 \n\tnexthop via 10\.0\.1\.2 dev eth2/,
    );
    assert.match(v4, /blackhole 10\.65\.0\.0\/26 proto 155/);
    assert.match(v4, /192\.168\.9\.0\/24 via inet6 fd00::2 dev eth1 proto 155/);
    const v6 = await w.host.run('ip', '-6', 'route');
    assert.match(v6, /fd99::\/64 proto 155 metric 1024 pref medium\n\tnexthop via fd0[01]::2 dev eth[12]/);
    assert.match(v6, /blackhole fd65::\/122 dev lo proto 155/);
    assert.deepEqual(manager.counts(), { installed: 5, pending: 0, failed: 0 });

    manager.set('bgp', route('192.168.0.0/24', '10.0.1.2'));
    manager.set('bgp', route('fd99::/64', 'fd01::2'));
    manager.delete('block', prefix('fd65::/122'));
    await manager.flush();
    assert.match(await w.host.run('ip', 'route'), /192\.168\.0\.0\/24 via 10\.0\.1\.2 dev eth2 proto 155/);
    assert.match(await w.host.run('ip', '-6', 'route'), /fd99::\/64 via fd01::2 dev eth2 proto 155/);
    assert.equal(ours(w.host).length, 4);
  });

  it('adopts what is there, and sweeps only its own and only when the source is in sync', async () => {
    await using w = world();
    const first = await w.manager();
    for (const r of [route('192.168.1.0/24', '10.0.0.2'), route('192.168.2.0/24', '10.0.0.2')]) first.set('bgp', r);
    first.set('block', route('10.65.0.0/26'));
    first.set('block', route('10.65.1.0/26'));
    await first.flush();
    first.close();
    await w.host.run('ip', 'route', 'add', '192.168.3.0/24', 'via', '10.0.0.2', 'proto', 'static');
    await w.host.run('ip', 'route', 'add', '10.65.0.9/32', 'dev', 'eth1', 'proto', `${ROUTE_PROTOCOL}`);

    const second = await w.manager();
    second.set('bgp', route('192.168.1.0/24', '10.0.0.2'));
    second.set('block', route('10.65.0.0/26'));
    await second.flush();
    assert.equal(second.status(prefix('192.168.1.0/24'))?.state, 'installed');
    assert.equal(ours(w.host).length, 5, 'nothing is removed before the sources are in sync');
    // A blackhole may be a block's or an aggregate's: both have to be there.
    second.inSync('block');
    second.inSync('static');
    await second.flush();
    assert.deepEqual(ours(w.host), [
      '10.65.0.0/26 blackhole',
      '10.65.0.9/32 unicast',
      '192.168.1.0/24 unicast',
      '192.168.2.0/24 unicast',
    ]);
    second.inSync('bgp');
    await second.flush();
    assert.deepEqual(ours(w.host), ['10.65.0.0/26 blackhole', '10.65.0.9/32 unicast', '192.168.1.0/24 unicast']);
    assert.match(await w.host.run('ip', 'route'), /192\.168\.3\.0\/24 via 10\.0\.0\.2 dev eth1 proto static/);
  });

  it('mends what others change', async () => {
    await using w = world();
    const manager = await w.manager();
    manager.set('bgp', route('192.168.1.0/24', '10.0.0.2'));
    manager.set('block', route('10.65.0.0/26'));
    for (const source of ROUTE_SOURCES) manager.inSync(source);
    await manager.flush();
    const shows = async (pattern: RegExp) => pattern.test(await w.host.run('ip', 'route'));
    await w.host.run('ip', 'route', 'flush', 'proto', `${ROUTE_PROTOCOL}`);
    await until('both are back', async () => (await shows(/192\.168\.1\.0/)) && (await shows(/blackhole 10\.65/)));
    await w.host.run('ip', 'route', 'change', '192.168.1.0/24', 'via', '10.0.1.2', 'proto', `${ROUTE_PROTOCOL}`);
    await until('the gateway is back', () => shows(/192\.168\.1\.0\/24 via 10\.0\.0\.2/));
    await w.host.run('ip', 'route', 'add', '192.168.7.0/24', 'via', '10.0.0.2', 'proto', `${ROUTE_PROTOCOL}`);
    await until('the stranger is gone', async () => !(await shows(/192\.168\.7\.0/)));
  });

  it('writes routes again after their interface was down', async () => {
    await using w = world();
    const manager = await w.manager();
    manager.set('bgp', route('192.168.1.0/24', '10.0.0.2'));
    await manager.flush();
    w.host.netlink.execute([{ op: 'link-set', link: 'eth1', settings: { up: false } }]);
    await until('the failure is seen', () => manager.status(prefix('192.168.1.0/24'))?.state === 'failed');
    assert.match(manager.status(prefix('192.168.1.0/24'))?.reason ?? '', /ENETUNREACH \(Nexthop has invalid gateway\)/);
    w.host.netlink.execute([{ op: 'link-set', link: 'eth1', settings: { up: true } }]);
    await until('it is back', () => manager.status(prefix('192.168.1.0/24'))?.state === 'installed');
    assert.deepEqual(ours(w.host), ['192.168.1.0/24 unicast']);
  });

  it('does not take the place of a route of another program, and says so', async () => {
    await using w = world();
    const manager = await w.manager();
    await w.host.run('ip', 'route', 'add', '192.168.1.0/24', 'via', '10.0.1.2', 'proto', 'bird');
    manager.set('bgp', route('192.168.1.0/24', '10.0.0.2'));
    manager.set('bgp', route('192.168.2.0/24', '172.16.0.1'));
    await manager.flush();
    const status = manager.status(prefix('192.168.1.0/24'));
    assert.equal(status?.state, 'failed');
    assert.equal(status?.errno, 'EEXIST');
    assert.match(status?.reason ?? '', /another program/);
    assert.equal(manager.status(prefix('192.168.2.0/24'))?.errno, 'ENETUNREACH');
    assert.deepEqual(manager.counts(), { installed: 0, pending: 0, failed: 2 });
    await w.host.run('ip', 'route', 'del', '192.168.1.0/24');
    await until('it is taken', () => manager.status(prefix('192.168.1.0/24'))?.state === 'installed');
  });

  it('writes thousands of routes in slices', async () => {
    await using w = world();
    const manager = await w.manager();
    const routes = Array.from({ length: 5000 }, (_, i) => ({
      destination: prefix(`100.64.${i >> 8}.${i & 255}/32`),
      nextHops: [{ gateway: ip('10.0.0.2'), ifindex: null }],
    }));
    manager.replaceAll('bgp', routes);
    let turns = 0;
    const count = (): void => {
      turns++;
      if (manager.counts().pending > 0) setImmediate(count);
    };
    setImmediate(count);
    await manager.flush();
    assert.equal(w.host.netlink.listRoutes({ family: 4, protocol: ROUTE_PROTOCOL }).length, 5000);
    assert.ok(turns >= 9, `the event loop had ${turns} turns`);
    manager.replaceAll('bgp', routes.slice(0, 10));
    await manager.flush();
    assert.equal(ours(w.host).length, 10);
  });
});

describe('InterfaceMonitor', () => {
  it('tells what appears, comes up, changes, goes down and disappears', async () => {
    using host = testNetns('host');
    using other = testNetns('other');
    const seen: string[] = [];
    const monitor = new InterfaceMonitor(host.netlink);
    monitor.onEvent((event: InterfaceEvent) => seen.push(`${event.type} ${event.link.name}`));
    monitor.start();
    assert.deepEqual(seen.splice(0), ['appeared lo', 'up lo']);
    const { a } = connectNetns(host, other, { a: 'cali1', b: 'eth0' });
    await until('it is up', () => seen.includes('up cali1'));
    assert.equal(seen[0], 'appeared cali1');
    assert.equal(monitor.byName('cali1')?.index, a);
    host.netlink.execute([{ op: 'link-set', link: a, settings: { mtu: 1400 } }]);
    await until('the change is seen', () => seen.includes('changed cali1'));
    host.netlink.execute([{ op: 'link-set', link: a, settings: { up: false } }]);
    await until('it is down', () => seen.includes('down cali1'));
    host.netlink.execute([{ op: 'link-delete', link: a }]);
    await until('it is gone', () => seen.includes('disappeared cali1'));
    assert.equal(monitor.byName('cali1'), null);
    monitor.close();
  });
});

describe('NextHopTracker', () => {
  it('resolves through others’ routes only, and tells what changes', async () => {
    await using w = world();
    const changes: NextHopChange[] = [];
    const netlink = openNetlink({ netns: w.host.path });
    const tracker = new NextHopTracker({ netlink, onChange: (list) => changes.push(...list) });
    const last = async (address: string): Promise<string | null> => {
      await until(`a change of ${address}`, () => changes.some((c) => c.address.equals(ip(address))));
      const change = changes.splice(0).findLast((c) => c.address.equals(ip(address)));
      return text(change?.resolved ?? null);
    };
    const [eth1, eth2] = ['eth1', 'eth2'].map((name) => w.host.netlink.getLink(name)!.index);
    const text = (r: NextHopChange['resolved']) =>
      r && r.gateways.map((g) => `${g.address ?? 'direct'}@${g.ifindex}`).join(' ');
    try {
      await tracker.start();
      assert.equal(text(tracker.track(ip('10.0.0.2'))), `direct@${eth1}`);
      assert.equal(text(tracker.track(ip('fd01::2'))), `direct@${eth2}`);
      assert.equal(tracker.track(ip('10.0.0.1')), null, 'an address of our own');
      assert.equal(tracker.track(ip('172.16.5.5')), null);

      await w.host.run(
        'ip',
        'route',
        'add',
        '172.16.0.0/12',
        'nexthop',
        'via',
        '10.0.0.2',
        'nexthop',
        'via',
        '10.0.1.2',
      );
      assert.equal(await last('172.16.5.5'), `10.0.0.2@${eth1} 10.0.1.2@${eth2}`);
      // A more specific route of our own, by way of which the next hop would be reached through itself.
      await w.host.run('ip', 'route', 'add', '172.16.5.0/24', 'via', '10.0.1.2', 'proto', `${ROUTE_PROTOCOL}`);
      assert.equal(text(tracker.resolve(ip('172.16.5.5'))), `10.0.0.2@${eth1} 10.0.1.2@${eth2}`);
      await w.host.run('ip', 'route', 'del', '172.16.0.0/12');
      assert.equal(await last('172.16.5.5'), null);
      await w.host.run('ip', 'route', 'add', 'default', 'via', '10.0.0.2');
      assert.equal(await last('172.16.5.5'), `10.0.0.2@${eth1}`);
      // Straight to a workload is as good as connected.
      await w.host.run('ip', 'route', 'add', '172.16.5.5/32', 'dev', 'eth2', 'proto', `${ROUTE_PROTOCOL}`);
      assert.equal(await last('172.16.5.5'), `direct@${eth2}`);
      w.host.netlink.execute([{ op: 'link-set', link: 'eth1', settings: { up: false } }]);
      assert.equal(await last('10.0.0.2'), null);
      tracker.untrack(ip('10.0.0.2'));
    } finally {
      tracker.close();
      netlink.close();
    }
  });
});
