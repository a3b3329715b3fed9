// Path attributes: one table from type code to name, flags, decoder, encoder. @wire-vocabulary
// In: the attribute block of an UPDATE, or its stored form (see attributeKey in update.ts). Out: PathAttributes, or
// the verdict of RFC 7606 by return value; nothing here throws on bad octets.
// RFC 4271 4.3/5/6.3, 1997, 4360, 4456, 4760, 6793, 7606, 7607, 8092, 8950.
import { IpAddress } from '#net/address.ts';
import {
  type AddressFamily,
  type Aggregator,
  type AsPathSegment,
  type AsSegmentType,
  afiOf,
  type CodecSession,
  type DecodedAttributes,
  type ExtendedCommunity,
  familyOf,
  type LargeCommunity,
  type Origin,
  type PathAttributes,
  type RawAttribute,
  SAFI_UNICAST,
  VERDICT_DISCARD,
  VERDICT_OK,
  VERDICT_RESET,
  VERDICT_WITHDRAW,
  type Verdict,
  type WireError,
} from './types.ts';
import { OctetWriter, readU16, readU32 } from './writer.ts';

export const FLAG_OPTIONAL = 0x80;
export const FLAG_TRANSITIVE = 0x40;
export const FLAG_PARTIAL = 0x20;
export const FLAG_EXTENDED = 0x10;
const FLAG_KIND = FLAG_OPTIONAL | FLAG_TRANSITIVE;

export const ATTR_ORIGIN = 1;
export const ATTR_AS_PATH = 2;
export const ATTR_NEXT_HOP = 3;
export const ATTR_MED = 4;
export const ATTR_LOCAL_PREF = 5;
export const ATTR_ATOMIC_AGGREGATE = 6;
export const ATTR_AGGREGATOR = 7;
export const ATTR_COMMUNITIES = 8;
export const ATTR_ORIGINATOR_ID = 9;
export const ATTR_CLUSTER_LIST = 10;
export const ATTR_MP_REACH = 14;
export const ATTR_MP_UNREACH = 15;
export const ATTR_EXTENDED_COMMUNITIES = 16;
export const ATTR_AS4_PATH = 17;
export const ATTR_AS4_AGGREGATOR = 18;
export const ATTR_LARGE_COMMUNITIES = 32;

/** Stands for a wide AS number towards a speaker of 2-octet numbers (RFC 6793). */
export const AS_TRANS = 23456;

/** UPDATE error subcodes (RFC 4271 6.3). */
export const UPDATE_MALFORMED_LIST = 1;
export const UPDATE_UNRECOGNIZED_WELL_KNOWN = 2;
export const UPDATE_MISSING_WELL_KNOWN = 3;
export const UPDATE_FLAGS = 4;
export const UPDATE_LENGTH = 5;
export const UPDATE_ORIGIN = 6;
export const UPDATE_NEXT_HOP = 8;
export const UPDATE_OPTIONAL = 9;
export const UPDATE_NETWORK = 10;
export const UPDATE_AS_PATH = 11;

interface Draft {
  origin: Origin | null;
  asPath: AsPathSegment[] | null;
  as4Path: AsPathSegment[] | null;
  nextHop: IpAddress | null;
  mpNextHop: IpAddress | null;
  linkLocal: IpAddress | null;
  hasMpReach: boolean;
  med: number | null;
  localPref: number | null;
  atomicAggregate: boolean;
  aggregator: Aggregator | null;
  as4Aggregator: Aggregator | null;
  communities: number[];
  extended: ExtendedCommunity[];
  large: LargeCommunity[];
  originatorId: number | null;
  clusterList: number[];
  unknown: RawAttribute[];
}

/** A decoder's complaint: `null` is none. */
type Complaint = { verdict: Verdict; subcode: number; reason: string } | null;

interface Codec {
  readonly name: string;
  /** The Optional and Transitive bits it must have. */
  readonly flags: number;
  /** True when the attribute is to be left out unread on this session (RFC 7606 7.5, 7.9, 7.10; RFC 6793 6). */
  readonly ignored?: (session: CodecSession) => boolean;
  readonly decode: (draft: Draft, buf: Uint8Array, off: number, len: number, session: CodecSession) => Complaint;
  /** The attribute's value; null when there is none to send. Absent where the encoder places it itself. */
  readonly encode?: (attributes: PathAttributes, session: CodecSession) => Uint8Array | null;
}

