// Growing of typed columns: the one place that copies them.

type Column = Uint8Array | Uint16Array | Uint32Array | Int32Array;

/** A larger copy of a column; the new part is zero. */
export function grown<T extends Column>(column: T, capacity: number): T {
  const Constructor = column.constructor as new (length: number) => T;
  const copy = new Constructor(capacity);
  copy.set(column);
  return copy;
}

/**
 * The next capacity, a power of two. The steps are large: few copies, and the slack costs no memory, as the operating
 * system hands out zeroed pages only when they are first written to.
 */
export function nextCapacity(capacity: number, needed: number): number {
  for (const step of CAPACITIES) if (step > capacity && step >= needed) return step;
  let next = capacity * 2;
  while (next < needed) next *= 2;
  return next;
}

const CAPACITIES = [64, 4096, 1 << 16, 1 << 18, 1 << 20, 1 << 22];

/** Queue of row numbers in which a row is at most once: what is queued again keeps its place. */
export class RowQueue {
  #ring = new Uint32Array(64);
  #head = 0;
  #count = 0;
  #queued = new Uint8Array(64);

  get length(): number {
    return this.#count;
  }

  has(row: number): boolean {
    return row < this.#queued.length && this.#queued[row] === 1;
  }

  /** False when the row was queued already. */
  push(row: number): boolean {
    if (row >= this.#queued.length) this.#queued = grown(this.#queued, nextCapacity(this.#queued.length, row + 1));
    if (this.#queued[row] === 1) return false;
    this.#queued[row] = 1;
    if (this.#count === this.#ring.length) this.#growRing();
    this.#ring[(this.#head + this.#count) & (this.#ring.length - 1)] = row;
    this.#count++;
    return true;
  }

  /** The oldest row; 0 (never a row) when empty. */
  shift(): number {
    if (this.#count === 0) return 0;
    const row = this.#ring[this.#head]!;
    this.#head = (this.#head + 1) & (this.#ring.length - 1);
    this.#count--;
    this.#queued[row] = 0;
    if (this.#count === 0 && this.#ring.length > 65536) {
      this.#ring = new Uint32Array(64);
      this.#head = 0;
    }
    return row;
  }

  clear(): void {
    while (this.#count > 0) this.shift();
  }

  #growRing(): void {
    const ring = new Uint32Array(nextCapacity(this.#ring.length, this.#ring.length + 1));
    const first = this.#ring.length - this.#head;
    ring.set(this.#ring.subarray(this.#head), 0);
    ring.set(this.#ring.subarray(0, this.#head), first);
    this.#ring = ring;
    this.#head = 0;
  }
}
