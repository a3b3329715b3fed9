// The embedded store: one SQLite file shared by the processes of one machine. In: resources, validated by the caller.
// Out: the same with revisions; watches that tail the change log. Implements store.ts.
//
// Traps: node:sqlite is synchronous, so nothing may wait or loop long inside a call. Writes are queued and committed
// several at a time for at most a few milliseconds; a lock held by another process is waited for on the event loop; large
// lists are read in slices from a connection of their own, whose transaction is the snapshot.
import { randomUUID } from 'node:crypto';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Clock, systemClock } from '#base/clock.ts';
import { BrindleError } from '#base/errors.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';
import type { DeleteOptions, ListOptions, ListResult, Revision, Store, Watch, WatchOptions } from '../store.ts';
import { corrupt, endRead, fileIdentity, openDatabase, storeError } from './database.ts';
import { NotifyFile } from './notify.ts';
import { patiently } from './patience.ts';
import { type LogSource, LogWatch } from './watch.ts';
import { SLICE, type Transaction, WriteQueue } from './write-queue.ts';

export interface EmbeddedStoreOptions {
  readonly path: string;
  /** Entries of the change log that are always kept. Default 20 000. */
  readonly keepEntries?: number;
  /** Entries younger than this are kept beyond `keepEntries`, in ms. Default 5 minutes. */
  readonly keepAge?: number;
  /** More entries than this are never kept. Default 200 000. */
  readonly maxEntries?: number;
  readonly clock?: Clock;
}

const COMPACT_EVERY = 2000;
const LOOK_EVERY = 1000;
const COMPACT_CHUNK = 2000;
/** As etcd's default request limit, so that what fits here fits there. */
const MAX_BODY = 1_500_000;

interface Row {
  readonly revision: number;
  readonly body: string;
}

export class EmbeddedStore implements Store {
  readonly path: string;
  readonly #options: Required<EmbeddedStoreOptions>;
  readonly #db: DatabaseSync;
  readonly #statements: ReturnType<typeof prepare>;
  readonly #notify: NotifyFile;
  readonly #watches = new Set<LogWatch>();
  readonly #source: LogSource;
  readonly #queue: WriteQueue;
  #reader: DatabaseSync | null = null;
  /** Lists wait for each other: one reading connection, one snapshot at a time. */
  #lists: Promise<unknown> = Promise.resolve();
  #writesSinceCompaction = 0;
  #closed = false;
  readonly #identity: string | null;
  #lookedAt = performance.now();
  #lostError: BrindleError | null = null;

  /** Opens or creates the store. Errors: `corrupt`, `unavailable`, `permission`, `unsupported`, `invalid-argument` (another program's file). */
  static async open(options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
    const db = await patiently(options.path, () => openDatabase(options.path));
    try {
      return new EmbeddedStore(options, db);
    } catch (error) {
      db.close();
      throw storeError(error, options.path);
    }
  }

  private constructor(options: EmbeddedStoreOptions, db: DatabaseSync) {
    this.path = options.path;
    this.#options = { keepEntries: 20_000, keepAge: 300_000, maxEntries: 200_000, clock: systemClock, ...options };
    this.#db = db;
    this.#identity = fileIdentity(options.path);
    this.#statements = prepare(db);
    this.#notify = new NotifyFile(options.path);
    this.#queue = new WriteQueue(db, options.path, this.#options.clock, (changes) => this.#committed(changes));
    this.#source = { db, path: this.path, parse: (body) => this.#parse(body) };
  }

  async get(key: ResourceKey): Promise<Resource | null> {
    this.#checkOpen();
    const row = await patiently(
      this.path,
      () => this.#statements.get.get(key.kind, key.namespace, key.name) as Row | undefined,
    );
    return row ? this.#parse(row.body) : null;
  }

  async list(kind: string, options: ListOptions = {}): Promise<ListResult> {
    this.#checkOpen();
    const run = this.#lists.then(() => this.#list(kind, options.namespace));
    this.#lists = run.catch(() => undefined);
    return run;
  }

  async #list(kind: string, namespace: string | undefined): Promise<ListResult> {
    this.#checkOpen();
    this.#reader ??= await patiently(this.path, () => openDatabase(this.path));
    const db = this.#reader;
    try {
      db.exec('BEGIN');
      const state = await patiently(
        this.path,
        () => db.prepare('SELECT revision FROM state').get() as { revision: number },
      );
      const where = namespace === undefined ? 'kind = ?' : 'kind = ? AND namespace = ?';
      const select = db.prepare(`SELECT body FROM resources WHERE ${where} ORDER BY namespace, name`);
      const resources: Resource[] = [];
      let sliceEnd = performance.now() + SLICE;
      for (const row of select.iterate(...(namespace === undefined ? [kind] : [kind, namespace]))) {
        resources.push(this.#parse((row as unknown as Row).body));
        if (performance.now() < sliceEnd) continue;
        await nextTurn();
        this.#checkOpen();
        sliceEnd = performance.now() + SLICE;
      }
      return { resources, revision: state.revision };
    } catch (error) {
      throw storeError(error, this.path);
    } finally {
      endRead(db);
    }
  }

