// Filters compiled to a policy: ordered rules with the meaning of Calico's BGPFilter, tried filter by filter. The first
// rule that matches decides; where none does, the default behind the filters is asked.
// In: the rule lists of filters (the same fields as the resource's spec). Out: a RoutePolicy.
// Source: projectcalico.org/v3 BGPFilter; the prefix patterns are BIRD's `address/length{min,max}`, which is what
// Calico renders them to.
import { BrindleError } from '#base/errors.ts';
import { Prefix } from '#net/prefix.ts';
import type { AsPathSegment, LargeCommunity, PathAttributes } from '#bgp/wire/types.ts';
import type { PolicyDecision, RouteChanges, RoutePolicy, RouteView } from './policy.ts';

export type FilterAction = 'Accept' | 'Reject';
export type MatchOperator = 'Equal' | 'NotEqual' | 'In' | 'NotIn';

export interface FilterOperation {
  /** `aa:nn` or `aa:nn:mm`. */
  readonly addCommunity?: { readonly value: string } | undefined;
  /** Leftmost first. */
  readonly prependASPath?: { readonly prefix: readonly (number | string)[] } | undefined;
  /** Route metric 1 to 2147483646: lower is preferred. Carried as LOCAL_PREF 2147483647 - value. */
  readonly setPriority?: { readonly value: number } | undefined;
}

/** All members that are there must match; a rule without any matches every route. */
export interface FilterRule {
  readonly action: FilterAction;
  readonly cidr?: string | undefined;
  readonly matchOperator?: MatchOperator | undefined;
  /** Narrows `cidr`; `min` defaults to its length, `max` to 32 or 128. */
  readonly prefixLength?: { readonly min?: number | undefined; readonly max?: number | undefined } | undefined;
  readonly source?: 'RemotePeers' | undefined;
  /** `*` stands for any characters. */
  readonly interface?: string | undefined;
  readonly peerType?: 'eBGP' | 'iBGP' | undefined;
  /** The route must carry every one. */
  readonly communities?: { readonly values: readonly string[] } | undefined;
  /** The AS_PATH begins with these. */
  readonly asPathPrefix?: readonly (number | string)[] | undefined;
  readonly priority?: number | undefined;
  readonly operations?: readonly FilterOperation[] | undefined;
}

/** The rule lists of one filter, as in a BGPFilter's spec. */
export interface FilterSpec {
  readonly importV4?: readonly FilterRule[] | undefined;
  readonly exportV4?: readonly FilterRule[] | undefined;
  readonly importV6?: readonly FilterRule[] | undefined;
  readonly exportV6?: readonly FilterRule[] | undefined;
}

export interface NamedFilter {
  readonly name: string;
  readonly spec: FilterSpec;
}

export type Direction = 'import' | 'export';

/** LOCAL_PREF of metric 0: what a priority is subtracted from. */
export const PRIORITY_BASE = 2_147_483_647;

interface CompiledRule {
  readonly matches: (route: RouteView) => boolean;
  readonly decision: PolicyDecision;
}

/**
 * The policy of a peer: its filters in order, then `otherwise`. Policies of equal rules have equal ids, whatever the
 * filters' resource versions. Throws `invalid-argument` that names the field of a rule that does not parse.
 */
export function compileFilters(
  filters: readonly NamedFilter[],
  direction: Direction,
  otherwise: RoutePolicy,
): RoutePolicy {
  const v4 = filters.flatMap((f) => compileList(f, `${direction}V4`));
  const v6 = filters.flatMap((f) => compileList(f, `${direction}V6`));
  if (v4.length === 0 && v6.length === 0) return otherwise;
  const lists = filters.map((f) => [f.name, f.spec[`${direction}V4`] ?? [], f.spec[`${direction}V6`] ?? []]);
  return {
    id: `${direction} ${JSON.stringify(lists)} else ${otherwise.id}`,
    evaluate(route) {
      const rules = route.family === 'ipv4' ? v4 : v6;
      for (const rule of rules) if (rule.matches(route)) return rule.decision;
      return otherwise.evaluate(route);
    },
  };
}

type ListName = keyof FilterSpec;

