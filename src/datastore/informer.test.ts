import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { ManualClock } from '#base/clock.ts';
import { BrindleError } from '#base/errors.ts';
import { keyOf, keyText, type Resource } from '#model/resource.ts';
import { until } from './compliance/suite.ts';
import { EmbeddedStore } from './embedded/store.ts';
import { Informer, type InformerOptions } from './informer.ts';
import type { Store, StoreEvent, WatchOptions } from './store.ts';

const folders: string[] = [];
after(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});
async function openStore(): Promise<EmbeddedStore> {
  const dir = mkdtempSync(join(tmpdir(), `brindle-informer-${process.pid}-`));
  folders.push(dir);
  return EmbeddedStore.open({ path: join(dir, 'store.db') });
}

function thing(name: string, n = 0, kind = 'IPReservation'): Resource {
  return { apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec: { n } };
}

/** What a consumer would hold, checking that nothing is lost or doubled on the way. */
class Mirror {
  readonly state = new Map<string, Resource>();
  snapshots = 0;
  events = 0;
  readonly trouble: (string | null)[] = [];
  readonly options: InformerOptions = {
    onSnapshot: (resources) => {
      this.snapshots++;
      for (const r of resources) this.state.set(keyText(keyOf(r)), r);
    },
    onEvents: (events) => {
      assert.equal(this.snapshots, 1, 'events come after the one snapshot');
      for (const event of events) this.#take(event);
    },
    onTrouble: (error) => this.trouble.push(error?.message ?? null),
  };

  #take(event: StoreEvent): void {
    this.events++;
    const key = keyText(event.key);
    const before = this.state.get(key);
    if (event.type === 'delete') {
      assert.ok(before, `${key} is deleted, but was not there`);
      assert.deepEqual(event.last?.metadata.name, event.key.name);
      this.state.delete(key);
      return;
    }
    assert.notEqual(before?.metadata.resourceVersion, event.resource.metadata.resourceVersion, `${key} came twice`);
    if (before && before.metadata.uid === event.resource.metadata.uid) {
      assert.ok(
        Number(event.resource.metadata.resourceVersion) > Number(before.metadata.resourceVersion),
        `${key} went back`,
      );
    }
    this.state.set(key, event.resource);
  }
}

/** A store whose watches and answers the test can break. */
class Breakable implements Store {
  readonly inner: Store;
  readonly watches: { options: WatchOptions; stop: () => void }[] = [];
  down = false;
  lists = 0;

  constructor(inner: Store) {
    this.inner = inner;
  }

  #check(): void {
    if (this.down) throw new BrindleError('unavailable', 'down');
  }

  get: Store['get'] = async (key) => this.inner.get(key);
  kinds: Store['kinds'] = async () => this.inner.kinds();
  create: Store['create'] = async (r) => this.inner.create(r);
  update: Store['update'] = async (r) => this.inner.update(r);
  delete: Store['delete'] = async (key) => this.inner.delete(key);
  close: Store['close'] = async () => this.inner.close();
  list: Store['list'] = async (kind) => {
    this.#check();
    this.lists++;
    return this.inner.list(kind);
  };
  watch: Store['watch'] = (options) => {
    this.#check();
    const watch = this.inner.watch(options);
    this.watches.push({ options, stop: () => watch.stop() });
    return watch;
  };

  /** Ends every watch as the network would. */
  cut(code: 'unavailable' | 'compacted'): void {
    for (const { options, stop } of this.watches.splice(0)) {
      stop();
      options.onEnd(new BrindleError(code, `cut: ${code}`));
    }
  }
}

