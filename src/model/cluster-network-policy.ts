// ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2): policies of the cluster's administrator above and below NetworkPolicy.
// Trap: a peer with no field that we know is not an error. It comes from a newer version of the API, and the rule then fails
// closed (policy/convert), so peers are open objects here. `networks` in an ingress peer counts as such a field.
import { defineKind } from './kind.ts';
import { checkLabelSelector, LabelSelector } from './label-selector.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { Int, OneOf, Open, type Static, Text, Type } from './schema.ts';

const NamespacedPods = Type.Object({
  namespaceSelector: Type.Optional(LabelSelector),
  podSelector: LabelSelector,
});
export type NamespacedPods = Static<typeof NamespacedPods>;

const IngressPeer = Open({
  namespaces: Type.Optional(LabelSelector),
  pods: Type.Optional(NamespacedPods),
});
const EgressPeer = Open({
  namespaces: Type.Optional(LabelSelector),
  pods: Type.Optional(NamespacedPods),
  nodes: Type.Optional(LabelSelector),
  networks: Type.Optional(Type.Array(Text('cidr'), { minItems: 1, maxItems: 25 })),
});
export type ClusterPeer = Static<typeof EgressPeer>;

const PortSpec = Type.Object({
  number: Type.Optional(Int(1, 65_535)),
  range: Type.Optional(Type.Object({ start: Int(1, 65_535), end: Int(1, 65_535) })),
});
const WithPort = Type.Object({ destinationPort: Type.Optional(PortSpec) });
const Protocol = Type.Object({
  tcp: Type.Optional(WithPort),
  udp: Type.Optional(WithPort),
  sctp: Type.Optional(WithPort),
  destinationNamedPort: Type.Optional(Type.String({ minLength: 1 })),
});
export type ClusterProtocol = Static<typeof Protocol>;

const rule = {
  name: Type.Optional(Type.String({ maxLength: 100 })),
  action: OneOf(['Accept', 'Deny', 'Pass']),
  protocols: Type.Optional(Type.Array(Protocol, { minItems: 1, maxItems: 25 })),
};
const IngressRule = Type.Object({ ...rule, from: Type.Array(IngressPeer, { minItems: 1, maxItems: 25 }) });
const EgressRule = Type.Object({ ...rule, to: Type.Array(EgressPeer, { minItems: 1, maxItems: 25 }) });

export const ClusterNetworkPolicySpec = Type.Object({
  tier: OneOf(['Admin', 'Baseline']),
  priority: Int(0, 1000, 'Lower comes first within the tier'),
  subject: Type.Object({ namespaces: Type.Optional(LabelSelector), pods: Type.Optional(NamespacedPods) }),
  ingress: Type.Optional(Type.Array(IngressRule, { maxItems: 25 })),
  egress: Type.Optional(Type.Array(EgressRule, { maxItems: 25 })),
});
export type ClusterNetworkPolicySpec = Static<typeof ClusterNetworkPolicySpec>;
export type ClusterNetworkPolicy = Resource<ClusterNetworkPolicySpec>;

/** Fields that select by label, of a subject or a peer. */
function checkSelectors(
  value: { namespaces?: LabelSelector; pods?: NamespacedPods; nodes?: LabelSelector },
  path: string,
  problems: Problems,
): void {
  checkLabelSelector(value.namespaces, `${path}.namespaces`, problems);
  checkLabelSelector(value.nodes, `${path}.nodes`, problems);
  checkLabelSelector(value.pods?.namespaceSelector, `${path}.pods.namespaceSelector`, problems);
  checkLabelSelector(value.pods?.podSelector, `${path}.pods.podSelector`, problems);
}

function count(value: object, fields: readonly string[]): number {
  return fields.filter((field) => (value as Record<string, unknown>)[field] !== undefined).length;
}

function checkProtocol(protocol: ClusterProtocol, path: string, problems: Problems): void {
  if (count(protocol, Object.keys(Protocol.properties)) !== 1) {
    problems.add(path, 'must name exactly one of tcp, udp, sctp and destinationNamedPort');
  }
  for (const field of ['tcp', 'udp', 'sctp'] as const) {
    const match = protocol[field];
    if (!match) continue;
    const port = match.destinationPort;
    if (!port) {
      problems.add(`${path}.${field}`, 'must not be empty', 'write destinationPort');
      continue;
    }
    const at = `${path}.${field}.destinationPort`;
    if (count(port, ['number', 'range']) !== 1) problems.add(at, 'must have exactly one of number and range');
    if (port.range && port.range.start >= port.range.end) {
      problems.add(`${at}.range`, `start ${port.range.start} must be below end ${port.range.end}`);
    }
  }
}

function validate({ spec }: ClusterNetworkPolicy, problems: Problems): void {
  if (count(spec.subject, ['namespaces', 'pods']) !== 1) {
    problems.add('spec.subject', 'must have exactly one of namespaces and pods');
  }
  checkSelectors(spec.subject, 'spec.subject', problems);
  const check = (
    path: string,
    rules: readonly { protocols?: ClusterProtocol[] }[],
    peers: (i: number) => readonly ClusterPeer[],
    peerField: string,
    known: readonly string[],
  ): void => {
    for (const [i, { protocols }] of rules.entries()) {
      for (const [n, peer] of peers(i).entries()) {
        const at = `${path}[${i}].${peerField}[${n}]`;
        if (count(peer, known) > 1) problems.add(at, `must have exactly one of ${known.join(', ')}`);
        checkSelectors(peer, at, problems);
        if (peerField === 'to' && peer.networks && new Set(peer.networks).size !== peer.networks.length) {
          problems.add(`${at}.networks`, 'names a network more than once');
        }
      }
      for (const [n, protocol] of (protocols ?? []).entries()) {
        checkProtocol(protocol, `${path}[${i}].protocols[${n}]`, problems);
      }
    }
  };
  const { ingress = [], egress = [] } = spec;
  check('spec.ingress', ingress, (i) => ingress[i]!.from, 'from', Object.keys(IngressPeer.properties));
  check('spec.egress', egress, (i) => egress[i]!.to, 'to', Object.keys(EgressPeer.properties));
}

export const clusterNetworkPolicy = defineKind({
  apiVersion: 'policy.networking.k8s.io/v1alpha2',
  kind: 'ClusterNetworkPolicy',
  plural: 'clusternetworkpolicies',
  singular: 'clusternetworkpolicy',
  shortNames: ['cnp'],
  namespaced: false,
  description: "The cluster administrator's policy, decided before or after NetworkPolicy.",
  spec: ClusterNetworkPolicySpec,
  validate,
  columns: [
    { title: 'TIER', value: ({ spec }) => spec.tier },
    { title: 'PRIORITY', value: ({ spec }) => String(spec.priority) },
  ],
});
