// Brings what changed in a host's blocks to their objects in the store, some time after: many changes, one write a block.
// A failing store delays it and nothing else.
import type { Clock, TimerHandle } from '#base/clock.ts';
import { errorText, isBrindleError } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { Store } from '#datastore/store.ts';
import type { IPBlock, IPBlockSpec } from '#model/ip-block.ts';
import { Prefix } from '#net/prefix.ts';
import { blockKey } from './leases.ts';

export interface PublisherOptions {
  readonly store: Store;
  readonly host: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** What the block's object should say; null when the block is no longer ours. */
  readonly assigned: (cidr: string) => IPBlockSpec['assigned'] | null;
  /** The store says that the lease is gone or another's. */
  readonly lost: (cidr: string, holder: string | null) => void;
}

/** Milliseconds: how long changes are collected, and the first and longest wait after a failure. */
const COLLECT = 100;
const RETRY_MIN = 500;
const RETRY_MAX = 30_000;

export class BlockPublisher {
  #options: PublisherOptions;
  #dirty = new Set<string>();
  #stored = new Map<string, IPBlock>();
  #timer: TimerHandle | null = null;
  #running: Promise<void> | null = null;
  #retry = RETRY_MIN;
  #stopped = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /** The object as the store has it, so that the next write need not read it. */
  seen(block: IPBlock): void {
    this.#stored.set(block.spec.cidr, block);
  }

  forget(cidr: string): void {
    this.#stored.delete(cidr);
    this.#dirty.delete(cidr);
  }

  mark(cidr: string): void {
    this.#dirty.add(cidr);
    this.#schedule(COLLECT);
  }

  /** Blocks whose object is behind. */
  get pending(): number {
    return this.#dirty.size;
  }

  /** Writes now what is to be written; one try. */
  async flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = null;
    if (this.#running) await this.#running;
    this.#running = this.#write();
    await this.#running;
    this.#running = null;
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = null;
  }

  #schedule(delay: number): void {
    if (this.#timer || this.#stopped) return;
    this.#timer = this.#options.clock.after(delay, () => {
      this.#timer = null;
      void this.flush();
    });
  }

  async #write(): Promise<void> {
    const { log } = this.#options;
    for (const cidr of [...this.#dirty]) {
      this.#dirty.delete(cidr);
      try {
        await this.#writeOne(cidr);
        this.#retry = RETRY_MIN;
      } catch (error) {
        log.warn({ block: cidr, error: errorText(error) }, 'a block cannot be written to the store; tried again later');
        this.#dirty.add(cidr);
        this.#schedule(this.#retry);
        this.#retry = Math.min(this.#retry * 2, RETRY_MAX);
        return;
      }
    }
  }

  async #writeOne(cidr: string): Promise<void> {
    const { store, host } = this.#options;
    for (;;) {
      const assigned = this.#options.assigned(cidr);
      if (!assigned) return;
      const stored = this.#stored.get(cidr) ?? ((await store.get(blockKey(Prefix.parse(cidr)))) as IPBlock | null);
      if (!stored || stored.spec.host !== host) {
        this.#stored.delete(cidr);
        this.#options.lost(cidr, stored?.spec.host ?? null);
        return;
      }
      try {
        const next: IPBlock = { ...stored, spec: { ...stored.spec, assigned } };
        this.#stored.set(cidr, (await store.update(next)) as IPBlock);
        return;
      } catch (error) {
        this.#stored.delete(cidr);
        if (!isBrindleError(error, 'conflict') && !isBrindleError(error, 'not-found')) throw error;
      }
    }
  }
}
