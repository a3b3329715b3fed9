// Asks one rule of one packet. In: the rule, the packet, and who has its addresses. Out: what did not match first, or null.
// Rules (Calico): all conditions must hold, entries of a list are alternatives. A selector is asked of everybody who has the address; with
// a port's name beside it, of the same endpoint that serves the port.
// Traps: a source port that nobody told is some port a client picks; a port's name without a protocol takes the protocol that
// the endpoint declares.
import type { PortMatch } from '#model/port.ts';
import type { Prefix } from '#net/prefix.ts';
import type { EntityMatch, IcmpType, PolicyRule } from '../policy.ts';
import type { Selector } from '../selector/selector.ts';
import type { AddressOwners } from './address-book.ts';

export interface Packet {
  readonly family: 4 | 6;
  /** IANA number. */
  readonly protocol: number;
  /** null: not told. */
  readonly sourcePort: number | null;
  readonly destinationPort: number | null;
  /** null unless the protocol is ICMP or ICMPv6. */
  readonly icmp: { readonly type: number; readonly code: number } | null;
  readonly source: AddressOwners;
  readonly destination: AddressOwners;
}

/** What a rule asks of the world beside addresses. */
export interface Surroundings {
  /** Number of a selector for `AddressOwners.matches`. */
  selectorNumber(selector: Selector): number;
  /** Whether the address serves the service; with a port, whether it does so there. */
  serves(service: string, owners: AddressOwners, protocol: number, port: number | null, withPort: boolean): boolean;
  /** Whether a node with the address matches. */
  isNode(selector: Selector, owners: AddressOwners): boolean;
}

type Condition = 'nets' | 'notNets' | 'selector' | 'notSelector' | 'ports' | 'notPorts' | 'service' | 'nodes';
export type Mismatch =
  | 'ipVersion'
  | 'protocol'
  | 'notProtocol'
  | 'icmp'
  | 'notICMP'
  | `source.${Condition}`
  | `destination.${Condition}`;

/** The ports Linux picks from for a client, when nobody told the source port: a condition on it must cover them all. */
const CLIENT_PORTS = { min: 32_768, max: 60_999 };
const ALL_PORTS = { min: 1, max: 65_535 };

export class RuleMatcher {
  readonly rule: PolicyRule;
  readonly #icmpFamily: 4 | 6 | undefined;
  readonly #source: EntityMatcher;
  readonly #destination: EntityMatcher;

  constructor(rule: PolicyRule, world: Surroundings) {
    this.rule = rule;
    this.#icmpFamily = icmpFamily(rule);
    this.#source = new EntityMatcher(rule.source, 'source', world);
    this.#destination = new EntityMatcher(rule.destination, 'destination', world);
  }

  /** null: the rule matches. */
  mismatch(packet: Packet): Mismatch | null {
    const { rule } = this;
    if (rule.ipVersion !== null && rule.ipVersion !== packet.family) return 'ipVersion';
    if (this.#icmpFamily !== undefined && this.#icmpFamily !== packet.family) return 'ipVersion';
    if (rule.protocol !== null && rule.protocol !== packet.protocol) return 'protocol';
    if (rule.notProtocol !== null && rule.notProtocol === packet.protocol) return 'notProtocol';
    if (rule.icmp && !matchesIcmp(rule.icmp, packet)) return 'icmp';
    if (rule.notIcmp && matchesIcmp(rule.notIcmp, packet)) return 'notICMP';
    return (
      this.#destination.mismatch(packet.destination, packet.destinationPort, packet.protocol) ??
      this.#source.mismatch(packet.source, packet.sourcePort, packet.protocol)
    );
  }
}

/** Types of ICMP are those of IPv4, types of ICMPv6 those of IPv6: a rule that names one is for that family alone. */
export function icmpFamily({ protocol, icmp, notIcmp }: PolicyRule): 4 | 6 | undefined {
  return icmp || notIcmp ? ({ 1: 4, 58: 6 } as const)[protocol as 1 | 58] : undefined;
}

function matchesIcmp({ type, code }: IcmpType, { icmp }: Packet): boolean {
  return icmp !== null && type === icmp.type && (code === null || code === icmp.code);
}

class EntityMatcher {
  readonly #match: EntityMatch;
  readonly #side: 'source' | 'destination';
  readonly #world: Surroundings;
  readonly #selector: number;
  readonly #notSelector: number;
  readonly #service: string;
  readonly #trivial: boolean;

