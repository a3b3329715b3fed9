// The etcd driver against one real member: the compliance suite.
import { after } from 'node:test';
import { storeCompliance } from '#datastore/compliance/suite.ts';
import { EtcdStore } from '#datastore/etcd/store.ts';
import { type EtcdMember, startEtcd } from '../support/etcd.ts';

let shared: EtcdMember | null = null;
let prefixes = 0;

async function member(): Promise<EtcdMember> {
  shared ??= await startEtcd();
  return shared;
}
after(async () => shared?.close());

// A fresh store is a prefix of its own; a fresh member only where the history of the old one is gone.
storeCompliance('etcd', async () => {
  const etcd = await member();
  const config = { endpoints: [etcd.endpoint], prefix: `/test-${prefixes++}` };
  let compacted = false;
  return {
    open: async () => new EtcdStore(config),
    config: { etcd: config },
    async compact() {
      compacted = true;
      await etcd.compact();
    },
    async dispose() {
      if (!compacted) return;
      await etcd.close();
      shared = null;
    },
  };
});
