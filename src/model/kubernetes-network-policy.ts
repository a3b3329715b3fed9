// Kubernetes' NetworkPolicy (networking.k8s.io/v1), and Calico's StagedKubernetesNetworkPolicy of the same form.
// What the API server accepts is accepted: host bits in a CIDR, any number of rules, `podSelector: null`. What it refuses is
// refused, because such a policy cannot exist. Spec: k8s.io/api networking/v1 and its validation.
import { Prefix } from '#net/prefix.ts';
import { defineKind } from './kind.ts';
import { checkLabelSelector, LabelSelector } from './label-selector.ts';
import { warnIgnoredRules } from './policy-rule.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { checkStagedDelete, StagedAction } from './staged.ts';
import { Int, IntOrText, OneOf, type Static, Text, Type } from './schema.ts';

export const NetworkPolicyPort = Type.Object({
  protocol: Type.Optional(OneOf(['TCP', 'UDP', 'SCTP'])),
  port: Type.Optional(IntOrText()),
  endPort: Type.Optional(Int(1, 65_535)),
});
export type NetworkPolicyPort = Static<typeof NetworkPolicyPort>;

export const NetworkPolicyPeer = Type.Object({
  podSelector: Type.Optional(LabelSelector),
  namespaceSelector: Type.Optional(LabelSelector),
  ipBlock: Type.Optional(Type.Object({ cidr: Text('cidr'), except: Type.Optional(Type.Array(Text('cidr'))) })),
});
export type NetworkPolicyPeer = Static<typeof NetworkPolicyPeer>;

const Ports = Type.Optional(Type.Array(NetworkPolicyPort));
const Peers = Type.Optional(Type.Array(NetworkPolicyPeer));

const fields = {
  podSelector: Type.Optional(LabelSelector),
  policyTypes: Type.Optional(Type.Array(OneOf(['Ingress', 'Egress']), { maxItems: 2 })),
  ingress: Type.Optional(Type.Array(Type.Object({ from: Peers, ports: Ports }))),
  egress: Type.Optional(Type.Array(Type.Object({ to: Peers, ports: Ports }))),
};

export const KubernetesNetworkPolicySpec = Type.Object(fields);
export type KubernetesNetworkPolicySpec = Static<typeof KubernetesNetworkPolicySpec>;
export type KubernetesNetworkPolicy = Resource<KubernetesNetworkPolicySpec>;

export const StagedKubernetesNetworkPolicySpec = Type.Object({ ...fields, stagedAction: StagedAction });
export type StagedKubernetesNetworkPolicySpec = Static<typeof StagedKubernetesNetworkPolicySpec>;
export type StagedKubernetesNetworkPolicy = Resource<StagedKubernetesNetworkPolicySpec>;

/** Whether a text may be the name of a container's port: IANA service name syntax, at most 15 characters (RFC 6335 5.1). */
export function isPortName(text: string): boolean {
  return text.length <= 15 && /^[a-z0-9]+(-[a-z0-9]+)*$/.test(text) && /[a-z]/.test(text);
}

function validate({ spec }: KubernetesNetworkPolicy, problems: Problems): void {
  checkLabelSelector(spec.podSelector, 'spec.podSelector', problems);
  for (const [i, rule] of (spec.ingress ?? []).entries()) {
    for (const [n, port] of (rule.ports ?? []).entries()) checkPort(port, `spec.ingress[${i}].ports[${n}]`, problems);
    for (const [n, peer] of (rule.from ?? []).entries()) checkPeer(peer, `spec.ingress[${i}].from[${n}]`, problems);
  }
  for (const [i, rule] of (spec.egress ?? []).entries()) {
    for (const [n, port] of (rule.ports ?? []).entries()) checkPort(port, `spec.egress[${i}].ports[${n}]`, problems);
    for (const [n, peer] of (rule.to ?? []).entries()) checkPeer(peer, `spec.egress[${i}].to[${n}]`, problems);
  }
}

function checkPort({ port, endPort }: NetworkPolicyPort, path: string, problems: Problems): void {
  if (typeof port === 'number' && (!Number.isInteger(port) || port < 1 || port > 65_535)) {
    problems.add(`${path}.port`, `${port} is out of range`, 'write 1 to 65535');
  }
  if (typeof port === 'string' && !isPortName(port)) {
    problems.add(
      `${path}.port`,
      `"${port}" is not the name of a port: at most 15 lower case letters, digits and single "-", with a letter`,
      /^\d+$/.test(port) ? 'leave out the quotes' : undefined,
    );
  }
  if (endPort === undefined) return;
  if (typeof port !== 'number') problems.add(`${path}.endPort`, 'needs a port number in port');
  else if (endPort < port) problems.add(`${path}.endPort`, `${endPort} is below port ${port}`);
}

function checkPeer(peer: NetworkPolicyPeer, path: string, problems: Problems): void {
  const { podSelector, namespaceSelector, ipBlock } = peer;
  checkLabelSelector(podSelector, `${path}.podSelector`, problems);
  checkLabelSelector(namespaceSelector, `${path}.namespaceSelector`, problems);
  if (!podSelector && !namespaceSelector && !ipBlock) {
    problems.add(path, 'names no peer', 'write podSelector, namespaceSelector or ipBlock');
  }
  if (!ipBlock) return;
  if (podSelector || namespaceSelector) {
    problems.add(`${path}.ipBlock`, 'cannot be combined with selectors', 'write two peers');
  }
  const block = Prefix.parse(ipBlock.cidr);
  for (const [i, text] of (ipBlock.except ?? []).entries()) {
    const except = Prefix.parse(text);
    if (!block.covers(except) || except.length === block.length) {
      problems.add(`${path}.ipBlock.except[${i}]`, `${text} does not lie inside ${ipBlock.cidr}`);
    }
  }
}

export const kubernetesNetworkPolicy = defineKind({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  singular: 'networkpolicy',
  shortNames: ['netpol', 'knp'],
  namespaced: true,
  description: "Kubernetes' policy: what traffic the pods of a namespace are allowed.",
  spec: KubernetesNetworkPolicySpec,
  specOptional: true,
  validate,
  warn: ({ spec }, warnings) => warnIgnoredRules(spec, spec.policyTypes, 'policyTypes', warnings),
  columns: [
    {
      title: 'PODS',
      value: ({ spec }) =>
        Object.entries(spec.podSelector?.matchLabels ?? {})
          .map(([key, value]) => `${key}=${value}`)
          .join(','),
    },
  ],
});

export const stagedKubernetesNetworkPolicy = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'StagedKubernetesNetworkPolicy',
  plural: 'stagedkubernetesnetworkpolicies',
  singular: 'stagedkubernetesnetworkpolicy',
  shortNames: ['sknp'],
  namespaced: true,
  description: 'A Kubernetes NetworkPolicy that is only counted, not enforced.',
  spec: StagedKubernetesNetworkPolicySpec,
  specOptional: true,
  validate: (policy, problems) => {
    checkStagedDelete(policy.spec, problems);
    validate(policy, problems);
  },
});
