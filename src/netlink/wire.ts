// Netlink's message format: headers, attributes (TLVs), alignment. Pure. In: values or bytes. Out: bytes or values.
// The reader never trusts a length: whatever the bytes are, it reads inside of them or throws `protocol`.
// Spec: RFC 3549, linux/netlink.h, Documentation/userspace-api/netlink/intro.rst.
//
// Numbers are in host order, which is little-endian on every machine we run on; addresses and a few marked fields are in
// network order.
import { BrindleError } from '#base/errors.ts';

export const HEADER_LENGTH = 16;
const ATTRIBUTE_HEADER = 4;
/** Set on attributes that contain attributes. */
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

const align = (length: number): number => (length + 3) & ~3;

/** Appends messages to one growing buffer, so that many go out in one send. */
export class MessageBuilder {
  #bytes: Uint8Array;
  #view: DataView;
  #length = 0;
  #starts: number[] = [];

  constructor(capacity = 4096) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Number of messages. */
  get count(): number {
    return this.#starts.length;
  }

  /** Octets written so far. */
  get length(): number {
    return this.#length;
  }

  /** Offset at which message `index` begins; `length` for the one after the last. */
  startOf(index: number): number {
    return this.#starts[index] ?? this.#length;
  }

  /** What was written. Valid until something more is written. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
    this.#starts = [];
  }

  /** Begins a message. Sequence and port number are 0 until `stamp`. */
  begin(type: number, flags: number): this {
    this.#starts.push(this.#length);
    return this.u32(0).u16(type).u16(flags).u32(0).u32(0);
  }

  /** Ends the message begun last by writing its length. */
  end(): this {
    const start = this.#starts.at(-1) ?? 0;
    this.#view.setUint32(start, this.#length - start, true);
    this.#reserve(align(this.#length) - this.#length);
    return this;
  }

  /** Sets the sequence number of message `index` and adds flags to it. */
  stamp(index: number, sequence: number, extraFlags: number): void {
    const start = this.startOf(index);
    this.#view.setUint16(start + 6, this.#view.getUint16(start + 6, true) | extraFlags, true);
    this.#view.setUint32(start + 8, sequence, true);
  }

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    const at = this.#reserve(2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  u32(value: number): this {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  attribute(type: number, value: Uint8Array): this {
    const start = this.#attributeHeader(type, value.length);
    this.#bytes.set(value, start);
    return this;
  }

  attributeU8(type: number, value: number): this {
    const at = this.#attributeHeader(type, 1);
    this.#view.setUint8(at, value);
    return this;
  }

  attributeU16(type: number, value: number): this {
    const at = this.#attributeHeader(type, 2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  attributeU32(type: number, value: number): this {
    const at = this.#attributeHeader(type, 4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  /** In network order. */
  attributeU32be(type: number, value: number): this {
    const at = this.#attributeHeader(type, 4);
    this.#view.setUint32(at, value, false);
    return this;
  }

  /** In network order. */
  attributeU64be(type: number, value: bigint): this {
    const at = this.#attributeHeader(type, 8);
    this.#view.setBigUint64(at, value, false);
    return this;
  }

  /** Zero-terminated text. */
  attributeString(type: number, value: string): this {
    return this.attribute(type, encoder.encode(`${value}\0`));
  }

  /** An attribute whose value is whatever `fill` writes (attributes, or a struct followed by attributes). */
  nest(type: number, fill: () => void, marked = true): this {
    const start = this.#attributeHeader(marked ? type | NLA_F_NESTED : type, 0) - ATTRIBUTE_HEADER;
    fill();
    const length = this.#length - start;
    if (length > 0xffff) throw new BrindleError('internal', `netlink attribute ${type} is ${length} octets long`);
    this.#view.setUint16(start, length, true);
    return this;
  }

  /** A struct that starts with its own 16-bit length, such as `rtnexthop`. */
  lengthPrefixed(fill: () => void): this {
    const start = this.#reserve(2);
    fill();
    this.#view.setUint16(start, this.#length - start, true);
    return this;
  }

  #attributeHeader(type: number, length: number): number {
    const start = this.#reserve(ATTRIBUTE_HEADER + align(length));
    this.#view.setUint16(start, ATTRIBUTE_HEADER + length, true);
    this.#view.setUint16(start + 2, type, true);
    return start + ATTRIBUTE_HEADER;
  }

  /** May replace buffer and view: take the offset first, then write. */
  #reserve(length: number): number {
    const start = this.#length;
    const end = start + length;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, start));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    } else this.#bytes.fill(0, start, end);
    this.#length = end;
    return start;
  }
}

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** Port number of the socket that asked; 0 for the kernel's own doing. */
  readonly port: number;
  /** What follows the header; a view into the receive buffer. */
  readonly payload: Uint8Array;
}

