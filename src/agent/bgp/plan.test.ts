import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Resource } from '#model/resource.ts';
import { parseResource } from '#model/registry.ts';
import { type BgpInput, bgpPlanFor as planOf } from './plan.ts';
import { bgpResources } from './hosts.ts';

function resource(kind: string, name: string, spec: object, labels: Record<string, string> = {}): Resource {
  return { apiVersion: 'projectcalico.org/v3', kind, metadata: { name, labels }, spec };
}

const node = (name: string, octet: number, bgp: object = {}, labels: Record<string, string> = {}) =>
  resource(
    'Node',
    name,
    { bgp: { ipv4Address: `10.0.0.${octet}/31`, ipv6Address: `fd00::${octet}/127`, ...bgp } },
    labels,
  );

interface World {
  readonly nodes: readonly Resource[];
  readonly configurations: readonly Resource[];
  readonly peers: readonly Resource[];
  readonly more?: readonly Resource[];
}

function bgpPlanFor(
  hostName: string,
  { nodes, configurations, peers, more = [] }: World,
  options: Partial<BgpInput> = {},
) {
  const resources = bgpResources([...nodes, ...configurations, ...peers, ...more].map((one) => parseResource(one)));
  return planOf({ hostName, resources, blocks: [], ...options });
}

const nodes = [node('h1', 1), node('h2', 2), node('h3', 3)];

describe('bgpPlanFor', () => {
  it('meshes all hosts, one session for both families', () => {
    const { config } = bgpPlanFor('h1', { nodes, configurations: [], peers: [] });
    assert.equal(config!.routerId, '10.0.0.1');
    assert.equal(config!.asNumber, 64512);
    assert.deepEqual(
      config!.peers.map((p) => [p.name, p.address, p.localAddress, p.asNumber, p.families, p.nextHopAddress, p.export]),
      [
        ['mesh-h2', '10.0.0.2', '10.0.0.1', 64512, ['ipv4', 'ipv6'], 'fd00::1', 'all'],
        ['mesh-h3', '10.0.0.3', '10.0.0.1', 64512, ['ipv4', 'ipv6'], 'fd00::1', 'all'],
      ],
    );
  });

  it('leaves reflectors out of the mesh and serves their clients', () => {
    const world = {
      nodes: [node('h1', 1, { routeReflectorClusterID: '1.0.0.1' }, { role: 'rr' }), node('h2', 2), node('h3', 3)],
      configurations: [resource('BGPConfiguration', 'default', { nodeToNodeMeshEnabled: false })],
      peers: [
        resource('BGPPeer', 'clients', { nodeSelector: "role == 'rr'", peerSelector: "role != 'rr'" }),
        resource('BGPPeer', 'to-rr', { nodeSelector: "role != 'rr'", peerSelector: "role == 'rr'" }),
      ],
    };
    const reflector = bgpPlanFor('h1', world).config!;
    assert.deepEqual(
      reflector.peers.map((p) => [p.name, p.routeReflectorClient, p.export]),
      [
        ['clients-h2', true, 'all'],
        ['clients-h3', true, 'all'],
      ],
    );
    const client = bgpPlanFor('h2', world).config!;
    assert.deepEqual(
      client.peers.map((p) => [p.name, p.routeReflectorClient, p.export]),
      [['to-rr-h1', undefined, 'local']],
    );
  });

  it('an external peer hears only what the host originates, from any distance unless TTL security is asked for', () => {
    const peers = [
      resource('BGPPeer', 'tor', { peerIP: '10.0.0.0', asNumber: 65000 }),
      resource('BGPPeer', 'tor6', { node: 'h1', peerIP: '[fd00::a]:1790', asNumber: '65000', ttlSecurity: 1 }),
      resource('BGPPeer', 'other', { node: 'h2', peerIP: '10.0.0.9', asNumber: 65000 }),
    ];
    const mesh = resource('BGPConfiguration', 'default', { nodeToNodeMeshEnabled: false, asNumber: '1.10' });
    const { config } = bgpPlanFor('h1', { nodes, configurations: [mesh], peers });
    assert.equal(config!.asNumber, 65_546);
    assert.deepEqual(
      config!.peers.map((p) => [p.name, p.address, p.port, p.families[0], p.export, p.multihop, p.ttlSecurity]),
      [
        ['tor', '10.0.0.0', 179, 'ipv4', 'local', 255, undefined],
        ['tor6', 'fd00::a', 1790, 'ipv6', 'local', undefined, 1],
      ],
    );
  });

  it('says why there is no speaker, and what cannot be honoured', () => {
    assert.match(bgpPlanFor('h9', { nodes, configurations: [], peers: [] }).reason!, /h9/);
    const peers = [
      resource('BGPPeer', 'secret', {
        peerIP: '10.0.0.0',
        asNumber: 65000,
        password: { secretKeyRef: { name: 's', key: 'k' } },
      }),
      resource('BGPPeer', 'tor', { peerIP: '10.0.0.8', asNumber: 65000 }),
      resource('BGPPeer', 'twice', { peerIP: '10.0.0.8', asNumber: 65000 }),
    ];
    const plan = bgpPlanFor('h1', { nodes, configurations: [], peers });
    assert.deepEqual(
      plan.config!.peers.map((p) => p.name),
      ['mesh-h2', 'mesh-h3', 'tor'],
    );
    assert.equal(plan.problems.length, 2, plan.problems.join('\n'));
  });
});

