// The rules of policies and profiles: schema and the checks that a schema cannot say.
// Spec: Calico's `projectcalico.org/v3` Rule and EntityRule.
// Traps: a rule is of one address family as soon as any of its CIDRs is; `services` stands alone; a port number needs a
// protocol but a port's name does not, because the endpoint that serves it declares one; `http` needs a proxy that Brindle
// does not have, and leaving it out silently would allow more than was written.
import { Prefix } from '#net/prefix.ts';
import { parseSelector } from '#policy/selector/selector.ts';
import { containsCall } from '#policy/selector/ast.ts';
import { hasPorts, parsePort, parseProtocol } from './port.ts';
import type { Problems } from './problems.ts';
import { Int, IntOrText, OneOf, type Static, Text, TextMap, Type } from './schema.ts';

const MAX_NETS = 256;
const MAX_PORTS = 50;
const MAX_RULES = 1024;

const Nets = Type.Array(Text('strict-cidr'), { maxItems: MAX_NETS });
const Ports = Type.Array(IntOrText('port'), { maxItems: MAX_PORTS });

export const EntityRule = Type.Object({
  nets: Type.Optional(Nets),
  notNets: Type.Optional(Nets),
  selector: Type.Optional(Text('selector', 'Endpoints and network sets by their labels')),
  notSelector: Type.Optional(Text('selector', 'Not these endpoints and network sets')),
  namespaceSelector: Type.Optional(Text('selector', 'Only in namespaces with these labels')),
  ports: Type.Optional(Ports),
  notPorts: Type.Optional(Ports),
  serviceAccounts: Type.Optional(
    Type.Object({
      names: Type.Optional(Type.Array(Text('name'))),
      selector: Type.Optional(Text('selector', 'Service accounts by their labels')),
    }),
  ),
  services: Type.Optional(
    Type.Object({ name: Type.Optional(Text('name')), namespace: Type.Optional(Text('label-name')) }),
  ),
});
export type EntityRule = Static<typeof EntityRule>;

const Icmp = Type.Object({
  type: Type.Optional(Int(0, 254, 'ICMP type, such as 8 for an echo request')),
  code: Type.Optional(Int(0, 255, 'ICMP code')),
});

export const Rule = Type.Object({
  action: OneOf(['Allow', 'Deny', 'Log', 'Pass']),
  ipVersion: Type.Optional(Int(4, 6, '4 or 6')),
  protocol: Type.Optional(IntOrText('protocol')),
  notProtocol: Type.Optional(IntOrText('protocol')),
  icmp: Type.Optional(Icmp),
  notICMP: Type.Optional(Icmp),
  source: Type.Optional(EntityRule),
  destination: Type.Optional(EntityRule),
  http: Type.Optional(
    Type.Unsafe<unknown>({
      description: 'Not supported: it needs a proxy',
      'x-kubernetes-preserve-unknown-fields': true,
    }),
  ),
  metadata: Type.Optional(Type.Object({ annotations: Type.Optional(TextMap()) })),
});
export type Rule = Static<typeof Rule>;

export const Rules = Type.Array(Rule, { maxItems: MAX_RULES });

/** `Ingress` or `Egress`, at most once each. */
export const Types = Type.Array(OneOf(['Ingress', 'Egress']));

export interface RuleLists {
  readonly ingress?: readonly Rule[];
  readonly egress?: readonly Rule[];
}

/** Checks every rule of both directions. `namespaced`: services may leave their namespace out. */
export function checkRules(spec: RuleLists, namespaced: boolean, problems: Problems): void {
  for (const direction of ['ingress', 'egress'] as const) {
    for (const [i, rule] of (spec[direction] ?? []).entries()) {
      checkRule(rule, direction, `spec.${direction}[${i}]`, namespaced, problems);
    }
  }
}

/** Checks `types` for repetition. */
export function checkTypes(types: readonly string[] | undefined, problems: Problems): void {
  if (types && new Set(types).size !== types.length) {
    problems.add('spec.types', `names ${types[0]} more than once`, 'name each type once');
  }
}

/** Warns of rules in a direction that the types leave out: they are kept and never asked. */
export function warnIgnoredRules(
  spec: { readonly ingress?: readonly unknown[]; readonly egress?: readonly unknown[] },
  types: readonly string[] | undefined,
  field: string,
  warnings: Problems,
): void {
  if (!types || types.length === 0) return;
  for (const [direction, type] of [
    ['ingress', 'Ingress'],
    ['egress', 'Egress'],
  ] as const) {
    if (types.includes(type) || !spec[direction]?.length) continue;
    warnings.add(`spec.${direction}`, `has no effect: ${field} leaves ${type} out`, `add ${type} to ${field}`);
  }
}

/** Checks that `global()`, which only a rule's namespaceSelector may say, is not in a policy's own selectors. */
export function checkNoGlobal(selector: string | undefined, field: string, problems: Problems): void {
  if (selector !== undefined && mentionsGlobal(selector)) {
    problems.add(field, 'global() is allowed only in the namespaceSelector of a rule');
  }
}

/** Asked of texts that parse; a text without the word is not parsed again. */
function mentionsGlobal(selector: string): boolean {
  return selector.includes('global(') && containsCall(parseSelector(selector).node, 'global');
}

