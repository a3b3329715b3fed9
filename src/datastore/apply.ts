// The way of a person's resources into a store. In: parsed resources. Out: what became of each, or an
// InvalidResourceError with everything that is wrong and nothing written.
//
// The whole set is checked first, also against what is stored (overlapping pools, fields that cannot change), as if all of
// it were there already. Each write is a compare-and-swap against what was checked; when somebody else was faster, all
// is checked again. Trap: two people who add overlapping pools in the same instant are not caught; nothing short of a
// transaction over the whole kind could, and every reader of pools must stand an overlap anyway.
import { isDeepStrictEqual } from 'node:util';
import { BrindleError, errorText, isBrindleError } from '#base/errors.ts';
import type { SourcedResource } from '#model/manifest.ts';
import { type InvalidPart, InvalidResourceError, Problems } from '#model/problems.ts';
import { KINDS, kindOf, resourceSubject } from '#model/registry.ts';
import { keyOf, keyText, type Resource } from '#model/resource.ts';
import type { Store } from './store.ts';

export type ApplyOutcome = 'created' | 'configured' | 'unchanged';

export interface ApplyResult {
  /** As stored; with `dryRun` as it would be. */
  readonly resource: Resource;
  readonly outcome: ApplyOutcome;
}

export interface ApplyOptions {
  /** `create`: all must be new. `replace`: all must exist. `apply` (default): either. */
  readonly mode?: 'apply' | 'create' | 'replace';
  /** Checks everything and writes nothing. */
  readonly dryRun?: boolean;
}

interface Planned {
  readonly item: SourcedResource;
  readonly key: string;
  readonly previous: Resource | null;
}

const ATTEMPTS = 8;

/**
 * Errors: InvalidResourceError; `already-exists` and `not-found` by mode; `conflict` when a resource carries an old
 * version of itself; the store's own. Results are in the order of the resources.
 */
export async function applyResources(
  store: Store,
  resources: readonly (Resource | SourcedResource)[],
  options: ApplyOptions = {},
): Promise<ApplyResult[]> {
  const items = resources.map((r) => ('resource' in r ? r : { resource: r, source: '' }));
  const results = new Map<string, ApplyResult>();
  for (let attempt = 1; ; attempt++) {
    // What a lost race leaves to do; what is written already is not written again.
    const plan = await check(store, items, options, results);
    try {
      await write(store, plan, options, results);
      return items.map(({ resource }) => results.get(keyText(keyOf(resource)))!);
    } catch (error) {
      const raced =
        isBrindleError(error, 'conflict') ||
        isBrindleError(error, 'already-exists') ||
        isBrindleError(error, 'not-found');
      if (raced && attempt < ATTEMPTS && !items.some(({ resource }) => resource.metadata.resourceVersion)) continue;
      throw partly(error, results.size, items.length);
    }
  }
}

async function check(
  store: Store,
  items: readonly SourcedResource[],
  options: ApplyOptions,
  results: ReadonlyMap<string, ApplyResult>,
): Promise<Planned[]> {
  const stored = await readStored(store, items);
  const invalid: InvalidPart[] = [];
  const plan: Planned[] = [];
  const incoming = new Map<string, Resource>();
  const refuse = (item: SourcedResource, problems: Problems) =>
    invalid.push({ subject: resourceSubject(item.resource, item.source || undefined), problems: problems.list });
  for (const item of items) {
    const key = keyText(keyOf(item.resource));
    if (incoming.has(key)) {
      const problems = new Problems();
      problems.add('', 'is there more than once', 'leave one of them');
      refuse(item, problems);
    }
    incoming.set(key, item.resource);
  }
  for (const item of items) {
    const { resource } = item;
    const key = keyText(keyOf(resource));
    if (results.has(key)) continue;
    const kind = kindOf(resource);
    if (!kind)
      throw new BrindleError('invalid-argument', `${resource.kind} (${resource.apiVersion}) is an unknown kind`);
    const previous = stored.get(key) ?? null;
    if (options.mode === 'create' && previous) {
      throw new BrindleError('already-exists', `${key} exists already`, {
        remedy: 'use apply or replace to change it',
      });
    }
    if (options.mode === 'replace' && !previous) {
      throw new BrindleError('not-found', `${key} does not exist`, { remedy: 'use apply or create to make it' });
    }
    const problems = new Problems();
    if (previous) kind.validateUpdate?.(resource, previous, problems);
    if (kind.validateAgainst) kind.validateAgainst(resource, othersOf(resource, key, stored, incoming), problems);
    if (problems.any) refuse(item, problems);
    plan.push({ item, key, previous });
  }
  if (invalid.length > 0) throw new InvalidResourceError(invalid);
  return plan;
}

