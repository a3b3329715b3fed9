// Between the BGP speaker and the kernel's routes. Pure but for what it is given.
// In: best routes of the speaker (next hops as BGP names them), what the kernel says of how each next hop is reached.
// Out: kernel routes with gateways and interfaces; to the speaker, whether a next hop can be reached.
// RFC 4271 section 5.1.3 and 9.1.2.1: a next hop that is not on a link is resolved through the routing table.
import type { NextHopState, NextHopTracker, RouteSink, SinkBatch, SinkRoute } from '#bgp/speaker/api.ts';
import type { RouteStatus } from './api/types.ts';

export interface Gateway {
  /** null: the destination is on the link itself. */
  readonly address: string | null;
  readonly interfaceIndex: number;
}

export interface Resolution {
  readonly gateways: readonly Gateway[];
  readonly metric: number;
}

/** How the kernel reaches an address. Changes go to `RouteExchange.resolved`. */
export interface Resolver {
  /** Follows an address; what it resolves to now, null when it does not. */
  track(address: string): Resolution | null;
  untrack(address: string): void;
}

/** Where the routes go. */
export interface RoutePlane {
  /** An empty list of gateways is a blackhole. */
  setRoute(prefix: string, gateways: readonly Gateway[]): void;
  removeRoute(prefix: string): void;
}

interface Tracked {
  /** Users: the speaker, and each prefix that has it as next hop. */
  users: number;
  resolution: Resolution | null;
  readonly prefixes: Set<string>;
}

export class RouteExchange implements RouteSink, NextHopTracker {
  readonly #resolver: Resolver;
  readonly #plane: RoutePlane;
  readonly #onConverged: (family: 'ipv4' | 'ipv6') => void;
  readonly #routes = new Map<string, SinkRoute>();
  readonly #installed = new Set<string>();
  readonly #tracked = new Map<string, Tracked>();
  #listener: ((address: string, state: NextHopState) => void) | null = null;

  constructor(resolver: Resolver, plane: RoutePlane, onConverged: (family: 'ipv4' | 'ipv6') => void) {
    this.#resolver = resolver;
    this.#plane = plane;
    this.#onConverged = onConverged;
  }

  apply(batch: SinkBatch): void {
    for (const route of batch.changed) {
      const old = this.#routes.get(route.prefix);
      this.#routes.set(route.prefix, route);
      for (const hop of route.nextHops) this.#use(hop.address, route.prefix);
      for (const hop of old?.nextHops ?? []) {
        if (!route.nextHops.some((h) => h.address === hop.address)) this.#leave(hop.address, route.prefix);
      }
      this.#install(route);
    }
    for (const prefix of batch.removed) {
      const old = this.#routes.get(prefix);
      if (!old) continue;
      this.#routes.delete(prefix);
      for (const hop of old.nextHops) this.#leave(hop.address, prefix);
      this.#uninstall(prefix);
    }
  }

  converged(family: 'ipv4' | 'ipv6'): void {
    this.#onConverged(family);
  }

  track(address: string): void {
    const { resolution } = this.#hold(address);
    this.#listener?.(address, stateOf(resolution));
  }

  untrack(address: string): void {
    this.#release(address);
  }

  onChange(listener: (address: string, state: NextHopState) => void): void {
    this.#listener = listener;
  }

  /** Routes for which no next hop resolves; they are not in the kernel. */
  unreachable(): readonly string[] {
    return [...this.#routes.keys()].filter((prefix) => !this.#installed.has(prefix));
  }

  /** The peers that a prefix was learned from; empty when it was not. */
  peersOf(prefix: string): RouteStatus['fromPeers'] {
    return this.#routes.get(prefix)?.fromPeers ?? [];
  }

  /** A tracked address resolves to something else now. */
  resolved(address: string, resolution: Resolution | null): void {
    const tracked = this.#tracked.get(address);
    if (!tracked) return;
    tracked.resolution = resolution;
    for (const prefix of tracked.prefixes) {
      const route = this.#routes.get(prefix);
      if (route) this.#install(route);
    }
    this.#listener?.(address, stateOf(resolution));
  }

  #install(route: SinkRoute): void {
    if (route.nextHops.length === 0) {
      this.#installed.add(route.prefix);
      this.#plane.setRoute(route.prefix, []);
      return;
    }
    const gateways = new Map<string, Gateway>();
    for (const hop of route.nextHops) {
      for (const gateway of this.#tracked.get(hop.address)?.resolution?.gateways ?? []) {
        // A next hop on the link is itself the gateway.
        const address = gateway.address ?? hop.address;
        gateways.set(`${address}%${gateway.interfaceIndex}`, { address, interfaceIndex: gateway.interfaceIndex });
      }
    }
    if (gateways.size === 0) this.#uninstall(route.prefix);
    else {
      this.#installed.add(route.prefix);
      this.#plane.setRoute(route.prefix, [...gateways.values()]);
    }
  }

  #uninstall(prefix: string): void {
    if (this.#installed.delete(prefix)) this.#plane.removeRoute(prefix);
  }

  #use(address: string, prefix: string): void {
    const tracked = this.#tracked.get(address);
    if (tracked?.prefixes.has(prefix)) return;
    this.#hold(address).prefixes.add(prefix);
  }

  #leave(address: string, prefix: string): void {
    if (this.#tracked.get(address)?.prefixes.delete(prefix)) this.#release(address);
  }

  #hold(address: string): Tracked {
    let tracked = this.#tracked.get(address);
    if (tracked) tracked.users++;
    else {
      tracked = { users: 1, resolution: this.#resolver.track(address), prefixes: new Set() };
      this.#tracked.set(address, tracked);
    }
    return tracked;
  }

  #release(address: string): void {
    const tracked = this.#tracked.get(address);
    if (!tracked) return;
    tracked.users--;
    if (tracked.users > 0) return;
    this.#tracked.delete(address);
    this.#resolver.untrack(address);
  }
}

function stateOf(resolution: Resolution | null): NextHopState {
  return resolution ? { reachable: true, metric: resolution.metric } : { reachable: false, metric: 0 };
}