  async kinds(): Promise<readonly string[]> {
    this.#checkOpen();
    return patiently(this.path, () => {
      // One look-up a kind in the primary key; DISTINCT would read every row.
      const out: string[] = [];
      for (let last = ''; ; last = out.at(-1)!) {
        const { kind } = this.#statements.nextKind.get(last) as { kind: string | null };
        if (kind === null) return out;
        out.push(kind);
      }
    });
  }

  async create(resource: Resource): Promise<Resource> {
    return this.#write<Resource>((transaction) => {
      const key = keyOf(resource);
      if (this.#statements.get.get(key.kind, key.namespace, key.name)) {
        throw new BrindleError('already-exists', `${keyText(key)} exists already`, {
          remedy: 'update it, or choose another name',
        });
      }
      const uid = resource.metadata.uid ?? randomUUID();
      const creationTimestamp = resource.metadata.creationTimestamp ?? timestamp(transaction.at);
      return this.#put(transaction, key, { ...resource, metadata: { ...resource.metadata, uid, creationTimestamp } });
    });
  }

  async update(resource: Resource): Promise<Resource> {
    return this.#write<Resource>((transaction) => {
      const key = keyOf(resource);
      const stored = this.#stored(key, resource.metadata.resourceVersion);
      const { uid, creationTimestamp } = stored.metadata;
      const metadata = { ...resource.metadata };
      if (uid !== undefined) metadata.uid = uid;
      if (creationTimestamp !== undefined) metadata.creationTimestamp = creationTimestamp;
      return this.#put(transaction, key, { ...resource, metadata });
    });
  }

  async delete(key: ResourceKey, options: DeleteOptions = {}): Promise<Resource> {
    return this.#write<Resource>((transaction) => {
      const stored = this.#stored(key, options.resourceVersion);
      transaction.revision++;
      this.#statements.remove.run(key.kind, key.namespace, key.name);
      this.#statements.log.run(
        transaction.revision,
        transaction.at,
        'delete',
        key.kind,
        key.namespace,
        key.name,
        JSON.stringify(stored),
      );
      return stored;
    });
  }

  watch(options: WatchOptions): Watch {
    this.#checkOpen();
    const watch = new LogWatch(this.#source, options, () => {
      this.#watches.delete(watch);
      if (this.#watches.size === 0) this.#notify.stop();
    });
    this.#watches.add(watch);
    this.#notify.start(() => this.#wake());
    watch.wake();
    return watch;
  }

  /** The revision of the last write. */
  async revision(): Promise<Revision> {
    this.#checkOpen();
    return patiently(this.path, () => (this.#statements.state.get() as { revision: number }).revision);
  }

  /** Forgets the change log up to `revision` (all of it when absent): older watches end with `compacted`. */
  async compact(revision: Revision = Number.MAX_SAFE_INTEGER): Promise<void> {
    for (;;) {
      const more = await this.#write<boolean>((transaction) =>
        this.#compactChunk(Math.min(revision, transaction.revision)),
      );
      if (!more) return;
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#queue.drain();
    this.#closed = true;
    for (const watch of this.#watches) watch.stop();
    this.#notify.close();
    await this.#lists;
    this.#closeReader();
    this.#db.close();
  }

  /**
   * The file that is open may have been removed or replaced: writing on would go to nowhere without a word. Looked at
   * once a second at most.
   */
  #lost(): BrindleError | null {
    const now = performance.now();
    if (now - this.#lookedAt < LOOK_EVERY) return this.#lostError;
    this.#lookedAt = now;
    const there = fileIdentity(this.path);
    if (there === this.#identity) this.#lostError = null;
    else {
      this.#lostError = new BrindleError(
        'unavailable',
        `the store ${this.path} was ${there === null ? 'removed' : 'replaced'} while it was in use`,
        {
          remedy: 'put the file back, or start this process again',
        },
      );
    }
    return this.#lostError;
  }

  #closeReader(): void {
    this.#reader?.close();
    this.#reader = null;
  }

  #checkOpen(): void {
    const lost = this.#closed ? new BrindleError('unavailable', `the store ${this.path} is closed`) : this.#lost();
    if (lost) throw lost;
  }

  #parse(body: string): Resource {
    try {
      return JSON.parse(body) as Resource;
    } catch (error) {
      throw corrupt(this.path, 'a resource does not read back', error);
    }
  }

  /** The stored resource. `not-found`; `conflict` when `version` is given and is another. */
  #stored(key: ResourceKey, version: string | undefined): Resource {
    const row = this.#statements.get.get(key.kind, key.namespace, key.name) as Row | undefined;
    if (!row) throw new BrindleError('not-found', `${keyText(key)} does not exist`);
    if (version !== undefined && version !== String(row.revision)) {
      throw new BrindleError(
        'conflict',
        `${keyText(key)} has changed: it is at version ${row.revision}, not ${version}`,
        {
          remedy: 'read it again and repeat the change',
        },
      );
    }
    return this.#parse(row.body);
  }

  #put(transaction: Transaction, key: ResourceKey, resource: Resource): Resource {
    const revision = transaction.revision + 1;
    const stored = { ...resource, metadata: { ...resource.metadata, resourceVersion: String(revision) } };
    const body = JSON.stringify(stored);
    if (body.length > MAX_BODY) {
      throw new BrindleError(
        'invalid-argument',
        `${keyText(key)} has ${body.length} characters, at most ${MAX_BODY} are stored`,
        {
          remedy: 'split it',
        },
      );
    }
    this.#statements.put.run(key.kind, key.namespace, key.name, revision, body);
    this.#statements.log.run(revision, transaction.at, 'put', key.kind, key.namespace, key.name, body);
    transaction.revision = revision;
    // What the caller gets is what everybody will read, and shares nothing with what it passed in.
    return this.#parse(body);
  }

  async #write<T>(run: (transaction: Transaction) => T): Promise<T> {
    this.#checkOpen();
    return this.#queue.run(run);
  }

  #committed(changes: number): void {
    this.#notify.touch();
    setImmediate(() => this.#wake());
    this.#writesSinceCompaction += changes;
    if (this.#writesSinceCompaction < COMPACT_EVERY) return;
    this.#writesSinceCompaction = 0;
    // Housekeeping: should it fail, the next writes report the same trouble to somebody who asked.
    this.#compactByPolicy().catch(() => undefined);
  }

  #wake(): void {
    const lost = this.#closed ? null : this.#lost();
    for (const watch of this.#watches) {
      if (lost) watch.end(lost);
      else watch.wake();
    }
  }

  /** Keeps the last `keepEntries` and what is younger than `keepAge`, but never more than `maxEntries`. */
  async #compactByPolicy(): Promise<void> {
    const { keepEntries, keepAge, maxEntries, clock } = this.#options;
    const { revision } = this.#statements.state.get() as { revision: number };
    const old = this.#db
      .prepare('SELECT max(revision) AS revision FROM log WHERE revision <= ? AND at < ?')
      .get(revision - keepEntries, clock.wall() - keepAge) as { revision: number | null };
    const target = Math.max(old.revision ?? 0, revision - maxEntries);
    if (target > 0) await this.compact(target);
  }

  /** Removes one chunk; true when there is more. */
  #compactChunk(revision: Revision): boolean {
    const { compacted } = this.#statements.state.get() as { compacted: number };
    const first = this.#db.prepare('SELECT min(revision) AS revision FROM log').get() as { revision: number | null };
    const end = Math.min(revision, (first.revision ?? revision) + COMPACT_CHUNK - 1);
    if (end > compacted) this.#statements.setCompacted.run(end);
    this.#db.prepare('DELETE FROM log WHERE revision <= ?').run(end);
    return end < revision;
  }
}

