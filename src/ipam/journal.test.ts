import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isBrindleError } from '#base/errors.ts';
import { silentLogger } from '#base/log.ts';
import type { Attachment } from '#model/attachment.ts';
import { FakeDisk, Stopped } from './fakes.ts';
import { type JournalFiles, systemFiles } from './files.ts';
import { openJournal } from './journal.ts';
import { decodeJournal, encodeRecord, type JournalRecord } from './records.ts';

let next = 0x1_0000;
const PATH = '/var/lib/brindle/ipam.journal';

function attachment(handle: string, ...addresses: string[]): Attachment {
  return {
    handle,
    network: 'n',
    containerId: handle,
    ifname: 'eth0',
    netns: '',
    netnsId: null,
    addresses,
    hostInterface: `cali${handle}`,
    endpoint: { apiVersion: 'projectcalico.org/v3', kind: 'WorkloadEndpoint', metadata: { name: handle }, spec: {} },
    createdAt: 0,
  };
}

/** A holder of attachments and nothing else, as small a user of the journal as can be. */
async function openHolder(files: JournalFiles, path = PATH, compactAbove = 1 << 20) {
  const held = new Map<string, Attachment>();
  function* snapshot(): Generator<JournalRecord> {
    for (const attachment of held.values()) yield { op: 'assign', attachment };
  }
  const opened = await openJournal({ path, host: 'h', files, log: silentLogger, snapshot, compactAbove });
  for (const [handle, { attachment }] of opened.state.attachments) held.set(handle, attachment);
  return {
    ...opened,
    held,
    add(handle: string, durable = true): Promise<void> {
      const made = attachment(handle, `fd00::${(next++).toString(16).replace(/(.{4})(?=.)/g, '$1:')}`);
      held.set(handle, made);
      return opened.journal.append({ op: 'assign', attachment: made }, durable);
    },
    remove(handle: string): Promise<void> {
      held.delete(handle);
      return opened.journal.append({ op: 'release', handle, at: 0 }, false);
    },
  };
}

describe('journal lines', () => {
  const line = encodeRecord({ op: 'commit', handle: 'ü' });

  it('never reads anything but what was written', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 5 }),
        fc.nat(),
        fc.nat(255),
        (texts, at, by) => {
          const good = Buffer.from(texts.map((handle) => encodeRecord({ op: 'commit', handle })).join(''));
          assert.deepEqual(
            decodeJournal(good).records,
            texts.map((handle) => ({ op: 'commit', handle })),
          );
          if (good.length === 0 || by === 0) return;
          const bad = Buffer.from(good);
          bad[at % good.length]! ^= by;
          const content = decodeJournal(bad);
          // One changed octet spoils one record, or two when it was a newline.
          assert.ok(content.records.length < texts.length);
          assert.ok(content.records.length >= texts.length - 2);
        },
      ),
    );
  });

  it('takes garbage for a torn end, and garbage before a good record for damage', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (garbage) => {
        const after = decodeJournal(Buffer.concat([Buffer.from(line), garbage]));
        assert.deepEqual([after.records.length, after.goodLength, after.damagedAt], [1, Buffer.byteLength(line), null]);
        assert.equal(after.tornLength, garbage.length);
      }),
    );
    assert.equal(decodeJournal(Buffer.from(`${line}xx\n${line}`)).damagedAt, Buffer.byteLength(line));
  });
});

