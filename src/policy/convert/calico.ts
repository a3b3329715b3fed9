// Calico's policies and profiles to the one form. In: validated resources. Out: Policy or ProfileData.
// Rules (Calico): no types means Ingress, and Egress too when there are egress rules, but Egress alone when there are only those.
// `all()` in a global policy's namespaceSelector means in a namespace, in its serviceAccountSelector with a service account;
// as in Calico that holds for an `all()` of the policy's own selector beside them too.
import type { GlobalNetworkPolicy, StagedGlobalNetworkPolicy } from '#model/global-network-policy.ts';
import type { NetworkPolicy, StagedNetworkPolicy } from '#model/network-policy.ts';
import type { Profile } from '#model/profile.ts';
import { keyOf, keyText } from '#model/resource.ts';
import { ALL_NODE, type SelectorNode } from '../selector/ast.ts';
import type { Policy, PolicyRule, ProfileData } from '../policy.ts';
import {
  allOf,
  IN_NAMESPACE,
  inNamespaceNode,
  NAMESPACE_PREFIX,
  parseNode,
  prefixed,
  replaceAll,
  selectorOf,
  SERVICE_ACCOUNT_LABEL,
  SERVICE_ACCOUNT_PREFIX,
} from './labels.ts';
import { convertRules } from './rules.ts';

interface RuleSpec {
  readonly types?: readonly ('Ingress' | 'Egress')[];
  readonly ingress?: NetworkPolicy['spec']['ingress'];
  readonly egress?: NetworkPolicy['spec']['egress'];
}

/** The rules of each direction; null where the policy does not govern it. */
function directions(spec: RuleSpec, namespace: string): Pick<Policy, 'ingress' | 'egress'> {
  const { ingress = [], egress = [] } = spec;
  let types: readonly string[] = spec.types ?? [];
  if (types.length === 0) {
    if (egress.length === 0) types = ['Ingress'];
    else types = ingress.length === 0 ? ['Egress'] : ['Ingress', 'Egress'];
  }
  const of = (type: string, rules: typeof ingress): PolicyRule[] | null =>
    types.includes(type) ? convertRules(rules, namespace) : null;
  return { ingress: of('Ingress', ingress), egress: of('Egress', egress) };
}

/** A NetworkPolicy, or a staged one. */
export function convertNetworkPolicy(policy: NetworkPolicy | StagedNetworkPolicy): Policy {
  const { spec, metadata } = policy;
  const namespace = metadata.namespace ?? '';
  const parts = [inNamespaceNode(namespace)];
  if (spec.selector) parts.push(parseNode(spec.selector));
  if (spec.serviceAccountSelector) parts.push(prefixed(parseNode(spec.serviceAccountSelector), SERVICE_ACCOUNT_PREFIX));
  return {
    id: keyText(keyOf(policy)),
    kind: policy.kind,
    namespace,
    name: metadata.name,
    tier: spec.tier,
    order: spec.order ?? null,
    selector: selectorOf(...parts),
    ...directions(spec, namespace),
    staged: policy.kind === 'StagedNetworkPolicy',
    applyOnForward: false,
    untracked: false,
    preDnat: false,
  };
}

/** A GlobalNetworkPolicy, or a staged one. */
export function convertGlobalNetworkPolicy(policy: GlobalNetworkPolicy | StagedGlobalNetworkPolicy): Policy {
  const { spec, metadata } = policy;
  let node: SelectorNode = spec.selector ? parseNode(spec.selector) : ALL_NODE;
  const own = Boolean(spec.selector);
  if (spec.namespaceSelector) {
    const inNamespaces = replaceAll(prefixed(parseNode(spec.namespaceSelector), NAMESPACE_PREFIX), IN_NAMESPACE);
    node = own ? allOf([replaceAll(node, IN_NAMESPACE), inNamespaces]) : inNamespaces;
  }
  if (spec.serviceAccountSelector) {
    const hasAccount: SelectorNode = { op: 'has', label: SERVICE_ACCOUNT_LABEL };
    const accounts = replaceAll(prefixed(parseNode(spec.serviceAccountSelector), SERVICE_ACCOUNT_PREFIX), hasAccount);
    node = own || spec.namespaceSelector ? allOf([replaceAll(node, hasAccount), accounts]) : accounts;
  }
  return {
    id: keyText(keyOf(policy)),
    kind: policy.kind,
    namespace: '',
    name: metadata.name,
    tier: spec.tier,
    order: spec.order ?? null,
    selector: selectorOf(node),
    ...directions(spec, ''),
    staged: policy.kind === 'StagedGlobalNetworkPolicy',
    applyOnForward: spec.applyOnForward ?? false,
    untracked: spec.doNotTrack ?? false,
    preDnat: spec.preDNAT ?? false,
  };
}

export function convertProfile(profile: Profile): ProfileData {
  const { spec, metadata } = profile;
  return {
    id: metadata.name,
    labels: spec.labelsToApply ?? {},
    ingress: convertRules(spec.ingress ?? [], ''),
    egress: convertRules(spec.egress ?? [], ''),
  };
}
