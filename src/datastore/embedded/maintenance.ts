// Looking after the file of an embedded store while others use it: facts, a check, a backup. In: a path. Out: plain data.
import { existsSync, statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { BrindleError } from '#base/errors.ts';
import type { Resource } from '#model/resource.ts';
import { endRead, openDatabase, storeError } from './database.ts';

export interface StoreFacts {
  readonly path: string;
  /** Octets of the file and of its write-ahead log. */
  readonly size: number;
  readonly revision: number;
  /** Entries of the change log, and the revision up to which older ones are gone. */
  readonly history: number;
  readonly compacted: number;
  readonly kinds: readonly { readonly kind: string; readonly count: number }[];
}

function withDatabase<T>(path: string, use: (db: DatabaseSync) => T): T {
  if (!existsSync(path)) throw new BrindleError('not-found', `there is no store ${path}`);
  const db = openDatabase(path);
  try {
    db.exec('PRAGMA busy_timeout = 5000');
    return use(db);
  } catch (error) {
    throw storeError(error, path);
  } finally {
    endRead(db);
    db.close();
  }
}

export function storeFacts(path: string): StoreFacts {
  return withDatabase(path, (db) => {
    db.exec('BEGIN');
    const state = db.prepare('SELECT revision, compacted FROM state').get() as { revision: number; compacted: number };
    const { history } = db.prepare('SELECT count(*) AS history FROM log').get() as { history: number };
    const kinds = db
      .prepare('SELECT kind, count(*) AS count FROM resources GROUP BY kind ORDER BY kind')
      .all() as unknown as {
      kind: string;
      count: number;
    }[];
    const size = [path, `${path}-wal`].reduce(
      (sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
    return { path, size, ...state, history, kinds: kinds.map(({ kind, count }) => ({ kind, count })) };
  });
}

/** Everything that is wrong with the file, in words; empty when nothing is. `valid` says what is wrong with a resource. */
export function checkStore(path: string, valid: (resource: Resource) => string | null): string[] {
  return withDatabase(path, (db) => {
    const problems: string[] = [];
    for (const row of db.prepare('PRAGMA integrity_check').all()) {
      const text = String(Object.values(row)[0]);
      if (text !== 'ok') problems.push(`damaged: ${text}`);
    }
    db.exec('BEGIN');
    const { revision } = db.prepare('SELECT revision FROM state').get() as { revision: number };
    const rows = db.prepare('SELECT kind, namespace, name, revision, body FROM resources');
    for (const row of rows.iterate() as Iterable<unknown> as Iterable<
      Record<'kind' | 'namespace' | 'name' | 'body', string> & { revision: number }
    >) {
      const called = [row.kind, row.namespace, row.name].filter(Boolean).join('/');
      if (row.revision > revision)
        problems.push(`${called}: revision ${row.revision} is after the store's own, ${revision}`);
      let resource: Resource;
      try {
        resource = JSON.parse(row.body) as Resource;
      } catch {
        problems.push(`${called}: does not read back`);
        continue;
      }
      const fault = valid(resource);
      if (fault !== null) problems.push(fault);
    }
    return problems;
  });
}

/** Writes a consistent copy into a new file; others may go on writing. `already-exists` when the file is there. */
export function backupStore(path: string, to: string): void {
  if (existsSync(to)) throw new BrindleError('already-exists', `${to} exists already`, { remedy: 'name another file' });
  withDatabase(path, (db) => {
    db.prepare('VACUUM INTO ?').run(to);
  });
}
