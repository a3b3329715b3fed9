// Adj-RIB-In and Loc-RIB of one address family: paths go in and out, the best one is kept current, and whoever has to
// know (update groups, the routing table) is marked. Import policy has been applied by the caller.
// In: paths by peer and prefix. Out: marks in the queues of the consumers.
// RFC 4271 3.2, 9.1; 4724 and 9494 (stale paths); 7313 (refresh).
import type { AddressFamily } from '#bgp/wire/types.ts';
import { NlriColumns } from '#bgp/wire/nlri.ts';
import type { AttributeTable } from './attribute-table.ts';
import { RowQueue } from './columns.ts';
import { Decision } from './decision.ts';
import { PATH_LIVE, PATH_LLGR_STALE, PATH_ZOMBIE, PathTable } from './path-table.ts';
import { LOCAL_PEER, type PeerFamily, PeerFamily as Family, type PeerTable } from './peers.ts';
import { Ipv4PrefixTable, Ipv6PrefixTable, NO_PREFIX, PREFIX_RECLAIM, type PrefixTable } from './prefix-table.ts';
import type { UpdateGroup } from './update-group.ts';

/** A place in a peer's list of paths that stays good while paths come and go. */
export interface PathCursor {
  path: number;
}

export class FamilyRib {
  readonly family: AddressFamily;
  readonly prefixes: PrefixTable;
  readonly paths = new PathTable();
  readonly decision: Decision;
  readonly groups: UpdateGroup[] = [];
  /** Prefixes whose route for the routing table changed; null while nobody wants them. */
  routeQueue: RowQueue | null = null;
  /** Counters of our own routes. */
  readonly local = new Family();
  /** Prefixes with a usable best path. */
  routes = 0;
  /** Called after the best path of a prefix changed, or its attributes. */
  onBest: ((prefix: number) => void) | null = null;
  readonly scratch = new NlriColumns(1024);
  /** For single prefixes, so that `scratch` can be in use meanwhile. */
  readonly single = new NlriColumns(1);
  readonly #attributes: AttributeTable;
  readonly #peers: PeerTable;
  readonly #reclaim = new RowQueue();
  /** By group, during `reclaim`: the version that every member has been told of. */
  #delivered: number[] = [];
  readonly #cursors = new Map<number, Set<PathCursor>>();
  #addPathGroups = 0;

  constructor(family: AddressFamily, attributes: AttributeTable, peers: PeerTable) {
    this.family = family;
    this.prefixes = family === 'ipv4' ? new Ipv4PrefixTable() : new Ipv6PrefixTable();
    this.#attributes = attributes;
    this.#peers = peers;
    this.decision = new Decision(this.prefixes, this.paths, attributes, peers);
  }

  peerFamily(peer: number): PeerFamily {
    return peer === LOCAL_PEER ? this.local : this.#peers.get(peer)!.families[this.family];
  }

  addGroup(group: UpdateGroup): void {
    this.groups.push(group);
    if (group.addPath) this.#addPathGroups++;
  }

  removeGroup(group: UpdateGroup): void {
    const at = this.groups.indexOf(group);
    if (at < 0) return;
    this.groups.splice(at, 1);
    if (group.addPath) this.#addPathGroups--;
    group.dispose();
  }

  /** The live path of a peer for a prefix; 0 when there is none. */
  find(prefix: number, peer: number, pathId: number): number {
    const paths = this.paths;
    for (let path = this.prefixes.head[prefix]!; path !== 0; path = paths.next[path]!) {
      if (paths.peer[path] === peer && (paths.flags[path]! & PATH_LIVE) !== 0 && paths.pathIdOf(path) === pathId) {
        return path;
      }
    }
    return 0;
  }

  /**
   * A peer announces a path. `attributes` is the outcome of import, 0 when `reject` says why not. `now` in seconds.
   */
  announce(
    peer: number,
    peerFamily: PeerFamily,
    prefix: number,
    pathId: number,
    received: number,
    attributes: number,
    reject: number,
    now: number,
  ): void {
    const path = this.find(prefix, peer, pathId);
    if (path !== 0) {
      this.#replace(path, peerFamily, prefix, received, attributes, reject, now);
      return;
    }
    const row = this.paths.allocate();
    const paths = this.paths;
    paths.prefix[row] = prefix;
    paths.peer[row] = peer;
    paths.setPathId(row, pathId);
    paths.received[row] = received;
    paths.attributes[row] = attributes;
    paths.reject[row] = reject;
    paths.epoch[row] = peerFamily.epoch & 255;
    paths.since[row] = now;
    paths.stamp(row);
    paths.next[row] = this.prefixes.head[prefix]!;
    this.prefixes.head[prefix] = row;
    paths.peerPrevious[row] = 0;
    paths.peerNext[row] = peerFamily.head;
    if (peerFamily.head !== 0) paths.peerPrevious[peerFamily.head] = row;
    peerFamily.head = row;
    peerFamily.received++;
    this.#attributes.acquire(received);
    if (attributes === 0) return;
    this.#attributes.acquire(attributes);
    peerFamily.accepted++;
    const first = this.prefixes.best[prefix] === 0;
    const best = this.decision.added(prefix, row);
    this.#mark(prefix, best);
    if (first && best) this.#presence(true);
  }