function checkRule(
  rule: Rule,
  direction: 'ingress' | 'egress',
  path: string,
  namespaced: boolean,
  problems: Problems,
): void {
  const protocol = rule.protocol === undefined ? null : parseProtocol(rule.protocol);
  if (rule.http !== undefined) {
    problems.add(`${path}.http`, 'is not supported: Brindle decides on packets, not on requests', 'remove it');
  }
  checkIcmp(rule, protocol, path, problems);
  const families = new Set<4 | 6>();
  for (const side of ['source', 'destination'] as const) {
    const entity = rule[side];
    if (!entity) continue;
    const at = `${path}.${side}`;
    checkPorts(entity, protocol, at, problems);
    checkNets(entity, at, families, problems);
    checkSelectors(entity, at, problems);
    if (entity.services) checkService(entity, side, direction, at, namespaced, problems);
  }
  if (rule.ipVersion === 5) problems.add(`${path}.ipVersion`, '5 is not a version of IP in use', 'write 4 or 6');
  if (families.size === 2) {
    problems.add(path, 'mixes IPv4 and IPv6 CIDRs', 'write one rule for each family');
  } else if (rule.ipVersion !== undefined && families.size === 1 && !families.has(rule.ipVersion as 4 | 6)) {
    problems.add(`${path}.ipVersion`, `${rule.ipVersion} contradicts the CIDRs of the rule`);
  }
}

function checkIcmp(rule: Rule, protocol: number | null, path: string, problems: Problems): void {
  if (rule.icmp && protocol !== 1 && protocol !== 58) {
    problems.add(`${path}.icmp`, 'needs protocol ICMP or ICMPv6', 'add protocol: ICMP');
  }
  for (const field of ['icmp', 'notICMP'] as const) {
    if (rule[field]?.code !== undefined && rule[field].type === undefined) {
      problems.add(`${path}.${field}.code`, 'needs a type beside it');
    }
  }
  for (const field of ['protocol', 'notProtocol'] as const) {
    const value = rule[field];
    if (value === undefined || rule.ipVersion === undefined) continue;
    const wanted = { 1: 4, 58: 6 }[parseProtocol(value) ?? 0];
    if (wanted !== undefined && wanted !== rule.ipVersion) {
      problems.add(`${path}.ipVersion`, `${rule.ipVersion} contradicts ${field} ${value}`, `write ${wanted}`);
    }
  }
}

function checkPorts(entity: EntityRule, protocol: number | null, path: string, problems: Problems): void {
  for (const field of ['ports', 'notPorts'] as const) {
    const ports = entity[field];
    if (!ports || ports.length === 0) continue;
    if (protocol !== null && !hasPorts(protocol)) {
      problems.add(`${path}.${field}`, 'needs a protocol that has ports', 'write protocol: TCP, UDP or SCTP');
    } else if (protocol === null && ports.some((port) => typeof parsePort(port) !== 'string')) {
      problems.add(`${path}.${field}`, 'port numbers need a protocol', 'add protocol: TCP, UDP or SCTP to the rule');
    }
  }
}

function checkNets(entity: EntityRule, path: string, families: Set<4 | 6>, problems: Problems): void {
  for (const field of ['nets', 'notNets'] as const) {
    for (const [i, text] of (entity[field] ?? []).entries()) {
      const prefix = Prefix.parse(text);
      families.add(prefix.family);
      if (field === 'notNets' && prefix.length === 0) {
        problems.add(`${path}.notNets[${i}]`, `${text} leaves no address to match`, 'remove the rule or the entry');
      }
    }
  }
}

function checkSelectors(entity: EntityRule, path: string, problems: Problems): void {
  checkNoGlobal(entity.selector, `${path}.selector`, problems);
  checkNoGlobal(entity.notSelector, `${path}.notSelector`, problems);
  checkNoGlobal(entity.serviceAccounts?.selector, `${path}.serviceAccounts.selector`, problems);
  const { namespaceSelector } = entity;
  if (namespaceSelector === undefined || !mentionsGlobal(namespaceSelector)) return;
  if (parseSelector(namespaceSelector).node.op !== 'global') {
    problems.add(`${path}.namespaceSelector`, 'global() cannot be combined with anything', 'write global() alone');
  }
}

function checkService(
  entity: EntityRule,
  side: 'source' | 'destination',
  direction: 'ingress' | 'egress',
  path: string,
  namespaced: boolean,
  problems: Problems,
): void {
  const right = direction === 'ingress' ? 'source' : 'destination';
  if (side !== right) {
    problems.add(`${path}.services`, `is not allowed here: an ${direction} rule names services as its ${right}`);
  }
  if (!entity.services?.name) problems.add(`${path}.services.name`, 'is required');
  if (!namespaced && !entity.services?.namespace) {
    problems.add(`${path}.services.namespace`, 'is required in a policy that belongs to no namespace');
  }
  const excluded: (keyof EntityRule)[] = [
    'nets',
    'notNets',
    'selector',
    'notSelector',
    'namespaceSelector',
    'serviceAccounts',
  ];
  // The service's own ports are what a destination matches; a source has none to say.
  if (side === 'destination') excluded.push('ports', 'notPorts');
  for (const field of excluded) {
    const value = entity[field];
    if (value !== undefined && value !== '' && !(Array.isArray(value) && value.length === 0)) {
      problems.add(`${path}.${field}`, 'cannot be combined with services', 'write two rules');
    }
  }
}
