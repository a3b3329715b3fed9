// Labels that are worked out, and selectors over them. In: Kubernetes label selectors and Calico's namespace and service
// account selectors. Out: selectors over the labels an endpoint has or inherits.
// Rules (Calico): a namespace's labels are inherited under `pcns.`, a service account's under `pcsa.`; both are given a label with
// their own name. An endpoint's own labels cannot begin so.
import type { LabelSelector } from '#model/label-selector.ts';
import { ALL_NODE, inNode, joinNode, type SelectorNode } from '../selector/ast.ts';
import { parseSelector, Selector } from '../selector/selector.ts';

export const NAMESPACE_LABEL = 'projectcalico.org/namespace';
export const ORCHESTRATOR_LABEL = 'projectcalico.org/orchestrator';
export const SERVICE_ACCOUNT_LABEL = 'projectcalico.org/serviceaccount';
export const NAME_LABEL = 'projectcalico.org/name';
export const NAMESPACE_PREFIX = 'pcns.';
export const SERVICE_ACCOUNT_PREFIX = 'pcsa.';
/** On every namespace of Kubernetes, whether or not its manifest says so. */
export const METADATA_NAME_LABEL = 'kubernetes.io/metadata.name';

/** Profile of a namespace. */
export function namespaceProfile(namespace: string): string {
  return `kns.${namespace}`;
}

/** Profile of a service account. */
export function serviceAccountProfile(namespace: string, name: string): string {
  return `ksa.${namespace}.${name}`;
}

/** The labels without those that only inheritance may give. */
export function ownLabels(labels: Readonly<Record<string, string>> | undefined): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels ?? {}).filter(
      ([key]) => !key.startsWith(NAMESPACE_PREFIX) && !key.startsWith(SERVICE_ACCOUNT_PREFIX),
    ),
  );
}

export const IN_NAMESPACE: SelectorNode = { op: 'has', label: NAMESPACE_LABEL };
const IS_POD: SelectorNode = { op: '==', label: ORCHESTRATOR_LABEL, value: 'k8s' };

export function inNamespaceNode(namespace: string): SelectorNode {
  return { op: '==', label: NAMESPACE_LABEL, value: namespace };
}

export function parseNode(text: string): SelectorNode {
  return parseSelector(text).node;
}

/** Every node of the tree through `change`, leaves and all. */
export function mapLeaves(node: SelectorNode, change: (leaf: SelectorNode) => SelectorNode): SelectorNode {
  switch (node.op) {
    case 'not': {
      const operand = mapLeaves(node.operand, change);
      return operand.op === 'not' ? operand.operand : { op: 'not', operand };
    }
    case 'and':
    case 'or':
      return { op: node.op, operands: node.operands.map((operand) => mapLeaves(operand, change)) };
    default:
      return change(node);
  }
}

/** Label names with a prefix; `all()` and `global()` as they are. */
export function prefixed(node: SelectorNode, prefix: string): SelectorNode {
  return mapLeaves(node, (leaf) => ('label' in leaf ? { ...leaf, label: prefix + leaf.label } : leaf));
}

/** `all()` in the tree replaced. */
export function replaceAll(node: SelectorNode, by: SelectorNode): SelectorNode {
  return mapLeaves(node, (leaf) => (leaf.op === 'all' ? by : leaf));
}

/** A namespaceSelector over inherited labels: `all()` is being in a namespace, `global()` is being in none. */
export function namespaceSelectorNode(text: string): SelectorNode {
  return mapLeaves(prefixed(parseNode(text), NAMESPACE_PREFIX), (leaf) => {
    if (leaf.op === 'all') return IN_NAMESPACE;
    if (leaf.op === 'global') return { op: 'not', operand: IN_NAMESPACE };
    return leaf;
  });
}

/** All of the nodes at once; `all()` is left out, nothing is `all()`. */
export function allOf(nodes: readonly SelectorNode[]): SelectorNode {
  const parts = nodes.filter((node) => node.op !== 'all');
  return parts.length === 0 ? ALL_NODE : joinNode('and', parts);
}

/** A Kubernetes label selector as a tree. An empty or absent one is `all()`. */
export function labelSelectorNode(selector: LabelSelector | undefined, prefix = ''): SelectorNode {
  const parts: SelectorNode[] = [];
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))) {
    parts.push({ op: '==', label: prefix + key, value });
  }
  for (const { key, operator, values = [] } of selector?.matchExpressions ?? []) {
    const label = prefix + key;
    if (operator === 'In') parts.push(inNode('in', label, values));
    else if (operator === 'NotIn') parts.push(inNode('not in', label, values));
    else if (operator === 'Exists') parts.push({ op: 'has', label });
    else parts.push({ op: 'not', operand: { op: 'has', label } });
  }
  return allOf(parts);
}

/** Pods with these labels: never network sets, host endpoints or containers that are no pods. */
export function podsNode(selector: LabelSelector | undefined): SelectorNode {
  return allOf([IS_POD, labelSelectorNode(selector)]);
}

/** Namespaces with these labels. */
export function namespacesNode(selector: LabelSelector | undefined): SelectorNode {
  const node = labelSelectorNode(selector, NAMESPACE_PREFIX);
  return node.op === 'all' ? IN_NAMESPACE : node;
}

export function selectorOf(...nodes: readonly SelectorNode[]): Selector {
  return new Selector(allOf(nodes));
}
