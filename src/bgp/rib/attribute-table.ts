// Path attributes by small integers. The same octets seen again cost a hash and a comparison, no parsing.
// In: the octets of an attribute block as attributeKey() of the codec cuts them out. Out: an id, columns with all that
// the decision process asks of an attribute set, and the decoded form on demand.
// RFC 4271 9.1.2.2, 4456, 7606 (a block is judged once for each kind of session), 1997 and 8326 (well-known communities).
//
// Trap: an id without references lives on until `sweep`, and is found again by `intern`. Whoever caches ids without
// holding a reference must drop the cache when `generation` has moved.
import type { AddressFamily, CodecSession, DecodedAttributes, PathAttributes } from '#bgp/wire/types.ts';
import { STORAGE_SESSION } from '#bgp/wire/types.ts';
import { asPathLength, decodeAttributes, encodeAttributes } from '#bgp/wire/attributes.ts';
import { grown, nextCapacity } from './columns.ts';
import type { NextHopTable } from './next-hop-table.ts';
import { OctetArena } from './octet-arena.ts';

/** "No attributes": a prefix that is not advertised, a path that is not accepted. */
export const NO_ATTRIBUTES = 0;

export const DEFAULT_LOCAL_PREF = 100;

export const FLAG_NO_EXPORT = 1 << 0;
export const FLAG_NO_ADVERTISE = 1 << 1;
export const FLAG_NO_EXPORT_SUBCONFED = 1 << 2;
export const FLAG_LLGR_STALE = 1 << 3;
export const FLAG_NO_LLGR = 1 << 4;
export const FLAG_GRACEFUL_SHUTDOWN = 1 << 5;
export const FLAG_BLACKHOLE = 1 << 6;
/** The CLUSTER_LIST holds our own cluster id. */
export const FLAG_CLUSTER_LOOP = 1 << 7;
/** The ORIGINATOR_ID is our own router id. */
export const FLAG_OWN_ORIGINATOR = 1 << 8;
export const FLAG_HAS_MED = 1 << 9;
/** The next hop is an IPv6 address. */
export const FLAG_NEXT_HOP_V6 = 1 << 10;

export const COMMUNITY_GRACEFUL_SHUTDOWN = 0xffff0000;
export const COMMUNITY_LLGR_STALE = 0xffff0006;
export const COMMUNITY_NO_LLGR = 0xffff0007;
export const COMMUNITY_BLACKHOLE = 0xffff029a;
export const COMMUNITY_NO_EXPORT = 0xffffff01;
export const COMMUNITY_NO_ADVERTISE = 0xffffff02;
export const COMMUNITY_NO_EXPORT_SUBCONFED = 0xffffff03;

const COMMUNITY_FLAGS: ReadonlyMap<number, number> = new Map([
  [COMMUNITY_NO_EXPORT, FLAG_NO_EXPORT],
  [COMMUNITY_NO_ADVERTISE, FLAG_NO_ADVERTISE],
  [COMMUNITY_NO_EXPORT_SUBCONFED, FLAG_NO_EXPORT_SUBCONFED],
  [COMMUNITY_LLGR_STALE, FLAG_LLGR_STALE],
  [COMMUNITY_NO_LLGR, FLAG_NO_LLGR],
  [COMMUNITY_GRACEFUL_SHUTDOWN, FLAG_GRACEFUL_SHUTDOWN],
  [COMMUNITY_BLACKHOLE, FLAG_BLACKHOLE],
]);

/** Who we are, as far as loops are concerned. */
export interface Identity {
  readonly routerId: number;
  readonly localAs: number;
  readonly clusterId: number;
}

interface Alias {
  readonly octets: Uint8Array;
  readonly context: number;
  readonly zone: number;
  readonly id: number;
}

const ALIAS_SLOTS = 4096;
const DECODED_SLOTS = 1024;

export class AttributeTable {
  readonly nextHops: NextHopTable;
  /** Moves on whenever ids were freed. */
  generation = 0;

