// Kubernetes' NetworkPolicy and ClusterNetworkPolicy to the one form. In: validated resources. Out: Policy.
// NetworkPolicy is namespaced policy of tier `default` at order 1000, so that the tier's end denies what no rule allowed, for the
// direction alone. ClusterNetworkPolicy goes to tiers kube-admin and kube-baseline, which end in Pass.
// Traps: a port without a protocol is TCP, a rule without ports is every protocol; a ClusterNetworkPolicy rule with a peer that has
// no known field fails closed: Accept matches nothing, Deny and Pass deny everything, whatever else the rule says.
import type { ClusterNetworkPolicy, ClusterPeer, ClusterProtocol } from '#model/cluster-network-policy.ts';
import type {
  KubernetesNetworkPolicy,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  StagedKubernetesNetworkPolicy,
} from '#model/kubernetes-network-policy.ts';
import { type PortMatch, PROTOCOL_NUMBERS } from '#model/port.ts';
import { keyOf, keyText } from '#model/resource.ts';
import { Prefix } from '#net/prefix.ts';
import {
  ANY,
  type Action,
  type Direction,
  type EntityMatch,
  type Policy,
  type PolicyRule,
  plainRule,
} from '../policy.ts';
import { Selector } from '../selector/selector.ts';
import { inNamespaceNode, labelSelectorNode, namespacesNode, podsNode, selectorOf } from './labels.ts';
import { oneFamily } from './rules.ts';

const KUBERNETES_ORDER = 1000;

/** What a rule says of the destination's port: one alternative. */
interface PortAlternative {
  readonly protocol: number | null;
  readonly ports: readonly PortMatch[];
}

const ANY_PORT: readonly PortAlternative[] = [{ protocol: null, ports: [] }];

/** Peers times ports, all with the index of the rule they came from. */
function product(
  direction: Direction,
  action: Action,
  index: number,
  name: string,
  peers: readonly EntityMatch[],
  alternatives: readonly PortAlternative[],
): PolicyRule[] {
  return alternatives.flatMap(({ protocol, ports }) =>
    peers.map((peer) => {
      const source = direction === 'ingress' ? peer : ANY;
      const destination = direction === 'ingress' ? { ...ANY, ports } : { ...peer, ports };
      const ipVersion = oneFamily(peer);
      return { ...plainRule(action, index), name, ipVersion, protocol, source, destination };
    }),
  );
}

/** A NetworkPolicy of Kubernetes, or a staged one. */
export function convertKubernetesPolicy(policy: KubernetesNetworkPolicy | StagedKubernetesNetworkPolicy): Policy {
  const { spec, metadata } = policy;
  const namespace = metadata.namespace ?? '';
  const staged = policy.kind === 'StagedKubernetesNetworkPolicy';
  const rules = (
    direction: Direction,
    list: readonly { peers: readonly NetworkPolicyPeer[] | undefined; ports?: readonly NetworkPolicyPort[] }[],
  ): PolicyRule[] =>
    list.flatMap(({ peers, ports }, index) => {
      const entities = peers?.length ? peers.map((peer) => convertPeer(peer, namespace)) : [ANY];
      return product(direction, 'allow', index, '', entities, ports?.length ? ports.map(convertPort) : ANY_PORT);
    });
  const { ingress = [], egress = [], policyTypes } = spec;
  const types = policyTypes?.length ? policyTypes : ['Ingress', ...(egress.length > 0 ? ['Egress'] : [])];
  const list = {
    ingress: ingress.map(({ from, ports = [] }) => ({ peers: from, ports })),
    egress: egress.map(({ to, ports = [] }) => ({ peers: to, ports })),
  };
  return {
    id: keyText(keyOf(policy)),
    kind: staged ? policy.kind : 'KubernetesNetworkPolicy',
    namespace,
    name: metadata.name,
    tier: 'default',
    order: KUBERNETES_ORDER,
    selector: selectorOf(inNamespaceNode(namespace), podsNode(spec.podSelector)),
    ingress: types.includes('Ingress') ? rules('ingress', list.ingress) : null,
    egress: types.includes('Egress') ? rules('egress', list.egress) : null,
    staged,
    applyOnForward: false,
    untracked: false,
    preDnat: false,
  };
}

