// Keeps the kernel's routes with our protocol number as they should be. In: routes wanted, by who wants them (workload,
// block, static, bgp). Out: batches of route changes; the state of every prefix for API and CLI.
//
// - What the kernel holds at the start is adopted, not flushed: forwarding goes on over a restart of the agent.
// - Nothing is removed for a source before that source has said `inSync`.
// - Changes by others are seen through notifications and mended.
//
// Traps:
// - A route of equal destination and metric that somebody else made is never overwritten: it is reported as a failure.
// - When an interface goes down the kernel drops its IPv4 routes without a notification.
// - Routes straight to an interface belong to endpoint wiring, which writes them before anybody asks for them here. They
//   are mended but never swept; only an explicit `delete` removes one.
import { errorText } from '#base/errors.ts';
import { DeltaTracker, type PendingDelete } from '#base/delta-tracker.ts';
import type { Clock, TimerHandle } from '#base/clock.ts';
import type { Logger } from '#base/log.ts';
import type { IpAddress } from '#net/address.ts';
import type { Prefix } from '#net/prefix.ts';
import type { KernelEvent, NetlinkApi, Subscription } from '#netlink/api.ts';
import { isKernelError, type KernelError } from '#netlink/errors.ts';
import { defaultMetric } from '#netlink/route/route.ts';
import type { Link, NewRoute, Operation, Route } from '#netlink/types.ts';
import { INTERFACE_PREFIX, ROUTE_PROTOCOL } from './ownership.ts';

/** In order of precedence where two want the same prefix. */
export const ROUTE_SOURCES = ['workload', 'block', 'static', 'bgp'] as const;
export type RouteSource = (typeof ROUTE_SOURCES)[number];

export interface RouteHop {
  /** null: directly connected. */
  readonly gateway: IpAddress | null;
  /** null: the kernel finds it by the gateway. */
  readonly ifindex: number | null;
  /** 1 to 256; default 1. */
  readonly weight?: number;
  readonly onlink?: boolean;
}

export interface DesiredRoute {
  readonly destination: Prefix;
  /** Empty: blackhole. */
  readonly nextHops: readonly RouteHop[];
  /** Default: 0 for IPv4, 1024 for IPv6. */
  readonly metric?: number;
  readonly source?: IpAddress | null;
  readonly mtu?: number | null;
}

export type RouteState = 'installed' | 'pending' | 'failed';

export interface RouteStatus {
  readonly route: DesiredRoute;
  readonly wantedBy: RouteSource;
  readonly state: RouteState;
  /** Why it failed, for people; null otherwise. */
  readonly reason: string | null;
  /** errno of the failure; null otherwise. */
  readonly errno: string | null;
}

export interface RouteManagerOptions {
  readonly netlink: NetlinkApi;
  readonly clock: Clock;
  readonly log: Logger;
  /** Routing table; default main. */
  readonly table?: number;
  readonly protocol?: number;
  /** Called after each batch with the prefixes whose state may have changed. */
  readonly onStatus?: (destinations: readonly Prefix[]) => void;
}

const TABLE_MAIN = 254;
/** Changes a turn of the event loop: about 5 ms in the kernel. */
const BATCH = 500;
/** How long a notification may be under way. */
const FRESH_MS = 5000;
/** Entries looked at a turn where nothing has to be written. */
const SLICE = 5000;
const RETRY_MIN_MS = 1000;
const RETRY_MAX_MS = 30_000;

type Entry = Pick<Route, 'destination' | 'metric' | 'type' | 'nextHops' | 'source' | 'mtu'>;

