// UPDATE messages (RFC 4271 4.3, RFC 4760): finding the parts. No allocation, no copy; attribute contents are not
// looked at here (decodeAttributes does that once for each distinct block).
// In: a framed message. Out: offsets in an UpdateView and, by RFC 7606, a verdict.
import {
  ATTR_MP_REACH,
  ATTR_MP_UNREACH,
  FLAG_EXTENDED,
  FLAG_OPTIONAL,
  FLAG_TRANSITIVE,
  UPDATE_FLAGS,
  UPDATE_LENGTH,
  UPDATE_MALFORMED_LIST,
  UPDATE_NETWORK,
  UPDATE_OPTIONAL,
  checkMpReach,
} from './attributes.ts';
import {
  type AddressFamily,
  type CodecSession,
  familyOf,
  VERDICT_OK,
  VERDICT_RESET,
  VERDICT_WITHDRAW,
  type Verdict,
} from './types.ts';
import { readU16 } from './writer.ts';

const HEADER_OCTETS = 19;

/** Where the parts of one UPDATE lie in `buf`. Reused from message to message. */
export class UpdateView {
  buf: Uint8Array = new Uint8Array(0);
  /** Withdrawn IPv4 prefixes. */
  withdrawnOff = 0;
  withdrawnLen = 0;
  /** The whole attribute block as received, MP attributes included. */
  attrOff = 0;
  attrLen = 0;
  /** Reachable IPv4 prefixes of the message's own NLRI field. */
  nlriOff = 0;
  nlriLen = 0;
  /** Family of MP_REACH_NLRI; null when there is none or the session has not agreed to it. */
  reachFamily: AddressFamily | null = null;
  /** The whole attribute with its header, for cutting it out of the block. 0 length: none. */
  reachAttrOff = 0;
  reachAttrLen = 0;
  reachNextHopOff = 0;
  reachNextHopLen = 0;
  reachNlriOff = 0;
  reachNlriLen = 0;
  /** Family of MP_UNREACH_NLRI; null when there is none or the session has not agreed to it. */
  unreachFamily: AddressFamily | null = null;
  unreachAttrOff = 0;
  unreachAttrLen = 0;
  unreachNlriOff = 0;
  unreachNlriLen = 0;
  /** The family whose End-of-RIB this message is (RFC 4724 section 2); null when it is none. */
  endOfRib: AddressFamily | null = null;
  /** Attributes besides MP_UNREACH_NLRI are present. */
  hasAttributes = false;
  verdict: Verdict = VERDICT_OK;
  /** UPDATE error subcode, when the verdict is not OK. */
  subcode = 0;
  reason = '';
  /** The octets that go into the NOTIFICATION. */
  dataOff = 0;
  dataLen = 0;

  /** The message announces at least one prefix of an agreed family, or would if its verdict let it. */
  get hasReachable(): boolean {
    return this.nlriLen > 0 || this.reachNlriLen > 0;
  }
}

/**
 * Finds the parts of the UPDATE whose header starts at `off` and whose whole length is `len` (both already checked by
 * the framing). After a verdict of withdraw the ranges of prefixes are still valid: all of them are to be withdrawn.
 * After reset only `subcode`, `reason` and the data range are.
 */
