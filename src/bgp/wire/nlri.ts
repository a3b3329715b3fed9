// Prefixes on the wire (RFC 4271 4.3, RFC 4760 5, RFC 7911 3): a length octet and the octets it needs, each preceded
// by a path identifier when ADD-PATH was agreed. Decoded into columns, never into objects: one full message may
// carry thousands.
import type { AddressFamily } from './types.ts';

/** Decoded prefixes as parallel columns. Reused from message to message; only rows below `count` are valid. */
export class NlriColumns {
  count = 0;
  /** First (IPv4: only) 32 bits of the address, unsigned, host bits cleared. */
  word0: Uint32Array;
  /** Zero for IPv4, as are `word2` and `word3`. */
  word1: Uint32Array;
  word2: Uint32Array;
  word3: Uint32Array;
  /** Prefix length in bits. */
  bits: Uint8Array;
  /** ADD-PATH identifier; 0 when ADD-PATH is not in use. */
  pathId: Uint32Array;

  constructor(capacity = 1024) {
    this.word0 = new Uint32Array(capacity);
    this.word1 = new Uint32Array(capacity);
    this.word2 = new Uint32Array(capacity);
    this.word3 = new Uint32Array(capacity);
    this.bits = new Uint8Array(capacity);
    this.pathId = new Uint32Array(capacity);
  }

  get capacity(): number {
    return this.bits.length;
  }

  grow(): void {
    const size = this.bits.length * 2;
    const wider = (column: Uint32Array): Uint32Array => {
      const grown = new Uint32Array(size);
      grown.set(column);
      return grown;
    };
    this.word0 = wider(this.word0);
    this.word1 = wider(this.word1);
    this.word2 = wider(this.word2);
    this.word3 = wider(this.word3);
    this.pathId = wider(this.pathId);
    const bits = new Uint8Array(size);
    bits.set(this.bits);
    this.bits = bits;
  }
}

/** Appends the prefixes of a range to `out`. False on a syntax error (UPDATE error 3/10); rows may then be partial. */
export function decodeNlri(
  family: AddressFamily,
  buf: Uint8Array,
  off: number,
  len: number,
  addPath: boolean,
  out: NlriColumns,
): boolean {
  return family === 'ipv4'
    ? decodeIpv4(buf, off, off + len, addPath, out)
    : decodeIpv6(buf, off, off + len, addPath, out);
}

function decodeIpv4(buf: Uint8Array, start: number, end: number, addPath: boolean, out: NlriColumns): boolean {
  let p = start;
  let row = out.count;
  while (p < end) {
    if (row === out.capacity) out.grow();
    if (addPath) {
      if (end - p < 5) return false;
      out.pathId[row] = (buf[p]! << 24) | (buf[p + 1]! << 16) | (buf[p + 2]! << 8) | buf[p + 3]!;
      p += 4;
    } else out.pathId[row] = 0;
    const bits = buf[p++]!;
    if (bits > 32) return false;
    const octets = (bits + 7) >> 3;
    if (p + octets > end) return false;
    let word = 0;
    if (octets > 0) word = buf[p]! << 24;
    if (octets > 1) word |= buf[p + 1]! << 16;
    if (octets > 2) word |= buf[p + 2]! << 8;
    if (octets > 3) word |= buf[p + 3]!;
    p += octets;
    out.word0[row] = bits === 0 ? 0 : word & (-1 << (32 - bits)); // host bits may be set on the wire
    out.word1[row] = 0;
    out.word2[row] = 0;
    out.word3[row] = 0;
    out.bits[row] = bits;
    out.count = ++row;
  }
  return true;
}

function decodeIpv6(buf: Uint8Array, start: number, end: number, addPath: boolean, out: NlriColumns): boolean {
  let p = start;
  let row = out.count;
  while (p < end) {
    if (row === out.capacity) out.grow();
    if (addPath) {
      if (end - p < 5) return false;
      out.pathId[row] = (buf[p]! << 24) | (buf[p + 1]! << 16) | (buf[p + 2]! << 8) | buf[p + 3]!;
      p += 4;
    } else out.pathId[row] = 0;
    const bits = buf[p++]!;
    if (bits > 128) return false;
    const octets = (bits + 7) >> 3;
    if (p + octets > end) return false;
    out.word0[row] = maskedWord(buf, p, octets, bits, 0);
    out.word1[row] = maskedWord(buf, p, octets, bits, 1);
    out.word2[row] = maskedWord(buf, p, octets, bits, 2);
    out.word3[row] = maskedWord(buf, p, octets, bits, 3);
    out.bits[row] = bits;
    p += octets;
    out.count = ++row;
  }
  return true;
}

/** Word `index` of an address of which `octets` octets are at `off`, cut at `bits`. */
function maskedWord(buf: Uint8Array, off: number, octets: number, bits: number, index: number): number {
  const kept = bits - index * 32;
  if (kept <= 0) return 0;
  const p = off + index * 4;
  const present = octets - index * 4;
  let word = buf[p]! << 24;
  if (present > 1) word |= buf[p + 1]! << 16;
  if (present > 2) word |= buf[p + 2]! << 8;
  if (present > 3) word |= buf[p + 3]!;
  return kept >= 32 ? word : word & (-1 << (32 - kept));
}

/** Most octets one encoded prefix can take: path identifier, length, address. */
export const MAX_NLRI_OCTETS = 4 + 1 + 16;

/** Writes an IPv4 prefix at `off`; `pathId` null leaves the identifier out. Returns the offset behind it. */
export function encodeIpv4Nlri(
  buf: Uint8Array,
  off: number,
  word0: number,
  bits: number,
  pathId: number | null,
): number {
  let p = off;
  if (pathId !== null) p = putWord(buf, p, pathId, 4);
  buf[p++] = bits;
  return putWord(buf, p, word0, (bits + 7) >> 3);
}

/** Writes an IPv6 prefix at `off`; `pathId` null leaves the identifier out. Returns the offset behind it. */
export function encodeIpv6Nlri(
  buf: Uint8Array,
  off: number,
  word0: number,
  word1: number,
  word2: number,
  word3: number,
  bits: number,
  pathId: number | null,
): number {
  let p = off;
  if (pathId !== null) p = putWord(buf, p, pathId, 4);
  buf[p++] = bits;
  const octets = (bits + 7) >> 3;
  p = putWord(buf, p, word0, Math.min(4, octets));
  if (octets > 4) p = putWord(buf, p, word1, Math.min(4, octets - 4));
  if (octets > 8) p = putWord(buf, p, word2, Math.min(4, octets - 8));
  if (octets > 12) p = putWord(buf, p, word3, octets - 12);
  return p;
}

function putWord(buf: Uint8Array, off: number, word: number, octets: number): number {
  let p = off;
  if (octets > 0) buf[p++] = word >>> 24;
  if (octets > 1) buf[p++] = (word >>> 16) & 255;
  if (octets > 2) buf[p++] = (word >>> 8) & 255;
  if (octets > 3) buf[p++] = word & 255;
  return p;
}