  /** A peer withdraws a path. False when it had none. */
  withdraw(peer: number, peerFamily: PeerFamily, prefix: number, pathId: number): boolean {
    const path = this.find(prefix, peer, pathId);
    if (path === 0) return false;
    this.removePath(path, peerFamily);
    return true;
  }

  removePath(path: number, peerFamily: PeerFamily): void {
    const paths = this.paths;
    const prefix = paths.prefix[path]!;
    this.#unlinkFromPeer(path, peerFamily);
    peerFamily.received--;
    if (paths.epoch[path] !== (peerFamily.epoch & 255)) peerFamily.stale--;
    const accepted = paths.attributes[path] !== 0;
    const zombie = this.#addPathGroups > 0; // also when rejected: it may have been accepted, and be advertised still
    if (!zombie) this.#unlinkFromPrefix(path, prefix);
    const usable = this.decision.usable(path);
    if (zombie) paths.flags[path] = PATH_ZOMBIE;
    if (accepted) {
      peerFamily.accepted--;
      const had = this.prefixes.best[prefix] !== 0;
      const best = this.decision.removed(prefix, path, usable);
      this.#mark(prefix, best);
      if (had && this.prefixes.best[prefix] === 0) this.#presence(false);
      this.#attributes.release(paths.attributes[path]!);
    }
    this.#attributes.release(paths.received[path]!);
    if (zombie) paths.attributes[path] = 0;
    else paths.release(path);
    if (zombie || this.prefixes.head[prefix] === 0) this.wantReclaim(prefix);
  }

  /** Import gave another outcome for a path that is already there. */
  reimport(path: number, attributes: number, reject: number): void {
    const paths = this.paths;
    const peerFamily = this.peerFamily(paths.peer[path]!);
    const prefix = paths.prefix[path]!;
    this.#exchange(path, peerFamily, prefix, paths.received[path]!, attributes, reject);
  }

  /** Chooses anew for a prefix, for reasons outside the paths (next hop, options). */
  reconsider(prefix: number): void {
    const had = this.prefixes.best[prefix] !== 0;
    const moved = this.decision.decide(prefix);
    this.#mark(prefix, moved);
    const has = this.prefixes.best[prefix] !== 0;
    if (had !== has) this.#presence(has);
  }

  /** The route of a prefix is to be exported again though its paths are as before. */
  touch(prefix: number): void {
    this.#mark(prefix, true);
  }

  /** Marks a path as stale for long (RFC 9494): least preferred, exported with LLGR_STALE. */
  markLongLivedStale(path: number): void {
    this.paths.flags[path]! |= PATH_LLGR_STALE;
    const prefix = this.paths.prefix[path]!;
    this.decision.decide(prefix);
    this.#mark(prefix, true);
  }

  /** A cursor over a peer's paths that survives their removal. Give it back with `release`. */
  cursor(peer: number): PathCursor {
    const cursor = { path: this.peerFamily(peer).head };
    const set = this.#cursors.get(peer);
    if (set) set.add(cursor);
    else this.#cursors.set(peer, new Set([cursor]));
    return cursor;
  }

  release(peer: number, cursor: PathCursor): void {
    const set = this.#cursors.get(peer);
    set?.delete(cursor);
    if (set?.size === 0) this.#cursors.delete(peer);
  }

  wantReclaim(prefix: number): void {
    this.prefixes.flags[prefix]! |= PREFIX_RECLAIM;
    this.#reclaim.push(prefix);
  }

