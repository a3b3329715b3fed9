// The routes of this host: blocks, endpoints, and what BGP has learned; and the speaker that learns and tells.
// In: own blocks and endpoints from the pipeline, best routes from the speaker. Out: desired routes to the route manager,
// next-hop states to the speaker, a list for API and CLI.
import { type Clock, systemClock } from '#base/clock.ts';
import type { Logger } from '#base/log.ts';
import type { NextHopTracker, RouteSink } from '#bgp/speaker/api.ts';
import type { KernelAccess } from '#dataplane/kernel-access.ts';
import { NextHopTracker as KernelNextHops, type ResolvedNextHop } from '#dataplane/next-hop-tracker.ts';
import { type DesiredRoute, RouteManager, type RouteHop } from '#dataplane/route-manager.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type { RouteStatus } from './api/types.ts';
import type { BgpHostRoutes } from './bgp/service.ts';
import type { PeerRoute } from './bgp/sessions.ts';
import type { BlockPlane } from './pipeline.ts';
import { type Gateway, type Resolution, RouteExchange } from './route-exchange.ts';

export interface RoutingServiceOptions {
  readonly kernel: KernelAccess;
  readonly log: Logger;
  readonly clock?: Clock;
}

export class RoutingService implements BlockPlane, BgpHostRoutes {
  readonly #kernel: KernelAccess;
  readonly #manager: RouteManager;
  readonly #nextHops: KernelNextHops;
  readonly #exchange: RouteExchange;
  /** Endpoint -> the destinations it was given. */
  readonly #endpoints = new Map<string, readonly Prefix[]>();
  readonly #families = new Set<string>();
  /** Of aggregates. */
  #blackholes: readonly DesiredRoute[] = [];
  #peerRoutes: readonly DesiredRoute[] = [];
  /** Index of each interface that was wired and has no endpoint yet. */
  readonly #wired = new Map<string, number>();