const withdraw = (subcode: number, reason: string): Complaint => ({ verdict: VERDICT_WITHDRAW, subcode, reason });
const discard = (subcode: number, reason: string): Complaint => ({ verdict: VERDICT_DISCARD, subcode, reason });
const wrongLength = (name: string, len: number): Complaint => withdraw(UPDATE_LENGTH, `${name} has length ${len}`);
const u32Bytes = (value: number): Uint8Array => new OctetWriter(4).u32(value).finish();
const words = (values: readonly number[]): Uint8Array | null => {
  if (values.length === 0) return null;
  const out = new OctetWriter(values.length * 4);
  for (const value of values) out.u32(value);
  return out.finish();
};

/** Type code -> how it is read and written. */
export const ATTRIBUTES: ReadonlyMap<number, Codec> = new Map<number, Codec>([
  [
    ATTR_ORIGIN,
    {
      name: 'ORIGIN',
      flags: FLAG_TRANSITIVE,
      decode(draft, buf, off, len) {
        if (len !== 1) return wrongLength('ORIGIN', len);
        const value = buf[off]!;
        if (value > 2) return withdraw(UPDATE_ORIGIN, `ORIGIN is ${value}`);
        draft.origin = value as Origin;
        return null;
      },
      encode: (a) => Uint8Array.of(a.origin),
    },
  ],
  [
    ATTR_AS_PATH,
    {
      name: 'AS_PATH',
      flags: FLAG_TRANSITIVE,
      decode(draft, buf, off, len, session) {
        const result = decodeSegments(buf, off, len, session.as4 ? 4 : 2);
        if (typeof result === 'string') return withdraw(UPDATE_AS_PATH, `AS_PATH: ${result}`);
        if (result.some((s) => s.type === 'confed-sequence' || s.type === 'confed-set')) {
          return withdraw(UPDATE_AS_PATH, 'AS_PATH: confederation segment from outside a confederation');
        }
        draft.asPath = result;
        return null;
      },
      encode: (a, session) => encodeSegments(a.asPath, session.as4),
    },
  ],
  [
    ATTR_NEXT_HOP,
    {
      name: 'NEXT_HOP',
      flags: FLAG_TRANSITIVE,
      decode(draft, buf, off, len) {
        if (len !== 4) return wrongLength('NEXT_HOP', len);
        const first = buf[off]!;
        if (first === 0 || first === 127 || first >= 224) {
          return withdraw(UPDATE_NEXT_HOP, `NEXT_HOP ${buf.subarray(off, off + 4).join('.')} is not a host address`);
        }
        draft.nextHop = IpAddress.fromBytes(buf.subarray(off, off + 4));
        return null;
      },
    },
  ],
  [
    ATTR_MED,
    {
      name: 'MULTI_EXIT_DISC',
      flags: FLAG_OPTIONAL,
      decode(draft, buf, off, len) {
        if (len !== 4) return wrongLength('MULTI_EXIT_DISC', len);
        draft.med = readU32(buf, off);
        return null;
      },
      encode: (a) => (a.med === null ? null : u32Bytes(a.med)),
    },
  ],
  [
    ATTR_LOCAL_PREF,
    {
      name: 'LOCAL_PREF',
      flags: FLAG_TRANSITIVE,
      ignored: (session) => session.external,
      decode(draft, buf, off, len) {
        if (len !== 4) return wrongLength('LOCAL_PREF', len);
        draft.localPref = readU32(buf, off);
        return null;
      },
      encode: (a, session) => (a.localPref === null || session.external ? null : u32Bytes(a.localPref)),
    },
  ],
  [
    ATTR_ATOMIC_AGGREGATE,
    {
      name: 'ATOMIC_AGGREGATE',
      flags: FLAG_TRANSITIVE,
      decode(draft, _buf, _off, len) {
        if (len !== 0) return discard(UPDATE_LENGTH, `ATOMIC_AGGREGATE has length ${len}`);
        draft.atomicAggregate = true;
        return null;
      },
      encode: (a) => (a.atomicAggregate ? new Uint8Array(0) : null),
    },
  ],
  [
    ATTR_AGGREGATOR,
    {
      name: 'AGGREGATOR',
      flags: FLAG_OPTIONAL | FLAG_TRANSITIVE,
      decode(draft, buf, off, len, session) {
        if (len !== (session.as4 ? 8 : 6)) return discard(UPDATE_LENGTH, `AGGREGATOR has length ${len}`);
        const asn = session.as4 ? readU32(buf, off) : readU16(buf, off);
        if (asn === 0) return discard(UPDATE_OPTIONAL, 'AGGREGATOR names AS 0');
        draft.aggregator = { asn, address: readU32(buf, off + len - 4) };
        return null;
      },
      encode(a, session) {
        if (!a.aggregator) return null;
        const out = new OctetWriter(8);
        if (session.as4) out.u32(a.aggregator.asn);
        else out.u16(narrowAs(a.aggregator.asn));
        return out.u32(a.aggregator.address).finish();
      },
    },
  ],
  [
    ATTR_COMMUNITIES,
    {
      name: 'COMMUNITIES',
      flags: FLAG_OPTIONAL | FLAG_TRANSITIVE,
      decode(draft, buf, off, len) {
        if (len === 0 || len % 4 !== 0) return withdraw(UPDATE_OPTIONAL, `COMMUNITIES has length ${len}`);
        for (let p = off; p < off + len; p += 4) draft.communities.push(readU32(buf, p));
        return null;
      },
      encode: (a) => words(sortedUnique(a.communities)),
    },
  ],
  [
    ATTR_ORIGINATOR_ID,
    {
      name: 'ORIGINATOR_ID',
      flags: FLAG_OPTIONAL,
      ignored: (session) => session.external,
      decode(draft, buf, off, len) {
        if (len !== 4) return wrongLength('ORIGINATOR_ID', len);
        draft.originatorId = readU32(buf, off);
        return null;
      },
      encode: (a, session) => (a.originatorId === null || session.external ? null : u32Bytes(a.originatorId)),
    },
  ],
  [
    ATTR_CLUSTER_LIST,
    {
      name: 'CLUSTER_LIST',
      flags: FLAG_OPTIONAL,
      ignored: (session) => session.external,
      decode(draft, buf, off, len) {
        if (len === 0 || len % 4 !== 0) return wrongLength('CLUSTER_LIST', len);
        for (let p = off; p < off + len; p += 4) draft.clusterList.push(readU32(buf, p));
        return null;
      },
      encode: (a, session) => (session.external ? null : words(a.clusterList)),
    },
  ],
  [
    ATTR_MP_REACH,
    {
      name: 'MP_REACH_NLRI',
      flags: FLAG_OPTIONAL,
      decode(draft, buf, off, len) {
        const problem = checkMpReach(buf, off, len);
        if (problem !== null) return { verdict: VERDICT_RESET, subcode: UPDATE_OPTIONAL, reason: problem };
        if (familyOf(readU16(buf, off), buf[off + 2]!) === null) return null;
        draft.hasMpReach = true;
        const nextHopLength = buf[off + 3]!;
        const at = off + 4;
        const first = IpAddress.fromBytes(buf.subarray(at, at + (nextHopLength === 4 ? 4 : 16)));
        const second = nextHopLength === 32 ? IpAddress.fromBytes(buf.subarray(at + 16, at + 32)) : null;
        if (first.isMulticast() || (first.isUnspecified() && !second?.isLinkLocal())) {
          return withdraw(UPDATE_NEXT_HOP, `next hop ${first} is not a host address`);
        }
        draft.mpNextHop = first.isUnspecified() ? second : first;
        draft.linkLocal = second?.isLinkLocal() ? second : first.isLinkLocal() && first.family === 6 ? first : null;
        return null;
      },
    },
  ],
  [ATTR_MP_UNREACH, { name: 'MP_UNREACH_NLRI', flags: FLAG_OPTIONAL, decode: () => null }],
  [
    ATTR_EXTENDED_COMMUNITIES,
    {
      name: 'EXTENDED_COMMUNITIES',
      flags: FLAG_OPTIONAL | FLAG_TRANSITIVE,
      decode(draft, buf, off, len) {
        if (len === 0 || len % 8 !== 0) return withdraw(UPDATE_OPTIONAL, `EXTENDED_COMMUNITIES has length ${len}`);
        for (let p = off; p < off + len; p += 8) draft.extended.push([readU32(buf, p), readU32(buf, p + 4)]);
        return null;
      },
      encode(a, session) {
        // A non-transitive community (bit 0x40 of the type) does not leave the AS (RFC 4360 section 6).
        const kept = a.extendedCommunities.filter(([high]) => !session.external || (high & 0x40000000) === 0);
        return words(uniqueTuples(kept).flat());
      },
    },
  ],
  [
    ATTR_AS4_PATH,
    {
      name: 'AS4_PATH',
      flags: FLAG_OPTIONAL | FLAG_TRANSITIVE,
      ignored: (session) => session.as4,
      decode(draft, buf, off, len) {
        const result = decodeSegments(buf, off, len, 4);
        if (typeof result === 'string') return discard(UPDATE_OPTIONAL, `AS4_PATH: ${result}`);
        draft.as4Path = result.filter((s) => s.type === 'set' || s.type === 'sequence');
        return null;
      },
      encode(a, session) {
        if (session.as4 || !a.asPath.some((s) => s.asns.some((asn) => asn > 0xffff))) return null;
        return encodeSegments(
          a.asPath.filter((s) => s.type === 'set' || s.type === 'sequence'),
          true,
        );
      },
    },
  ],
  [
    ATTR_AS4_AGGREGATOR,
    {
      name: 'AS4_AGGREGATOR',
      flags: FLAG_OPTIONAL | FLAG_TRANSITIVE,
      ignored: (session) => session.as4,
      decode(draft, buf, off, len) {
        if (len !== 8) return discard(UPDATE_LENGTH, `AS4_AGGREGATOR has length ${len}`);
        const asn = readU32(buf, off);
        if (asn === 0) return discard(UPDATE_OPTIONAL, 'AS4_AGGREGATOR names AS 0');
        draft.as4Aggregator = { asn, address: readU32(buf, off + 4) };
        return null;
      },
      encode(a, session) {
        if (session.as4 || !a.aggregator || a.aggregator.asn <= 0xffff) return null;
        return new OctetWriter(8).u32(a.aggregator.asn).u32(a.aggregator.address).finish();
      },
    },
  ],
  [
    ATTR_LARGE_COMMUNITIES,
    {
      name: 'LARGE_COMMUNITIES',
      flags: FLAG_OPTIONAL | FLAG_TRANSITIVE,
      decode(draft, buf, off, len) {
        if (len === 0 || len % 12 !== 0) return withdraw(UPDATE_OPTIONAL, `LARGE_COMMUNITIES has length ${len}`);
        for (let p = off; p < off + len; p += 12) {
          draft.large.push([readU32(buf, p), readU32(buf, p + 4), readU32(buf, p + 8)]);
        }
        return null;
      },
      encode: (a) => words(uniqueTuples(a.largeCommunities).flat()),
    },
  ],
]);