function convertPeer({ podSelector, namespaceSelector, ipBlock }: NetworkPolicyPeer, namespace: string): EntityMatch {
  if (ipBlock) {
    return {
      ...ANY,
      nets: [Prefix.parse(ipBlock.cidr)],
      notNets: (ipBlock.except ?? []).map((except) => Prefix.parse(except)),
    };
  }
  const where = namespaceSelector ? namespacesNode(namespaceSelector) : inNamespaceNode(namespace);
  return { ...ANY, selector: selectorOf(where, podsNode(podSelector)) };
}

function convertPort({ protocol = 'TCP', port, endPort }: NetworkPolicyPort): PortAlternative {
  const number = PROTOCOL_NUMBERS[protocol]!;
  if (port === undefined) return { protocol: number, ports: [] };
  return { protocol: number, ports: [typeof port === 'string' ? port : { min: port, max: endPort ?? port }] };
}

const ACTIONS: Record<'Accept' | 'Deny' | 'Pass', Action> = { Accept: 'allow', Deny: 'deny', Pass: 'pass' };

export function convertClusterPolicy(policy: ClusterNetworkPolicy): Policy {
  const { spec, metadata } = policy;
  const { namespaces, pods } = spec.subject;
  const rules = (direction: Direction): PolicyRule[] | null => {
    const list =
      direction === 'ingress'
        ? (spec.ingress ?? []).map((rule) => ({ ...rule, peers: rule.from as readonly ClusterPeer[] }))
        : (spec.egress ?? []).map((rule) => ({ ...rule, peers: rule.to }));
    // No rules in a direction: the policy has nothing to say about it.
    if (list.length === 0) return null;
    return list.flatMap(({ action, name = '', peers, protocols }, index) => {
      const entities = peers.map((peer) => convertClusterPeer(peer, direction));
      if (entities.includes(null)) return action === 'Accept' ? [] : [{ ...plainRule('deny', index), name }];
      const alternatives = protocols ? protocols.map(convertProtocol) : ANY_PORT;
      return product(direction, ACTIONS[action], index, name, entities as EntityMatch[], alternatives);
    });
  };
  return {
    id: keyText(keyOf(policy)),
    kind: 'KubernetesClusterNetworkPolicy',
    namespace: '',
    name: metadata.name,
    tier: spec.tier === 'Admin' ? 'kube-admin' : 'kube-baseline',
    order: spec.priority,
    selector: pods
      ? selectorOf(namespacesNode(pods.namespaceSelector), podsNode(pods.podSelector))
      : selectorOf(namespacesNode(namespaces), podsNode(undefined)),
    ingress: rules('ingress'),
    egress: rules('egress'),
    staged: false,
    applyOnForward: false,
    untracked: false,
    preDnat: false,
  };
}

/** null: a peer with no field that we know. */
function convertClusterPeer(peer: ClusterPeer, direction: Direction): EntityMatch | null {
  const { namespaces, pods, nodes, networks } = peer;
  if (pods) return { ...ANY, selector: selectorOf(namespacesNode(pods.namespaceSelector), podsNode(pods.podSelector)) };
  if (namespaces) return { ...ANY, selector: selectorOf(namespacesNode(namespaces), podsNode(undefined)) };
  if (direction === 'ingress') return null;
  if (networks) return { ...ANY, nets: networks.map((network) => Prefix.parse(network)) };
  if (nodes) return { ...ANY, nodes: new Selector(labelSelectorNode(nodes)) };
  return null;
}

function convertProtocol(protocol: ClusterProtocol): PortAlternative {
  for (const [field, name] of Object.entries({ tcp: 'TCP', udp: 'UDP', sctp: 'SCTP' }) as ['tcp', string][]) {
    const port = protocol[field]?.destinationPort;
    if (!protocol[field]) continue;
    const { number, range } = port ?? {};
    let ports: PortMatch[] = [];
    if (number !== undefined) ports = [{ min: number, max: number }];
    else if (range) ports = [{ min: range.start, max: range.end }];
    return { protocol: PROTOCOL_NUMBERS[name]!, ports };
  }
  return { protocol: null, ports: [protocol.destinationNamedPort ?? ''] };
}
