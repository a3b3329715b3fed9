// Prefixes of one family by small integers, with the columns the decision process keeps for each.
// In: decoded NLRI. Out: row numbers, stable while a prefix is in the table; columns by row.
// The index is a directory of 256 small open-addressing tables that grow one by one, so that no insertion pays for
// rehashing the whole (a table of a million prefixes grows in steps of under a tenth of a millisecond).
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type { AddressFamily } from '#bgp/wire/types.ts';
import { encodeIpv4Nlri, encodeIpv6Nlri, type NlriColumns } from '#bgp/wire/nlri.ts';
import { grown, nextCapacity } from './columns.ts';

const SEGMENTS = 256;
const FIRST_SEGMENT_SLOTS = 16;
/** Rows are 1 to this. */
const MAX_ROWS = (1 << 26) - 1;

/** "No such prefix". Row 0 is never used. */
export const NO_PREFIX = 0;

export abstract class PrefixTable {
  abstract readonly family: AddressFamily;
  /** First path of the prefix in the path table; 0: none. */
  head = new Int32Array(64);
  /** Best path; 0: none usable. */
  best = new Int32Array(64);
  /** The step that decided for the best path (`Step`). */
  step = new Uint8Array(64);
  /** Prefix length in bits. */
  bits = new Uint8Array(64);
  /** PREFIX_* flags. */
  flags = new Uint8Array(64);
  /** First 32 bits of the address, signed: unsigned words above 2^31 would be boxed by the engine. */
  word0 = new Int32Array(64);

  #limit = 1;
  #freeHead = 0;
  #count = 0;
  /** Pairs of words; what they hold is the family's business. Second word 0: empty. */
  protected readonly segments: Int32Array[] = [];
  readonly #used = new Uint32Array(SEGMENTS);

  constructor() {
    for (let i = 0; i < SEGMENTS; i++) this.segments.push(new Int32Array(FIRST_SEGMENT_SLOTS * 2));
  }

  /** Prefixes in the table. */
  get count(): number {
    return this.#count;
  }

  /** Rows below this may be in use. */
  get limit(): number {
    return this.#limit;
  }

  /** Row of row `r` of the decoded NLRI; NO_PREFIX when it is not in the table. */
  abstract find(nlri: NlriColumns, r: number): number;
  /** As `find`, inserting when it is not there. */
  abstract insert(nlri: NlriColumns, r: number): number;
  abstract remove(row: number): void;
  /** Writes the row's prefix; `pathId` null leaves the path identifier out. Returns the offset behind it. */
  abstract encode(row: number, buf: Uint8Array, off: number, pathId: number | null): number;
  abstract prefix(row: number): Prefix;
  /** Word 0 to 3 of the address; words past the family's size are 0. */
  abstract word(row: number, index: number): number;

  findPrefix(prefix: Prefix, scratch: NlriColumns): number {
    setRow(scratch, prefix);
    return this.find(scratch, 0);
  }

  insertPrefix(prefix: Prefix, scratch: NlriColumns): number {
    setRow(scratch, prefix);
    return this.insert(scratch, 0);
  }

  protected newRow(): number {
    let row = this.#freeHead;
    if (row !== 0) this.#freeHead = this.head[row]!;
    else {
      row = this.#limit;
      if (row > MAX_ROWS) throw new Error(`more than ${MAX_ROWS} prefixes`);
      if (row >= this.head.length) this.growColumns(nextCapacity(this.head.length, row + 1));
      this.#limit = row + 1;
    }
    this.head[row] = 0;
    this.best[row] = 0;
    this.step[row] = 0;
    this.flags[row] = PREFIX_LIVE;
    this.#count++;
    return row;
  }

  protected freeRow(row: number): void {
    this.flags[row] = 0;
    this.best[row] = 0;
    this.head[row] = this.#freeHead;
    this.#freeHead = row;
    this.#count--;
  }

