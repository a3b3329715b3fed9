// Selectors over namespaces and service accounts, put into terms of an endpoint's own labels.
// An endpoint inherits its namespace's labels with the prefix `pcns.` and its service account's with `pcsa.`, and carries
// `projectcalico.org/namespace` and `projectcalico.org/serviceaccount`.
import { inNode, joinNode, notNode, renameLabels, type SelectorNode } from '#policy/selector/ast.ts';
import { parseSelector, Selector } from '#policy/selector/selector.ts';

export const NAMESPACE_LABEL = 'projectcalico.org/namespace';
export const SERVICE_ACCOUNT_LABEL = 'projectcalico.org/serviceaccount';
export const NAMESPACE_PREFIX = 'pcns.';
export const SERVICE_ACCOUNT_PREFIX = 'pcsa.';

/** `all()` means "is in a namespace" and `global()` "is in none" (corner 6). */
export function namespaceSelectorOn(text: string): Selector {
  return new Selector(scope(parseSelector(text).node, NAMESPACE_PREFIX, NAMESPACE_LABEL));
}

export function ownNamespaceSelector(namespace: string): Selector {
  return new Selector({ op: '==', label: NAMESPACE_LABEL, value: namespace });
}

/** Names and selector of a `serviceAccounts` clause; both must hold when both are there. */
export function serviceAccountSelectorOn(clause: {
  readonly names?: readonly string[];
  readonly selector?: string;
}): Selector[] {
  const parts: Selector[] = [];
  if (clause.names && clause.names.length > 0)
    parts.push(new Selector(inNode('in', SERVICE_ACCOUNT_LABEL, clause.names)));
  if (clause.selector !== undefined && clause.selector !== '') parts.push(serviceAccountScope(clause.selector));
  return parts;
}

/** `all()` means "has a service account" (corner 6). */
export function serviceAccountScope(text: string): Selector {
  return new Selector(scope(parseSelector(text).node, SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNT_LABEL));
}

export function notIn(selector: Selector): Selector {
  return new Selector(notNode(selector.node));
}

/** All of the selectors at once. */
export function combine(parts: readonly Selector[]): Selector {
  return parts.reduce((all, part) => all.and(part), Selector.ALL);
}

function scope(node: SelectorNode, prefix: string, presence: string): SelectorNode {
  const present: SelectorNode = { op: 'has', label: presence };
  const replace = (n: SelectorNode): SelectorNode => {
    if (n.op === 'all') return present;
    if (n.op === 'global') return notNode(present);
    if (n.op === 'not') return notNode(replace(n.operand));
    if (n.op === 'and' || n.op === 'or') return joinNode(n.op, n.operands.map(replace));
    return renameLabels(n, (label) => prefix + label);
  };
  return replace(node);
}
