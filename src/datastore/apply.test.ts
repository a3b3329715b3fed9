import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { parseResource } from '#model/registry.ts';
import { keyOf, type Resource } from '#model/resource.ts';
import { applyResources, type ApplyOptions } from './apply.ts';
import { deleteResources } from './delete.ts';
import { EmbeddedStore } from './embedded/store.ts';
import type { Store } from './store.ts';

const folders: string[] = [];
after(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});
async function openStore(): Promise<EmbeddedStore> {
  const dir = mkdtempSync(join(tmpdir(), `brindle-apply-${process.pid}-`));
  folders.push(dir);
  return EmbeddedStore.open({ path: join(dir, 'store.db') });
}

function pool(name: string, cidr: string, more: object = {}): Resource {
  return parseResource({
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPPool',
    metadata: { name },
    spec: { cidr, ...more },
  });
}

async function outcomes(store: Store, resources: Resource[], options?: ApplyOptions): Promise<string[]> {
  return (await applyResources(store, resources, options)).map((r) => `${r.resource.metadata.name} ${r.outcome}`);
}

describe('applyResources', () => {
  it('creates, configures and leaves alone', async () => {
    const store = await openStore();
    assert.deepEqual(await outcomes(store, [pool('a', '10.0.0.0/16'), pool('b', '10.1.0.0/16')]), [
      'a created',
      'b created',
    ]);
    const before = await store.revision();
    assert.deepEqual(await outcomes(store, [pool('a', '10.0.0.0/16')]), ['a unchanged']);
    assert.equal(await store.revision(), before);
    assert.deepEqual(await outcomes(store, [pool('a', '10.0.0.0/16', { disabled: true })]), ['a configured']);
    await store.close();
  });

  it('writes nothing when one of the set is invalid, and names all that are', async () => {
    const store = await openStore();
    await applyResources(store, [pool('a', '10.0.0.0/16')]);
    const set = [pool('ok', '10.9.0.0/16'), pool('b', '10.0.128.0/17'), pool('a', '10.7.0.0/16')];
    await assert.rejects(applyResources(store, set), (e: Error) => {
      // The set is checked as if it were stored: b no longer overlaps what a is to become.
      assert.match(e.message, /IPPool\/a is invalid: spec\.cidr: cannot change/);
      assert.doesNotMatch(e.message, /IPPool\/ok/);
      return true;
    });
    await assert.rejects(
      applyResources(store, [pool('b', '10.0.128.0/17')]),
      /IPPool\/b is invalid: spec\.cidr: .* overlaps 10\.0\.0\.0\/16 of IPPool\/a/,
    );
    await assert.rejects(
      applyResources(store, [pool('x', '10.5.0.0/16'), pool('y', '10.5.1.0/24')]),
      /IPPool\/x[^]*IPPool\/y/,
    );
    await assert.rejects(applyResources(store, [pool('x', '10.5.0.0/16'), pool('x', '10.5.0.0/16')]), /more than once/);
    assert.equal((await store.list('IPPool')).resources.length, 1);
    await store.close();
  });

  it('keeps to its mode, and writes nothing on a dry run', async () => {
    const store = await openStore();
    await assert.rejects(applyResources(store, [pool('a', '10.0.0.0/16')], { mode: 'replace' }), { code: 'not-found' });
    assert.deepEqual(await outcomes(store, [pool('a', '10.0.0.0/16')], { dryRun: true }), ['a created']);
    assert.equal(await store.revision(), 0);
    await applyResources(store, [pool('a', '10.0.0.0/16')], { mode: 'create' });
    await assert.rejects(
      applyResources(store, [pool('b', '10.1.0.0/16'), pool('a', '10.0.0.0/16')], { mode: 'create' }),
      { code: 'already-exists' },
    );
    assert.equal((await store.list('IPPool')).resources.length, 1);
    await store.close();
  });

  it('honours a version read from this store and ignores those of others', async () => {
    const store = await openStore();
    const foreign = pool('a', '10.0.0.0/16');
    Object.assign(foreign.metadata, {
      uid: 'of-another-cluster',
      resourceVersion: '999',
      creationTimestamp: '2020-01-01T00:00:00Z',
    });
    const [created] = await applyResources(store, [foreign]);
    assert.notEqual(created!.resource.metadata.uid, 'of-another-cluster');
    assert.notEqual(created!.resource.metadata.creationTimestamp, '2020-01-01T00:00:00Z');
    assert.deepEqual(await outcomes(store, [foreign]), ['a unchanged']);
    const read = parseResource((await store.get(keyOf(foreign)))!);
    await applyResources(store, [pool('a', '10.0.0.0/16', { disabled: true })]);
    const edited = { ...read, spec: { ...(read.spec as object), natOutgoing: true } };
    await assert.rejects(applyResources(store, [edited]), { code: 'conflict' });
    await store.close();
  });

  it('leaves the status to the agents', async () => {
    const store = await openStore();
    const [created] = await applyResources(store, [pool('a', '10.0.0.0/16')]);
    await store.update({ ...created!.resource, status: { ok: true } });
    await applyResources(store, [{ ...pool('a', '10.0.0.0/16', { disabled: true }), status: { ok: false } }]);
    assert.deepEqual((await store.get(keyOf(created!.resource)))?.status, { ok: true });
    await store.close();
  });

  it('tries again when somebody else was faster', async () => {
    const store = await openStore();
    await applyResources(store, [pool('a', '10.0.0.0/16')]);
    const original = store.update.bind(store);
    let raced = 0;
    store.update = async (resource) => {
      if (raced++ === 0)
        await original({ ...(await store.get(keyOf(resource)))!, metadata: { name: 'a', labels: { by: 'other' } } });
      return original(resource);
    };
    assert.deepEqual(await outcomes(store, [pool('a', '10.0.0.0/16', { disabled: true })]), ['a configured']);
    assert.equal(raced, 2);
    await store.close();
  });
});

