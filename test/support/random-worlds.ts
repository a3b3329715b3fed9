// Random worlds of policy for property tests: few names and labels, so that rules often meet, and every kind of match that
// rules know. Out: fast-check arbitraries of resources (as people write them) and flows.
import fc from 'fast-check';
import type { RawFlow, RawResource } from './scenarios.ts';

const NAMESPACES = ['x', 'y'];
const PODS = ['a', 'b', 'c'];
const OUTSIDE = ['203.0.113.9', '198.51.100.7', '2001:db8::9'];
const PORTS = [80, 81, 443];
const CIDRS_V4 = ['10.65.1.0/24', '10.65.1.2/32', '203.0.113.0/24', '10.0.0.0/8'];
const CIDRS_V6 = ['fd00:65:1::/64', '2001:db8::/32', 'fd00:65:2::1/128'];
const SELECTORS = [
  'all()',
  "app == 'web'",
  "app != 'web'",
  "app in {'web', 'db'}",
  'has(role)',
  '!has(role)',
  "app == 'web' && role == 'x'",
  "app == 'db' || has(role)",
  "app starts with 'w'",
];
const NAMESPACE_SELECTORS = ['all()', "team == 'red'", "team != 'red'", "projectcalico.org/name == 'x'"];

const labels = fc.record(
  { app: fc.constantFrom('web', 'db', 'job'), role: fc.constantFrom('x', 'y') },
  { requiredKeys: [] },
);
const some = <T>(values: readonly T[], max = 2): fc.Arbitrary<T[]> =>
  fc.uniqueArray(fc.constantFrom(...values), { minLength: 1, maxLength: max });
const optional = <T>(arbitrary: fc.Arbitrary<T>, frequency = 3): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined, freq: frequency });
const nets = fc.oneof(some(CIDRS_V4), some(CIDRS_V6));

function address(namespace: number, pod: number): { ip: string }[] {
  return [{ ip: `10.65.${namespace + 1}.${pod + 1}` }, { ip: `fd00:65:${namespace + 1}::${pod + 1}` }];
}

const pods: fc.Arbitrary<RawResource[]> = fc
  .tuple(
    ...NAMESPACES.flatMap(() =>
      PODS.map(() => fc.record({ labels, named: fc.constantFrom(80, 81), present: fc.boolean() })),
    ),
  )
  .map((drawn) =>
    drawn.flatMap(({ labels: own, named, present }, i): RawResource[] => {
      const namespace = Math.floor(i / PODS.length);
      const pod = i % PODS.length;
      if (!present && pod > 0) return [];
      const podIPs = address(namespace, pod);
      return [
        {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: PODS[pod]!, namespace: NAMESPACES[namespace]!, labels: own },
          spec: {
            nodeName: 'node-1',
            serviceAccountName: pod === 0 ? 'robot' : 'default',
            containers: [
              {
                name: 'c',
                ports: [
                  { name: 'web', containerPort: named, protocol: 'TCP' },
                  { name: 'dns', containerPort: 443, protocol: 'UDP' },
                ],
              },
            ],
          },
          status: { phase: 'Running', podIP: podIPs[0]!.ip, podIPs },
        },
      ];
    }),
  );

const namespaces: fc.Arbitrary<RawResource[]> = fc
  .tuple(...NAMESPACES.map(() => fc.constantFrom('red', 'blue')))
  .map((teams) =>
    teams.map((team, i) => ({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: NAMESPACES[i]!, labels: { team } },
    })),
  );

const serviceAccounts: RawResource[] = NAMESPACES.map((namespace) => ({
  apiVersion: 'v1',
  kind: 'ServiceAccount',
  metadata: { name: 'robot', namespace, labels: { kind: 'machine' } },
}));

