// Turns the rules of the one form (policy/policy.ts) into abstract rules for the dataplane, whose selectors, named ports and
// services have become references to sets. Pure: the sets are named here and filled by calc/.
// In: rules. Out: abstract rules with the index of the rule that they stand for.
// Trap: a positive selector is a set of known endpoints, so it never matches an outside address; `notSelector` is a test on the
// address, and does.
import type { AbstractEntity, AbstractRule, PortRange, Protocol } from '#model/desired.ts';
import type { EntityMatch, PolicyRule } from '../policy.ts';
import { Selector } from '../selector/selector.ts';

/** What a set is made of; equal contents give equal ids, so that rules share sets. */
export type SetSpec =
  | { readonly type: 'selector'; readonly selector: Selector }
  /** Addresses of nodes with these labels. */
  | { readonly type: 'nodes'; readonly selector: Selector }
  | {
      readonly type: 'named-port';
      readonly selector: Selector;
      readonly port: string;
      readonly protocol: number | null;
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
    case 'nodes':
      return `h:${spec.selector.uid.slice(2)}`;
    case 'named-port':
      return `n:${spec.selector.uid.slice(2)}:${spec.protocol ?? 'any'}:${spec.port}`;
    case 'service':
      return `v:${spec.namespace}/${spec.name}:${spec.ports ? 'ports' : 'addresses'}`;
  }
}

export function compileRules(rules: readonly PolicyRule[], sets: SetCollector): AbstractRule[] {
  return rules.map((rule) => compileRule(rule, sets));
}

function compileRule(rule: PolicyRule, sets: SetCollector): AbstractRule {
  const { action, index, ipVersion, protocol, notProtocol, icmp, notIcmp } = rule;
  return {
    action,
    index,
    ...(ipVersion !== null && { ipVersion }),
    ...(protocol !== null && { protocol: protocolOf(protocol) }),
    ...(notProtocol !== null && { notProtocol: protocolOf(notProtocol) }),
    ...(icmp && icmp.type !== null && { icmp: { type: icmp.type, ...(icmp.code !== null && { code: icmp.code }) } }),
    ...(notIcmp &&
      notIcmp.type !== null && {
        notIcmp: { type: notIcmp.type, ...(notIcmp.code !== null && { code: notIcmp.code }) },
      }),
    source: compileEntity(rule.source, protocol, sets),
    destination: compileEntity(rule.destination, protocol, sets),
  };
}

function compileEntity(entity: EntityMatch, protocol: number | null, collector: SetCollector): AbstractEntity {
  const { selector, notSelector, nodes, service } = entity;
  const sets: string[] = [];
  const portSets: string[] = [];
  if (selector) sets.push(collector.use({ type: 'selector', selector }));
  if (nodes) sets.push(collector.use({ type: 'nodes', selector: nodes }));
  if (service) (service.ports ? portSets : sets).push(collector.use({ type: 'service', ...service }));
  const notSets = notSelector ? [collector.use({ type: 'selector', selector: notSelector })] : [];
  const owners = selector ?? Selector.ALL;
  const named = (ports: EntityMatch['ports']): string[] =>
    ports
      .filter((port) => typeof port === 'string')
      .map((port) => collector.use({ type: 'named-port', selector: owners, port, protocol }));
  const ranges = (ports: EntityMatch['ports']): PortRange[] => ports.filter((port) => typeof port !== 'string');
  portSets.push(...named(entity.ports));
  const notPortSets = named(entity.notPorts);
  const ports = ranges(entity.ports);
  const notPorts = ranges(entity.notPorts);
  return {
    ...(entity.nets.length > 0 && { nets: entity.nets.map(String) }),
    ...(entity.notNets.length > 0 && { notNets: entity.notNets.map(String) }),
    ...(sets.length > 0 && { sets }),
    ...(notSets.length > 0 && { notSets }),
    ...(ports.length > 0 && { ports }),
    ...(portSets.length > 0 && { portSets }),
    ...(notPorts.length > 0 && { notPorts }),
    ...(notPortSets.length > 0 && { notPortSets }),
  };
}

const NAMES: Readonly<Record<number, Protocol>> = {
  1: 'icmp',
  6: 'tcp',
  17: 'udp',
  58: 'icmpv6',
  132: 'sctp',
  136: 'udplite',
};

/** As nftables names it; the number where it has no name. Members of named-port sets spell it the same way. */
export function protocolOf(number: number): Protocol {
  return NAMES[number] ?? number;
}
