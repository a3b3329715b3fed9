import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ManualClock } from '#base/clock.ts';
import { silentLogger } from '#base/log.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { executeAll, type NetlinkApi } from '#netlink/api.ts';
import { FakeKernel, type FakeNamespace } from '#netlink/fake.ts';
import { ROUTE_PROTOCOL } from './ownership.ts';
import { type DesiredRoute, RouteManager, type RouteSource } from './route-manager.ts';

interface World {
  readonly namespace: FakeNamespace;
  /** Another program's socket. */
  readonly other: NetlinkApi;
  readonly eth: number;
  readonly cali: number;
  readonly clock: ManualClock;
  start(): Promise<RouteManager>;
}

function world(): World {
  const kernel = new FakeKernel();
  const namespace = kernel.createNamespace();
  const peer = kernel.createNamespace();
  const other = namespace.connect();
  const make = (name: string): number => {
    const [, found] = executeAll(other, [
      { op: 'veth-add', veth: { name, up: true, peer: { name, netnsFd: peer.fd } } },
      { op: 'link-get', link: name },
    ]);
    executeAll(peer.connect(), [{ op: 'link-set', link: name, settings: { up: true } }]);
    return found!.link!.index;
  };
  const eth = make('eth1');
  const cali = make('cali1');
  const address = { ifindex: eth, address: IpAddress.parse('10.0.0.1'), prefixLength: 24 };
  executeAll(other, [{ op: 'address-add', address }]);
  const clock = new ManualClock();
  return {
    namespace,
    other,
    eth,
    cali,
    clock,
    async start() {
      const manager = new RouteManager({ netlink: namespace.connect(), clock, log: silentLogger });
      await manager.start();
      return manager;
    },
  };
}

const prefix = (text: string) => Prefix.parse(text);
const block = (text: string): DesiredRoute => ({ destination: prefix(text), nextHops: [] });
const via = (text: string, ...gateways: string[]): DesiredRoute => ({
  destination: prefix(text),
  nextHops: gateways.map((gateway) => ({ gateway: IpAddress.parse(gateway), ifindex: null })),
});
const direct = (text: string, ifindex: number): DesiredRoute => ({
  destination: prefix(text),
  nextHops: [{ gateway: null, ifindex }],
});
const turns = async (count = 4): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};
const ours = (w: World): string[] =>
  w.other
    .listRoutes({ protocol: ROUTE_PROTOCOL })
    .map((r) => `${r.destination} ${r.nextHops.map((hop) => hop.gateway ?? `dev${hop.ifindex}`).join(',') || r.type}`);

