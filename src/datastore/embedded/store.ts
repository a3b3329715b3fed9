// The embedded store: one SQLite file shared by the processes of one machine. In: resources, validated by the caller.
// Out: the same with revisions; watches that tail the change log. Implements store.ts.
//
// Traps: node:sqlite is synchronous, so nothing may wait or loop long inside a call. Writes are queued and committed
// several at a time for at most a few milliseconds; a lock held by another process is waited for on the event loop; large
// lists are read in slices from a connection of their own, whose transaction is the snapshot.
import { randomUUID } from 'node:crypto';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { type Clock, systemClock } from '#base/clock.ts';
import { BrindleError } from '#base/errors.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';
import type { DeleteOptions, ListOptions, ListResult, Revision, Store, Watch, WatchOptions } from '../store.ts';
import { corrupt, endRead, isBusy, openDatabase, storeError } from './database.ts';
import { NotifyFile } from './notify.ts';
import { type LogSource, LogWatch } from './watch.ts';

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

/** How long one turn of the event loop may go to the store, in ms. */
const SLICE = 4;
/** How long a lock of another process is waited for, in ms. */
const LOCK_PATIENCE = 10_000;
const MAX_RETRY_DELAY = 20;
const COMPACT_EVERY = 2000;
const COMPACT_CHUNK = 2000;
/** As etcd's default request limit, so that what fits here fits there. */
const MAX_BODY = 1_500_000;

interface Write {
  readonly run: (transaction: Transaction) => unknown;
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
  readonly since: number;
}

interface Transaction {
  revision: Revision;
  readonly at: number;
}

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
  #reader: DatabaseSync | null = null;
  /** Lists wait for each other: one reading connection, one snapshot at a time. */
  #lists: Promise<unknown> = Promise.resolve();
  #queue: Write[] = [];
  #flushing = false;
  #writesSinceCompaction = 0;
  #closed = false;

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
    this.#statements = prepare(db);
    this.#notify = new NotifyFile(options.path);
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
    await this.#drain();
    this.#closed = true;
    for (const watch of this.#watches) watch.stop();
    this.#notify.close();
    await this.#lists;
    this.#closeReader();
    this.#db.close();
  }

  /** What was asked for before `close` is still written. */
  async #drain(): Promise<void> {
    while (this.#flushing) await nextTurn();
  }

  #closeReader(): void {
    this.#reader?.close();
    this.#reader = null;
  }

  #checkOpen(): void {
    if (this.#closed) throw new BrindleError('unavailable', `the store ${this.path} is closed`);
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

  /**
   * Queues a change; several are committed together. `run` throws a BrindleError before it changes anything, or not at all.
   */
  #write<T>(run: (transaction: Transaction) => T): Promise<T> {
    if (this.#closed) return Promise.reject(new BrindleError('unavailable', `the store ${this.path} is closed`));
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ run, resolve, reject, since: performance.now() });
      if (this.#flushing) return;
      this.#flushing = true;
      void this.#flush();
    });
  }

  async #flush(): Promise<void> {
    let attempt = 0;
    // Lets everything that is asked for in this turn go into one commit.
    await nextTurn();
    while (this.#queue.length > 0) {
      try {
        this.#db.exec('BEGIN IMMEDIATE');
        attempt = 0;
      } catch (error) {
        const oldest = this.#queue[0]!;
        if (!isBusy(error) || performance.now() - oldest.since > LOCK_PATIENCE) {
          for (const write of this.#queue.splice(0)) write.reject(storeError(error, this.path));
        } else await sleep(retryDelay(attempt++));
        continue;
      }
      this.#commit();
      if (this.#queue.length > 0) await nextTurn();
    }
    this.#flushing = false;
  }

  /** Runs what is queued for at most a slice, inside the open transaction, and ends it. */
  #commit(): void {
    const batch: { write: Write; value?: unknown; error?: Error }[] = [];
    let changed = 0;
    try {
      const state = this.#statements.state.get() as { revision: number };
      const transaction: Transaction = { revision: state.revision, at: this.#options.clock.wall() };
      const sliceEnd = performance.now() + SLICE;
      do {
        const write = this.#queue.shift()!;
        const entry: (typeof batch)[number] = { write };
        batch.push(entry);
        try {
          entry.value = write.run(transaction);
        } catch (error) {
          if (!(error instanceof BrindleError)) throw error;
          entry.error = error;
        }
      } while (this.#queue.length > 0 && performance.now() < sliceEnd);
      changed = transaction.revision - state.revision;
      if (changed > 0) this.#statements.setRevision.run(transaction.revision);
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      for (const { write } of batch) write.reject(storeError(error, this.path));
      return;
    }
    if (changed > 0) {
      this.#notify.touch();
      setImmediate(() => this.#wake());
    }
    for (const { write, value, error } of batch) {
      if (error) write.reject(error);
      else write.resolve(value as never);
    }
    this.#writesSinceCompaction += changed;
    if (this.#writesSinceCompaction >= COMPACT_EVERY) {
      this.#writesSinceCompaction = 0;
      // Housekeeping: should it fail, the next writes report the same trouble to somebody who asked.
      this.#compactByPolicy().catch(() => undefined);
    }
  }

  #wake(): void {
    for (const watch of this.#watches) watch.wake();
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
): Record<'get' | 'put' | 'remove' | 'log' | 'state' | 'setRevision' | 'setCompacted', StatementSync> {
  return {
    get: db.prepare('SELECT revision, body FROM resources WHERE kind = ? AND namespace = ? AND name = ?'),
    put: db.prepare('INSERT OR REPLACE INTO resources (kind, namespace, name, revision, body) VALUES (?, ?, ?, ?, ?)'),
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

/** Random, growing to MAX_RETRY_DELAY: many processes that want the lock must not come back all at once. */
function retryDelay(attempt: number): number {
  return 1 + Math.random() * Math.min(MAX_RETRY_DELAY, 2 * (attempt + 1));
}

/** Runs something that may find the file locked, trying again on the event loop. */
async function patiently<T>(path: string, run: () => T): Promise<T> {
  const since = performance.now();
  for (let attempt = 0; ; attempt++) {
    try {
      return run();
    } catch (error) {
      if (!isBusy(error) || performance.now() - since > LOCK_PATIENCE) throw storeError(error, path);
      await sleep(retryDelay(attempt));
    }
  }
}
