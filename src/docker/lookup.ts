// Finds the containers of endpoints that have just joined: dockerd tells a driver only ids, and answers no question while
// it waits for the driver. In: ids of endpoints. Out: their container, once; until then the endpoint stays closed.
// One question serves all endpoints that wait; it is repeated, ever more slowly, while any does.
import type { Clock, TimerHandle } from '#base/clock.ts';
import { errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { Engine, EngineContainer } from './dependencies.ts';

/** First and longest wait between two questions, in milliseconds. */
const WAIT = { first: 5, longest: 2_000 };
const GROWTH = 1.5;
/** A container that is not known after this long, in milliseconds, is worth a warning; one each such time. */
const PATIENCE = 30_000;

export interface LookupOptions {
  readonly engine: Engine;
  readonly clock: Clock;
  readonly log: Logger;
  /** Called until it succeeds. */
  readonly onFound: (endpointId: string, container: EngineContainer, network: string) => Promise<void>;
}

export class Lookup {
  readonly #options: LookupOptions;
  /** Endpoint -> its network, and since when it waits (ms, monotonic). */
  readonly #waiting = new Map<string, { readonly networkId: string; since: number }>();
  #timer: TimerHandle | null = null;
  #asking = false;
  #wait = WAIT.first;
  #stopped = false;

  constructor(options: LookupOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#waiting.size;
  }

  has(endpointId: string): boolean {
    return this.#waiting.has(endpointId);
  }

  add(endpointId: string, networkId: string): void {
    this.#waiting.set(endpointId, { networkId, since: this.#options.clock.monotonic() });
    this.#wait = WAIT.first;
    this.#timer?.cancel();
    this.#timer = null;
    this.#schedule();
  }

  remove(endpointId: string): void {
    this.#waiting.delete(endpointId);
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #schedule(): void {
    if (this.#timer || this.#asking || this.#stopped || this.#waiting.size === 0) return;
    this.#timer = this.#options.clock.after(this.#wait, () => {
      this.#timer = null;
      this.#asking = true;
      this.#wait = Math.min(this.#wait * GROWTH, WAIT.longest);
      void this.#ask().finally(() => {
        this.#asking = false;
        this.#schedule();
      });
    });
  }

  async #ask(): Promise<void> {
    const { engine, clock, log, onFound } = this.#options;
    let trouble: string | null = null;
    try {
      const networks = new Set([...this.#waiting.values()].map((entry) => entry.networkId));
      for (const container of await engine.containers([...networks])) {
        for (const { endpointId, network } of container.endpoints) {
          const entry = this.#waiting.get(endpointId);
          if (!entry) continue;
          await onFound(endpointId, container, network);
          if (this.#waiting.get(endpointId) === entry) this.#waiting.delete(endpointId);
        }
      }
    } catch (error) {
      trouble = errorText(error);
    }
    const now = clock.monotonic();
    for (const [endpointId, entry] of this.#waiting) {
      if (now - entry.since < PATIENCE) continue;
      entry.since = now;
      log.warn(
        { endpoint: endpointId, error: trouble ?? 'Docker names no container with this endpoint' },
        "a container's name and labels are not known; its network stays closed until they are",
      );
    }
  }
}
