// What the kernel's routing tables hold, as plain values, and the changes that can be asked for. Shared by the real
// kernel and the fake. Field names follow rtnetlink(7).
import type { Family, IpAddress } from '#net/address.ts';
import type { Prefix } from '#net/prefix.ts';

export interface Link {
  /** Interface index, from 1. */
  readonly index: number;
  readonly name: string;
  /** `veth`, `bridge`, ...; null for physical interfaces and loopback. */
  readonly kind: string | null;
  /** `aa:bb:cc:dd:ee:ff`; null where the link has none of that form. */
  readonly mac: string | null;
  readonly mtu: number;
  readonly txQueueLength: number;
  /** Administratively up. */
  readonly up: boolean;
  /** Carrier is there. */
  readonly carrier: boolean;
  readonly loopback: boolean;
  /** 0 is the default group. */
  readonly group: number;
  /** Index of the bridge or the like it is enslaved to; null when it is not. */
  readonly master: number | null;
  /** For a veth, the index of the other end (in the other end's namespace); null for none. */
  readonly peerIndex: number | null;
  /** For a veth whose other end is in another namespace: that namespace's id as seen from here; else null. */
  readonly peerNamespace: number | null;
  readonly alias: string | null;
}

export type AddressScope = 'global' | 'link' | 'host';

export interface InterfaceAddress {
  readonly ifindex: number;
  readonly address: IpAddress;
  /** 0 to 32 or 128. */
  readonly prefixLength: number;
  readonly scope: AddressScope;
  /** IPv6 duplicate address detection is still going on. */
  readonly tentative: boolean;
  readonly dadFailed: boolean;
  readonly deprecated: boolean;
  readonly noPrefixRoute: boolean;
  readonly permanent: boolean;
}

export type RouteType =
  | 'unicast'
  | 'local'
  | 'broadcast'
  | 'anycast'
  | 'multicast'
  | 'blackhole'
  | 'unreachable'
  | 'prohibit'
  | 'throw';

export interface NextHop {
  /** null: let the kernel find the interface by the gateway (on writing only). */
  readonly ifindex: number | null;
  /** null: directly connected. May be IPv6 for an IPv4 route (RFC 5549). */
  readonly gateway: IpAddress | null;
  /** 1 to 256. */
  readonly weight: number;
  /** The gateway is reachable on the link although no address covers it. */
  readonly onlink: boolean;
  /** The interface is down; read only. */
  readonly dead: boolean;
}

export interface Route {
  readonly destination: Prefix;
  readonly table: number;
  /** Who made it (rtm_protocol), 0 to 255. */
  readonly protocol: number;
  readonly type: RouteType;
  /** 0 universe, 253 link, 254 host. IPv6 has only 0. */
  readonly scope: number;
  /** Priority, lower wins. IPv4 default 0, IPv6 default 1024. */
  readonly metric: number;
  /** Source address that the host itself prefers; null for the kernel's choice. */
  readonly source: IpAddress | null;
  /** Path MTU; null for the interface's. */
  readonly mtu: number | null;
  /** Empty for blackhole, unreachable, prohibit and throw. More than one is ECMP. */
  readonly nextHops: readonly NextHop[];
}

export interface Rule {
  readonly family: Family;
  readonly priority: number;
  readonly source: Prefix | null;
  readonly destination: Prefix | null;
  readonly inputInterface: string | null;
  readonly outputInterface: string | null;
  readonly mark: number | null;
  /** Bits of the mark that count; null: all. */
  readonly markMask: number | null;
  readonly invert: boolean;
  readonly table: number;
  /** Ignore what the table answers when the prefix found is at most this long; null: never. */
  readonly suppressPrefixLength: number | null;
  readonly protocol: number;
}

export type NeighbourState =
  | 'incomplete'
  | 'reachable'
  | 'stale'
  | 'delay'
  | 'probe'
  | 'failed'
  | 'noarp'
  | 'permanent'
  | 'none';

export interface Neighbour {
  readonly ifindex: number;
  readonly address: IpAddress;
  /** null while it is not resolved, and for proxy entries. */
  readonly mac: string | null;
  readonly state: NeighbourState;
  /** Not a neighbour, but an address for which this host answers on the link. */
  readonly proxy: boolean;
}

/** A link by index or by name. */
export type LinkReference = number | string;

/** The IPv4 settings of an interface that netlink can carry; the same as /proc/sys/net/ipv4/conf. */
export interface Ipv4Settings {
  readonly forwarding?: 0 | 1;
  readonly proxyArp?: 0 | 1;
  /** 0 off, 1 strict, 2 loose (RFC 3704). */
  readonly rpFilter?: 0 | 1 | 2;
  readonly routeLocalnet?: 0 | 1;
  readonly sendRedirects?: 0 | 1;
  readonly acceptRedirects?: 0 | 1;
}

