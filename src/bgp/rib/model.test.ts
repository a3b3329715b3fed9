// The RIB against a naive model: whatever happens in whatever order, and however it is sliced, each peer ends up with
// the table that the model works out from scratch, and each prefix with the model's best path and deciding step.
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { makeAttributes } from '#bgp/wire/attributes.ts';
import type { PathAttributes } from '#bgp/wire/types.ts';
import {
  STEP_AS_PATH,
  STEP_CLUSTER_LENGTH,
  STEP_IGP_METRIC,
  STEP_LOCAL_PREF,
  STEP_MED,
  STEP_NEIGHBOUR_ADDRESS,
  STEP_ONLY,
  STEP_ORIGIN,
  STEP_PATH_ID,
  STEP_PEER_TYPE,
  STEP_ROUTER_ID,
  STEP_TEXT,
  STEP_WEIGHT,
} from './decision.ts';
import { announcement, drain, TEST_AS, TestPeer, type TestPeerOptions, testRib, withdrawal } from './testing.ts';

const PEERS: readonly (TestPeerOptions & { client?: true })[] = [
  { asn: 65001, address: '10.0.0.1' },
  { asn: 65001, address: '10.0.0.2', routerId: 0x0a000001 },
  { asn: 65002, address: '10.0.0.3' },
  { asn: TEST_AS, address: '10.0.0.4', client: true, config: { routeReflectorClient: true } },
  { asn: TEST_AS, address: '10.0.0.5', client: true, config: { routeReflectorClient: true } },
  { asn: TEST_AS, address: '10.0.0.6' },
  { asn: 65003, address: '10.0.0.7', addPathSend: true, addPathReceive: true },
  { asn: 65002, address: '10.0.0.8', as4: false },
];
const PREFIXES = ['10.1.0.0/16', '10.1.1.0/24', '0.0.0.0/0', '10.2.3.4/32'];
const NEXT_HOPS = ['192.0.2.1', '192.0.2.2', '192.0.2.3'];
const OUR_ADDRESS = '10.0.0.254';
const CLUSTER = 0x0a0000fe;

interface Route {
  tail: readonly number[];
  nextHop: string;
  more: Partial<PathAttributes>;
}
type Operation =
  | { kind: 'announce'; peer: number; prefixes: number[]; pathId: number; route: Route }
  | { kind: 'withdraw'; peer: number; prefixes: number[]; pathId: number }
  | { kind: 'down' | 'retain' | 'up' | 'refresh' | 'sweep' | 'resend'; peer: number }
  | { kind: 'next-hop'; index: number; reachable: boolean; metric: number }
  | { kind: 'originate' | 'take back'; prefix: number }
  | { kind: 'work' }
  | { kind: 'pull'; peer: number; octets: number };

interface ModelPath {
  peer: number;
  pathId: number;
  attributes: PathAttributes;
  stale: boolean;
}
const LOCAL = -1;

/** What the RIB should hold, kept and worked out in the plainest way. */
class Model {
  readonly paths = new Map<string, ModelPath[]>(PREFIXES.map((p) => [p, []]));
  readonly hops = new Map<string, { reachable: boolean; metric: number }>();
  readonly isUp: boolean[] = PEERS.map(() => false);
  readonly retained: boolean[] = PEERS.map(() => false);

  set(prefix: string, path: ModelPath): void {
    this.remove(prefix, path.peer, path.pathId);
    this.paths.get(prefix)!.push(path);
  }

  remove(prefix: string, peer: number, pathId: number): void {
    const paths = this.paths.get(prefix)!;
    this.paths.set(
      prefix,
      paths.filter((p) => p.peer !== peer || p.pathId !== pathId),
    );
  }

  drop(peer: number, staleOnly: boolean): void {
    for (const [prefix, paths] of this.paths) {
      this.paths.set(
        prefix,
        paths.filter((p) => p.peer !== peer || (staleOnly && !p.stale)),
      );
    }
  }

  age(peer: number): void {
    for (const paths of this.paths.values()) for (const p of paths) if (p.peer === peer) p.stale = true;
  }

  usable(prefix: string): ModelPath[] {
    return this.paths.get(prefix)!.filter((p) => {
      const asns = p.attributes.asPath.flatMap((s) => s.asns);
      if (asns.includes(TEST_AS)) return false;
      if (p.peer !== LOCAL && !external(p.peer) && p.attributes.clusterList.includes(CLUSTER)) return false;
      if (p.attributes.originatorId === CLUSTER) return false;
      if (p.peer === LOCAL) return true;
      return this.hops.get(p.attributes.nextHop!.toString())?.reachable ?? false;
    });
  }

  metric(p: ModelPath): number {
    return p.peer === LOCAL ? 0 : this.hops.get(p.attributes.nextHop!.toString())!.metric;
  }