export function splitUpdate(
  buf: Uint8Array,
  off: number,
  len: number,
  session: CodecSession,
  view: UpdateView,
): Verdict {
  const end = off + len;
  view.buf = buf;
  view.reachFamily = null;
  view.reachAttrLen = 0;
  view.reachNlriLen = 0;
  view.reachNextHopLen = 0;
  view.unreachFamily = null;
  view.unreachAttrLen = 0;
  view.unreachNlriLen = 0;
  view.endOfRib = null;
  view.hasAttributes = false;
  view.verdict = VERDICT_OK;
  view.subcode = 0;
  view.reason = '';
  view.dataOff = 0;
  view.dataLen = 0;
  view.nlriLen = 0;
  view.withdrawnLen = 0;
  view.attrLen = 0;

  let p = off + HEADER_OCTETS;
  if (end - p < 4) return fail(view, VERDICT_RESET, UPDATE_MALFORMED_LIST, 'UPDATE is shorter than 23 octets', p, 0);
  const withdrawn = readU16(buf, p);
  view.withdrawnOff = p + 2;
  if (withdrawn > end - p - 4) {
    return fail(view, VERDICT_RESET, UPDATE_MALFORMED_LIST, 'withdrawn routes overrun the message', p, 0);
  }
  view.withdrawnLen = withdrawn;
  p += 2 + withdrawn;
  const attributes = readU16(buf, p);
  view.attrOff = p + 2;
  if (attributes > end - p - 2) {
    return fail(view, VERDICT_RESET, UPDATE_MALFORMED_LIST, 'path attributes overrun the message', p, 0);
  }
  view.attrLen = attributes;
  view.nlriOff = view.attrOff + attributes;
  view.nlriLen = end - view.nlriOff;
  if ((withdrawn > 0 || view.nlriLen > 0) && !session.families.ipv4) {
    // Prefixes of a family that was not agreed: as for MP attributes, they are passed over.
    view.withdrawnLen = 0;
    view.nlriLen = 0;
  }
  const verdict = walkAttributes(view, session);
  if (verdict === VERDICT_RESET) return verdict;
  if (verdict === VERDICT_WITHDRAW && view.hasAttributes && !view.hasReachable) {
    view.verdict = VERDICT_RESET; // RFC 7606 5.2: there is no telling what the message was about
    return VERDICT_RESET;
  }
  if (len === HEADER_OCTETS + 4) view.endOfRib = 'ipv4';
  else if (
    view.unreachAttrLen > 0 &&
    view.unreachAttrLen === attributes &&
    view.unreachNlriLen === 0 &&
    withdrawn === 0 &&
    view.nlriOff === end
  ) {
    view.endOfRib = view.unreachFamily;
  }
  return verdict;
}

function walkAttributes(view: UpdateView, session: CodecSession): Verdict {
  const buf = view.buf;
  const end = view.attrOff + view.attrLen;
  let p = view.attrOff;
  while (p < end) {
    const start = p;
    const flags = buf[p]!;
    const header = (flags & FLAG_EXTENDED) !== 0 ? 4 : 3;
    if (end - p < header) {
      view.hasAttributes = true;
      return fail(view, VERDICT_WITHDRAW, UPDATE_MALFORMED_LIST, 'attribute header is cut off', start, end - start);
    }
    const code = buf[p + 1]!;
    const length = header === 4 ? readU16(buf, p + 2) : buf[p + 2]!;
    const value = p + header;
    if (length > end - value) {
      view.hasAttributes = true;
      return fail(
        view,
        VERDICT_WITHDRAW,
        UPDATE_LENGTH,
        'an attribute overruns the attribute block',
        start,
        end - start,
      );
    }
    p = value + length;
    if (code === ATTR_MP_REACH) {
      view.hasAttributes = true;
      if (view.reachAttrLen > 0) {
        return fail(view, VERDICT_RESET, UPDATE_MALFORMED_LIST, 'MP_REACH_NLRI occurs twice', start, 0);
      }
      view.reachAttrOff = start;
      view.reachAttrLen = p - start;
      if (!locateReach(view, session, flags, value, length)) return view.verdict;
    } else if (code === ATTR_MP_UNREACH) {
      if (view.unreachAttrLen > 0) {
        return fail(view, VERDICT_RESET, UPDATE_MALFORMED_LIST, 'MP_UNREACH_NLRI occurs twice', start, 0);
      }
      view.unreachAttrOff = start;
      view.unreachAttrLen = p - start;
      if (length < 3) {
        return fail(view, VERDICT_RESET, UPDATE_OPTIONAL, `MP_UNREACH_NLRI has length ${length}`, start, p - start);
      }
      const family = familyOf(readU16(buf, value), buf[value + 2]!);
      if (family !== null && session.families[family]) {
        view.unreachFamily = family;
        view.unreachNlriOff = value + 3;
        view.unreachNlriLen = length - 3;
      }
      if ((flags & (FLAG_OPTIONAL | FLAG_TRANSITIVE)) !== FLAG_OPTIONAL) {
        fail(view, VERDICT_WITHDRAW, UPDATE_FLAGS, 'MP_UNREACH_NLRI has wrong flags', start, p - start);
      }
    } else view.hasAttributes = true;
  }
  return view.verdict;
}