describe('Informer', () => {
  it('hands over a snapshot, then changes', async () => {
    const store = await openStore();
    await store.create(thing('a'));
    await store.create(thing('x', 0, 'NetworkSet'));
    await store.create(thing('other', 0, 'Tier'));
    const mirror = new Mirror();
    const informer = new Informer(store, ['IPReservation', 'NetworkSet'], mirror.options);
    informer.start();
    await until(() => informer.synced, 'the snapshot is there');
    assert.deepEqual([...mirror.state.keys()], ['IPReservation/a', 'NetworkSet/x']);
    await store.create(thing('b'));
    await store.delete({ kind: 'IPReservation', namespace: '', name: 'a' });
    await store.update(thing('other', 1, 'Tier'));
    await until(() => mirror.events === 2, 'both changes are there');
    assert.deepEqual([...mirror.state.keys()], ['NetworkSet/x', 'IPReservation/b']);
    informer.stop();
    await store.create(thing('c'));
    await store.get(keyOf(thing('c')));
    assert.equal(mirror.events, 2, 'silent after stop()');
    await store.close();
  });

  it('works out what it missed after a compaction, and only that', async () => {
    const inner = await openStore();
    const store = new Breakable(inner);
    for (const n of ['same', 'changed', 'gone', 'reborn']) await inner.create(thing(n));
    const mirror = new Mirror();
    const informer = new Informer(store, ['IPReservation'], mirror.options);
    informer.start();
    await until(() => store.watches.length === 1, 'it watches');
    const watch = store.watches.splice(0)[0]!;
    watch.stop();
    await inner.update(thing('changed', 1));
    await inner.delete(keyOf(thing('gone')));
    await inner.delete(keyOf(thing('reborn')));
    await inner.create(thing('reborn', 2));
    await inner.create(thing('new'));
    watch.options.onEnd(new BrindleError('compacted', 'too old'));
    await until(() => store.watches.length === 1, 'it watches again');
    assert.equal(mirror.events, 4);
    assert.deepEqual(
      [...mirror.state.values()].map((r) => `${r.metadata.name} ${(r.spec as { n: number }).n}`).sort(),
      ['changed 1', 'new 0', 'reborn 2', 'same 0'],
    );
    assert.deepEqual(mirror.trouble, [], 'a compaction is no trouble');
    informer.stop();
    await inner.close();
  });

  it('waits longer and longer for a store that is away, tells once, and goes on where it was', async () => {
    const inner = await openStore();
    const store = new Breakable(inner);
    const clock = new ManualClock();
    const mirror = new Mirror();
    store.down = true;
    const informer = new Informer(store, ['IPReservation'], { ...mirror.options, clock, random: () => 1 });
    informer.start();
    const delays: number[] = [];
    for (let i = 0; i < 10; i++) {
      await until(() => clock.nextDue() !== null, 'it waits');
      delays.push(clock.nextDue()!);
      clock.advance(clock.nextDue()!);
    }
    assert.deepEqual(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]);
    assert.deepEqual(mirror.trouble, ['down']);
    store.down = false;
    await until(() => clock.nextDue() !== null, 'it waits');
    clock.advance(15_000);
    await until(() => informer.synced, 'it has listed');
    assert.deepEqual(mirror.trouble, ['down', null]);
    const { lists } = store;
    store.cut('unavailable');
    await inner.create(thing('meanwhile'));
    clock.advance(clock.nextDue()!);
    await until(() => mirror.events === 1, 'the missed change is there');
    assert.equal(store.lists, lists, 'without listing again');
    assert.deepEqual(mirror.trouble, ['down', null, 'cut: unavailable', null]);
    informer.stop();
    await inner.close();
  });

  it('agrees with the store through random writes, cuts and compactions', async () => {
    const inner = await openStore();
    const store = new Breakable(inner);
    const mirror = new Mirror();
    const informer = new Informer(store, ['IPReservation', 'NetworkSet'], {
      ...mirror.options,
      minDelay: 1,
      maxDelay: 3,
    });
    informer.start();
    let seed = 7;
    const random = (n: number) => (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648) % n;
    for (let step = 0; step < 400; step++) {
      const resource = thing(`n${random(9)}`, step, random(2) ? 'IPReservation' : 'NetworkSet');
      const there = await inner.get(keyOf(resource));
      if (!there) await inner.create(resource);
      else if (random(3) === 0) await inner.delete(keyOf(resource));
      else await inner.update(resource);
      if (random(20) === 0) store.cut('unavailable');
      if (random(30) === 0) {
        await inner.compact();
        store.cut('compacted');
      }
      if (random(25) === 0) {
        informer.stop();
        informer.start();
      }
    }
    await inner.create(thing('end'));
    await until(() => mirror.state.has('IPReservation/end'), 'it has caught up');
    const truth = [...(await inner.list('IPReservation')).resources, ...(await inner.list('NetworkSet')).resources];
    const sorted = (list: Iterable<Resource>) =>
      [...list].sort((a, b) => (keyText(keyOf(a)) < keyText(keyOf(b)) ? -1 : 1));
    assert.deepEqual(sorted(mirror.state.values()), sorted(truth));
    assert.equal(mirror.snapshots, 1);
    informer.stop();
    await inner.close();
  });
});