function prepare(
  db: DatabaseSync,
): Record<'get' | 'put' | 'nextKind' | 'remove' | 'log' | 'state' | 'setRevision' | 'setCompacted', StatementSync> {
  return {
    get: db.prepare('SELECT revision, body FROM resources WHERE kind = ? AND namespace = ? AND name = ?'),
    put: db.prepare('INSERT OR REPLACE INTO resources (kind, namespace, name, revision, body) VALUES (?, ?, ?, ?, ?)'),
    nextKind: db.prepare('SELECT min(kind) AS kind FROM resources WHERE kind > ?'),
    remove: db.prepare('DELETE FROM resources WHERE kind = ? AND namespace = ? AND name = ?'),
    log: db.prepare('INSERT INTO log (revision, at, type, kind, namespace, name, body) VALUES (?, ?, ?, ?, ?, ?, ?)'),
    state: db.prepare('SELECT revision, compacted FROM state'),
    setRevision: db.prepare('UPDATE state SET revision = ?'),
    setCompacted: db.prepare('UPDATE state SET compacted = ?'),
  };
}

/** RFC 3339 in UTC, whole seconds, as Kubernetes writes it. */
function timestamp(wall: number): string {
  return `${new Date(wall).toISOString().slice(0, 19)}Z`;
}
