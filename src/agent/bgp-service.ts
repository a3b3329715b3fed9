// The speaker of this host: keeps its configuration and its own routes equal to what resources and IPAM say.
// In: Node, BGPConfiguration, BGPPeer, BGPFilter, IPPool resources; the blocks that this host has. Out: calls to the speaker.
// Changes of one turn of the event loop become one configuration; calls to the speaker never overlap.
import { errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { LocalRoute, SpeakerHandle } from '#bgp/speaker/api.ts';
import type { StoreEvent } from '#datastore/store.ts';
import { keyOf, keyText, type Resource } from '#model/resource.ts';
import { type BgpPlan, bgpPlanFor } from './bgp-config.ts';

export const BGP_KINDS = ['Node', 'BGPConfiguration', 'BGPPeer', 'BGPFilter', 'IPPool'] as const;

export interface OwnBlock {
  readonly cidr: string;
  readonly pool: string;
}

export interface BgpServiceOptions {
  readonly hostName: string;
  readonly speaker: SpeakerHandle;
  /** Blocks leased by this host. */
  readonly blocks: () => Iterable<OwnBlock>;
  readonly log: Logger;
}

export class BgpService {
  readonly #options: BgpServiceOptions;
  readonly #resources = new Map<string, Resource>();
  #plan: BgpPlan = { config: null, reason: 'the store has not answered yet', problems: [] };
  #configured = '';
  #routes = '';
  #dirty = false;
  #working: Promise<void> | null = null;
  #error: string | null = null;
  #stopped = false;

  constructor(options: BgpServiceOptions) {
    this.#options = options;
  }

  get speaker(): SpeakerHandle {
    return this.#options.speaker;
  }

  /** Whether this host speaks BGP, and if not why; what resources asked for in vain. */
  get plan(): BgpPlan {
    return this.#plan;
  }

  /** Why the speaker could not take the last configuration; null when it did. */
  get error(): string | null {
    return this.#error;
  }

  snapshot(resources: readonly Resource[]): void {
    for (const resource of resources) this.#keep(resource);
    this.refresh();
  }

  events(events: readonly StoreEvent[]): void {
    let relevant = false;
    for (const event of events) {
      if (!(BGP_KINDS as readonly string[]).includes(event.key.kind)) continue;
      relevant = true;
      if (event.type === 'put') this.#keep(event.resource);
      else this.#resources.delete(keyText(event.key));
    }
    if (relevant) this.refresh();
  }

  /** Works out configuration and routes again, soon. To be called when the blocks have changed. */
  refresh(): void {
    this.#dirty = true;
    if (this.#working || this.#stopped) return;
    this.#working = this.#work().finally(() => {
      this.#working = null;
      if (this.#dirty) this.refresh();
    });
  }

  async stop(mode: 'restart' | 'shutdown'): Promise<void> {
    this.#stopped = true;
    this.#dirty = false;
    await this.#working;
    await this.#options.speaker.stop(mode);
  }

  #keep(resource: Resource): void {
    const key = keyOf(resource);
    if ((BGP_KINDS as readonly string[]).includes(key.kind)) this.#resources.set(keyText(key), resource);
  }

  #ofKind(kind: string): Resource[] {
    return [...this.#resources.values()].filter((resource) => keyOf(resource).kind === kind);
  }

  async #work(): Promise<void> {
    await new Promise((turn) => setImmediate(turn));
    this.#dirty = false;
    const { hostName, speaker, log } = this.#options;
    this.#plan = bgpPlanFor(hostName, {
      nodes: this.#ofKind('Node'),
      configurations: this.#ofKind('BGPConfiguration'),
      peers: this.#ofKind('BGPPeer'),
      filters: this.#ofKind('BGPFilter'),
    });
    const { config, problems } = this.#plan;
    for (const problem of problems) log.warn({ problem }, 'BGP resource not honoured');
    if (!config) return;
    try {
      const routes = this.#localRoutes();
      const routesText = JSON.stringify(routes);
      if (routesText !== this.#routes) {
        await speaker.setLocalRoutes(routes);
        this.#routes = routesText;
      }
      const configText = JSON.stringify(config);
      if (configText !== this.#configured) {
        const { changes } = await speaker.configure(config);
        this.#configured = configText;
        for (const { peer, effect, fields } of changes) log.info({ peer, effect, fields }, 'BGP peer');
      }
      this.#error = null;
    } catch (error) {
      this.#error = errorText(error);
      log.error({ error: this.#error }, 'BGP configuration not taken');
    }
  }

  /** Own blocks as aggregates, unless their pool is not to be exported. */
  #localRoutes(): LocalRoute[] {
    const hidden = new Set(
      this.#ofKind('IPPool')
        .filter((pool) => (pool.spec as { disableBGPExport?: boolean }).disableBGPExport === true)
        .map((pool) => pool.metadata.name),
    );
    return [...this.#options.blocks()]
      .filter((block) => !hidden.has(block.pool))
      .map((block) => ({ prefix: block.cidr, source: 'block' }));
  }
}
