// The policy dataplane: what the agent tells of sets, policies and endpoints, in force in the kernel's nftables.
//
// In: DesiredUpdate batches. All `apply` calls of one turn of the event loop become one transaction; during a transaction the next
// one gathers. Out: a promise a batch, resolved when the kernel has committed it; counters; the status of each object.
//
// Somebody else who changes our table is noticed; it is then listed and put right.
// Start: what the kernel has is listed once and adopted; only what differs is replaced, atomically, so a restart neither drops nor opens
// anything. Nothing is removed before `in-sync`. One object that the kernel refuses is closed and reported, the others go on.
import { type Clock, systemClock, type TimerHandle } from '#base/clock.ts';
import { BrindleError, errorText } from '#base/errors.ts';
import { type Logger, silentLogger } from '#base/log.ts';
import type { DesiredUpdate } from '#model/desired.ts';
import type { CommitFailure, ForeignChange, NftDriver } from '#nft/driver.ts';
import { Transaction } from '#nft/transaction.ts';
import { EndpointManager } from './managers/endpoint-manager.ts';
import { HOST_OWNER, HostEndpointManager } from './managers/host-endpoint-manager.ts';
import { NAT_OWNER, NatManager } from './managers/nat-manager.ts';
import { PolicyManager } from './managers/policy-manager.ts';
import { type Built, Reconciler } from './reconciler.ts';
import { baseChains, DISPATCH_FROM, DISPATCH_TO } from './render/base.ts';
import type { RuleLabel } from './render/chain.ts';
import type { PolicyShapes } from './render/endpoint.ts';
import { defaultRenderOptions, markBits, type RenderOptions } from './render/options.ts';
import { type ObjectStatus, StatusBoard } from './status.ts';

const RETRY_FIRST = 500;
const RETRY_LAST = 30_000;
/** Somebody who keeps on changing our table does not keep us from our work. */
const MEND_INTERVAL = 1000;

export interface DataplaneOptions {
  /** Closed by `stop`. */
  readonly driver: NftDriver;
  readonly logger?: Logger;
  readonly clock?: Clock;
  readonly render?: Partial<RenderOptions>;
}