export class RouteManager {
  readonly #options: RouteManagerOptions;
  readonly #netlink: NetlinkApi;
  readonly #table: number;
  readonly #protocol: number;
  readonly #wanted = new Map<RouteSource, Map<string, DesiredRoute>>(ROUTE_SOURCES.map((s) => [s, new Map()]));
  readonly #tracker = new DeltaTracker<string, Entry>(satisfies);
  /** Keys whose update was refused, until the next retry. */
  readonly #failed = new Map<string, KernelError>();
  /** Keys that are there, are not wanted, and may be removed. */
  readonly #sweep = new Set<string>();
  /** What is left to look through for `#sweep` since a source came into sync. */
  #scan: Iterator<PendingDelete<string, Entry>> | null = null;
  readonly #inSync = new Set<RouteSource>();
  /** Routes straight to an interface, by its index: the ones that vanish without notice. */
  readonly #direct = new Map<number, Set<string>>();
  /** Interfaces with routes by `noteWritten`, and when: that they were down until then we may hear only now. */
  readonly #fresh = new Map<number, number>();
  #subscription: Subscription | null = null;
  #resync: Promise<void> | null = null;
  #resyncAgain = false;
  #held: KernelEvent[] = [];
  #scheduled: NodeJS.Immediate | null = null;
  #retry: TimerHandle | null = null;
  #retryDelay = RETRY_MIN_MS;
  #waiters: (() => void)[] = [];
  #started = false;
  #closed = false;

  constructor(options: RouteManagerOptions) {
    this.#options = options;
    this.#netlink = options.netlink;
    this.#table = options.table ?? TABLE_MAIN;
    this.#protocol = options.protocol ?? ROUTE_PROTOCOL;
  }

