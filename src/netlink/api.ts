// What everybody above netlink works with: one network namespace of the kernel. The real one (kernel.ts) and the fake
// (fake.ts) both implement it and pass the same compliance test.
import type { Family, IpAddress } from '#net/address.ts';
import type { KernelError } from './errors.ts';
import type { InterfaceAddress, Link, LinkReference, Neighbour, Operation, Route, Rule } from './types.ts';

export interface Outcome {
  /** null: carried out. */
  readonly error: KernelError | null;
  /** For `link-get`: the link. */
  readonly link: Link | null;
}

export interface RouteFilter {
  readonly family?: Family | undefined;
  /** Default: the main table. */
  readonly table?: number | undefined;
  readonly protocol?: number | undefined;
  /** Only routes out of this interface. */
  readonly ifindex?: number | undefined;
}

export interface LookupOptions {
  readonly source?: IpAddress | undefined;
  readonly mark?: number | undefined;
  /** Index of the interface that the packet must leave by. */
  readonly outputInterface?: number | undefined;
  /** Index of the interface that the packet came in by. */
  readonly inputInterface?: number | undefined;
}

/** Which tables to watch. */
export type Topic = 'link' | 'address' | 'route' | 'neighbour';

export type KernelEvent =
  | { readonly type: 'link'; readonly link: Link }
  | { readonly type: 'link-removed'; readonly link: Link }
  | { readonly type: 'address'; readonly address: InterfaceAddress }
  | { readonly type: 'address-removed'; readonly address: InterfaceAddress }
  | { readonly type: 'route'; readonly route: Route }
  | { readonly type: 'route-removed'; readonly route: Route }
  | { readonly type: 'neighbour'; readonly neighbour: Neighbour }
  | { readonly type: 'neighbour-removed'; readonly neighbour: Neighbour }
  /** Notifications were lost: whoever keeps a copy of a table must list it again. */
  | { readonly type: 'resync' };

export interface Subscription {
  close(): void;
}

export interface SubscribeOptions {
  readonly topics: readonly Topic[];
  /** Events in the kernel's order. Never called before `subscribe` returns nor after `close`. */
  readonly onEvents: (events: readonly KernelEvent[]) => void;
  /** Leaves out route events that this very NetlinkApi caused. */
  readonly ignoreOwn?: boolean | undefined;
}

export interface NetlinkApi {
  /**
   * Carries out changes in order, all of them also when one fails. Synchronous. Throws only when netlink itself fails
   * (`timeout`, SystemError) or a value does not fit (`invalid-argument`); what the kernel refuses is in the outcome.
   */
  execute(operations: readonly Operation[]): Outcome[];
  /** As `execute`, with the kernel's work off the main thread: for what holds the kernel's lock for long. */
  executeAsync(operations: readonly Operation[]): Promise<Outcome[]>;
  listLinks(): Link[];
  /** null when there is none. */
  getLink(link: LinkReference): Link | null;
  listAddresses(filter?: { readonly family?: Family; readonly ifindex?: number }): InterfaceAddress[];
  listRoutes(filter?: RouteFilter): Route[];
  /** As `listRoutes`, a slice a turn of the event loop: for the tables of a whole internet. */
  listRoutesAsync(filter?: RouteFilter): Promise<Route[]>;
  listRules(family: Family): Rule[];
  listNeighbours(filter?: {
    readonly family?: Family;
    readonly ifindex?: number;
    readonly proxy?: boolean;
  }): Neighbour[];
  /**
   * The route of the forwarding tables that a packet to `destination` would take, with all its next hops; null when
   * there is none, or one that refuses the packet (blackhole, unreachable, prohibit).
   */
  lookupRoute(destination: IpAddress, options?: LookupOptions): Route | null;
  subscribe(options: SubscribeOptions): Subscription;
  close(): void;
}

/** Carries out the operations and throws the first KernelError. */
export function executeAll(netlink: NetlinkApi, operations: readonly Operation[]): Outcome[] {
  const outcomes = netlink.execute(operations);
  for (const { error } of outcomes) if (error) throw error;
  return outcomes;
}
