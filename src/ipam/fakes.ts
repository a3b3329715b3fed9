// For tests: a store in memory that several hosts race on and that can be cut off, and a disk that loses power or the
// process at any operation.
import { BrindleError } from '#base/errors.ts';
import type { DeleteOptions, ListResult, Store } from '#datastore/store.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';
import type { JournalFile, JournalFiles } from './files.ts';

export class MemoryStore implements Store {
  readonly resources = new Map<string, Resource>();
  /** Set to cut the store off. */
  down = false;
  /** Calls that reached the store. */
  calls = 0;
  /** Awaited within each call, so that calls of several hosts interleave. */
  delay: () => Promise<void> = () => Promise.resolve();
  #revision = 0;

  async #enter(): Promise<void> {
    this.calls++;
    await this.delay();
    if (this.down) throw new BrindleError('unavailable', 'the store is cut off');
  }

  async get(key: ResourceKey): Promise<Resource | null> {
    await this.#enter();
    return structuredClone(this.resources.get(keyText(key)) ?? null);
  }

  async list(kind: string): Promise<ListResult> {
    await this.#enter();
    const resources = [...this.resources.values()].filter((resource) => keyOf(resource).kind === kind);
    const answer = { resources: structuredClone(resources), revision: this.#revision };
    await this.delay();
    return answer;
  }

  async kinds(): Promise<readonly string[]> {
    await this.#enter();
    return [...new Set([...this.resources.values()].map((resource) => keyOf(resource).kind))];
  }

  async create(resource: Resource): Promise<Resource> {
    await this.#enter();
    const key = keyText(keyOf(resource));
    if (this.resources.has(key)) throw new BrindleError('already-exists', `${key} exists`);
    return this.#put(key, resource);
  }

  async update(resource: Resource): Promise<Resource> {
    await this.#enter();
    const key = keyText(keyOf(resource));
    const stored = this.resources.get(key);
    if (!stored) throw new BrindleError('not-found', `${key} does not exist`);
    const wanted = resource.metadata.resourceVersion;
    if (wanted !== undefined && wanted !== stored.metadata.resourceVersion) {
      throw new BrindleError('conflict', `${key} has changed`);
    }
    return this.#put(key, resource);
  }

  async delete(key: ResourceKey, options?: DeleteOptions): Promise<Resource> {
    await this.#enter();
    const stored = this.resources.get(keyText(key));
    if (!stored) throw new BrindleError('not-found', `${keyText(key)} does not exist`);
    const wanted = options?.resourceVersion;
    if (wanted !== undefined && wanted !== stored.metadata.resourceVersion) {
      throw new BrindleError('conflict', `${keyText(key)} has changed`);
    }
    this.resources.delete(keyText(key));
    this.#revision++;
    return stored;
  }

  #put(key: string, resource: Resource): Resource {
    const stored = structuredClone(resource);
    stored.metadata.resourceVersion = String(++this.#revision);
    this.resources.set(key, stored);
    return structuredClone(stored);
  }

  watch(): never {
    throw new BrindleError('unsupported', 'this store has no watch');
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Thrown by a disk whose machine has stopped; nothing after it happens any more. */
export class Stopped extends Error {}

interface Inode {
  /** What the page cache holds. */
  cached: Buffer;
  /** What the disk holds. */
  durable: Buffer;
}

/** A disk in memory. `failAt` stops the machine, or fails with `error`, in the middle of that operation. */
export class FakeDisk implements JournalFiles {
  #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();
  operations = 0;
  syncs = 0;
  failAt = Number.POSITIVE_INFINITY;
  /** null: the machine stops there. Else the operation, and every later one while set, fails with it. */
  error: Error | null = null;
  #stopped = false;

  /** The disk after the process was killed (`kill`) or the power was lost; `keep` of 0..1: how much of the last unsynchronised write survived. */
  after(how: 'kill' | 'power', keep = 0): FakeDisk {
    const disk = new FakeDisk();
    const names = how === 'kill' ? this.#names : this.#durableNames;
    for (const [name, inode] of names) {
      const extra = inode.cached.subarray(inode.durable.length);
      const survived =
        how === 'kill'
          ? inode.cached
          : Buffer.concat([inode.durable, extra.subarray(0, Math.floor(extra.length * keep))]);
      const copy = { cached: Buffer.from(survived), durable: Buffer.from(survived) };
      disk.#names.set(name, copy);
      disk.#durableNames.set(name, copy);
    }
    return disk;
  }

  content(path: string): Buffer | null {
    return this.#names.get(path)?.cached ?? null;
  }

  put(path: string, content: Uint8Array): void {
    const inode = { cached: Buffer.from(content), durable: Buffer.from(content) };
    this.#names.set(path, inode);
    this.#durableNames.set(path, inode);
  }

  /** Counts an operation; true when it is the one to break off. */
  #step(): boolean {
    if (this.#stopped) throw new Stopped();
    const breaks = ++this.operations >= this.failAt;
    if (breaks && this.error === null) this.#stopped = true;
    return breaks;
  }

  #break(): never {
    throw this.error ?? new Stopped();
  }

  read(path: string): Promise<Uint8Array | null> {
    const inode = this.#names.get(path);
    return Promise.resolve(inode ? Buffer.from(inode.cached) : null);
  }

  async open(path: string, empty: boolean): Promise<JournalFile> {
    await Promise.resolve();
    if (this.#step()) this.#break();
    let inode = this.#names.get(path);
    if (!inode) {
      inode = { cached: Buffer.alloc(0), durable: Buffer.alloc(0) };
      this.#names.set(path, inode);
      this.#durableNames.set(path, inode);
    }
    if (empty) inode.cached = inode.durable = Buffer.alloc(0);
    const file = inode;
    return {
      write: (octets, position) => {
        const breaks = this.#step();
        const part = breaks ? octets.subarray(0, octets.length >> 1) : octets;
        const size = Math.max(file.cached.length, position + part.length);
        const next = Buffer.alloc(size);
        file.cached.copy(next);
        next.set(part, position);
        file.cached = next;
        if (breaks) this.#break();
      },
      sync: async () => {
        this.syncs++;
        const cached = file.cached; // what was there when it began
        await Promise.resolve();
        if (this.#step()) this.#break();
        file.durable = cached;
      },
      truncate: async (size) => {
        await Promise.resolve();
        if (this.#step()) this.#break();
        file.cached = file.cached.subarray(0, size);
        if (file.durable.length > size) file.durable = file.cached;
      },
      close: () => Promise.resolve(),
    };
  }

  async replace(from: string, to: string): Promise<void> {
    await Promise.resolve();
    const breaks = this.#step();
    const inode = this.#names.get(from);
    if (!inode) throw new Error(`no ${from}`);
    this.#names.delete(from);
    this.#names.set(to, inode);
    if (breaks) this.#break(); // in the cache, not on the disk
    this.#durableNames.delete(from);
    this.#durableNames.set(to, inode);
  }
}
