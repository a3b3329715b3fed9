// The IPAM journal: an append-only file of checksummed records on the host's own disk. In: records, each with the
// wish to be durable or only to be written. Out: promises that resolve when that is so; the state at the next start.
//
// - Written is enough against kill -9, durable against power loss. Writing is synchronous, one fdatasync (in a thread)
//   serves all records that were written before it began (group commit), and writing goes on meanwhile.
// - The file is rewritten from memory (temporary file, fdatasync, rename) when most of it is history, and after any
//   failed write or fdatasync: what the page cache holds after such a failure is anybody's guess.
//   Records that wait when a rewrite begins are not written again, since the memory that is written has them already.
//   Hence the rule for callers: change memory first, then append.
import { BrindleError, errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { JournalFile, JournalFiles } from './files.ts';
import {
  corrupt,
  decodeJournal,
  encodeRecord,
  type JournalRecord,
  type JournalState,
  JOURNAL_VERSION,
  replay,
} from './records.ts';

export interface JournalOptions {
  readonly path: string;
  readonly host: string;
  readonly files: JournalFiles;
  readonly log: Logger;
  /** The records that say what memory holds now, without the `journal` record. */
  readonly snapshot: () => Iterable<JournalRecord>;
  /** A file below this size in octets is never rewritten for its history. */
  readonly compactAbove?: number;
}

interface Waiter {
  readonly line: string;
  readonly durable: boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

const COMPACT_ABOVE = 1 << 20;
/** A file is rewritten when it is this many times the size of its last rewrite. */
const COMPACT_RATIO = 4;

/** What `openJournal` found: `problem` when the file cannot be trusted; then nothing may be handed out. */
export interface OpenedJournal {
  readonly journal: Journal;
  readonly state: JournalState;
  readonly problem: BrindleError | null;
}

/** Reads the file, makes it when absent, and drops a half-written last record. Throws only what the file system does, never for what the file holds. */
export async function openJournal(options: JournalOptions): Promise<OpenedJournal> {
  const { path, host, files, log } = options;
  const octets = await files.read(path);
  const content = decodeJournal(octets ?? new Uint8Array(0));
  let problem: BrindleError | null = null;
  if (content.damagedAt !== null) problem = corrupt(path, `the record at octet ${content.damagedAt} is damaged`);
  else if (content.records.length === 0 && content.tornLength > 0 && content.goodLength === 0) {
    // A torn header can only come from a crash while the very first record was written.
    if (content.tornLength > 512) problem = corrupt(path, 'nothing in it can be read');
  } else if (content.records.length > 0 && content.records[0]?.op !== 'journal') {
    problem = corrupt(path, 'it does not begin with its header');
  }
  const { state, problem: wrong } = replay(content.records, host, path);
  problem ??= wrong;
  if (problem) log.error({ path, error: errorText(problem) }, 'the IPAM journal is refused; nothing is handed out');
  else if (content.tornLength > 0) {
    log.warn({ path, octets: content.tornLength }, 'the last record of the IPAM journal was half written; dropped');
  }
  let file: JournalFile | null = null;
  if (!problem && content.goodLength > 0) {
    file = await files.open(path, false);
    await file.truncate(content.goodLength);
  }
  return { journal: new Journal(options, file, content.goodLength, problem !== null), state, problem };
}

export class Journal {
  readonly path: string;
  #options: JournalOptions;
  #file: JournalFile | null = null;
  /** Where the next record goes; null: the file must be rewritten before it is appended to. */
  #position: number | null = null;
  #sizeAfterRewrite = 0;
  /** What came while the file was rewritten. */
  #queue: Waiter[] = [];
  /** Written, and waiting for the next synchronisation. */
  #unsynced: Waiter[] = [];
  #rewriting: Promise<void> | null = null;
  #syncing: Promise<void> | null = null;
  #closed = false;
  #refused: boolean;
  #lastError: unknown = null;

  /** `file` is open and holds `length` good octets; null: it is refused, or there is none. */
  constructor(options: JournalOptions, file: JournalFile | null, length: number, refused: boolean) {
    this.path = options.path;
    this.#options = options;
    this.#file = file;
    this.#position = file ? length : null;
    this.#sizeAfterRewrite = length;
    this.#refused = refused;
  }

  /** Why the last write failed; null while all is well. */
  get failure(): string | null {
    return this.#lastError === null ? null : errorText(this.#lastError);
  }

  /** Octets in the file now. */
  get size(): number {
    return this.#position ?? 0;
  }

  /** Resolves when the record is written, or on disk when `durable`. Throws `unavailable` when it cannot be, `corrupt`. */
  append(record: JournalRecord, durable: boolean): Promise<void> {
    if (this.#refused) return Promise.reject(corrupt(this.path, 'it was found damaged when the agent started'));
    if (this.#closed) return Promise.reject(new BrindleError('unavailable', `${this.path} is closed`));
    return new Promise((resolve, reject) => {
      const waiter = { line: encodeRecord(record), durable, resolve, reject };
      if (this.#rewriting || this.#isDue()) this.#enqueue(waiter);
      else this.#write(waiter);
    });
  }

  /** Writes a new file from memory, also in place of a refused one, which is kept beside it under `keepAs`. */
  async rebuild(keepAs: string): Promise<void> {
    if (this.#refused) await this.#options.files.replace(this.path, keepAs);
    this.#refused = false;
    await this.#rewriting;
    this.#position = null;
    await new Promise<void>((resolve, reject) => this.#enqueue({ line: '', durable: true, resolve, reject }));
  }

  async close(): Promise<void> {
    this.#closed = true;
    while (this.#rewriting || this.#syncing) await (this.#rewriting ?? this.#syncing);
    await this.#file?.close();
    this.#file = null;
  }

  #isDue(): boolean {
    if (this.#position === null) return true;
    const isLarge = this.#position > (this.#options.compactAbove ?? COMPACT_ABOVE);
    return isLarge && this.#position > COMPACT_RATIO * this.#sizeAfterRewrite;
  }

  #write(waiter: Waiter): void {
    const file = this.#file;
    if (!file || this.#position === null) {
      this.#enqueue(waiter); // one that was written just before has failed
      return;
    }
    const octets = Buffer.from(waiter.line);
    try {
      file.write(octets, this.#position);
    } catch (error) {
      this.#fail([waiter], error);
      return;
    }
    this.#position += octets.length;
    if (!waiter.durable) {
      waiter.resolve();
      return;
    }
    this.#unsynced.push(waiter);
    this.#syncing ??= this.#syncAll(file);
  }

  async #syncAll(file: JournalFile): Promise<void> {
    while (this.#unsynced.length > 0) {
      const batch = this.#unsynced.splice(0);
      try {
        await file.sync();
        for (const waiter of batch) waiter.resolve();
      } catch (error) {
        this.#fail([...batch, ...this.#unsynced.splice(0)], error);
      }
    }
    this.#syncing = null;
  }

  #enqueue(waiter: Waiter): void {
    this.#queue.push(waiter);
    this.#rewriting ??= this.#rewrite();
  }

  async #rewrite(): Promise<void> {
    // First the synchronisation that is under way; this also lets calls that were made together share the rewrite.
    await this.#syncing;
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0);
      const header: JournalRecord = { op: 'journal', version: JOURNAL_VERSION, host: this.#options.host };
      let text = encodeRecord(header);
      for (const record of this.#options.snapshot()) text += encodeRecord(record);
      try {
        await this.#replaceBy(Buffer.from(text));
      } catch (error) {
        this.#fail(batch, error);
        continue;
      }
      this.#lastError = null;
      for (const waiter of batch) waiter.resolve();
      for (const waiter of this.#queue.splice(0)) this.#write(waiter);
    }
    this.#rewriting = null;
  }

  async #replaceBy(octets: Uint8Array): Promise<void> {
    const { files } = this.#options;
    const made = await files.open(`${this.path}.new`, true);
    try {
      made.write(octets, 0);
      await made.sync();
      await files.replace(`${this.path}.new`, this.path);
    } catch (error) {
      await made.close().catch(() => undefined);
      throw error;
    }
    await this.#file?.close().catch(() => undefined);
    this.#file = made;
    this.#position = octets.length;
    this.#sizeAfterRewrite = octets.length;
  }

  #fail(batch: readonly Waiter[], cause: unknown): void {
    this.#position = null;
    if (this.#lastError === null) {
      this.#options.log.error({ path: this.path, error: errorText(cause) }, 'the IPAM journal cannot be written');
    }
    this.#lastError = cause;
    const error = new BrindleError(
      'unavailable',
      `the IPAM journal ${this.path} cannot be written: ${errorText(cause)}`,
      { remedy: 'see that the disk is writable and has room; then try again', cause },
    );
    for (const waiter of batch) waiter.reject(error);
  }
}