/** What is wrong with the fixed part of an MP_REACH_NLRI (an unknown family is not wrong); null when nothing is. */
export function checkMpReach(buf: Uint8Array, off: number, len: number): string | null {
  if (len < 5) return `MP_REACH_NLRI has length ${len}`;
  const family = familyOf(readU16(buf, off), buf[off + 2]!);
  const nextHopLength = buf[off + 3]!;
  if (nextHopLength + 5 > len) return `MP_REACH_NLRI: next hop of ${nextHopLength} octets does not fit`;
  if (family === null || nextHopLength === 16 || nextHopLength === 32) return null;
  if (family === 'ipv4' && nextHopLength === 4) return null;
  return `MP_REACH_NLRI: next hop of ${nextHopLength} octets`;
}

/**
 * Decodes an attribute block. `requireMandatory` is true when the UPDATE carries reachable prefixes: only then must
 * the well-known mandatory attributes be there. Never throws on bad octets.
 */
export function decodeAttributes(
  buf: Uint8Array,
  off: number,
  len: number,
  session: CodecSession,
  requireMandatory = true,
): DecodedAttributes {
  const draft: Draft = emptyDraft();
  const errors: WireError[] = [];
  const seen = new Set<number>();
  const end = off + len;
  let verdict: Verdict = VERDICT_OK;
  const complain = (worse: Verdict, subcode: number, reason: string, from: number, to: number): void => {
    if (worse > verdict) verdict = worse;
    errors.push({ verdict: worse, code: 3, subcode, data: buf.slice(from, to), reason });
  };
  let p = off;
  while (p < end) {
    const start = p;
    const flags = buf[p]!;
    const header = flags & FLAG_EXTENDED ? 4 : 3;
    if (end - p < header) {
      complain(VERDICT_WITHDRAW, UPDATE_MALFORMED_LIST, 'attribute header is cut off', start, end);
      break;
    }
    const code = buf[p + 1]!;
    const length = header === 4 ? readU16(buf, p + 2) : buf[p + 2]!;
    const value = p + header;
    if (length > end - value) {
      complain(VERDICT_WITHDRAW, UPDATE_LENGTH, `${attributeName(code)} overruns the attribute block`, start, end);
      break;
    }
    p = value + length;
    if (seen.has(code)) {
      if (code === ATTR_MP_REACH || code === ATTR_MP_UNREACH) {
        complain(VERDICT_RESET, UPDATE_MALFORMED_LIST, `${attributeName(code)} occurs twice`, start, start);
        break;
      }
      complain(VERDICT_DISCARD, UPDATE_MALFORMED_LIST, `${attributeName(code)} occurs twice`, start, p);
      continue;
    }
    seen.add(code);
    const codec = ATTRIBUTES.get(code);
    if (!codec) {
      if (!(flags & FLAG_OPTIONAL)) {
        complain(VERDICT_RESET, UPDATE_UNRECOGNIZED_WELL_KNOWN, `unknown well-known attribute ${code}`, start, p);
        break;
      }
      if (flags & FLAG_TRANSITIVE) {
        draft.unknown.push({ flags: FLAG_KIND | FLAG_PARTIAL, code, value: buf.slice(value, p) });
      }
      continue;
    }
    if (codec.ignored?.(session)) continue;
    if ((flags & FLAG_KIND) !== codec.flags) {
      complain(VERDICT_WITHDRAW, UPDATE_FLAGS, `${codec.name} has flags 0x${flags.toString(16)}`, start, p);
      continue;
    }
    const complaint = codec.decode(draft, buf, value, length, session);
    if (complaint) {
      complain(complaint.verdict, complaint.subcode, complaint.reason, start, p);
      if (complaint.verdict === VERDICT_RESET) break;
    }
  }
  if (requireMandatory && verdict < VERDICT_WITHDRAW) {
    const missing = !seen.has(ATTR_ORIGIN)
      ? ATTR_ORIGIN
      : !seen.has(ATTR_AS_PATH)
        ? ATTR_AS_PATH
        : !seen.has(ATTR_NEXT_HOP) && !draft.hasMpReach
          ? ATTR_NEXT_HOP
          : 0;
    if (missing !== 0) {
      verdict = VERDICT_WITHDRAW;
      errors.push({
        verdict,
        code: 3,
        subcode: UPDATE_MISSING_WELL_KNOWN,
        data: Uint8Array.of(missing),
        reason: `${attributeName(missing)} is missing`,
      });
    }
  }
  return { attributes: verdict >= VERDICT_WITHDRAW ? null : settle(draft), verdict, errors };
}