describe('deleteResources', () => {
  it('does not delete what others need, unless they go too or it is forced', async () => {
    const store = await openStore();
    const block = (name: string, assigned: object) =>
      parseResource({
        apiVersion: 'brindle.dev/v1',
        kind: 'IPBlock',
        metadata: { name },
        spec: { cidr: '10.0.0.0/26', host: 'h1', pool: 'a', assigned },
      });
    const filter = parseResource({
      apiVersion: 'projectcalico.org/v3',
      kind: 'BGPFilter',
      metadata: { name: 'f' },
      spec: {},
    });
    const peer = parseResource({
      apiVersion: 'projectcalico.org/v3',
      kind: 'BGPPeer',
      metadata: { name: 'p' },
      spec: { peerIP: '10.0.0.1', asNumber: 1, filters: ['f'] },
    });
    await applyResources(store, [pool('a', '10.0.0.0/16'), block('b', { '10.0.0.1': { handle: 'x' } }), filter, peer]);
    const keys = {
      pool: keyOf(pool('a', '10.0.0.0/16')),
      block: keyOf(block('b', {})),
      filter: keyOf(filter),
      peer: keyOf(peer),
    };
    await assert.rejects(deleteResources(store, [keys.filter, keys.pool]), (e: Error) => {
      assert.equal(
        e.message,
        'BGPFilter/f is needed by BGPPeer/p (spec.filters)\nIPPool/a is needed by IPBlock/b (1 address on h1)',
      );
      return true;
    });
    const gone = await deleteResources(store, [keys.peer, keys.filter, { ...keys.peer, name: 'nope' }]);
    assert.deepEqual(
      gone.map((d) => d.deleted?.metadata.name ?? null),
      ['p', 'f', null],
    );
    await deleteResources(store, [keys.pool], { force: true });
    assert.equal((await store.list('IPPool')).resources.length, 0);
    await store.close();
  });
});
