import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, describe, it } from 'node:test';
import type { Resource } from '#model/resource.ts';
import { backupStore, checkStore, storeFacts } from './embedded/maintenance.ts';
import { EmbeddedStore } from './embedded/store.ts';
import { migrateStore } from './migrate.ts';

const dir = mkdtempSync(join(tmpdir(), `brindle-migrate-${process.pid}-`));
after(() => rmSync(dir, { recursive: true, force: true }));

function thing(name: string, kind = 'IPReservation'): Resource {
  return {
    apiVersion: 'projectcalico.org/v3',
    kind,
    metadata: { name, labels: { a: 'b' } },
    spec: { n: 1 },
    status: { ok: true },
  };
}

describe('migrateStore', () => {
  it('moves everything, unknown kinds too, resumes, and refuses to mix', async () => {
    const from = await EmbeddedStore.open({ path: join(dir, 'from.db') });
    const to = await EmbeddedStore.open({ path: join(dir, 'to.db') });
    for (let i = 0; i < 100; i++) await from.create(thing(`r${i}`));
    await from.create(thing('x', 'KindOfTheFuture'));
    assert.deepEqual(await migrateStore(from, to), [
      { kind: 'IPReservation', copied: 100, present: 0 },
      { kind: 'KindOfTheFuture', copied: 1, present: 0 },
    ]);
    await to.delete({ kind: 'IPReservation', namespace: '', name: 'r5' });
    assert.deepEqual((await migrateStore(from, to))[0], { kind: 'IPReservation', copied: 1, present: 99 });
    const [a, b] = [
      await from.get({ kind: 'IPReservation', namespace: '', name: 'r5' }),
      await to.get({ kind: 'IPReservation', namespace: '', name: 'r5' }),
    ];
    assert.equal(a?.metadata.uid, b?.metadata.uid);
    assert.equal(a?.metadata.creationTimestamp, b?.metadata.creationTimestamp);
    assert.deepEqual(b?.status, { ok: true });
    await to.update({ ...thing('r7'), spec: { n: 2 } });
    await assert.rejects(migrateStore(from, to), { code: 'conflict', message: /IPReservation\/r7/ });
    const changing = from.list.bind(from);
    let lists = 0;
    from.list = async (kind) => {
      if (lists++ === 1) await from.create(thing('late'));
      return changing(kind);
    };
    const fresh = await EmbeddedStore.open({ path: join(dir, 'fresh.db') });
    await assert.rejects(migrateStore(from, fresh), { code: 'conflict', message: /changed during the move/ });
    for (const store of [from, to, fresh]) await store.close();
  });
});

describe('maintenance', () => {
  it('tells facts, checks and backs up a store in use', async () => {
    const path = join(dir, 'store.db');
    const store = await EmbeddedStore.open({ path });
    await store.create(thing('a'));
    await store.create(thing('b'));
    await store.compact(1);
    const { size, ...facts } = storeFacts(path);
    assert.ok(size > 0);
    assert.deepEqual(facts, {
      path,
      revision: 2,
      compacted: 1,
      history: 1,
      kinds: [{ kind: 'IPReservation', count: 2 }],
    });
    const copy = join(dir, 'copy.db');
    backupStore(path, copy);
    assert.throws(() => backupStore(path, copy), { code: 'already-exists' });
    const restored = await EmbeddedStore.open({ path: copy });
    assert.deepEqual(await restored.list('IPReservation'), await store.list('IPReservation'));
    await restored.close();
    assert.deepEqual(
      checkStore(path, () => null),
      [],
    );
    const raw = new DatabaseSync(path);
    raw.exec(`UPDATE resources SET body = '{' WHERE name = 'a'`);
    raw.close();
    assert.deepEqual(
      checkStore(path, (r) => `${r.metadata.name} is odd`),
      ['IPReservation/a: does not read back', 'b is odd'],
    );
    await assert.rejects(store.get({ kind: 'IPReservation', namespace: '', name: 'a' }), { code: 'corrupt' });
    await store.close();
  });
});