function compileList({ name, spec }: NamedFilter, list: ListName): CompiledRule[] {
  return (spec[list] ?? []).map((rule, index) => {
    const field = `spec.${list}[${index}]`;
    return {
      matches: compileMatch(rule, list.endsWith('V4') ? 4 : 6, field),
      decision: {
        accept: rule.action === 'Accept',
        changes: rule.action === 'Accept' ? compileOperations(rule.operations ?? [], field) : null,
        rule: `filter ${name}, ${list}[${index}]: ${rule.action}`,
      },
    };
  });
}

function compileMatch(rule: FilterRule, family: 4 | 6, field: string): (route: RouteView) => boolean {
  const tests: ((route: RouteView) => boolean)[] = [];
  if (rule.cidr !== undefined) tests.push(compileCidr(rule, family, field));
  if (rule.source === 'RemotePeers') tests.push((route) => route.fromPeer);
  if (rule.peerType !== undefined) {
    const external = rule.peerType === 'eBGP';
    tests.push((route) => route.externalPeer === external);
  }
  if (rule.interface !== undefined) {
    const pattern = globPattern(rule.interface);
    tests.push((route) => pattern.test(route.interfaceName));
  }
  const attributes = compileAttributes(rule, field);
  if (attributes) tests.push(attributes);
  if (tests.length === 0) return () => true;
  if (tests.length === 1) return tests[0]!;
  return (route) => tests.every((t) => t(route));
}

function compileCidr(rule: FilterRule, family: 4 | 6, field: string): (route: RouteView) => boolean {
  const prefix = Prefix.tryParse(rule.cidr!);
  if (!prefix || prefix.family !== family) {
    throw new BrindleError('invalid-argument', `"${rule.cidr}" is not an IPv${family} prefix`, {
      field: `${field}.cidr`,
      remedy: `write ${family === 4 ? '10.0.0.0/16' : 'fd00::/48'}, or move the rule to the other family's list`,
    });
  }
  const operator = rule.matchOperator ?? 'In';
  const most = family === 4 ? 32 : 128;
  const whole = operator === 'Equal' || operator === 'NotEqual';
  const min = rule.prefixLength?.min ?? prefix.length;
  const max = rule.prefixLength?.max ?? (whole && !rule.prefixLength ? prefix.length : most);
  const words = wordsOf(prefix.address.bytes);
  const inside = (route: RouteView): boolean => {
    if (route.bits < min || route.bits > max) return false;
    if (whole && route.bits !== prefix.length) return false;
    // Shorter than the cidr only where `min` says so: then it has to cover it.
    return equalBits(words, route, Math.min(prefix.length, route.bits));
  };
  return operator === 'Equal' || operator === 'In' ? inside : (route) => !inside(route);
}

/** The part that depends on attributes alone; remembers its answer for the attributes it saw last. */
function compileAttributes(rule: FilterRule, field: string): ((route: RouteView) => boolean) | null {
  const tests: ((attributes: PathAttributes) => boolean)[] = [];
  for (const [i, text] of (rule.communities?.values ?? []).entries()) {
    const community = parseCommunityValue(text, `${field}.communities.values[${i}]`);
    if (typeof community === 'number') tests.push((a) => a.communities.includes(community));
    else tests.push((a) => a.largeCommunities.some((c) => c.every((part, at) => part === community[at])));
  }
  const asns = (rule.asPathPrefix ?? []).map((asn, i) => parseAs(asn, `${field}.asPathPrefix[${i}]`));
  if (asns.length > 0) tests.push((a) => beginsWith(a.asPath, asns));
  if (rule.priority !== undefined) {
    const wanted = PRIORITY_BASE - rule.priority;
    tests.push((a) => a.localPref === wanted);
  }
  if (tests.length === 0) return null;
  let lastId = -1;
  let lastGeneration = -1;
  let lastAnswer = false;
  return (route) => {
    if (route.attributesId !== lastId || route.generation !== lastGeneration) {
      lastId = route.attributesId;
      lastGeneration = route.generation;
      lastAnswer = tests.every((t) => t(route.attributes));
    }
    return lastAnswer;
  };
}