  protected growColumns(capacity: number): void {
    this.head = grown(this.head, capacity);
    this.best = grown(this.best, capacity);
    this.step = grown(this.step, capacity);
    this.bits = grown(this.bits, capacity);
    this.flags = grown(this.flags, capacity);
    this.word0 = grown(this.word0, capacity);
  }

  /** Notes a new entry in a segment, making it larger first when it is more than two thirds full: fourfold up to 4096 slots. */
  protected reserve(segment: number): Int32Array {
    const used = ++this.#used[segment]!;
    const table = this.segments[segment]!;
    if (used * 3 <= table.length) return table;
    const wider = new Int32Array(table.length * (table.length < 8192 ? 4 : 2));
    const mask = wider.length / 2 - 1;
    for (let i = 0; i < table.length; i += 2) {
      if (table[i + 1] === 0) continue;
      let slot = this.slotHash(table[i]!, table[i + 1]!) & mask;
      while (wider[slot * 2 + 1] !== 0) slot = (slot + 1) & mask;
      wider[slot * 2] = table[i]!;
      wider[slot * 2 + 1] = table[i + 1]!;
    }
    this.segments[segment] = wider;
    return wider;
  }

  /** Hash of an entry from its two words. */
  protected abstract slotHash(first: number, second: number): number;

  /** Empties a slot, moving later entries of the same run back so that no tombstone is left. */
  protected vacate(segment: number, emptied: number): void {
    const table = this.segments[segment]!;
    const mask = table.length / 2 - 1;
    let hole = emptied;
    let slot = hole;
    for (;;) {
      slot = (slot + 1) & mask;
      const second = table[slot * 2 + 1]!;
      if (second === 0) break;
      const home = this.slotHash(table[slot * 2]!, second) & mask;
      if (((slot - home) & mask) >= ((slot - hole) & mask)) {
        table[hole * 2] = table[slot * 2]!;
        table[hole * 2 + 1] = second;
        hole = slot;
      }
    }
    table[hole * 2] = 0;
    table[hole * 2 + 1] = 0;
    this.#used[segment]!--;
  }
}

/** The row is in use. */
export const PREFIX_LIVE = 1;
/** Waits to be freed once every receiver has been told of the withdrawal. */
export const PREFIX_RECLAIM = 2;
/** Covered by an aggregate that hides its more specific routes. */
export const PREFIX_SUPPRESSED = 4;
/** Has a best path, as counted for aggregates. */
export const PREFIX_PRESENT = 8;
/** Its best path is our own and no aggregate, as counted for aggregates. */
export const PREFIX_LOCAL = 16;

export class Ipv4PrefixTable extends PrefixTable {
  override readonly family = 'ipv4';

  override find(nlri: NlriColumns, r: number): number {
    return this.lookup(nlri.word0[r]! | 0, nlri.bits[r]!);
  }

  override insert(nlri: NlriColumns, r: number): number {
    const address = nlri.word0[r]! | 0;
    const bits = nlri.bits[r]!;
    const hash = hash4(address, bits);
    const segment = hash >>> 24;
    let table = this.segments[segment]!;
    let mask = (table.length >>> 1) - 1;
    let slot = hash & mask;
    for (;;) {
      const second = table[slot * 2 + 1]!;
      if (second === 0) break;
      if (table[slot * 2] === address && second >>> 26 === bits) return second & MAX_ROWS;
      slot = (slot + 1) & mask;
    }
    const row = this.newRow();
    const reserved = this.reserve(segment);
    if (reserved !== table) {
      table = reserved;
      mask = (table.length >>> 1) - 1;
      slot = hash & mask;
      while (table[slot * 2 + 1] !== 0) slot = (slot + 1) & mask;
    }
    table[slot * 2] = address;
    table[slot * 2 + 1] = (bits << 26) | row;
    this.word0[row] = address;
    this.bits[row] = bits;
    return row;
  }

