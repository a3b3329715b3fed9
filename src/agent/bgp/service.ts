// The speaker of this host: keeps its configuration and its own routes equal to what resources and IPAM say.
// In: the resources of BGP_KINDS; the blocks that this host has; password files. Out: calls to the speaker, a few routes
// of the host itself.
// Changes of one turn of the event loop become one configuration; calls to the speaker never overlap.
//
// Traps:
// - Routes are in the speaker before its first session is, or a peer that held them over our restart would see an
//   End-of-RIB without them.
// - An aggregate is announced before the blocks inside are hidden, and they are shown again before it goes.
import { type Clock, systemClock, type TimerHandle } from '#base/clock.ts';
import { errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { ExplainView, SpeakerHandle } from '#bgp/speaker/api.ts';
import type { StoreEvent } from '#datastore/store.ts';
import { keyOf, keyText, type Resource } from '#model/resource.ts';
import type { ResourcePlan } from '../api/types.ts';
import { explainOwn } from './explain.ts';
import { BGP_KINDS, type BgpResources, bgpResources } from './hosts.ts';
import type { OwnBlock } from './own-routes.ts';
import { type BgpPlan, bgpPlanFor, noPlan } from './plan.ts';
import { resourcePlan } from './resource-plan.ts';
import type { PeerRoute } from './sessions.ts';
import { Transition } from './transition.ts';

/** How often it is seen whether a session may go, while one waits for it. */
const OBSERVE_MS = 1000;
const MOST_PATHS = 1_000_000;

/** Routes of the host that go with its BGP configuration. */
export interface BgpHostRoutes {
  /** The whole set of prefixes that go nowhere but by what is inside. */
  setBlackholes(prefixes: readonly string[]): void;
  /** The whole set of routes to peers. */
  setPeerRoutes(routes: readonly PeerRoute[]): void;
}

export interface BgpServiceOptions {
  readonly hostName: string;
  readonly speaker: SpeakerHandle;
  /** Blocks leased by this host. */
  readonly blocks: () => Iterable<OwnBlock>;
  readonly hostRoutes: BgpHostRoutes;
  /** The key in a password file; null when it cannot be read. */
  readonly readPassword: (path: string) => string | null;
  readonly log: Logger;
  readonly clock?: Clock;
}

export class BgpService {
  readonly #options: BgpServiceOptions;
  readonly #clock: Clock;
  readonly #resources = new Map<string, Resource>();
  readonly #transition = new Transition();
  /** The last content of each password file: one that cannot be read for a moment ends no session. */
  readonly #passwords = new Map<string, string>();
  #plan: BgpPlan = noPlan('the store has not answered yet');
  #problems = '';
  #configured = '';
  #routes = '';
  #announced: ReadonlySet<string> = new Set();
  #dirty = false;
  #working: Promise<void> | null = null;
  #timer: TimerHandle | null = null;
  #error: string | null = null;
  /** The store has answered: before that, nothing known is no reason to change anything. */
  #started = false;
  #stopped = false;

  constructor(options: BgpServiceOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
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

  /** Sessions of the fabric that wait until their routes come by others. */
  get retiring(): readonly string[] {
    return this.#transition.retiring;
  }

  snapshot(resources: readonly Resource[]): void {
    for (const resource of resources) this.#keep(resource);
    this.#started = true;
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

  /** Works out configuration and routes again, soon. To be called when blocks or password files may have changed. */
  refresh(): void {
    this.#dirty = true;
    if (this.#working || this.#stopped || !this.#started) return;
    this.#working = this.#work().finally(() => {
      this.#working = null;
      if (this.#dirty) this.refresh();
    });
  }

  /** Why a prefix is, or is not, told to a peer; to every peer when none is named. Knows of blocks besides the speaker. */
  async explain(prefix: string, peer?: string): Promise<readonly ExplainView[]> {
    const answers = await this.speaker.explain(prefix, peer);
    return explainOwn(answers, bgpResources(this.#resources.values()), [...this.#options.blocks()]);
  }

  /** What would change if these resources were applied, or deleted. Changes nothing. */
  planResources(resources: readonly Resource[], mode: 'apply' | 'delete'): Promise<ResourcePlan> {
    const changed = new Map(this.#resources);
    for (const resource of resources) {
      const key = keyOf(resource);
      if (mode === 'delete') changed.delete(keyText(key));
      else if ((BGP_KINDS as readonly string[]).includes(key.kind)) changed.set(keyText(key), resource);
    }
    return resourcePlan(this.#planOf(this.#resources), this.#planOf(changed), this.speaker);
  }

  async stop(mode: 'restart' | 'shutdown'): Promise<void> {
    this.#stopped = true;
    this.#dirty = false;
    this.#timer?.cancel();
    await this.#working;
    await this.#options.speaker.stop(mode);
  }

  #keep(resource: Resource): void {
    const key = keyOf(resource);
    if ((BGP_KINDS as readonly string[]).includes(key.kind)) this.#resources.set(keyText(key), resource);
  }

  #planOf(resources: ReadonlyMap<string, Resource>, announced?: ReadonlySet<string>): BgpPlan {
    const sorted = bgpResources(resources.values());
    return bgpPlanFor({
      hostName: this.#options.hostName,
      resources: sorted,
      blocks: [...this.#options.blocks()],
      passwords: this.#readPasswords(sorted),
      ...(announced && { announced }),
    });
  }

  #readPasswords({ groups }: BgpResources): Map<string, string | null> {
    const found = new Map<string, string | null>();
    for (const { spec } of groups) {
      const path = spec.session.passwordFile;
      if (path === undefined || found.has(path)) continue;
      const text = this.#options.readPassword(path) ?? this.#passwords.get(path) ?? null;
      if (text !== null) this.#passwords.set(path, text);
      found.set(path, text);
    }
    return found;
  }

  async #work(): Promise<void> {
    await new Promise((turn) => setImmediate(turn));
    this.#dirty = false;
    try {
      const wanted = this.#planOf(this.#resources);
      this.#plan = wanted;
      this.#tellProblems(wanted.problems);
      if (!wanted.config && this.#configured !== '') return; // what runs goes on
      const { hostRoutes } = this.#options;
      hostRoutes.setBlackholes(wanted.blackholes);
      hostRoutes.setPeerRoutes(wanted.peerRoutes);
      if (!wanted.config) return;
      if (this.#configured !== '') await this.#configure(this.#planOf(this.#resources, this.#announced));
      const routes = JSON.stringify(wanted.routes);
      if (routes !== this.#routes) {
        await this.speaker.setLocalRoutes(wanted.routes);
        this.#routes = routes;
      }
      this.#announced = new Set(wanted.aggregates);
      await this.#configure(wanted);
      this.#error = null;
    } catch (error) {
      this.#error = errorText(error);
      this.#options.log.error({ error: this.#error }, 'BGP configuration not taken');
    }
    this.#observeLater();
  }

  async #configure(plan: BgpPlan): Promise<void> {
    const config = this.#transition.next(plan, this.#clock.monotonic());
    const text = JSON.stringify(config);
    if (!config || text === this.#configured) return;
    const { changes } = await this.speaker.configure(config);
    this.#configured = text;
    for (const { peer, effect, fields } of changes) this.#options.log.info({ peer, effect, fields }, 'BGP peer');
  }

  /** While sessions wait to go: what the speaker knows is looked at, and what may go goes. */
  #observeLater(): void {
    this.#timer?.cancel();
    this.#timer = null;
    if (this.#stopped || !this.#transition.isUnderWay) return;
    this.#timer = this.#clock.after(OBSERVE_MS, () => {
      this.#observe().catch((error: unknown) => {
        this.#options.log.warn({ error: errorText(error) }, 'sessions that are to go are not looked at');
        this.#observeLater();
      });
    });
  }

  async #observe(): Promise<void> {
    const summaries = await this.speaker.summary();
    const { paths } = await this.speaker.routes({ view: 'accepted', limit: MOST_PATHS });
    if (this.#transition.observe({ summaries, paths }, this.#plan, this.#clock.monotonic())) this.refresh();
    else this.#observeLater();
  }

  #tellProblems(problems: readonly string[]): void {
    const text = problems.join('\n');
    if (text === this.#problems) return;
    this.#problems = text;
    for (const problem of problems) this.#options.log.warn({ problem }, 'BGP resource not honoured');
  }
}