function own(kind: string, name: string, spec: object): Resource {
  return { apiVersion: 'brindle.dev/v1', kind, metadata: { name }, spec };
}

const configuration = (spec: object, name = 'default'): Resource => resource('BGPConfiguration', name, spec);
const tor = (name: string, spec: object = {}, labels: Record<string, string> = {}): Resource =>
  resource('BGPPeer', name, { peerIP: '10.0.0.100', asNumber: 65000, ...spec }, labels);
const block = { cidr: '10.244.1.0/26', pool: 'p' };

describe('fields of the resources', () => {
  it('listenPort of each host is where it listens and where others dial it', () => {
    const configurations = [
      configuration({ listenPort: 1790, bindMode: 'NodeIP' }),
      configuration({ listenPort: 1791 }, 'node.h2'),
    ];
    const { config } = bgpPlanFor('h1', { nodes, configurations, peers: [] });
    assert.deepEqual(config!.listen, [
      { address: '10.0.0.1', port: 1790 },
      { address: 'fd00::1', port: 1790 },
    ]);
    assert.deepEqual(
      config!.peers.map((peer) => peer.port),
      [1791, 1790],
    );
  });

  it('a BGPPeer: every field reaches the speaker', () => {
    const spec = {
      sourceAddress: 'None',
      nextHopMode: 'Self',
      maxRestartTime: '1m30s',
      keepaliveTime: '2500ms',
      numAllowedLocalASNumbers: 2,
      localASNumber: '1.10',
      ttlSecurity: 2,
      reachableBy: '10.0.0.254',
    };
    const plan = bgpPlanFor('h1', { nodes: nodes.slice(0, 1), configurations: [], peers: [tor('tor', spec)] });
    assert.deepEqual(plan.config!.peers, [
      {
        name: 'tor',
        address: '10.0.0.100',
        port: 179,
        asNumber: 65000,
        families: ['ipv4'],
        import: 'all',
        export: 'local',
        gracefulRestart: { enabled: true, restartTime: 90 },
        keepaliveTime: 2.5,
        allowOwnAs: 2,
        localAs: 65_546,
        ttlSecurity: 2,
        nextHop: 'self',
      },
    ]);
    assert.deepEqual(plan.peerRoutes, [{ prefix: '10.0.0.100/32', gateway: '10.0.0.254' }]);
    assert.deepEqual(plan.problems, []);
  });

  it('a peerSelector makes the session on both sides, unless reverse peering is manual', () => {
    const mesh = configuration({ nodeToNodeMeshEnabled: false });
    const world = (spec: object): World => ({
      nodes,
      configurations: [mesh],
      peers: [resource('BGPPeer', 'pair', { node: 'h1', peerSelector: "kubernetes.io/x == 'y' || !has(z)", ...spec })],
    });
    const names = (host: string, spec: object): string[] =>
      bgpPlanFor(host, world(spec)).config!.peers.map((p) => p.name);
    assert.deepEqual(names('h1', {}), ['pair-h2', 'pair-h3']);
    assert.deepEqual(names('h2', {}), ['pair-h1']);
    assert.deepEqual(names('h2', { reversePeering: 'Manual' }), []);
  });

  it('groups: members by name and label, ranges, the fields of the BGPPeer first', () => {
    const more = [
      own('BGPPeerGroup', 'tors', {
        peerSelector: "role == 'tor'",
        session: {
          holdTime: '9s',
          bfd: {},
          maxPrefixes: { ipv4: 100 },
          keepaliveTime: '1s',
          localPreference: 200,
          longLivedStaleTime: '1h',
        },
      }),
      own('BGPPeerGroup', 'racks', {
        nodeSelector: '!has(none)',
        listenRanges: [{ cidr: '10.9.0.0/24', asNumber: 65010, limit: 5 }],
        session: { password: 'key' },
      }),
    ];
    const peers = [tor('tor', { keepaliveTime: '3s' }, { role: 'tor' })];
    const { config, problems } = bgpPlanFor('h1', { nodes, configurations: [], peers, more });
    assert.deepEqual(problems, []);
    const peer = config!.peers.find(({ name }) => name === 'tor')!;
    assert.deepEqual(
      [peer.holdTime, peer.keepaliveTime, peer.bfd, peer.multihop, peer.localPref, peer.longLived],
      [9, 3, true, undefined, 200, { enabled: true, staleTime: 3600 }],
    );
    assert.deepEqual(peer.maxPrefixes, { limit: { ipv4: 100 }, action: 'reset', restartSeconds: 300 });
    assert.equal(config!.peers.find(({ name }) => name === 'mesh-h2')!.holdTime, undefined);
    const [range] = config!.peerRanges;
    assert.deepEqual(
      [range!.name, range!.prefix, range!.asNumber, range!.limit, range!.password, range!.export],
      ['racks-10.9.0.0/24', '10.9.0.0/24', 65010, 5, 'key', 'local'],
    );
  });

  it('a key from a file; no session without it', () => {
    const more = [own('BGPPeerGroup', 'g', { peers: ['tor'], nodeMesh: true, session: { passwordFile: '/etc/key' } })];
    const world = { nodes, configurations: [], peers: [tor('tor')], more };
    const keyed = bgpPlanFor('h1', world, { passwords: new Map([['/etc/key', 'secret']]) });
    assert.deepEqual(
      keyed.config!.peers.map((peer) => peer.password),
      ['secret', 'secret', 'secret'],
    );
    const without = bgpPlanFor('h1', world, { passwords: new Map([['/etc/key', null]]) });
    assert.deepEqual(without.config!.peers, []);
    assert.match(without.problems.join('\n'), /BGPPeer\/tor: no TCP-MD5 key .*\/etc\/key/);
    assert.ok(!without.problems.join('\n').includes('secret'));
  });

  it('communities of own routes, by name and by value, from every entry that matches', () => {
    const spec = {
      communities: [{ name: 'ours', value: '65000:7' }],
      prefixAdvertisements: [
        { cidr: '10.244.0.0/16', communities: ['ours', '65000:1:2'] },
        { cidr: '10.244.1.0/26', communities: ['65000:8'] },
        { cidr: '10.245.0.0/16', communities: ['65000:9'] },
      ],
    };
    const { routes } = bgpPlanFor(
      'h1',
      { nodes, configurations: [configuration(spec)], peers: [] },
      { blocks: [block] },
    );
    assert.deepEqual(routes, [
      {
        prefix: '10.244.1.0/26',
        source: 'block',
        communities: ['65000:7', '65000:8'],
        largeCommunities: ['65000:1:2'],
      },
    ]);
  });

  it('a broken or missing filter stops its peer alone', () => {
    const peers = [tor('a', { filters: ['gone'] }), tor('b', { peerIP: '10.0.0.101' })];
    const { config, problems } = bgpPlanFor('h1', { nodes: nodes.slice(0, 1), configurations: [], peers });
    assert.deepEqual(
      config!.peers.map((peer) => [peer.name, peer.import, peer.export]),
      [
        ['a', 'none', 'none'],
        ['b', 'all', 'local'],
      ],
    );
    assert.equal(problems.length, 1);
  });
});