/** One side of a Calico rule; `ports` only where the rule has a protocol with ports. */
function entity(withPorts: boolean): fc.Arbitrary<object> {
  const ports = fc.uniqueArray(fc.constantFrom<number | string>(...PORTS, '80:81', 'web', 'dns', '1024:65535'), {
    minLength: 1,
    maxLength: 2,
  });
  return fc
    .record({
      nets: optional(nets, 4),
      notNets: optional(nets, 6),
      selector: optional(fc.constantFrom(...SELECTORS), 2),
      notSelector: optional(fc.constantFrom(...SELECTORS.slice(1)), 5),
      namespaceSelector: optional(fc.constantFrom(...NAMESPACE_SELECTORS), 5),
      serviceAccounts: optional(fc.constantFrom({ names: ['robot'] }, { selector: "kind == 'machine'" }), 8),
      ...(withPorts ? { ports: optional(ports, 2), notPorts: optional(ports, 6) } : {}),
    })
    .map((drawn) => {
      const out = strip(drawn);
      // CIDRs of both families in one rule are refused.
      const first = (out['nets'] as string[] | undefined)?.[0];
      const other = (out['notNets'] as string[] | undefined)?.[0];
      if (first && other && first.includes(':') !== other.includes(':')) delete out['notNets'];
      return out;
    });
}

const calicoRule = fc
  .record({
    action: fc.constantFrom('Allow', 'Allow', 'Allow', 'Deny', 'Deny', 'Pass', 'Log'),
    match: fc.oneof(
      fc.record({
        protocol: fc.constantFrom<string | number>('TCP', 'UDP', 'SCTP', 6),
        source: entity(true),
        destination: entity(true),
      }),
      fc.record({
        protocol: fc.constant('ICMP'),
        icmp: optional(fc.constantFrom({ type: 8 }, { type: 8, code: 0 }, { type: 3 })),
        source: entity(false),
      }),
      fc.record({ source: entity(false), destination: entity(false) }),
      fc.record({ notProtocol: fc.constantFrom('TCP', 'UDP'), source: entity(false) }),
      fc.record({ ipVersion: fc.constantFrom(4, 6), source: entity(false), destination: entity(false) }),
    ),
  })
  .filter(({ match }) => oneFamily(match as { source?: object; destination?: object }))
  .map(({ action, match }) => ({ action, ...strip(match) }));

const directions = fc
  .record({
    types: fc.constantFrom<string[] | undefined>(undefined, ['Ingress'], ['Egress'], ['Ingress', 'Egress']),
    ingress: fc.array(calicoRule, { maxLength: 3 }),
    egress: fc.array(calicoRule, { maxLength: 3 }),
  })
  .map(({ types, ingress, egress }) => ({
    ...(types && { types }),
    ...((!types || types.includes('Ingress')) && ingress.length > 0 && { ingress }),
    ...((!types || types.includes('Egress')) && egress.length > 0 && { egress }),
  }));

const placed = fc.record({
  tier: fc.constantFrom('default', 'default', 'first', 'last', 'nobody-made-it'),
  order: optional(fc.constantFrom(1, 2, 3), 3),
  selector: optional(fc.constantFrom(...SELECTORS), 2),
});

const calicoPolicy: fc.Arbitrary<RawResource> = fc
  .record({
    kind: fc.constantFrom('NetworkPolicy', 'NetworkPolicy', 'StagedNetworkPolicy'),
    name: fc.constantFrom('p', 'q', 'r'),
    namespace: fc.constantFrom(...NAMESPACES),
    placed,
    directions,
  })
  .map(({ kind, name, namespace, placed: where, directions: rules }) => ({
    apiVersion: 'projectcalico.org/v3',
    kind,
    metadata: { name: `${where.tier}.${name}`, namespace },
    spec: { ...strip(where), ...rules },
  }));

const globalPolicy: fc.Arbitrary<RawResource> = fc
  .record({
    name: fc.constantFrom('g', 'h'),
    placed,
    directions,
    namespaceSelector: optional(fc.constantFrom(...NAMESPACE_SELECTORS, 'global()'), 3),
    serviceAccountSelector: optional(fc.constantFrom('all()', "kind == 'machine'"), 6),
  })
  .map(({ name, placed: where, directions: rules, ...scope }) => ({
    apiVersion: 'projectcalico.org/v3',
    kind: 'GlobalNetworkPolicy',
    metadata: { name: `${where.tier}.${name}` },
    spec: { ...strip(where), ...strip(scope), ...rules },
  }));