  /** Reads what the kernel holds, then begins to write. */
  async start(): Promise<void> {
    this.#subscription = this.#netlink.subscribe({
      topics: ['route', 'link', 'address'],
      ignoreOwn: true,
      onEvents: (events) => this.#onEvents(events),
    });
    this.#started = true;
    this.#requestResync();
    await this.#resync;
  }

  /** Stops; the kernel keeps its routes. */
  close(): void {
    this.#closed = true;
    this.#subscription?.close();
    this.#retry?.cancel();
    if (this.#scheduled) clearImmediate(this.#scheduled);
    this.#scheduled = null;
    this.#settle();
  }

  set(source: RouteSource, route: DesiredRoute): void {
    const key = keyOf(route);
    this.#wanted.get(source)!.set(key, route);
    this.#choose(key);
  }

  /** Takes note of a route that another part of this process has written just now: we do not hear our own notifications. */
  noteWritten(route: DesiredRoute): void {
    const entry = entryOf(route);
    this.#note(keyOf(route), entry);
    const index = directInterface(entry);
    if (index !== null) this.#fresh.set(index, this.#options.clock.monotonic());
  }

  /** `metric` as it was given to `set`. */
  delete(source: RouteSource, destination: Prefix, metric?: number): void {
    const key = keyOf(metric === undefined ? { destination } : { destination, metric });
    if (this.#wanted.get(source)!.delete(key)) this.#choose(key);
  }

  /** Makes the source's routes exactly these. */
  replaceAll(source: RouteSource, routes: Iterable<DesiredRoute>): void {
    const own = this.#wanted.get(source)!;
    const next = new Map<string, DesiredRoute>();
    for (const route of routes) next.set(keyOf(route), route);
    for (const key of [...own.keys()]) {
      if (next.has(key)) continue;
      own.delete(key);
      this.#choose(key);
    }
    for (const route of next.values()) this.set(source, route);
  }

  /** The source has now given all its routes: what is left over of an earlier run may go. */
  inSync(source: RouteSource): void {
    this.#inSync.add(source);
    this.#scan = this.#tracker.pendingDeletes();
    this.#schedule();
  }

  /** The state of a prefix; null when nobody wants it. */
  status(destination: Prefix, metric?: number): RouteStatus | null {
    return this.#statusOf(keyOf(metric === undefined ? { destination } : { destination, metric }));
  }

  /** The state of all wanted prefixes. */
  *statuses(): Generator<RouteStatus> {
    for (const [key] of this.#tracker.desired) {
      const status = this.#statusOf(key);
      if (status) yield status;
    }
  }

  counts(): { installed: number; pending: number; failed: number } {
    const failed = this.#failed.size;
    const pending = this.#tracker.pendingUpdateCount - failed;
    return { installed: this.#tracker.desired.size - pending - failed, pending, failed };
  }

  /** Resolves when everything that can be written has been. Failures are not waited for. */
  flush(): Promise<void> {
    if (this.#closed || !this.#hasWork()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
      this.#schedule();
    });
  }

  #statusOf(key: string): RouteStatus | null {
    const wantedBy = ROUTE_SOURCES.find((source) => this.#wanted.get(source)!.has(key));
    if (!wantedBy) return null;
    const route = this.#wanted.get(wantedBy)!.get(key)!;
    const error = this.#failed.get(key);
    if (error) return { route, wantedBy, state: 'failed', reason: reasonOf(error), errno: error.errno };
    return {
      route,
      wantedBy,
      state: this.#tracker.isPending(key) ? 'pending' : 'installed',
      reason: null,
      errno: null,
    };
  }

  /** The first source in order of precedence decides what a key should be. */
  #choose(key: string): void {
    let route: DesiredRoute | undefined;
    for (const source of ROUTE_SOURCES) route ??= this.#wanted.get(source)!.get(key);
    this.#failed.delete(key);
    if (route) {
      this.#sweep.delete(key);
      this.#tracker.desired.set(key, entryOf(route));
    } else {
      this.#tracker.desired.delete(key);
      if (this.#tracker.actual.has(key)) this.#sweep.add(key);
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed || !this.#started || this.#resync) return;
    this.#scheduled = setImmediate(() => {
      this.#scheduled = null;
      this.#apply();
    });
  }

  #hasWork(): boolean {
    if (!this.#started || this.#resync) return true;
    return this.#scan !== null || this.#sweep.size > 0 || this.#tracker.pendingUpdateCount > this.#failed.size;
  }

  #apply(): void {
    this.#lookForStale();
    const keys: string[] = [];
    const operations: Operation[] = [];
    // Removals first: a route may have to make way for another of the same prefix.
    for (const key of this.#sweep) {
      if (keys.length >= BATCH) break;
      keys.push(key);
      operations.push(this.#deletion(key));
    }
    const deletions = keys.length;
    for (const { key, desired, actual } of this.#tracker.pendingUpdates()) {
      if (keys.length >= BATCH) break;
      if (this.#failed.has(key)) continue;
      keys.push(key);
      operations.push({ op: actual ? 'route-replace' : 'route-add', route: this.#newRoute(desired) });
    }
    if (keys.length > 0) {
      this.#execute(keys, deletions, operations);
      this.#options.onStatus?.(destinations(operations));
    }
    if (this.#hasWork()) this.#schedule();
    else this.#settle();
  }

  #execute(keys: readonly string[], deletions: number, operations: readonly Operation[]): void {
    const outcomes = this.#netlink.execute(operations);
    for (const [i, key] of keys.entries()) {
      const error = outcomes[i]?.error ?? null;
      if (i < deletions) {
        // ESRCH: it was gone already.
        if (error && !isKernelError(error, 'ESRCH')) {
          this.#options.log.warn({ error: errorText(error) }, 'stale route could not be removed');
        }
        this.#forget(key);
      } else if (error) this.#fail(key, error);
      else this.#note(key, this.#tracker.desired.get(key)!);
    }
  }

  #fail(key: string, error: KernelError): void {
    this.#failed.set(key, error);
    // Where we replaced, our route may have been removed meanwhile; where we added, it may be there after all.
    if (isKernelError(error, 'EEXIST', 'ENOENT')) this.#forget(key);
    if (this.#retry) return;
    this.#retry = this.#options.clock.after(this.#retryDelay, () => {
      this.#retry = null;
      this.#retryDelay = Math.min(this.#retryDelay * 2, RETRY_MAX_MS);
      const exists = [...this.#failed.values()].some((e) => e.errno === 'EEXIST');
      this.#failed.clear();
      if (exists) this.#requestResync();
      else this.#schedule();
    });
  }

  /** The kernel's surroundings have changed: what was refused for want of a way may be possible now. */
  #retryNow(link: Link | null): void {
    // A container's interface matters only to the routes straight to it; there may be hundreds of them a second.
    const only = link?.name.startsWith(INTERFACE_PREFIX) ? link.index : null;
    let found = false;
    for (const [key, error] of this.#failed) {
      const hops = this.#tracker.desired.get(key)?.nextHops ?? [];
      if (error.errno === 'EEXIST' || (only !== null && !hops.some((hop) => hop.ifindex === only))) continue;
      this.#failed.delete(key);
      found = true;
    }
    if (!found) return;
    this.#retryDelay = RETRY_MIN_MS;
    this.#schedule();
  }

  #lookForStale(): void {
    for (let i = 0; this.#scan && i < SLICE; i++) {
      const next = this.#scan.next();
      if (next.done) this.#scan = null;
      else if (this.#isStale(next.value.actual)) this.#sweep.add(next.value.key);
    }
  }

  /** Whether a route that nobody wants may be removed without its owner's word. */
  #isStale(actual: Entry): boolean {
    if (!this.#inSync.has('static')) return false;
    if (actual.type === 'blackhole') return this.#inSync.has('block');
    return actual.nextHops.some((hop) => hop.gateway !== null) && this.#inSync.has('bgp');
  }

  #deletion(key: string): Operation {
    const { destination, metric } = this.#tracker.actual.get(key)!;
    return { op: 'route-delete', route: { destination, metric, table: this.#table, protocol: this.#protocol } };
  }

  #newRoute(entry: Entry): NewRoute {
    const { destination, metric, type, source, mtu, nextHops } = entry;
    return { destination, metric, type, source, mtu, nextHops, table: this.#table, protocol: this.#protocol };
  }

  #note(key: string, entry: Entry): void {
    this.#unindex(key);
    this.#tracker.actual.set(key, entry);
    this.#failed.delete(key);
    if (!this.#tracker.desired.has(key) && this.#isStale(entry)) this.#sweep.add(key);
    const index = directInterface(entry);
    if (index === null) return;
    const keys = this.#direct.get(index) ?? new Set();
    this.#direct.set(index, keys.add(key));
  }

  #forget(key: string): void {
    this.#unindex(key);
    this.#tracker.actual.delete(key);
    this.#sweep.delete(key);
  }

  #unindex(key: string): void {
    const before = this.#tracker.actual.get(key);
    const index = before ? directInterface(before) : null;
    if (index === null) return;
    const keys = this.#direct.get(index);
    keys?.delete(key);
    if (keys?.size === 0) this.#direct.delete(index);
  }

  #onEvents(events: readonly KernelEvent[]): void {
    if (this.#resync) {
      this.#held.push(...events);
      return;
    }
    for (const event of events) this.#onEvent(event);
    this.#schedule();
  }

  #onEvent(event: KernelEvent): void {
    if (event.type === 'resync') this.#requestResync();
    else if (event.type === 'route' || event.type === 'route-removed') {
      const { route } = event;
      if (route.table !== this.#table) return;
      // A replacement by another program is told only as a route of that program.
      if (event.type === 'route' && route.protocol === this.#protocol) this.#note(keyOf(route), route);
      else if (event.type === 'route' || route.protocol === this.#protocol) this.#forget(keyOf(route));
    } else if (event.type === 'link' && !event.link.up && this.#isFresh(event.link.index)) {
      // From before the interface was put up and got its routes.
    } else if (event.type === 'link-removed' || (event.type === 'link' && !event.link.up)) {
      this.#interfaceDown(event.link.index, event.link.name.startsWith(INTERFACE_PREFIX));
    } else if (event.type === 'link') this.#retryNow(event.link);
    else if (event.type === 'address') this.#retryNow(null);
  }

  /** Whether its routes were written lately, and it is up, so that a notification of its being down is an old one. */
  #isFresh(index: number): boolean {
    const since = this.#fresh.get(index);
    if (since === undefined) return false;
    if (this.#options.clock.monotonic() - since < FRESH_MS) return this.#netlink.getLink(index)?.up === true;
    this.#fresh.delete(index);
    return false;
  }

  /** The kernel has dropped the routes whose only way was this interface. */
  #interfaceDown(index: number, ours: boolean): void {
    this.#fresh.delete(index);
    for (const key of [...(this.#direct.get(index) ?? [])]) this.#forget(key);
    if (ours) return; // nothing is routed through a container's interface
    let unknown = false;
    for (const [key, entry] of [...this.#tracker.actual]) {
      if (entry.nextHops.some((hop) => hop.ifindex === null)) unknown = true;
      else if (entry.nextHops.length > 0 && entry.nextHops.every((hop) => hop.ifindex === index)) this.#forget(key);
    }
    // Where the kernel chose the interface we have to ask which routes it dropped.
    if (unknown) this.#requestResync();
  }

  #requestResync(): void {
    if (this.#resync) {
      this.#resyncAgain = true;
      return;
    }
    const run = async (): Promise<void> => {
      do {
        this.#resyncAgain = false;
        await this.#readKernel();
      } while (this.#resyncAgain && !this.#closed);
      this.#resync = null;
      this.#onEvents(this.#held.splice(0));
    };
    this.#resync = run();
  }

  async #readKernel(): Promise<void> {
    try {
      const routes = await this.#netlink.listRoutesAsync({ table: this.#table, protocol: this.#protocol });
      if (this.#closed) return;
      // Notifications from before the list was read are older than the list, but those of one route come in order:
      // replaying them on top ends in the same state.
      const present = new Set<string>();
      await inSlices(routes, (route) => {
        const key = keyOf(route);
        present.add(key);
        this.#note(key, route);
      });
      await inSlices(this.#tracker.actual, ([key]) => {
        if (!present.has(key)) this.#forget(key);
      });
    } catch (error) {
      this.#options.log.warn({ error: errorText(error) }, 'routes could not be listed; tried again');
      await new Promise<void>((resolve) => void this.#options.clock.after(RETRY_MIN_MS, resolve));
      this.#resyncAgain = true;
    }
  }

  #settle(): void {
    for (const resolve of this.#waiters.splice(0)) resolve();
  }
}

/** Goes through many items, giving the event loop its turn now and then. */
async function inSlices<T>(items: Iterable<T>, each: (item: T) => void): Promise<void> {
  let count = 0;
  for (const item of items) {
    each(item);
    if (++count % SLICE === 0) await new Promise((resolve) => setImmediate(resolve));
  }
}

function keyOf(route: { readonly destination: Prefix; readonly metric?: number }): string {
  const { destination, metric } = route;
  return metric === undefined || metric === defaultMetric(destination.family)
    ? destination.toString()
    : `${destination} metric ${metric}`;
}

function entryOf(route: DesiredRoute): Entry {
  return {
    destination: route.destination,
    metric: route.metric ?? defaultMetric(route.destination.family),
    type: route.nextHops.length === 0 ? 'blackhole' : 'unicast',
    source: route.source ?? null,
    mtu: route.mtu ?? null,
    nextHops: route.nextHops.map((hop) => ({
      gateway: hop.gateway,
      ifindex: hop.ifindex,
      weight: hop.weight ?? 1,
      onlink: hop.onlink ?? false,
      dead: false,
    })),
  };
}

/** Whether a route in the kernel is what is wanted. The order of next hops does not matter. */
function satisfies(desired: Entry, actual: Entry): boolean {
  if (desired.type !== actual.type || desired.nextHops.length !== actual.nextHops.length) return false;
  if (desired.mtu !== actual.mtu) return false;
  if (desired.source && !(actual.source && desired.source.equals(actual.source))) return false;
  return desired.nextHops.every((want) =>
    actual.nextHops.some(
      (have) =>
        (want.ifindex === null || have.ifindex === null || want.ifindex === have.ifindex) &&
        want.weight === have.weight &&
        (want.gateway === null ? have.gateway === null : have.gateway !== null && want.gateway.equals(have.gateway)),
    ),
  );
}

function directInterface(entry: Entry): number | null {
  const [hop] = entry.nextHops;
  return hop && entry.nextHops.length === 1 && hop.gateway === null ? hop.ifindex : null;
}

function reasonOf(error: KernelError): string {
  if (error.errno === 'EEXIST') return 'another program made a route with the same destination and metric';
  return errorText(error);
}

function destinations(operations: readonly Operation[]): Prefix[] {
  return operations.flatMap((o) => ('route' in o ? [o.route.destination] : []));
}
