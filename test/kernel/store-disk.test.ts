// The embedded store on a disk that is full or read-only. Needs root, to mount small file systems of its own.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, it } from 'node:test';
import { EmbeddedStore } from '#datastore/embedded/store.ts';
import type { Resource } from '#model/resource.ts';

const mounted: string[] = [];

function smallDisk(): string {
  const dir = mkdtempSync(join(tmpdir(), `brindle-disk-${process.pid}-`));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'brindle-test', dir]);
  mounted.push(dir);
  return dir;
}

afterEach(() => {
  for (const dir of mounted.splice(0)) {
    execFileSync('umount', ['-l', dir]);
    rmSync(dir, { recursive: true, force: true });
  }
});

function thing(name: string, size: number): Resource {
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPReservation',
    metadata: { name },
    spec: { text: 'x'.repeat(size) },
  };
}

describe('embedded store', () => {
  it('refuses writes on a full disk, keeps reading, and goes on when there is space', async () => {
    const dir = smallDisk();
    const path = join(dir, 'store.db');
    const store = await EmbeddedStore.open({ path });
    await store.create(thing('first', 100));
    const ballast = join(dir, 'ballast');
    assert.throws(() => writeFileSync(ballast, 'x'.repeat(2_000_000)), { code: 'ENOSPC' });
    const written = ['first'];
    await assert.rejects(
      async () => {
        for (let i = 0; i < 200; i++) {
          await store.create(thing(`n${i}`, 20_000));
          written.push(`n${i}`);
        }
      },
      { code: 'unavailable', message: /the disk is full/, remedy: /nothing was changed/ },
    );
    const names = async () => (await store.list('IPReservation')).resources.map((r) => r.metadata.name);
    assert.deepEqual(await names(), written.toSorted());
    unlinkSync(ballast);
    await store.create(thing('after', 20_000));
    assert.deepEqual(await names(), [...written, 'after'].toSorted());
    await store.close();
  });

  it('says that the disk is read-only', async () => {
    const dir = smallDisk();
    const path = join(dir, 'store.db');
    const store = await EmbeddedStore.open({ path });
    await store.create(thing('a', 10));
    await store.close();
    execFileSync('mount', ['-o', 'remount,ro', dir]);
    await assert.rejects(
      EmbeddedStore.open({ path }).then((again) => again.create(thing('b', 10))),
      { code: 'unavailable', message: /read-only|readonly|EROFS/i },
    );
  });
});
