// The store that a lab's hosts share, for the length of a function.
import { applyResources } from '#datastore/apply.ts';
import { openStore } from '#datastore/open.ts';
import type { Store } from '#datastore/store.ts';
import { KINDS, parseResource } from '#model/registry.ts';
import { kindKey, type Resource } from '#model/resource.ts';
import type { LabState } from './state.ts';

export async function withStore<T>(state: LabState, use: (store: Store) => Promise<T>): Promise<T> {
  const store = await openStore({ embedded: { path: state.path('store.db') } });
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

/** Checks all, then creates each resource or changes it to this. Throws `invalid-resource`. */
export async function applyToStore(state: LabState, resources: readonly Resource[]): Promise<void> {
  const parsed = resources.map((resource) => parseResource(resource));
  await withStore(state, (store) => applyResources(store, parsed));
}

/** Everything in the store. */
export function readStore(state: LabState): Promise<Resource[]> {
  const kinds = new Set(KINDS.map((kind) => kindKey(kind.apiVersion, kind.kind)));
  return withStore(state, async (store) => {
    const lists = await Promise.all([...kinds].map((kind) => store.list(kind)));
    return lists.flatMap((list) => [...list.resources]);
  });
}
