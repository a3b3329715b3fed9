// The decision process: which path of a prefix is best, at which step that was decided, and which paths share the load.
// In: the columns of paths, attributes, next hops and peers. Out: `best` and `step` of the prefix table.
// RFC 4271 9.1.2.2, 4456 section 9 (originator id, cluster list length), 9494 section 4.5 (stale routes last).
//
// Trap: MED is compared only between paths from one neighbour AS, so the order is not total and a path that is not
// best may still have eliminated one that would be. `decide` therefore eliminates step by step, as the RFC says; the
// short cuts of `added` and `removed` are taken only where they provably give the same answer.
//
// The recorded step is the last one at which a competitor fell out: the step that left the best path alone.
import { type AttributeTable, FLAG_LLGR_STALE } from './attribute-table.ts';
import type { PeerTable } from './peers.ts';
import { PATH_LIVE, PATH_LLGR_STALE, type PathTable } from './path-table.ts';
import type { PrefixTable } from './prefix-table.ts';

export const STEP_ONLY = 0;
export const STEP_STALENESS = 1;
export const STEP_WEIGHT = 2;
export const STEP_LOCAL_PREF = 3;
export const STEP_AS_PATH = 4;
export const STEP_ORIGIN = 5;
export const STEP_MED = 6;
export const STEP_PEER_TYPE = 7;
export const STEP_IGP_METRIC = 8;
export const STEP_OLDER = 9;
export const STEP_ROUTER_ID = 10;
export const STEP_CLUSTER_LENGTH = 11;
export const STEP_NEIGHBOUR_ADDRESS = 12;
export const STEP_PATH_ID = 13;

/** The steps' names, as FRR's `selection reason` has them. */
export const STEP_TEXT: readonly string[] = [
  'Only path',
  'Path Staleness',
  'Weight',
  'Local Pref',
  'AS Path',
  'Origin',
  'MED',
  'Peer Type',
  'IGP Metric',
  'Older Path',
  'Router ID',
  'Cluster length',
  'Neighbor IP',
  'Path ID',
];

export interface DecisionOptions {
  /** Compare MED between different neighbour ASes too. Default false. */
  readonly alwaysCompareMed?: boolean;
  /** Between external paths, stay with the one that came first (RFC 5004). Default false: order does not matter. */
  readonly preferOldest?: boolean;
  /** Compare router ids. Default true. */
  readonly compareRouterId?: boolean;
  /** Most paths that share the load, 1 to 255. Default 1. */
  readonly maxPaths?: number;
  /** Paths of equal length but different content of AS_PATH may share the load. Default false. */
  readonly multipathRelax?: boolean;
}

export class Decision {
  readonly #prefixes: PrefixTable;
  readonly #paths: PathTable;
  readonly #attributes: AttributeTable;
  readonly #peers: PeerTable;
  #alwaysCompareMed = false;
  #preferOldest = false;
  #compareRouterId = true;
  #relax = false;
  maxPaths = 1;
  /** Scratch: the candidates still in the race. */
  #ties: number[] = [];

  constructor(prefixes: PrefixTable, paths: PathTable, attributes: AttributeTable, peers: PeerTable) {
    this.#prefixes = prefixes;
    this.#paths = paths;
    this.#attributes = attributes;
    this.#peers = peers;
  }

