// IP addresses as immutable values. Text follows RFC 4291 section 2.2 (in) and RFC 5952 (out).
import { BrindleError } from '#base/errors.ts';

export type Family = 4 | 6;

const V4_BYTES = 4;
const V6_BYTES = 16;

/** Number of bits of an address of the family: 32 or 128. */
export function familyBits(family: Family): 32 | 128 {
  return family === 4 ? 32 : 128;
}

export class IpAddress {
  readonly family: Family;
  /** Network byte order, 4 or 16 octets. Never written to. */
  readonly bytes: Uint8Array;
  #text: string | undefined;

  private constructor(bytes: Uint8Array) {
    this.family = bytes.length === V4_BYTES ? 4 : 6;
    this.bytes = bytes;
  }

  /** Copies 4 or 16 octets in network byte order. Throws `invalid-argument` for another length. */
  static fromBytes(bytes: Uint8Array): IpAddress {
    if (bytes.length !== V4_BYTES && bytes.length !== V6_BYTES) {
      throw new BrindleError('invalid-argument', `an IP address has 4 or 16 octets, not ${bytes.length}`);
    }
    return new IpAddress(Uint8Array.from(bytes));
  }

  /** An IPv4 address from its unsigned 32-bit value. */
  static fromUint32(value: number): IpAddress {
    return new IpAddress(Uint8Array.of((value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255));
  }

  /** An address from its value as an unsigned integer; wraps at the size of the family. */
  static fromBigInt(family: Family, value: bigint): IpAddress {
    const bytes = new Uint8Array(family === 4 ? V4_BYTES : V6_BYTES);
    let rest = value;
    for (let i = bytes.length - 1; i >= 0; i--) {
      bytes[i] = Number(rest & 255n);
      rest >>= 8n;
    }
    return new IpAddress(bytes);
  }

  /** Parses dotted-quad IPv4 or any RFC 4291 IPv6 text (no zone). Throws `invalid-argument`. */
  static parse(text: string): IpAddress {
    const address = IpAddress.tryParse(text);
    if (!address) throw new BrindleError('invalid-argument', `"${text}" is not an IPv4 or IPv6 address`);
    return address;
  }

  /** As `parse`, with null in place of the error. */
  static tryParse(text: string): IpAddress | null {
    const bytes = text.includes(':') ? parseV6(text) : parseV4(text);
    return bytes ? new IpAddress(bytes) : null;
  }

  static isValid(text: string): boolean {
    return IpAddress.tryParse(text) !== null;
  }

  /** The unsigned 32-bit value. Throws `invalid-argument` for IPv6. */
  toUint32(): number {
    if (this.family !== 4) throw new BrindleError('invalid-argument', `${this} is not IPv4`);
    const b = this.bytes;
    return ((b[0]! << 24) | (b[1]! << 16) | (b[2]! << 8) | b[3]!) >>> 0;
  }

  toBigInt(): bigint {
    let value = 0n;
    for (const byte of this.bytes) value = (value << 8n) | BigInt(byte);
    return value;
  }

  /** The address `offset` further on (may be negative); wraps at the size of the family. */
  plus(offset: number | bigint): IpAddress {
    if (this.family === 4) return IpAddress.fromUint32((this.toUint32() + Number(offset)) >>> 0);
    return IpAddress.fromBigInt(6, BigInt.asUintN(128, this.toBigInt() + BigInt(offset)));
  }

  bit(index: number): 0 | 1 {
    return ((this.bytes[index >> 3]! >> (7 - (index & 7))) & 1) as 0 | 1;
  }

  equals(other: IpAddress): boolean {
    return this.family === other.family && this.compare(other) === 0;
  }

  /** IPv4 before IPv6, then by value. */
  compare(other: IpAddress): number {
    if (this.family !== other.family) return this.family - other.family;
    for (let i = 0; i < this.bytes.length; i++) {
      const difference = this.bytes[i]! - other.bytes[i]!;
      if (difference !== 0) return difference;
    }
    return 0;
  }

  isUnspecified(): boolean {
    return this.bytes.every((b) => b === 0);
  }

  isLoopback(): boolean {
    if (this.family === 4) return this.bytes[0] === 127;
    return this.bytes[15] === 1 && this.bytes.subarray(0, 15).every((b) => b === 0);
  }

  /** 169.254.0.0/16 (RFC 3927) or fe80::/10 (RFC 4291 2.5.6). */
  isLinkLocal(): boolean {
    const b = this.bytes;
    if (this.family === 4) return b[0] === 169 && b[1] === 254;
    return b[0] === 0xfe && (b[1]! & 0xc0) === 0x80;
  }

  /** 224.0.0.0/4 or ff00::/8. */
  isMulticast(): boolean {
    return this.family === 4 ? this.bytes[0]! >> 4 === 14 : this.bytes[0] === 0xff;
  }

  toString(): string {
    this.#text ??= this.family === 4 ? this.bytes.join('.') : formatV6(this.bytes);
    return this.#text;
  }

  toJSON(): string {
    return this.toString();
  }
}

function parseV4(text: string): Uint8Array | null {
  const out = new Uint8Array(V4_BYTES);
  let part = 0;
  let value = -1;
  let digits = 0;
  for (let i = 0; i <= text.length; i++) {
    const c = i < text.length ? text.charCodeAt(i) : 46;
    if (c === 46) {
      if (value < 0 || part > 3) return null;
      out[part++] = value;
      value = -1;
      digits = 0;
    } else if (c >= 48 && c <= 57) {
      if (digits > 0 && value === 0) return null; // no leading zeros: octal or decimal is anybody's guess
      value = (value < 0 ? 0 : value) * 10 + c - 48;
      digits++;
      if (value > 255) return null;
    } else return null;
  }
  return part === 4 ? out : null;
}

function parseV6(text: string): Uint8Array | null {
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const head = parseGroups(halves[0]!, halves.length === 1);
  if (!head) return null;
  if (halves.length === 1) return head.length === V6_BYTES ? Uint8Array.from(head) : null;
  const tail = parseGroups(halves[1]!, true);
  if (!tail || head.length + tail.length > V6_BYTES - 2) return null;
  const out = new Uint8Array(V6_BYTES);
  out.set(head, 0);
  out.set(tail, V6_BYTES - tail.length);
  return out;
}

function parseGroups(text: string, mayEndInV4: boolean): number[] | null {
  if (text === '') return [];
  const out: number[] = [];
  const groups = text.split(':');
  for (let i = 0; i < groups.length; i++) {
    const group = groups[i]!;
    if (i === groups.length - 1 && mayEndInV4 && group.includes('.')) {
      const v4 = parseV4(group);
      if (!v4) return null;
      out.push(...v4);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return null;
      const value = Number.parseInt(group, 16);
      out.push(value >> 8, value & 255);
    }
  }
  return out.length <= V6_BYTES ? out : null;
}

function formatV6(bytes: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < V6_BYTES; i += 2) groups.push((bytes[i]! << 8) | bytes[i + 1]!);
  if (groups.slice(0, 5).every((g) => g === 0) && groups[5] === 0xffff) {
    return `::ffff:${bytes.subarray(12).join('.')}`; // RFC 5952 section 5
  }
  let bestStart = -1;
  let bestLength = 1; // a single zero group is not shortened (RFC 5952 4.2.2)
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length++;
    if (length > bestLength) {
      bestStart = i;
      bestLength = length;
    }
    if (length > 0) i += length - 1;
  }
  const hex = groups.map((g) => g.toString(16));
  if (bestStart < 0) return hex.join(':');
  return `${hex.slice(0, bestStart).join(':')}::${hex.slice(bestStart + bestLength).join(':')}`;
}