export interface LinkSettings {
  readonly name?: string;
  readonly mac?: string;
  readonly mtu?: number;
  readonly txQueueLength?: number;
  readonly group?: number;
  readonly alias?: string;
  readonly up?: boolean;
  /** Index of the bridge; null frees the link. */
  readonly master?: number | null;
  readonly ipv4?: Ipv4Settings;
  /** Whether the kernel makes an IPv6 link-local address by itself when the link comes up. */
  readonly ipv6AutoLinkLocal?: boolean;
  /** Moves the link into the namespace of this open descriptor. */
  readonly netnsFd?: number;
}

export interface NewLinkSettings {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  readonly txQueueLength?: number;
  readonly group?: number;
  readonly up?: boolean;
}

export interface NewVeth extends NewLinkSettings {
  /**
   * The other end; in the namespace of the open descriptor `netnsFd`, or else in the same one. It begins down: the
   * kernel cannot set it up before the pair is joined.
   */
  readonly peer: Omit<NewLinkSettings, 'up'> & { readonly netnsFd?: number };
}

export interface NewAddress {
  readonly ifindex: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
  /** Default: link for link-local addresses, else global. */
  readonly scope?: AddressScope;
  /** IPv6: use at once, without duplicate address detection. */
  readonly noDad?: boolean;
  readonly noPrefixRoute?: boolean;
}

/** A route to write; what is left out has the kernel's default (table main, unicast, metric as in `Route`). */
export interface NewRoute {
  readonly destination: Prefix;
  readonly protocol: number;
  readonly table?: number;
  readonly type?: RouteType;
  readonly scope?: number;
  readonly metric?: number;
  readonly source?: IpAddress | null;
  readonly mtu?: number | null;
  /** IPv6: the kernel drops the route after so many seconds. */
  readonly expiresSeconds?: number;
  readonly nextHops?: readonly NewNextHop[];
}

export interface NewNextHop {
  readonly ifindex?: number | null;
  readonly gateway?: IpAddress | null;
  readonly weight?: number;
  readonly onlink?: boolean;
}

/** Selects the route to delete: all that is given must agree. Without `metric` the first that fits goes. */
export interface RouteKey {
  readonly destination: Prefix;
  readonly table?: number;
  readonly metric?: number;
  readonly protocol?: number;
  readonly type?: RouteType;
  readonly ifindex?: number;
}

export interface NewNeighbour {
  readonly ifindex: number;
  readonly address: IpAddress;
  readonly mac: string;
  /** Default permanent. */
  readonly state?: NeighbourState;
  /** The neighbour is a router (IPv6). */
  readonly router?: boolean;
}

export type NewRule = Pick<Rule, 'family' | 'priority' | 'table'> & Partial<Rule>;

/** One change, or the look at one link. Many are carried out in order by one `execute`. */
export type Operation =
  | { readonly op: 'link-get'; readonly link: LinkReference }
  | { readonly op: 'veth-add'; readonly veth: NewVeth }
  | { readonly op: 'bridge-add'; readonly bridge: NewLinkSettings }
  | { readonly op: 'link-set'; readonly link: LinkReference; readonly settings: LinkSettings }
  | { readonly op: 'link-delete'; readonly link: LinkReference }
  /** Deletes all links of a group (not 0) at once, which costs hardly more than one. */
  | { readonly op: 'group-delete'; readonly group: number }
  | { readonly op: 'address-add'; readonly address: NewAddress }
  | { readonly op: 'address-replace'; readonly address: NewAddress }
  | { readonly op: 'address-delete'; readonly address: Pick<NewAddress, 'ifindex' | 'address' | 'prefixLength'> }
  /** EEXIST when a route with the same destination, table and metric is there, whoever made it. */
  | { readonly op: 'route-add'; readonly route: NewRoute }
  /** Takes the place of the route with the same destination, table and metric, whoever made it. */
  | { readonly op: 'route-replace'; readonly route: NewRoute }
  | { readonly op: 'route-delete'; readonly route: RouteKey }
  | { readonly op: 'rule-add'; readonly rule: NewRule }
  | { readonly op: 'rule-delete'; readonly rule: NewRule }
  | { readonly op: 'neighbour-replace'; readonly neighbour: NewNeighbour }
  | { readonly op: 'neighbour-delete'; readonly ifindex: number; readonly address: IpAddress }
  | { readonly op: 'proxy-add'; readonly ifindex: number; readonly address: IpAddress }
  | { readonly op: 'proxy-delete'; readonly ifindex: number; readonly address: IpAddress }
  /** How long answers for proxied addresses are held back, milliseconds. */
  | { readonly op: 'proxy-delay'; readonly family: Family; readonly ifindex: number; readonly delayMs: number };
