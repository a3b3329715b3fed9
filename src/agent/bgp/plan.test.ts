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
