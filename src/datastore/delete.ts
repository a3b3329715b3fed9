// The way of a person's deletions into a store. In: keys. Out: what was deleted, or an error and nothing deleted because
// something is still needed by what stays.
// Trap: who begins to need a resource between the check and the deletion is not noticed; its own kind stands that.
import { BrindleError, isBrindleError } from '#base/errors.ts';
import { kindByKey } from '#model/registry.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';
import type { Store } from './store.ts';

export interface DeleteOptions {
  /** Also what others need. */
  readonly force?: boolean;
}

export interface Deletion {
  readonly key: ResourceKey;
  /** What was deleted; null when it was not there. */
  readonly deleted: Resource | null;
}

const SHOWN = 5;

/** Deletes in the order given. `conflict` when one is needed by a resource that is not among them; else the store's errors. */
export async function deleteResources(
  store: Store,
  keys: readonly ResourceKey[],
  options: DeleteOptions = {},
): Promise<Deletion[]> {
  if (!options.force) await checkNeeds(store, keys);
  const out: Deletion[] = [];
  for (const key of keys) {
    try {
      out.push({ key, deleted: await store.delete(key) });
    } catch (error) {
      if (!isBrindleError(error, 'not-found')) throw error;
      out.push({ key, deleted: null });
    }
  }
  return out;
}

async function checkNeeds(store: Store, keys: readonly ResourceKey[]): Promise<void> {
  const going = new Set(keys.map(keyText));
  const lists = new Map<string, readonly Resource[]>();
  const reasons: string[] = [];
  for (const key of keys) {
    const needs = kindByKey(key.kind)?.neededBy ?? [];
    const resource = needs.length > 0 ? await store.get(key) : null;
    if (!resource) continue;
    const users: string[] = [];
    for (const need of needs) {
      const others = lists.get(need.kind) ?? (await store.list(need.kind)).resources;
      lists.set(need.kind, others);
      for (const other of others) {
        const use = going.has(keyText(keyOf(other))) ? null : need.use(resource, other);
        if (use !== null) users.push(`${keyText(keyOf(other))} (${use})`);
      }
    }
    if (users.length === 0) continue;
    const more = users.length > SHOWN ? ` and ${users.length - SHOWN} more` : '';
    reasons.push(`${keyText(key)} is needed by ${users.slice(0, SHOWN).join(', ')}${more}`);
  }
  if (reasons.length > 0) {
    throw new BrindleError('conflict', reasons.join('\n'), {
      remedy: 'nothing was deleted; delete those first, or use --force',
    });
  }
}
