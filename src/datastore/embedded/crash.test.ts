// A writer is killed in the middle, again and again: nothing it was told is written may be missing, and the change log
// must still be the history of what is stored.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, it } from 'node:test';
import type { StoreEvent } from '../store.ts';
import { until } from '../compliance/suite.ts';
import { EmbeddedStore } from './store.ts';

const dir = mkdtempSync(join(tmpdir(), `brindle-crash-${process.pid}-`));
after(() => rmSync(dir, { recursive: true, force: true }));

const WRITER = `
  const { EmbeddedStore } = await import(${JSON.stringify(new URL('./store.ts', import.meta.url).href)});
  const store = await EmbeddedStore.open({ path: process.argv[1] });
  for (let i = 0; ; i++) {
    const name = 'n' + (i % 20);
    const resource = { apiVersion: 'projectcalico.org/v3', kind: 'IPReservation', metadata: { name }, spec: { i, text: 'x'.repeat(2000) } };
    const stored = await store.create(resource).catch(() => i % 3 ? store.update(resource) : store.delete({ kind: 'IPReservation', namespace: '', name }));
    if (stored.spec.i === i) process.stdout.write(name + ' ' + i + ' ' + stored.metadata.resourceVersion + '\\n');
  }
`;

it('loses nothing that was acknowledged when its process is killed', async () => {
  const path = join(dir, 'store.db');
  const watcher = await EmbeddedStore.open({ path });
  const seen: StoreEvent[] = [];
  watcher.watch({ fromRevision: 0, onEvents: (events) => seen.push(...events), onEnd: (error) => assert.fail(error) });
  for (let round = 0; round < 4; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', WRITER, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let told = '';
    child.stdout.on('data', (chunk: Buffer) => (told += chunk.toString()));
    await until(() => told.length > 2000 + round * 777, 'the writer writes');
    child.kill('SIGKILL');
    await once(child, 'close');
    const lines = told.slice(0, told.lastIndexOf('\n')).split('\n');
    const acknowledged = lines
      .map((line) => line.split(' '))
      .map(([name = '', i, version]) => ({ name, i: Number(i), version: Number(version) }));
    const last = acknowledged.at(-1)!;
    await until(() => (seen.at(-1)?.revision ?? 0) >= last.version, 'everything acknowledged was seen by the watch');
    const put = new Map(seen.map((event) => [event.revision, event]));
    for (const { name, i, version } of acknowledged) {
      const event = put.get(version);
      assert.ok(
        event?.type === 'put' && event.key.name === name && (event.resource.spec as { i: number }).i === i,
        `${name} ${i} is lost`,
      );
    }
  }
  const { resources, revision } = await watcher.list('IPReservation');
  await until(() => seen.at(-1)?.revision === revision, 'the watch has seen all');
  assert.deepEqual(
    seen.map((event) => event.revision),
    Array.from({ length: seen.length }, (_, i) => i + 1),
    'the history has no gap',
  );
  const replayed = new Map<string, unknown>();
  for (const event of seen) {
    if (event.type === 'put') replayed.set(event.key.name, event.resource);
    else replayed.delete(event.key.name);
  }
  assert.deepEqual(Object.fromEntries(replayed), Object.fromEntries(resources.map((r) => [r.metadata.name, r])));
  await watcher.close();
  const raw = new DatabaseSync(path);
  assert.deepEqual({ ...raw.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' });
  raw.close();
});
