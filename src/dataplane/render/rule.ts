// One abstract rule to nftables rules. Several come out where the rule's alternatives cannot stand in one: a family each for
// what is written by family, a rule each for port ranges and for every named-port set. All keep the rule's index and count.
// In: AbstractRule, the kinds of the sets it uses. Out: lists of matches; an empty list of lists when the rule can never match.
// Spec: policy-corners 1.2 (nets of one family never match the other). Throws `invalid-argument`.
import { BrindleError } from '#base/errors.ts';
import type { AbstractEntity, AbstractRule, PortRange, Protocol } from '#model/desired.ts';
import { Prefix } from '#net/prefix.ts';
import type { Family, Match, Range, Side } from '#nft/objects.ts';
import { coverOf } from './cover.ts';
import { type SetKind, setName } from './names.ts';

const PROTOCOL_NUMBERS = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132, udplite: 136 } as const;
/** Protocols with ports where nftables looks for them. */
const PORT_PROTOCOLS = [6, 17, 132, 136];

/** Kind of a set for a family; null when there is no such set. */
export type SetKinds = (id: string, family: Family) => SetKind | null;

export function protocolNumber(protocol: Protocol): number {
  return typeof protocol === 'number' ? protocol : PROTOCOL_NUMBERS[protocol];
}

/** The matches of each nftables rule that `rule` needs. */
export function ruleMatches(rule: AbstractRule, kinds: SetKinds): Match[][] {
  const families = familiesOf(rule);
  const byFamily = needsFamily(rule);
  const out: Match[][] = [];
  if (!byFamily && families.length === 2) {
    for (const ports of portAlternatives(rule, null, kinds)) out.push([...protocolMatches(rule), ...ports]);
    return out;
  }
  for (const family of families) {
    const source = addressMatches(rule.source, 'source', family, kinds);
    const destination = addressMatches(rule.destination, 'destination', family, kinds);
    if (!source || !destination) continue;
    for (const ports of portAlternatives(rule, family, kinds)) {
      out.push([
        { type: 'family', family },
        ...protocolMatches(rule),
        ...icmpMatches(rule),
        ...ports,
        ...source,
        ...destination,
      ]);
    }
  }
  return out;
}

/** Ids of all sets a rule uses. */
export function* setsOf(rule: AbstractRule): Generator<string> {
  for (const entity of [rule.source, rule.destination]) {
    yield* entity.sets ?? [];
    yield* entity.notSets ?? [];
    yield* entity.portSets ?? [];
    yield* entity.notPortSets ?? [];
  }
}

function familiesOf(rule: AbstractRule): Family[] {
  let families: Family[] = rule.ipVersion ? [rule.ipVersion] : [4, 6];
  const icmp = icmpFamily(rule);
  if (icmp) families = families.filter((f) => f === icmp);
  for (const entity of [rule.source, rule.destination]) {
    for (const list of [entity.nets, entity.notNets]) {
      if (!list || list.length === 0) continue;
      const present = new Set(list.map((net) => Prefix.parseOrHost(net).family));
      families = families.filter((f) => present.has(f));
    }
  }
  return families;
}

function icmpFamily(rule: AbstractRule): Family | null {
  if (!rule.icmp && !rule.notIcmp) return null;
  const number = rule.protocol === undefined ? null : protocolNumber(rule.protocol);
  if (number === PROTOCOL_NUMBERS.icmp) return 4;
  if (number === PROTOCOL_NUMBERS.icmpv6) return 6;
  throw new BrindleError('invalid-argument', `rule ${rule.index} matches ICMP types without protocol ICMP or ICMPv6`);
}

function needsFamily(rule: AbstractRule): boolean {
  if (rule.ipVersion || rule.icmp || rule.notIcmp) return true;
  return [rule.source, rule.destination].some((e) =>
    [e.nets, e.notNets, e.sets, e.notSets, e.portSets, e.notPortSets].some((list) => list && list.length > 0),
  );
}

function protocolMatches(rule: AbstractRule): Match[] {
  const out: Match[] = [];
  if (rule.protocol !== undefined) out.push({ type: 'protocol', protocols: [protocolNumber(rule.protocol)] });
  if (rule.notProtocol !== undefined) {
    out.push({ type: 'protocol', protocols: [protocolNumber(rule.notProtocol)], not: true });
  }
  return out;
}