  lookup(address: number, bits: number): number {
    const hash = hash4(address, bits);
    const table = this.segments[hash >>> 24]!;
    const mask = (table.length >>> 1) - 1;
    let slot = hash & mask;
    for (;;) {
      const second = table[slot * 2 + 1]!;
      if (second === 0) return NO_PREFIX;
      if (table[slot * 2] === address && second >>> 26 === bits) return second & MAX_ROWS;
      slot = (slot + 1) & mask;
    }
  }

  override remove(row: number): void {
    const address = this.word0[row]!;
    const hash = hash4(address, this.bits[row]!);
    const segment = hash >>> 24;
    const table = this.segments[segment]!;
    const mask = (table.length >>> 1) - 1;
    let slot = hash & mask;
    while ((table[slot * 2 + 1]! & MAX_ROWS) !== row) slot = (slot + 1) & mask;
    this.vacate(segment, slot);
    this.freeRow(row);
  }

  override encode(row: number, buf: Uint8Array, off: number, pathId: number | null): number {
    return encodeIpv4Nlri(buf, off, this.word0[row]!, this.bits[row]!, pathId);
  }

  override prefix(row: number): Prefix {
    return Prefix.of(IpAddress.fromUint32(this.word0[row]! >>> 0), this.bits[row]!);
  }

  override word(row: number, index: number): number {
    return index === 0 ? this.word0[row]! : 0;
  }

  protected override slotHash(first: number, second: number): number {
    return hash4(first, second >>> 26);
  }
}

export class Ipv6PrefixTable extends PrefixTable {
  override readonly family = 'ipv6';
  /** Words 1 to 3 of the address, three a row. */
  #rest = new Int32Array(64 * 3);