  /** RFC 4271 9.1.2.2 step by step: after each, only the best at it are left. */
  decide(prefix: string): { best: ModelPath | null; step: number } {
    let left = this.usable(prefix);
    let step = STEP_ONLY;
    const keep = (at: number, value: (p: ModelPath) => number): void => {
      const lowest = Math.min(...left.map(value));
      const kept = left.filter((p) => value(p) === lowest);
      if (kept.length < left.length) step = at;
      left = kept;
    };
    if (left.length === 0) return { best: null, step };
    keep(STEP_WEIGHT, (p) => (p.peer === LOCAL ? 0 : 1));
    keep(STEP_LOCAL_PREF, (p) => -(p.attributes.localPref ?? 100));
    keep(STEP_AS_PATH, (p) => p.attributes.asPath.reduce((n, s) => n + s.asns.length, 0));
    keep(STEP_ORIGIN, (p) => p.attributes.origin);
    const before = left;
    const neighbour = (p: ModelPath): number => p.attributes.asPath[0]?.asns[0] ?? 0;
    left = before.filter((p) =>
      before.every((q) => neighbour(p) !== neighbour(q) || (p.attributes.med ?? 0) <= (q.attributes.med ?? 0)),
    );
    if (left.length < before.length) step = STEP_MED;
    keep(STEP_PEER_TYPE, (p) => (p.peer === LOCAL ? 0 : external(p.peer) ? 1 : 2));
    keep(STEP_IGP_METRIC, (p) => this.metric(p));
    keep(STEP_ROUTER_ID, (p) => p.attributes.originatorId ?? (p.peer === LOCAL ? 0 : routerId(p.peer)));
    keep(STEP_CLUSTER_LENGTH, (p) => p.attributes.clusterList.length);
    keep(STEP_NEIGHBOUR_ADDRESS, (p) => p.peer);
    keep(STEP_PATH_ID, (p) => p.pathId);
    assert.equal(left.length, 1);
    return { best: left[0]!, step };
  }

  /** What a peer is told of a path; null: nothing. */
  exported(to: number, p: ModelPath): string | null {
    if (p.peer === to) return null;
    const toExternal = external(to);
    const internalSource = p.peer !== LOCAL && !external(p.peer);
    if (!toExternal && internalSource && !PEERS[to]!.client && !PEERS[p.peer]!.client) return null;
    const a = p.attributes;
    if (a.communities.includes(0xffffff02)) return null;
    if (toExternal && a.communities.includes(0xffffff01)) return null;
    const asns = a.asPath.flatMap((s) => s.asns);
    if (toExternal) {
      const med = p.peer === LOCAL ? a.med : null;
      return describe([TEST_AS, ...asns], OUR_ADDRESS, a.origin, med, null, a.communities, null, []);
    }
    const nextHop = a.nextHop?.toString() ?? OUR_ADDRESS;
    const originator = internalSource ? (a.originatorId ?? routerId(p.peer)) : null;
    const clusters = internalSource ? [CLUSTER, ...a.clusterList] : [];
    return describe(asns, nextHop, a.origin, a.med, a.localPref ?? 100, a.communities, originator, clusters);
  }

  table(to: number): string[] {
    const lines: string[] = [];
    for (const prefix of PREFIXES) {
      const best = this.decide(prefix).best;
      const paths = PEERS[to]!.addPathSend ? this.usable(prefix) : best ? [best] : [];
      for (const path of paths) {
        const text = this.exported(to, path);
        if (text) lines.push(`${prefix} ${text}`);
      }
    }
    return lines.sort();
  }
}

function external(peer: number): boolean {
  return PEERS[peer]!.asn !== TEST_AS;
}

function routerId(peer: number): number {
  return PEERS[peer]!.routerId ?? IpAddress.parse(PEERS[peer]!.address).toUint32();
}

function describe(
  asns: readonly number[],
  nextHop: string,
  origin: number,
  med: number | null,
  localPref: number | null,
  communities: readonly number[],
  originator: number | null,
  clusters: readonly number[],
): string {
  const sorted = [...new Set(communities)].sort((a, b) => a - b);
  return JSON.stringify({ asns, nextHop, origin, med, localPref, communities: sorted, originator, clusters });
}

function told(peer: TestPeer): string[] {
  return [...peer.table]
    .map(([key, a]) => {
      const asns = a.asPath.flatMap((s) => s.asns);
      const hop = a.nextHop!.toString();
      const text = describe(asns, hop, a.origin, a.med, a.localPref, a.communities, a.originatorId, a.clusterList);
      return `${key.split('#')[0]} ${text}`;
    })
    .sort();
}

