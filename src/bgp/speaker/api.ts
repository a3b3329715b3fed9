// The speaker's public face: configuration in, local routes in, best routes out, events and queries. Everything here is
// plain data (text, numbers, arrays), because the speaker runs in a worker thread and answers over HTTP.
// Addresses and prefixes are canonical text. Times are milliseconds unless a name says seconds.
import type { FilterSpec } from '#bgp/filter/compile.ts';
import type { AddressFamily } from '#bgp/wire/types.ts';
import type { NeighbourState } from '#bgp/fsm/states.ts';

export type { AddressFamily, FilterSpec, NeighbourState };

// ---------------------------------------------------------------- configuration

/** What passes without a filter: all, nothing, or (for export) only what this speaker originates: a host is no transit. */
export type DefaultPolicy = 'all' | 'none' | 'local';

/** What passes: a default, or the named filters of the configuration in order, and the default where none decides. */
export type RoutePolicy =
  | DefaultPolicy
  | { readonly filters: readonly string[] /** Default `all`. */; readonly otherwise?: DefaultPolicy };

export interface ListenConfig {
  /** `0.0.0.0` or `::` for every address of one version. */
  readonly address: string;
  /** 0: the system chooses. */
  readonly port: number;
}

export interface GracefulRestartConfig {
  readonly enabled: boolean;
  /** Seconds a peer shall hold our routes while we restart, 0 to 4095. */
  readonly restartTime: number;
}

export interface LongLivedConfig {
  readonly enabled: boolean;
  /** Seconds for which stale routes are kept after the restart time, up to 2^24 - 1. */
  readonly staleTime: number;
}

export interface MaxPrefixesConfig {
  /** Most prefixes accepted, for each family or by family; none for a family that is not there. */
  readonly limit: number | Readonly<Partial<Record<AddressFamily, number>>>;
  /** `reset`: cease 6/1, and stay down for `restartSeconds`; `warn`: an event only. */
  readonly action: 'reset' | 'warn';
  readonly restartSeconds: number;
}

/** Members that a configured peer and a range of peers share. */
export interface PeerOptions {
  readonly localAddress?: string;
  /** The AS this peer sees us as, when not the speaker's own (local-as). */
  readonly localAs?: number;
  /** Waits for the peer to connect. Default false. */
  readonly passive?: boolean;
  /** TCP-MD5 key (RFC 2385), at most 80 octets. */
  readonly password?: string;
  /** Seconds: 0, or 3 to 65535. Default: the speaker's. */
  readonly holdTime?: number;
  /** Seconds between keepalives; default a third of the hold time agreed. */
  readonly keepaliveTime?: number;
  readonly families: readonly AddressFamily[];
  readonly import: RoutePolicy;
  readonly export: RoutePolicy;
  readonly routeReflectorClient?: boolean;
  /** Routes go to this eBGP peer without our AS and with their next hop (RFC 7947). */
  readonly routeServerClient?: boolean;
  /** Dotted quad; default the speaker's. */
  readonly clusterId?: string;
  readonly addPaths?: 'none' | 'send' | 'receive' | 'both';
  /** Accept only packets that came at most this many hops (RFC 5082): 1 for a direct neighbour. */
  readonly ttlSecurity?: number;
  /** Most hops to an eBGP peer that is not on the same link; the TTL sent. Excludes `ttlSecurity`. */
  readonly multihop?: number;
  readonly maxPrefixes?: MaxPrefixesConfig;
  /** How often our own AS may occur in a path accepted here. Default 0. */
  readonly allowOwnAs?: number;
  /** `auto`: as RFC 4271 5.1.3; `self`: always us; `keep`: never changed. Default `auto`. */
  readonly nextHop?: 'auto' | 'self' | 'keep';
  /**
   * Our own address of the family that the session's own addresses are not of: the next hop of, say, IPv6 routes on an
   * IPv4 session. Default: the address of the session's interface, as the transport finds it.
   */
  readonly nextHopAddress?: string;
  /** Refuse paths whose first AS is not the peer's. Default false. */
  readonly enforceFirstAs?: boolean;
  readonly gracefulRestart?: GracefulRestartConfig;
  readonly longLived?: LongLivedConfig;
  /** Interface for a link-local peer address (unnumbered). */
  readonly interface?: string;
  /** Offer IPv6 next hops for IPv4 routes (RFC 8950). Default: true when `interface` is set. */
  readonly extendedNextHop?: boolean;
  /** LOCAL_PREF for what is learned from this peer. Default 100. */
  readonly localPref?: number;
  readonly bfd?: boolean;
  /**
   * How the session ends when the peer is removed from the configuration. `cease`: the peer drops our routes at once.
   * `silent`: without a NOTIFICATION, so that a peer with graceful restart keeps them until it leaves too, at most for
   * the restart time. Default `cease`.
   */
  readonly removal?: 'cease' | 'silent';
  readonly description?: string;
}

