// What it means to implement store.ts: the tests that every driver passes. In: a way to make stores. Out: node:test cases.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { isBrindleError } from '#base/errors.ts';
import { keyOf, keyText, type Resource } from '#model/resource.ts';
import type { StoreConfig } from '../open.ts';
import type { Store, StoreEvent, WatchOptions } from '../store.ts';

/** One fresh store, with as many clients as a test wants. */
export interface StoreHarness {
  /** Another client. The suite closes it. */
  open(): Promise<Store>;
  /** Forgets all history, so that watches from older revisions end with `compacted`. */
  compact(): Promise<void>;
  /** What another process needs to open the same store. */
  readonly config: StoreConfig;
  /** Removes the store. */
  dispose(): Promise<void>;
}

const PATIENCE = 10_000;
const LARGE = 10_000;

function thing(name: string, cidr = '10.9.0.0/32', namespace?: string): Resource {
  const metadata = namespace === undefined ? { name } : { name, namespace };
  return namespace === undefined
    ? { apiVersion: 'projectcalico.org/v3', kind: 'IPReservation', metadata, spec: { reservedCIDRs: [cidr] } }
    : { apiVersion: 'projectcalico.org/v3', kind: 'NetworkSet', metadata, spec: { nets: [cidr] } };
}

const KEY = (name: string) => ({ kind: 'IPReservation', namespace: '', name });

/** Waits until `condition` holds; fails with `what` when it does not in time. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + PATIENCE;
  while (!condition()) {
    if (performance.now() > end) assert.fail(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

class Recorder {
  readonly events: StoreEvent[] = [];
  readonly ends: Error[] = [];

  options(fromRevision: number, kinds?: readonly string[]): WatchOptions {
    return {
      fromRevision,
      ...(kinds ? { kinds } : {}),
      onEvents: (events) => this.events.push(...events),
      onEnd: (error) => this.ends.push(error),
    };
  }

  text(): string[] {
    return this.events.map((e) => `${e.type} ${e.key.name}`);
  }

  /** Every event after `from` is there, in order, once. */
  checkOrder(): void {
    for (let i = 1; i < this.events.length; i++) {
      assert.ok(this.events[i]!.revision > this.events[i - 1]!.revision, 'revisions must increase');
    }
  }
}