  constructor(match: EntityMatch, side: 'source' | 'destination', world: Surroundings) {
    this.#match = match;
    this.#side = side;
    this.#world = world;
    this.#selector = match.selector ? world.selectorNumber(match.selector) : -1;
    this.#notSelector = match.notSelector ? world.selectorNumber(match.notSelector) : -1;
    this.#service = match.service ? `${match.service.namespace}/${match.service.name}` : '';
    const { nets, notNets, ports, notPorts } = match;
    const lists = nets.length + notNets.length + ports.length + notPorts.length;
    this.#trivial = lists === 0 && !match.selector && !match.notSelector && !match.service && !match.nodes;
  }

  mismatch(owners: AddressOwners, port: number | null, protocol: number): Mismatch | null {
    if (this.#trivial) return null;
    const match = this.#match;
    const fails = (condition: Condition): Mismatch => `${this.#side}.${condition}`;
    const { ports, notPorts } = match;
    // Numbers are the cheapest to ask and refuse most packets.
    const numeric = ports.some((range) => this.#covers(range, port));
    if (ports.length > 0 && !numeric && !ports.some((entry) => typeof entry === 'string')) return fails('ports');
    if (match.nets.length > 0 && !contains(match.nets, owners)) return fails('nets');
    if (contains(match.notNets, owners)) return fails('notNets');
    if (!this.#selects(owners)) return fails('selector');
    if (match.notSelector) {
      const { notSelector } = match;
      if (owners.matches(this.#notSelector, notSelector)) return fails('notSelector');
    }
    if (ports.length > 0 && !numeric && !this.#servesNamed(ports, owners, port, protocol)) return fails('ports');
    if (notPorts.length > 0) {
      if (notPorts.some((range) => this.#covers(range, port))) return fails('notPorts');
      if (this.#servesNamed(notPorts, owners, port, protocol)) return fails('notPorts');
    }
    if (match.service && !this.#world.serves(this.#service, owners, protocol, port, match.service.ports)) {
      return fails('service');
    }
    if (match.nodes && !this.#world.isNode(match.nodes, owners)) return fails('nodes');
    return null;
  }

  /** Whether the range has the port, or all the ports that one which nobody told might be. */
  #covers(range: PortMatch, port: number | null): boolean {
    if (typeof range === 'string') return false;
    if (port !== null) return range.min <= port && port <= range.max;
    const unknown = this.#side === 'source' ? CLIENT_PORTS : ALL_PORTS;
    return range.min <= unknown.min && unknown.max <= range.max;
  }

  #selects(owners: AddressOwners): boolean {
    const { selector } = this.#match;
    return !selector || owners.matches(this.#selector, selector);
  }

  /** Whether an endpoint with the address, and matching the selector, serves the port under one of the names. */
  #servesNamed(names: readonly PortMatch[], owners: AddressOwners, port: number | null, protocol: number): boolean {
    const { selector } = this.#match;
    return owners.endpoints.some(
      ({ data, entity }) =>
        (!selector || selector.matchesLookup(entity.lookup)) &&
        data.ports.some(
          (served) => served.port === port && served.protocol === protocol && names.includes(served.name),
        ),
    );
  }
}

function contains(nets: readonly Prefix[], { address }: AddressOwners): boolean {
  return nets.some((net) => net.contains(address));
}