const peerIndex = fc.integer({ min: 0, max: PEERS.length - 1 });
/** Peers that are not up from the beginning. */
const absent = fc.uniqueArray(peerIndex, { maxLength: 4 });
const prefixList = fc.uniqueArray(fc.integer({ min: 0, max: PREFIXES.length - 1 }), { minLength: 1 });
const anyRoute: fc.Arbitrary<Route> = fc.record({
  tail: fc.array(fc.constantFrom(1, 2, 70_000, TEST_AS), { maxLength: 2 }),
  nextHop: fc.constantFrom(...NEXT_HOPS),
  more: fc.record({
    origin: fc.constantFrom(0 as const, 1 as const),
    med: fc.constantFrom(null, 0, 5, 10),
    localPref: fc.constantFrom(100, 100, 200),
    communities: fc.constantFrom([], [], [1], [0xffffff01], [0xffffff02]),
    clusterList: fc.constantFrom([], [], [9], [CLUSTER]),
    originatorId: fc.constantFrom(null, null, 0x01010101, CLUSTER),
  }),
});
/** Mostly routes that are much alike, so that ties are many and different peers tell the same. */
const plain: Partial<PathAttributes> = {
  origin: 0,
  med: null,
  localPref: 100,
  communities: [],
  clusterList: [],
  originatorId: null,
};
const route = fc.oneof<fc.WeightedArbitrary<Route>[]>(
  { weight: 3, arbitrary: fc.constant({ tail: [], nextHop: NEXT_HOPS[0]!, more: plain }) },
  { weight: 2, arbitrary: fc.constant({ tail: [1], nextHop: NEXT_HOPS[1]!, more: plain }) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(0, 5, 10).map((med) => ({ tail: [], nextHop: NEXT_HOPS[0]!, more: { ...plain, med } })),
  },
  { weight: 2, arbitrary: anyRoute },
);
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant('announce' as const),
      peer: peerIndex,
      prefixes: prefixList,
      pathId: fc.constantFrom(1, 2),
      route,
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('withdraw' as const),
      peer: peerIndex,
      prefixes: prefixList,
      pathId: fc.constantFrom(1, 2),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'down' as const,
        'retain' as const,
        'up' as const,
        'refresh' as const,
        'sweep' as const,
        'resend' as const,
      ),
      peer: peerIndex,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('next-hop' as const),
      index: fc.integer({ min: 0, max: 2 }),
      reachable: fc.boolean(),
      metric: fc.constantFrom(1, 2),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom('originate' as const, 'take back' as const),
      prefix: fc.integer({ min: 0, max: 3 }),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('work' as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('pull' as const),
      peer: peerIndex,
      octets: fc.constantFrom(1, 200, 65536),
    }),
  },
);

/** Members leave the log early and walk in small steps, so that all of that happens with four prefixes. */
const TIGHT = { logOctets: 300, logEntries: 4, aheadOctets: 120, walkRows: 2 };