  override find(nlri: NlriColumns, r: number): number {
    const hash = hash6(nlri.word0[r]! | 0, nlri.word1[r]! | 0, nlri.word2[r]! | 0, nlri.word3[r]! | 0, nlri.bits[r]!);
    const table = this.segments[hash >>> 24]!;
    const mask = (table.length >>> 1) - 1;
    let slot = hash & mask;
    for (;;) {
      const row = table[slot * 2 + 1]!;
      if (row === 0) return NO_PREFIX;
      if (table[slot * 2] === hash && this.#matches(row, nlri, r)) return row;
      slot = (slot + 1) & mask;
    }
  }

  override insert(nlri: NlriColumns, r: number): number {
    const hash = hash6(nlri.word0[r]! | 0, nlri.word1[r]! | 0, nlri.word2[r]! | 0, nlri.word3[r]! | 0, nlri.bits[r]!);
    const segment = hash >>> 24;
    let table = this.segments[segment]!;
    let mask = (table.length >>> 1) - 1;
    let slot = hash & mask;
    for (;;) {
      const row = table[slot * 2 + 1]!;
      if (row === 0) break;
      if (table[slot * 2] === hash && this.#matches(row, nlri, r)) return row;
      slot = (slot + 1) & mask;
    }
    const row = this.newRow();
    const reserved = this.reserve(segment);
    if (reserved !== table) {
      table = reserved;
      mask = (table.length >>> 1) - 1;
      slot = hash & mask;
      while (table[slot * 2 + 1] !== 0) slot = (slot + 1) & mask;
    }
    table[slot * 2] = hash;
    table[slot * 2 + 1] = row;
    this.word0[row] = nlri.word0[r]!;
    this.#rest[row * 3] = nlri.word1[r]!;
    this.#rest[row * 3 + 1] = nlri.word2[r]!;
    this.#rest[row * 3 + 2] = nlri.word3[r]!;
    this.bits[row] = nlri.bits[r]!;
    return row;
  }

  override remove(row: number): void {
    const hash = hash6(this.word(row, 0), this.word(row, 1), this.word(row, 2), this.word(row, 3), this.bits[row]!);
    const segment = hash >>> 24;
    const table = this.segments[segment]!;
    const mask = (table.length >>> 1) - 1;
    let slot = hash & mask;
    while (table[slot * 2 + 1] !== row) slot = (slot + 1) & mask;
    this.vacate(segment, slot);
    this.freeRow(row);
  }

  override encode(row: number, buf: Uint8Array, off: number, pathId: number | null): number {
    const at = row * 3;
    const rest = this.#rest;
    return encodeIpv6Nlri(buf, off, this.word0[row]!, rest[at]!, rest[at + 1]!, rest[at + 2]!, this.bits[row]!, pathId);
  }

  override prefix(row: number): Prefix {
    const bytes = new Uint8Array(16);
    for (let i = 0; i < 4; i++) {
      const word = this.word(row, i);
      bytes[i * 4] = word >>> 24;
      bytes[i * 4 + 1] = word >>> 16;
      bytes[i * 4 + 2] = word >>> 8;
      bytes[i * 4 + 3] = word;
    }
    return Prefix.of(IpAddress.fromBytes(bytes), this.bits[row]!);
  }

  override word(row: number, index: number): number {
    return index === 0 ? this.word0[row]! : this.#rest[row * 3 + index - 1]!;
  }

  protected override growColumns(capacity: number): void {
    super.growColumns(capacity);
    this.#rest = grown(this.#rest, capacity * 3);
  }

  protected override slotHash(first: number): number {
    return first;
  }

  #matches(row: number, nlri: NlriColumns, r: number): boolean {
    const at = row * 3;
    const rest = this.#rest;
    return (
      this.word0[row] === (nlri.word0[r]! | 0) &&
      this.bits[row] === nlri.bits[r] &&
      rest[at] === (nlri.word1[r]! | 0) &&
      rest[at + 1] === (nlri.word2[r]! | 0) &&
      rest[at + 2] === (nlri.word3[r]! | 0)
    );
  }
}

function setRow(nlri: NlriColumns, prefix: Prefix): void {
  const bytes = prefix.address.bytes;
  nlri.word0[0] = wordAt(bytes, 0);
  nlri.word1[0] = wordAt(bytes, 4);
  nlri.word2[0] = wordAt(bytes, 8);
  nlri.word3[0] = wordAt(bytes, 12);
  nlri.bits[0] = prefix.length;
  nlri.pathId[0] = 0;
}

function wordAt(bytes: Uint8Array, off: number): number {
  if (off >= bytes.length) return 0;
  return (bytes[off]! << 24) | (bytes[off + 1]! << 16) | (bytes[off + 2]! << 8) | bytes[off + 3]!;
}

/**
 * Eight neighbouring prefixes of one length hash to eight neighbouring slots, which share a cache line: tables arrive
 * in runs of neighbours, and a cache miss costs more than all the rest of an insertion.
 */
function hash4(address: number, bits: number): number {
  const index = bits === 0 ? 0 : address >>> (32 - bits);
  let hash = Math.imul((index >>> 3) ^ Math.imul(bits, 0x9e3779b1), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae35);
  hash ^= hash >>> 16;
  return (hash & ~7) | (index & 7);
}

/** As for IPv4: the last three bits of the prefix choose the slot within a cache line. */
function hash6(a: number, b: number, c: number, d: number, bits: number): number {
  const word = (bits - 1) >> 5;
  const shift = 31 - ((bits - 1) & 31);
  const last = word === 0 ? a : word === 1 ? b : word === 2 ? c : word === 3 ? d : 0;
  const low = (last >>> shift) & 7;
  const rest = last & ~(7 << shift);
  let hash = Math.imul((word === 0 ? rest : a) ^ bits, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15) ^ (word === 1 ? rest : b), 0xc2b2ae35);
  hash = Math.imul(hash ^ (hash >>> 13) ^ (word === 2 ? rest : c), 0x27d4eb2f);
  hash = Math.imul(hash ^ (hash >>> 15) ^ (word === 3 ? rest : d), 0x165667b1);
  hash ^= hash >>> 16;
  return (hash & ~7) | low;
}
