// Calico's rules to policy rules. In: validated rules and the namespace of their policy ('' when global). Out: PolicyRules.
// Rules (Calico): in a namespaced policy any selector, notSelector alone too, is limited to the policy's own namespace unless a
// namespaceSelector widens it; `selector` with `notSelector` is asked of the same endpoint; a lone notSelector is asked of the address.
// A rule whose CIDRs are all of one family does not apply to the other.
import type { EntityRule, Rule } from '#model/policy-rule.ts';
import { parsePort, parseProtocol, type PortMatch } from '#model/port.ts';
import { Prefix } from '#net/prefix.ts';
import { inNode, notNode, type SelectorNode } from '../selector/ast.ts';
import { Selector } from '../selector/selector.ts';
import { ANY, type Action, type EntityMatch, type IcmpType, type PolicyRule } from '../policy.ts';
import {
  allOf,
  inNamespaceNode,
  namespaceSelectorNode,
  parseNode,
  prefixed,
  SERVICE_ACCOUNT_LABEL,
  SERVICE_ACCOUNT_PREFIX,
} from './labels.ts';

const ACTIONS: Record<Rule['action'], Action> = { Allow: 'allow', Deny: 'deny', Pass: 'pass', Log: 'log' };

export function convertRules(rules: readonly Rule[], namespace: string): PolicyRule[] {
  return rules.map((rule, index) => convertRule(rule, index, namespace));
}

function convertRule(rule: Rule, index: number, namespace: string): PolicyRule {
  const source = convertEntity(rule.source, namespace, false);
  const destination = convertEntity(rule.destination, namespace, true);
  return {
    action: ACTIONS[rule.action],
    index,
    name: '',
    ipVersion: (rule.ipVersion as 4 | 6 | undefined) ?? oneFamily(source, destination),
    protocol: rule.protocol === undefined ? null : parseProtocol(rule.protocol),
    notProtocol: rule.notProtocol === undefined ? null : parseProtocol(rule.notProtocol),
    icmp: convertIcmp(rule.icmp),
    notIcmp: convertIcmp(rule.notICMP),
    source,
    destination,
  };
}

/** Without a type there is nothing to compare: the protocol beside it says all. */
function convertIcmp(icmp: { type?: number; code?: number } | undefined): IcmpType | null {
  return icmp?.type === undefined ? null : { type: icmp.type, code: icmp.code ?? null };
}

/** The family of all the CIDRs; null when there are none or of both. */
export function oneFamily(...entities: readonly EntityMatch[]): 4 | 6 | null {
  const families = new Set(entities.flatMap(({ nets, notNets }) => [...nets, ...notNets].map((net) => net.family)));
  const [only] = families;
  return families.size === 1 ? only! : null;
}

function convertEntity(entity: EntityRule | undefined, namespace: string, isDestination: boolean): EntityMatch {
  if (!entity) return ANY;
  const { services } = entity;
  return {
    nets: (entity.nets ?? []).map((net) => Prefix.parse(net)),
    notNets: (entity.notNets ?? []).map((net) => Prefix.parse(net)),
    ...convertSelectors(entity, namespace),
    ports: convertPorts(entity.ports),
    notPorts: convertPorts(entity.notPorts),
    service: services
      ? { namespace: services.namespace || namespace, name: services.name ?? '', ports: isDestination }
      : null,
    nodes: null,
  };
}

function convertPorts(ports: readonly (number | string)[] | undefined): PortMatch[] {
  // Validated before; a port that does not parse would match nothing, and `filter` would widen the rule if it were the only one.
  return (ports ?? []).map((port) => parsePort(port) ?? { min: 1, max: 0 });
}

function convertSelectors(entity: EntityRule, namespace: string): Pick<EntityMatch, 'selector' | 'notSelector'> {
  const parts: SelectorNode[] = [];
  const accounts = entity.serviceAccounts;
  if (accounts?.selector) parts.push(prefixed(parseNode(accounts.selector), SERVICE_ACCOUNT_PREFIX));
  if (accounts?.names?.length) parts.push(inNode('in', SERVICE_ACCOUNT_LABEL, accounts.names));
  if (entity.selector) parts.push(parseNode(entity.selector));
  let positive = parts.length > 0;
  if (entity.namespaceSelector) {
    parts.unshift(namespaceSelectorNode(entity.namespaceSelector));
    positive = true;
  } else if (namespace && (positive || entity.notSelector)) {
    parts.unshift(inNamespaceNode(namespace));
    positive = true;
  }
  const not = entity.notSelector ? parseNode(entity.notSelector) : null;
  if (!positive) return { selector: null, notSelector: not && new Selector(not) };
  if (not) parts.push(notNode(not));
  return { selector: new Selector(allOf(parts)), notSelector: null };
}
