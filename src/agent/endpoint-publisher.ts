// Keeps the store's WorkloadEndpoints of this host equal to what the host has. ADD and DEL do not wait for it.
// In: `put` and `drop` of the host's endpoints, and the store's own objects as the watch shows them. Out: writes to the
// store, a batch at a time, repeated with a growing delay while the store is away. Only objects of this host are touched.
// Changes are collected for a moment first: it makes one commit of many, and keeps the store's work out of the way of the
// container runtime, which waits for policy and not for this.
import type { Clock, TimerHandle } from '#base/clock.ts';
import { errorText, isBrindleError } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { Store } from '#datastore/store.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';

/** Milliseconds that changes are collected. */
const COLLECT = 10;
/** Writes that are under way at once. */
const BATCH = 64;
const FIRST_DELAY = 100;
const LONGEST_DELAY = 15_000;

export interface EndpointPublisherOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

export class EndpointPublisher {
  readonly #options: EndpointPublisherOptions;
  /** Key text -> what should be there; null: nothing. Kept until written. */
  readonly #pending = new Map<string, { key: ResourceKey; resource: Resource | null }>();
  #running: Promise<void> | null = null;
  #delay = FIRST_DELAY;
  /** Set while a start is due: after the collecting, or after a failure. */
  #due: TimerHandle | null = null;
  #stopped = false;
  #lastError: string | null = null;

  constructor(options: EndpointPublisherOptions) {
    this.#options = options;
  }

  /** Writes that wait, and why the last one failed (null when it did not). */
  get status(): { readonly pending: number; readonly lastError: string | null } {
    return { pending: this.#pending.size, lastError: this.#lastError };
  }

  put(resource: Resource): void {
    const key = keyOf(resource);
    this.#enqueue(key, resource);
  }

  drop(key: ResourceKey): void {
    this.#enqueue(key, null);
  }

  /** Writes what waits now. Resolves when nothing waits, or when the store is away. */
  async settle(): Promise<void> {
    this.#due?.cancel();
    this.#due = null;
    this.#start();
    while (this.#running) await this.#running;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#due?.cancel();
    await this.#running;
  }

  #enqueue(key: ResourceKey, resource: Resource | null): void {
    this.#pending.set(keyText(key), { key, resource });
    if (!this.#running && !this.#due) this.#startAfter(COLLECT);
  }

  #startAfter(delay: number): void {
    this.#due = this.#options.clock.after(delay, () => {
      this.#due = null;
      this.#start();
    });
  }

  #start(): void {
    if (this.#running || this.#due || this.#stopped || this.#pending.size === 0) return;
    this.#running = this.#drain().finally(() => {
      this.#running = null;
      if (this.#pending.size > 0 && !this.#due && !this.#stopped) this.#startAfter(COLLECT);
    });
  }

  async #drain(): Promise<void> {
    while (this.#pending.size > 0 && !this.#stopped) {
      const batch = [...this.#pending.entries()].slice(0, BATCH);
      const outcomes = await Promise.allSettled(batch.map(([, item]) => this.#write(item.key, item.resource)));
      let failure: unknown = null;
      for (const [i, [text, item]] of batch.entries()) {
        const outcome = outcomes[i]!;
        if (outcome.status === 'rejected') failure = outcome.reason;
        else if (this.#pending.get(text) === item) this.#pending.delete(text);
      }
      if (failure !== null) {
        this.#failed(failure);
        return;
      }
      this.#delay = FIRST_DELAY;
      this.#lastError = null;
    }
  }

  #failed(error: unknown): void {
    this.#lastError = errorText(error);
    this.#options.log.warn(
      { waiting: this.#pending.size, error: this.#lastError, retryMs: this.#delay },
      'endpoints not written to the store',
    );
    this.#startAfter(this.#delay);
    this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY);
  }

  async #write(key: ResourceKey, resource: Resource | null): Promise<void> {
    const { store } = this.#options;
    if (!resource) {
      try {
        await store.delete(key);
      } catch (error) {
        if (!isBrindleError(error, 'not-found')) throw error;
      }
      return;
    }
    try {
      await store.create(resource);
    } catch (error) {
      if (!isBrindleError(error, 'already-exists')) throw error;
      const { resourceVersion: _, ...metadata } = resource.metadata;
      try {
        await store.update({ ...resource, metadata });
      } catch (updateError) {
        if (!isBrindleError(updateError, 'not-found')) throw updateError;
        await store.create(resource);
      }
    }
  }
}
