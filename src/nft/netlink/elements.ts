// Elements of sets between their text (objects.ts) and the octets of the kernel. Pure.
// Each field of a key takes a multiple of 4 octets. An interval is two elements: its start, and the first address behind it, marked as
// an end; the interval that reaches the last address has no end.
import { BrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type { KeyType, SetSpec } from '../objects.ts';
import * as c from './constants.ts';

const INTERFACE_OCTETS = 16;

const FIELD: Record<KeyType, { octets: number; type: number }> = {
  ipv4: { octets: 4, type: c.TYPE_IPV4 },
  ipv6: { octets: 16, type: c.TYPE_IPV6 },
  protocol: { octets: 1, type: c.TYPE_PROTOCOL },
  port: { octets: 2, type: c.TYPE_SERVICE },
  interface: { octets: INTERFACE_OCTETS, type: c.TYPE_IFNAME },
};

export interface KeyElement {
  readonly key: Uint8Array;
  readonly isEnd: boolean;
}

/** Octets that a field takes in a key. */
export function fieldLength(type: KeyType): number {
  return (FIELD[type].octets + 3) & ~3;
}

/** A key of one field keeps its own length; in a concatenation each is padded. */
export function keyLength(key: readonly KeyType[]): number {
  if (key.length === 1) return FIELD[key[0]!].octets;
  return key.reduce((sum, type) => sum + fieldLength(type), 0);
}

/** nft's number for the type of a key. */
export function keyType(key: readonly KeyType[]): number {
  return key.reduce((id, type) => ((id << c.TYPE_BITS) | FIELD[type].type) >>> 0, 0);
}

/** The fields of nft's number for a type; null when there is one that we do not use. */
export function keyFromType(type: number): KeyType[] | null {
  const out: KeyType[] = [];
  for (let rest = type; rest > 0; rest >>>= c.TYPE_BITS) {
    const id = rest & ((1 << c.TYPE_BITS) - 1);
    const found = Object.entries(FIELD).find(([, field]) => field.type === id);
    if (!found) return null;
    out.unshift(found[0] as KeyType);
  }
  return out;
}

/** The kernel's elements for one of ours: one, or the two ends of an interval. Throws `invalid-argument`. */
export function encodeElement(set: SetSpec, text: string): KeyElement[] {
  if (set.interval) {
    const prefix = Prefix.parseOrHost(text);
    const start: KeyElement = { key: prefix.first.bytes, isEnd: false };
    const behind = prefix.last.plus(1);
    return behind.isUnspecified() ? [start] : [start, { key: behind.bytes, isEnd: true }];
  }
  const parts = text.split(' . ');
  if (parts.length !== set.key.length) {
    throw new BrindleError('invalid-argument', `element "${text}" of set ${set.name} needs ${set.key.length} fields`);
  }
  const key = new Uint8Array(keyLength(set.key));
  let offset = 0;
  for (const [i, part] of parts.entries()) {
    key.set(encodeField(set.key[i]!, part), offset);
    offset += fieldLength(set.key[i]!);
  }
  return [{ key, isEnd: false }];
}

function encodeField(type: KeyType, text: string): Uint8Array {
  switch (type) {
    case 'ipv4':
    case 'ipv6': {
      const address = IpAddress.parse(text);
      if (address.bytes.length !== FIELD[type].octets) {
        throw new BrindleError('invalid-argument', `"${text}" is not of type ${type}`);
      }
      return address.bytes;
    }
    case 'protocol':
      return Uint8Array.of(Number(text));
    case 'port':
      return Uint8Array.of(Number(text) >> 8, Number(text) & 255);
    case 'interface':
      return interfaceOctets(text);
  }
}

/** The name, filled up with zeros. */
export function interfaceOctets(name: string): Uint8Array {
  const out = new Uint8Array(INTERFACE_OCTETS);
  out.set(Buffer.from(name).subarray(0, INTERFACE_OCTETS - 1));
  return out;
}

/** Text of a key. Throws `kernel` when its length does not fit. */
export function decodeKey(key: readonly KeyType[], octets: Uint8Array): string {
  if (octets.length < keyLength(key)) throw new BrindleError('kernel', 'a set element is shorter than its key');
  let offset = 0;
  const parts: string[] = [];
  for (const type of key) {
    parts.push(decodeField(type, octets.subarray(offset, offset + FIELD[type].octets)));
    offset += fieldLength(type);
  }
  return parts.join(' . ');
}

function decodeField(type: KeyType, octets: Uint8Array): string {
  switch (type) {
    case 'ipv4':
    case 'ipv6':
      return IpAddress.fromBytes(octets).toString();
    case 'protocol':
      return String(octets[0]);
    case 'port':
      return String((octets[0]! << 8) | octets[1]!);
    case 'interface': {
      const end = octets.indexOf(0);
      return Buffer.from(end < 0 ? octets : octets.subarray(0, end)).toString();
    }
  }
}

/** The CIDRs of an interval set from its start and end elements, in any order. Null when an interval is no CIDR. */
export function decodeIntervals(elements: readonly KeyElement[]): string[] | null {
  const sorted = elements
    .map((e) => ({ address: IpAddress.fromBytes(e.key), isEnd: e.isEnd }))
    .sort((a, b) => a.address.compare(b.address) || Number(b.isEnd) - Number(a.isEnd));
  const out: string[] = [];
  for (const [i, { address, isEnd }] of sorted.entries()) {
    if (isEnd) continue;
    const next = sorted[i + 1];
    if (next && !next.isEnd) return null;
    const bits = address.family === 4 ? 32 : 128;
    const behind = next ? next.address.toBigInt() : 1n << BigInt(bits);
    const size = behind - address.toBigInt();
    const length = bits - (size.toString(2).length - 1);
    if (size !== 1n << BigInt(bits - length) || address.toBigInt() % size !== 0n) return null;
    out.push(length === bits ? address.toString() : `${address}/${length}`);
  }
  return out;
}
