// Keeps the store's WorkloadEndpoints of this host equal to what the host has. ADD and DEL do not wait for it.
// In: `put` and `drop` of the host's endpoints, and the store's own objects as the watch shows them. Out: writes to the
// store, one at a time, repeated with a growing delay while the store is away. Only objects of this host are touched.
import type { Clock, TimerHandle } from '#base/clock.ts';
import { errorText, isBrindleError } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { Store } from '#datastore/store.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';

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
  #retry: TimerHandle | null = null;
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

  /** Resolves when nothing waits, or when the store is away. */
  async settle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#retry?.cancel();
    await this.#running;
  }

  #enqueue(key: ResourceKey, resource: Resource | null): void {
    this.#pending.set(keyText(key), { key, resource });
    this.#start();
  }

  #start(): void {
    if (this.#running || this.#retry || this.#stopped) return;
    this.#running = this.#drain().finally(() => {
      this.#running = null;
      if (this.#pending.size > 0) this.#start();
    });
  }

  async #drain(): Promise<void> {
    for (const [text, item] of this.#pending) {
      if (this.#stopped) return;
      try {
        await this.#write(item.key, item.resource);
        if (this.#pending.get(text) === item) this.#pending.delete(text);
        this.#delay = FIRST_DELAY;
        this.#lastError = null;
      } catch (error) {
        this.#lastError = errorText(error);
        this.#options.log.warn(
          { key: text, error: this.#lastError, retryMs: this.#delay },
          'endpoint not written to the store',
        );
        this.#retry = this.#options.clock.after(this.#delay, () => {
          this.#retry = null;
          this.#start();
        });
        this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY);
        return;
      }
    }
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
