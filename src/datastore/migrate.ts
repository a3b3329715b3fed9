// Moves everything from one store into another, of whatever driver. In: two stores. Out: how much was moved; or an error
// and the source untouched.
// Everything means also kinds that this version does not know, status, identity and age. The target may hold what an
// earlier, interrupted move has left there, and nothing else. At the end both are compared.
import { isDeepStrictEqual } from 'node:util';
import { BrindleError } from '#base/errors.ts';
import { keyOf, keyText, type Resource } from '#model/resource.ts';
import type { Store } from './store.ts';

export interface Migration {
  readonly kind: string;
  /** Written by this run, and there already from an earlier one. */
  readonly copied: number;
  readonly present: number;
}

/** Resources written at once. */
const TOGETHER = 64;
const SHOWN = 5;

/** Errors: `conflict` when the target holds anything else, or the source changed meanwhile (run it again); the stores' own. */
export async function migrateStore(from: Store, to: Store): Promise<Migration[]> {
  const source = await readAll(from);
  const before = await readAll(to);
  const foreign = [...before].filter(([key, resource]) => !sameResource(resource, source.get(key))).map(([key]) => key);
  if (foreign.length > 0) {
    const more = foreign.length > SHOWN ? ` and ${foreign.length - SHOWN} more` : '';
    throw new BrindleError(
      'conflict',
      `the target holds what the source does not: ${foreign.slice(0, SHOWN).join(', ')}${more}`,
      {
        remedy: 'move into an empty store; nothing was changed',
      },
    );
  }
  const counts = new Map<string, { copied: number; present: number }>();
  const missing: Resource[] = [];
  for (const [key, resource] of source) {
    const { kind } = keyOf(resource);
    const count = counts.get(kind) ?? { copied: 0, present: 0 };
    counts.set(kind, count);
    if (before.has(key)) count.present++;
    else {
      missing.push(resource);
      count.copied++;
    }
  }
  for (let i = 0; i < missing.length; i += TOGETHER) {
    await Promise.all(missing.slice(i, i + TOGETHER).map((resource) => to.create(withoutVersion(resource))));
  }
  await verify(from, to);
  return [...counts].map(([kind, count]) => ({ kind, ...count }));
}

async function verify(from: Store, to: Store): Promise<void> {
  const [source, target] = [await readAll(from), await readAll(to)];
  const different = [...new Set([...source.keys(), ...target.keys()])].filter((key) => {
    const copy = target.get(key);
    return copy === undefined || !sameResource(copy, source.get(key));
  });
  if (different.length === 0) return;
  throw new BrindleError(
    'conflict',
    `the source changed during the move: ${different.slice(0, SHOWN).join(', ')} differ`,
    {
      remedy: 'stop what writes to it, empty the target and run the move again; the source is as it was',
    },
  );
}

async function readAll(store: Store): Promise<Map<string, Resource>> {
  const out = new Map<string, Resource>();
  for (const kind of await store.kinds()) {
    for (const resource of (await store.list(kind)).resources) out.set(keyText(keyOf(resource)), resource);
  }
  return out;
}

function withoutVersion(resource: Resource): Resource {
  const metadata = { ...resource.metadata };
  delete metadata.resourceVersion;
  return { ...resource, metadata };
}

function sameResource(a: Resource, b: Resource | undefined): boolean {
  return b !== undefined && isDeepStrictEqual(withoutVersion(a), withoutVersion(b));
}