export function storeCompliance(name: string, makeStore: () => Promise<StoreHarness>): void {
  describe(`store compliance: ${name}`, () => {
    let harness: StoreHarness;
    const clients: Store[] = [];
    const open = async () => {
      const store = await harness.open();
      clients.push(store);
      return store;
    };
    const fresh = async () => {
      await cleanup();
      harness = await makeStore();
    };
    const cleanup = async () => {
      for (const client of clients.splice(0)) await client.close();
      await harness?.dispose();
    };
    before(async () => {
      harness = await makeStore();
    });
    after(cleanup);

    it('creates, reads, updates and deletes', async () => {
      await fresh();
      const store = await open();
      assert.equal(await store.get(KEY('a')), null);
      const created = await store.create(thing('a'));
      assert.match(created.metadata.uid ?? '', /^[0-9a-f-]{36}$/);
      assert.match(created.metadata.creationTimestamp ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      assert.match(created.metadata.resourceVersion ?? '', /^\d+$/);
      assert.deepEqual(await store.get(KEY('a')), created);
      await assert.rejects(store.create(thing('a')), { code: 'already-exists' });
      const updated = await store.update(thing('a', '10.9.0.1/32'));
      assert.equal(updated.metadata.uid, created.metadata.uid);
      assert.equal(updated.metadata.creationTimestamp, created.metadata.creationTimestamp);
      assert.ok(Number(updated.metadata.resourceVersion) > Number(created.metadata.resourceVersion));
      const deleted = await store.delete(KEY('a'));
      assert.deepEqual(deleted, updated);
      assert.equal(await store.get(KEY('a')), null);
      await assert.rejects(store.delete(KEY('a')), { code: 'not-found' });
      await assert.rejects(store.update(thing('a')), { code: 'not-found' });
    });

    it('keeps what it was given, whatever it contains, and shares nothing with it', async () => {
      await fresh();
      const store = await open();
      const given = thing('odd');
      given.metadata.annotations = {
        'example.com/text': 'ü "quoted" \u0000 \u2028 🦊',
        'example.com/proto': '__proto__',
      };
      const stored = await store.create(given);
      assert.deepEqual(stored.metadata.annotations, given.metadata.annotations);
      given.metadata.annotations['example.com/text'] = 'changed';
      (stored.spec as { reservedCIDRs: string[] }).reservedCIDRs.push('0.0.0.0/0');
      assert.deepEqual((await store.get(KEY('odd')))?.spec, { reservedCIDRs: ['10.9.0.0/32'] });
    });

    it('compares and swaps', async () => {
      await fresh();
      const store = await open();
      const first = await store.create(thing('a'));
      const second = await store.update({ ...first, spec: { reservedCIDRs: [] } });
      await assert.rejects(store.update({ ...first, spec: { reservedCIDRs: ['10.9.0.9/32'] } }), { code: 'conflict' });
      await assert.rejects(store.delete(KEY('a'), { resourceVersion: first.metadata.resourceVersion! }), {
        code: 'conflict',
      });
      assert.deepEqual(await store.get(KEY('a')), second);
      await store.delete(KEY('a'), { resourceVersion: second.metadata.resourceVersion! });
    });

    it('keeps the identity of what is moved from another store', async () => {
      await fresh();
      const store = await open();
      const moved = thing('a');
      Object.assign(moved.metadata, {
        uid: 'a-b-c',
        creationTimestamp: '2020-01-01T00:00:00Z',
        resourceVersion: '999',
      });
      const { metadata } = await store.create(moved);
      assert.deepEqual([metadata.uid, metadata.creationTimestamp], ['a-b-c', '2020-01-01T00:00:00Z']);
      assert.notEqual(metadata.resourceVersion, '999');
    });

    it('gives a recreated resource another identity, and refuses the version of the old one', async () => {
      await fresh();
      const store = await open();
      const first = await store.create(thing('a'));
      await store.delete(KEY('a'));
      const again = await store.create(thing('a'));
      assert.notEqual(again.metadata.uid, first.metadata.uid);
      await assert.rejects(store.update({ ...first }), { code: 'conflict' });
    });

    it('lists by kind and namespace, in order', async () => {
      await fresh();
      const store = await open();
      for (const [n, ns] of [
        ['b', 'two'],
        ['a', 'two'],
        ['c', 'one'],
      ] as const)
        await store.create(thing(n, '10.9.0.0/32', ns));
      await store.create(thing('x'));
      const names = async (kind: string, namespace?: string) =>
        (await store.list(kind, namespace === undefined ? {} : { namespace })).resources.map((r) => keyText(keyOf(r)));
      assert.deepEqual(await names('NetworkSet'), ['NetworkSet/one/c', 'NetworkSet/two/a', 'NetworkSet/two/b']);
      assert.deepEqual(await names('NetworkSet', 'two'), ['NetworkSet/two/a', 'NetworkSet/two/b']);
      assert.deepEqual(await names('NetworkSet', 'none'), []);
      assert.deepEqual(await names('IPReservation'), ['IPReservation/x']);
      assert.deepEqual([...(await store.kinds())].sort(), ['IPReservation', 'NetworkSet']);
    });

    it('delivers every write in order to every watch, from any client', async () => {
      await fresh();
      const [one, two] = [await open(), await open()];
      const { revision } = await one.list('IPReservation');
      const [near, far, filtered] = [new Recorder(), new Recorder(), new Recorder()];
      one.watch(near.options(revision));
      two.watch(far.options(revision));
      two.watch(filtered.options(revision, ['NetworkSet']));
      await one.create(thing('a'));
      await two.update(thing('a', '10.9.0.1/32'));
      await one.create(thing('n', '10.9.0.0/32', 'ns'));
      await one.delete(KEY('a'));
      await two.create(thing('a'));
      const expected = ['put a', 'put a', 'put n', 'delete a', 'put a'];
      await until(
        () => near.events.length >= 5 && far.events.length >= 5 && filtered.events.length >= 1,
        'all events are there',
      );
      for (const recorder of [near, far]) {
        assert.deepEqual(recorder.text(), expected);
        recorder.checkOrder();
      }
      assert.deepEqual(filtered.text(), ['put n']);
      const [gone] = far.events.filter((e) => e.type === 'delete');
      assert.deepEqual(gone?.last?.spec, { reservedCIDRs: ['10.9.0.1/32'] });
      const last = far.events[4];
      assert.ok(last?.type === 'put');
      assert.equal(last.resource.metadata.resourceVersion, String(last.revision));
      assert.deepEqual(last.resource, await one.get(KEY('a')));
    });

    it('leaves no gap and no double between list and watch while others write', async () => {
      await fresh();
      const [writer, reader] = [await open(), await open()];
      const run = { stop: false };
      const writing = (async () => {
        for (let i = 0; !run.stop; i++) {
          const n = `n${i % 7}`;
          if (await writer.get(KEY(n)))
            await (i % 3 === 0 ? writer.delete(KEY(n)) : writer.update(thing(n, `10.9.0.${i % 250}/32`)));
          else await writer.create(thing(n, `10.9.0.${i % 250}/32`));
        }
      })();
      const mirrors: { state: Map<string, Resource>; recorder: Recorder }[] = [];
      for (let round = 0; round < 10; round++) {
        const { resources, revision } = await reader.list('IPReservation');
        const state = new Map(resources.map((r) => [r.metadata.name, r]));
        for (const r of resources)
          assert.ok(Number(r.metadata.resourceVersion) <= revision, 'the list is as of its revision');
        const recorder = new Recorder();
        mirrors.push({ state, recorder });
        reader.watch(recorder.options(revision, ['IPReservation']));
        await until(() => recorder.events.length > 5, 'the watch delivers');
      }
      run.stop = true;
      await writing;
      const truth = await reader.list('IPReservation');
      const last = mirrors.map((m) => m.recorder);
      const done = await writer.create(thing('end'));
      const end = Number(done.metadata.resourceVersion);
      await until(() => last.every((r) => (r.events.at(-1)?.revision ?? 0) >= end), 'every watch has caught up');
      for (const { state, recorder } of mirrors) {
        recorder.checkOrder();
        for (const event of recorder.events) {
          if (event.key.name === 'end') continue;
          if (event.type === 'put') state.set(event.key.name, event.resource);
          else assert.ok(state.delete(event.key.name), 'only what is there is deleted');
        }
        assert.deepEqual(
          [...state.values()].sort((a, b) => a.metadata.name.localeCompare(b.metadata.name)),
          truth.resources,
        );
      }
    });

    it('resumes a watch, and ends one that is behind the compaction', async () => {
      await fresh();
      const store = await open();
      const created = await store.create(thing('a'));
      const from = Number(created.metadata.resourceVersion);
      await store.update(thing('a', '10.9.0.1/32'));
      const resumed = new Recorder();
      store.watch(resumed.options(from));
      await until(() => resumed.events.length === 1, 'the missed event is there');
      await harness.compact();
      const late = new Recorder();
      store.watch(late.options(from));
      await until(() => late.ends.length === 1, 'the late watch has ended');
      assert.ok(isBrindleError(late.ends[0], 'compacted'), String(late.ends[0]));
      assert.deepEqual(late.events, []);
      assert.deepEqual(resumed.ends, [], 'who is up to date is not disturbed');
      const { revision } = await store.list('IPReservation');
      const again = new Recorder();
      store.watch(again.options(revision));
      await store.update(thing('a', '10.9.0.2/32'));
      await until(() => again.events.length === 1 && resumed.events.length === 2, 'both watches go on');
      assert.equal(late.ends.length, 1);
    });

    it('lets exactly one of several racing clients win', async () => {
      await fresh();
      const first = await open();
      const racers = [first, await open(), await open(), await open()];
      const outcomes = await Promise.allSettled(racers.map((store) => store.create(thing('a'))));
      assert.equal(outcomes.filter((o) => o.status === 'fulfilled').length, 1);
      for (const o of outcomes)
        if (o.status === 'rejected') assert.ok(isBrindleError(o.reason, 'already-exists'), String(o.reason));
      await first.update({ ...thing('a'), spec: { count: 0 } });
      const EACH = 25;
      let lost = 0;
      await Promise.all(
        racers.map(async (store) => {
          for (let won = 0; won < EACH; ) {
            const now = (await store.get(KEY('a')))!;
            try {
              await store.update({ ...now, spec: { count: (now.spec as { count: number }).count + 1 } });
              won++;
            } catch (error) {
              assert.ok(isBrindleError(error, 'conflict'), String(error));
              lost++;
            }
          }
        }),
      );
      assert.deepEqual((await first.get(KEY('a')))?.spec, { count: racers.length * EACH }, `with ${lost} conflicts`);
    });

    it('is silent after stop()', async () => {
      await fresh();
      const store = await open();
      const recorder = new Recorder();
      const other = new Recorder();
      const watch = store.watch(recorder.options(0));
      store.watch(other.options(0));
      await store.create(thing('a'));
      watch.stop();
      watch.stop();
      const seen = recorder.events.length;
      await store.create(thing('b'));
      await until(() => other.events.length === 2, 'the other watch has both');
      assert.equal(recorder.events.length, seen);
      assert.deepEqual(recorder.ends, []);
    });

    it('may be stopped from inside its own callback', async () => {
      await fresh();
      const store = await open();
      const other = new Recorder();
      let calls = 0;
      const watch = store.watch({
        fromRevision: 0,
        onEvents: () => {
          calls++;
          watch.stop();
        },
        onEnd: () => assert.fail('stopped watches do not end'),
      });
      store.watch(other.options(0));
      // An event may come before the answer to its write.
      for (const [i, n] of ['a', 'b', 'c'].entries()) {
        await store.create(thing(n));
        await until(() => other.events.length > i, 'the other watch goes on');
      }
      assert.equal(calls, 1);
    });

    it(`lists and watches ${LARGE} resources`, async () => {
      await fresh();
      const store = await open();
      const recorder = new Recorder();
      store.watch(recorder.options(0, ['IPReservation']));
      for (let i = 0; i < LARGE; i += 500) {
        await Promise.all(
          Array.from({ length: 500 }, (_, j) => store.create(thing(`r${String(i + j).padStart(5, '0')}`))),
        );
      }
      const { resources, revision } = await store.list('IPReservation');
      assert.equal(resources.length, LARGE);
      assert.equal(resources[LARGE - 1]!.metadata.name, `r${String(LARGE - 1).padStart(5, '0')}`);
      await until(() => recorder.events.length === LARGE, 'all events are there');
      recorder.checkOrder();
      assert.equal(recorder.events.at(-1)?.revision, revision);
    });

    it('is shared by several processes', async () => {
      await fresh();
      const store = await open();
      await store.create({ ...thing('counter'), spec: { count: 0 } });
      const { revision } = await store.list('IPReservation');
      const recorder = new Recorder();
      store.watch(recorder.options(revision, ['IPReservation']));
      const PROCESSES = 3;
      const EACH = 20;
      const script = new URL('./increment.ts', import.meta.url).pathname;
      const children = Array.from({ length: PROCESSES }, () =>
        spawn(process.execPath, [script, JSON.stringify(harness.config), String(EACH)], {
          stdio: ['ignore', 'inherit', 'inherit'],
        }),
      );
      for (const [code] of await Promise.all(children.map(async (child) => once(child, 'exit')))) assert.equal(code, 0);
      await until(() => recorder.events.length >= PROCESSES * EACH, 'every increment was seen');
      recorder.checkOrder();
      const counts = recorder.events.map((e) => (e.type === 'put' ? (e.resource.spec as { count: number }).count : -1));
      assert.deepEqual(
        counts,
        Array.from({ length: PROCESSES * EACH }, (_, i) => i + 1),
      );
    });

    it('refuses to work after close()', async () => {
      await fresh();
      const store = await open();
      const recorder = new Recorder();
      store.watch(recorder.options(0));
      const writing = store.create(thing('a'));
      await store.close();
      await store.close();
      await writing;
      await assert.rejects(store.get(KEY('a')), { code: 'unavailable' });
      await assert.rejects(store.create(thing('b')), { code: 'unavailable' });
      assert.deepEqual(recorder.ends, []);
    });
  });
}
