// Storage for many short octet strings in one buffer, so that the garbage collector sees one object.
// In: octets. Out: an offset that stays valid until the string is released. Growth copies the buffer once per doubling.

const GRANULE = 16;

export class OctetArena {
  /** Replaced when the arena grows: never keep a reference over an `allocate`. */
  bytes: Uint8Array;
  #top = 0;
  /** Free offsets by size in granules. */
  readonly #free = new Map<number, number[]>();

  constructor(capacity = 4096) {
    this.bytes = new Uint8Array(capacity);
  }

  /** Octets in use or kept for reuse. */
  get size(): number {
    return this.#top;
  }

  /** Copies `len` octets in and returns where they lie. */
  store(buf: Uint8Array, off: number, len: number): number {
    const granules = granulesOf(len);
    const free = this.#free.get(granules);
    let at = free?.pop();
    if (at === undefined) {
      at = this.#top;
      this.#top += granules * GRANULE;
      if (this.#top > this.bytes.length) this.#grow();
    }
    const bytes = this.bytes;
    for (let i = 0; i < len; i++) bytes[at + i] = buf[off + i]!;
    return at;
  }

  /** Gives back the `len` octets at `off`. */
  release(off: number, len: number): void {
    const granules = granulesOf(len);
    const free = this.#free.get(granules);
    if (free) free.push(off);
    else this.#free.set(granules, [off]);
  }

  #grow(): void {
    const grown = new Uint8Array(Math.max(this.bytes.length * 2, this.#top));
    grown.set(this.bytes);
    this.bytes = grown;
  }
}

function granulesOf(len: number): number {
  return len === 0 ? 1 : (len + GRANULE - 1) >>> 4;
}