export interface PeerConfig extends PeerOptions {
  /** Unique. */
  readonly name: string;
  readonly address: string;
  /** Default 179. */
  readonly port?: number;
  readonly asNumber: number;
  /** Administratively down, with words for the peer (RFC 9003). */
  readonly shutdown?: string | true;
}

/** Peers that are not named: whoever connects from the prefix. Our own addresses are never taken for a peer. */
export interface PeerRangeConfig extends PeerOptions {
  readonly name: string;
  readonly prefix: string;
  /** Absent: any AS. */
  readonly asNumber?: number;
  /** Most peers at once. Default 5000. */
  readonly limit?: number;
}

export interface BmpStationConfig {
  readonly address: string;
  readonly port: number;
}

export interface SpeakerConfig {
  /** Dotted quad. */
  readonly routerId: string;
  readonly asNumber: number;
  /** Dotted quad; default the router id. */
  readonly clusterId?: string;
  readonly listen: readonly ListenConfig[];
  /** Seconds. Default 90. */
  readonly holdTime?: number;
  readonly gracefulRestart?: GracefulRestartConfig;
  readonly multipath?: {
    /** Most next hops of one route. Default 16; 1 turns multipath off. */
    readonly maximumPaths: number;
    /** Paths of equal AS_PATH length suffice (not the same neighbour AS). */
    readonly relax: boolean;
  };
  /** Filters that policies may name: rule lists as in a BGPFilter's spec. */
  readonly filters?: Readonly<Record<string, FilterSpec>>;
  readonly peers: readonly PeerConfig[];
  readonly peerRanges: readonly PeerRangeConfig[];
  /** Monitoring stations (RFC 7854) that are told what peers send. */
  readonly bmp?: readonly BmpStationConfig[];
  /** Told to peers in the OPEN. */
  readonly hostName?: string;
}

/** What a change of configuration does to one peer. */
export interface PeerChange {
  readonly peer: string;
  /** `live`: taken up in place; `re-evaluate`: routes are filtered or sent anew; `reset`: the session restarts. */
  readonly effect: 'added' | 'removed' | 'live' | 're-evaluate' | 'reset';
  /** Names of the members that differ. */
  readonly fields: readonly string[];
}

export interface ConfigPlan {
  readonly changes: readonly PeerChange[];
  /** Members of the speaker itself that differ. A change of routerId, asNumber or clusterId resets every session. */
  readonly speakerFields: readonly string[];
}

// ---------------------------------------------------------------- routes in and out

/** A route this host originates. Without a next hop it is announced with the session's own address. */
export interface LocalRoute {
  readonly prefix: string;
  readonly nextHop?: string;
  readonly med?: number;
  readonly localPref?: number;
  /** Standard communities, `65000:1` or the well-known names. */
  readonly communities?: readonly string[];
  readonly largeCommunities?: readonly string[];
  /** What it stands for, shown by `brindle bgp`: `block`, `workload`, `service`, `static`. */
  readonly source?: string;
}

export interface SinkNextHop {
  readonly address: string;
  /** For link-local next hops: the interface they lie on. */
  readonly interface?: string;
}