const labelSelector = fc.oneof(
  fc.constant({}),
  fc.constantFrom('web', 'db').map((app) => ({ matchLabels: { app } })),
  fc
    .constantFrom('In', 'NotIn')
    .map((operator) => ({ matchExpressions: [{ key: 'app', operator, values: ['web', 'job'] }] })),
  fc.constantFrom('Exists', 'DoesNotExist').map((operator) => ({ matchExpressions: [{ key: 'role', operator }] })),
);
const teamSelector = fc.constantFrom<object>(
  {},
  { matchLabels: { team: 'red' } },
  { matchLabels: { 'kubernetes.io/metadata.name': 'y' } },
);
const kubernetesPeer = fc.oneof(
  labelSelector.map((podSelector) => ({ podSelector })),
  teamSelector.map((namespaceSelector) => ({ namespaceSelector })),
  fc.tuple(labelSelector, teamSelector).map(([podSelector, namespaceSelector]) => ({ podSelector, namespaceSelector })),
  fc.constantFrom(
    { ipBlock: { cidr: '10.65.0.0/16', except: ['10.65.1.0/24'] } },
    { ipBlock: { cidr: '203.0.113.0/24' } },
    { ipBlock: { cidr: '::/0', except: ['fd00:65:2::/64'] } },
  ),
);
const kubernetesPort = fc.oneof(
  fc.constantFrom<object>({}, { protocol: 'UDP' }, { port: 'web' }, { port: 'dns', protocol: 'UDP' }, { port: 'dns' }),
  fc.constantFrom(...PORTS).map((port) => ({ port, protocol: 'TCP' })),
  fc.constant({ port: 80, endPort: 443, protocol: 'TCP' }),
);
const kubernetesPolicy: fc.Arbitrary<RawResource> = fc
  .record({
    name: fc.constantFrom('k', 'l', 'm'),
    namespace: fc.constantFrom(...NAMESPACES),
    podSelector: labelSelector,
    policyTypes: fc.constantFrom(undefined, ['Ingress'], ['Egress'], ['Ingress', 'Egress']),
    ingress: fc.array(
      fc.record({
        from: fc.array(kubernetesPeer, { maxLength: 2 }),
        ports: fc.array(kubernetesPort, { maxLength: 2 }),
      }),
      { maxLength: 2 },
    ),
    egress: fc.array(
      fc.record({ to: fc.array(kubernetesPeer, { maxLength: 2 }), ports: fc.array(kubernetesPort, { maxLength: 2 }) }),
      { maxLength: 2 },
    ),
  })
  .map(({ name, namespace, policyTypes, ...spec }) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace },
    spec: { ...spec, ...(policyTypes && { policyTypes }) },
  }));

const clusterPeer = fc.oneof(
  teamSelector.map((namespaces) => ({ namespaces })),
  fc
    .tuple(labelSelector, teamSelector)
    .map(([podSelector, namespaceSelector]) => ({ pods: { podSelector, namespaceSelector } })),
);
const clusterProtocol = fc.constantFrom(
  { tcp: { destinationPort: { number: 80 } } },
  { udp: { destinationPort: { range: { start: 80, end: 443 } } } },
  { destinationNamedPort: 'web' },
);
const clusterAction = fc.constantFrom('Accept', 'Deny', 'Pass');
const clusterPolicy: fc.Arbitrary<RawResource> = fc
  .record({
    name: fc.constantFrom('c', 'd'),
    tier: fc.constantFrom('Admin', 'Baseline'),
    subject: fc.oneof(
      teamSelector.map((namespaces) => ({ namespaces })),
      fc
        .tuple(labelSelector, teamSelector)
        .map(([podSelector, namespaceSelector]) => ({ pods: { podSelector, namespaceSelector } })),
    ),
    ingress: fc.array(
      fc.record({
        action: clusterAction,
        from: fc.array(clusterPeer, { minLength: 1, maxLength: 2 }),
        protocols: optional(fc.array(clusterProtocol, { minLength: 1, maxLength: 2 })),
      }),
      { maxLength: 2 },
    ),
    egress: fc.array(
      fc.record({
        action: clusterAction,
        to: fc.array(fc.oneof(clusterPeer, fc.constant({ networks: ['203.0.113.0/24', '10.65.2.0/24'] })), {
          minLength: 1,
          maxLength: 2,
        }),
        protocols: optional(fc.array(clusterProtocol, { minLength: 1, maxLength: 2 })),
      }),
      { maxLength: 2 },
    ),
  })
  .map(({ name, tier, subject, ingress, egress }) => ({
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: { name: `${tier.toLowerCase()}-${name}` },
    spec: {
      tier,
      // Equal priorities are in no order that anybody promises.
      priority: name === 'c' ? 1 : 2,
      subject,
      ...(ingress.length > 0 && { ingress: ingress.map(strip) }),
      ...(egress.length > 0 && { egress: egress.map(strip) }),
    },
  }));

