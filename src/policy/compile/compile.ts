// Turns the rules of a policy (projectcalico.org/v3 shape) into abstract rules, whose selectors have become
// references to sets. Pure: the sets are named here and filled by calc/.
// In: one rule, the policy's namespace. Out: abstract rules with the index of the rule that they stand for.
// Semantics: docs/reference/policy.md; the corners are those of the shared policy tests.
// Trap: a positive selector is always a set of known endpoints, so it never matches an outside address, while a lone
// `notSelector` in a global policy is a test on the address and does.
import { BrindleError } from '#base/errors.ts';
import type { AbstractEntity, AbstractRule, IcmpMatch, PortRange, Protocol, RuleAction } from '#model/desired.ts';
import { Prefix } from '#net/prefix.ts';
import { parseSelector, type Selector } from '#policy/selector/selector.ts';
import {
  combine,
  namespaceSelectorOn,
  notIn,
  ownNamespaceSelector,
  serviceAccountSelectorOn,
} from './scoped-selectors.ts';

/** One side of a rule as `projectcalico.org/v3` writes it. */
export interface EntityInput {
  readonly nets?: readonly string[];
  readonly notNets?: readonly string[];
  readonly selector?: string;
  readonly notSelector?: string;
  readonly namespaceSelector?: string;
  readonly ports?: readonly (number | string)[];
  readonly notPorts?: readonly (number | string)[];
  readonly serviceAccounts?: { readonly names?: readonly string[]; readonly selector?: string };
  readonly services?: { readonly name?: string; readonly namespace?: string };
}

export interface RuleInput {
  readonly action: string;
  readonly ipVersion?: number;
  readonly protocol?: string | number;
  readonly notProtocol?: string | number;
  readonly icmp?: { readonly type?: number; readonly code?: number };
  readonly notICMP?: { readonly type?: number; readonly code?: number };
  readonly source?: EntityInput;
  readonly destination?: EntityInput;
}

/** What a set is made of; equal contents give equal ids, so that rules share sets. */
export type SetSpec =
  | { readonly type: 'selector'; readonly selector: Selector }
  | {
      readonly type: 'named-port';
      readonly selector: Selector;
      readonly port: string;
      readonly protocol: Protocol | null;
    }
  /** The endpoints of a Service: addresses with ports, or addresses alone (`ports` false). */
  | { readonly type: 'service'; readonly namespace: string; readonly name: string; readonly ports: boolean };

/** Receives each set that a rule refers to and gives back its id. */
export interface SetCollector {
  use(spec: SetSpec): string;
}

export function setId(spec: SetSpec): string {
  switch (spec.type) {
    case 'selector':
      return spec.selector.uid;
    case 'named-port':
      return `n:${spec.selector.uid.slice(2)}:${spec.protocol ?? 'any'}:${spec.port}`;
    case 'service':
      return `v:${spec.namespace}/${spec.name}:${spec.ports ? 'ports' : 'addresses'}`;
  }
}

export interface CompileContext {
  /** The policy's namespace; null for a global policy or profile. */
  readonly namespace: string | null;
  readonly sets: SetCollector;
}

/** Compiles a direction's rules in order. Throws `invalid-resource` when a stored rule does not make sense. */
export function compileRules(rules: readonly RuleInput[], context: CompileContext): AbstractRule[] {
  return rules.flatMap((rule, index) => compileRule(rule, index, context));
}

function compileRule(rule: RuleInput, index: number, context: CompileContext): AbstractRule[] {
  const protocol = rule.protocol === undefined ? undefined : parseProtocol(rule.protocol);
  const notProtocol = rule.notProtocol === undefined ? undefined : parseProtocol(rule.notProtocol);
  const icmp = parseIcmp(rule.icmp);
  const notIcmp = parseIcmp(rule.notICMP);
  const source = compileEntity(rule.source ?? {}, protocol, false, context);
  const destination = compileEntity(rule.destination ?? {}, protocol, true, context);
  const versions = [
    rule.ipVersion,
    familyOf(rule.source),
    familyOf(rule.destination),
    protocol === 'icmp' ? 4 : protocol === 'icmpv6' ? 6 : undefined,
  ].filter((v) => v !== undefined);
  if (new Set(versions).size > 1) return []; // asks for both families at once: no packet is both
  const ipVersion = versions[0] as 4 | 6 | undefined;
  return [
    {
      action: parseAction(rule.action),
      index,
      ...(ipVersion !== undefined && { ipVersion }),
      ...(protocol !== undefined && { protocol }),
      ...(notProtocol !== undefined && { notProtocol }),
      ...(icmp && { icmp }),
      ...(notIcmp && { notIcmp }),
      source,
      destination,
    },
  ];
}

