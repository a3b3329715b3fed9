// The SQLite file of an embedded store: opening it, its tables, and SQLite's error codes in our words.
// In: a path. Out: connections in WAL mode; BrindleErrors `corrupt`, `unavailable`, `unsupported`, `permission`.
//
// Traps: several processes open and create the file at the same moment, so creation itself is a transaction; a file of
// another program must be refused before anything is written to it; SQLite's own busy wait blocks the thread, so it is
// kept to a few milliseconds and the caller waits for the rest on the event loop.
import { accessSync, chmodSync, closeSync, constants, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { BrindleError, isBrindleError } from '#base/errors.ts';

/** `PRAGMA application_id`: says whose file it is. */
const APPLICATION_ID = 0x42_72_6e_64; // "Brnd"
/** `PRAGMA user_version`: the layout below. A newer one is refused. */
export const FORMAT_VERSION = 1;
/** How long SQLite itself may wait for a lock, blocking the thread, in ms. */
const BLOCKING_WAIT = 3;

const LAYOUT = `
  CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL,
    compacted INTEGER NOT NULL
  );
  INSERT INTO state VALUES (1, 0, 0);
  CREATE TABLE resources (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
  ) WITHOUT ROWID;
  CREATE TABLE log (
    revision INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('put', 'delete')),
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    body TEXT NOT NULL
  );
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${FORMAT_VERSION};
`;

/** Primary result codes of SQLite (https://sqlite.org/rescode.html); extended ones carry them in the low byte. */
const SQLITE = {
  perm: 3,
  busy: 5,
  locked: 6,
  readonly: 8,
  ioerr: 10,
  corrupt: 11,
  full: 13,
  cantopen: 14,
  notadb: 26,
} as const;

function sqliteCode(error: unknown): number | null {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === 'number' ? code & 0xff : null;
}

/** Another process holds the lock: worth another try. */
export function isBusy(error: unknown): boolean {
  const code = sqliteCode(error);
  return code === SQLITE.busy || code === SQLITE.locked;
}

/** An error of SQLite or the file system as a BrindleError; ours pass unchanged. */
export function storeError(error: unknown, path: string): BrindleError {
  if (isBrindleError(error)) return error;
  const text = error instanceof Error ? error.message : String(error);
  switch (sqliteCode(error)) {
    case SQLITE.corrupt:
    case SQLITE.notadb:
      return corrupt(path, text, error);
    case SQLITE.full:
      return new BrindleError('unavailable', `the store ${path} cannot be written: the disk is full`, {
        remedy: 'free some space; nothing was changed',
        cause: error,
      });
    case SQLITE.readonly:
    case SQLITE.perm:
      return new BrindleError('unavailable', `the store ${path} cannot be written: ${text}`, {
        remedy: 'check the rights of the file and its folder, and that the file system is not mounted read-only',
        cause: error,
      });
    case SQLITE.cantopen: {
      const why = whyNotWritable(path) ?? text;
      return new BrindleError(
        why.startsWith(NO_RIGHT) ? 'permission' : 'unavailable',
        `the store ${path} cannot be opened: ${why}`,
        {
          remedy:
            'check the path, the rights of the file and its folder, and that the file system is not mounted read-only',
          cause: error,
        },
      );
    }
    case SQLITE.busy:
    case SQLITE.locked:
      return new BrindleError('unavailable', `the store ${path} is held by another process for too long`, {
        remedy: 'look for a stopped process that has it open',
        cause: error,
      });
    case null: {
      const { code } = error as { code?: string };
      if (code === 'EACCES' || code === 'EPERM') {
        return new BrindleError('permission', `the store ${path} cannot be opened: ${text}`, {
          remedy: 'run as root, or name another store with --store',
          cause: error,
        });
      }
      return new BrindleError('unavailable', `the store ${path} fails: ${text}`, { cause: error });
    }
    default:
      return new BrindleError('unavailable', `the store ${path} fails: ${text}`, { cause: error });
  }
}

const NO_RIGHT = 'no right to write';

/** SQLite writes side files even to read, and does not say what keeps it from it. Null when nothing is found. */
function whyNotWritable(path: string): string | null {
  for (const place of [dirname(path), path]) {
    try {
      accessSync(place, constants.W_OK);
      if (place === path && statSync(path).isDirectory()) return 'it is a folder';
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EROFS') return 'the file system is read-only';
      return code === 'EACCES' ? `${NO_RIGHT} ${place}` : `${place}: ${String(code)}`;
    }
  }
  return null;
}

export function corrupt(path: string, why: string, cause?: unknown): BrindleError {
  return new BrindleError('corrupt', `the store ${path} is damaged: ${why}`, {
    remedy:
      'stop all that use it, move the file away and restore it from a backup, or start empty and apply your manifests again',
    cause,
  });
}

/**
 * Opens the file, creating it and its folder when they are not there. May throw an error for which `isBusy` is true.
 * Throws BrindleErrors otherwise.
 */
export function openDatabase(path: string): DatabaseSync {
  let db: DatabaseSync | null = null;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    createPrivate(path);
    db = new DatabaseSync(path, { timeout: BLOCKING_WAIT });
    checkOwner(db, path);
    // NORMAL: a power cut may lose the last writes of the machine, but never damages the file; a crash loses nothing.
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 16777216');
    createLayout(db, path);
    return db;
  } catch (error) {
    db?.close();
    if (isBusy(error)) throw error;
    throw storeError(error, path);
  }
}

/** The store may hold BGP passwords: readable by its owner alone. SQLite gives its side files the same mode. */
function createPrivate(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
    chmodSync(path, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function pragma(db: DatabaseSync, name: string): number {
  return Number(Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
}

function checkOwner(db: DatabaseSync, path: string): void {
  const owner = pragma(db, 'application_id');
  const empty = pragma(db, 'schema_version') === 0;
  if (owner !== APPLICATION_ID && !(owner === 0 && empty)) {
    throw new BrindleError('invalid-argument', `${path} is an SQLite file of another program`, {
      remedy: 'name another path for the store; nothing was changed',
    });
  }
  const version = pragma(db, 'user_version');
  if (version > FORMAT_VERSION) {
    throw new BrindleError('unsupported', `the store ${path} was written by a newer Brindle (format ${version})`, {
      remedy: 'upgrade this Brindle',
    });
  }
}

function createLayout(db: DatabaseSync, path: string): void {
  if (pragma(db, 'user_version') === FORMAT_VERSION) return;
  db.exec('BEGIN IMMEDIATE');
  try {
    // Another process may have been faster.
    if (pragma(db, 'user_version') === 0) db.exec(LAYOUT);
    db.exec('COMMIT');
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
  if (pragma(db, 'user_version') !== FORMAT_VERSION) throw corrupt(path, 'its layout could not be created');
}

/** Which file a path is, as text; null when there is none. */
export function fileIdentity(path: string): string | null {
  const facts = statSync(path, { throwIfNoEntry: false });
  return facts ? `${facts.dev}:${facts.ino}` : null;
}

/** Ends a reading transaction. What goes wrong here (a damaged file) was reported by the reading itself. */
export function endRead(db: DatabaseSync): void {
  try {
    if (db.isTransaction) db.exec('ROLLBACK');
  } catch {
    // Nothing was written, so there is nothing to lose.
  }
}