function run(down: readonly number[], operations: readonly Operation[], limits: typeof TIGHT | undefined): void {
  const rib = testRib({ resolveNextHops: true, ...(limits ? { limits } : {}) });
  const model = new Model();
  const peers = PEERS.map((options) => new TestPeer(rib, options));
  const apply = (op: Operation): void => {
    if ('peer' in op && op.peer >= 0) {
      const peer = peers[op.peer]!;
      const isUp = model.isUp[op.peer]!;
      const pathId = 'pathId' in op && PEERS[op.peer]!.addPathReceive ? op.pathId : null;
      switch (op.kind) {
        case 'up':
          if (isUp) return;
          peer.up();
          model.isUp[op.peer] = true;
          return;
        case 'pull':
          peer.pull(op.octets);
          return;
        case 'announce': {
          if (!isUp) return;
          const asPath = external(op.peer) ? [PEERS[op.peer]!.asn, ...op.route.tail] : op.route.tail;
          const { localPref, originatorId, clusterList, ...rest } = op.route.more;
          const inner = { localPref: localPref!, originatorId: originatorId!, clusterList: clusterList! };
          const more = external(op.peer) ? rest : { ...rest, ...inner };
          const wire = PEERS[op.peer]!.as4 === false ? { as4: false } : {};
          peer.send(
            announcement(
              { asPath, nextHop: op.route.nextHop, more, ...wire },
              op.prefixes.map((p) => PREFIXES[p]!),
              pathId,
            ),
          );
          for (const p of op.prefixes) {
            const attributes = makeAttributes({
              asPath: asPath.length > 0 ? [{ type: 'sequence', asns: asPath }] : [],
              nextHop: IpAddress.parse(op.route.nextHop),
              ...more,
            });
            model.set(PREFIXES[p]!, { peer: op.peer, pathId: pathId ?? 0, attributes, stale: false });
          }
          return;
        }
        case 'withdraw':
          if (!isUp) return;
          peer.send(
            withdrawal(
              op.prefixes.map((p) => PREFIXES[p]!),
              pathId,
            ),
          );
          for (const p of op.prefixes) model.remove(PREFIXES[p]!, op.peer, pathId ?? 0);
          return;
        case 'down':
          if (!isUp) return;
          peer.down();
          model.isUp[op.peer] = false;
          model.drop(op.peer, false);
          model.retained[op.peer] = false;
          return;
        case 'retain':
          if (!isUp) return;
          peer.down('retain');
          model.isUp[op.peer] = false;
          model.drop(op.peer, true); // what is stale from before goes
          model.age(op.peer);
          model.retained[op.peer] = true;
          return;
        case 'refresh':
          if (!isUp || model.retained[op.peer]) return;
          rib.beginRefresh(peer.peer, 'ipv4');
          model.age(op.peer);
          return;
        case 'sweep':
          rib.sweepStale(peer.peer, 'ipv4');
          model.drop(op.peer, true);
          model.retained[op.peer] = false;
          return;
        case 'resend':
          if (isUp) rib.softOut(peer.peer, 'ipv4');
          return;
        default:
          return;
      }
    }
    if (op.kind === 'next-hop') model.hops.set(NEXT_HOPS[op.index]!, { reachable: op.reachable, metric: op.metric });
    else if (op.kind === 'work') rib.work();
    else if (op.kind === 'originate') {
      rib.originate(Prefix.parse(PREFIXES[op.prefix]!), makeAttributes({ med: 7 }));
      model.set(PREFIXES[op.prefix]!, { peer: LOCAL, pathId: 0, attributes: makeAttributes({ med: 7 }), stale: false });
    } else if (op.kind === 'take back') {
      rib.withdrawLocal(Prefix.parse(PREFIXES[op.prefix]!));
      model.remove(PREFIXES[op.prefix]!, LOCAL, 0);
    }
    resolve();
  };
  const resolve = (): void => {
    for (const [text, hop] of model.hops) {
      const id = rib.nextHops.find(IpAddress.parse(text));
      if (id !== null) rib.setNextHop(id, hop.reachable, hop.metric);
    }
  };
  for (let peer = 0; peer < PEERS.length; peer++) if (!down.includes(peer)) apply({ kind: 'up', peer });
  for (const index of [0, 1]) model.hops.set(NEXT_HOPS[index]!, { reachable: true, metric: index });
  for (const op of operations) apply(op);
  resolve();
  drain(
    rib,
    peers.filter((_, i) => model.isUp[i]),
  );
  for (const prefix of PREFIXES) {
    const { best, step } = model.decide(prefix);
    const family = rib.families.ipv4;
    const row = family.lookup(Prefix.parse(prefix));
    assert.equal(row !== 0 && family.prefixes.best[row] !== 0, best !== null, `${prefix} has a best path`);
    if (best) assert.equal(STEP_TEXT[family.prefixes.step[row]!], STEP_TEXT[step], `deciding step of ${prefix}`);
  }
  peers.forEach((peer, i) => {
    if (!model.isUp[i]) return;
    assert.deepEqual(told(peer), model.table(i), `adj-RIB-out of peer ${i}`);
    const member = peer.peer.families.ipv4.member!;
    assert.equal(member.group.advertisedTo(peer.peer.id), peer.table.size, `advertised count of peer ${i}`);
    assert.equal(peer.endOfRibs.length > 0, true, 'End-of-RIB was sent');
    const held = [...model.paths.values()].flat().filter((p) => p.peer === i).length;
    assert.equal(peer.peer.families.ipv4.received, held, `received count of peer ${i}`);
  });
  // Nothing is left behind once everybody has gone.
  peers.forEach((peer, i) => {
    if (model.isUp[i]) peer.down();
    rib.sweepStale(peer.peer, 'ipv4');
  });
  for (const prefix of PREFIXES) rib.withdrawLocal(Prefix.parse(prefix));
  drain(rib, []);
  assert.equal(rib.families.ipv4.paths.count, 0, 'paths left');
  assert.equal(rib.families.ipv4.prefixes.count, 0, 'prefixes left');
  rib.attributes.sweep(true);
  assert.equal(rib.attributes.size, 0, 'attribute sets left');
}

test('any order of events gives the model', () => {
  fc.assert(
    fc.property(absent, fc.array(operation, { maxLength: 100, size: 'max' }), (down, operations) =>
      run(down, operations, undefined),
    ),
    { numRuns: 300 },
  );
});

test('any order of events gives the model when peers fall behind', () => {
  fc.assert(
    fc.property(absent, fc.array(operation, { maxLength: 100, size: 'max' }), (down, operations) =>
      run(down, operations, TIGHT),
    ),
    { numRuns: 300 },
  );
});
