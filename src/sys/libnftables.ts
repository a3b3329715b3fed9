// libnftables through FFI: one context, text commands in, text or JSON out.
//
// Namespace: the netlink socket of a context is opened by `nft_ctx_new`, in the network namespace of the calling thread, and keeps
// that namespace wherever commands run later (also on FFI's worker threads).
// Trap: a context is not safe for two threads. `runAsync` refuses to overlap with any other run of the same context.
// Trap: for commands from a buffer libnftables (1.0.6) prints the first line with the columns of the offending one. Only commands from
// a file get a line number, so a failed text of several lines is run again from a file: it was all or nothing, so that changes nothing.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi, { type LibraryHandle } from 'koffi';
import { BrindleError } from '#base/errors.ts';

const LIBRARY = 'libnftables.so.1';

const OUTPUT_HANDLE = 1 << 3;
const OUTPUT_JSON = 1 << 4;
const OUTPUT_NUMERIC = (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10);
const OUTPUT_TERSE = 1 << 11;

export interface NftOutputOptions {
  readonly json?: boolean;
  /** Leaves the elements of named sets out. */
  readonly terse?: boolean;
  readonly handles?: boolean;
}

/** Where in the text libnftables saw an error. Lines and columns count from 1; column 0 when it was not told. */
export interface NftPosition {
  readonly line: number;
  readonly column: number;
}

/** Refused by libnftables or by the kernel. `command` is the offending line; `position` null when none was told. */
export class NftError extends BrindleError {
  readonly position: NftPosition | null;
  readonly command: string | null;

  constructor(message: string, position: NftPosition | null, command: string | null) {
    super('kernel', command === null ? `nftables: ${message}` : `nftables: ${message} in "${command}"`);
    this.name = 'NftError';
    this.position = position;
    this.command = command;
  }
}

interface Functions {
  readonly ctxNew: (flags: number) => unknown;
  readonly ctxFree: (ctx: unknown) => void;
  readonly setFlags: (ctx: unknown, flags: number) => void;
  readonly run: {
    (ctx: unknown, text: string): number;
    async(ctx: unknown, text: string, done: (error: unknown, result: number) => void): void;
  };
  readonly runFile: (ctx: unknown, path: string) => number;
  readonly output: (ctx: unknown) => string;
  readonly errors: (ctx: unknown) => string;
}

export class Libnftables {
  readonly #functions: Functions;
  readonly #context: unknown;
  #flags = -1;
  #busy = false;
  #closed = false;

  private constructor(functions: Functions, context: unknown) {
    this.#functions = functions;
    this.#context = context;
  }

  /** Opens a context in the calling thread's network namespace. Throws `unsupported` when the library is missing. */
  static open(): Libnftables {
    const functions = load();
    const context = functions.ctxNew(0);
    if (context === null) throw new BrindleError('kernel', 'nft_ctx_new gave no context');
    return new Libnftables(functions, context);
  }

  /** Runs commands as one transaction and returns the output. Throws `NftError`. */
  run(text: string, options: NftOutputOptions = {}): string {
    this.#begin(options);
    try {
      const status = this.#functions.run(this.#context, text);
      return this.#result(status, text);
    } finally {
      this.#busy = false;
    }
  }