/** The counter of one kernel rule. Several may carry the same label: add them. */
export interface RuleCounter {
  readonly label: RuleLabel;
  /** The nftables chain that the rule stands in, and its place there from 0. */
  readonly chain: string;
  readonly position: number;
  readonly packets: number;
  readonly bytes: number;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class Dataplane {
  readonly #driver: NftDriver;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #options: RenderOptions;
  readonly #reconciler: Reconciler;
  readonly #status = new StatusBoard();
  readonly #policies: PolicyManager;
  readonly #endpoints: EndpointManager;
  readonly #hosts: HostEndpointManager;
  readonly #nat: NatManager;
  #inSync = false;
  #started = false;
  #stopped = false;
  #scheduled = false;
  #running: Promise<void> | null = null;
  #waiters: Waiter[] = [];
  #retry: TimerHandle | null = null;
  #retryDelay = RETRY_FIRST;
  #watch: { close(): void } | null = null;
  #mend: TimerHandle | null = null;
  #lastMend = Number.NEGATIVE_INFINITY;
  #relist = false;

  constructor(options: DataplaneOptions) {
    this.#driver = options.driver;
    this.#logger = options.logger ?? silentLogger;
    this.#clock = options.clock ?? systemClock;
    this.#options = { ...defaultRenderOptions, ...options.render };
    markBits(this.#options.markMask);
    this.#reconciler = new Reconciler(this.#options.table, [DISPATCH_FROM, DISPATCH_TO]);
    this.#policies = new PolicyManager(this.#reconciler, this.#options, this.#status);
    const shapes: PolicyShapes = (id) => this.#policies.shape(id);
    this.#endpoints = new EndpointManager(this.#reconciler, this.#options, this.#status, shapes);
    this.#hosts = new HostEndpointManager(this.#reconciler, this.#options, this.#status, shapes);
    this.#nat = new NatManager(this.#reconciler, this.#options, this.#status);
    for (const chain of baseChains(this.#options)) this.#reconciler.wantChain('base', chain);
  }

  /** Adopts what the kernel has and puts the fixed part of the table in force. Throws `kernel`. */
  async start(): Promise<void> {
    if (this.#started) throw new BrindleError('internal', 'the dataplane is started already');
    this.#started = true;
    this.#watch = this.#driver.watch(this.#options.table, (change) => this.#tampered(change));
    this.#reconciler.adopt(await this.#driver.list(this.#options.table));
    await this.apply([]);
  }

  /**
   * Takes the updates over at once and resolves when the kernel has committed them. Rejects with `kernel` when the transaction as a
   * whole could not be made; it is then tried again by itself. A single bad object does not reject: see `status`.
   */
  apply(updates: readonly DesiredUpdate[]): Promise<void> {
    if (!this.#started || this.#stopped) {
      return Promise.reject(new BrindleError('unavailable', 'the dataplane does not run'));
    }
    this.#take(updates);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#schedule();
    });
  }

  /** How an object fares; null when it is not known. `kind` is that of the update which told of it. */
  status(kind: 'endpoint' | 'policy' | 'set' | 'nat', id: string): ObjectStatus | null {
    return this.#status.get(`${kind}:${id}`);
  }

  /** All objects that are not in force as written. */
  failures(): { readonly owner: string; readonly reason: string }[] {
    return [...this.#status.failures()];
  }

  /** Reads the counters of all rules that have a label, in no certain order. */
  async counters(): Promise<RuleCounter[]> {
    const state = await this.#driver.list(this.#options.table, { terse: true });
    const out: RuleCounter[] = [];
    for (const { chain } of this.#reconciler.wantedChains()) {
      const listed = state?.chains.get(chain.name);
      if (!listed) continue;
      for (const [position, { rule, label }] of chain.rules.entries()) {
        const there = listed.rules[position];
        if (!label || !there?.counter || there.comment !== rule.comment) continue;
        out.push({ label, chain: chain.name, position, ...there.counter });
      }
    }
    return out;
  }

  /** Waits for the running transaction and lets go of the kernel; what is in force stays in force. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#retry?.cancel();
    this.#mend?.cancel();
    this.#watch?.close();
    await this.#running?.catch(() => {});
    for (const waiter of this.#waiters.splice(0)) {
      waiter.reject(new BrindleError('unavailable', 'the dataplane was stopped'));
    }
    this.#driver.close();
  }

  /** Removes exactly our table; nothing when there is none. Works with no agent and after a crash. Throws `kernel`. */
  static async cleanup(driver: NftDriver, table: string = defaultRenderOptions.table): Promise<void> {
    const failure = await driver.commit(new Transaction(table).addTable().deleteTable());
    if (failure) throw failure.error;
  }

  #take(updates: readonly DesiredUpdate[]): void {
    const early: DesiredUpdate[] = [];
    for (const update of updates) if (!this.#takeOne(update)) early.push(update);
    for (const update of early) {
      if (update.type === 'set-delta' && !this.#takeOne(update)) {
        this.#logger.error({ set: update.delta.id }, 'a change of a set that was never told of');
      }
    }
  }

  /** False when the update needs another one of the batch first. */
  #takeOne(update: DesiredUpdate): boolean {
    switch (update.type) {
      case 'set':
        this.#policies.updateSet(update.set);
        return true;
      case 'set-delta':
        return this.#policies.changeSet(update.delta);
      case 'set-removed':
        this.#policies.removeSet(update.id);
        return true;
      case 'policy':
        this.#policies.updatePolicy(update.policy);
        return true;
      case 'policy-removed':
        this.#policies.removePolicy(update.id);
        return true;
      case 'endpoint':
        if (update.endpoint.kind === 'workload') this.#endpoints.update(update.endpoint);
        else this.#hosts.update(update.endpoint);
        return true;
      case 'endpoint-removed':
        if (this.#hosts.has(update.id)) this.#hosts.remove(update.id);
        else this.#endpoints.remove(update.id);
        return true;
      case 'block':
      case 'block-removed':
        return true; // the route manager's
      case 'pools':
        this.#nat.update(update.pools);
        return true;
      case 'in-sync':
        this.#inSync = true;
        return true;
    }
  }

  #schedule(): void {
    if (this.#scheduled || this.#running) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#running = this.#run().finally(() => {
        this.#running = null;
        if (this.#waiters.length > 0 && !this.#stopped) this.#schedule();
      });
    });
  }

  async #run(): Promise<void> {
    const waiters = this.#waiters;
    this.#waiters = [];
    try {
      await this.#commit();
      this.#retryDelay = RETRY_FIRST;
      for (const waiter of waiters) waiter.resolve();
    } catch (error) {
      const reason = error instanceof Error ? error : new BrindleError('internal', errorText(error));
      this.#logger.error({ error: errorText(error), retryMs: this.#retryDelay }, 'nftables transaction failed');
      for (const waiter of waiters) waiter.reject(reason);
      this.#retryLater();
    }
  }

