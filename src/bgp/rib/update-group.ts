// The adj-RIB-out of all peers that are sent the same: evaluated once, encoded once, read by each at its own pace.
// In: prefixes whose paths changed. Out: for each member, octets to write to its socket.
// RFC 4271 9.1.3, 9.2; RFC 4724 section 2 (End-of-RIB); RFC 7911.
//
// Changes are queued by prefix, so a newer one replaces an older one that was not sent yet. `generate` evaluates a
// batch, packs it by attribute set (withdrawals first) and appends it to a log as one entry with a version. Members
// are cursors into the log. What differs for a single member (it is the source of a route) is a part of an entry
// marked `except` or `only` that member.
//
// A member that falls behind the log, or joins late, walks the table instead: every row keeps the version of its last
// change, so it is sent the present state of all rows changed since the version it had. Memory stays bounded however
// slow a peer is, and each row is sent once.
import { type AttributeTable, NO_ATTRIBUTES } from './attribute-table.ts';
import { grown, nextCapacity, RowQueue } from './columns.ts';
import type { Decision } from './decision.ts';
import type { Exporter } from './export.ts';
import { PATH_LIVE, type PathTable } from './path-table.ts';
import type { PrefixTable } from './prefix-table.ts';
import { UpdateEncoder } from './update-encoder.ts';

export interface OutputLimits {
  /** A member further behind than this leaves the log and walks the table. */
  readonly logOctets: number;
  readonly logEntries: number;
  /** Nothing is generated while every member has this much to read: changes wait, and coalesce, in the queue. */
  readonly aheadOctets: number;
  /** Rows looked at in one slice of a walk. */
  readonly walkRows: number;
}

export const DEFAULT_OUTPUT_LIMITS: OutputLimits = {
  logOctets: 4 * 1024 * 1024,
  logEntries: 8192,
  aheadOctets: 1024 * 1024,
  walkRows: 16384,
};

interface Part {
  readonly octets: Uint8Array;
  /** The member that must not read it; 0: none. */
  readonly except: number;
  /** The only member that reads it; 0: all. */
  readonly only: number;
}

interface Entry {
  readonly parts: readonly Part[];
  readonly octets: number;
  /** Members that follow the log and have not read it to its end. */
  readers: number;
}

interface Walk {
  /** Rows changed after this version are sent. */
  since: number;
  /** The log's version when this pass began. */
  target: number;
  /** Next row. */
  at: number;
  /** False for a peer that has never been told anything. */
  withdrawals: boolean;
  /** Also rows without a change: the peer came from another group. */
  everything: boolean;
}

/** One peer's place in its group. */
export class GroupMember {
  readonly peer: number;
  readonly group: UpdateGroup;
  /** Version of the next log entry to read. */
  next = 1;
  /** Parts of it already read. */
  part = 0;
  walk: Walk | null = null;
  endOfRib: 'pending' | 'sent' | 'none' = 'pending';
  /** Octets handed out so far. */
  octets = 0;
  /** Walks made because the member fell behind the log. */
  fallbacks = 0;

  constructor(peer: number, group: UpdateGroup) {
    this.peer = peer;
    this.group = group;
  }
}

export interface GroupTables {
  readonly prefixes: PrefixTable;
  readonly paths: PathTable;
  readonly attributes: AttributeTable;
  readonly decision: Decision;
  readonly limits: OutputLimits;
}

export class UpdateGroup {
  readonly id: number;
  readonly key: string;
  readonly members: GroupMember[] = [];
  /** Prefixes to be looked at again. */
  readonly queue = new RowQueue();
  readonly addPath: boolean;
  exporter: Exporter;
  /** Rows advertised, whoever their source is. */
  advertisedCount = 0;
  readonly #tables: GroupTables;
  readonly #encoder: UpdateEncoder;
  // Columns by key: the path row with ADD-PATH, else the prefix row.
  #advertised = new Int32Array(64);
  #source = new Uint16Array(64);
  #version = new Uint32Array(64);
  #bySource = new Uint32Array(16);
  /** By peer. */
  #isMember = new Uint8Array(16);
  /** First row not yet looked at since the group was made or its policy changed; 0: all were. */
  #scan = 1;
  #settled = false;
  #log: Entry[] = [];
  /** Version of the log's first entry. */
  #first = 1;
  #logOctets = 0;
  // Scratch of one batch.
  #itemKey = new Uint32Array(1024);
  #itemBucket = new Uint32Array(1024);
  #sorted = new Uint32Array(1024);
  #items = 0;
  #buckets: { attributes: number; except: number; count: number }[] = [];
  #bucketIndex = new Map<number, number>();
  #lastBucketKey = -1;
  #lastBucket = 0;
  #singles = new Map<number, { only: number; attributes: number; keys: number[] }>();
  #chosen: number[] = [];