function locateReach(view: UpdateView, session: CodecSession, flags: number, value: number, length: number): boolean {
  const buf = view.buf;
  const problem = checkMpReach(buf, value, length);
  if (problem !== null) {
    fail(view, VERDICT_RESET, UPDATE_OPTIONAL, problem, view.reachAttrOff, view.reachAttrLen);
    return false;
  }
  const family = familyOf(readU16(buf, value), buf[value + 2]!);
  const agreed = family === null ? null : session.families[family];
  if (family === null || !agreed) return true;
  const nextHopLength = buf[value + 3]!;
  if (family === 'ipv4' && nextHopLength !== 4 && !agreed.extendedNextHop) {
    const reason = 'an IPv6 next hop for IPv4 routes was not agreed';
    fail(view, VERDICT_RESET, UPDATE_OPTIONAL, reason, view.reachAttrOff, view.reachAttrLen);
    return false;
  }
  view.reachFamily = family;
  view.reachNextHopOff = value + 4;
  view.reachNextHopLen = nextHopLength;
  view.reachNlriOff = value + 5 + nextHopLength;
  view.reachNlriLen = length - 5 - nextHopLength;
  if ((flags & (FLAG_OPTIONAL | FLAG_TRANSITIVE)) !== FLAG_OPTIONAL) {
    fail(view, VERDICT_WITHDRAW, UPDATE_FLAGS, 'MP_REACH_NLRI has wrong flags', view.reachAttrOff, view.reachAttrLen);
  }
  return true;
}

function fail(
  view: UpdateView,
  verdict: Verdict,
  subcode: number,
  reason: string,
  dataOff: number,
  dataLen: number,
): Verdict {
  if (verdict > view.verdict) {
    view.verdict = verdict;
    view.subcode = subcode;
    view.reason = reason;
    view.dataOff = dataOff;
    view.dataLen = dataLen;
  }
  return view.verdict;
}

/** UPDATE error subcode for prefixes that do not parse. */
export const NLRI_ERROR_SUBCODE = UPDATE_NETWORK;

/** A range of octets; what attributeKey fills in. */
export interface OctetRange {
  buf: Uint8Array;
  off: number;
  len: number;
}

/**
 * The octets under which the attributes of one set of prefixes are interned: the block without MP_REACH_NLRI and
 * MP_UNREACH_NLRI and, for the prefixes of MP_REACH_NLRI, that attribute first with its next hop and no prefix.
 * The result is itself an attribute block, so decodeAttributes reads it. Without MP attributes it is the block in
 * place and nothing is copied; otherwise it is written to `scratch` (at least 64 KiB).
 */
export function attributeKey(view: UpdateView, which: 'nlri' | 'reach', scratch: Uint8Array, out: OctetRange): void {
  if (view.reachAttrLen === 0 && view.unreachAttrLen === 0) {
    out.buf = view.buf;
    out.off = view.attrOff;
    out.len = view.attrLen;
    return;
  }
  let n = 0;
  if (which === 'reach') {
    const family = view.reachFamily;
    scratch[0] = FLAG_OPTIONAL;
    scratch[1] = ATTR_MP_REACH;
    scratch[2] = 5 + view.reachNextHopLen;
    scratch[3] = 0;
    scratch[4] = family === 'ipv4' ? 1 : 2;
    scratch[5] = 1;
    scratch[6] = view.reachNextHopLen;
    n = 7;
    for (let i = 0; i < view.reachNextHopLen; i++) scratch[n++] = view.buf[view.reachNextHopOff + i]!;
    scratch[n++] = 0;
  }
  // Cut both MP attributes out of the block; either may come first.
  let from = view.attrOff;
  const end = view.attrOff + view.attrLen;
  while (from < end) {
    const reachNext = view.reachAttrLen > 0 && view.reachAttrOff >= from ? view.reachAttrOff : end;
    const unreachNext = view.unreachAttrLen > 0 && view.unreachAttrOff >= from ? view.unreachAttrOff : end;
    const stop = Math.min(reachNext, unreachNext);
    scratch.set(view.buf.subarray(from, stop), n);
    n += stop - from;
    from = stop === end ? end : stop + (stop === reachNext ? view.reachAttrLen : view.unreachAttrLen);
  }
  out.buf = scratch;
  out.off = 0;
  out.len = n;
}
