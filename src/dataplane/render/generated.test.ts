// Generated worlds: what the rendered table does with a packet, walked rule by rule, against the meaning of the abstract rules
// written down a second time here, in the plainest way.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import type {
  AbstractEntity,
  AbstractRule,
  DesiredEndpoint,
  DesiredPolicy,
  DesiredUpdate,
  EndpointTier,
  PortRange,
  Protocol,
} from '#model/desired.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { FORWARD_PATH, type Packet } from '#nft/evaluate.ts';
import { FakeNftables } from '#nft/fake.ts';
import { Dataplane } from '../dataplane.ts';
import { protocolNumber } from './rule.ts';

const RUNS = 1000;
const PACKETS_A_WORLD = 25;

const ADDRESSES = [
  '10.0.0.1',
  '10.0.0.2',
  '10.0.1.1',
  '10.1.0.1',
  '192.168.0.1',
  'fd00::1',
  'fd00::2',
  'fd01::1',
  '2001:db8::1',
];
const NETS = [
  '0.0.0.0/0',
  '10.0.0.0/8',
  '10.0.0.0/24',
  '10.0.0.1/32',
  '10.0.0.2',
  '192.168.0.0/16',
  '::/0',
  'fd00::/8',
  'fd00::/64',
  'fd00::1',
];
const PORTS = [1, 22, 80, 81, 443, 65_535];
const NET_SETS = ['s:a', 's:b', 's:c'];
const PORT_SETS = ['n:a', 'n:b'];

interface World {
  readonly sets: ReadonlyMap<string, ReadonlySet<string>>;
  readonly policies: ReadonlyMap<string, DesiredPolicy>;
  readonly endpoints: readonly [DesiredEndpoint, DesiredEndpoint];
}

/** Present `weight` times in ten. */
const optional = <T>(arbitrary: fc.Arbitrary<T>, weight: number): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: 10 - weight, arbitrary: fc.constant(undefined) }, { weight, arbitrary });
const some = <T>(values: readonly T[], maxLength = 3) =>
  fc.uniqueArray(fc.constantFrom(...values), { minLength: 1, maxLength });

const range: fc.Arbitrary<PortRange> = fc
  .tuple(fc.constantFrom(...PORTS), fc.constantFrom(...PORTS))
  .map(([a, b]) => ({ min: Math.min(a, b), max: Math.max(a, b) }));

function entity(hasPorts: boolean): fc.Arbitrary<AbstractEntity> {
  const ranges = optional(fc.array(range, { minLength: 1, maxLength: 3 }), 3);
  return fc
    .record({
      nets: optional(some(NETS), 2),
      notNets: optional(some(NETS), 1),
      sets: optional(some(NET_SETS, 2), 2),
      notSets: optional(some(NET_SETS, 2), 1),
      ports: hasPorts ? ranges : fc.constant(undefined),
      notPorts: hasPorts ? ranges : fc.constant(undefined),
      portSets: optional(some(PORT_SETS, 2), 1),
      notPortSets: optional(some(PORT_SETS, 2), 1),
    })
    .map((parts) => Object.fromEntries(Object.entries(parts).filter(([, v]) => v !== undefined)));
}

const rule: fc.Arbitrary<Omit<AbstractRule, 'index'>> = fc
  .constantFrom<Protocol | undefined>(undefined, undefined, 'tcp', 'udp', 'sctp', 'icmp', 'icmpv6', 47)
  .chain((protocol) => {
    const hasPorts = protocol === 'tcp' || protocol === 'udp' || protocol === 'sctp';
    const isIcmp = protocol === 'icmp' || protocol === 'icmpv6';
    const icmp = fc.record({ type: fc.constantFrom(0, 8, 128) }, { requiredKeys: ['type'] });
    const withCode = fc.record({ type: fc.constantFrom(8, 128), code: fc.constantFrom(0, 1) });
    return fc
      .record({
        action: fc.constantFrom<AbstractRule['action']>('allow', 'allow', 'deny', 'pass', 'log'),
        ipVersion: optional(fc.constantFrom<4 | 6>(4, 6), 1),
        protocol: fc.constant(protocol),
        notProtocol: optional(fc.constantFrom<Protocol>('tcp', 'udp', 'icmp'), 1),
        icmp: isIcmp ? optional(fc.oneof(icmp, withCode), 2) : fc.constant(undefined),
        notIcmp: isIcmp ? optional(fc.oneof(icmp, withCode), 1) : fc.constant(undefined),
        source: entity(hasPorts),
        destination: entity(hasPorts),
      })
      .map((parts) => {
        const present = Object.entries(parts).filter(([, v]) => v !== undefined);
        return Object.fromEntries(present) as unknown as Omit<AbstractRule, 'index'>;
      });
  });

