import assert from 'node:assert/strict';
import { mkdtempSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, describe, it } from 'node:test';
import { ManualClock } from '#base/clock.ts';
import type { Resource } from '#model/resource.ts';
import { storeCompliance, until } from '../compliance/suite.ts';
import { openStore } from '../open.ts';
import { EmbeddedStore } from './store.ts';

const folders: string[] = [];
function folder(): string {
  const path = mkdtempSync(join(tmpdir(), `brindle-store-${process.pid}-`));
  folders.push(path);
  return path;
}
after(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

function thing(name: string, spec: unknown = {}): Resource {
  return { apiVersion: 'projectcalico.org/v3', kind: 'IPReservation', metadata: { name }, spec };
}

storeCompliance('embedded', async () => {
  const dir = folder();
  const path = join(dir, 'sub', 'store.db');
  return {
    open: () => EmbeddedStore.open({ path }),
    config: { embedded: { path } },
    async compact() {
      const store = await EmbeddedStore.open({ path });
      await store.compact();
      await store.close();
    },
    async dispose() {
      rmSync(dir, { recursive: true, force: true });
    },
  };
});

describe('embedded store', () => {
  it('keeps everything over a reopening, revisions too, and is readable by its owner alone', async () => {
    const path = join(folder(), 'store.db');
    const first = await EmbeddedStore.open({ path });
    const a = await first.create(thing('a'));
    await first.create(thing('b'));
    await first.delete({ kind: 'IPReservation', namespace: '', name: 'b' });
    await first.compact();
    const revision = await first.revision();
    await first.close();
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const second = await EmbeddedStore.open({ path });
    assert.equal(await second.revision(), revision);
    assert.deepEqual((await second.list('IPReservation')).resources, [a]);
    assert.equal(Number((await second.create(thing('c'))).metadata.resourceVersion), revision + 1);
    await second.close();
  });

  it('compacts by count and age', async () => {
    const clock = new ManualClock(1_000_000);
    const path = join(folder(), 'store.db');
    const store = await EmbeddedStore.open({ path, keepEntries: 100, keepAge: 60_000, maxEntries: 3000, clock });
    await store.create(thing('a', { n: 0 }));
    const write = async (n: number) =>
      Promise.all(Array.from({ length: n }, (_, i) => store.update(thing('a', { i }))));
    const raw = new DatabaseSync(path);
    const entries = () => (raw.prepare('SELECT count(*) AS n FROM log').get() as { n: number }).n;
    await write(2500);
    assert.equal(entries(), 2501, 'young entries stay');
    await write(2500);
    await until(() => entries() < 5000, 'more than the maximum are never kept');
    clock.advance(120_000);
    await write(2000);
    await until(() => entries() <= 2600, 'old entries go');
    assert.ok(entries() >= 100);
    raw.close();
    await store.close();
  });

  it('waits for a lock of another process without blocking the event loop', async () => {
    const path = join(folder(), 'store.db');
    const store = await EmbeddedStore.open({ path });
    const other = new DatabaseSync(path);
    other.exec('BEGIN IMMEDIATE');
    let turns = 0;
    const ticking = setInterval(() => turns++, 1);
    const writing = store.create(thing('a'));
    await until(() => turns >= 20, 'the event loop goes on');
    other.exec('COMMIT');
    await writing;
    clearInterval(ticking);
    other.close();
    await store.close();
  });

  it('refuses a file of another program and leaves it alone', async () => {
    const path = join(folder(), 'other.db');
    const other = new DatabaseSync(path);
    other.exec('CREATE TABLE t (a)');
    other.close();
    const before = readFileSync(path);
    await assert.rejects(EmbeddedStore.open({ path }), { code: 'invalid-argument', message: /another program/ });
    assert.deepEqual(readFileSync(path), before);
  });

  it('notices that its file was taken away', async () => {
    const path = join(folder(), 'store.db');
    const store = await EmbeddedStore.open({ path });
    const ends: Error[] = [];
    store.watch({ fromRevision: 0, onEvents: () => undefined, onEnd: (error) => ends.push(error) });
    rmSync(path);
    await until(() => ends.length === 1, 'the watch ends');
    assert.match(ends[0]!.message, /was removed while it was in use/);
    await assert.rejects(store.create(thing('a')), { code: 'unavailable', message: /was removed/ });
    await store.close();
  });

  it('says what is wrong with its path', async () => {
    const dir = folder();
    await assert.rejects(EmbeddedStore.open({ path: dir }), { code: 'unavailable', message: /it is a folder/ });
    writeFileSync(join(dir, 'file'), '');
    await assert.rejects(EmbeddedStore.open({ path: join(dir, 'file', 'store.db') }), {
      code: 'unavailable',
      message: /ENOTDIR|EEXIST/,
    });
  });

  it('refuses the format of a newer version', async () => {
    const path = join(folder(), 'store.db');
    await (await EmbeddedStore.open({ path })).close();
    const raw = new DatabaseSync(path);
    raw.exec('PRAGMA user_version = 99');
    raw.close();
    await assert.rejects(EmbeddedStore.open({ path }), { code: 'unsupported', message: /newer Brindle/ });
  });

  it('says that a damaged file is damaged', async () => {
    const garbage = join(folder(), 'garbage.db');
    writeFileSync(garbage, 'this is no database, '.repeat(500));
    await assert.rejects(EmbeddedStore.open({ path: garbage }), { code: 'corrupt', message: /damaged/ });

    const path = join(folder(), 'page.db');
    const store = await EmbeddedStore.open({ path });
    await Promise.all(Array.from({ length: 500 }, (_, i) => store.create(thing(`a${i}`, { text: 'x'.repeat(500) }))));
    await store.close();
    const fd = openSync(path, 'r+');
    for (let page = 3; page < statSync(path).size / 4096; page++)
      writeSync(fd, Buffer.alloc(4096, 0xff), 0, 4096, page * 4096);
    const damaged = await EmbeddedStore.open({ path });
    await assert.rejects(damaged.list('IPReservation'), { code: 'corrupt' });
    const ends: Error[] = [];
    damaged.watch({ fromRevision: 0, onEvents: () => undefined, onEnd: (error) => ends.push(error) });
    await until(() => ends.length === 1, 'the watch tells');
    assert.match(ends[0]!.message, /damaged/);
    await damaged.close();

    const short = join(folder(), 'short.db');
    const cut = await EmbeddedStore.open({ path: short });
    await Promise.all(Array.from({ length: 100 }, (_, i) => cut.create(thing(`a${i}`, { text: 'x'.repeat(500) }))));
    await cut.close();
    truncateSync(short, 5000);
    await assert.rejects(
      EmbeddedStore.open({ path: short }).then((s) => s.list('IPReservation')),
      { code: 'corrupt' },
    );
  });

  it('is chosen by configuration, and a wrong one is refused', async () => {
    const path = join(folder(), 'store.db');
    await (await openStore({ embedded: { path } })).close();
    await assert.rejects(openStore({}), { code: 'invalid-argument', message: /no store/ });
    await assert.rejects(openStore({ embeded: {} } as never), {
      code: 'invalid-argument',
      remedy: /did you mean embedded/,
    });
    await assert.rejects(openStore({ embedded: { path: '' } }), { field: 'store.embedded.path' });
  });
});
