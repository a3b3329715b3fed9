// Work too long for one turn of the event loop, cut into slices: each job goes on where it stopped.
// In: a family's tables. Out: changes to them. `step` does about `limit` rows and says whether the job is done.
import type { FamilyRib, PathCursor } from './family-rib.ts';
import { PATH_LIVE } from './path-table.ts';
import type { PeerFamily } from './peers.ts';

export interface Job {
  /** Jobs with equal names replace each other. */
  readonly name: string;
  /** True when there is nothing left to do. */
  step(limit: number): boolean;
  /** Called when the job ends or is replaced. */
  close(): void;
}

/** Visits every path a peer has now; paths that come later are not visited. */
export class PeerPathsJob implements Job {
  readonly name: string;
  readonly #rib: FamilyRib;
  readonly #peer: number;
  readonly #visit: (path: number, peerFamily: PeerFamily) => void;
  readonly #done: () => void;
  readonly #cursor: PathCursor;

  constructor(
    name: string,
    rib: FamilyRib,
    peer: number,
    visit: (path: number, peerFamily: PeerFamily) => void,
    done: () => void = () => {},
  ) {
    this.name = name;
    this.#rib = rib;
    this.#peer = peer;
    this.#visit = visit;
    this.#done = done;
    this.#cursor = rib.cursor(peer);
  }

  step(limit: number): boolean {
    const cursor = this.#cursor;
    const peerFamily = this.#rib.peerFamily(this.#peer);
    for (let i = 0; i < limit; i++) {
      const path = cursor.path;
      if (path === 0) {
        this.#done();
        return true;
      }
      cursor.path = this.#rib.paths.peerNext[path]!; // before the visit, which may remove the path
      this.#visit(path, peerFamily);
    }
    return false;
  }

  close(): void {
    this.#rib.release(this.#peer, this.#cursor);
  }
}

/** Visits every row of the path table that holds a live path. */
export class AllPathsJob implements Job {
  readonly name: string;
  readonly #rib: FamilyRib;
  readonly #visit: (path: number) => void;
  readonly #done: () => void;
  #at = 1;

  constructor(name: string, rib: FamilyRib, visit: (path: number) => void, done: () => void = () => {}) {
    this.name = name;
    this.#rib = rib;
    this.#visit = visit;
    this.#done = done;
  }

  step(limit: number): boolean {
    const paths = this.#rib.paths;
    const stop = Math.min(paths.limit, this.#at + limit);
    for (; this.#at < stop; this.#at++) if ((paths.flags[this.#at]! & PATH_LIVE) !== 0) this.#visit(this.#at);
    if (this.#at < paths.limit) return false;
    this.#done();
    return true;
  }

  close(): void {}
}

/** Visits every prefix. */
export class AllPrefixesJob implements Job {
  readonly name: string;
  readonly #rib: FamilyRib;
  readonly #visit: (prefix: number) => void;
  #at = 1;

  constructor(name: string, rib: FamilyRib, visit: (prefix: number) => void) {
    this.name = name;
    this.#rib = rib;
    this.#visit = visit;
  }

  step(limit: number): boolean {
    const { prefixes } = this.#rib;
    const stop = Math.min(prefixes.limit, this.#at + limit);
    for (; this.#at < stop; this.#at++) if (prefixes.flags[this.#at] !== 0) this.#visit(this.#at);
    return this.#at >= prefixes.limit;
  }

  close(): void {}
}

/** Runs jobs in turn. */
export class JobQueue {
  #jobs: Job[] = [];

  get length(): number {
    return this.#jobs.length;
  }

  has(name: string): boolean {
    return this.#jobs.some((job) => job.name === name);
  }

  /** Adds a job; one of the same name is dropped, as the new one does its work from the start. */
  add(job: Job): void {
    this.cancel(job.name);
    this.#jobs.push(job);
  }

  cancel(name: string): void {
    const kept: Job[] = [];
    for (const job of this.#jobs) {
      if (job.name === name) job.close();
      else kept.push(job);
    }
    this.#jobs = kept;
  }

  /** One slice of the first job, which then goes to the end. False when there was none. */
  step(limit: number): boolean {
    const job = this.#jobs.shift();
    if (!job) return false;
    if (job.step(limit)) job.close();
    else this.#jobs.push(job);
    return true;
  }
}
