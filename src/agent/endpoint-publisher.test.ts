import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '#base/clock.ts';
import { silentLogger } from '#base/log.ts';
import { MemoryStore } from '#ipam/fakes.ts';
import { keyOf, type Resource } from '#model/resource.ts';
import { EndpointPublisher } from './endpoint-publisher.ts';

function endpoint(name: string, containerID = 'c'): Resource {
  const metadata = { name, namespace: 'default' };
  return { apiVersion: 'projectcalico.org/v3', kind: 'WorkloadEndpoint', metadata, spec: { containerID } };
}

function make() {
  const store = new MemoryStore();
  const clock = new ManualClock();
  const publisher = new EndpointPublisher({ store, clock, log: silentLogger });
  const stored = (): string[] => [...store.resources.keys()].map((key) => key.split('/').at(-1)!).sort();
  const turns = async (): Promise<void> => {
    for (let i = 0; i < 100; i++) await Promise.resolve();
  };
  return { store, clock, publisher, stored, turns };
}

describe('EndpointPublisher', () => {
  it('collects for a moment, then writes the last state of each', async () => {
    const { store, clock, publisher, stored, turns } = make();
    publisher.put(endpoint('a', 'old'));
    publisher.put(endpoint('a', 'new'));
    publisher.put(endpoint('b'));
    publisher.drop(keyOf(endpoint('b')));
    await turns();
    assert.equal(store.calls, 0);
    clock.advance(10);
    await turns();
    assert.deepEqual(stored(), ['a']);
    assert.deepEqual([...store.resources.values()][0]!.spec, { containerID: 'new' });
    publisher.put(endpoint('a', 'newer')); // exists: replaced
    await publisher.settle();
    assert.deepEqual([...store.resources.values()][0]!.spec, { containerID: 'newer' });
    assert.deepEqual(publisher.status, { pending: 0, lastError: null });
  });

  it('tries again with growing delays while the store is away, and loses nothing', async () => {
    const { store, clock, publisher, stored, turns } = make();
    store.down = true;
    for (let i = 0; i < 100; i++) publisher.put(endpoint(`e${i}`));
    await publisher.settle();
    assert.equal(publisher.status.pending, 100);
    assert.match(publisher.status.lastError ?? '', /cut off/);
    publisher.drop(keyOf(endpoint('e0')));
    clock.advance(100);
    await turns();
    store.down = false;
    clock.advance(199);
    await turns();
    assert.deepEqual(stored(), []);
    clock.advance(1);
    await turns();
    await publisher.settle();
    assert.equal(stored().length, 99);
    assert.deepEqual(publisher.status, { pending: 0, lastError: null });
  });

  it('writes nothing after it was stopped', async () => {
    const { store, clock, publisher, turns } = make();
    publisher.put(endpoint('a'));
    await publisher.stop();
    clock.advance(1000);
    await turns();
    assert.equal(store.calls, 0);
  });
});
