// Properties of the evaluator over generated worlds, and a second, naive evaluator of Kubernetes' policies that shares no code
// with it: it reads manifests as they are written and follows the API's documentation sentence by sentence.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseResource } from '#model/registry.ts';
import { isBrindleError } from '#base/errors.ts';
import { randomFlow, randomWorld } from '../../test/support/random-worlds.ts';
import type { RawFlow, RawResource } from '../../test/support/scenarios.ts';
import { evaluate, type FlowResult } from './evaluate/evaluate.ts';
import { lint } from './lint/lint.ts';
import { parseFlow } from './evaluate/flow.ts';
import { Problems } from '#model/problems.ts';
import { buildWorld, type World } from './world/world.ts';

type Json = Record<string, unknown>;
type Labels = Record<string, string>;
interface LabelSelector {
  matchLabels?: Labels;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}
interface Peer {
  podSelector?: LabelSelector;
  namespaceSelector?: LabelSelector;
  ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
}
interface Port {
  protocol?: string;
  port?: number | string;
  endPort?: number;
}
interface Np {
  metadata: { name: string; namespace: string };
  spec: {
    podSelector: LabelSelector;
    policyTypes?: readonly string[];
    ingress?: { from?: Peer[]; ports?: Port[] }[];
    egress?: { to?: Peer[]; ports?: Port[] }[];
  };
}
interface NaivePod {
  namespace: string;
  name: string;
  labels: Labels;
  ip: string;
  ports: { name: string; protocol: string; containerPort: number }[];
}
interface Question {
  from: NaivePod;
  to: NaivePod;
  protocol: string;
  port: number;
}

// ---- the naive evaluator ----

function selects(selector: LabelSelector, labels: Labels): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) if (labels[key] !== value) return false;
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const has = key in labels;
    if (operator === 'Exists' && !has) return false;
    if (operator === 'DoesNotExist' && has) return false;
    if (operator === 'In' && !(has && values.includes(labels[key]!))) return false;
    if (operator === 'NotIn' && has && values.includes(labels[key]!)) return false;
  }
  return true;
}

function inCidr(ip: string, cidr: string): boolean {
  const [net = '', length = ''] = cidr.split('/');
  const bits = (text: string): string =>
    text
      .split('.')
      .map((octet) => Number(octet).toString(2).padStart(8, '0'))
      .join('');
  return bits(ip).slice(0, Number(length)) === bits(net).slice(0, Number(length));
}

function naive(policies: readonly Np[], namespaces: Record<string, Labels>, question: Question): boolean {
  const { from, to, protocol, port } = question;
  if (from === to) return true;
  const peerMatches = (peer: Peer, who: NaivePod, home: string): boolean => {
    if (peer.ipBlock) {
      return inCidr(who.ip, peer.ipBlock.cidr) && !(peer.ipBlock.except ?? []).some((except) => inCidr(who.ip, except));
    }
    const rightNamespace = peer.namespaceSelector
      ? selects(peer.namespaceSelector, { ...namespaces[who.namespace], 'kubernetes.io/metadata.name': who.namespace })
      : who.namespace === home;
    return rightNamespace && (!peer.podSelector || selects(peer.podSelector, who.labels));
  };
  const portMatches = (one: Port): boolean => {
    if ((one.protocol ?? 'TCP') !== protocol) return false;
    if (one.port === undefined) return true;
    if (typeof one.port === 'string') {
      return to.ports.some((p) => p.name === one.port && p.protocol === protocol && p.containerPort === port);
    }
    return port >= one.port && port <= (one.endPort ?? one.port);
  };
  const side = (direction: 'Ingress' | 'Egress', subject: NaivePod, other: NaivePod): boolean => {
    const isolating = policies.filter(({ metadata, spec }) => {
      if (metadata.namespace !== subject.namespace || !selects(spec.podSelector, subject.labels)) return false;
      if (spec.policyTypes) return spec.policyTypes.includes(direction);
      return direction === 'Ingress' || (spec.egress ?? []).length > 0;
    });
    if (isolating.length === 0) return true;
    return isolating.some(({ metadata, spec }) => {
      const rules =
        direction === 'Ingress'
          ? (spec.ingress ?? []).map(({ from: peers, ports }) => ({ peers, ports }))
          : (spec.egress ?? []).map(({ to: peers, ports }) => ({ peers, ports }));
      return rules.some(
        ({ peers, ports }) =>
          (!peers?.length || peers.some((peer) => peerMatches(peer, other, metadata.namespace))) &&
          (!ports?.length || ports.some(portMatches)),
      );
    });
  };
  return side('Egress', from, to) && side('Ingress', to, from);
}

// ---- generated worlds ----

