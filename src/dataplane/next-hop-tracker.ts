// Resolves BGP next hops to the gateways that packets really take. In: addresses to follow; the kernel's forwarding
// table and its notifications. Out: for each address its gateways and metric, or null while it cannot be reached; a
// callback when that changes. RFC 4271 section 9.1.2.1 (route resolvability).
//
// A next hop must not be resolved through routes that BGP made, or a route could keep itself alive: where the kernel's
// best match is a route of ours with a gateway (or a blackhole), the longest match among everybody else's routes counts
// instead. Routes of ours straight to a workload are as good as connected ones.
import type { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { PrefixTrie } from '#net/prefix-trie.ts';
import type { KernelEvent, NetlinkApi, Subscription } from '#netlink/api.ts';
import type { Route } from '#netlink/types.ts';
import { ROUTE_PROTOCOL } from './ownership.ts';

export interface Gateway {
  /** null: the next hop is on the link itself. */
  readonly address: IpAddress | null;
  readonly ifindex: number;
  readonly weight: number;
}

export interface ResolvedNextHop {
  /** Sorted; at least one. */
  readonly gateways: readonly Gateway[];
  /** Of the route that resolves it: the interior cost of RFC 4271 section 9.1.2.2 e. */
  readonly metric: number;
  /** The route it was found by. */
  readonly via: Prefix;
}

export interface NextHopTrackerOptions {
  readonly netlink: NetlinkApi;
  /** Called with what changed, in one batch a turn of the event loop. */
  readonly onChange: (changes: readonly NextHopChange[]) => void;
  /** Protocol number of our own routes. */
  readonly protocol?: number;
  /** Take our own routes with a gateway as well (recursive resolution over other BGP routes). Default false. */
  readonly resolveThroughOwn?: boolean;
  /** Whether a default route may resolve a next hop. Default true. */
  readonly resolveThroughDefault?: boolean;
}

export interface NextHopChange {
  readonly address: IpAddress;
  readonly resolved: ResolvedNextHop | null;
}

interface Tracked {
  readonly address: IpAddress;
  users: number;
  resolved: ResolvedNextHop | null;
}

const TABLE_MAIN = 254;
const TABLE_LOCAL = 255;

export class NextHopTracker {
  readonly #options: NextHopTrackerOptions;
  readonly #netlink: NetlinkApi;
  readonly #protocol: number;
  readonly #tracked = new Map<string, Tracked>();
  /** Routes of others in the main table, all metrics of a prefix together. */
  #foreign = new PrefixTrie<Route[]>();
  #subscription: Subscription | null = null;
  #stale = new Set<Tracked>();
  #scheduled: NodeJS.Immediate | null = null;

  constructor(options: NextHopTrackerOptions) {
    this.#options = options;
    this.#netlink = options.netlink;
    this.#protocol = options.protocol ?? ROUTE_PROTOCOL;
  }

  /** Reads the routes of others and follows changes. Before it, `track` resolves by the kernel's best match alone. */
  async start(): Promise<void> {
    this.#subscription = this.#netlink.subscribe({
      topics: ['route', 'link', 'address'],
      onEvents: (events) => this.#onEvents(events),
    });
    await this.#readForeign();
  }

  close(): void {
    this.#subscription?.close();
    this.#subscription = null;
    if (this.#scheduled) clearImmediate(this.#scheduled);
    this.#scheduled = null;
    this.#tracked.clear();
  }

  /** Follows an address and returns what it resolves to now. Several calls need as many of `untrack`. */
  track(address: IpAddress): ResolvedNextHop | null {
    const key = address.toString();
    const known = this.#tracked.get(key);
    if (known) {
      known.users++;
      return known.resolved;
    }
    const resolved = this.resolve(address);
    this.#tracked.set(key, { address, users: 1, resolved });
    return resolved;
  }

  untrack(address: IpAddress): void {
    const key = address.toString();
    const known = this.#tracked.get(key);
    if (!known || --known.users > 0) return;
    this.#tracked.delete(key);
    this.#stale.delete(known);
  }

  /** What an address resolves to at this moment. */
  resolve(address: IpAddress): ResolvedNextHop | null {
    const best = this.#netlink.lookupRoute(address);
    // One of our own addresses is nobody's next hop.
    if (best && (best.type === 'local' || best.table === TABLE_LOCAL)) return null;
    if (best && this.#mayResolve(best)) return this.#toResolved(best);
    if (best && best.protocol !== this.#protocol) return null;
    return this.#resolveByForeign(address);
  }

  #mayResolve(route: Route): boolean {
    if (route.type !== 'unicast') return false;
    if (route.destination.length === 0 && this.#options.resolveThroughDefault === false) return false;
    if (route.protocol !== this.#protocol || this.#options.resolveThroughOwn) return true;
    return route.nextHops.every((hop) => hop.gateway === null);
  }

  #resolveByForeign(address: IpAddress): ResolvedNextHop | null {
    for (const routes of longestFirst(this.#foreign, address)) {
      for (const route of [...routes].sort((a, b) => a.metric - b.metric)) {
        if (route.type !== 'unicast') return null; // unreachable and the like: that is the answer
        const resolved = this.#mayResolve(route) ? this.#toResolved(route) : null;
        if (resolved) return resolved;
      }
    }
    return null;
  }

  #toResolved(route: Route): ResolvedNextHop | null {
    const gateways: Gateway[] = [];
    for (const { ifindex, gateway, weight, dead } of route.nextHops) {
      if (ifindex !== null && !dead) gateways.push({ address: gateway, ifindex, weight });
    }
    if (gateways.length === 0) return null;
    gateways.sort((a, b) => a.ifindex - b.ifindex || compareGateways(a.address, b.address));
    return { gateways, metric: route.metric, via: route.destination };
  }

  async #readForeign(): Promise<void> {
    const next = new PrefixTrie<Route[]>();
    for (const route of await this.#netlink.listRoutesAsync({ table: TABLE_MAIN })) {
      if (route.protocol !== this.#protocol) addRoute(next, route);
    }
    this.#foreign = next;
    this.#touch(() => true);
  }

  #onEvents(events: readonly KernelEvent[]): void {
    for (const event of events) {
      switch (event.type) {
        case 'resync':
          void this.#readForeign().catch(() => this.#touch(() => true));
          break;
        case 'route':
        case 'route-removed':
          this.#onRoute(event.type === 'route', event.route);
          break;
        case 'link':
        case 'link-removed':
          // An interface takes its IPv4 routes with it without a word.
          if (event.type === 'link-removed' || !event.link.up) this.#dropInterface(event.link.index);
          this.#touch((t) => !t.resolved || t.resolved.gateways.some((g) => g.ifindex === event.link.index));
          break;
        case 'address':
        case 'address-removed':
          this.#touch((t) => t.address.family === event.address.address.family);
          break;
        default:
      }
    }
  }

  #onRoute(present: boolean, route: Route): void {
    if (route.protocol !== this.#protocol && route.table === TABLE_MAIN) {
      removeRoute(this.#foreign, route);
      if (present) addRoute(this.#foreign, route);
    }
    this.#touch((tracked) => route.destination.contains(tracked.address));
  }

  #dropInterface(ifindex: number): void {
    const gone: Route[] = [];
    for (const { value } of this.#foreign.entries()) {
      gone.push(...value.filter((route) => route.nextHops.every((hop) => hop.ifindex === ifindex)));
    }
    for (const route of gone) removeRoute(this.#foreign, route);
  }

  /** Marks next hops for another look. */
  #touch(affected: (tracked: Tracked) => boolean): void {
    for (const tracked of this.#tracked.values()) if (affected(tracked)) this.#stale.add(tracked);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#stale.size === 0 || !this.#subscription) return;
    this.#scheduled = setImmediate(() => {
      this.#scheduled = null;
      this.#lookAgain();
    });
  }

  #lookAgain(): void {
    const stale = this.#stale;
    this.#stale = new Set();
    const changes: NextHopChange[] = [];
    for (const tracked of stale) {
      const resolved = this.resolve(tracked.address);
      if (sameResolution(tracked.resolved, resolved)) continue;
      tracked.resolved = resolved;
      changes.push({ address: tracked.address, resolved });
    }
    if (changes.length > 0) this.#options.onChange(changes);
  }
}