const rules = fc.array(rule, { maxLength: 4 }).map((list) => list.map((r, index): AbstractRule => ({ ...r, index })));

const TIER_POLICIES = [
  ['t0/a', 't0/b'],
  ['t1/a', 't1/b'],
] as const;

const tiers: fc.Arbitrary<EndpointTier[]> = fc.tuple(
  ...TIER_POLICIES.map((ids, i) =>
    fc.record({
      name: fc.constant(`t${i}`),
      defaultAction: fc.constantFrom<'deny' | 'pass'>('deny', 'pass'),
      ingress: fc.shuffledSubarray([...ids]),
      egress: fc.shuffledSubarray([...ids]),
    }),
  ),
);

const world: fc.Arbitrary<World> = fc
  .record({
    nets: fc.tuple(...NET_SETS.map(() => fc.subarray([...NETS, ...ADDRESSES]))),
    hostsOnly: fc.boolean(),
    named: fc.tuple(
      ...PORT_SETS.map(() =>
        fc.array(
          fc
            .tuple(fc.constantFrom(...ADDRESSES), fc.constantFrom('tcp', 'udp'), fc.constantFrom(...PORTS))
            .map((m) => m.join()),
          { maxLength: 6 },
        ),
      ),
    ),
    policies: fc.tuple(
      ...[...TIER_POLICIES.flat(), 'Profile/p'].map((id) =>
        fc.record({ ingress: rules, egress: rules, staged: fc.boolean() }).map(
          ({ ingress, egress, staged }): DesiredPolicy => ({
            id,
            tier: 'x',
            ingress,
            egress,
            ...(staged && id !== 'Profile/p' && ingress.length > 2 ? { staged: true } : {}),
          }),
        ),
      ),
    ),
    tiers: fc.tuple(tiers, tiers),
  })
  .map(({ nets, hostsOnly, named, policies, tiers: pair }) => {
    const sets = new Map<string, ReadonlySet<string>>();
    const usable = (cidr: string) => !hostsOnly || !/\/(0|8|16|24|64)$/.test(cidr);
    for (const [i, id] of NET_SETS.entries()) sets.set(id, new Set(nets[i]!.filter(usable)));
    for (const [i, id] of PORT_SETS.entries()) sets.set(id, new Set(named[i]));
    const endpoint = (n: 0 | 1): DesiredEndpoint => ({
      id: `e${n}`,
      kind: 'workload',
      interfaceName: `cali${n}`,
      addresses: [],
      tiers: pair[n],
      profiles: ['Profile/p'],
    });
    return { sets, policies: new Map(policies.map((p) => [p.id, p])), endpoints: [endpoint(0), endpoint(1)] };
  });

const packet: fc.Arbitrary<Packet> = fc
  .record({
    source: fc.constantFrom(...ADDRESSES),
    destination: fc.constantFrom(...ADDRESSES),
    protocol: fc.constantFrom(6, 6, 17, 132, 1, 47),
    sourcePort: fc.constantFrom(...PORTS),
    destinationPort: fc.constantFrom(...PORTS),
    icmpType: fc.constantFrom(0, 8, 128),
    icmpCode: fc.constantFrom(0, 1),
  })
  .map(({ source, destination, protocol, sourcePort, destinationPort, icmpType, icmpCode }) => {
    const family = IpAddress.parse(source).family;
    const same = IpAddress.parse(destination).family === family ? destination : source;
    const base = { family, source, destination: same, inInterface: 'cali0', outInterface: 'cali1' };
    if (protocol === 1) return { ...base, protocol: family === 4 ? 1 : 58, icmpType, icmpCode };
    return protocol === 47 ? { ...base, protocol } : { ...base, protocol, sourcePort, destinationPort };
  });