  /** Frees rows of prefixes and paths that nobody has to be told of any more. Returns how many prefixes it was done with. */
  reclaim(limit: number): number {
    const turns = Math.min(limit, this.#reclaim.length);
    this.#delivered = this.groups.map((group) => group.deliveredVersion());
    let done = 0;
    for (let i = 0; i < turns; i++) {
      const prefix = this.#reclaim.shift();
      if (this.#free(prefix)) done++;
      else this.#reclaim.push(prefix);
    }
    return done;
  }

  get reclaimable(): number {
    return this.#reclaim.length;
  }

  #free(prefix: number): boolean {
    if (this.routeQueue?.has(prefix)) return false;
    for (const group of this.groups) if (group.queue.has(prefix)) return false;
    const paths = this.paths;
    let waits = false;
    for (let path = this.prefixes.head[prefix]!; path !== 0; ) {
      const next = paths.next[path]!;
      if ((paths.flags[path]! & PATH_ZOMBIE) !== 0) {
        if (!this.#toldOf(path, true)) waits = true;
        else {
          this.#unlinkFromPrefix(path, prefix);
          for (const group of this.groups) if (group.addPath) group.forget(path);
          paths.release(path);
        }
      }
      path = next;
    }
    if (waits) return false;
    if (this.prefixes.head[prefix] !== 0) {
      this.prefixes.flags[prefix]! &= ~PREFIX_RECLAIM; // it has paths again
      return true;
    }
    if (!this.#toldOf(prefix, false)) return false;
    for (const group of this.groups) if (!group.addPath) group.forget(prefix);
    this.prefixes.remove(prefix);
    return true;
  }

  /** All members of the groups of one kind know the last change to a row. */
  #toldOf(key: number, addPath: boolean): boolean {
    for (let i = 0; i < this.groups.length; i++) {
      const group = this.groups[i]!;
      if (group.addPath === addPath && group.changedIn(key) > this.#delivered[i]!) return false;
    }
    return true;
  }

  #replace(
    path: number,
    peerFamily: PeerFamily,
    prefix: number,
    received: number,
    attributes: number,
    reject: number,
    now: number,
  ): void {
    const paths = this.paths;
    const epoch = peerFamily.epoch & 255;
    if (paths.epoch[path] !== epoch) {
      paths.epoch[path] = epoch;
      peerFamily.stale--;
    }
    const longLived = (paths.flags[path]! & PATH_LLGR_STALE) !== 0;
    if (
      paths.received[path] === received &&
      paths.attributes[path] === attributes &&
      paths.reject[path] === reject &&
      !longLived
    ) {
      return;
    }
    paths.flags[path]! &= ~PATH_LLGR_STALE;
    paths.since[path] = now;
    paths.stamp(path);
    this.#exchange(path, peerFamily, prefix, received, attributes, reject);
  }

  #exchange(
    path: number,
    peerFamily: PeerFamily,
    prefix: number,
    received: number,
    attributes: number,
    reject: number,
  ): void {
    const paths = this.paths;
    this.#attributes.acquire(received);
    if (attributes !== 0) this.#attributes.acquire(attributes);
    const old = paths.attributes[path]!;
    this.#attributes.release(paths.received[path]!);
    if (old !== 0) this.#attributes.release(old);
    paths.received[path] = received;
    paths.attributes[path] = attributes;
    paths.reject[path] = reject;
    if ((old !== 0) !== (attributes !== 0)) peerFamily.accepted += attributes !== 0 ? 1 : -1;
    const before = this.prefixes.best[prefix]!;
    const moved = this.decision.decide(prefix);
    const after = this.prefixes.best[prefix]!;
    this.#mark(prefix, moved || after === path);
    if ((before === 0) !== (after === 0)) this.#presence(after !== 0);
  }

  #mark(prefix: number, best: boolean): void {
    const groups = this.groups;
    for (let i = 0; i < groups.length; i++) {
      const group = groups[i]!;
      if (best || group.addPath) group.queue.push(prefix);
    }
    this.routeQueue?.push(prefix);
    if (best && this.onBest !== null) this.onBest(prefix);
  }

  #presence(present: boolean): void {
    this.routes += present ? 1 : -1;
  }

  #unlinkFromPeer(path: number, peerFamily: PeerFamily): void {
    const { peerNext, peerPrevious, peer } = this.paths;
    const next = peerNext[path]!;
    const previous = peerPrevious[path]!;
    const cursors = this.#cursors.size > 0 ? this.#cursors.get(peer[path]!) : undefined;
    if (cursors) for (const cursor of cursors) if (cursor.path === path) cursor.path = next;
    if (previous !== 0) peerNext[previous] = next;
    else peerFamily.head = next;
    if (next !== 0) peerPrevious[next] = previous;
  }

  #unlinkFromPrefix(path: number, prefix: number): void {
    const { next } = this.paths;
    const { head } = this.prefixes;
    if (head[prefix] === path) {
      head[prefix] = next[path]!;
      return;
    }
    let before = head[prefix]!;
    while (next[before] !== path) before = next[before]!;
    next[before] = next[path]!;
  }

  /** Row of a prefix; NO_PREFIX when it is not in the table. */
  lookup(prefix: Parameters<PrefixTable['findPrefix']>[0]): number {
    return prefix.family === (this.family === 'ipv4' ? 4 : 6)
      ? this.prefixes.findPrefix(prefix, this.single)
      : NO_PREFIX;
  }
}