const networkSet: fc.Arbitrary<RawResource> = fc
  .record({
    labels,
    nets: fc.oneof(some(CIDRS_V4), some(CIDRS_V6)),
    namespace: fc.constantFrom(undefined, ...NAMESPACES),
  })
  .map(({ labels: own, nets: members, namespace }) => ({
    apiVersion: 'projectcalico.org/v3',
    kind: namespace === undefined ? 'GlobalNetworkSet' : 'NetworkSet',
    metadata: { name: 'set', labels: own, ...(namespace !== undefined && { namespace }) },
    spec: { nets: members },
  }));

const tiers: RawResource[] = [
  { apiVersion: 'projectcalico.org/v3', kind: 'Tier', metadata: { name: 'first' }, spec: { order: 10 } },
  {
    apiVersion: 'projectcalico.org/v3',
    kind: 'Tier',
    metadata: { name: 'last' },
    spec: { order: 20_000_000, defaultAction: 'Pass' },
  },
];

/** A whole world; later resources of one name stand over earlier ones. */
export const randomWorld: fc.Arbitrary<RawResource[]> = fc
  .record({
    pods,
    namespaces,
    policies: fc.array(
      fc.oneof(calicoPolicy, calicoPolicy, globalPolicy, kubernetesPolicy, kubernetesPolicy, clusterPolicy),
      { maxLength: 6 },
    ),
    sets: fc.array(networkSet, { maxLength: 2 }),
  })
  .map((drawn) => {
    const all = [...drawn.namespaces, ...serviceAccounts, ...drawn.pods, ...tiers, ...drawn.sets, ...drawn.policies];
    return [
      ...new Map(
        all.map((r) => [`${r.apiVersion} ${r.kind} ${r.metadata.namespace ?? ''} ${r.metadata.name}`, r]),
      ).values(),
    ];
  });

/** Flows between the pods that may exist and addresses outside; the caller leaves out those whose pod does not. */
export const randomFlow: fc.Arbitrary<RawFlow> = fc
  .record({
    from: end(),
    to: end(),
    transport: fc.oneof(
      fc.record({
        protocol: fc.constantFrom('TCP', 'UDP', 'SCTP'),
        port: fc.constantFrom(...PORTS, 8080),
        sourcePort: fc.constantFrom(undefined, 80, 5000),
      }),
      fc.record({ protocol: fc.constant('ICMP'), icmpType: fc.constantFrom(undefined, 8, 3) }),
    ),
  })
  .map(({ from, to, transport }) => ({ from, to, ...strip(transport) }) as unknown as RawFlow);

function end(): fc.Arbitrary<RawFlow['from']> {
  return fc.oneof(
    {
      weight: 4,
      arbitrary: fc
        .tuple(fc.constantFrom(...NAMESPACES), fc.constantFrom(...PODS))
        .map(([ns, pod]) => ({ pod: `${ns}/${pod}` })),
    },
    { weight: 1, arbitrary: fc.constantFrom(...OUTSIDE).map((ip) => ({ ip })) },
  );
}

function strip(value: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined));
}

function oneFamily(match: { readonly source?: object; readonly destination?: object }): boolean {
  const all = [match.source, match.destination].flatMap((side) => {
    const { nets: positive = [], notNets = [] } = (side ?? {}) as { nets?: string[]; notNets?: string[] };
    return [...positive, ...notNets];
  });
  return new Set(all.map((net) => net.includes(':'))).size <= 1;
}
