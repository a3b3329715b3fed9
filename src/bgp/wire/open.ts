// The OPEN message (RFC 4271 4.2, RFC 5492, RFC 6793, RFC 9072) and what two OPENs agree on.
import { AS_TRANS } from './attributes.ts';
import { type Capabilities, decodeCapabilities, encodeCapabilities, NO_CAPABILITIES } from './capabilities.ts';
import { frame, HEADER_LENGTH, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, MSG_OPEN, type ProtocolError } from './message.ts';
import { type AddressFamily, type CodecSession, EMPTY_BYTES, type FamilySession } from './types.ts';
import { OctetWriter, readU16, readU32 } from './writer.ts';

export const OPEN_UNSPECIFIC = 0;
export const OPEN_VERSION = 1;
export const OPEN_PEER_AS = 2;
export const OPEN_ROUTER_ID = 3;
export const OPEN_PARAMETER = 4;
export const OPEN_HOLD_TIME = 6;
export const OPEN_CAPABILITY = 7;

const PARAM_CAPABILITIES = 2;
const PARAM_EXTENDED = 255;

export interface OpenMessage {
  /** The 4-octet AS number where offered, otherwise "My Autonomous System". */
  readonly asNumber: number;
  /** Seconds; 0, or 3 and more. */
  readonly holdTime: number;
  /** Unsigned 32 bits, not 0. */
  readonly routerId: number;
  readonly capabilities: Capabilities;
}

/** A whole OPEN message. Without capabilities at all (for a peer that refuses them) pass null for them. */
export function encodeOpen(open: Omit<OpenMessage, 'capabilities'>, capabilities: Capabilities | null): Uint8Array {
  const body = new OctetWriter(128)
    .u8(4)
    .u16(open.asNumber > 0xffff ? AS_TRANS : open.asNumber)
    .u16(open.holdTime)
    .u32(open.routerId);
  const value = capabilities ? encodeCapabilities(capabilities) : EMPTY_BYTES;
  if (value.length === 0) body.u8(0);
  else if (value.length + 2 <= 255)
    body
      .u8(value.length + 2)
      .u8(PARAM_CAPABILITIES)
      .u8(value.length)
      .bytes(value);
  else {
    body
      .u8(255)
      .u8(PARAM_EXTENDED)
      .u16(value.length + 3);
    body.u8(PARAM_CAPABILITIES).u16(value.length).bytes(value);
  }
  return frame(MSG_OPEN, body.finish());
}

/** Reads a framed OPEN. The error carries what goes into the NOTIFICATION. */
export function decodeOpen(buf: Uint8Array, off: number, len: number): OpenMessage | ProtocolError {
  const at = off + HEADER_LENGTH;
  const end = off + len;
  const version = buf[at]!;
  if (version !== 4) return openError(OPEN_VERSION, `BGP version ${version}`, Uint8Array.of(0, 4));
  const myAs = readU16(buf, at + 1);
  const holdTime = readU16(buf, at + 3);
  const routerId = readU32(buf, at + 5);
  const capabilities: { -readonly [K in keyof Capabilities]: Capabilities[K] } = { ...NO_CAPABILITIES };
  let total = buf[at + 9]!;
  let p = at + 10;
  // RFC 9072: the extended form is told by a first parameter type of 255, whatever the length octet says but 0.
  const extended = total !== 0 && end - p >= 3 && buf[p] === PARAM_EXTENDED;
  if (extended) {
    total = readU16(buf, p + 1);
    p += 3;
  }
  if (total !== end - p) return openError(OPEN_UNSPECIFIC, `optional parameters of ${total} octets in ${end - p}`);
  const header = extended ? 3 : 2;
  while (p < end) {
    if (end - p < header) return openError(OPEN_UNSPECIFIC, 'optional parameter is cut off');
    const type = buf[p]!;
    const length = extended ? readU16(buf, p + 1) : buf[p + 1]!;
    p += header;
    if (length > end - p) return openError(OPEN_UNSPECIFIC, `optional parameter ${type} overruns the message`);
    if (type !== PARAM_CAPABILITIES) return openError(OPEN_PARAMETER, `optional parameter ${type}`);
    const problem = decodeCapabilities(capabilities, buf, p, length);
    if (problem !== null) return openError(OPEN_UNSPECIFIC, problem);
    p += length;
  }
  const asNumber = capabilities.as4 ?? myAs;
  if (asNumber === 0 || myAs === 0) return openError(OPEN_PEER_AS, 'AS 0');
  if (holdTime === 1 || holdTime === 2) return openError(OPEN_HOLD_TIME, `hold time ${holdTime} s`);
  if (routerId === 0) return openError(OPEN_ROUTER_ID, 'router id 0.0.0.0');
  return { asNumber, holdTime, routerId, capabilities };
}

export function isProtocolError(value: object): value is ProtocolError {
  return 'subcode' in value;
}

function openError(subcode: number, reason: string, data: Uint8Array = EMPTY_BYTES): ProtocolError {
  return { code: 2, subcode, data, reason };
}

/** What both OPENs together allow. */
export interface Negotiated {
  readonly codec: CodecSession;
  /** Seconds; 0: no keepalives, no hold timer. */
  readonly holdTime: number;
  readonly families: readonly AddressFamily[];
  readonly routeRefresh: boolean;
  readonly enhancedRouteRefresh: boolean;
}

export interface LocalSide {
  readonly asNumber: number;
  readonly holdTime: number;
  readonly capabilities: Capabilities;
}

/** The session that two OPENs make. Families are empty when the two have none in common. */
export function negotiate(local: LocalSide, peer: OpenMessage): Negotiated {
  const mine = local.capabilities;
  const theirs = peer.capabilities;
  const families = (mine.families ?? ['ipv4']).filter((f) => (theirs.families ?? ['ipv4']).includes(f));
  const session = (family: AddressFamily): FamilySession | null => {
    if (!families.includes(family)) return null;
    const own = mine.addPath.find((f) => f.family === family);
    const other = theirs.addPath.find((f) => f.family === family);
    return {
      addPathReceive: (own?.receive ?? false) && (other?.send ?? false),
      addPathSend: (own?.send ?? false) && (other?.receive ?? false),
      extendedNextHop: mine.extendedNextHop.includes(family) && theirs.extendedNextHop.includes(family),
    };
  };
  return {
    codec: {
      as4: mine.as4 !== null && theirs.as4 !== null,
      external: local.asNumber !== peer.asNumber,
      localAs: local.asNumber,
      peerAs: peer.asNumber,
      maxMessageLength: mine.extendedMessages && theirs.extendedMessages ? MAX_EXTENDED_MESSAGE : MAX_MESSAGE,
      families: { ipv4: session('ipv4'), ipv6: session('ipv6') },
    },
    holdTime: Math.min(local.holdTime, peer.holdTime),
    families,
    routeRefresh: mine.routeRefresh && theirs.routeRefresh,
    enhancedRouteRefresh: mine.enhancedRouteRefresh && theirs.enhancedRouteRefresh,
  };
}
