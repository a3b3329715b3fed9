// Commits changes several at a time, each commit for at most a few milliseconds of a turn of the event loop, and waits
// for the lock of another process between turns. In: functions that change the database. Out: their results, once they
// are committed.
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '#base/clock.ts';
import { BrindleError } from '#base/errors.ts';
import type { Revision } from '../store.ts';
import { isBusy, storeError } from './database.ts';
import { LOCK_PATIENCE, retryDelay } from './patience.ts';

/** How long one turn of the event loop may go to the store, in ms. */
export const SLICE = 4;

/** What a change sees and moves on: the revision of the last change so far. */
export interface Transaction {
  revision: Revision;
  /** Wall clock, ms since the Unix epoch. */
  readonly at: number;
}

interface Write {
  readonly run: (transaction: Transaction) => unknown;
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
  readonly since: number;
}

export class WriteQueue {
  readonly #db: DatabaseSync;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #onCommitted: (changes: number) => void;
  readonly #state: StatementSync;
  readonly #setRevision: StatementSync;
  #queue: Write[] = [];
  #flushing = false;

  constructor(db: DatabaseSync, path: string, clock: Clock, onCommitted: (changes: number) => void) {
    this.#db = db;
    this.#path = path;
    this.#clock = clock;
    this.#onCommitted = onCommitted;
    this.#state = db.prepare('SELECT revision FROM state');
    this.#setRevision = db.prepare('UPDATE state SET revision = ?');
  }

  /** `run` throws a BrindleError before it changes anything, or not at all. */
  run<T>(run: (transaction: Transaction) => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ run, resolve, reject, since: performance.now() });
      if (this.#flushing) return;
      this.#flushing = true;
      void this.#flush();
    });
  }

  /** Resolves when everything asked for so far is written or refused. */
  async drain(): Promise<void> {
    while (this.#flushing) await nextTurn();
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
          for (const write of this.#queue.splice(0)) write.reject(storeError(error, this.#path));
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
    let changes = 0;
    try {
      const state = this.#state.get() as { revision: number };
      const transaction: Transaction = { revision: state.revision, at: this.#clock.wall() };
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
      changes = transaction.revision - state.revision;
      if (changes > 0) this.#setRevision.run(transaction.revision);
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      for (const { write } of batch) write.reject(storeError(error, this.#path));
      return;
    }
    for (const { write, value, error } of batch) {
      if (error) write.reject(error);
      else write.resolve(value as never);
    }
    if (changes > 0) this.#onCommitted(changes);
  }
}