const KEYS = ['app', 'tier'];
const VALUES = ['a', 'b', 'c'];
const NAMESPACES = ['x', 'y'];
const labels: fc.Arbitrary<Labels> = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), {
  maxKeys: 2,
});
const expression = fc.oneof(
  fc.record({
    key: fc.constantFrom(...KEYS),
    operator: fc.constantFrom('In', 'NotIn'),
    values: fc.uniqueArray(fc.constantFrom(...VALUES), { minLength: 1, maxLength: 2 }),
  }),
  fc.record({ key: fc.constantFrom(...KEYS), operator: fc.constantFrom('Exists', 'DoesNotExist') }),
);
const selector: fc.Arbitrary<LabelSelector> = fc.oneof(
  { weight: 2, arbitrary: fc.constant({}) },
  { weight: 3, arbitrary: fc.record({ matchLabels: labels }) },
  {
    weight: 1,
    arbitrary: fc.record({ matchLabels: labels, matchExpressions: fc.array(expression, { maxLength: 2 }) }),
  },
);
const block = fc.constantFrom<NonNullable<Peer['ipBlock']>>(
  { cidr: '10.1.0.0/16' },
  { cidr: '10.1.0.0/30', except: ['10.1.0.1/32'] },
  { cidr: '10.1.0.3/31' },
  { cidr: '0.0.0.0/0', except: ['10.1.0.0/30', '10.1.0.5/32'] },
);
const peer: fc.Arbitrary<Peer> = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: selector }),
  fc.record({ podSelector: selector, namespaceSelector: selector }),
  fc.record({ ipBlock: block }),
  fc.constantFrom(...NAMESPACES).map((name) => ({
    namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } },
  })),
);
const protocol = fc.constantFrom('TCP', 'UDP', 'SCTP');
const port: fc.Arbitrary<Port> = fc.oneof(
  fc.record({ protocol, port: fc.constantFrom<number | string>(80, 81, 'web', 'dns') }),
  fc.record({ port: fc.constantFrom<number | string>(80, 'web') }),
  fc.record({ protocol }),
  fc.constantFrom({ port: 79, endPort: 80 }, { protocol: 'UDP', port: 80, endPort: 82 }, {}),
);
const ingressRule = fc.record(
  { from: fc.array(peer, { maxLength: 2 }), ports: fc.array(port, { maxLength: 2 }) },
  { requiredKeys: [] },
);
const egressRule = fc.record(
  { to: fc.array(peer, { maxLength: 2 }), ports: fc.array(port, { maxLength: 2 }) },
  { requiredKeys: [] },
);
const np = fc.record(
  {
    podSelector: selector,
    policyTypes: fc.constantFrom(['Ingress'], ['Egress'], ['Ingress', 'Egress']),
    ingress: fc.array(ingressRule, { maxLength: 2 }),
    egress: fc.array(egressRule, { maxLength: 2 }),
  },
  { requiredKeys: ['podSelector'] },
);
const policies: fc.Arbitrary<Np[]> = fc
  .array(fc.tuple(fc.constantFrom(...NAMESPACES), np), { maxLength: 5 })
  .map((list) => list.map(([namespace, spec], i) => ({ metadata: { name: `p${i}`, namespace }, spec })) as Np[]);
const podPorts = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom('web', 'dns'),
    protocol: fc.constantFrom('TCP', 'UDP'),
    containerPort: fc.constantFrom(80, 81),
  }),
  { maxLength: 3, selector: (p) => `${p.name}${p.protocol}` },
);
const pods: fc.Arbitrary<NaivePod[]> = fc
  .array(fc.tuple(fc.constantFrom(...NAMESPACES), labels, podPorts), { minLength: 2, maxLength: 5 })
  .map((list) =>
    list.map(([namespace, own, ports], i) => ({
      namespace,
      name: `pod${i}`,
      labels: own,
      ip: `10.1.0.${i + 1}`,
      ports,
    })),
  );
const namespaces = fc.record({ x: labels, y: labels });
const question = fc.record({ protocol, port: fc.constantFrom(79, 80, 81, 82) });

function podManifest({ namespace, name, labels: own, ip, ports }: NaivePod): Json {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: own },
    spec: { containers: [{ ports }] },
    status: { podIP: ip },
  };
}

