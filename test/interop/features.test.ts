// What needs more than one peer or a special session, against BIRD: reflection, ADD-PATH, link-local peering, IPv4 over
// IPv6 next hops, communities, limits, long-lived graceful restart, route servers.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stage, until } from './support.ts';

const bird = (options: {
  id: string;
  as: number;
  session: string;
  ours: string;
  ourAs?: number;
  routes?: string;
  channel?: string;
}): string => `
router id ${options.id};
protocol static s4 { ipv4; ${options.routes ?? 'route 10.2.0.0/16 blackhole;'} }
protocol bgp brindle {
  local as ${options.as}; neighbor ${options.ours} as ${options.ourAs ?? 65001}; connect delay time 1;
  ipv4 { import all; export all; ${options.channel ?? ''} };
  ${options.session}
}`;

const head = 'routerId: 10.9.1.1\nasNumber: 65001\nlisten: [{address: 0.0.0.0, port: 179}, {address: "::", port: 179}]';

describe('features with BIRD', () => {
  it('reflects routes between clients, with originator and cluster list, without touching next hops', async () => {
    await using stage = new Stage();
    const [a, b] = [stage.neighbour(), stage.neighbour()];
    const client = (n: typeof a, id: string, routes: string): string =>
      bird({ id, as: 65001, session: '', ours: n.ours, routes });
    const birdA = await stage.bird(a.namespace, client(a, '10.9.1.2', 'route 10.2.0.0/16 blackhole;'));
    await stage.bird(b.namespace, client(b, '10.9.2.2', 'route 10.3.0.0/16 blackhole;'));
    const speaker = await stage.speaker(`${head}
peers:
  - {name: a, address: ${a.theirs}, asNumber: 65001, routeReflectorClient: true}
  - {name: b, address: ${b.theirs}, asNumber: 65001, routeReflectorClient: true}`);
    await speaker.established('a');
    await speaker.established('b');
    const route = await until(
      'reflected',
      async () =>
        (await birdA.birdc('show route all 10.3.0.0/16')).includes('BGP.originator_id') &&
        (await birdA.routes('brindle')).find((r) => r.prefix === '10.3.0.0/16'),
    );
    assert.equal(route.attributes['originator_id'], '10.9.2.2');
    assert.equal(route.attributes['cluster_list'], '10.9.1.1');
    assert.equal(route.attributes['next_hop'], b.theirs);
    assert.equal(route.attributes['local_pref'], '100');
  });

  it('serves routes between external peers without being in the path (route server)', async () => {
    await using stage = new Stage();
    const [a, b] = [stage.neighbour(), stage.neighbour()];
    const birdA = await stage.bird(
      a.namespace,
      bird({ id: '10.9.1.2', as: 65002, session: '', ours: a.ours, channel: 'gateway recursive;' }),
    );
    await stage.bird(
      b.namespace,
      bird({ id: '10.9.2.2', as: 65003, session: '', ours: b.ours, routes: 'route 10.3.0.0/16 blackhole;' }),
    );
    const speaker = await stage.speaker(`${head}
peers:
  - {name: a, address: ${a.theirs}, asNumber: 65002, import: all, export: all, routeServerClient: true}
  - {name: b, address: ${b.theirs}, asNumber: 65003, import: all, export: all, routeServerClient: true}`);
    await speaker.established('a');
    await speaker.established('b');
    const route = await until('served', async () =>
      (await birdA.routes('brindle')).find((r) => r.prefix === '10.3.0.0/16'),
    );
    assert.equal(route.attributes['as_path'], '65003');
    assert.equal(route.attributes['next_hop'], b.theirs);
  });

  it('sends every path to a peer that takes several (ADD-PATH)', async () => {
    await using stage = new Stage();
    const [a, b, c] = [stage.neighbour(), stage.neighbour(), stage.neighbour()];
    const receiver = await stage.bird(
      a.namespace,
      bird({ id: '10.9.1.2', as: 65002, session: '', ours: a.ours, routes: '', channel: 'add paths rx;' }),
    );
    for (const [n, id, as] of [
      [b, '10.9.2.2', 65003],
      [c, '10.9.3.2', 65004],
    ] as const) {
      await stage.bird(
        n.namespace,
        bird({ id, as, session: '', ours: n.ours, routes: 'route 10.7.0.0/16 blackhole;' }),
      );
    }
    const speaker = await stage.speaker(`${head}
peers:
  - {name: a, address: ${a.theirs}, asNumber: 65002, import: all, export: all, addPaths: send}
  - {name: b, address: ${b.theirs}, asNumber: 65003, import: all, export: all}
  - {name: c, address: ${c.theirs}, asNumber: 65004, import: all, export: all}`);
    for (const name of ['a', 'b', 'c']) await speaker.established(name);
    await until('both paths', async () => (await receiver.routes('brindle')).length === 2);
    const paths = (await receiver.routes('brindle')).map((r) => String(r.attributes['as_path'])).toSorted();
    assert.deepEqual(paths, ['65001 65003', '65001 65004']);
  });

  it('peers over link-local addresses, IPv4 routes with IPv6 next hops', async () => {
    await using stage = new Stage();
    const { namespace } = stage.neighbour();
    const linkLocal = async (ns: typeof namespace, device: string): Promise<string> => {
      const text = await ns.run('ip', '-6', 'addr', 'show', 'dev', device, 'scope', 'link');
      return /inet6 (fe80::[0-9a-f:]+)/.exec(text)?.[1] ?? '';
    };
    const [ours, theirs] = [await linkLocal(stage.us, 'eth1'), await linkLocal(namespace, 'eth0')];
    const peer = await stage.bird(
      namespace,
      bird({
        id: '10.9.1.2',
        as: 65002,
        session: 'interface "eth0"; ipv6 { import all; export all; };',
        ours,
        channel: 'extended next hop on;',
      }),
    );
    const speaker = await stage.speaker(`${head}
networks: [10.1.0.0/16, fd01::/48]
peers:
  - {name: bird, address: "${theirs}", interface: eth1, asNumber: 65002, families: [ipv4, ipv6], import: all, export: all}`);
    await speaker.established('bird');
    const path = await until('learned', async () => (await speaker.route('10.2.0.0/16')).paths[0]);
    assert.ok(path.nextHop !== null && path.nextHop.includes(':'), `next hop ${path.nextHop}`);
    await until('told', async () => (await peer.prefixes('brindle')).join() === '10.1.0.0/16,fd01::/48');
  });

  it('carries communities of all kinds, and obeys the well-known ones', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    const config = bird({
      id: '10.9.1.2',
      as: 65002,
      session: '',
      ours,
      channel:
        'export filter { bgp_community.add((65002,9)); bgp_large_community.add((65002,1,2)); bgp_ext_community.add((rt,65002,7)); accept; };',
    }).replace('export all; ', '');
    const peer = await stage.bird(namespace, config);
    const speaker = await stage.speaker(`${head}
networks:
  - {prefix: 10.1.0.0/16, communities: ["65001:7"], largeCommunities: ["65001:1:2"], med: 50}
  - {prefix: 10.4.0.0/16, communities: [no-export]}
peers:
  - {name: bird, address: ${theirs}, asNumber: 65002, import: all, export: all}`);
    await speaker.established('bird');
    const told = await until('told', async () => (await peer.routes('brindle'))[0]);
    assert.equal(told.attributes['community'], '(65001,7)');
    assert.equal(told.attributes['large_community'], '(65001, 1, 2)');
    assert.equal(told.attributes['med'], '50');
    assert.deepEqual(await peer.prefixes('brindle'), ['10.1.0.0/16']);
    assert.match((await speaker.explain('10.4.0.0/16', 'bird'))[0]?.reason ?? '', /NO_EXPORT/);
    const path = await until('learned', async () => (await speaker.route('10.2.0.0/16')).paths[0]);
    assert.deepEqual(path.communities, ['65002:9']);
    assert.deepEqual(path.largeCommunities, ['65002:1:2']);
    assert.deepEqual(path.extendedCommunities, ['0x0002fdea00000007']);
  });

  it('stops a peer that sends more than its limit, and says so to it', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    const routes = Array.from({ length: 5 }, (_, i) => `route 10.2${i}.0.0/16 blackhole;`).join(' ');
    const peer = await stage.bird(namespace, bird({ id: '10.9.1.2', as: 65002, session: '', ours, routes }));
    const speaker = await stage.speaker(`${head}
peers:
  - {name: bird, address: ${theirs}, asNumber: 65002, import: all, export: all, maxPrefixes: 3}`);
    const down = await until('stopped', async () => {
      const now = await speaker.peer('bird');
      return now.lastReset?.code === 6 && now;
    });
    assert.match(down.lastReset?.reason ?? '', /5 ipv4 prefixes, the limit is 3/);
    await until('BIRD knows why', async () =>
      /[Mm]ax.*prefix|prefix.*limit/i.test(await peer.birdc('show protocols brindle')),
    );
    assert.deepEqual(await speaker.prefixes(), []);
  });

  it('keeps long-lived stale routes of a BIRD that is away (RFC 9494)', async () => {
    await using stage = new Stage();
    const [a, b] = [stage.neighbour(), stage.neighbour()];
    const session =
      'graceful restart on; graceful restart time 1; long lived graceful restart on; long lived stale time 600;';
    const peer = await stage.bird(a.namespace, bird({ id: '10.9.1.2', as: 65002, session, ours: a.ours }));
    const aware = await stage.bird(
      b.namespace,
      bird({ id: '10.9.2.2', as: 65003, session: 'long lived graceful restart aware;', ours: b.ours, routes: '' }),
    );
    const speaker = await stage.speaker(`${head}
peers:
  - {name: a, address: ${a.theirs}, asNumber: 65002, import: all, export: all, longLived: true}
  - {name: b, address: ${b.theirs}, asNumber: 65003, import: all, export: all}`);
    await speaker.established('a');
    await speaker.established('b');
    await until('routes', async () => (await aware.prefixes('brindle')).length === 1);
    await peer.stop('SIGKILL');
    const marked = await until('marked as stale', async () =>
      (await aware.routes('brindle')).find((r) => (r.attributes['community'] ?? '').includes('(65535,6)')),
    );
    assert.equal(marked.prefix, '10.2.0.0/16');
    assert.equal((await speaker.route('10.2.0.0/16')).paths[0]?.stale, true);
  });
});