  constructor(id: number, key: string, exporter: Exporter, tables: GroupTables) {
    this.id = id;
    this.key = key;
    this.exporter = exporter;
    this.#tables = tables;
    this.addPath = exporter.properties.addPath;
    this.#encoder = new UpdateEncoder(
      tables.prefixes,
      exporter.properties.codec.maxMessageLength,
      this.addPath,
      (path) => tables.paths.prefix[path]!,
    );
  }

  /** Version of the newest log entry. */
  get version(): number {
    return this.#first + this.#log.length - 1;
  }

  /** Octets held for members that have not read them. */
  get logOctets(): number {
    return this.#logOctets;
  }

  /** There is something to evaluate. */
  get dirty(): boolean {
    return this.queue.length > 0 || this.#scan !== 0;
  }

  /** Routes the member has been, or is being, told. */
  advertisedTo(peer: number): number {
    return this.advertisedCount - (this.#bySource[peer] ?? 0);
  }

  /** The exported attributes of a key as told to a member; NO_ATTRIBUTES when it is not. */
  advertisedAttributes(key: number, peer: number): number {
    return this.#source[key] === peer ? NO_ATTRIBUTES : (this.#advertised[key] ?? NO_ATTRIBUTES);
  }

  join(peer: number, told: 'nothing' | 'unknown'): GroupMember {
    const member = new GroupMember(peer, this);
    member.next = this.version + 1;
    if (told === 'unknown' || this.version > 0) {
      member.walk = {
        since: 0,
        target: this.version,
        at: 1,
        withdrawals: told === 'unknown',
        everything: told === 'unknown',
      };
    }
    if (peer >= this.#isMember.length)
      this.#isMember = grown(this.#isMember, nextCapacity(this.#isMember.length, peer + 1));
    this.#isMember[peer] = 1;
    this.members.push(member);
    return member;
  }

  leave(member: GroupMember): void {
    const at = this.members.indexOf(member);
    if (at < 0) return;
    this.members.splice(at, 1);
    this.#isMember[member.peer] = 0;
    if (!member.walk) this.#unfollow(member);
    this.#dropRead();
  }

  /** Sends the member everything it should have, once more. */
  resend(member: GroupMember): void {
    if (!member.walk) this.#unfollow(member);
    member.walk = { since: 0, target: this.version, at: 1, withdrawals: true, everything: false };
    this.#dropRead();
  }

  /** All rows are to be looked at again: policy or identity changed. */
  rescan(): void {
    this.#scan = 1;
  }

  /** Drops every reference. The group must have no members. */
  dispose(): void {
    const limit = this.addPath ? this.#tables.paths.limit : this.#tables.prefixes.limit;
    for (let key = 1; key < Math.min(limit, this.#advertised.length); key++) {
      if (this.#advertised[key] !== 0) this.#tables.attributes.release(this.#advertised[key]!);
    }
    this.#advertised = new Int32Array(0);
  }

  /** Evaluates up to `limit` prefixes. Returns how many it did: 0 when there is nothing to do or nobody to tell. */
  generate(limit: number): number {
    if (!this.dirty || this.members.length === 0) return 0;
    const streaming = this.members.some((m) => m.walk === null);
    const awaited = this.members.some((m) => m.walk?.everything); // it cannot start before all rows are evaluated
    if (streaming && !awaited && this.#allBehind()) return 0;
    const version = this.version + 1;
    const prefixes = this.#tables.prefixes;
    let done = 0;
    let changed = false;
    while (done < limit) {
      let row = this.queue.shift();
      if (row === 0) {
        if (this.#scan === 0) break;
        row = this.#scan++;
        if (row >= prefixes.limit) {
          this.#scan = 0;
          break;
        }
        if (prefixes.head[row] === 0 || prefixes.flags[row] === 0) continue;
      }
      done++;
      if (this.addPath) changed = this.#evaluatePaths(row, version, streaming) || changed;
      else changed = this.#evaluateBest(row, version, streaming) || changed;
    }
    if (!this.dirty) this.#settled = true;
    if (changed) this.#append();
    return done;
  }

  /** Appends to `out` what the member is to be sent next, up to about `maxOctets`. False when there is nothing left for now. */
  pull(member: GroupMember, maxOctets: number, out: Uint8Array[]): boolean {
    let octets = 0;
    while (octets < maxOctets) {
      if (member.walk) {
        const before = out.length;
        this.#walkSlice(member, member.walk, out);
        for (let i = before; i < out.length; i++) octets += out[i]!.length;
        if (out.length === before && member.walk) break; // a slice without a change: let others run
        continue;
      }
      if (member.next > this.version) break;
      const entry = this.#log[member.next - this.#first]!;
      octets += this.#read(member, entry, maxOctets - octets, out);
      if (member.part < entry.parts.length) break;
      member.part = 0;
      member.next++;
      if (--entry.readers === 0) this.#dropRead();
    }
    if (member.endOfRib === 'pending' && this.#settled && !this.dirty && !member.walk && member.next > this.version) {
      this.#encoder.endOfRib();
      for (const marker of this.#encoder.take()) {
        out.push(marker);
        octets += marker.length;
      }
      member.endOfRib = 'sent';
    }
    member.octets += octets;
    return octets > 0 || this.hasOutput(member);
  }

  /** Reads parts of an entry. What lies side by side in memory becomes one piece, to be written with one call. */
  #read(member: GroupMember, entry: Entry, maxOctets: number, out: Uint8Array[]): number {
    const { parts } = entry;
    let octets = 0;
    let first: Uint8Array | null = null;
    let start = 0;
    let end = 0;
    while (member.part < parts.length && octets < maxOctets) {
      const part = parts[member.part++]!;
      if (part.only === 0 ? part.except === member.peer : part.only !== member.peer) continue;
      const piece = part.octets;
      octets += piece.length;
      if (first !== null && piece.buffer === first.buffer && piece.byteOffset === end) {
        end += piece.length;
        continue;
      }
      if (first !== null) out.push(joined(first, start, end));
      first = piece;
      start = piece.byteOffset;
      end = start + piece.length;
    }
    if (first !== null) out.push(joined(first, start, end));
    return octets;
  }

  /** The member has something to read, now or once more was evaluated (which its reading may have made possible). */
  hasOutput(member: GroupMember): boolean {
    if (member.walk || member.next <= this.version || this.dirty) return true;
    return member.endOfRib === 'pending' && this.#settled && !this.dirty;
  }

  /** Every member has been told of all changes up to this version; -1 when one has still to be told everything. */
  deliveredVersion(): number {
    let lowest = this.version;
    for (const { walk, next } of this.members) {
      if (walk?.everything) return -1;
      lowest = Math.min(lowest, walk ? walk.since : next - 1);
    }
    return lowest;
  }

  /** Version of the last change to the key's row; 0: it was never advertised. */
  changedIn(key: number): number {
    return this.#version[key] ?? 0;
  }

  /** The key's row is freed. */
  forget(key: number): void {
    if (key >= this.#version.length) return;
    this.#version[key] = 0;
    this.#source[key] = 0;
  }

  #evaluateBest(row: number, version: number, streaming: boolean): boolean {
    const { prefixes, paths } = this.#tables;
    const best = prefixes.best[row]!;
    const out = best === 0 ? NO_ATTRIBUTES : this.exporter.exportNext(best);
    return this.#change(row, out, out === 0 ? 0 : paths.peer[best]!, version, streaming);
  }

  #evaluatePaths(row: number, version: number, streaming: boolean): boolean {
    const { prefixes, paths, decision } = this.#tables;
    const limit = this.exporter.properties.addPathLimit;
    const chosen = this.#chosen;
    if (limit > 0) decision.ranked(row, limit, chosen);
    let changed = false;
    for (let path = prefixes.head[row]!; path !== 0; path = paths.next[path]!) {
      const live = (paths.flags[path]! & PATH_LIVE) !== 0 && decision.usable(path);
      const wanted = live && (limit === 0 || chosen.includes(path));
      const out = wanted ? this.exporter.export(path) : NO_ATTRIBUTES;
      changed = this.#change(path, out, out === 0 ? 0 : paths.peer[path]!, version, streaming) || changed;
    }
    return changed;
  }

  #change(key: number, out: number, source: number, version: number, streaming: boolean): boolean {
    if (key >= this.#version.length) this.#grow(key + 1);
    const old = this.#advertised[key]!;
    const oldSource = this.#source[key]!;
    if (old === out && oldSource === source) return false;
    if (old !== out) {
      if (out !== 0) this.#tables.attributes.acquire(out);
      if (old !== 0) this.#tables.attributes.release(old);
      this.#advertised[key] = out;
    }
    this.#source[key] = source;
    this.#version[key] = version;
    this.#count(old, oldSource, out, source);
    if (!streaming) return true;
    if (out === NO_ATTRIBUTES) this.#add(key, NO_ATTRIBUTES, oldSource);
    else {
      if (out !== old) this.#add(key, out, source);
      else if (oldSource !== source) this.#addSingle(oldSource, out, key); // was kept from it until now
      if (old !== NO_ATTRIBUTES && oldSource !== source) this.#addSingle(source, NO_ATTRIBUTES, key);
    }
    return true;
  }

  #count(old: number, oldSource: number, out: number, source: number): void {
    const highest = Math.max(oldSource, source);
    if (highest >= this.#bySource.length) {
      this.#bySource = grown(this.#bySource, nextCapacity(this.#bySource.length, highest + 1));
    }
    if (old !== 0) {
      this.advertisedCount--;
      this.#bySource[oldSource]!--;
    }
    if (out !== 0) {
      this.advertisedCount++;
      this.#bySource[source]!++;
    }
  }

  #add(key: number, attributes: number, except: number): void {
    const kept = this.#isMember[except] === 1 ? except : 0;
    const bucketKey = attributes * 65536 + kept;
    if (bucketKey !== this.#lastBucketKey) {
      let bucket = this.#bucketIndex.get(bucketKey);
      if (bucket === undefined) {
        bucket = this.#buckets.length;
        this.#buckets.push({ attributes, except: kept, count: 0 });
        this.#bucketIndex.set(bucketKey, bucket);
      }
      this.#lastBucketKey = bucketKey;
      this.#lastBucket = bucket;
    }
    if (this.#items === this.#itemKey.length) {
      const capacity = this.#items * 2;
      this.#itemKey = grown(this.#itemKey, capacity);
      this.#itemBucket = grown(this.#itemBucket, capacity);
    }
    this.#itemKey[this.#items] = key;
    this.#itemBucket[this.#items++] = this.#lastBucket;
    this.#buckets[this.#lastBucket]!.count++;
  }

  #addSingle(only: number, attributes: number, key: number): void {
    if (this.#isMember[only] !== 1) return;
    const id = attributes * 65536 + only;
    const list = this.#singles.get(id);
    if (list) list.keys.push(key);
    else this.#singles.set(id, { only, attributes, keys: [key] });
  }

  /** Encodes the batch into one log entry. */
  #append(): void {
    const parts: Part[] = [];
    const buckets = this.#buckets;
    const sorted = this.#sortItems();
    let from = 0;
    let octets = 0;
    const cut = (except: number, only: number): void => {
      for (const piece of this.#encoder.take()) {
        parts.push({ octets: piece, except, only });
        octets += piece.length;
      }
    };
    for (const withdrawals of [true, false]) {
      from = 0;
      let except = 0;
      for (const bucket of buckets) {
        const to = from + bucket.count;
        if ((bucket.attributes === NO_ATTRIBUTES) === withdrawals) {
          if (bucket.except !== except) cut(except, 0);
          except = bucket.except;
          if (withdrawals) this.#encoder.withdraw(sorted, from, to);
          else this.#encoder.announce(sorted, from, to, this.exporter.wireForm(bucket.attributes));
        }
        from = to;
      }
      cut(except, 0);
      for (const { only, attributes, keys } of this.#singles.values()) {
        if ((attributes === NO_ATTRIBUTES) !== withdrawals) continue;
        const rows = Uint32Array.from(keys);
        if (withdrawals) this.#encoder.withdraw(rows, 0, rows.length);
        else this.#encoder.announce(rows, 0, rows.length, this.exporter.wireForm(attributes));
        cut(0, only);
      }
    }
    this.#items = 0;
    this.#buckets = [];
    this.#bucketIndex.clear();
    this.#lastBucketKey = -1;
    this.#singles.clear();
    let readers = 0;
    for (const member of this.members) if (!member.walk) readers++;
    this.#log.push({ parts, octets, readers });
    this.#logOctets += octets;
    this.#enforceLimits();
    this.#dropRead();
  }

  /** Keys of the batch in the order of their buckets. */
  #sortItems(): Uint32Array {
    if (this.#sorted.length < this.#items) this.#sorted = new Uint32Array(this.#itemKey.length);
    const sorted = this.#sorted;
    if (this.#buckets.length === 1) {
      sorted.set(this.#itemKey.subarray(0, this.#items));
      return sorted;
    }
    const starts = new Uint32Array(this.#buckets.length);
    let start = 0;
    for (let i = 0; i < this.#buckets.length; i++) {
      starts[i] = start;
      start += this.#buckets[i]!.count;
    }
    for (let i = 0; i < this.#items; i++) sorted[starts[this.#itemBucket[i]!]!++] = this.#itemKey[i]!;
    return sorted;
  }

  /** Every reader of the log still has plenty to read. */
  #allBehind(): boolean {
    if (this.#logOctets < this.#tables.limits.aheadOctets) return false;
    let newest = 0;
    for (const member of this.members) if (!member.walk && member.next > newest) newest = member.next;
    let unread = 0;
    for (let v = newest; v <= this.version; v++) unread += this.#log[v - this.#first]!.octets;
    return unread >= this.#tables.limits.aheadOctets;
  }

  /** The member no longer follows the log: what it has not read does not wait for it. */
  #unfollow(member: GroupMember): void {
    for (let v = member.next; v <= this.version; v++) this.#log[v - this.#first]!.readers--;
    member.part = 0;
  }

  /** Drops the entries at the log's beginning that everybody has read. */
  #dropRead(): void {
    let dropped = 0;
    while (dropped < this.#log.length && this.#log[dropped]!.readers === 0) {
      this.#logOctets -= this.#log[dropped++]!.octets;
    }
    if (dropped === 0) return;
    this.#log.splice(0, dropped);
    this.#first += dropped;
  }

  /** Sends members away that make the log hold too much. */
  #enforceLimits(): void {
    const { logOctets, logEntries } = this.#tables.limits;
    while (this.#log.length > 1 && (this.#logOctets > logOctets || this.#log.length > logEntries)) {
      for (const member of this.members) {
        if (member.walk || member.next !== this.#first) continue;
        this.#unfollow(member);
        member.walk = { since: member.next - 1, target: this.version, at: 1, withdrawals: true, everything: false };
        member.fallbacks++;
      }
      const before = this.#first;
      this.#dropRead();
      if (this.#first === before) return;
    }
  }

  /** One slice of a walk: the present state of rows changed since. Ends the walk when nothing moved meanwhile. */
  #walkSlice(member: GroupMember, walk: Walk, out: Uint8Array[]): void {
    if (walk.everything && this.#scan !== 0) return; // not all rows are evaluated yet
    const { prefixes, paths } = this.#tables;
    const limit = Math.min(
      this.addPath ? paths.limit : prefixes.limit,
      walk.everything ? Infinity : this.#version.length,
    );
    const stop = Math.min(limit, walk.at + this.#tables.limits.walkRows);
    for (let key = walk.at; key < stop; key++) {
      const version = this.#version[key] ?? 0;
      if (version <= walk.since && !walk.everything) continue;
      const attributes = this.#advertised[key] ?? NO_ATTRIBUTES;
      if (attributes !== NO_ATTRIBUTES && this.#source[key] !== member.peer) this.#add(key, attributes, 0);
      else if (walk.withdrawals && this.#inUse(key)) this.#add(key, NO_ATTRIBUTES, 0);
    }
    this.#encodeWalk(out);
    walk.at = stop;
    if (stop < limit) return;
    if (walk.target === this.version) {
      member.walk = null;
      member.next = this.version + 1;
      member.part = 0;
      return;
    }
    this.#restart(walk, walk.target);
    walk.everything = false;
    walk.withdrawals = true;
  }

  #restart(walk: Walk, since: number): void {
    walk.since = since;
    walk.target = this.version;
    walk.at = 1;
  }

  #inUse(key: number): boolean {
    return this.addPath ? this.#tables.paths.flags[key] !== 0 : this.#tables.prefixes.flags[key] !== 0;
  }

  #encodeWalk(out: Uint8Array[]): void {
    const sorted = this.#sortItems();
    for (const withdrawals of [true, false]) {
      let from = 0;
      for (const bucket of this.#buckets) {
        const to = from + bucket.count;
        if ((bucket.attributes === NO_ATTRIBUTES) === withdrawals) {
          if (withdrawals) this.#encoder.withdraw(sorted, from, to);
          else this.#encoder.announce(sorted, from, to, this.exporter.wireForm(bucket.attributes));
        }
        from = to;
      }
    }
    this.#items = 0;
    this.#buckets = [];
    this.#bucketIndex.clear();
    this.#lastBucketKey = -1;
    for (const piece of this.#encoder.take()) out.push(piece);
  }

  #grow(needed: number): void {
    const capacity = nextCapacity(this.#version.length, Math.max(needed, this.#tables.prefixes.limit));
    this.#advertised = grown(this.#advertised, capacity);
    this.#source = grown(this.#source, capacity);
    this.#version = grown(this.#version, capacity);
  }
}

/** The range of `first`'s buffer, `first` itself where that is all. */
function joined(first: Uint8Array, start: number, end: number): Uint8Array {
  return end - start === first.length ? first : new Uint8Array(first.buffer, start, end - start);
}