/** What covers an address, from the longest prefix to the shortest. */
function* longestFirst<V>(trie: PrefixTrie<V>, address: IpAddress): Generator<V> {
  let match = trie.match(address);
  while (match) {
    yield match.value;
    const { length } = match.prefix;
    match = length === 0 ? null : trie.matchPrefix(Prefix.of(address, length - 1));
  }
}

function addRoute(trie: PrefixTrie<Route[]>, route: Route): void {
  trie.set(route.destination, [...(trie.get(route.destination) ?? []), route]);
}

/** Removes the route of the same destination and metric. */
function removeRoute(trie: PrefixTrie<Route[]>, route: Route): void {
  const rest = (trie.get(route.destination) ?? []).filter((other) => other.metric !== route.metric);
  if (rest.length > 0) trie.set(route.destination, rest);
  else trie.delete(route.destination);
}

function compareGateways(a: IpAddress | null, b: IpAddress | null): number {
  if (!a || !b) return (a ? 1 : 0) - (b ? 1 : 0);
  return a.compare(b);
}

function sameResolution(a: ResolvedNextHop | null, b: ResolvedNextHop | null): boolean {
  if (!a || !b) return a === b;
  return (
    a.metric === b.metric &&
    a.gateways.length === b.gateways.length &&
    a.gateways.every((gateway, i) => {
      const other = b.gateways[i]!;
      return (
        gateway.ifindex === other.ifindex &&
        gateway.weight === other.weight &&
        compareGateways(gateway.address, other.address) === 0
      );
    })
  );
}