describe('aggregates', () => {
  const more = [own('BGPAggregate', 'rack', { cidr: '10.244.0.0/16' })];
  const world = { nodes, configurations: [], peers: [tor('tor')], more };
  const filtersOf = (plan: ReturnType<typeof bgpPlanFor>, name: string): unknown => {
    const peer = plan.config!.peers.find((one) => one.name === name)!;
    return typeof peer.export === 'string' ? peer.export : peer.export.filters;
  };

  it('stand for the blocks inside towards routers, and are never told to hosts', () => {
    const plan = bgpPlanFor('h1', world, { blocks: [block] });
    assert.deepEqual(
      plan.routes.map(({ prefix, source }) => [prefix, source]),
      [
        ['10.244.1.0/26', 'block'],
        ['10.244.0.0/16', 'aggregate'],
      ],
    );
    assert.deepEqual(plan.blackholes, ['10.244.0.0/16']);
    assert.deepEqual(filtersOf(plan, 'tor'), ['BGPAggregate/rack (stands for what is inside)']);
    assert.deepEqual(filtersOf(plan, 'mesh-h2'), ['BGPAggregate/rack (not for this peer)']);
  });

  it('hide nothing before they are announced, nor after', () => {
    const before = bgpPlanFor('h1', world, { blocks: [block], announced: new Set() });
    assert.equal(filtersOf(before, 'tor'), 'local');
    assert.deepEqual(filtersOf(before, 'mesh-h2'), ['BGPAggregate/rack (not for this peer)']);
    const after = bgpPlanFor('h1', world, { blocks: [], announced: new Set(['rack']) });
    assert.deepEqual(after.routes, []);
    assert.equal(filtersOf(after, 'tor'), 'local');
    assert.deepEqual(filtersOf(after, 'mesh-h2'), ['BGPAggregate/rack (not for this peer)']);
  });
});