function manifests(list: readonly Np[], all: readonly NaivePod[], spaces: Record<string, Labels>): Json[] {
  return [
    ...Object.entries(spaces).map(([name, own]) => ({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels: own },
    })),
    ...all.map(podManifest),
    ...list.map((policy) => ({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', ...policy })),
  ];
}

/** The verdicts over all pairs of pods, as text. */
function table(resources: readonly Json[], all: readonly NaivePod[], asked: Json): string[] {
  const world = buildWorld(resources.map((resource) => parseResource(resource)));
  const out: string[] = [];
  for (const from of all) {
    for (const to of all) {
      const raw = {
        from: { pod: `${from.namespace}/${from.name}` },
        to: { pod: `${to.namespace}/${to.name}` },
        ...asked,
      };
      const flow = parseFlow(raw, 'flow', new Problems());
      assert.ok(flow);
      out.push(`${from.name} ${to.name} ${evaluate(world, flow).verdict}`);
    }
  }
  return out;
}

test('agrees with a naive evaluator of NetworkPolicy', () => {
  fc.assert(
    fc.property(policies, pods, namespaces, question, (list, all, spaces, asked) => {
      const expected = all.flatMap((from) =>
        all.map((to) => `${from.name} ${to.name} ${naive(list, spaces, { from, to, ...asked }) ? 'allow' : 'deny'}`),
      );
      assert.deepEqual(table(manifests(list, all, spaces), all, asked), expected);
    }),
    { numRuns: 400 },
  );
});

test('another rule in a NetworkPolicy never takes reachability away', () => {
  fc.assert(
    fc.property(policies, pods, namespaces, question, ingressRule, fc.nat(), (list, all, spaces, asked, rule, pick) => {
      fc.pre(list.length > 0);
      const before = table(manifests(list, all, spaces), all, asked);
      const chosen = pick % list.length;
      const wider = list.map((policy, i) => {
        if (i !== chosen) return policy;
        return { ...policy, spec: { ...policy.spec, ingress: [...(policy.spec.ingress ?? []), rule] } };
      });
      const after = table(manifests(wider, all, spaces), all, asked);
      before.forEach((line, i) => {
        if (line.endsWith('allow')) assert.equal(after[i], line);
      });
    }),
    { numRuns: 100 },
  );
});

test('consistent renaming of labels changes no verdict', () => {
  const rename = (text: string): string =>
    ({ app: 'role', tier: 'z.example/zone', a: 'x1', b: 'x2', c: 'x3' })[text] ?? text;
  const through = (value: unknown): unknown => {
    if (typeof value === 'string') return rename(value);
    if (Array.isArray(value)) return value.map(through);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [rename(key), through(inner)]));
  };
  fc.assert(
    fc.property(policies, pods, namespaces, question, (list, all, spaces, asked) => {
      const renamed = all.map((pod) => ({ ...pod, labels: through(pod.labels) as Labels }));
      const again = manifests(through(list) as Np[], renamed, through(spaces) as Record<string, Labels>);
      assert.deepEqual(table(again, renamed, asked), table(manifests(list, all, spaces), all, asked));
    }),
    { numRuns: 100 },
  );
});

// ---- worlds with policies of every kind ----

/** Generated rules can contradict themselves; such resources never get into a world. */
function readWorld(resources: readonly RawResource[]): World {
  return buildWorld(
    resources.flatMap((resource) => {
      try {
        return [parseResource(resource)];
      } catch (error) {
        if (isBrindleError(error, 'invalid-resource')) return [];
        throw error;
      }
    }),
  );
}

/** null: the world does not know who is asked about. */
function ask(world: World, raw: RawFlow): FlowResult | null {
  const flow = parseFlow(raw, 'flow', new Problems());
  assert.ok(flow, JSON.stringify(raw));
  try {
    return evaluate(world, flow);
  } catch (error) {
    if (isBrindleError(error, 'invalid-argument')) return null;
    throw error;
  }
}

const randomFlows = fc.array(randomFlow, { minLength: 1, maxLength: 6 });

test('the order of resources does not matter', () => {
  fc.assert(
    fc.property(randomWorld, randomFlows, fc.infiniteStream(fc.nat()), (resources, flows, stream) => {
      const keyed = resources.map((resource) => ({ resource, key: stream.next().value as number }));
      const shuffled = keyed.sort((a, b) => a.key - b.key).map(({ resource }) => resource);
      const verdicts = (world: World): string[] => flows.map((flow) => JSON.stringify(ask(world, flow)));
      assert.deepEqual(verdicts(readWorld(shuffled)), verdicts(readWorld(resources)));
    }),
    { numRuns: 150 },
  );
});

test('the quick decision and the trace agree', () => {
  fc.assert(
    fc.property(randomWorld, randomFlows, (resources, flows) => {
      const world = readWorld(resources);
      for (const flow of flows) {
        const result = ask(world, flow);
        for (const side of [result?.egress, result?.ingress]) {
          if (!side) continue;
          const last = side.trace.at(-1);
          assert.equal(last?.action, side.verdict === 'allow' ? 'Allow' : 'Deny', JSON.stringify(side.trace, null, 1));
          assert.equal(last?.matched, true);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('lint says nothing of a rule that decides', () => {
  fc.assert(
    fc.property(randomWorld, randomFlows, (resources, flows) => {
      const world = readWorld(resources);
      const never = new Set(
        lint(world)
          .filter(({ kind }) => kind === 'shadowed' || kind === 'selects-nothing')
          .map(({ resource, field }) => `${resource} ${field}`),
      );
      for (const flow of flows) {
        const result = ask(world, flow);
        for (const step of [result?.egress, result?.ingress].flatMap((side) => side?.trace ?? [])) {
          if (!step.matched || step.policy === null || step.action === 'Log') continue;
          for (const field of ['spec', `spec.${step.direction}`, `spec.${step.direction}[${step.rule}]`]) {
            // Kubernetes' rules have no order: one inside a later one may match first.
            if (step.policy.includes('Kubernetes') || step.policy.includes('.k8s.io')) continue;
            assert.ok(!never.has(`${step.policy} ${field}`), `${step.policy} ${field}`);
          }
        }
      }
    }),
    { numRuns: 200 },
  );
});