/** The attribute's name for people: `AS_PATH`, or `attribute 99`. */
export function attributeName(code: number): string {
  return ATTRIBUTES.get(code)?.name ?? `attribute ${code}`;
}

/**
 * Encodes attributes for a session, in ascending order of type code. `nextHop` says where the next hop goes:
 * - `attribute`: NEXT_HOP (needs an IPv4 next hop);
 * - `none`: the caller writes MP_REACH_NLRI itself, next hop and prefixes together;
 * - a family: an MP_REACH_NLRI of that family with the next hop and no prefix comes first (the stored form).
 * LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST are left out towards an external peer.
 */
export function encodeAttributes(
  attributes: PathAttributes,
  session: CodecSession,
  nextHop: 'attribute' | 'none' | AddressFamily,
): Uint8Array {
  const out = new OctetWriter(128);
  if (nextHop === 'ipv4' || nextHop === 'ipv6') {
    const value = new OctetWriter(40).u16(afiOf(nextHop)).u8(SAFI_UNICAST);
    const address = encodeNextHop(attributes);
    value.u8(address.length).bytes(address).u8(0);
    putAttribute(out, FLAG_OPTIONAL, ATTR_MP_REACH, value.finish());
  }
  const pieces: { code: number; flags: number; value: Uint8Array }[] = [];
  for (const [code, codec] of ATTRIBUTES) {
    const value = codec.encode?.(attributes, session) ?? null;
    if (value) pieces.push({ code, flags: codec.flags, value });
  }
  if (nextHop === 'attribute' && attributes.nextHop?.family === 4) {
    pieces.push({ code: ATTR_NEXT_HOP, flags: FLAG_TRANSITIVE, value: attributes.nextHop.bytes });
  }
  for (const raw of attributes.unknown) pieces.push({ code: raw.code, flags: raw.flags, value: raw.value });
  pieces.sort((a, b) => a.code - b.code);
  for (const piece of pieces) putAttribute(out, piece.flags, piece.code, piece.value);
  return out.finish();
}

