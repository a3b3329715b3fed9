// One watch: tails the change log from a revision. In: wakes, which are only hints. Out: batches of events in order, each
// exactly once, until `stop()` or the end. All reads of a turn are in one transaction, so that what is compacted meanwhile
// is noticed and never skipped.
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { BrindleError } from '#base/errors.ts';
import type { Resource } from '#model/resource.ts';
import type { Revision, StoreEvent, Watch, WatchOptions } from '../store.ts';
import { endRead, isBusy, storeError } from './database.ts';

/** Events handed over in one turn of the event loop. */
const BATCH = 256;
const RETRY_DELAY = 5;

export interface LogSource {
  readonly db: DatabaseSync;
  readonly path: string;
  readonly parse: (body: string) => Resource;
}

interface LogRow {
  readonly revision: number;
  readonly type: 'put' | 'delete';
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly body: string;
}

export class LogWatch implements Watch {
  readonly #source: LogSource;
  readonly #options: WatchOptions;
  readonly #onStopped: () => void;
  readonly #select: StatementSync;
  readonly #state: StatementSync;
  #position: Revision;
  #scheduled = false;
  #stopped = false;

  constructor(source: LogSource, options: WatchOptions, onStopped: () => void) {
    this.#source = source;
    this.#options = options;
    this.#onStopped = onStopped;
    this.#position = options.fromRevision;
    const kinds = options.kinds ? ` AND kind IN (${options.kinds.map(() => '?').join(', ')})` : '';
    this.#select = source.db.prepare(`SELECT * FROM log WHERE revision > ?${kinds} ORDER BY revision LIMIT ${BATCH}`);
    this.#state = source.db.prepare('SELECT revision, compacted FROM state');
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#onStopped();
  }

  /** There may be something new. */
  wake(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#scheduled = false;
    if (this.#stopped) return;
    let events: StoreEvent[];
    let behind: boolean;
    try {
      ({ events, behind } = this.#read());
    } catch (error) {
      if (isBusy(error)) {
        setTimeout(() => this.wake(), RETRY_DELAY);
        return;
      }
      this.end(storeError(error, this.#source.path));
      return;
    }
    if (behind) this.wake();
    if (events.length > 0) this.#options.onEvents(events);
    else this.#options.onProgress?.(this.#position);
  }

  #read(): { events: StoreEvent[]; behind: boolean } {
    const { db, parse } = this.#source;
    db.exec('BEGIN');
    try {
      const state = this.#state.get() as { revision: number; compacted: number };
      if (this.#position === state.revision) return { events: [], behind: false };
      if (this.#position < state.compacted) throw compacted(`revision ${this.#position} has been compacted away`);
      if (this.#position > state.revision)
        throw compacted(`revision ${this.#position} is not in this store yet: it was replaced`);
      const rows = this.#select.all(this.#position, ...(this.#options.kinds ?? [])) as unknown as LogRow[];
      const events = rows.map((row): StoreEvent => {
        const key = { kind: row.kind, namespace: row.namespace, name: row.name };
        const resource = parse(row.body);
        return row.type === 'put'
          ? { type: 'put', key, resource, revision: row.revision }
          : { type: 'delete', key, last: resource, revision: row.revision };
      });
      const behind = rows.length === BATCH;
      this.#position = behind ? rows[BATCH - 1]!.revision : state.revision;
      return { events, behind };
    } finally {
      endRead(db);
    }
  }

  /** Ends the watch by itself. */
  end(error: Error): void {
    if (this.#stopped) return;
    this.stop();
    this.#options.onEnd(error);
  }
}

function compacted(message: string): BrindleError {
  return new BrindleError('compacted', message, { remedy: 'list again and watch from there' });
}