  /** Somebody changed our table: what is there is listed anew and put right, at most once in MEND_INTERVAL. */
  #tampered(change: ForeignChange): void {
    if (this.#stopped || this.#mend) return;
    this.#logger.warn({ table: this.#options.table, by: change.by }, 'our nftables table was changed by somebody else');
    const wait = Math.max(0, this.#lastMend + MEND_INTERVAL - this.#clock.monotonic());
    this.#mend = this.#clock.after(wait, () => {
      this.#mend = null;
      this.#lastMend = this.#clock.monotonic();
      this.#relist = true;
      this.apply([]).catch(() => {}); // logged and tried again by the run itself
    });
  }

  #retryLater(): void {
    if (this.#stopped) return;
    this.#retry?.cancel();
    this.#retry = this.#clock.after(this.#retryDelay, () => {
      if (!this.#stopped && !this.#running) {
        this.apply([]).catch(() => {}); // logged and tried again by the run itself
      }
    });
    this.#retryDelay = Math.min(this.#retryDelay * 2, RETRY_LAST);
  }

  async #commit(): Promise<void> {
    let relisted = this.#relist;
    if (this.#relist) {
      this.#reconciler.adopt(await this.#driver.list(this.#options.table));
      this.#relist = false;
    }
    for (;;) {
      const reshaped = this.#policies.render(this.#inSync);
      this.#endpoints.policiesChanged(reshaped);
      this.#hosts.policiesChanged(reshaped);
      this.#endpoints.render(this.#inSync);
      this.#hosts.render(this.#inSync);
      const built = this.#reconciler.build(this.#inSync);
      const owners = this.#status.takeRendered();
      const failure = built.transaction.isEmpty ? null : await this.#driver.commit(built.transaction);
      if (!failure) {
        built.done();
        this.#status.applied(owners);
        return;
      }
      this.#status.putBack(owners);
      if (!relisted && !built.transaction.error) {
        // The kernel may not have what we believe it has: look before blaming an object.
        relisted = true;
        this.#logger.warn({ error: failure.error.message }, 'nftables refused a transaction; listing the table anew');
        this.#reconciler.adopt(await this.#driver.list(this.#options.table));
        continue;
      }
      if (!this.#blame(built, failure)) throw failure.error;
    }
  }

  /** Closes the object at fault. False when there is none, or when it is closed already. */
  #blame(built: Built, failure: CommitFailure): boolean {
    const { transaction } = built;
    const owner = failure.command === null ? transaction.errorOwner : (transaction.owners[failure.command] ?? null);
    if (owner === HOST_OWNER) return this.#hosts.refuse(errorText(failure.error));
    if (owner === NAT_OWNER) return this.#nat.refuse(errorText(failure.error));
    const match = owner === null ? null : /^(endpoint|policy|set):(.*)$/s.exec(owner);
    if (!match) return false;
    const [, kind, id = ''] = match;
    const reason = errorText(failure.error);
    this.#logger.error({ owner, reason }, 'nftables refused an object; it is closed');
    if (kind === 'set') {
      this.#policies.refuseSet(id);
      this.#status.failed(`set:${id}`, reason);
      return true;
    }
    if (kind === 'policy') {
      if (this.#policies.isRefused(id)) return false;
      this.#policies.refusePolicy(id, reason);
      return true;
    }
    if (this.#endpoints.isRefused(id)) return false;
    this.#endpoints.refuse(id, reason);
    return true;
  }
}