/** The next hop as MP_REACH_NLRI carries it: 4, 16, or 32 octets (global and link-local). Empty without a next hop. */
export function encodeNextHop(attributes: Pick<PathAttributes, 'nextHop' | 'linkLocalNextHop'>): Uint8Array {
  const { nextHop, linkLocalNextHop } = attributes;
  if (!nextHop) return new Uint8Array(0);
  if (nextHop.family === 4 || !linkLocalNextHop || linkLocalNextHop.equals(nextHop)) return nextHop.bytes;
  return new OctetWriter(32).bytes(nextHop.bytes).bytes(linkLocalNextHop.bytes).finish();
}

/** Attributes with nothing but the given members; the rest as of a route that this speaker originates. */
export function makeAttributes(members: Partial<PathAttributes>): PathAttributes {
  return {
    origin: 0,
    asPath: [],
    nextHop: null,
    linkLocalNextHop: null,
    med: null,
    localPref: null,
    atomicAggregate: false,
    aggregator: null,
    communities: [],
    extendedCommunities: [],
    largeCommunities: [],
    originatorId: null,
    clusterList: [],
    unknown: [],
    ...members,
  };
}

function putAttribute(out: OctetWriter, flags: number, code: number, value: Uint8Array): void {
  if (value.length > 255)
    out
      .u8(flags | FLAG_EXTENDED)
      .u8(code)
      .u16(value.length);
  else
    out
      .u8(flags & ~FLAG_EXTENDED)
      .u8(code)
      .u8(value.length);
  out.bytes(value);
}