/** Everything of the kind but itself, as it will be. */
function othersOf(
  resource: Resource,
  key: string,
  stored: ReadonlyMap<string, Resource>,
  incoming: ReadonlyMap<string, Resource>,
): Resource[] {
  const all = new Map([...stored, ...incoming]);
  all.delete(key);
  return [...all.values()].filter((r) => r.kind === resource.kind && r.apiVersion === resource.apiVersion);
}

/** What is stored under the keys of the set, and all of a kind that has rules against others. */
async function readStored(store: Store, items: readonly SourcedResource[]): Promise<Map<string, Resource>> {
  const out = new Map<string, Resource>();
  const listed = new Set<string>();
  for (const { resource } of items) {
    const key = keyOf(resource);
    if (listed.has(key.kind)) continue;
    if (kindOf(resource)?.validateAgainst) {
      listed.add(key.kind);
      for (const r of (await store.list(key.kind)).resources) out.set(keyText(keyOf(r)), r);
    } else {
      const found = await store.get(key);
      if (found) out.set(keyText(key), found);
    }
  }
  return out;
}

async function write(
  store: Store,
  plan: readonly Planned[],
  options: ApplyOptions,
  results: Map<string, ApplyResult>,
): Promise<void> {
  for (const { item, key, previous } of plan.toSorted((a, b) => rank(a.item.resource) - rank(b.item.resource))) {
    const next = prepared(item.resource, previous);
    if (previous && sameContent(next, previous)) results.set(key, { resource: previous, outcome: 'unchanged' });
    else if (options.dryRun) results.set(key, { resource: next, outcome: previous ? 'configured' : 'created' });
    else if (previous) results.set(key, { resource: await store.update(next), outcome: 'configured' });
    else results.set(key, { resource: await store.create(next), outcome: 'created' });
  }
}

/** Kinds are written in the order of the registry: what others refer to comes first. */
function rank(resource: Resource): number {
  const kind = kindOf(resource);
  return kind ? KINDS.indexOf(kind) : KINDS.length;
}

/**
 * What goes to the store. Identity and version of an export from elsewhere mean nothing here; a version read from this
 * store is honoured. Status belongs to the agents and stays as it is.
 */
function prepared(resource: Resource, previous: Resource | null): Resource {
  const { uid, resourceVersion } = resource.metadata;
  const out: Resource = { ...resource, metadata: { ...resource.metadata } };
  delete out.metadata.uid;
  delete out.metadata.resourceVersion;
  delete out.metadata.creationTimestamp;
  delete out.status;
  if (!previous) return out;
  const ours = uid === undefined || uid === previous.metadata.uid;
  const version = ours && resourceVersion !== undefined ? resourceVersion : previous.metadata.resourceVersion;
  if (version !== undefined) out.metadata.resourceVersion = version;
  if (previous.status !== undefined) out.status = previous.status;
  return out;
}

function sameContent(next: Resource, previous: Resource): boolean {
  return (
    isDeepStrictEqual(next.spec, previous.spec) &&
    isDeepStrictEqual(next.metadata.labels ?? {}, previous.metadata.labels ?? {}) &&
    isDeepStrictEqual(next.metadata.annotations ?? {}, previous.metadata.annotations ?? {})
  );
}

/** Says how far it came when a store fails in the middle. */
function partly(error: unknown, done: number, all: number): unknown {
  if (done === 0 || !isBrindleError(error) || error.code === 'invalid-resource') return error;
  return new BrindleError(error.code, `${error.message}; ${done} of ${all} resources had been written`, {
    remedy: error.remedy ?? 'apply again: what is written stays unchanged',
    cause: errorText(error),
  });
}
