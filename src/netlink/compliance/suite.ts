// What "implements NetlinkApi" means, as one suite that runs on the fake and, in test/kernel, on the real kernel.
// In: a maker of two namespaces. It registers tests with node:test.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { executeAll, type KernelEvent, type NetlinkApi } from '../api.ts';
import type { NewRoute, Operation } from '../types.ts';

export interface TwoNamespaces {
  readonly a: NetlinkApi;
  readonly b: NetlinkApi;
  /** Descriptor of the second, for `netnsFd`. */
  readonly bFd: number;
  close(): void;
}

const PROTOCOL = 155;
const ip = (text: string): IpAddress => IpAddress.parse(text);
const prefix = (text: string): Prefix => Prefix.parse(text);

function route(destination: string, gateways: readonly string[], more: Partial<NewRoute> = {}): NewRoute {
  const nextHops = gateways.map((gateway) => ({ gateway: ip(gateway) }));
  return { destination: prefix(destination), protocol: PROTOCOL, nextHops, ...more };
}

export function netlinkCompliance(implementation: string, make: () => TwoNamespaces): void {
  const withWorld = (run: (w: TwoNamespaces) => void | Promise<void>) => async () => {
    const w = make();
    try {
      await run(w);
    } finally {
      w.close();
    }
  };
  /** eth1 in a (10.0.0.1/24, fd00::1/64) joined to eth0 in b; both up. */
  const connect = (w: TwoNamespaces): { a: number; b: number } => {
    const [, found] = executeAll(w.a, [
      { op: 'veth-add', veth: { name: 'eth1', peer: { name: 'eth0', netnsFd: w.bFd } } },
      { op: 'link-get', link: 'eth1' },
    ]);
    const indexes = { a: found!.link!.index, b: found!.link!.peerIndex! };
    executeAll(w.b, [{ op: 'link-set', link: indexes.b, settings: { up: true } }]);
    executeAll(w.a, [
      { op: 'link-set', link: indexes.a, settings: { up: true, ipv6AutoLinkLocal: false } },
      { op: 'address-add', address: { ifindex: indexes.a, address: ip('10.0.0.1'), prefixLength: 24 } },
      { op: 'address-add', address: { ifindex: indexes.a, address: ip('fd00::1'), prefixLength: 64, noDad: true } },
    ]);
    return indexes;
  };
  const errnos = (api: NetlinkApi, operations: readonly Operation[]): string[] =>
    api.execute(operations).map(({ error }) => error?.errno ?? 'ok');
  const ours = (api: NetlinkApi): string[] =>
    api
      .listRoutes({ protocol: PROTOCOL })
      .sort((x, y) => x.destination.compare(y.destination))
      .map((r) => `${r.destination} ${r.type} ${r.nextHops.length}`);

  describe(`NetlinkApi: ${implementation}`, () => {
    it(
      'makes a veth across namespaces with the properties asked for',
      withWorld((w) => {
        const veth = {
          name: 'v0',
          mac: 'ee:ee:ee:ee:ee:ee',
          mtu: 1400,
          txQueueLength: 500,
          group: 7,
          peer: { name: 'eth0', mac: '02:00:00:00:00:07', mtu: 1400, netnsFd: w.bFd },
        };
        executeAll(w.a, [{ op: 'veth-add', veth }]);
        const link = w.a.getLink('v0')!;
        const peer = w.b.getLink('eth0')!;
        assert.deepEqual(
          [link.kind, link.mac, link.mtu, link.txQueueLength, link.group, link.up],
          ['veth', 'ee:ee:ee:ee:ee:ee', 1400, 500, 7, false],
        );
        assert.deepEqual([peer.mac, peer.mtu, peer.index], ['02:00:00:00:00:07', 1400, link.peerIndex]);
        assert.equal(peer.peerIndex, link.index);
        assert.notEqual(link.peerNamespace, null);
        assert.deepEqual(w.a.getLink(link.index), link);
        assert.equal(w.a.getLink('none'), null);
        assert.equal(w.a.getLink(9999), null);
      }),
    );

    it(
      'has carrier when both ends are up',
      withWorld((w) => {
        const { a, b } = connect(w);
        assert.deepEqual([w.a.getLink(a)?.up, w.a.getLink(a)?.carrier], [true, true]);
        executeAll(w.b, [{ op: 'link-set', link: b, settings: { up: false } }]);
        assert.deepEqual([w.a.getLink(a)?.up, w.a.getLink(a)?.carrier], [true, false]);
      }),
    );

    it(
      'refuses what the kernel refuses about links',
      withWorld((w) => {
        connect(w);
        const pair = (name: string, peer: string): Operation => ({
          op: 'veth-add',
          veth: { name, peer: { name: peer, netnsFd: w.bFd } },
        });
        assert.deepEqual(
          errnos(w.a, [
            pair('eth1', 'other'),
            pair('other', 'eth0'),
            { op: 'link-get', link: 'none' },
            { op: 'link-set', link: 'none', settings: { up: true } },
            { op: 'link-delete', link: 'none' },
            { op: 'link-delete', link: 'lo' },
            { op: 'group-delete', group: 4711 },
            { op: 'group-delete', group: 0 },
          ]),
          ['EEXIST', 'EEXIST', 'ENODEV', 'ENODEV', 'ENODEV', 'EOPNOTSUPP', 'ENODEV', 'EPERM'],
        );
        assert.equal(w.a.getLink('other'), null);
        assert.equal(w.b.getLink('other'), null);
      }),
    );

    it(
      'deletes both ends, their routes and a whole group',
      withWorld(async (w) => {
        const { a } = connect(w);
        executeAll(w.a, [
          { op: 'route-add', route: route('192.168.0.0/24', ['10.0.0.2']) },
          { op: 'link-delete', link: a },
        ]);
        assert.equal(w.b.getLink('eth0'), null);
        assert.deepEqual(ours(w.a), []);
        for (const name of ['g1', 'g2']) {
          executeAll(w.a, [{ op: 'veth-add', veth: { name, group: 9, peer: { name: `p-${name}`, netnsFd: w.bFd } } }]);
        }
        const [outcome] = await w.a.executeAsync([{ op: 'group-delete', group: 9 }]);
        assert.equal(outcome?.error, null);
        assert.deepEqual(
          w.a.listLinks().map((link) => link.name),
          ['lo'],
        );
        assert.deepEqual(
          w.b.listLinks().map((link) => link.name),
          ['lo'],
        );
      }),
    );

    it(
      'renames, sets an alias and enslaves to a bridge',
      withWorld((w) => {
        const { a } = connect(w);
        executeAll(w.a, [
          { op: 'bridge-add', bridge: { name: 'br0', up: true } },
          { op: 'link-set', link: a, settings: { up: false } },
          { op: 'link-set', link: a, settings: { name: 'port1', alias: 'a port' } },
        ]);
        const bridge = w.a.getLink('br0')!;
        assert.equal(bridge.kind, 'bridge');
        executeAll(w.a, [{ op: 'link-set', link: 'port1', settings: { master: bridge.index } }]);
        assert.deepEqual(
          [w.a.getLink(a)?.name, w.a.getLink(a)?.alias, w.a.getLink(a)?.master],
          ['port1', 'a port', bridge.index],
        );
        assert.equal(w.a.getLink('eth1'), null);
        executeAll(w.a, [{ op: 'link-set', link: 'port1', settings: { master: null } }]);
        assert.equal(w.a.getLink(a)?.master, null);
      }),
    );

    it(
      'keeps addresses, with their connected routes',
      withWorld((w) => {
        const { a } = connect(w);
        const address = { ifindex: a, address: ip('10.0.0.1'), prefixLength: 24 };
        assert.deepEqual(
          errnos(w.a, [
            { op: 'address-add', address },
            { op: 'address-replace', address },
            { op: 'address-add', address: { ...address, ifindex: 9999 } },
            { op: 'address-delete', address: { ...address, address: ip('10.0.0.9') } },
          ]),
          ['EEXIST', 'ok', 'ENODEV', 'EADDRNOTAVAIL'],
        );
        const found = w.a.listAddresses({ ifindex: a, family: 4 });
        assert.deepEqual(
          found.map((x) => [`${x.address}`, x.prefixLength, x.scope]),
          [['10.0.0.1', 24, 'global']],
        );
        const v6 = w.a.listAddresses({ ifindex: a, family: 6 });
        assert.deepEqual(
          v6.map((x) => [`${x.address}`, x.tentative]),
          [['fd00::1', false]],
        );
        const connected = () => w.a.listRoutes({ family: 4 }).map((r) => `${r.destination} ${r.protocol} ${r.scope}`);
        assert.deepEqual(connected(), ['10.0.0.0/24 2 253']);
        executeAll(w.a, [{ op: 'address-delete', address }]);
        assert.deepEqual(connected(), []);
        assert.deepEqual(w.a.listAddresses({ ifindex: 9999 }), []);
      }),
    );

    it(
      'adds, replaces and deletes routes of all kinds',
      withWorld((w) => {
        const { a } = connect(w);
        const direct = { nextHops: [{ ifindex: a }] };
        executeAll(w.a, [
          { op: 'route-add', route: route('10.65.0.1/32', [], direct) },
          { op: 'route-add', route: route('fd65::1/128', [], direct) },
          { op: 'route-add', route: route('10.65.0.0/26', [], { type: 'blackhole' }) },
          { op: 'route-add', route: route('fd65::/122', [], { type: 'blackhole' }) },
          { op: 'route-add', route: route('192.168.0.0/24', ['10.0.0.2', '10.0.0.3']) },
          { op: 'route-add', route: route('fd99::/64', ['fd00::2', 'fd00::3']) },
          {
            op: 'route-add',
            route: route('192.168.9.0/24', [], { nextHops: [{ ifindex: a, gateway: ip('fd00::2') }] }),
          },
          {
            op: 'route-add',
            route: route('192.168.8.0/24', [], { nextHops: [{ ifindex: a, gateway: ip('172.16.0.1'), onlink: true }] }),
          },
        ]);
        assert.deepEqual(ours(w.a), [
          '10.65.0.0/26 blackhole 0',
          '10.65.0.1/32 unicast 1',
          '192.168.0.0/24 unicast 2',
          '192.168.8.0/24 unicast 1',
          '192.168.9.0/24 unicast 1',
          'fd65::/122 blackhole 0',
          'fd65::1/128 unicast 1',
          'fd99::/64 unicast 2',
        ]);
        const get = (text: string) => w.a.listRoutes({ protocol: PROTOCOL }).find((r) => `${r.destination}` === text);
        assert.deepEqual(get('10.65.0.1/32')?.nextHops[0], {
          ifindex: a,
          gateway: null,
          weight: 1,
          onlink: false,
          dead: false,
        });
        assert.equal(get('10.65.0.1/32')?.scope, 253);
        assert.equal(get('fd65::1/128')?.metric, 1024);
        assert.equal(`${get('192.168.9.0/24')?.nextHops[0]?.gateway}`, 'fd00::2');
        assert.equal(get('192.168.8.0/24')?.nextHops[0]?.onlink, true);
        executeAll(w.a, [
          { op: 'route-replace', route: route('192.168.0.0/24', [], { type: 'blackhole' }) },
          { op: 'route-replace', route: route('fd99::/64', ['fd00::9']) },
          { op: 'route-delete', route: { destination: prefix('10.65.0.0/26'), protocol: PROTOCOL } },
          { op: 'route-delete', route: { destination: prefix('fd65::/122') } },
        ]);
        assert.equal(get('192.168.0.0/24')?.type, 'blackhole');
        assert.deepEqual(
          get('fd99::/64')?.nextHops.map((hop) => `${hop.gateway}`),
          ['fd00::9'],
        );
        assert.equal(ours(w.a).length, 6);
        assert.equal(w.a.listRoutes({ protocol: PROTOCOL, ifindex: a, family: 6 }).length, 2);
        assert.deepEqual(w.a.listRoutes({ table: 4711 }), []);
        executeAll(w.a, [{ op: 'route-add', route: route('10.77.0.0/16', ['10.0.0.2'], { table: 4711 }) }]);
        assert.equal(w.a.listRoutes({ table: 4711 }).length, 1);
      }),
    );

    it(
      'keeps weights, metrics, preferred sources and MTUs',
      withWorld((w) => {
        const { a } = connect(w);
        const nextHops = [
          { ifindex: a, gateway: ip('10.0.0.2'), weight: 3 },
          { ifindex: a, gateway: ip('10.0.0.3'), weight: 256 },
        ];
        executeAll(w.a, [
          {
            op: 'route-add',
            route: route('192.168.0.0/24', [], { nextHops, metric: 50, source: ip('10.0.0.1'), mtu: 1400 }),
          },
          { op: 'route-add', route: route('192.168.0.0/24', ['10.0.0.9'], { metric: 60 }) },
        ]);
        const [first, second] = w.a.listRoutes({ protocol: PROTOCOL });
        assert.deepEqual([first?.metric, `${first?.source}`, first?.mtu], [50, '10.0.0.1', 1400]);
        assert.deepEqual(
          first?.nextHops.map((hop) => hop.weight),
          [3, 256],
        );
        assert.deepEqual([second?.metric, second?.source, second?.mtu], [60, null, null]);
        assert.deepEqual(
          errnos(w.a, [
            { op: 'route-delete', route: { destination: prefix('192.168.0.0/24'), metric: 70 } },
            { op: 'route-delete', route: { destination: prefix('192.168.0.0/24'), metric: 60 } },
          ]),
          ['ESRCH', 'ok'],
        );
      }),
    );

    it(
      'refuses what the kernel refuses about routes, and goes on with the rest',
      withWorld((w) => {
        const { a } = connect(w);
        const operations: Operation[] = [
          { op: 'route-add', route: route('192.168.1.0/24', ['10.0.0.2']) },
          { op: 'route-add', route: route('192.168.1.0/24', ['10.0.0.3'], { protocol: 4 }) },
          { op: 'route-add', route: route('fd99::/64', ['fd00::2']) },
          { op: 'route-add', route: route('fd99::/64', ['fd00::3']) },
          { op: 'route-add', route: route('192.168.2.0/24', ['172.16.0.1']) },
          { op: 'route-add', route: route('fd98::/64', ['fd77::1']) },
          { op: 'route-add', route: route('192.168.2.0/24', [], { nextHops: [{ ifindex: 9999 }] }) },
          { op: 'route-delete', route: { destination: prefix('192.168.7.0/24') } },
          { op: 'route-add', route: route('192.168.3.0/24', ['10.0.0.2']) },
          { op: 'link-set', link: a, settings: { up: false } },
          { op: 'route-add', route: route('192.168.4.0/24', [], { nextHops: [{ ifindex: a }] }) },
        ];
        const outcomes = w.a.execute(operations);
        assert.deepEqual(
          outcomes.map(({ error }) => error?.errno ?? 'ok'),
          ['ok', 'EEXIST', 'ok', 'EEXIST', 'ENETUNREACH', 'EHOSTUNREACH', 'ENODEV', 'ESRCH', 'ok', 'ok', 'ENETDOWN'],
        );
        assert.equal(outcomes[4]?.error?.extendedText, 'Nexthop has invalid gateway');
        assert.match(outcomes[4]?.error?.message ?? '', /^cannot add route 192\.168\.2\.0\/24: ENETUNREACH \(Nexthop/);
        assert.deepEqual(ours(w.a), []);
      }),
    );

    it(
      'looks routes up as a packet would',
      withWorld((w) => {
        const { a } = connect(w);
        executeAll(w.a, [
          { op: 'route-add', route: route('192.168.0.0/16', ['10.0.0.2', '10.0.0.3']) },
          { op: 'route-add', route: route('192.168.5.0/24', ['10.0.0.4']) },
          { op: 'route-add', route: route('192.168.6.0/24', [], { type: 'blackhole' }) },
          { op: 'route-add', route: route('fd99::/64', ['fd00::2', 'fd00::3']) },
          { op: 'route-add', route: route('fd98::/64', [], { type: 'blackhole' }) },
        ]);
        const look = (text: string) => w.a.lookupRoute(ip(text));
        assert.equal(look('192.168.1.1')?.nextHops.length, 2);
        assert.equal(look('192.168.1.1')?.protocol, PROTOCOL);
        assert.equal(`${look('192.168.5.9')?.destination}`, '192.168.5.0/24');
        assert.equal(look('fd99::7')?.nextHops.length, 2);
        assert.equal(look('10.0.0.77')?.nextHops[0]?.ifindex, a);
        assert.equal(look('10.0.0.1')?.type, 'local');
        assert.equal(look('fd00::1')?.type, 'local');
        for (const none of ['192.168.6.1', 'fd98::1', '9.9.9.9', '2001:db8::1']) assert.equal(look(none), null, none);
      }),
    );

    it(
      'keeps rules',
      withWorld((w) => {
        const rule = {
          family: 4 as const,
          priority: 500,
          table: 4711,
          source: prefix('10.1.0.0/16'),
          mark: 0x10000,
          markMask: 0xff0000,
        };
        executeAll(w.a, [{ op: 'rule-add', rule }]);
        const found = w.a.listRules(4).find((r) => r.priority === 500);
        assert.deepEqual(
          [found?.table, `${found?.source}`, found?.mark, found?.markMask],
          [4711, '10.1.0.0/16', 0x10000, 0xff0000],
        );
        assert.deepEqual(
          errnos(w.a, [
            { op: 'rule-add', rule },
            { op: 'rule-delete', rule },
            { op: 'rule-delete', rule },
          ]),
          ['EEXIST', 'ok', 'ENOENT'],
        );
      }),
    );

    it(
      'keeps neighbours and proxied addresses',
      withWorld((w) => {
        const { a } = connect(w);
        const mac = '02:00:00:00:00:09';
        executeAll(w.a, [
          { op: 'neighbour-replace', neighbour: { ifindex: a, address: ip('10.0.0.9'), mac } },
          { op: 'neighbour-replace', neighbour: { ifindex: a, address: ip('fd00::9'), mac, router: true } },
          { op: 'proxy-add', ifindex: a, address: ip('fd00::77') },
          { op: 'proxy-delay', family: 4, ifindex: a, delayMs: 0 },
        ]);
        const entries = () =>
          w.a
            .listNeighbours({ ifindex: a })
            .filter((n) => n.state === 'permanent')
            .map((n) => `${n.address} ${n.mac}`)
            .sort((x, y) => (x < y ? -1 : 1));
        assert.deepEqual(entries(), [`10.0.0.9 ${mac}`, `fd00::9 ${mac}`]);
        assert.deepEqual(
          w.a.listNeighbours({ proxy: true }).map((n) => `${n.address}`),
          ['fd00::77'],
        );
        assert.deepEqual(
          errnos(w.a, [
            { op: 'neighbour-delete', ifindex: a, address: ip('10.0.0.9') },
            { op: 'neighbour-delete', ifindex: a, address: ip('10.0.0.10') },
            { op: 'neighbour-replace', neighbour: { ifindex: 9999, address: ip('10.0.0.9'), mac } },
            { op: 'proxy-delete', ifindex: a, address: ip('fd00::77') },
            { op: 'proxy-delete', ifindex: a, address: ip('fd00::77') },
          ]),
          ['ok', 'ENOENT', 'ENODEV', 'ok', 'ENOENT'],
        );
        assert.deepEqual(entries(), [`fd00::9 ${mac}`]);
      }),
    );

    it(
      'notifies of links, addresses and routes, in order, and not of its own routes when asked',
      withWorld(async (w) => {
        const { a, b } = connect(w);
        const seen: string[] = [];
        const others: string[] = [];
        const note = (list: string[]) => (events: readonly KernelEvent[]) => {
          for (const e of events) {
            if (e.type === 'route' || e.type === 'route-removed') {
              if (e.route.protocol === PROTOCOL) list.push(`${e.type} ${e.route.destination}`);
            } else if (e.type === 'link' || e.type === 'link-removed') list.push(`${e.type} ${e.link.name}`);
            else if (e.type === 'address' || e.type === 'address-removed') list.push(`${e.type} ${e.address.address}`);
          }
        };
        const all = w.a.subscribe({ topics: ['link', 'address', 'route'], onEvents: note(seen) });
        w.a.subscribe({ topics: ['link', 'route'], ignoreOwn: true, onEvents: note(others) });
        executeAll(w.a, [
          { op: 'route-add', route: route('192.168.0.0/24', ['10.0.0.2']) },
          { op: 'route-add', route: route('fd99::/64', ['fd00::2']) },
          { op: 'address-add', address: { ifindex: a, address: ip('10.9.0.1'), prefixLength: 32 } },
          { op: 'route-delete', route: { destination: prefix('192.168.0.0/24') } },
          { op: 'link-delete', link: a },
        ]);
        assert.equal(seen.length, 0, 'nothing is delivered inside of a call');
        const end = performance.now() + 5000;
        const done = (): boolean => [seen, others].every((list) => list.includes('link-removed eth1'));
        while (!done() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 2));
        const expected = [
          'route 192.168.0.0/24',
          'route fd99::/64',
          'address 10.9.0.1',
          'route-removed 192.168.0.0/24',
        ];
        assert.deepEqual(
          seen.filter((text) => expected.includes(text)),
          expected,
        );
        assert.ok(seen.includes('route-removed fd99::/64'), 'IPv6 routes of a link that goes are told');
        assert.deepEqual(
          others.filter((text) => text.startsWith('route ')),
          [],
        );
        assert.equal(w.b.getLink(b), null);
        all.close();
        seen.length = 0;
        executeAll(w.a, [{ op: 'veth-add', veth: { name: 'v9', peer: { name: 'v9', netnsFd: w.bFd } } }]);
        await new Promise((resolve) => setTimeout(resolve, 20));
        assert.equal(seen.length, 0, 'nothing is delivered after close');
      }),
    );

    it(
      'carries out a thousand changes in one call',
      withWorld((w) => {
        const { a } = connect(w);
        const destinations = Array.from({ length: 3000 }, (_, i) => Prefix.host(IpAddress.fromUint32(0x64400000 + i)));
        const nextHops = [{ ifindex: a }];
        const add = destinations.map(
          (destination): Operation => ({ op: 'route-add', route: { destination, protocol: PROTOCOL, nextHops } }),
        );
        assert.ok(w.a.execute(add).every(({ error }) => error === null));
        assert.equal(w.a.listRoutes({ protocol: PROTOCOL }).length, 3000);
        assert.ok(w.a.execute(add).every(({ error }) => error?.errno === 'EEXIST'));
        const remove = destinations.map((destination): Operation => ({ op: 'route-delete', route: { destination } }));
        assert.ok(w.a.execute(remove).every(({ error }) => error === null));
        assert.deepEqual(w.a.execute([]), []);
      }),
    );

    it(
      'lists routes in slices as it does at once',
      withWorld(async (w) => {
        const { a } = connect(w);
        const add = Array.from(
          { length: 500 },
          (_, i): Operation => ({
            op: 'route-add',
            route: {
              destination: Prefix.host(IpAddress.fromUint32(0x64400000 + i)),
              protocol: PROTOCOL,
              nextHops: [{ ifindex: a }],
            },
          }),
        );
        executeAll(w.a, add);
        assert.deepEqual(await w.a.listRoutesAsync({ protocol: PROTOCOL }), w.a.listRoutes({ protocol: PROTOCOL }));
      }),
    );
  });
}
