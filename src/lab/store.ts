// Puts the lab's resources into the store its hosts share.
import { isBrindleError } from '#base/errors.ts';
import { openStore } from '#datastore/open.ts';
import type { Store } from '#datastore/store.ts';
import { kindOf, parseResource } from '#model/registry.ts';
import type { Resource } from '#model/resource.ts';
import type { LabState } from './state.ts';

/** Opens the lab's store for the length of `use`. */
export async function withStore<T>(state: LabState, use: (store: Store) => Promise<T>): Promise<T> {
  const store = await openStore({ embedded: { path: state.path('store.db') } });
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

/** Creates each resource, or overwrites it where it exists. */
export function applyToStore(state: LabState, resources: readonly Resource[]): Promise<void> {
  return withStore(state, async (store) => {
    for (const resource of resources) {
      const parsed = kindOf(resource) ? parseResource(resource) : resource;
      try {
        await store.create(parsed);
      } catch (error) {
        if (!isBrindleError(error, 'already-exists')) throw error;
        await store.update(parsed);
      }
    }
  });
}