/** A best route, for the kernel. More than one next hop: ECMP. */
export interface SinkRoute {
  readonly prefix: string;
  /** In a stable order. Empty: a blackhole (RFC 7999). */
  readonly nextHops: readonly SinkNextHop[];
  /** Names of the peers, in the order of `nextHops`. */
  readonly fromPeers: readonly string[];
}

export interface SinkBatch {
  readonly changed: readonly SinkRoute[];
  /** Prefixes without a learned best route any more. */
  readonly removed: readonly string[];
}

/** Takes the best learned routes. Local routes are never handed to it. */
export interface RouteSink {
  apply(batch: SinkBatch): void;
  /** All that was to be waited for after the start is in: routes left over from an earlier run may now be swept. */
  converged(family: AddressFamily): void;
}

export interface NextHopState {
  readonly reachable: boolean;
  /** Cost to reach it; lower is preferred. */
  readonly metric: number;
}

/** Knows whether next hops can be reached. The answer to `track` comes through `onChange`, at once or later. */
export interface NextHopTracker {
  track(address: string): void;
  untrack(address: string): void;
  onChange(listener: (address: string, state: NextHopState) => void): void;
}

// ---------------------------------------------------------------- transport

export interface ConnectRequest {
  readonly address: string;
  readonly port: number;
  readonly localAddress?: string;
  readonly interface?: string;
  readonly password?: string;
  /** TTL sent. */
  readonly ttl?: number;
  /** Lowest TTL accepted. */
  readonly minTtl?: number;
  readonly timeout: number;
}

/** A TCP connection. Handlers are set once, right after it is handed over; nothing is read before that. */
export interface Connection {
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Octets accepted for writing and not yet handed to the kernel. */
  readonly backlog: number;
  /** False when the caller should wait for `drain`. The buffer must not be changed afterwards. */
  write(octets: Uint8Array): boolean;
  /** Sends what was written, then closes. */
  end(): void;
  /** Closes at once. No `close` handler runs afterwards. */
  destroy(): void;
  /** Stops and resumes reading. */
  pause(): void;
  resume(): void;
  /** TTL options of a connection that was accepted. */
  setTtl(options: { readonly ttl?: number; readonly minTtl?: number }): void;
  start(handlers: ConnectionHandlers): void;
}

export interface ConnectionHandlers {
  data(chunk: Uint8Array): void;
  drain(): void;
  /** Once; null when the other side closed in order. */
  close(error: Error | null): void;
}

export interface PasswordRule {
  /** Address or prefix. */
  readonly peer: string;
  readonly password: string;
}

export interface Listener {
  readonly address: string;
  readonly port: number;
  /** The whole set of TCP-MD5 keys of peers that connect. */
  setPasswords(rules: readonly PasswordRule[]): void;
  close(): void;
}

/** The network as the speaker sees it. The agent plugs in sockets, tests a simulated network. */
export interface Transport {
  /** `done` runs exactly once unless cancelled, never before this returns. */
  connect(
    request: ConnectRequest,
    done: (error: Error | null, connection: Connection | null) => void,
  ): { cancel(): void };
  /** Throws when the address cannot be bound. */
  listen(config: ListenConfig, accept: (connection: Connection) => void): Listener;
  /** Own addresses, so that a range never takes ourselves for a peer. */
  isOwnAddress(address: string): boolean;
  /** All addresses of the interface that has this one, in the system's order: next hops of the other family. */
  siblings(address: string): readonly string[];
  /** The system's number of an interface; 0 when there is none of that name. */
  interfaceIndex(name: string): number;
}

// ---------------------------------------------------------------- BFD

export interface BfdTarget {
  readonly address: string;
  /** Absent: whichever the system chooses. */
  readonly localAddress?: string;
  /** More than one hop away (RFC 5883). */
  readonly multihop: boolean;
  /** For link-local addresses: the interface's name and index. */
  readonly interface?: string;
  readonly scope: number;
}

/** Watches whether the way to a peer forwards. */
export interface BfdMonitor {
  /** `administrative`: the other side was taken down on purpose, which is no failure. */
  watch(target: BfdTarget, onState: (up: boolean, administrative: boolean) => void): { stop(): void };
}