  constructor(options: RoutingServiceOptions) {
    const { kernel, log } = options;
    const clock = options.clock ?? systemClock;
    this.#kernel = kernel;
    const { netlink } = kernel.host;
    this.#manager = new RouteManager({ netlink, clock, log });
    this.#nextHops = new KernelNextHops({
      netlink,
      onChange: (changes) => {
        for (const { address, resolved } of changes)
          this.#exchange.resolved(address.toString(), resolutionOf(resolved));
      },
    });
    this.#exchange = new RouteExchange(
      {
        track: (address) => resolutionOf(this.#nextHops.track(IpAddress.parse(address))),
        untrack: (address) => this.#nextHops.untrack(IpAddress.parse(address)),
      },
      {
        setRoute: (prefix, gateways) =>
          this.#manager.set('bgp', { destination: Prefix.parse(prefix), nextHops: gateways.map(hopOf) }),
        removeRoute: (prefix) => this.#manager.delete('bgp', Prefix.parse(prefix)),
      },
      (family) => {
        this.#families.add(family);
        if (this.#families.size === 2) this.#manager.inSync('bgp');
      },
    );
  }

  /** For the speaker. */
  get sink(): RouteSink {
    return this.#exchange;
  }

  /** For the speaker. */
  get nextHops(): NextHopTracker {
    return this.#exchange;
  }

  async start(): Promise<void> {
    await this.#manager.start();
    await this.#nextHops.start();
  }

  stop(): void {
    this.#nextHops.close();
    this.#manager.close();
  }

  setBlock(cidr: string, present: boolean): void {
    const destination = Prefix.parse(cidr);
    // A block of one address has no address to answer for besides that of its container, whose route it would bar.
    if (destination.isHost()) return;
    if (present) this.#manager.set('block', { destination, nextHops: [] });
    else this.#manager.delete('block', destination);
  }

  setBlackholes(prefixes: readonly string[]): void {
    this.#blackholes = prefixes.map((text) => ({ destination: Prefix.parse(text), nextHops: [] }));
    this.#setStatic();
  }

  setPeerRoutes(routes: readonly PeerRoute[]): void {
    this.#peerRoutes = routes.map(({ prefix, gateway }) => ({
      destination: Prefix.parse(prefix),
      nextHops: [{ gateway: IpAddress.parse(gateway), ifindex: null }],
    }));
    this.#setStatic();
  }

  #setStatic(): void {
    this.#manager.replaceAll('static', [...this.#blackholes, ...this.#peerRoutes]);
    this.#manager.inSync('static');
  }

  inSync(): void {
    this.#manager.inSync('block');
    this.#manager.inSync('workload');
  }

  /** No speaker runs here: routes that an earlier one left may go. */
  noSpeaker(): void {
    this.#manager.inSync('static');
    this.#manager.inSync('bgp');
  }

  /** The wiring has just made an interface and its routes. */
  wired(interfaceName: string, index: number, addresses: readonly IpAddress[]): void {
    this.#wired.set(interfaceName, index);
    for (const address of addresses) this.#manager.noteWritten(directRoute(Prefix.host(address), index));
  }

  /** The wiring has written these routes already; from now on they are mended when somebody takes them away. */
  setEndpoint(id: string, interfaceName: string, addresses: readonly string[]): void {
    this.removeEndpoint(id);
    const index = this.#wired.get(interfaceName) ?? this.#kernel.host.netlink.getLink(interfaceName)?.index;
    this.#wired.delete(interfaceName);
    if (index === undefined) return;
    const destinations = addresses.map((text) => Prefix.parseOrHost(text));
    for (const destination of destinations) this.#manager.set('workload', directRoute(destination, index));
    this.#endpoints.set(id, destinations);
  }

  removeEndpoint(id: string): void {
    for (const destination of this.#endpoints.get(id) ?? []) this.#manager.delete('workload', destination);
    this.#endpoints.delete(id);
  }

  counts(): { installed: number; failed: number } {
    return this.#manager.counts();
  }

  /** Whether a peer announces this very prefix. */
  isLearned(prefix: string): boolean {
    return this.#exchange.peersOf(prefix).length > 0;
  }

  /** Blocks and learned routes; those of endpoints are shown with the endpoints. */
  routes(): RouteStatus[] {
    const names = new Map(this.#kernel.host.netlink.listLinks().map((link) => [link.index, link.name]));
    const out: RouteStatus[] = [];
    for (const { route, wantedBy, state, reason } of this.#manager.statuses()) {
      if (wantedBy === 'workload') continue;
      const prefix = route.destination.toString();
      out.push({
        prefix,
        kind:
          route.nextHops.length === 0 && wantedBy !== 'bgp' ? 'blackhole' : wantedBy === 'static' ? 'static' : 'bgp',
        nextHops: route.nextHops.map((hop) => ({
          gateway: hop.gateway?.toString() ?? null,
          interface: hop.ifindex === null ? '' : (names.get(hop.ifindex) ?? `${hop.ifindex}`),
        })),
        fromPeers: this.#exchange.peersOf(prefix),
        state,
        ...(reason !== null && { reason }),
      });
    }
    for (const prefix of this.#exchange.unreachable()) {
      const fromPeers = this.#exchange.peersOf(prefix);
      out.push({
        prefix,
        kind: 'bgp',
        nextHops: [],
        fromPeers,
        state: 'unreachable',
        reason: 'no next hop can be reached',
      });
    }
    return out;
  }
}

function directRoute(destination: Prefix, ifindex: number): DesiredRoute {
  return { destination, nextHops: [{ gateway: null, ifindex }] };
}

function hopOf(gateway: Gateway): RouteHop {
  return {
    gateway: gateway.address === null ? null : IpAddress.parse(gateway.address),
    ifindex: gateway.interfaceIndex,
  };
}

function resolutionOf(resolved: ResolvedNextHop | null): Resolution | null {
  return (
    resolved && {
      gateways: resolved.gateways.map((g) => ({ address: g.address?.toString() ?? null, interfaceIndex: g.ifindex })),
      metric: resolved.metric,
    }
  );
}
