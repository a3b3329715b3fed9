// From the store and the container runtime to the kernel: feeds the calculation and hands what comes out to the planes.
// In: snapshot and deltas of the store, the host's own endpoints and blocks. Out: updates to the policy plane and blocks to the
// route plane. Changes of one turn of the event loop go together; `commit()` does not wait for the turn.
import { errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { CalcGraph } from '#calc/graph.ts';
import type { StoreEvent } from '#datastore/store.ts';
import type { DesiredUpdate } from '#model/desired.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';
import type { LocalEndpoints } from './local-endpoints.ts';

/** Resolves when the updates are in force in the kernel. */
export interface PolicyPlane {
  apply(updates: readonly DesiredUpdate[]): Promise<void>;
}

export interface BlockPlane {
  setBlock(cidr: string, present: boolean): void;
  /** What is not desired by now may be removed. */
  inSync(): void;
}

export interface PipelineOptions {
  readonly calc: CalcGraph;
  readonly policy: PolicyPlane;
  readonly blocks: BlockPlane;
  readonly endpoints: LocalEndpoints;
  readonly log: Logger;
}

export class Pipeline {
  readonly #options: PipelineOptions;
  #scheduled = false;

  constructor(options: PipelineOptions) {
    this.#options = options;
  }

  /** The whole state of the store, once; from then on the kernel may be swept. */
  snapshot(resources: readonly Resource[]): Promise<void> {
    const { calc, endpoints } = this.#options;
    const listed = new Set<string>();
    for (const resource of resources) {
      if (endpoints.owns(resource)) listed.add(keyText(keyOf(resource)));
      this.#put(resource);
    }
    endpoints.storeListed(listed);
    calc.setInSync();
    return this.commit();
  }

  events(events: readonly StoreEvent[]): void {
    for (const event of events) {
      if (event.type === 'put') this.#put(event.resource);
      else this.#remove(event.key);
    }
    this.schedule();
  }

  /** Sends what has changed on the way now. Resolves when it is in force. */
  async commit(): Promise<void> {
    const { calc, policy, blocks } = this.#options;
    const forPolicy: DesiredUpdate[] = [];
    for (const update of calc.flush()) {
      if (update.type === 'block') blocks.setBlock(update.block.cidr, true);
      else if (update.type === 'block-removed') blocks.setBlock(update.cidr, false);
      else {
        forPolicy.push(update);
        if (update.type === 'in-sync') blocks.inSync();
      }
    }
    if (forPolicy.length > 0) await policy.apply(forPolicy);
  }

  /** Sends what has changed and resolves when all that was ever sent is in force, or was refused and is reported. */
  async settled(): Promise<void> {
    await this.commit();
    await this.#options.policy.apply([]);
  }

  /** As `commit`, at the end of this turn of the event loop, for callers that need not wait. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.commit().catch((error: unknown) => {
        this.#options.log.error({ error: errorText(error) }, 'policy not applied');
      });
    });
  }

  #put(resource: Resource): void {
    const { calc, endpoints } = this.#options;
    if (endpoints.owns(resource)) endpoints.storePut(resource);
    else calc.update(resource);
  }

  #remove(key: ResourceKey): void {
    const { calc, endpoints } = this.#options;
    if (key.kind === 'WorkloadEndpoint') endpoints.storeDeleted(key);
    calc.remove(key);
  }
}