it('generated worlds: the rendered table says what the rules mean', async () => {
  await fc.assert(
    fc.asyncProperty(
      world,
      fc.array(packet, { minLength: PACKETS_A_WORLD, maxLength: PACKETS_A_WORLD }),
      async (w, packets) => {
        const driver = new FakeNftables();
        const dataplane = new Dataplane({ driver });
        await dataplane.start();
        const updates: DesiredUpdate[] = [{ type: 'in-sync' }];
        for (const [id, members] of w.sets) {
          updates.push({ type: 'set', set: { id, type: id.startsWith('n:') ? 'named-port' : 'net', members } });
        }
        for (const policy of w.policies.values()) updates.push({ type: 'policy', policy });
        for (const endpoint of w.endpoints) updates.push({ type: 'endpoint', endpoint });
        await dataplane.apply(updates);
        assert.deepEqual(dataplane.failures(), []);
        for (const p of packets) {
          const allowed = meant(w, w.endpoints[0], 'egress', p) && meant(w, w.endpoints[1], 'ingress', p);
          const { verdict, mark } = driver.send('brindle', FORWARD_PATH, p);
          assert.equal(verdict, allowed ? 'accept' : 'drop', JSON.stringify(p));
          assert.equal(mark, 0);
        }
      },
    ),
    { numRuns: RUNS },
  );
});

/** Whether the endpoint's policy lets the packet by, by the words of the semantics. */
function meant(w: World, endpoint: DesiredEndpoint, direction: 'ingress' | 'egress', p: Packet): boolean {
  for (const tier of endpoint.tiers) {
    const enforced = tier[direction].map((id) => w.policies.get(id)!).filter((policy) => !policy.staged);
    if (enforced.length === 0) continue;
    const all = enforced.flatMap((policy) => policy[direction]);
    const hit = all.find((r) => r.action !== 'log' && applies(w, r, p));
    if (hit?.action === 'allow') return true;
    if (hit?.action === 'deny' || (!hit && tier.defaultAction === 'deny')) return false;
  }
  for (const id of endpoint.profiles) {
    const hit = w.policies.get(id)![direction].find((r) => r.action !== 'log' && applies(w, r, p));
    if (hit?.action === 'allow') return true;
    if (hit?.action === 'deny') return false;
  }
  return false;
}

function applies(w: World, r: AbstractRule, p: Packet): boolean {
  if (r.ipVersion && r.ipVersion !== p.family) return false;
  if (r.protocol !== undefined && protocolNumber(r.protocol) !== p.protocol) return false;
  if (r.notProtocol !== undefined && protocolNumber(r.notProtocol) === p.protocol) return false;
  if ((r.icmp || r.notIcmp) && (p.family === 4 ? 1 : 58) !== p.protocol) return false;
  const icmpIs = (m: { type: number; code?: number }) =>
    p.icmpType === m.type && (m.code === undefined || m.code === p.icmpCode);
  if (r.icmp && !icmpIs(r.icmp)) return false;
  if (r.notIcmp && icmpIs(r.notIcmp)) return false;
  return (
    sideApplies(w, r.source, p, p.source, p.sourcePort) &&
    sideApplies(w, r.destination, p, p.destination, p.destinationPort)
  );
}

function sideApplies(w: World, e: AbstractEntity, p: Packet, text: string, port: number | undefined): boolean {
  const address = IpAddress.parse(text);
  const inNet = (net: string) => Prefix.parseOrHost(net).contains(address);
  const speaksOfFamily = (nets: readonly string[]) => nets.some((net) => Prefix.parseOrHost(net).family === p.family);
  const inSet = (id: string) => [...w.sets.get(id)!].some(inNet);
  const protocolName = p.protocol === 6 ? 'tcp' : p.protocol === 17 ? 'udp' : '-';
  const named = (id: string) => w.sets.get(id)!.has(`${text},${protocolName},${port}`);
  const inRange = (ranges: readonly PortRange[] = []) =>
    ranges.some((r) => port !== undefined && r.min <= port && port <= r.max);
  for (const list of [e.nets, e.notNets]) if (list && !speaksOfFamily(list)) return false;
  if (e.nets && !e.nets.some(inNet)) return false;
  if (e.notNets?.some(inNet)) return false;
  if (e.sets && !e.sets.every(inSet)) return false;
  if (e.notSets?.some(inSet)) return false;
  if ((e.ports || e.portSets) && !inRange(e.ports) && !(e.portSets ?? []).some(named)) return false;
  if (e.notPorts && inRange(e.notPorts)) return false;
  return !e.notPortSets?.some(named);
}