function compileEntity(
  entity: EntityInput,
  protocol: Protocol | undefined,
  isDestination: boolean,
  context: CompileContext,
): AbstractEntity {
  const sets: string[] = [];
  const notSets: string[] = [];
  const portSets: string[] = [];
  const notPortSets: string[] = [];

  const positive = positiveSelector(entity, context.namespace);
  if (positive) sets.push(context.sets.use({ type: 'selector', selector: positive }));
  else if (entity.notSelector !== undefined && entity.notSelector !== '') {
    notSets.push(context.sets.use({ type: 'selector', selector: parseSelector(entity.notSelector) }));
  }

  if (entity.services?.name !== undefined) {
    const namespace = entity.services.namespace ?? context.namespace ?? 'default';
    const spec = { type: 'service', namespace, name: entity.services.name, ports: isDestination } as const;
    (isDestination ? portSets : sets).push(context.sets.use(spec));
  }

  const portOwners = positive ?? parseSelector('all()');
  const split = (ports: readonly (number | string)[] | undefined, into: string[]): PortRange[] => {
    const ranges: PortRange[] = [];
    for (const port of ports ?? []) {
      const range = parsePortRange(port);
      if (range) ranges.push(range);
      else {
        const spec = {
          type: 'named-port',
          selector: portOwners,
          port: String(port),
          protocol: protocol ?? null,
        } as const;
        into.push(context.sets.use(spec));
      }
    }
    return ranges;
  };
  const ports = split(entity.ports, portSets);
  const notPorts = split(entity.notPorts, notPortSets);

  return {
    ...(entity.nets && entity.nets.length > 0 && { nets: entity.nets.map(normaliseNet) }),
    ...(entity.notNets && entity.notNets.length > 0 && { notNets: entity.notNets.map(normaliseNet) }),
    ...(sets.length > 0 && { sets }),
    ...(notSets.length > 0 && { notSets }),
    ...(ports.length > 0 && { ports }),
    ...(portSets.length > 0 && { portSets }),
    ...(notPorts.length > 0 && { notPorts }),
    ...(notPortSets.length > 0 && { notPortSets }),
  };
}

/**
 * The selector that names the endpoints of this side; null when the side does not ask for known endpoints.
 * `notSelector` joins it when there is anything to join (corner 1); within a namespaced policy there always is.
 */
function positiveSelector(entity: EntityInput, namespace: string | null): Selector | null {
  const parts: Selector[] = [];
  const has = (text: string | undefined): text is string => text !== undefined && text !== '';
  const accounts = entity.serviceAccounts;
  const asksForEndpoints =
    has(entity.selector) ||
    has(entity.notSelector) ||
    (accounts && ((accounts.names?.length ?? 0) > 0 || has(accounts.selector)));
  if (has(entity.namespaceSelector)) parts.push(namespaceSelectorOn(entity.namespaceSelector));
  else if (namespace !== null && asksForEndpoints) parts.push(ownNamespaceSelector(namespace));
  if (accounts) parts.push(...serviceAccountSelectorOn(accounts));
  if (has(entity.selector)) parts.push(parseSelector(entity.selector));
  if (parts.length === 0) return null;
  if (has(entity.notSelector)) parts.push(notIn(parseSelector(entity.notSelector)));
  return combine(parts);
}

/** Corner 2: a rule whose nets are all of one family never applies to the other. */
function familyOf(entity: EntityInput | undefined): 4 | 6 | undefined {
  const nets = [...(entity?.nets ?? []), ...(entity?.notNets ?? [])];
  if (nets.length === 0) return undefined;
  const families = new Set(nets.map((net) => Prefix.parseOrHost(net).family));
  return families.size === 1 ? [...families][0] : undefined;
}

function normaliseNet(net: string): string {
  return Prefix.parseOrHost(net).toString();
}

/** `80`, `"80"`, `"1000:2000"` give a range; a name gives null. */
export function parsePortRange(port: number | string): PortRange | null {
  if (typeof port === 'number') return { min: port, max: port };
  const match = /^(\d+)(?::(\d+))?$/.exec(port);
  if (!match) return null;
  const min = Number(match[1]);
  return { min, max: match[2] === undefined ? min : Number(match[2]) };
}

export function parseProtocol(protocol: string | number): Protocol {
  if (typeof protocol === 'number') return numbered(protocol);
  if (/^\d+$/.test(protocol)) return numbered(Number(protocol));
  const lower = protocol.toLowerCase();
  if (
    lower === 'tcp' ||
    lower === 'udp' ||
    lower === 'icmp' ||
    lower === 'icmpv6' ||
    lower === 'sctp' ||
    lower === 'udplite'
  ) {
    return lower;
  }
  throw new BrindleError('invalid-resource', `"${protocol}" is not a protocol`, {
    field: 'protocol',
    remedy: 'write TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255',
  });
}

/** Numbers that have a name compare equal to it. */
function numbered(value: number): Protocol {
  const names: Record<number, Protocol> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp', 136: 'udplite' };
  return names[value] ?? value;
}

function parseAction(action: string): RuleAction {
  const lower = action.toLowerCase();
  if (lower === 'allow' || lower === 'deny' || lower === 'pass' || lower === 'log') return lower;
  throw new BrindleError('invalid-resource', `"${action}" is not an action`, {
    field: 'action',
    remedy: 'write Allow, Deny, Pass or Log',
  });
}

function parseIcmp(icmp: { readonly type?: number; readonly code?: number } | undefined): IcmpMatch | undefined {
  if (icmp?.type === undefined) return undefined;
  return { type: icmp.type, ...(icmp.code !== undefined && { code: icmp.code }) };
}
