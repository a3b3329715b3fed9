// NftDriver over libnftables: text in, JSON out. Runs one command at a time; what is short runs at once on the event loop (a thread
// switch costs more than the command), what is long runs on a worker thread.
import { type Libnftables, NftError } from '#sys/libnftables.ts';
import { isBrindleError } from '#base/errors.ts';
import type { CommitFailure, NftDriver, TableState } from './driver.ts';
import { parseListing } from './listing.ts';
import type { Transaction } from './transaction.ts';

/** Length of text, in characters, from which a transaction goes to a worker thread. */
const LONG_TEXT = 16_384;

export class LibnftablesDriver implements NftDriver {
  readonly #library: Libnftables;
  /** Serialises: a context serves one thread at a time. */
  #last: Promise<unknown> = Promise.resolve();

  /** `library` is closed with the driver. */
  constructor(library: Libnftables) {
    this.#library = library;
  }

  async commit(transaction: Transaction): Promise<CommitFailure | null> {
    if (transaction.error) return { error: transaction.error, command: null };
    const text = transaction.toString();
    if (text === '') return null;
    return this.#serial(async () => {
      try {
        if (text.length < LONG_TEXT) this.#library.run(text);
        else await this.#library.runAsync(text);
        return null;
      } catch (error) {
        if (!(error instanceof NftError)) throw error;
        return { error, command: error.position ? error.position.line - 1 : null };
      }
    });
  }

  async list(table: string, options: { readonly terse?: boolean } = {}): Promise<TableState | null> {
    return this.#serial(async () => {
      try {
        const terse = options.terse ?? false;
        return parseListing(await this.#library.runAsync(`list table inet ${table}`, { json: true, terse }));
      } catch (error) {
        if (isBrindleError(error, 'kernel') && error.message.includes('No such file or directory')) return null;
        throw error;
      }
    });
  }

  generation(): Promise<null> {
    return Promise.resolve(null);
  }

  watch(): null {
    return null;
  }

  close(): void {
    this.#library.close();
  }

  async #serial<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work, work);
    this.#last = result.catch(() => {});
    return result;
  }
}