  configure(options: DecisionOptions): void {
    this.#alwaysCompareMed = options.alwaysCompareMed ?? false;
    this.#preferOldest = options.preferOldest ?? false;
    if (this.#preferOldest) this.#paths.keepSequence();
    this.#compareRouterId = options.compareRouterId ?? true;
    this.#relax = options.multipathRelax ?? false;
    this.maxPaths = options.maxPaths ?? 1;
  }

  /** Accepted, not gone, and its next hop can be reached. */
  usable(path: number): boolean {
    const attributes = this.#paths.attributes[path]!;
    return (
      attributes !== 0 &&
      (this.#paths.flags[path]! & PATH_LIVE) !== 0 &&
      this.#attributes.nextHops.reachable[this.#attributes.nextHop[attributes]!] === 1
    );
  }

  /** Chooses among all paths. True when another path is best now. */
  decide(prefix: number): boolean {
    const paths = this.#paths;
    let best = 0;
    let step = STEP_ONLY;
    const ties = this.#ties;
    ties.length = 0;
    for (let path = this.#prefixes.head[prefix]!; path !== 0; path = paths.next[path]!) {
      if (!this.usable(path)) continue;
      if (best === 0) {
        best = path;
        ties.push(path);
        continue;
      }
      const result = this.#compareFirst(best, path);
      if (result === 0) ties.push(path);
      else if (result < 0) step = Math.max(step, -result);
      else {
        best = path;
        step = result;
        ties.length = 0;
        ties.push(path);
      }
    }
    if (ties.length > 1) {
      if (this.#eliminateByMed(ties)) step = STEP_MED;
      best = ties[0]!;
      for (let i = 1, last = STEP_ONLY; i < ties.length; i++) {
        const result = this.#compareLast(best, ties[i]!);
        if (result <= 0) last = Math.max(last, -result);
        else {
          best = ties[i]!;
          last = result; // whom the former best beat later than here is beaten here
        }
        if (i === ties.length - 1) step = Math.max(step, last);
      }
    }
    this.#prefixes.step[prefix] = step;
    if (this.#prefixes.best[prefix] === best) return false;
    this.#prefixes.best[prefix] = best;
    return true;
  }

  /** After a path came new into the list. True when it is best now. */
  added(prefix: number, path: number): boolean {
    if (!this.usable(path)) return false;
    const best = this.#prefixes.best[prefix]!;
    if (best === 0) {
      this.#prefixes.best[prefix] = path;
      this.#prefixes.step[prefix] = STEP_ONLY;
      return true;
    }
    const result = this.#compareFirst(best, path);
    if (result < 0) {
      if (-result > this.#prefixes.step[prefix]!) this.#prefixes.step[prefix] = -result;
      return false;
    }
    if (result > 0) {
      this.#prefixes.best[prefix] = path;
      this.#prefixes.step[prefix] = result;
      return true;
    }
    return this.decide(prefix);
  }

  /**
   * After a path left the list (its columns still readable); `usable` is what it was before. True when another path is
   * best now.
   */
  removed(prefix: number, path: number, usable: boolean): boolean {
    const best = this.#prefixes.best[prefix]!;
    if (this.#prefixes.head[prefix] === 0) {
      this.#prefixes.best[prefix] = 0;
      return best !== 0;
    }
    // One that is not usable may have been when the prefix was last decided: its next hop has just been lost.
    if (best === path || best === 0 || !usable) return this.decide(prefix);
    const result = this.#compareFirst(best, path);
    if (result < 0 && -result < this.#prefixes.step[prefix]!) return false;
    return this.decide(prefix);
  }

  /** For every usable path the step at which it fell out; the best path has the prefix's own step. */
  steps(prefix: number): Map<number, number> {
    const steps = new Map<number, number>();
    const paths = this.#paths;
    const usable: number[] = [];
    for (let path = this.#prefixes.head[prefix]!; path !== 0; path = paths.next[path]!) {
      if (this.usable(path)) usable.push(path);
    }
    const best = this.#prefixes.best[prefix]!;
    let ties: number[] = [];
    for (const path of usable) {
      const result = path === best ? 0 : this.#compareFirst(best, path);
      if (result === 0) ties.push(path);
      else steps.set(path, Math.abs(result));
    }
    const before = ties;
    ties = [...ties];
    if (ties.length > 1) this.#eliminateByMed(ties);
    for (const path of before) if (!ties.includes(path)) steps.set(path, STEP_MED);
    for (const path of ties) if (path !== best) steps.set(path, Math.abs(this.#compareLast(best, path)));
    if (best !== 0) steps.set(best, this.#prefixes.step[prefix]!);
    return steps;
  }

  /**
   * The paths that share the load with the best one, it first: equal up to and with the IGP metric, next hops all
   * different, at most `maxPaths`. Written to `out`.
   */
  multipath(prefix: number, out: number[]): void {
    out.length = 0;
    const best = this.#prefixes.best[prefix]!;
    if (best === 0) return;
    out.push(best);
    if (this.maxPaths <= 1) return;
    const { attributes } = this.#paths;
    const ties: number[] = [best];
    for (let path = this.#prefixes.head[prefix]!; path !== 0; path = this.#paths.next[path]!) {
      if (path !== best && this.usable(path) && this.#compareFirst(best, path) === 0) ties.push(path);
    }
    if (ties.length > 1) this.#eliminateByMed(ties);
    // In the order of the last steps, so that the choice among too many does not depend on the order of arrival.
    const rest = ties.filter((path) => path !== best && this.#tieThroughMetric(best, path));
    rest.sort((a, b) => this.#compareLast(a, b));
    for (const path of rest) {
      if (out.length >= this.maxPaths) break;
      const nextHop = this.#attributes.nextHop[attributes[path]!]!;
      if (out.every((other) => this.#attributes.nextHop[attributes[other]!] !== nextHop)) out.push(path);
    }
  }

  /** The `limit` most preferred usable paths, best first. MED ranks within a neighbour AS only. */
  ranked(prefix: number, limit: number, out: number[]): void {
    out.length = 0;
    const best = this.#prefixes.best[prefix]!;
    if (best === 0) return;
    const rest: number[] = [];
    for (let path = this.#prefixes.head[prefix]!; path !== 0; path = this.#paths.next[path]!) {
      if (path !== best && this.usable(path)) rest.push(path);
    }
    rest.sort((a, b) => this.#compareFirst(a, b) || this.#compareMed(a, b) || this.#compareLast(a, b));
    out.push(best);
    for (let i = 0; i < rest.length && out.length < limit; i++) out.push(rest[i]!);
  }

  #compareMed(a: number, b: number): number {
    const { med, neighbourAs } = this.#attributes;
    const x = this.#paths.attributes[a]!;
    const y = this.#paths.attributes[b]!;
    return neighbourAs[x]! - neighbourAs[y]! || med[x]! - med[y]!; // grouped, so that the order is total
  }

  /** Steps before MED. Negative: `a` wins at that step; positive: `b`; 0: equal. */
  #compareFirst(a: number, b: number): number {
    const paths = this.#paths;
    const table = this.#attributes;
    const x = paths.attributes[a]!;
    const y = paths.attributes[b]!;
    const staleA = (paths.flags[a]! & PATH_LLGR_STALE) | (table.flags[x]! & FLAG_LLGR_STALE);
    const staleB = (paths.flags[b]! & PATH_LLGR_STALE) | (table.flags[y]! & FLAG_LLGR_STALE);
    if ((staleA === 0) !== (staleB === 0)) return staleA === 0 ? -STEP_STALENESS : STEP_STALENESS;
    const weight = this.#peers.weight[paths.peer[a]!]! - this.#peers.weight[paths.peer[b]!]!;
    if (weight !== 0) return weight > 0 ? -STEP_WEIGHT : STEP_WEIGHT;
    if (x === y) return 0;
    const preference = table.localPref[x]! - table.localPref[y]!;
    if (preference !== 0) return preference > 0 ? -STEP_LOCAL_PREF : STEP_LOCAL_PREF;
    const length = table.pathLength[x]! - table.pathLength[y]!;
    if (length !== 0) return length < 0 ? -STEP_AS_PATH : STEP_AS_PATH;
    const origin = table.origin[x]! - table.origin[y]!;
    if (origin !== 0) return origin < 0 ? -STEP_ORIGIN : STEP_ORIGIN;
    return 0;
  }

  /** Steps after MED. */
  #compareLast(a: number, b: number): number {
    const paths = this.#paths;
    const table = this.#attributes;
    const peers = this.#peers;
    const x = paths.attributes[a]!;
    const y = paths.attributes[b]!;
    const p = paths.peer[a]!;
    const q = paths.peer[b]!;
    const type = peers.rank[p]! - peers.rank[q]!;
    if (type !== 0) return type < 0 ? -STEP_PEER_TYPE : STEP_PEER_TYPE;
    const metrics = table.nextHops.metric;
    const metric = metrics[table.nextHop[x]!]! - metrics[table.nextHop[y]!]!;
    if (metric !== 0) return metric < 0 ? -STEP_IGP_METRIC : STEP_IGP_METRIC;
    if (this.#preferOldest && peers.isExternal(p) && peers.isExternal(q)) {
      const order = (paths.sequenceOf(a) - paths.sequenceOf(b)) | 0;
      if (order !== 0) return order < 0 ? -STEP_OLDER : STEP_OLDER;
    }
    if (this.#compareRouterId) {
      const id = (table.originatorId[x]! || peers.routerId[p]!) - (table.originatorId[y]! || peers.routerId[q]!);
      if (id !== 0) return id < 0 ? -STEP_ROUTER_ID : STEP_ROUTER_ID;
    }
    const clusters = table.clusterLength[x]! - table.clusterLength[y]!;
    if (clusters !== 0) return clusters < 0 ? -STEP_CLUSTER_LENGTH : STEP_CLUSTER_LENGTH;
    if (p !== q) {
      const address = peers.compareAddress(p, q);
      if (address !== 0) return address < 0 ? -STEP_NEIGHBOUR_ADDRESS : STEP_NEIGHBOUR_ADDRESS;
    }
    const pathId = paths.pathIdOf(a) - paths.pathIdOf(b);
    return pathId === 0 ? 0 : pathId < 0 ? -STEP_PATH_ID : STEP_PATH_ID;
  }

  /** Takes out of `ties` every path with a higher MED than another of its group. True when one fell out. */
  #eliminateByMed(ties: number[]): boolean {
    const { med, neighbourAs } = this.#attributes;
    const { attributes } = this.#paths;
    const firstMed = med[attributes[ties[0]!]!]!;
    let differs = false;
    for (let i = 1; i < ties.length; i++) {
      if (med[attributes[ties[i]!]!]! !== firstMed) {
        differs = true;
        break;
      }
    }
    if (!differs) return false;
    const lowest = new Map<number, number>();
    for (const path of ties) {
      const group = this.#alwaysCompareMed ? 0 : neighbourAs[attributes[path]!]!;
      const value = med[attributes[path]!]!;
      const known = lowest.get(group);
      if (known === undefined || value < known) lowest.set(group, value);
    }
    let kept = 0;
    for (const path of ties) {
      const group = this.#alwaysCompareMed ? 0 : neighbourAs[attributes[path]!]!;
      if (med[attributes[path]!] === lowest.get(group)) ties[kept++] = path;
    }
    const fell = kept < ties.length;
    ties.length = kept;
    return fell;
  }

  #tieThroughMetric(best: number, path: number): boolean {
    const paths = this.#paths;
    const table = this.#attributes;
    const x = paths.attributes[best]!;
    const y = paths.attributes[path]!;
    if (this.#peers.rank[paths.peer[best]!] !== this.#peers.rank[paths.peer[path]!]) return false;
    if (table.nextHops.metric[table.nextHop[x]!] !== table.nextHops.metric[table.nextHop[y]!]) return false;
    return this.#relax || x === y || sameAsPath(table, x, y);
  }
}

function sameAsPath(table: AttributeTable, a: number, b: number): boolean {
  if (table.neighbourAs[a] !== table.neighbourAs[b] || table.pathLength[a] !== table.pathLength[b]) return false;
  const text = (id: number): string =>
    table
      .decoded(id)
      .asPath.map((s) => `${s.type}:${s.asns.join(' ')}`)
      .join('|');
  return text(a) === text(b);
}
