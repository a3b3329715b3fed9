// Packs prefixes into UPDATE messages, as many to a message as fit, in large shared buffers.
// In: rows of the prefix table that share one attribute set, or are withdrawn. Out: ranges of octets ready to be sent.
// RFC 4271 4.3, 4760, 7911 (path identifiers), 8654 (long messages), 8950; MP_REACH_NLRI goes first (RFC 7606 5.1).
import { ATTR_MP_REACH, ATTR_MP_UNREACH, FLAG_EXTENDED, FLAG_OPTIONAL } from '#bgp/wire/attributes.ts';
import { afiOf, SAFI_UNICAST } from '#bgp/wire/types.ts';
import { MAX_NLRI_OCTETS } from '#bgp/wire/nlri.ts';
import type { PrefixTable } from './prefix-table.ts';

const HEADER = 19;
const TYPE_UPDATE = 2;
const SLAB_OCTETS = 128 * 1024;

/** An attribute set as one group of peers gets it. */
export interface WireForm {
  /** Everything but MP_REACH_NLRI. */
  readonly octets: Uint8Array;
  /** Next hop for MP_REACH_NLRI; null when `octets` holds NEXT_HOP and the prefixes go at the message's end. */
  readonly nextHop: Uint8Array | null;
}

export class UpdateEncoder {
  readonly #prefixes: PrefixTable;
  readonly #maxLength: number;
  readonly #addPath: boolean;
  /** Path row -> prefix row, where path identifiers are sent. */
  readonly #prefixOf: (key: number) => number;
  #slab = new Uint8Array(0);
  #off = 0;
  #start = 0;
  #out: Uint8Array[] = [];

  /** With ADD-PATH keys are rows of the path table and serve as identifiers; else they are rows of the prefix table. */
  constructor(prefixes: PrefixTable, maxLength: number, addPath: boolean, prefixOf: (key: number) => number) {
    this.#prefixes = prefixes;
    this.#maxLength = maxLength;
    this.#addPath = addPath;
    this.#prefixOf = prefixOf;
  }

  /** True when at least one prefix fits beside the attributes. */
  fits(form: WireForm): boolean {
    const multiprotocol = form.nextHop ? 4 + 5 + form.nextHop.length : 0;
    return HEADER + 4 + multiprotocol + form.octets.length + MAX_NLRI_OCTETS <= this.#maxLength;
  }

  /** Adds messages that announce `keys[from..to)`. */
  announce(keys: Uint32Array, from: number, to: number, form: WireForm): void {
    let at = from;
    while (at < to) at = form.nextHop ? this.#announceMp(keys, at, to, form) : this.#announcePlain(keys, at, to, form);
  }

  /** Adds messages that withdraw `keys[from..to)`. */
  withdraw(keys: Uint32Array, from: number, to: number): void {
    const plain = this.#prefixes.family === 'ipv4';
    let at = from;
    while (at < to) {
      const start = this.#begin();
      const slab = this.#slab;
      let p = start + HEADER + 2;
      if (plain) {
        const limit = start + this.#maxLength - 2 - MAX_NLRI_OCTETS;
        while (at < to && p <= limit) p = this.#nlri(keys[at++]!, slab, p);
        put16(slab, start + HEADER, p - start - HEADER - 2);
        p = put16(slab, p, 0);
      } else {
        put16(slab, start + HEADER, 0);
        const limit = start + this.#maxLength - MAX_NLRI_OCTETS;
        const attribute = p + 2;
        p = this.#mpHeader(slab, attribute, ATTR_MP_UNREACH);
        while (at < to && p <= limit) p = this.#nlri(keys[at++]!, slab, p);
        put16(slab, attribute + 2, p - attribute - 4);
        put16(slab, attribute - 2, p - attribute);
      }
      this.#finish(start, p);
    }
  }