function compileOperations(operations: readonly FilterOperation[], field: string): RouteChanges | null {
  if (operations.length === 0) return null;
  const addCommunities: number[] = [];
  const addLargeCommunities: LargeCommunity[] = [];
  let prependAsPath: number[] = [];
  let localPref: number | undefined;
  for (const [i, operation] of operations.entries()) {
    const at = `${field}.operations[${i}]`;
    if (operation.addCommunity) {
      const community = parseCommunityValue(operation.addCommunity.value, `${at}.addCommunity.value`);
      if (typeof community === 'number') addCommunities.push(community);
      else addLargeCommunities.push(community);
    }
    if (operation.prependASPath) {
      const asns = operation.prependASPath.prefix.map((asn, n) => parseAs(asn, `${at}.prependASPath.prefix[${n}]`));
      prependAsPath = [...asns, ...prependAsPath]; // a later operation goes in front of an earlier one
    }
    if (operation.setPriority) localPref = PRIORITY_BASE - operation.setPriority.value;
  }
  return {
    ...(addCommunities.length > 0 && { addCommunities }),
    ...(addLargeCommunities.length > 0 && { addLargeCommunities }),
    ...(prependAsPath.length > 0 && { prependAsPath }),
    ...(localPref !== undefined && { localPref }),
  };
}

function wordsOf(bytes: Uint8Array): readonly number[] {
  const words: number[] = [];
  for (let i = 0; i < 16; i += 4) {
    words.push(i < bytes.length ? (bytes[i]! << 24) | (bytes[i + 1]! << 16) | (bytes[i + 2]! << 8) | bytes[i + 3]! : 0);
  }
  return words;
}

/** True when the first `bits` bits of the route's address are those of `words`. */
function equalBits(words: readonly number[], route: RouteView, bits: number): boolean {
  return (
    equalWord(words[0]!, route.word0, bits) &&
    (bits <= 32 || equalWord(words[1]!, route.word1, bits - 32)) &&
    (bits <= 64 || equalWord(words[2]!, route.word2, bits - 64)) &&
    (bits <= 96 || equalWord(words[3]!, route.word3, bits - 96))
  );
}

function equalWord(a: number, b: number, bits: number): boolean {
  if (bits <= 0) return true;
  return ((a ^ b) & (bits >= 32 ? -1 : -1 << (32 - bits))) === 0;
}

function beginsWith(path: readonly AsPathSegment[], asns: readonly number[]): boolean {
  let at = 0;
  for (const segment of path) {
    if (segment.type !== 'sequence') return false; // a set has no order
    for (const asn of segment.asns) {
      if (asn !== asns[at]) return false;
      if (++at === asns.length) return true;
    }
  }
  return false;
}

function globPattern(glob: string): RegExp {
  const parts = glob.split('*').map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`);
}

function parseAs(value: number | string, field: string): number {
  const asn = typeof value === 'number' ? value : /^\d+\.\d+$/.test(value) ? dotted(value) : Number(value);
  if (Number.isInteger(asn) && asn >= 0 && asn <= 0xffffffff) return asn;
  throw new BrindleError('invalid-argument', `"${value}" is not an AS number`, {
    field,
    remedy: 'write 0 to 4294967295',
  });
}

function dotted(text: string): number {
  const [high, low] = text.split('.').map(Number);
  return high! > 0xffff || low! > 0xffff ? Number.NaN : high! * 65536 + low!;
}

/** The value of a standard community, or the parts of a large one. */
function parseCommunityValue(text: string, field: string): number | LargeCommunity {
  const parts = text.split(':').map((part) => (/^\d{1,10}$/.test(part) ? Number(part) : Number.NaN));
  if (parts.length === 2 && parts.every((p) => p <= 0xffff)) return ((parts[0]! << 16) | parts[1]!) >>> 0;
  if (parts.length === 3 && parts.every((p) => p <= 0xffffffff)) return [parts[0]!, parts[1]!, parts[2]!];
  throw new BrindleError('invalid-argument', `"${text}" is not a community`, {
    field,
    remedy: 'write aa:nn, each 0 to 65535, or aa:nn:mm, each 0 to 4294967295',
  });
}
