// Framing (RFC 4271 4.1, RFC 8654) and the messages without a file of their own: KEEPALIVE, ROUTE-REFRESH (RFC 2918,
// RFC 7313). In: chunks as the socket gives them. Out: (type, buf, off, len) of each whole message, in place where the
// chunk holds it whole; header errors by return value.
import { type AddressFamily, afiOf, EMPTY_BYTES, familyOf, SAFI_UNICAST } from './types.ts';
import { OctetWriter, readU16 } from './writer.ts';

export const BGP_PORT = 179;
export const HEADER_LENGTH = 19;
export const MAX_MESSAGE = 4096;
export const MAX_EXTENDED_MESSAGE = 65535;

export const MSG_OPEN = 1;
export const MSG_UPDATE = 2;
export const MSG_NOTIFICATION = 3;
export const MSG_KEEPALIVE = 4;
export const MSG_ROUTE_REFRESH = 5;

export const MESSAGE_NAMES: readonly string[] = ['', 'OPEN', 'UPDATE', 'NOTIFICATION', 'KEEPALIVE', 'ROUTE-REFRESH'];

/** Least whole length by type (RFC 4271 6.1). */
const LEAST_LENGTH: readonly number[] = [0, 29, 23, 21, 19, 23];

/** What goes into a NOTIFICATION. */
export interface ProtocolError {
  readonly code: number;
  readonly subcode: number;
  readonly data: Uint8Array;
  readonly reason: string;
}

/** Gets each message; `buf` is valid only during the call. False stops the framer for good. */
export type MessageHandler = (type: number, buf: Uint8Array, off: number, len: number) => boolean;

/** Cuts a byte stream into messages. One for each connection. */
export class Framer {
  /** Raised to 65535 once both ends have offered extended messages. */
  maxLength = MAX_MESSAGE;
  #rest = EMPTY_BYTES;
  #restLength = 0;
  #dead = false;

  /** Octets of a message not yet complete. */
  get pending(): number {
    return this.#restLength;
  }

  /** Hands every whole message to `handle`. The header error that ends the stream, or null. */
  push(chunk: Uint8Array, handle: MessageHandler): ProtocolError | null {
    let p = 0;
    if (this.#restLength > 0) {
      // Complete the message begun in an earlier chunk, header first.
      p = this.#fill(chunk, 0, HEADER_LENGTH);
      if (this.#restLength < HEADER_LENGTH) return null;
      const error = checkHeader(this.#rest, 0, this.maxLength);
      if (error) return this.#stop(error);
      const length = readU16(this.#rest, 16);
      p = this.#fill(chunk, p, length);
      if (this.#restLength < length) return null;
      this.#restLength = 0;
      if (!handle(this.#rest[18]!, this.#rest, 0, length)) this.#dead = true;
    }
    while (!this.#dead && chunk.length - p >= HEADER_LENGTH) {
      const error = checkHeader(chunk, p, this.maxLength);
      if (error) return this.#stop(error);
      const length = readU16(chunk, p + 16);
      if (length > chunk.length - p) break;
      const at = p;
      p += length;
      if (!handle(chunk[at + 18]!, chunk, at, length)) this.#dead = true;
    }
    if (!this.#dead && p < chunk.length) this.#fill(chunk, p, this.maxLength);
    return null;
  }

  #stop(error: ProtocolError): ProtocolError {
    this.#dead = true;
    this.#rest = EMPTY_BYTES;
    this.#restLength = 0;
    return error;
  }

  /** Copies from the chunk until `want` octets are held or the chunk ends; the offset reached. */
  #fill(chunk: Uint8Array, from: number, want: number): number {
    const take = Math.min(want - this.#restLength, chunk.length - from);
    if (take <= 0) return from;
    if (this.#rest.length < this.#restLength + take) {
      const grown = new Uint8Array(Math.max(256, this.#restLength + take, Math.min(want, MAX_MESSAGE)));
      grown.set(this.#rest.subarray(0, this.#restLength));
      this.#rest = grown;
    }
    this.#rest.set(chunk.subarray(from, from + take), this.#restLength);
    this.#restLength += take;
    return from + take;
  }
}

function checkHeader(buf: Uint8Array, off: number, maxLength: number): ProtocolError | null {
  for (let i = 0; i < 16; i++) {
    if (buf[off + i] !== 0xff) return headerError(1, EMPTY_BYTES, 'the marker is not all ones');
  }
  const length = readU16(buf, off + 16);
  const type = buf[off + 18]!;
  const least = LEAST_LENGTH[type];
  const lengthData = buf.slice(off + 16, off + 18);
  if (length < HEADER_LENGTH || length > maxLength) return headerError(2, lengthData, `message length ${length}`);
  if (!least) return headerError(3, Uint8Array.of(type), `message type ${type}`);
  const most = type === MSG_KEEPALIVE ? HEADER_LENGTH : type === MSG_OPEN ? MAX_MESSAGE : maxLength;
  if (length < least || length > most) return headerError(2, lengthData, `${MESSAGE_NAMES[type]} of length ${length}`);
  return null;
}

function headerError(subcode: number, data: Uint8Array, reason: string): ProtocolError {
  return { code: 1, subcode, data, reason };
}

/** A whole message of the given body. */
export function frame(type: number, body: Uint8Array): Uint8Array {
  const out = new Uint8Array(HEADER_LENGTH + body.length);
  out.fill(0xff, 0, 16);
  out[16] = out.length >>> 8;
  out[17] = out.length & 255;
  out[18] = type;
  out.set(body, HEADER_LENGTH);
  return out;
}

/** A KEEPALIVE; a fresh buffer, as the socket keeps what it is given. */
export function encodeKeepalive(): Uint8Array {
  return frame(MSG_KEEPALIVE, EMPTY_BYTES);
}

/** ROUTE-REFRESH subtypes (RFC 7313): a request, and the marks around the answer. */
export const REFRESH_REQUEST = 0;
export const REFRESH_BEGIN = 1;
export const REFRESH_END = 2;

export interface RouteRefresh {
  /** Null when the family is not spoken here. */
  readonly family: AddressFamily | null;
  readonly subtype: number;
}

export function encodeRouteRefresh(family: AddressFamily, subtype: number): Uint8Array {
  return frame(MSG_ROUTE_REFRESH, new OctetWriter(4).u16(afiOf(family)).u8(subtype).u8(SAFI_UNICAST).finish());
}

/** Reads a framed ROUTE-REFRESH. A wrong length of BoRR or EoRR is error 7/1 with the whole message as data. */
export function decodeRouteRefresh(buf: Uint8Array, off: number, len: number): RouteRefresh | ProtocolError {
  const subtype = buf[off + HEADER_LENGTH + 2]!;
  if (len !== HEADER_LENGTH + 4 && (subtype === REFRESH_BEGIN || subtype === REFRESH_END)) {
    return { code: 7, subcode: 1, data: buf.slice(off, off + len), reason: `ROUTE-REFRESH of length ${len}` };
  }
  return { family: familyOf(readU16(buf, off + HEADER_LENGTH), buf[off + HEADER_LENGTH + 3]!), subtype };
}

/** The End-of-RIB mark of a family (RFC 4724 section 2). */
export function encodeEndOfRib(family: AddressFamily): Uint8Array {
  const body = new OctetWriter(10).u16(0);
  if (family === 'ipv4') body.u16(0);
  else body.u16(6).u8(0x80).u8(15).u8(3).u16(afiOf(family)).u8(SAFI_UNICAST);
  return frame(MSG_UPDATE, body.finish());
}