  /** As `run`, on a worker thread: for what takes long enough to hold up the event loop. */
  async runAsync(text: string, options: NftOutputOptions = {}): Promise<string> {
    this.#begin(options);
    try {
      const status = await new Promise<number>((resolve, reject) => {
        this.#functions.run.async(this.#context, text, (error, result) => {
          if (error) reject(new BrindleError('internal', 'the call into libnftables failed', { cause: error }));
          else resolve(result);
        });
      });
      return this.#result(status, text);
    } finally {
      this.#busy = false;
    }
  }

  close(): void {
    if (this.#closed) return;
    if (this.#busy) throw new BrindleError('internal', 'libnftables context closed while a command runs');
    this.#closed = true;
    this.#functions.ctxFree(this.#context);
  }

  #begin(options: NftOutputOptions): void {
    if (this.#closed) throw new BrindleError('internal', 'libnftables context is closed');
    if (this.#busy) throw new BrindleError('internal', 'libnftables context is in use');
    this.#busy = true;
    const flags =
      OUTPUT_NUMERIC |
      (options.json ? OUTPUT_JSON : 0) |
      (options.terse ? OUTPUT_TERSE : 0) |
      (options.handles ? OUTPUT_HANDLE : 0);
    if (flags !== this.#flags) {
      this.#functions.setFlags(this.#context, flags);
      this.#flags = flags;
    }
  }

  #result(status: number, text: string): string {
    // Reading a buffer also empties it, so both are read each time.
    const output = this.#functions.output(this.#context);
    const errors = this.#functions.errors(this.#context);
    if (status === 0) return output;
    return text.trimEnd().includes('\n') ? this.#runFromFile(text) : fail(errors, text);
  }

  #runFromFile(text: string): string {
    const directory = mkdtempSync(join(tmpdir(), 'brindle-nft-'));
    try {
      const file = join(directory, 'transaction');
      writeFileSync(file, text, { mode: 0o600 });
      const status = this.#functions.runFile(this.#context, file);
      const output = this.#functions.output(this.#context);
      const errors = this.#functions.errors(this.#context);
      return status === 0 ? output : fail(errors, text);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }
}

function fail(errors: string, text: string): never {
  throw parseNftError(errors, text);
}

/** Turns the text that libnftables prints on failure into an error. `text` is what was run. */
export function parseNftError(errors: string, text: string): NftError {
  const match = /^(?:[^\n]*?:(\d+):(\d+)-\d+: )?Error: ([^\n]*)/m.exec(errors);
  if (!match) return new NftError(errors.trim().split('\n')[0] || 'failed without a message', null, null);
  const message = match[3]!;
  const lines = text.split('\n').filter((line) => line !== '');
  if (match[1] !== undefined) {
    const line = Number(match[1]);
    return new NftError(message, { line, column: Number(match[2]) }, text.split('\n')[line - 1] ?? null);
  }
  if (lines.length !== 1) return new NftError(message, null, null);
  const caret = errors.split('\n').find((line) => /^ *\^+/.test(line));
  return new NftError(message, { line: 1, column: (caret?.indexOf('^') ?? -1) + 1 }, lines[0]!);
}

function load(): Functions {
  let library: LibraryHandle;
  try {
    library = koffi.load(LIBRARY);
  } catch (cause) {
    throw new BrindleError('unsupported', `${LIBRARY} cannot be loaded`, {
      remedy: 'install libnftables (Debian: libnftables1)',
      cause,
    });
  }
  const context = 'void *';
  const functions: Functions = {
    ctxNew: library.func('nft_ctx_new', context, ['uint32_t']),
    ctxFree: library.func('nft_ctx_free', 'void', [context]),
    setFlags: library.func('nft_ctx_output_set_flags', 'void', [context, 'uint32_t']),
    run: library.func('nft_run_cmd_from_buffer', 'int', [context, 'str']),
    runFile: library.func('nft_run_cmd_from_filename', 'int', [context, 'str']),
    output: library.func('nft_ctx_get_output_buffer', 'str', [context]),
    errors: library.func('nft_ctx_get_error_buffer', 'str', [context]),
  };
  const bufferOutput: (ctx: unknown) => number = library.func('nft_ctx_buffer_output', 'int', [context]);
  const bufferError: (ctx: unknown) => number = library.func('nft_ctx_buffer_error', 'int', [context]);
  return {
    ...functions,
    ctxNew(flags) {
      const created = functions.ctxNew(flags);
      if (created !== null && (bufferOutput(created) !== 0 || bufferError(created) !== 0)) {
        functions.ctxFree(created);
        throw new BrindleError('kernel', 'libnftables cannot buffer its output');
      }
      return created;
    },
  };
}