/** The messages of one datagram. Throws `protocol` at the first length that does not fit. */
export function* readMessages(bytes: Uint8Array): Generator<NetlinkMessage> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = 0;
  while (offset < bytes.length) {
    if (bytes.length - offset < HEADER_LENGTH) throw broken(`${bytes.length - offset} octets after the last message`);
    const length = view.getUint32(offset, true);
    if (length < HEADER_LENGTH || length > bytes.length - offset) {
      throw broken(`a message claims ${length} octets where ${bytes.length - offset} are left`);
    }
    yield {
      type: view.getUint16(offset + 4, true),
      flags: view.getUint16(offset + 6, true),
      sequence: view.getUint32(offset + 8, true),
      port: view.getUint32(offset + 12, true),
      payload: bytes.subarray(offset + HEADER_LENGTH, offset + length),
    };
    offset += align(length);
  }
}

/** The attributes of a message or of a nested attribute, by type; of several of one type the last. */
export class Attributes {
  readonly #values = new Map<number, Uint8Array>();

  /** Reads the attributes from `offset` (rounded up to 4) on. Throws `protocol`. */
  constructor(bytes: Uint8Array, offset = 0) {
    for (const [type, value] of readAttributes(bytes, offset)) this.#values.set(type, value);
  }

  has(type: number): boolean {
    return this.#values.has(type);
  }

  types(): Iterable<number> {
    return this.#values.keys();
  }

  bytes(type: number): Uint8Array | undefined {
    return this.#values.get(type);
  }

  u8(type: number): number | undefined {
    return this.#fixed(type, 1)?.getUint8(0);
  }

  u16(type: number): number | undefined {
    return this.#fixed(type, 2)?.getUint16(0, true);
  }

  /** In network order. */
  u16be(type: number): number | undefined {
    return this.#fixed(type, 2)?.getUint16(0);
  }

  u32(type: number): number | undefined {
    return this.#fixed(type, 4)?.getUint32(0, true);
  }

  /** In network order. */
  u32be(type: number): number | undefined {
    return this.#fixed(type, 4)?.getUint32(0);
  }

  /** Up to the first zero octet, or all. */
  string(type: number): string | undefined {
    const value = this.#values.get(type);
    if (!value) return undefined;
    const end = value.indexOf(0);
    return decoder.decode(end < 0 ? value : value.subarray(0, end));
  }

  nested(type: number): Attributes | undefined {
    const value = this.#values.get(type);
    return value ? new Attributes(value) : undefined;
  }

  #fixed(type: number, length: number): DataView | undefined {
    const value = this.#values.get(type);
    if (!value) return undefined;
    if (value.length < length) throw broken(`attribute ${type} has ${value.length} octets, ${length} are needed`);
    return new DataView(value.buffer, value.byteOffset, length);
  }
}

/** Attribute by attribute, in order, with repetitions. Throws `protocol`. */
export function* readAttributes(bytes: Uint8Array, offset = 0): Generator<[type: number, value: Uint8Array]> {
  let at = align(offset);
  // Up to three octets of padding may follow the last one.
  while (bytes.length - at >= ATTRIBUTE_HEADER) {
    const length = bytes[at]! | (bytes[at + 1]! << 8);
    if (length < ATTRIBUTE_HEADER || length > bytes.length - at) {
      throw broken(`an attribute claims ${length} octets where ${bytes.length - at} are left`);
    }
    const type = (bytes[at + 2]! | (bytes[at + 3]! << 8)) & NLA_TYPE_MASK;
    yield [type, bytes.subarray(at + ATTRIBUTE_HEADER, at + length)];
    at += align(length);
  }
}

/** Refuses a payload shorter than the fixed struct at its start. Returns a view of that struct. */
export function fixedHeader(payload: Uint8Array, length: number, what: string): DataView {
  if (payload.length < length) throw broken(`${what} has ${payload.length} octets, ${length} are needed`);
  return new DataView(payload.buffer, payload.byteOffset, length);
}

export function broken(reason: string): BrindleError {
  return new BrindleError('protocol', `netlink: ${reason}`);
}