describe('Journal', () => {
  it('reads back what it was given, on a real disk', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'brindle-journal-'));
    const path = join(directory, 'a/b/ipam.journal');
    try {
      let holder = await openHolder(systemFiles, path);
      await Promise.all([holder.add('a'), holder.add('b'), holder.add('c')]);
      await holder.remove('b');
      await holder.journal.close();
      // A torn record at the end, as a crash leaves it.
      writeFileSync(path, '0badc0de {"op":"assi', { flag: 'a' });
      holder = await openHolder(systemFiles, path);
      assert.equal(holder.problem, null);
      assert.deepEqual([...holder.held.keys()], ['a', 'c']);
      await holder.add('d');
      await holder.journal.close();
      holder = await openHolder(systemFiles, path);
      assert.deepEqual([...holder.held.keys()], ['a', 'c', 'd']);
      await holder.journal.close();
      assert.equal(decodeJournal(readFileSync(path)).tornLength, 0);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('serves many records with one synchronisation', async () => {
    const disk = new FakeDisk();
    const holder = await openHolder(disk);
    await holder.add('first');
    const before = disk.syncs;
    await Promise.all(Array.from({ length: 100 }, (_, i) => holder.add(`x${i}`)));
    assert.equal(disk.syncs - before, 2); // the first alone, the others together
  });

  it('refuses a damaged file and gives nothing', async () => {
    const disk = new FakeDisk();
    const holder = await openHolder(disk);
    await holder.add('a');
    await holder.add('b');
    const octets = disk.content(PATH)!;
    octets[octets.indexOf('"a"') + 1]! ^= 1;
    disk.put(PATH, octets);
    const again = await openHolder(disk);
    assert.ok(isBrindleError(again.problem, 'corrupt'));
    await assert.rejects(again.add('c'), (error) => isBrindleError(error, 'corrupt'));
    again.held.delete('c');
    assert.deepEqual(disk.content(PATH), octets);
    // What could be read is there, and a rebuild makes a good file of it.
    assert.ok(again.held.has('b'));
    await again.journal.rebuild(`${PATH}.corrupt`);
    assert.deepEqual(disk.content(`${PATH}.corrupt`), octets);
    assert.equal((await openHolder(disk)).problem, null);
  });

  it('refuses a newer format, another host and an address held twice', async () => {
    const check = async (records: JournalRecord[], code: 'unsupported' | 'corrupt'): Promise<void> => {
      const disk = new FakeDisk();
      disk.put(PATH, Buffer.from(records.map(encodeRecord).join('')));
      assert.equal((await openHolder(disk)).problem?.code, code);
    };
    await check([{ op: 'journal', version: 2, host: 'h' }], 'unsupported');
    await check([{ op: 'journal', version: 1, host: 'other' }], 'corrupt');
    await check([{ op: 'commit', handle: 'a' }], 'corrupt');
    const header: JournalRecord = { op: 'journal', version: 1, host: 'h' };
    const assign = (handle: string): JournalRecord => ({ op: 'assign', attachment: attachment(handle, '10.0.0.1') });
    await check([header, assign('a'), assign('b')], 'corrupt');
  });

  it('rewrites itself when most of it is history', async () => {
    const disk = new FakeDisk();
    const holder = await openHolder(disk, PATH, 4096);
    await holder.add('stays');
    for (let i = 0; i < 200; i++) {
      await holder.add('comes and goes');
      await holder.remove('comes and goes');
    }
    assert.ok(disk.content(PATH)!.length < 8192);
    assert.deepEqual([...(await openHolder(disk)).held.keys()], ['stays']);
  });

  it('says that a disk is full, and recovers when there is room', async () => {
    const disk = new FakeDisk();
    const holder = await openHolder(disk);
    await holder.add('a');
    disk.error = new Error('ENOSPC: no space left on device');
    disk.failAt = disk.operations + 1;
    await assert.rejects(holder.add('b'), (error) => isBrindleError(error, 'unavailable'));
    holder.held.delete('b');
    assert.match(holder.journal.failure ?? '', /ENOSPC/);
    await assert.rejects(holder.add('c'), /no space/);
    holder.held.delete('c');
    disk.failAt = Number.POSITIVE_INFINITY;
    await holder.add('d');
    assert.equal(holder.journal.failure, null);
    const again = await openHolder(disk);
    assert.deepEqual([...again.held.keys()], ['a', 'd']);
    assert.equal(again.problem, null);
  });

  it('keeps what it promised, whatever operation the machine stops in', async () => {
    const step = fc.record({ remove: fc.boolean(), which: fc.nat(5), wait: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 25 }),
        fc.integer({ min: 1, max: 40 }),
        fc.constantFrom('kill' as const, 'power' as const),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (steps, failAt, how, keep) => {
          const disk = new FakeDisk();
          disk.failAt = failAt;
          const holder = await openHolder(disk, PATH, 600);
          /** The last thing asked of each handle, and whether it was promised. */
          const last = new Map<string, { there: boolean; promised: boolean }>();
          const open: Promise<void>[] = [];
          for (const { remove, which, wait } of steps) {
            const handle = `c${which}`;
            if (remove !== holder.held.has(handle)) continue;
            const asked = { there: !remove, promised: false };
            last.set(handle, asked);
            const done = (remove ? holder.remove(handle) : holder.add(handle)).then(
              () => {
                asked.promised = true;
              },
              (error: unknown) => assert.ok(isBrindleError(error) && error.cause instanceof Stopped),
            );
            open.push(done);
            if (wait) await done;
          }
          await Promise.all(open);
          const again = await openHolder(disk.after(how, keep));
          assert.equal(again.problem, null);
          for (const [handle, { there, promised }] of last) {
            // Removals are only written, not durable: a loss of power may undo them.
            if (!promised || (how === 'power' && !there)) continue;
            assert.equal(again.held.has(handle), there, `${handle} ${there}`);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
