import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BrindleError } from '#base/errors.ts';
import { makePlan } from './plan.ts';
import { birdConfig, parseBirdProtocols, parseBirdRoutes } from './routers/bird.ts';
import { hostResources, labResources } from './resources.ts';
import { defaultTopology, parseTopology, withHost } from './topology.ts';

const TWO_RACKS = `
routers:
  - { name: spine1, asNumber: 65000 }
  - { name: tor1, asNumber: 65001, links: [spine1] }
  - { name: tor2, asNumber: 65002, links: [spine1] }
racks:
  - { name: left, asNumber: 64601, routers: [tor1, tor2], hosts: 2 }
  - { name: right, asNumber: 64602, routers: [tor2], hosts: [db1] }
pools:
  - { cidr: 10.60.0.0/16 }
`;

function refusal(text: string): BrindleError {
  try {
    parseTopology(text, 'lab.yaml');
  } catch (error) {
    assert.ok(error instanceof BrindleError);
    return error;
  }
  return assert.fail(`accepted: ${text}`);
}

describe('lab topology', () => {
  it('reads racks, routers and pools, and turns the mesh off where AS numbers differ', () => {
    const topology = parseTopology(TWO_RACKS, 'lab.yaml');
    assert.equal(topology.mesh, false);
    assert.deepEqual(
      topology.hosts.map((host) => `${host.rack}/${host.name} ${host.asNumber} ${host.uplinks.join('+')}`),
      ['left/h1 64601 tor1+tor2', 'left/h2 64601 tor1+tor2', 'right/db1 64602 tor2'],
    );
    assert.deepEqual(topology.pools, [{ name: 'pool-1', cidr: '10.60.0.0/16', blockSize: 26 }]);
  });

  it('refuses what it does not understand, naming the field', () => {
    const cases: readonly (readonly [string, string, RegExp])[] = [
      ['racks: [{hosts: 2, colour: red}]', 'racks[0].colour', /not known/],
      ['racks: [{hosts: 0}]', 'racks[0].hosts', /whole number/],
      ['racks: [{hosts: [H1]}]', 'racks[0].hosts[0]', /cannot be a name/],
      ['routers: [{name: tor1}]\nracks: [{hosts: 1, routers: [tor9]}]', 'racks', /no router "tor9"/],
      [
        'routers: [{name: a}, {name: b, links: [a]}, {name: c, links: [d]}]\nracks: [{hosts: 1}]',
        'routers[2].links[0]',
        /no router/,
      ],
      ['routers: [{name: a, links: [b]}, {name: b, links: [a]}]\nracks: [{hosts: 1}]', 'routers[1].links[0]', /twice/],
      ['routers: [{name: a, kind: cisco}]\nracks: [{hosts: 1}]', 'routers[0].kind', /no kind of router/],
      ['racks: [{hosts: 1}]\npools: [{cidr: 10.0.0.1/8}]', 'pools[0].cidr', /host bits/],
      ['racks: [{hosts: 1}]\npools: [{cidr: 10.0.0.0/8},{name: b, cidr: 10.1.0.0/16}]', 'pools[1].cidr', /overlaps/],
      ['mesh: true\nracks: [{hosts: 1}, {hosts: 1, asNumber: 64700}]', 'mesh', /one AS/],
    ];
    for (const [text, field, message] of cases) {
      const error = refusal(text);
      assert.equal(error.field, field, text);
      assert.match(error.message, message, text);
      assert.match(error.message, /^lab\.yaml: /);
    }
    assert.match(refusal('a: [').message, /^lab\.yaml: /);
  });

  it('plans point-to-point wires with distinct addresses on both ends', () => {
    const plan = makePlan('default', parseTopology(TWO_RACKS, 'lab.yaml'));
    const h1 = plan.hosts[0]!;
    assert.equal(h1.namespace, 'brindle-h1');
    assert.deepEqual(
      h1.interfaces.map((end) => [end.name, end.peer.node, end.ipv4.address, end.peer.ipv4]),
      [
        ['eth0', 'tor1', '172.30.3.1', '172.30.3.0'],
        ['eth1', 'tor2', '172.30.4.1', '172.30.4.0'],
      ],
    );
    const all = [...plan.hosts, ...plan.routers].flatMap((node) =>
      node.interfaces.flatMap((end) => [end.ipv4.address, end.ipv6.address]),
    );
    assert.equal(new Set(all).size, all.length);
    const large = makePlan('x', defaultTopology({ hosts: 1000, router: 'bird' }));
    const addresses = large.hosts.flatMap((host) =>
      host.interfaces.flatMap((end) => [end.ipv4.address, end.peer.ipv4]),
    );
    assert.equal(new Set([...addresses, large.routers[0]!.loopback4]).size, 2001);
  });

  it('keeps every address when a host is added', () => {
    const before = defaultTopology({ hosts: 3, router: 'bird' });
    const after = withHost(before, null, null);
    assert.equal(after.hosts.at(-1)!.name, 'h4');
    assert.deepEqual(makePlan('default', after).hosts.slice(0, 3), makePlan('default', before).hosts);
    assert.throws(() => withHost(before, 'h2', null), /has a h2 already/);
    assert.throws(() => withHost(before, null, 'attic'), /no rack "attic"/);
  });

  it('puts hosts without routers on one Ethernet', () => {
    const plan = makePlan('default', defaultTopology({ hosts: 2, router: 'none' }));
    assert.equal(plan.switch?.namespace, 'brindle-switch');
    assert.deepEqual(
      plan.hosts.map((host) => host.interfaces[0]!.ipv4),
      [
        { address: '172.30.0.1', length: 16 },
        { address: '172.30.0.2', length: 16 },
      ],
    );
  });

  it('describes nodes and peers in the store', () => {
    const topology = parseTopology(TWO_RACKS, 'lab.yaml');
    const plan = makePlan('default', topology);
    const kinds = labResources(topology, plan).map((resource) => `${resource.kind}/${resource.metadata.name}`);
    assert.deepEqual(kinds.slice(0, 4), [
      'IPPool/pool-1',
      'BGPConfiguration/default',
      'Node/h1',
      'BGPPeer/h1-tor1-ipv4',
    ]);
    assert.equal(hostResources(topology, plan.hosts[2]!).length, 3);
  });
});

