// Follows kinds of a store: one snapshot, then every change, for as long as it runs. In: a store and kinds. Out:
// `onSnapshot` once, then `onEvents`; no change lost, none twice, whatever happens to the watch in between.
//
// How: list each kind, then watch all of them from the oldest of the lists, leaving out what a list already had. A watch
// that ends with `compacted` leads to new lists, of which the difference to what is known is handed over as events. A store
// that is not there is tried again after a random, growing time, so that a thousand hosts do not come back at once.
import { type Clock, systemClock, type TimerHandle } from '#base/clock.ts';
import { BrindleError, isBrindleError } from '#base/errors.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';
import type { Revision, Store, StoreEvent, Watch } from './store.ts';

export interface InformerOptions {
  /** Called once, with everything there is. */
  readonly onSnapshot: (resources: readonly Resource[], revision: Revision) => void;
  /** Called after the snapshot, in order. A `delete` found by listing again has the last resource known. */
  readonly onEvents: (events: readonly StoreEvent[]) => void;
  /** The store does not answer (or answers again: null). Told once for each change between the two. */
  readonly onTrouble?: (error: Error | null) => void;
  readonly clock?: Clock;
  /** 0 up to 1, for the random part of waiting. */
  readonly random?: () => number;
  /** The first waiting time in ms; it doubles up to `maxDelay`. Default 100 and 15 000. */
  readonly minDelay?: number;
  readonly maxDelay?: number;
}

interface Known {
  readonly key: ResourceKey;
  readonly resource: Resource;
}

export class Informer {
  readonly #store: Store;
  readonly #kinds: readonly string[];
  readonly #options: InformerOptions;
  readonly #clock: Clock;
  readonly #known = new Map<string, Known>();
  /** Of each kind, the revision up to which a list has told everything. */
  readonly #listed = new Map<string, Revision>();
  #position: Revision = 0;
  #synced = false;
  #trouble = false;
  #failures = 0;
  #watch: Watch | null = null;
  #timer: TimerHandle | null = null;
  #stopped = true;
  /** Grows with every start and stop: what belongs to an earlier run has no effect. */
  #run = 0;

  constructor(store: Store, kinds: readonly string[], options: InformerOptions) {
    this.#store = store;
    this.#kinds = kinds;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Whether the snapshot has been handed over. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Revision up to which everything has been handed over. */
  get revision(): Revision {
    return this.#position;
  }

  /** Everything that is known now, in no certain order. */
  *resources(): Generator<Resource> {
    for (const { resource } of this.#known.values()) yield resource;
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#run++;
    this.#list();
  }

  /** Nothing is called from now on. A new start goes on from what is known. */
  stop(): void {
    this.#stopped = true;
    this.#run++;
    this.#watch?.stop();
    this.#watch = null;
    this.#timer?.cancel();
    this.#timer = null;
  }

  #list(): void {
    const run = this.#run;
    this.#listAll(run).catch((error: unknown) => {
      if (run === this.#run) this.#retry(error, () => this.#list());
    });
  }

  async #listAll(run: number): Promise<void> {
    const listed = new Map<string, Revision>();
    const resources: Resource[] = [];
    for (const kind of this.#kinds) {
      const result = await this.#store.list(kind);
      if (run !== this.#run) return;
      listed.set(kind, result.revision);
      for (const resource of result.resources) resources.push(resource);
    }
    this.#listed.clear();
    for (const [kind, revision] of listed) this.#listed.set(kind, revision);
    this.#position = Math.min(...listed.values());
    this.#recovered();
    if (this.#synced) {
      const events = this.#difference(resources);
      if (events.length > 0) this.#options.onEvents(events);
    } else {
      for (const resource of resources) this.#remember(keyOf(resource), resource);
      this.#synced = true;
      this.#options.onSnapshot(resources, this.#position);
    }
    // The consumer may have stopped us.
    if (run === this.#run) this.#follow();
  }

  /** What was missed, worked out from what is there now. Deletions first: an address may have a new owner. */
  #difference(resources: readonly Resource[]): StoreEvent[] {
    const present = new Set<string>();
    const puts: StoreEvent[] = [];
    for (const resource of resources) {
      const key = keyOf(resource);
      const text = keyText(key);
      present.add(text);
      const before = this.#known.get(text)?.resource.metadata;
      const { uid, resourceVersion } = resource.metadata;
      if (before && before.uid === uid && before.resourceVersion === resourceVersion) continue;
      puts.push({ type: 'put', key, resource, revision: Number(resourceVersion ?? this.#position) });
    }
    const events: StoreEvent[] = [];
    for (const [text, { key, resource }] of this.#known) {
      if (!present.has(text)) events.push({ type: 'delete', key, last: resource, revision: this.#position });
    }
    for (const event of events) this.#known.delete(keyText(event.key));
    for (const event of puts) if (event.type === 'put') this.#remember(event.key, event.resource);
    return [...events, ...puts];
  }

  #follow(): void {
    const run = this.#run;
    // A driver that ended a watch twice must not lead to two watches.
    let ended = false;
    try {
      this.#watch = this.#store.watch({
        kinds: this.#kinds,
        fromRevision: this.#position,
        onEvents: (events) => {
          if (run === this.#run && !ended) this.#take(events);
        },
        onProgress: (revision) => {
          if (run !== this.#run || ended) return;
          this.#recovered();
          if (revision > this.#position) this.#position = revision;
        },
        onEnd: (error) => {
          if (run !== this.#run || ended) return;
          ended = true;
          this.#watch = null;
          if (isBrindleError(error, 'compacted')) this.#list();
          else this.#retry(error, () => this.#follow());
        },
      });
    } catch (error) {
      this.#retry(error, () => this.#follow());
    }
  }

  #take(events: readonly StoreEvent[]): void {
    this.#recovered();
    const fresh: StoreEvent[] = [];
    for (const event of events) {
      if (event.revision > this.#position) this.#position = event.revision;
      if (event.revision <= (this.#listed.get(event.key.kind) ?? 0)) continue;
      const text = keyText(event.key);
      if (event.type === 'put') this.#remember(event.key, event.resource);
      // Of a resource that was never told of, there is no end to tell.
      else if (!this.#known.delete(text)) continue;
      fresh.push(event);
    }
    if (fresh.length > 0) this.#options.onEvents(fresh);
  }

  #remember(key: ResourceKey, resource: Resource): void {
    this.#known.set(keyText(key), { key, resource });
  }

  #retry(cause: unknown, again: () => void): void {
    const error = cause instanceof Error ? cause : new BrindleError('internal', String(cause));
    if (!this.#trouble) {
      this.#trouble = true;
      this.#options.onTrouble?.(error);
    }
    if (this.#stopped) return;
    const { minDelay = 100, maxDelay = 15_000, random = Math.random } = this.#options;
    const limit = Math.min(maxDelay, minDelay * 2 ** Math.min(this.#failures++, 30));
    this.#timer = this.#clock.after(limit / 2 + (random() * limit) / 2, () => {
      this.#timer = null;
      again();
    });
  }

  #recovered(): void {
    this.#failures = 0;
    if (!this.#trouble) return;
    this.#trouble = false;
    this.#options.onTrouble?.(null);
  }
}