  /** Adds the End-of-RIB marker (RFC 4724 section 2). */
  endOfRib(): void {
    const start = this.#begin();
    let p = put16(this.#slab, start + HEADER, 0);
    if (this.#prefixes.family === 'ipv4') p = put16(this.#slab, p, 0);
    else {
      p = put16(this.#slab, p, 6);
      const slab = this.#slab;
      slab[p++] = FLAG_OPTIONAL;
      slab[p++] = ATTR_MP_UNREACH;
      slab[p++] = 3;
      p = put16(slab, p, afiOf(this.#prefixes.family));
      slab[p++] = SAFI_UNICAST;
    }
    this.#finish(start, p);
  }

  /** What was added since the last call, in order, in few pieces. */
  take(): Uint8Array[] {
    this.#cut();
    const out = this.#out;
    this.#out = [];
    return out;
  }

  #announcePlain(keys: Uint32Array, from: number, to: number, form: WireForm): number {
    const start = this.#begin();
    const slab = this.#slab;
    put16(slab, start + HEADER, 0);
    put16(slab, start + HEADER + 2, form.octets.length);
    slab.set(form.octets, start + HEADER + 4);
    let p = start + HEADER + 4 + form.octets.length;
    const limit = start + this.#maxLength - MAX_NLRI_OCTETS;
    let at = from;
    if (this.#addPath) while (at < to && p <= limit) p = this.#nlri(keys[at++]!, slab, p);
    else while (at < to && p <= limit) p = this.#prefixes.encode(keys[at++]!, slab, p, null);
    this.#finish(start, p);
    return at;
  }

  #announceMp(keys: Uint32Array, from: number, to: number, form: WireForm): number {
    const start = this.#begin();
    const slab = this.#slab;
    const nextHop = form.nextHop!;
    put16(slab, start + HEADER, 0);
    const attribute = start + HEADER + 4;
    let p = this.#mpHeader(slab, attribute, ATTR_MP_REACH);
    slab[p++] = nextHop.length;
    slab.set(nextHop, p);
    p += nextHop.length;
    slab[p++] = 0;
    const limit = start + this.#maxLength - form.octets.length - MAX_NLRI_OCTETS;
    let at = from;
    while (at < to && p <= limit) p = this.#nlri(keys[at++]!, slab, p);
    put16(slab, attribute + 2, p - attribute - 4);
    slab.set(form.octets, p);
    p += form.octets.length;
    put16(slab, attribute - 2, p - attribute);
    this.#finish(start, p);
    return at;
  }

  #nlri(key: number, slab: Uint8Array, off: number): number {
    if (!this.#addPath) return this.#prefixes.encode(key, slab, off, null);
    return this.#prefixes.encode(this.#prefixOf(key), slab, off, key);
  }

  /** Flags, type, room for the length, family. */
  #mpHeader(slab: Uint8Array, off: number, code: number): number {
    slab[off] = FLAG_OPTIONAL | FLAG_EXTENDED;
    slab[off + 1] = code;
    put16(slab, off + 4, afiOf(this.#prefixes.family));
    slab[off + 6] = SAFI_UNICAST;
    return off + 7;
  }

  #begin(): number {
    if (this.#off + this.#maxLength > this.#slab.length) {
      this.#cut();
      this.#slab = new Uint8Array(Math.max(SLAB_OCTETS, this.#maxLength * 4));
      this.#off = 0;
      this.#start = 0;
    }
    return this.#off;
  }

  #finish(start: number, end: number): void {
    const slab = this.#slab;
    slab.fill(0xff, start, start + 16);
    put16(slab, start + 16, end - start);
    slab[start + 18] = TYPE_UPDATE;
    this.#off = end;
  }

  #cut(): void {
    if (this.#off > this.#start) this.#out.push(this.#slab.subarray(this.#start, this.#off));
    this.#start = this.#off;
  }
}

function put16(buf: Uint8Array, off: number, value: number): number {
  buf[off] = value >>> 8;
  buf[off + 1] = value & 255;
  return off + 2;
}