  // Columns by attribute id. Row 0 is NO_ATTRIBUTES.
  localPref = new Uint32Array(64);
  /** AS_PATH length for the decision: a set counts one. */
  pathLength = new Uint16Array(64);
  origin = new Uint8Array(64);
  /** 0 when absent. */
  med = new Uint32Array(64);
  /** First AS of AS_PATH; 0 for an empty path or one that starts with a set. */
  neighbourAs = new Uint32Array(64);
  /** 0 when absent. */
  originatorId = new Uint32Array(64);
  clusterLength = new Uint16Array(64);
  nextHop = new Int32Array(64);
  flags = new Uint16Array(64);
  /** Occurrences of our own AS in AS_PATH, at most 255. */
  ownAsCount = new Uint8Array(64);
  references = new Int32Array(64);
  zone = new Uint32Array(64);

  #hash = new Uint32Array(64);
  #offset = new Uint32Array(64);
  #length = new Uint32Array(64);
  /** Bit per kind of session for which these very octets were judged good and stand for this id. */
  #contexts = new Uint8Array(64);
  readonly #arena = new OctetArena();
  /** Open addressing: id, or 0. */
  #index = new Int32Array(128);
  #count = 1;
  readonly #free: number[] = [];
  #unreferenced = 0;
  #aliases: (Alias | undefined)[] = [];
  #decoded: ({ id: number; attributes: PathAttributes } | undefined)[] = [];
  #identity: Identity;

  constructor(identity: Identity, nextHops: NextHopTable) {
    this.#identity = identity;
    this.nextHops = nextHops;
  }

  /** Attribute sets held, with or without references. */
  get size(): number {
    return this.#count - 1 - this.#free.length;
  }

  /** Ids below this may be in use: the capacity that a column by attribute id needs. */
  get limit(): number {
    return this.#count;
  }

  /** Octets of the stored forms. */
  get octets(): number {
    return this.#arena.size;
  }