function emptyDraft(): Draft {
  return {
    origin: null,
    asPath: null,
    as4Path: null,
    nextHop: null,
    mpNextHop: null,
    linkLocal: null,
    hasMpReach: false,
    med: null,
    localPref: null,
    atomicAggregate: false,
    aggregator: null,
    as4Aggregator: null,
    communities: [],
    extended: [],
    large: [],
    originatorId: null,
    clusterList: [],
    unknown: [],
  };
}

function settle(draft: Draft): PathAttributes {
  let asPath = draft.asPath ?? [];
  let aggregator = draft.aggregator;
  // RFC 6793 4.2.3: a narrow AGGREGATOR that is not AS_TRANS tells that an old speaker aggregated on the way,
  // so what the AS4 attributes say is about another route.
  const aggregatedByOld = draft.aggregator && draft.as4Aggregator && draft.aggregator.asn !== AS_TRANS;
  if (!aggregatedByOld) {
    if (draft.aggregator && draft.as4Aggregator) aggregator = draft.as4Aggregator;
    if (draft.as4Path) asPath = mergeAs4Path(asPath, draft.as4Path);
  }
  return {
    origin: draft.origin ?? 2,
    asPath,
    nextHop: draft.hasMpReach ? draft.mpNextHop : draft.nextHop,
    linkLocalNextHop: draft.linkLocal,
    med: draft.med,
    localPref: draft.localPref,
    atomicAggregate: draft.atomicAggregate,
    aggregator,
    communities: draft.communities,
    extendedCommunities: draft.extended,
    largeCommunities: draft.large,
    originatorId: draft.originatorId,
    clusterList: draft.clusterList,
    unknown: draft.unknown,
  };
}

