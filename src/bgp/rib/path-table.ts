// Paths of one family as columns: what a peer told of a prefix, and what import made of it.
// Two lists run through the rows: all paths of a prefix (single linked) and all paths of a peer (double linked).
import { grown, nextCapacity } from './columns.ts';

/** "No path". Row 0 is never used. */
export const NO_PATH = 0;

/** Why a path does not take part in the decision; 0 when it does. */
export const REJECT_NONE = 0;
export const REJECT_AS_LOOP = 1;
export const REJECT_CLUSTER_LOOP = 2;
export const REJECT_ORIGINATOR = 3;
export const REJECT_FIRST_AS = 4;
export const REJECT_POLICY = 5;
export const REJECT_NO_POLICY = 6;
export type RejectReason = 0 | 1 | 2 | 3 | 4 | 5 | 6;

/** Texts of the reasons, by number. */
export const REJECT_TEXT: readonly string[] = [
  '',
  'our own AS is in the AS path',
  'our own cluster id is in the cluster list',
  'we are its originator',
  "the AS path does not begin with the peer's AS",
  'rejected by the import filter',
  'nothing is imported from this peer',
];

/** The peer lost its session a long time ago (RFC 9494): least preferred. */
export const PATH_LLGR_STALE = 1;
/** Out of the tables; the row waits until ADD-PATH receivers have been told. */
export const PATH_ZOMBIE = 2;
export const PATH_LIVE = 4;

export class PathTable {
  prefix = new Uint32Array(64);
  peer = new Uint16Array(64);
  /** As received; kept so that import can be done again. */
  received = new Int32Array(64);
  /** After import; 0 when rejected. */
  attributes = new Int32Array(64);
  /** Allocated when the first identifier other than 0 comes; see `pathIdOf`. */
  #pathId: Uint32Array | null = null;
  /** Next path of the same prefix. */
  next = new Int32Array(64);
  peerNext = new Int32Array(64);
  peerPrevious = new Int32Array(64);
  reject = new Uint8Array(64);
  flags = new Uint8Array(64);
  /** Low bits of the peer's epoch when the path was last heard: another one means stale. */
  epoch = new Uint8Array(64);
  /** When it was last changed, in seconds of the clock handed to the RIB. */
  since = new Uint32Array(64);
  /** Order of arrival, for "older path", when `keepSequence` asked for it. Wraps after 4 billion changes. */
  #sequence: Uint32Array | null = null;
  #nextSequence = 1;

  #limit = 1;
  #freeHead = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get limit(): number {
    return this.#limit;
  }

  /** True when paths have identifiers, so that a peer may have several for one prefix. */
  get hasPathIds(): boolean {
    return this.#pathId !== null;
  }

  /** The peer's ADD-PATH identifier, 0 without ADD-PATH; for our own routes the number of their source. */
  pathIdOf(row: number): number {
    return this.#pathId === null ? 0 : this.#pathId[row]!;
  }

  setPathId(row: number, pathId: number): void {
    if (this.#pathId === null) {
      if (pathId === 0) return;
      this.#pathId = new Uint32Array(this.prefix.length);
    }
    this.#pathId[row] = pathId;
  }

  /** From now on the order of arrival is kept. */
  keepSequence(): void {
    this.#sequence ??= new Uint32Array(this.prefix.length);
  }

  /** Order of arrival; 0 for paths from before `keepSequence`. */
  sequenceOf(row: number): number {
    return this.#sequence === null ? 0 : this.#sequence[row]!;
  }

  /** The path has just arrived or changed. */
  stamp(row: number): void {
    if (this.#sequence) this.#sequence[row] = this.#nextSequence++;
  }

  allocate(): number {
    let row = this.#freeHead;
    if (row !== 0) this.#freeHead = this.next[row]!;
    else {
      row = this.#limit;
      if (row >= this.prefix.length) this.#grow(nextCapacity(this.prefix.length, row + 1));
      this.#limit = row + 1;
    }
    this.#count++;
    this.flags[row] = PATH_LIVE;
    return row;
  }

  release(row: number): void {
    this.flags[row] = 0;
    this.attributes[row] = 0;
    this.received[row] = 0;
    this.next[row] = this.#freeHead;
    this.#freeHead = row;
    this.#count--;
  }

  #grow(capacity: number): void {
    this.prefix = grown(this.prefix, capacity);
    this.peer = grown(this.peer, capacity);
    this.received = grown(this.received, capacity);
    this.attributes = grown(this.attributes, capacity);
    if (this.#pathId) this.#pathId = grown(this.#pathId, capacity);
    this.next = grown(this.next, capacity);
    this.peerNext = grown(this.peerNext, capacity);
    this.peerPrevious = grown(this.peerPrevious, capacity);
    this.reject = grown(this.reject, capacity);
    this.flags = grown(this.flags, capacity);
    this.epoch = grown(this.epoch, capacity);
    this.since = grown(this.since, capacity);
    if (this.#sequence) this.#sequence = grown(this.#sequence, capacity);
  }
}
