// The contract between the RIB and whoever decides what is imported and exported: a pure function from a route to a
// decision. Compiled filters implement it, and so do `acceptAll` and `rejectAll`.
import type { AddressFamily, PathAttributes } from '#bgp/wire/types.ts';

/** A route as a policy sees it. The object is reused from call to call: never keep it. */
export interface RouteView {
  family: AddressFamily;
  /** The address as four 32-bit words, signed or unsigned; IPv4 uses the first. */
  word0: number;
  word1: number;
  word2: number;
  word3: number;
  /** Prefix length. */
  bits: number;
  /** On import as received, on export as they are in the RIB. */
  attributes: PathAttributes;
  /** Same number, same attributes, until `generation` moves: what memoising keys on. */
  attributesId: number;
  generation: number;
  /** Learned from a BGP peer, in contrast to our own routes. */
  fromPeer: boolean;
  /** The peer at the other end of the policy (import: it sent the route; export: it is to get it) is in another AS. */
  externalPeer: boolean;
  /** Interface the route leaves by; '' when it is not known. */
  interfaceName: string;
}

/** What an accepted route is changed by. At least one member is present. */
export interface RouteChanges {
  readonly addCommunities?: readonly number[];
  readonly addLargeCommunities?: readonly (readonly [number, number, number])[];
  /** Leftmost first. */
  readonly prependAsPath?: readonly number[];
  readonly localPref?: number;
  readonly med?: number;
}

/** The outcome for one route. One object per rule, so decisions compare by identity. */
export interface PolicyDecision {
  readonly accept: boolean;
  readonly changes: RouteChanges | null;
  /** For people: which rule of which filter decided, or which default. */
  readonly rule: string;
}

export interface RoutePolicy {
  /** Equal for policies that decide alike: peers with equal ids share one update group. */
  readonly id: string;
  /** Set when the answer is always this one, whatever the route. */
  readonly constant?: PolicyDecision;
  evaluate(route: RouteView): PolicyDecision;
}

function constantPolicy(id: string, decision: PolicyDecision): RoutePolicy {
  return { id, constant: decision, evaluate: () => decision };
}

/** Everything passes unchanged. */
export const acceptAll: RoutePolicy = constantPolicy('all', { accept: true, changes: null, rule: 'default: all' });

/** Nothing passes: what RFC 8212 asks for where nothing is configured. */
export const rejectAll: RoutePolicy = constantPolicy('none', { accept: false, changes: null, rule: 'default: none' });
