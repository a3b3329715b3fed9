// The vocabulary shared by the codec, the RIB, the filters and the speaker: families, path attributes as typed
// values, what two speakers negotiated as far as the codec cares, and the verdicts of RFC 7606.
import type { IpAddress } from '#net/address.ts';

/** The address families spoken, unicast both (RFC 4760: AFI 1 or 2, SAFI 1). */
export type AddressFamily = 'ipv4' | 'ipv6';
export const ADDRESS_FAMILIES: readonly AddressFamily[] = ['ipv4', 'ipv6'];

export const AFI_IPV4 = 1;
export const AFI_IPV6 = 2;
export const SAFI_UNICAST = 1;

export function afiOf(family: AddressFamily): 1 | 2 {
  return family === 'ipv4' ? AFI_IPV4 : AFI_IPV6;
}

/** The family of an AFI/SAFI pair; null when this speaker does not speak it. */
export function familyOf(afi: number, safi: number): AddressFamily | null {
  if (safi !== SAFI_UNICAST) return null;
  return afi === AFI_IPV4 ? 'ipv4' : afi === AFI_IPV6 ? 'ipv6' : null;
}

/** ORIGIN values (RFC 4271 5.1.1); lower is preferred. */
export const ORIGIN_IGP = 0;
export const ORIGIN_EGP = 1;
export const ORIGIN_INCOMPLETE = 2;
export type Origin = 0 | 1 | 2;

export type AsSegmentType = 'set' | 'sequence' | 'confed-sequence' | 'confed-set';

export interface AsPathSegment {
  readonly type: AsSegmentType;
  /** 32-bit AS numbers, at least one. */
  readonly asns: readonly number[];
}

export interface Aggregator {
  readonly asn: number;
  /** The aggregating router's id, dotted quad as an unsigned 32-bit value. */
  readonly address: number;
}

/** An attribute this speaker has no meaning for: optional transitive, passed on with the Partial bit set. */
export interface RawAttribute {
  readonly flags: number;
  readonly code: number;
  readonly value: Uint8Array;
}

/** Three 32-bit parts (RFC 8092). */
export type LargeCommunity = readonly [global: number, local1: number, local2: number];
/** Eight octets as two unsigned 32-bit halves in network order (RFC 4360). */
export type ExtendedCommunity = readonly [high: number, low: number];

/** The path attributes of a route, decoded, AS4 merged. Immutable. Lists of communities are as received. */
export interface PathAttributes {
  readonly origin: Origin;
  readonly asPath: readonly AsPathSegment[];
  /** NEXT_HOP, or the first next hop of MP_REACH_NLRI; null only in attributes that carry no reachable route. */
  readonly nextHop: IpAddress | null;
  /** The second, link-local next hop of MP_REACH_NLRI (RFC 2545), or the only one when it is link-local. */
  readonly linkLocalNextHop: IpAddress | null;
  readonly med: number | null;
  readonly localPref: number | null;
  readonly atomicAggregate: boolean;
  readonly aggregator: Aggregator | null;
  /** `high << 16 | low`, unsigned. */
  readonly communities: readonly number[];
  readonly extendedCommunities: readonly ExtendedCommunity[];
  readonly largeCommunities: readonly LargeCommunity[];
  /** Unsigned 32-bit router id (RFC 4456). */
  readonly originatorId: number | null;
  readonly clusterList: readonly number[];
  readonly unknown: readonly RawAttribute[];
}

/** What the two ends agreed for one family. */
export interface FamilySession {
  /** NLRI we receive carry a path identifier (RFC 7911). */
  readonly addPathReceive: boolean;
  /** NLRI we send carry a path identifier. */
  readonly addPathSend: boolean;
  /** IPv4 routes may have an IPv6 next hop in both directions (RFC 8950). False for IPv6. */
  readonly extendedNextHop: boolean;
}

/** What the codec has to know of a session. One immutable object per established session. */
export interface CodecSession {
  /** Both ends speak 4-octet AS numbers (RFC 6793): AS_PATH and AGGREGATOR are wide. */
  readonly as4: boolean;
  /** The peer is in another AS. */
  readonly external: boolean;
  readonly localAs: number;
  readonly peerAs: number;
  /** 4096, or 65535 when both ends offered extended messages (RFC 8654). */
  readonly maxMessageLength: number;
  /** The families in use; null where not negotiated. */
  readonly families: Readonly<Record<AddressFamily, FamilySession | null>>;
}

/** The session that stored (interned) attributes are encoded for: wide AS numbers, no limit, internal. */
export const STORAGE_SESSION: CodecSession = {
  as4: true,
  external: false,
  localAs: 0,
  peerAs: 0,
  maxMessageLength: 65535,
  families: {
    ipv4: { addPathReceive: false, addPathSend: false, extendedNextHop: true },
    ipv6: { addPathReceive: false, addPathSend: false, extendedNextHop: false },
  },
};

/** How a malformed UPDATE is handled, mildest first (RFC 7606 section 2). */
export const VERDICT_OK = 0;
/** The attribute was left out; the rest is good. */
export const VERDICT_DISCARD = 1;
/** Every route of the UPDATE is treated as withdrawn. */
export const VERDICT_WITHDRAW = 2;
/** The session is reset with a NOTIFICATION. */
export const VERDICT_RESET = 3;
export type Verdict = 0 | 1 | 2 | 3;

/** What was wrong, for the log, the counters and the NOTIFICATION. */
export interface WireError {
  readonly verdict: Verdict;
  readonly code: number;
  readonly subcode: number;
  readonly data: Uint8Array;
  /** For people: which attribute or field, and why. */
  readonly reason: string;
}

export interface DecodedAttributes {
  /** Null when the verdict is withdraw or reset. */
  readonly attributes: PathAttributes | null;
  /** The worst of `errors`. */
  readonly verdict: Verdict;
  readonly errors: readonly WireError[];
}

export const EMPTY_BYTES: Uint8Array = new Uint8Array(0);
