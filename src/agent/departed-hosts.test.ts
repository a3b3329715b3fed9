import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '#base/clock.ts';
import { silentLogger } from '#base/log.ts';
import { MemoryStore } from '#ipam/fakes.ts';
import type { Resource } from '#model/resource.ts';
import { DepartedHosts } from './departed-hosts.ts';

const API = 'projectcalico.org/v3';
const MINUTE = 60_000;

function node(name: string): Resource {
  return { apiVersion: API, kind: 'Node', metadata: { name }, spec: {} };
}

function block(host: string, n: number): Resource {
  const spec = { cidr: `10.0.${n}.0/26`, host, pool: 'p', assigned: {} };
  return { apiVersion: 'brindle.dev/v1', kind: 'IPBlock', metadata: { name: `10-0-${n}-0-26` }, spec };
}

function endpoint(name: string, host: string): Resource {
  const spec = { node: host, interfaceName: 'cali1', ipNetworks: [], profiles: [] };
  return { apiVersion: API, kind: 'WorkloadEndpoint', metadata: { name, namespace: 'default' }, spec };
}

async function world(...resources: Resource[]) {
  const store = new MemoryStore();
  for (const resource of resources) await store.create(resource);
  const clock = new ManualClock();
  const announced = new Set<string>();
  const departed = new DepartedHosts({
    host: 'h1',
    store,
    clock,
    log: silentLogger,
    resources: () => store.resources.values(),
    isAnnounced: (cidr) => announced.has(cidr),
  });
  for (const name of ['h1', 'h2', 'gone']) departed.nodeDeleted(name);
  const minutes = async (count: number): Promise<string[]> => {
    const cleared: string[] = [];
    for (let i = 0; i < count; i++) {
      cleared.push(...(await departed.look()));
      clock.advance(MINUTE);
    }
    return cleared;
  };
  const left = () => [...store.resources.values()].map((r) => `${r.kind}/${r.metadata.name}`).sort();
  return { store, announced, minutes, left, departed };
}

describe('DepartedHosts', () => {
  it('clears away leases and endpoints of a deleted host after a while, and nothing else', async () => {
    const { minutes, left } = await world(
      ...[node('h1'), node('h2'), block('h1', 1), block('h2', 2), block('gone', 3), block('gone', 4)],
      ...[endpoint('a', 'h2'), endpoint('b', 'gone'), endpoint('c', 'h1'), block('never had a Node', 5)],
    );
    assert.deepEqual(await minutes(3), []);
    assert.equal(left().length, 10);
    assert.deepEqual(await minutes(2), ['gone']);
    assert.deepEqual(left(), [
      'IPBlock/10-0-1-0-26',
      'IPBlock/10-0-2-0-26',
      'IPBlock/10-0-5-0-26',
      'Node/h1',
      'Node/h2',
      'WorkloadEndpoint/a',
      'WorkloadEndpoint/c',
    ]);
  });
  it('never clears away its own host', async () => {
    const { minutes } = await world(block('h1', 1), endpoint('a', 'h1'));
    assert.deepEqual(await minutes(10), []);
  });
  it('leaves a host alone that announces a block, and begins anew when that ends', async () => {
    const { announced, minutes } = await world(block('gone', 1), block('gone', 2));
    await minutes(2);
    announced.add('10.0.2.0/26');
    assert.deepEqual(await minutes(6), []);
    announced.clear();
    assert.deepEqual(await minutes(3), []);
    assert.deepEqual(await minutes(1), ['gone']);
  });
  it('begins anew when the Node was there meanwhile', async () => {
    const { store, departed, minutes } = await world(block('h2', 1));
    await minutes(3);
    await store.create(node('h2'));
    await minutes(1);
    await store.delete({ kind: 'Node', namespace: '', name: 'h2' });
    departed.nodeDeleted('h2');
    assert.deepEqual(await minutes(3), []);
    assert.deepEqual(await minutes(1), ['h2']);
  });
  it('asks the store itself before it deletes, and goes on when the store is back', async () => {
    const { store, departed, minutes, left } = await world(block('h2', 1));
    await minutes(3);
    store.down = true;
    await assert.rejects(departed.look(), /cut off/);
    store.down = false;
    assert.deepEqual(await departed.look(), ['h2']);
    assert.deepEqual(left(), []);
  });
});