// ---------------------------------------------------------------- events and queries

export interface ResetReason {
  /** Who ended the session. */
  readonly by: 'local' | 'remote';
  readonly reason: string;
  /** NOTIFICATION code and subcode; null when none was sent. */
  readonly code: number | null;
  readonly subcode: number | null;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

export type SpeakerEvent =
  | {
      readonly type: 'peer-state';
      readonly at: number;
      readonly peer: string;
      readonly from: NeighbourState;
      readonly to: NeighbourState;
      readonly reason?: ResetReason;
    }
  | { readonly type: 'end-of-rib'; readonly at: number; readonly peer: string; readonly family: AddressFamily }
  | {
      readonly type: 'update-error';
      readonly at: number;
      readonly peer: string;
      readonly verdict: 'discard' | 'withdraw' | 'reset';
      readonly reason: string;
    }
  | {
      readonly type: 'max-prefixes';
      readonly at: number;
      readonly peer: string;
      readonly family: AddressFamily;
      readonly count: number;
      readonly limit: number;
    }
  | { readonly type: 'unknown-peer'; readonly at: number; readonly address: string }
  | { readonly type: 'error'; readonly at: number; readonly peer?: string; readonly message: string };

export interface PeerSummary {
  readonly name: string;
  readonly address: string;
  readonly asNumber: number;
  readonly localAs: number;
  /** Named in the configuration, or taken from a range. */
  readonly dynamic: boolean;
  readonly state: NeighbourState;
  /** Milliseconds in this state. */
  readonly since: number;
  readonly families: readonly PeerFamilySummary[];
  /** Why the last session, or the last OPEN, came to nothing. */
  readonly lastReset: ResetReason | null;
  /** Why the last attempt to connect failed; null once a connection was made. */
  readonly lastError: string | null;
  readonly flaps: number;
  readonly description?: string;
}

export interface PeerFamilySummary {
  readonly family: AddressFamily;
  readonly received: number;
  readonly accepted: number;
  readonly sent: number;
  readonly stale: number;
  /** No policy lets routes in or out (RFC 8212). */
  readonly policyMissing: boolean;
  readonly endOfRibReceived: boolean;
  readonly endOfRibSent: boolean;
}

export interface PeerDetail extends PeerSummary {
  readonly routerId: string | null;
  readonly hostName: string | null;
  readonly localAddress: string | null;
  readonly localPort: number | null;
  readonly remotePort: number | null;
  readonly holdTime: { readonly configured: number; readonly agreed: number | null };
  readonly keepaliveTime: number | null;
  readonly capabilities: { readonly sent: readonly string[]; readonly received: readonly string[] };
  readonly messages: { readonly received: MessageCounts; readonly sent: MessageCounts };
  readonly queuedOctets: number;
  /** Least time that was left on the hold timer, in ms; null before the first keepalive. */
  readonly holdMargin: number | null;
  readonly gracefulRestart: {
    readonly peerRestartTime: number | null;
    readonly restarting: boolean;
    readonly helping: boolean;
  };
  readonly updateErrors: { readonly discarded: number; readonly withdrawn: number };
  readonly authenticated: boolean;
  /** Null when BFD is not asked for. */
  readonly bfd: 'up' | 'down' | null;
  readonly ttlSecurity: number | null;
}

export interface MessageCounts {
  readonly open: number;
  readonly update: number;
  readonly notification: number;
  readonly keepalive: number;
  readonly refresh: number;
}

/** A path for people: attributes as text. */
export interface PathView {
  readonly prefix: string;
  /** Null for a local route. */
  readonly peer: string | null;
  readonly pathId: number;
  readonly best: boolean;
  readonly multipath: boolean;
  readonly accepted: boolean;
  /** Why it is not used: `filter`, `AS loop`, `next hop unreachable`, ... */
  readonly rejected?: string;
  readonly stale: boolean;
  readonly nextHop: string | null;
  readonly origin: 'igp' | 'egp' | 'incomplete';
  readonly asPath: string;
  readonly med: number | null;
  readonly localPref: number | null;
  readonly communities: readonly string[];
  readonly largeCommunities: readonly string[];
  readonly extendedCommunities: readonly string[];
  readonly originatorId: string | null;
  readonly clusterList: readonly string[];
  readonly age: number;
}

export interface RouteView {
  readonly prefix: string;
  readonly paths: readonly PathView[];
  /** The step of the decision process that chose the best path; null with fewer than two usable paths. */
  readonly decidedBy: string | null;
}

export interface ExplainView {
  readonly prefix: string;
  readonly peer: string;
  readonly advertised: boolean;
  readonly reason: string;
}

export interface RoutesQuery {
  readonly view: 'best' | 'received' | 'accepted' | 'rejected' | 'advertised';
  /** Needed for `advertised`. */
  readonly peer?: string;
  readonly family?: AddressFamily;
  /** Only prefixes inside this one. */
  readonly within?: string;
  /** Most paths answered. Default 1000. */
  readonly limit?: number;
}

export interface RoutesAnswer {
  readonly paths: readonly PathView[];
  /** There are more than `limit`. */
  readonly truncated: boolean;
}

export interface SpeakerStatus {
  readonly routerId: string;
  readonly asNumber: number;
  readonly uptime: number;
  readonly peers: { readonly configured: number; readonly established: number };
  readonly prefixes: Readonly<Record<AddressFamily, number>>;
  readonly paths: Readonly<Record<AddressFamily, number>>;
  readonly attributeSets: number;
  readonly updateGroups: number;
  /** Connections from addresses that no peer has. */
  readonly unknownConnections: number;
  /** The wait for peers after a restart is over. */
  readonly converged: boolean;
  readonly listening: readonly ListenConfig[];
}

/** Which paths a dump holds: as received, as import left them, or the best ones only. */
export type DumpView = 'received' | 'accepted' | 'best';

/** Where a dump goes on. Opaque to all but the speaker that gave it. */
export interface DumpCursor {
  readonly peers: readonly { readonly id: number; readonly name: string }[];
  readonly family: number;
  readonly row: number;
  readonly sequence: number;
}

export interface DumpPiece {
  /** Whole MRT records. */
  readonly octets: Uint8Array;
  /** Null after the last piece. */
  readonly next: DumpCursor | null;
}

export type ClearMode = 'soft-in' | 'soft-out' | 'hard';

/** The speaker, wherever it runs. Queries on unknown peers are rejected with `not-found`. */
export interface SpeakerHandle {
  /** Takes a whole configuration; what does not differ is not touched. */
  configure(config: SpeakerConfig): Promise<ConfigPlan>;
  /** What `configure` would do. */
  plan(config: SpeakerConfig): Promise<ConfigPlan>;
  /** The whole set of routes this host originates. */
  setLocalRoutes(routes: readonly LocalRoute[]): Promise<void>;
  status(): Promise<SpeakerStatus>;
  summary(): Promise<readonly PeerSummary[]>;
  peer(name: string): Promise<PeerDetail>;
  routes(query: RoutesQuery): Promise<RoutesAnswer>;
  route(prefix: string): Promise<RouteView>;
  explain(prefix: string, peer?: string): Promise<readonly ExplainView[]>;
  /** The next piece of an MRT table dump (RFC 6396); `cursor` null for the first. */
  dump(view: DumpView, cursor: DumpCursor | null): Promise<DumpPiece>;
  /** `peer` null: all of them. */
  clear(peer: string | null, mode: ClearMode): Promise<void>;
  /** Prometheus text. */
  metrics(): Promise<string>;
  /** Until the returned function is called. */
  watch(listener: (event: SpeakerEvent) => void): () => void;
  /**
   * `restart`: connections close without a NOTIFICATION, so that peers hold our routes; `shutdown`: cease 6/2 with the
   * words given, and peers drop them.
   */
  stop(mode: 'restart' | 'shutdown', words?: string): Promise<void>;
}