function icmpMatches(rule: AbstractRule): Match[] {
  const family = icmpFamily(rule);
  if (!family) return [];
  const out: Match[] = [];
  for (const [icmp, not] of [
    [rule.icmp, false],
    [rule.notIcmp, true],
  ] as const) {
    if (!icmp) continue;
    out.push({
      type: 'icmp',
      family,
      icmpType: icmp.type,
      ...(icmp.code === undefined ? {} : { icmpCode: icmp.code }),
      ...(not ? { not: true } : {}),
    });
  }
  return out;
}

/** Null when no address can match. */
function addressMatches(entity: AbstractEntity, side: Side, family: Family, kinds: SetKinds): Match[] | null {
  const out: Match[] = [];
  if (entity.nets && entity.nets.length > 0) {
    const prefixes = coverOf(entity.nets, family);
    if (prefixes.length === 0) return null;
    if (!isAll(prefixes)) out.push({ type: 'address', family, side, prefixes });
  }
  if (entity.notNets && entity.notNets.length > 0) {
    const prefixes = coverOf(entity.notNets, family);
    if (isAll(prefixes)) return null;
    if (prefixes.length > 0) out.push({ type: 'address', family, side, prefixes, not: true });
  }
  for (const id of entity.sets ?? []) out.push({ type: 'set', family, side, set: known(id, family, kinds) });
  for (const id of entity.notSets ?? [])
    out.push({ type: 'set', family, side, set: known(id, family, kinds), not: true });
  return out;
}

function isAll(prefixes: readonly string[]): boolean {
  return prefixes.length === 1 && prefixes[0]!.endsWith('/0');
}

function known(id: string, family: Family, kinds: SetKinds): string {
  const kind = kinds(id, family);
  if (!kind) throw new BrindleError('not-found', `set ${id} does not exist`);
  return setName(id, family, kind);
}

/** The product of the alternatives of both sides, each with the negated ports of both. */
function portAlternatives(rule: AbstractRule, family: Family | null, kinds: SetKinds): Match[][] {
  const source = sidePorts(rule.source, 'source', family, kinds);
  const destination = sidePorts(rule.destination, 'destination', family, kinds);
  const guard = guardMatch(rule);
  return source.flatMap((s) => destination.map((d) => [...guard, ...s, ...d]));
}

/** Ports without a protocol are looked for only where there are some. */
function guardMatch(rule: AbstractRule): Match[] {
  const usesPorts = [rule.source, rule.destination].some((e) => (e.ports?.length ?? 0) + (e.notPorts?.length ?? 0) > 0);
  const protocol = rule.protocol === undefined ? null : protocolNumber(rule.protocol);
  if (!usesPorts || (protocol !== null && PORT_PROTOCOLS.includes(protocol))) return [];
  if (protocol !== null) {
    throw new BrindleError(
      'invalid-argument',
      `rule ${rule.index} matches ports of protocol ${protocol}, which has none`,
    );
  }
  return [{ type: 'protocol', protocols: PORT_PROTOCOLS }];
}

function sidePorts(entity: AbstractEntity, side: Side, family: Family | null, kinds: SetKinds): Match[][] {
  const never: Match[] = [];
  if (entity.notPorts && entity.notPorts.length > 0) {
    never.push({ type: 'port', side, ranges: mergeRanges(entity.notPorts), not: true });
  }
  for (const id of entity.notPortSets ?? []) {
    never.push({ type: 'service-set', family: family!, side, set: known(id, family!, kinds), not: true });
  }
  const alternatives: Match[][] = [];
  if (entity.ports && entity.ports.length > 0) {
    alternatives.push([{ type: 'port', side, ranges: mergeRanges(entity.ports) }, ...never]);
  }
  for (const id of entity.portSets ?? []) {
    alternatives.push([{ type: 'service-set', family: family!, side, set: known(id, family!, kinds) }, ...never]);
  }
  return alternatives.length > 0 ? alternatives : [never];
}

/** Sorted, without overlaps: nftables refuses ranges that overlap. */
export function mergeRanges(ranges: readonly PortRange[]): Range[] {
  const out: { min: number; max: number }[] = [];
  for (const range of [...ranges].sort((a, b) => a.min - b.min || a.max - b.max)) {
    const last = out.at(-1);
    if (last && range.min <= last.max + 1) last.max = Math.max(last.max, range.max);
    else out.push({ min: range.min, max: range.max });
  }
  return out;
}
