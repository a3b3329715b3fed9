// Desired state against actual state, as one generic structure. In: what should be there (`desired`) and what is
// there (`actual`), each set and deleted key by key or replaced whole. Out: the updates and deletes that are still
// pending, kept up incrementally, so that asking costs only what is pending. It writes nothing itself: the owner
// applies the pending work and reports each success (or a notification from outside) to `actual`.

/** One side of the tracker. A key is present or absent; `undefined` is not a value. */
export interface TrackedSide<K, V> extends Iterable<[K, V]> {
  readonly size: number;
  get(key: K): V | undefined;
  has(key: K): boolean;
  set(key: K, value: V): void;
  /** False when the key was not there. */
  delete(key: K): boolean;
  /** Makes this side exactly `entries`; of entries with the same key the last one counts. */
  replaceAll(entries: Iterable<readonly [K, V]>): void;
  clear(): void;
}

export interface PendingUpdate<K, V> {
  readonly key: K;
  readonly desired: V;
  /** What is there now; undefined when nothing is. */
  readonly actual: V | undefined;
}

export interface PendingDelete<K, V> {
  readonly key: K;
  readonly actual: V;
}

/**
 * Keys are compared as `Map` does, so they should be strings or numbers. `equal` says whether an actual value
 * satisfies a desired one; the default is `Object.is`. Values must not be changed after they were handed over.
 * Updating either side while iterating over pending work is allowed: that is how work is ticked off.
 */
export class DeltaTracker<K, V> {
  readonly desired: TrackedSide<K, V>;
  readonly actual: TrackedSide<K, V>;
  readonly #desired = new Map<K, V>();
  readonly #actual = new Map<K, V>();
  readonly #updates = new Set<K>();
  readonly #deletes = new Set<K>();
  readonly #equal: (desired: V, actual: V) => boolean;

  constructor(equal: (desired: V, actual: V) => boolean = Object.is) {
    this.#equal = equal;
    const compare = (key: K) => this.#compare(key);
    this.desired = new Side(this.#desired, compare);
    this.actual = new Side(this.#actual, compare);
  }

  /** Everything desired that is absent or different, in the order in which it became pending. */
  *pendingUpdates(): Generator<PendingUpdate<K, V>> {
    for (const key of this.#updates) {
      yield { key, desired: this.#desired.get(key)!, actual: this.#actual.get(key) };
    }
  }

  /** Everything there that is not desired, in the order in which it became pending. */
  *pendingDeletes(): Generator<PendingDelete<K, V>> {
    for (const key of this.#deletes) yield { key, actual: this.#actual.get(key)! };
  }

  get pendingUpdateCount(): number {
    return this.#updates.size;
  }

  get pendingDeleteCount(): number {
    return this.#deletes.size;
  }

  isPending(key: K): boolean {
    return this.#updates.has(key) || this.#deletes.has(key);
  }

  isInSync(): boolean {
    return this.#updates.size === 0 && this.#deletes.size === 0;
  }

  #compare(key: K): void {
    const wanted = this.#desired.has(key);
    const present = this.#actual.has(key);
    const same = wanted && present && this.#equal(this.#desired.get(key)!, this.#actual.get(key)!);
    if (wanted && !same) this.#updates.add(key);
    else this.#updates.delete(key);
    if (present && !wanted) this.#deletes.add(key);
    else this.#deletes.delete(key);
  }
}

class Side<K, V> implements TrackedSide<K, V> {
  readonly #map: Map<K, V>;
  readonly #changed: (key: K) => void;

  constructor(map: Map<K, V>, changed: (key: K) => void) {
    this.#map = map;
    this.#changed = changed;
  }

  get size(): number {
    return this.#map.size;
  }

  get(key: K): V | undefined {
    return this.#map.get(key);
  }

  has(key: K): boolean {
    return this.#map.has(key);
  }

  set(key: K, value: V): void {
    this.#map.set(key, value);
    this.#changed(key);
  }

  delete(key: K): boolean {
    const was = this.#map.delete(key);
    if (was) this.#changed(key);
    return was;
  }

  replaceAll(entries: Iterable<readonly [K, V]>): void {
    const next = new Map(entries);
    for (const key of [...this.#map.keys()]) if (!next.has(key)) this.delete(key);
    for (const [key, value] of next) this.set(key, value);
  }

  clear(): void {
    this.replaceAll([]);
  }

  [Symbol.iterator](): Iterator<[K, V]> {
    return this.#map.entries();
  }
}