describe('RouteManager on the fake kernel', () => {
  it('gives a prefix to the first source in order of precedence', async () => {
    const w = world();
    const m = await w.start();
    m.set('bgp', via('10.65.0.0/26', '10.0.0.2'));
    m.set('block', block('10.65.0.0/26'));
    await m.flush();
    assert.deepEqual(ours(w), ['10.65.0.0/26 blackhole']);
    assert.equal(m.status(prefix('10.65.0.0/26'))?.wantedBy, 'block');
    m.delete('block', prefix('10.65.0.0/26'));
    await m.flush();
    assert.deepEqual(ours(w), ['10.65.0.0/26 10.0.0.2']);
    m.delete('bgp', prefix('10.65.0.0/26'));
    await m.flush();
    assert.deepEqual(ours(w), []);
    assert.equal(m.status(prefix('10.65.0.0/26')), null);
  });

  it('does not sweep what endpoint wiring has just made, but removes it when its owner says so', async () => {
    const w = world();
    const m = await w.start();
    for (const source of ['workload', 'block', 'static', 'bgp'] as const) m.inSync(source);
    executeAll(w.other, [
      {
        op: 'route-add',
        route: { destination: prefix('10.65.0.5/32'), protocol: ROUTE_PROTOCOL, nextHops: [{ ifindex: w.cali }] },
      },
    ]);
    await turns();
    await m.flush();
    assert.equal(ours(w).length, 1);
    m.set('workload', direct('10.65.0.5/32', w.cali));
    await m.flush();
    assert.equal(m.status(prefix('10.65.0.5/32'))?.state, 'installed');
    m.delete('workload', prefix('10.65.0.5/32'));
    await m.flush();
    assert.deepEqual(ours(w), []);
  });

  it('knows what another part of this process wrote, also when it hears only now that the link was down before', async () => {
    const w = world();
    executeAll(w.other, [{ op: 'link-set', link: w.cali, settings: { up: false } }]);
    const netlink = w.namespace.connect();
    let executed = 0;
    const counting = new Proxy(netlink, {
      get(target, name) {
        if (name === 'execute') executed++;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
    const m = new RouteManager({ netlink: counting, clock: w.clock, log: silentLogger });
    await m.start();
    executeAll(w.other, [{ op: 'link-set', link: w.cali, settings: { up: true } }]);
    executeAll(w.other, [{ op: 'link-set', link: w.cali, settings: { up: false } }]);
    executeAll(w.other, [{ op: 'link-set', link: w.cali, settings: { up: true } }]);
    const route = direct('10.65.0.5/32', w.cali);
    netlink.execute([
      { op: 'route-add', route: { ...route, protocol: ROUTE_PROTOCOL, nextHops: [{ ifindex: w.cali }] } },
    ]);
    m.noteWritten(route);
    m.set('workload', route);
    await turns();
    await m.flush();
    assert.equal(executed, 0);
    assert.equal(m.status(prefix('10.65.0.5/32'))?.state, 'installed');
    // Later a link that goes down has taken the route along.
    w.clock.advance(10_000);
    executeAll(w.other, [{ op: 'link-set', link: w.cali, settings: { up: false } }]);
    await turns();
    assert.notEqual(m.status(prefix('10.65.0.5/32'))?.state, 'installed');
  });

  it('knows that a link that goes down has taken its IPv4 routes along', async () => {
    const w = world();
    const m = await w.start();
    m.set('workload', direct('10.65.0.5/32', w.cali));
    m.set('bgp', via('192.168.0.0/24', '10.0.0.2'));
    await m.flush();
    executeAll(w.other, [{ op: 'link-set', link: w.cali, settings: { up: false } }]);
    await turns();
    assert.equal(m.status(prefix('10.65.0.5/32'))?.errno, 'ENETDOWN');
    assert.equal(m.status(prefix('192.168.0.0/24'))?.state, 'installed');
    executeAll(w.other, [{ op: 'link-set', link: w.cali, settings: { up: true } }]);
    await turns();
    assert.equal(m.status(prefix('10.65.0.5/32'))?.state, 'installed');
  });

  it('tries again later, and less and less often, what another program holds', async () => {
    const w = world();
    executeAll(w.other, [{ op: 'route-add', route: { ...via('192.168.0.0/24', '10.0.0.9'), protocol: 12 } }]);
    const m = await w.start();
    m.set('bgp', via('192.168.0.0/24', '10.0.0.2'));
    await m.flush();
    assert.deepEqual(m.counts(), { installed: 0, pending: 0, failed: 1 });
    assert.equal(w.clock.nextDue(), 1000);
    w.clock.advance(1000);
    await turns(8);
    assert.equal(w.clock.nextDue(), 2000);
    assert.match(m.status(prefix('192.168.0.0/24'))?.reason ?? '', /another program/);
    executeAll(w.other, [{ op: 'route-delete', route: { destination: prefix('192.168.0.0/24'), protocol: 12 } }]);
    w.clock.advance(2000);
    await turns(8);
    assert.deepEqual(m.counts(), { installed: 1, pending: 0, failed: 0 });
  });

  it('sees that another program has put its route in the place of ours', async () => {
    const w = world();
    const m = await w.start();
    m.set('bgp', via('192.168.0.0/24', '10.0.0.2'));
    await m.flush();
    executeAll(w.other, [{ op: 'route-replace', route: { ...via('192.168.0.0/24', '10.0.0.9'), protocol: 12 } }]);
    await turns();
    assert.equal(m.status(prefix('192.168.0.0/24'))?.errno, 'EEXIST');
    assert.equal(w.other.lookupRoute(IpAddress.parse('192.168.0.1'))?.protocol, 12);
  });

  it('lists again when notifications were lost', async () => {
    const w = world();
    const m = await w.start();
    m.set('bgp', via('192.168.0.0/24', '10.0.0.2'));
    await m.flush();
    w.namespace.routes.length = 0; // behind everybody's back
    w.namespace.loseNotifications();
    await turns(8);
    await m.flush();
    assert.equal(m.status(prefix('192.168.0.0/24'))?.errno, 'ENETUNREACH', 'the connected route is gone too');
  });

  it('ends in the same kernel state after any order of events, restarts and meddling', async () => {
    const destinations = ['10.65.0.0/26', '10.65.1.0/26', '192.168.0.0/24', '192.168.1.0/24'] as const;
    const wanted = fc.record({
      source: fc.constantFrom<RouteSource>('block', 'bgp'),
      destination: fc.constantFrom(...destinations),
      gateway: fc.constantFrom('10.0.0.2', '10.0.0.3'),
    });
    const step = fc.oneof(
      fc.record({ do: fc.constant('set' as const), wanted }),
      fc.record({ do: fc.constant('delete' as const), wanted }),
      fc.record({
        do: fc.constant('meddle' as const),
        destination: fc.constantFrom(...destinations),
        remove: fc.boolean(),
      }),
      fc.record({ do: fc.constant('turn' as const) }),
      fc.record({ do: fc.constant('lose' as const) }),
      fc.record({ do: fc.constant('restart' as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const w = world();
        const model = new Map<string, { source: RouteSource; route: DesiredRoute }>();
        let m = await w.start();
        for (const s of steps) {
          if (s.do === 'set' || s.do === 'delete') {
            const { source, destination, gateway } = s.wanted;
            const key = `${source} ${destination}`;
            const route = source === 'block' ? block(destination) : via(destination, gateway);
            if (s.do === 'set') {
              m.set(source, route);
              model.set(key, { source, route });
            } else {
              m.delete(source, prefix(destination));
              model.delete(key);
            }
          } else if (s.do === 'meddle') {
            const destination = prefix(s.destination);
            if (s.remove) w.other.execute([{ op: 'route-delete', route: { destination, protocol: ROUTE_PROTOCOL } }]);
            else
              w.other.execute([
                { op: 'route-replace', route: { ...via(s.destination, '10.0.0.77'), protocol: ROUTE_PROTOCOL } },
              ]);
          } else if (s.do === 'lose') w.namespace.loseNotifications();
          else if (s.do === 'turn') await turns(1);
          else {
            m.close();
            m = await w.start();
            for (const { source, route } of model.values()) m.set(source, route);
          }
        }
        m.inSync('block');
        m.inSync('static');
        m.inSync('bgp');
        await turns(6);
        for (let i = 0; i < 6; i++) {
          w.clock.advance(60_000);
          await turns(4);
        }
        await m.flush();
        const expected = destinations.flatMap((text) => {
          const entry = model.get(`block ${text}`) ?? model.get(`bgp ${text}`);
          if (!entry) return [];
          return [`${text} ${entry.source === 'block' ? 'blackhole' : entry.route.nextHops[0]!.gateway}`];
        });
        assert.deepEqual(ours(w), expected);
        assert.equal(m.counts().failed + m.counts().pending, 0);
        m.close();
      }),
      { numRuns: 150 },
    );
  });
});