const SEGMENT_TYPES: readonly (AsSegmentType | undefined)[] = [
  undefined,
  'set',
  'sequence',
  'confed-sequence',
  'confed-set',
];

function decodeSegments(buf: Uint8Array, off: number, len: number, width: 2 | 4): AsPathSegment[] | string {
  const segments: AsPathSegment[] = [];
  const end = off + len;
  let p = off;
  while (p < end) {
    if (end - p < 2) return 'segment header is cut off';
    const type = SEGMENT_TYPES[buf[p]!];
    if (!type) return `segment type ${buf[p]}`;
    const count = buf[p + 1]!;
    if (count === 0) return 'empty segment';
    p += 2;
    if (count * width > end - p) return 'segment overruns the attribute';
    const asns: number[] = [];
    for (let i = 0; i < count; i++, p += width) {
      const asn = width === 4 ? readU32(buf, p) : readU16(buf, p);
      if (asn === 0) return 'contains AS 0';
      asns.push(asn);
    }
    segments.push({ type, asns });
  }
  return segments;
}

function encodeSegments(segments: readonly AsPathSegment[], wide: boolean): Uint8Array {
  const out = new OctetWriter(64);
  for (const segment of segments) {
    for (let from = 0; from < segment.asns.length; from += 255) {
      const part = segment.asns.slice(from, from + 255);
      out.u8(SEGMENT_TYPES.indexOf(segment.type)).u8(part.length);
      for (const asn of part) {
        if (wide) out.u32(asn);
        else out.u16(narrowAs(asn));
      }
    }
  }
  return out.finish();
}

function narrowAs(asn: number): number {
  return asn > 0xffff ? AS_TRANS : asn;
}

/** Length of a path for route selection: a set counts one, confederation segments nothing (RFC 4271 9.1.2.2, RFC 5065). */
export function asPathLength(segments: readonly AsPathSegment[]): number {
  let length = 0;
  for (const s of segments) length += s.type === 'sequence' ? s.asns.length : s.type === 'set' ? 1 : 0;
  return length;
}

/** RFC 6793 4.2.3: the leading part of AS_PATH that AS4_PATH does not cover, followed by AS4_PATH. */
export function mergeAs4Path(asPath: AsPathSegment[], as4Path: readonly AsPathSegment[]): AsPathSegment[] {
  let missing = asPathLength(asPath) - asPathLength(as4Path);
  if (missing < 0 || as4Path.length === 0) return asPath;
  const merged: AsPathSegment[] = [];
  for (const segment of asPath) {
    const confederation = segment.type === 'confed-sequence' || segment.type === 'confed-set';
    if (missing <= 0 && !confederation) break;
    if (segment.type === 'sequence' && segment.asns.length > missing) {
      merged.push({ type: 'sequence', asns: segment.asns.slice(0, missing) });
      missing = 0;
      break;
    }
    merged.push(segment);
    missing -= asPathLength([segment]);
  }
  const last = merged.at(-1);
  const first = as4Path[0]!;
  if (last?.type === 'sequence' && first.type === 'sequence' && last.asns.length + first.asns.length <= 255) {
    merged[merged.length - 1] = { type: 'sequence', asns: [...last.asns, ...first.asns] };
    return [...merged, ...as4Path.slice(1)];
  }
  return [...merged, ...as4Path];
}

function sortedUnique(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}

function uniqueTuples<T extends readonly number[]>(tuples: readonly T[]): T[] {
  const sorted = [...tuples].sort(compareTuples);
  return sorted.filter((t, i) => i === 0 || compareTuples(t, sorted[i - 1]!) !== 0);
}

function compareTuples(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return 0;
}
