// What the RIB knows of each neighbour: its configuration, the session when there is one, and per family its list of
// paths, epoch and counters. Row 0 is this speaker itself, the source of local routes.
import type { IpAddress } from '#net/address.ts';
import { ADDRESS_FAMILIES, type AddressFamily, type CodecSession } from '#bgp/wire/types.ts';
import type { RoutePolicy } from '#bgp/filter/policy.ts';
import { grown, nextCapacity } from './columns.ts';
import type { GroupMember } from './update-group.ts';

export const LOCAL_PEER = 0;
const MAX_PEERS = 65534;
/** Weight of our own routes, so that they win over learned ones. */
export const LOCAL_WEIGHT = 32768;

/** How the next hop of routes sent to a peer is set. `auto`: ours towards external peers, unchanged towards internal. */
export type NextHopRule = 'auto' | 'self' | 'keep';

/** A neighbour as configured. May be replaced while a session is up (`Rib.configurePeer`). */
export interface PeerConfig {
  /** Unique; for people. */
  readonly name: string;
  /** The neighbour's address: last tie-breaker. */
  readonly address: IpAddress;
  readonly importPolicy: RoutePolicy;
  readonly exportPolicy: RoutePolicy;
  /** Internal peers only (RFC 4456). */
  readonly routeReflectorClient?: boolean;
  /** The cluster an internal peer is in, where that is not our own cluster id; unsigned 32 bits. */
  readonly clusterId?: number;
  /** External peers only: AS_PATH, NEXT_HOP and MED pass unchanged (RFC 7947). */
  readonly routeServerClient?: boolean;
  readonly nextHop?: NextHopRule;
  /** Preference over everything but staleness, 0 to 65535; default 0. */
  readonly weight?: number;
  /** Occurrences of our own AS that are tolerated in AS_PATH (allowas-in); default 0. */
  readonly allowOwnAs?: number;
  /** The leftmost AS must be the peer's. Default true for external peers that are not route servers. */
  readonly enforceFirstAs?: boolean;
  /** Routes with GRACEFUL_SHUTDOWN get LOCAL_PREF 0 (RFC 8326). Default true for external peers. */
  readonly honourGracefulShutdown?: boolean;
  /** Most paths sent for one prefix where ADD-PATH is agreed; 0 (default) is all. */
  readonly addPathLimit?: number;
  /** Interface whose routes a filter sees as this peer's; '' when not bound to one. */
  readonly interfaceName?: string;
}

/** A session as established. Immutable; a new one for each establishment. */
export interface PeerSession {
  readonly codec: CodecSession;
  /** The peer's BGP identifier, unsigned. */
  readonly routerId: number;
  /** Our address on this session per family: what next hop self means. Null: routes of the family cannot be sent. */
  readonly localAddress: Readonly<Record<AddressFamily, IpAddress | null>>;
  /** Our link-local address on an unnumbered or on-link session. */
  readonly localLinkLocal: IpAddress | null;
  /** Interface index of a session over link-local addresses, else 0. */
  readonly zone: number;
  /** The peer may be sent stale routes (RFC 9494) of the family. */
  readonly longLivedStale: Readonly<Record<AddressFamily, boolean>>;
  /** We are shutting down gracefully towards this peer: GRACEFUL_SHUTDOWN is added (RFC 8326). */
  readonly gracefulShutdown?: boolean;
}

/** One family of one peer. */
export class PeerFamily {
  /** First path in the peer's list; 0: none. */
  head = 0;
  /** Paths of another epoch are stale. */
  epoch = 0;
  /** Paths in adj-RIB-in. */
  received = 0;
  /** Paths that import accepted. */
  accepted = 0;
  /** Paths not heard since the epoch moved. */
  stale = 0;
  /** Set while stale paths are kept after the loss of the session. */
  retained = false;
  /** UPDATE messages that changed nothing are not counted. */
  updates = 0;
  withdrawals = 0;
  member: GroupMember | null = null;
}

export class RibPeer {
  readonly id: number;
  config: PeerConfig;
  session: PeerSession | null = null;
  readonly families: Readonly<Record<AddressFamily, PeerFamily>> = { ipv4: new PeerFamily(), ipv6: new PeerFamily() };

  constructor(id: number, config: PeerConfig) {
    this.id = id;
    this.config = config;
  }

  /** Another AS. False without a session: who has never been heard has no paths. */
  get external(): boolean {
    return this.session?.codec.external ?? false;
  }
}

export class PeerTable {
  weight = new Uint32Array(16);
  /** Lower is preferred: 0 this speaker, 1 external, 2 internal. Kept after the loss of a session. */
  rank = new Uint8Array(16);
  routerId = new Uint32Array(16);
  readonly #peers: (RibPeer | null)[] = [null];
  readonly #free: number[] = [];

  constructor() {
    this.weight[LOCAL_PEER] = LOCAL_WEIGHT;
  }

  /** Rows below this may be in use. */
  get limit(): number {
    return this.#peers.length;
  }

  add(config: PeerConfig): RibPeer {
    const id = this.#free.pop() ?? this.#peers.length;
    if (id > MAX_PEERS) throw new Error(`more than ${MAX_PEERS} peers`);
    if (id >= this.weight.length) {
      const capacity = nextCapacity(this.weight.length, id + 1);
      this.weight = grown(this.weight, capacity);
      this.rank = grown(this.rank, capacity);
      this.routerId = grown(this.routerId, capacity);
    }
    const peer = new RibPeer(id, config);
    this.#peers[id] = peer;
    this.weight[id] = config.weight ?? 0;
    this.rank[id] = 2;
    this.routerId[id] = 0;
    return peer;
  }

  remove(id: number): void {
    this.#peers[id] = null;
    this.#free.push(id);
  }

  /** Null for this speaker itself and for numbers not in use. */
  get(id: number): RibPeer | null {
    return this.#peers[id] ?? null;
  }

  setSession(peer: RibPeer, session: PeerSession | null): void {
    peer.session = session;
    if (!session) return;
    this.rank[peer.id] = session.codec.external ? 1 : 2;
    this.routerId[peer.id] = session.routerId;
  }

  isExternal(id: number): boolean {
    return this.rank[id] === 1;
  }

  /** Order of the neighbours' addresses: a negative number when `a`'s is lower. */
  compareAddress(a: number, b: number): number {
    const x = this.#peers[a];
    const y = this.#peers[b];
    if (!x || !y) return a - b;
    return x.config.address.compare(y.config.address) || a - b;
  }

  *all(): Generator<RibPeer> {
    for (const peer of this.#peers) if (peer) yield peer;
  }

  *families(): Generator<[RibPeer, AddressFamily, PeerFamily]> {
    for (const peer of this.all()) for (const family of ADDRESS_FAMILIES) yield [peer, family, peer.families[family]];
  }
}