describe('BIRD', () => {
  const router = makePlan('default', defaultTopology({ hosts: 2, router: 'bird' })).routers[0]!;

  it('gets a protocol for each neighbour and family', () => {
    const config = birdConfig(router);
    for (const name of ['h1_ipv4', 'h1_ipv6', 'h2_ipv4', 'h2_ipv6'])
      assert.ok(config.includes(`protocol bgp ${name} {`));
    assert.ok(config.includes('local 172.30.1.0 as 65001;'));
    assert.ok(config.includes('neighbor fd00:172:30:2::1 as 64512;'));
  });

  it('is read: sessions', () => {
    const text = `BIRD 2.0.12 ready.
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     02:56:01.123
h1_ipv4    BGP        ---        up     02:56:03.801  Established
h1_ipv6    BGP        ---        start  2026-11-24    Active        Socket: Connection refused
`;
    assert.deepEqual(
      parseBirdProtocols(text, router.neighbors).map((session) => [
        session.node,
        session.family,
        session.established,
        session.info,
      ]),
      [
        ['h1', 4, true, 'Established'],
        ['h1', 6, false, 'Active        Socket: Connection refused'],
        ['h2', 4, false, 'not configured'],
        ['h2', 6, false, 'not configured'],
      ],
    );
  });

  it('is read: routes, with several paths and next hops', () => {
    const text = `BIRD 2.0.12 ready.
Table master4:
10.244.0.64/26       unicast [h1_ipv4 02:56:03.801] * (100) [AS64512i]
\tvia 172.30.1.1 on h1
                     unicast [h2_ipv4 02:56:03.811] (100) [AS64512i]
\tvia 172.30.2.1 on h2
`;
    assert.deepEqual(parseBirdRoutes(text, router.neighbors), [
      { prefix: '10.244.0.64/26', from: ['h1', 'h2'], nextHops: ['172.30.1.1', '172.30.2.1'] },
    ]);
  });
});