  /**
   * The id for a received block that has been seen on a session of the same kind before; -1 when it must be judged
   * (`receive`). `zone` is the interface index of a session over link-local addresses, else 0.
   */
  lookup(buf: Uint8Array, off: number, len: number, context: number, zone: number): number {
    const hash = hashOctets(buf, off, len, zone);
    const id = this.#find(hash, buf, off, len, zone);
    if (id > 0 && (this.#contexts[id]! & (1 << context)) !== 0) return id;
    const alias = this.#aliases[hash & (ALIAS_SLOTS - 1)];
    if (alias && alias.context === context && alias.zone === zone && sameOctets(alias.octets, buf, off, len)) {
      return alias.id;
    }
    return -1;
  }

  /**
   * Judges and interns a received block. The id is -1 when the verdict leaves no attributes. Blocks that draw a
   * complaint are judged every time, so that every complaint is counted.
   */
  receive(
    buf: Uint8Array,
    off: number,
    len: number,
    session: CodecSession,
    family: AddressFamily,
    zone: number,
  ): { id: number; result: DecodedAttributes } {
    const result = decodeAttributes(buf, off, len, session, true);
    if (!result.attributes) return { id: -1, result };
    const id = this.intern(result.attributes, family, zone);
    if (result.errors.length > 0) return { id, result };
    const context = contextOf(session);
    const stored = this.#offset[id]!;
    if (this.#length[id] === len && equalAt(this.#arena.bytes, stored, buf, off, len)) {
      this.#contexts[id]! |= 1 << context;
    } else {
      const hash = hashOctets(buf, off, len, zone);
      this.#aliases[hash & (ALIAS_SLOTS - 1)] = { octets: buf.slice(off, off + len), context, zone, id };
    }
    return { id, result };
  }

  /** The id of an attribute set of the family's routes. No reference is taken. */
  intern(attributes: PathAttributes, family: AddressFamily, zone = 0): number {
    const place = attributes.nextHop?.family === 4 ? 'attribute' : attributes.nextHop ? family : 'none';
    const octets = encodeAttributes(attributes, STORAGE_SESSION, place);
    const hash = hashOctets(octets, 0, octets.length, zone);
    const known = this.#find(hash, octets, 0, octets.length, zone);
    if (known > 0) return known;
    const id = this.#allocate();
    this.#hash[id] = hash;
    this.#length[id] = octets.length;
    this.#offset[id] = this.#arena.store(octets, 0, octets.length);
    this.#contexts[id] = 0;
    this.references[id] = 0;
    this.zone[id] = zone;
    this.#unreferenced++;
    this.#describe(id, attributes);
    this.#place(id);
    return id;
  }

  acquire(id: number): void {
    if (this.references[id]!++ === 0) this.#unreferenced--;
  }

  release(id: number): void {
    if (--this.references[id]! === 0) this.#unreferenced++;
  }

  /** The decoded form. Cached for the sets used last. */
  decoded(id: number): PathAttributes {
    const slot = id & (DECODED_SLOTS - 1);
    const cached = this.#decoded[slot];
    if (cached?.id === id) return cached.attributes;
    const { attributes } = decodeAttributes(
      this.#arena.bytes,
      this.#offset[id]!,
      this.#length[id]!,
      STORAGE_SESSION,
      false,
    );
    if (!attributes) throw new Error(`stored attributes ${id} do not decode`);
    this.#decoded[slot] = { id, attributes };
    return attributes;
  }

  /** How often `asn` occurs in the AS_PATH. */
  countAs(id: number, asn: number): number {
    if (asn === this.#identity.localAs) return this.ownAsCount[id]!;
    return occurrences(this.decoded(id), asn);
  }

  /** The first AS of the path and all attributes' flags are columns; this sets them anew after a change of identity. */
  setIdentity(identity: Identity): void {
    this.#identity = identity;
    for (let id = 1; id < this.#count; id++) {
      if (this.#length[id]! > 0) this.#describe(id, this.decoded(id));
    }
  }

  /** Frees the sets without references when they have become many. True when ids were freed. */
  sweep(force = false): boolean {
    if (this.#unreferenced === 0) return false;
    if (!force && this.#unreferenced < Math.max(4096, this.size >>> 1)) return false;
    for (let id = 1; id < this.#count; id++) {
      if (this.references[id] !== 0 || this.#length[id] === 0) continue;
      this.#arena.release(this.#offset[id]!, this.#length[id]!);
      this.#length[id] = 0;
      this.#free.push(id);
    }
    this.#unreferenced = 0;
    this.#aliases = [];
    this.#decoded = [];
    this.generation++;
    this.#reindex(this.#index.length);
    return true;
  }

  #describe(id: number, attributes: PathAttributes): void {
    const identity = this.#identity;
    const first = attributes.asPath[0];
    this.localPref[id] = attributes.localPref ?? DEFAULT_LOCAL_PREF;
    this.pathLength[id] = asPathLength(attributes.asPath);
    this.origin[id] = attributes.origin;
    this.med[id] = attributes.med ?? 0;
    this.neighbourAs[id] = first?.type === 'sequence' ? first.asns[0]! : 0;
    this.originatorId[id] = attributes.originatorId ?? 0;
    this.clusterLength[id] = attributes.clusterList.length;
    this.nextHop[id] = this.nextHops.intern(attributes.nextHop, attributes.linkLocalNextHop, this.zone[id]!);
    this.ownAsCount[id] = Math.min(255, occurrences(attributes, identity.localAs));
    let flags = 0;
    for (const community of attributes.communities) flags |= COMMUNITY_FLAGS.get(community) ?? 0;
    if (attributes.clusterList.includes(identity.clusterId)) flags |= FLAG_CLUSTER_LOOP;
    if (attributes.originatorId === identity.routerId) flags |= FLAG_OWN_ORIGINATOR;
    if (attributes.med !== null) flags |= FLAG_HAS_MED;
    if (attributes.nextHop?.family === 6) flags |= FLAG_NEXT_HOP_V6;
    this.flags[id] = flags;
  }

  #find(hash: number, buf: Uint8Array, off: number, len: number, zone: number): number {
    const index = this.#index;
    const mask = index.length - 1;
    let slot = hash & mask;
    for (;;) {
      const id = index[slot]!;
      if (id === 0) return 0;
      if (
        this.#hash[id] === hash &&
        this.#length[id] === len &&
        this.zone[id] === zone &&
        equalAt(this.#arena.bytes, this.#offset[id]!, buf, off, len)
      ) {
        return id;
      }
      slot = (slot + 1) & mask;
    }
  }

  #place(id: number): void {
    if (this.#count * 2 > this.#index.length) {
      this.#reindex(this.#index.length * 2); // places this id too
      return;
    }
    const mask = this.#index.length - 1;
    let slot = this.#hash[id]! & mask;
    while (this.#index[slot] !== 0) slot = (slot + 1) & mask;
    this.#index[slot] = id;
  }

  #reindex(size: number): void {
    const index = new Int32Array(size);
    const mask = size - 1;
    for (let id = 1; id < this.#count; id++) {
      if (this.#length[id] === 0) continue;
      let slot = this.#hash[id]! & mask;
      while (index[slot] !== 0) slot = (slot + 1) & mask;
      index[slot] = id;
    }
    this.#index = index;
  }

  #allocate(): number {
    const reused = this.#free.pop();
    if (reused !== undefined) return reused;
    const id = this.#count++;
    if (id >= this.#hash.length) this.#grow(nextCapacity(this.#hash.length, id + 1));
    return id;
  }

  #grow(capacity: number): void {
    this.localPref = grown(this.localPref, capacity);
    this.pathLength = grown(this.pathLength, capacity);
    this.origin = grown(this.origin, capacity);
    this.med = grown(this.med, capacity);
    this.neighbourAs = grown(this.neighbourAs, capacity);
    this.originatorId = grown(this.originatorId, capacity);
    this.clusterLength = grown(this.clusterLength, capacity);
    this.nextHop = grown(this.nextHop, capacity);
    this.flags = grown(this.flags, capacity);
    this.ownAsCount = grown(this.ownAsCount, capacity);
    this.references = grown(this.references, capacity);
    this.zone = grown(this.zone, capacity);
    this.#hash = grown(this.#hash, capacity);
    this.#offset = grown(this.#offset, capacity);
    this.#length = grown(this.#length, capacity);
    this.#contexts = grown(this.#contexts, capacity);
  }
}

/** The kind of session a block is judged for: the same octets may be right on one and wrong on another. 0 to 3. */
export function contextOf(session: CodecSession): number {
  return (session.as4 ? 1 : 0) | (session.external ? 2 : 0);
}

function occurrences(attributes: PathAttributes, asn: number): number {
  let count = 0;
  for (const segment of attributes.asPath) for (const member of segment.asns) if (member === asn) count++;
  return count;
}

function hashOctets(buf: Uint8Array, off: number, len: number, seed: number): number {
  let hash = (0x811c9dc5 ^ len ^ Math.imul(seed, 0x9e3779b1)) | 0;
  let p = off;
  const words = off + (len & ~3);
  while (p < words) {
    const word = buf[p]! | (buf[p + 1]! << 8) | (buf[p + 2]! << 16) | (buf[p + 3]! << 24);
    hash = Math.imul(hash ^ word, 0x01000193);
    hash ^= hash >>> 15;
    p += 4;
  }
  const end = off + len;
  while (p < end) hash = Math.imul(hash ^ buf[p++]!, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function equalAt(a: Uint8Array, aOff: number, b: Uint8Array, bOff: number, len: number): boolean {
  for (let i = 0; i < len; i++) if (a[aOff + i] !== b[bOff + i]) return false;
  return true;
}

function sameOctets(a: Uint8Array, b: Uint8Array, off: number, len: number): boolean {
  return a.length === len && equalAt(a, 0, b, off, len);
}
