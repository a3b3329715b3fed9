// The speaker: peers, listeners and the RIB put together, and the scheduling between them.
// In: a whole configuration, local routes, bytes by way of the transport, next-hop states. Out: best routes to the sink,
// events, answers to queries (queries.ts).
// RFC 4271, 4724 (both roles), 8538, 9494, 7313, 2918, 4486, 8203/9003.
//
// Traps:
// - RIB work runs in slices of SLICE_MS with the event loop in between, so that keepalives go out and hold timers see
//   what has arrived while a full table is processed.
// - `stop('restart')` must send nothing: any NOTIFICATION would make peers drop our routes.
import type { Clock } from '#base/clock.ts';
import { BrindleError } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { DownCause, FsmContext } from '#bgp/fsm/neighbour.ts';
import type { NeighbourState } from '#bgp/fsm/states.ts';
import { Rib } from '#bgp/rib/rib.ts';
import type { Capabilities } from '#bgp/wire/capabilities.ts';
import {
  BGP_PORT,
  encodeRouteRefresh,
  type ProtocolError,
  REFRESH_BEGIN,
  REFRESH_END,
  REFRESH_REQUEST,
  type RouteRefresh,
} from '#bgp/wire/message.ts';
import {
  CEASE_BFD_DOWN,
  CEASE_CONFIG_CHANGE,
  CEASE_DECONFIGURED,
  CEASE_MAX_PREFIXES,
  CEASE_RESET,
  CEASE_SHUTDOWN,
  ERR_CEASE,
  hardReset,
  type Notification,
  shutdownData,
} from '#bgp/wire/notification.ts';
import {
  ADDRESS_FAMILIES,
  type AddressFamily,
  EMPTY_BYTES,
  VERDICT_DISCARD,
  VERDICT_RESET,
  VERDICT_WITHDRAW,
} from '#bgp/wire/types.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type {
  BfdMonitor,
  ClearMode,
  ConfigPlan,
  Connection,
  ConnectRequest,
  ListenConfig,
  LocalRoute,
  NextHopState,
  NextHopTracker,
  PasswordRule,
  PeerConfig,
  PeerOptions,
  PeerRangeConfig,
  ResetReason,
  RouteSink,
  SpeakerConfig,
  SpeakerEvent,
  Transport,
} from './api.ts';
import { STALE_PATH_LIMIT } from './graceful-restart.ts';
import {
  capabilitiesOf,
  checkConfig,
  DEFAULT_HOLD_TIME,
  DEFAULT_MAXIMUM_PATHS,
  DEFAULT_RANGE_LIMIT,
  nextHopAddress,
  type PeerPolicies,
  ribPeerConfig,
  routerIdNumber,
  ttlOf,
} from './identity.ts';
import { localAttributes } from './local-routes.ts';
import { type Entry, type EntryConfig, memberConfig, newEntry } from './entry.ts';
import { LinkWatch } from './link-watch.ts';
import { ListenerSet } from './listeners.ts';
import { RestartDeferral } from './restart-deferral.ts';
import { RestartHelper } from './restart-helper.ts';
import { Monitoring } from './monitoring.ts';
import type { ReplayRoute } from './mrt-replay.ts';
import { Peer, type PeerHost, type Session } from './peer.ts';
import { planChange, same } from './plan.ts';
import { type Filters, PolicyCompiler } from './policies.ts';
import { SinkFeed } from './sink-feed.ts';

/** RIB work in one turn of the event loop, in ms. */
const SLICE_MS = 4;
/** Octets handed to one peer in one go. */
const PULL_OCTETS = 64 * 1024;
/** Tells routes of dumps from local ones of the same prefix, among our own paths. */
const REPLAY_SOURCE = 2;
/** A member of a range that has been gone this long is forgotten. */
const DYNAMIC_IDLE = 60_000;

export interface SpeakerOptions {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Logger;
  readonly sink?: RouteSink;
  readonly nextHops?: NextHopTracker;
  readonly bfd?: BfdMonitor;
  /** Between 0 and 1; for jitter. */
  readonly random?: () => number;
  /** Runs the callback in a later turn of the event loop, after pending reads. Default `setImmediate`. */
  readonly soon?: (callback: () => void) => void;
  /** This host has run before, and peers may hold its routes: the R bit. Default true, which harms nobody. */
  readonly restarting?: boolean;
  /** Forwarding went on while we were away: the F bit. Only with the kernel's routes still in place. */
  readonly forwardingKept?: boolean;
}

export class Speaker implements PeerHost {
  readonly clock: Clock;
  readonly log: Logger;
  readonly rib: Rib;
  config: SpeakerConfig | null = null;
  readonly entries = new Map<string, Entry>();
  unknownConnections = 0;
  readonly startedAt: number;
  readonly #options: SpeakerOptions;
  readonly #transport: Transport;
  readonly #random: () => number;
  readonly #soon: (callback: () => void) => void;
  readonly #byAddress = new Map<string, Entry>();
  readonly #byRib = new Map<number, Entry>();
  readonly #listeners: ListenerSet;
  readonly #helper: RestartHelper;
  readonly #links: LinkWatch;
  readonly #monitoring: Monitoring;
  readonly #watchers = new Set<(event: SpeakerEvent) => void>();
  readonly #local = new Map<string, LocalRoute>();
  #replayed: ReadonlyMap<string, ReplayRoute> = new Map();
  readonly #feed: SinkFeed | null;
  /** Next hops handed to the tracker, with their ids in the RIB. */
  readonly #tracked = new Map<string, number[]>();
  /** Those it has not answered yet. */
  readonly #unresolved = new Set<string>();
  readonly #policies = new PolicyCompiler();
  #scheduled = false;
  #stopped = false;
  readonly #deferral: RestartDeferral;

  constructor(options: SpeakerOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.log = options.log;
    this.#transport = options.transport;
    this.#random = options.random ?? Math.random;
    this.#soon = options.soon ?? ((callback) => void setImmediate(callback));
    this.startedAt = this.clock.wall();
    this.rib = new Rib({
      identity: { routerId: 0, localAs: 0, clusterId: 0 },
      now: () => this.clock.monotonic(),
      resolveNextHops: options.nextHops !== undefined,
    });
    this.#feed = options.sink
      ? new SinkFeed(
          this.rib,
          options.sink,
          (id) => this.#byRib.get(id)?.peer.name ?? null,
          (zone) => this.#interfaceOf(zone),
        )
      : null;
    this.#deferral = new RestartDeferral(options.restarting ?? true, this.clock, this.entries, (reason) => {
      this.log.info({ reason }, 'BGP has converged');
      this.#feed?.converged();
      this.schedule();
    });
    this.#helper = new RestartHelper(this.rib, this.clock, () => this.schedule());
    this.#links = new LinkWatch(options.bfd ?? null, this.#transport, (entry) => {
      entry.peer.reset(this.#cease(entry, CEASE_BFD_DOWN), 'BFD tells that the link does not forward');
    });
    this.#monitoring = new Monitoring(this, this.#soon);
    this.#listeners = new ListenerSet(
      this.#transport,
      this.clock,
      (connection) => this.#accept(connection),
      (message) => this.emit({ type: 'error', at: this.clock.wall(), message }),
    );
    options.nextHops?.onChange((address, state) => this.#nextHopChanged(address, state));
  }

  // ------------------------------------------------------------ configuration

  /** Takes a whole configuration; only what differs is touched. Throws `invalid-argument` with nothing changed. */
  configure(config: SpeakerConfig): ConfigPlan {
    checkConfig(config);
    this.#policies.sweep();
    for (const peer of [...config.peers, ...config.peerRanges]) this.#compile(peer, config.filters ?? {});
    const before = this.config;
    const plan = planChange(before, config);
    this.config = config;
    const clusterId = routerIdNumber(config.clusterId ?? config.routerId, 'clusterId');
    const identity = { routerId: routerIdNumber(config.routerId, 'routerId'), localAs: config.asNumber, clusterId };
    if (!same(identity, this.rib.identity)) this.rib.setIdentity(identity);
    if (!before || !same(before.multipath, config.multipath)) {
      this.rib.configure({
        maxPaths: config.multipath?.maximumPaths ?? DEFAULT_MAXIMUM_PATHS,
        multipathRelax: config.multipath?.relax ?? false,
      });
    }
    const ranges = new Map(config.peerRanges.map((r) => [r.name, r]));
    for (const change of plan.changes) {
      if (change.effect === 'removed') {
        for (const entry of [...this.entries.values()]) {
          if (entry.peer.name === change.peer || entry.range === change.peer) this.#remove(entry, CEASE_DECONFIGURED);
        }
        continue;
      }
      const peer = config.peers.find((p) => p.name === change.peer);
      if (peer) this.#applyPeer(peer, change.effect);
      const range = ranges.get(change.peer);
      if (range && change.effect !== 'added') this.#applyRange(range, change.effect);
    }
    if (!same(before?.bmp ?? [], config.bmp ?? [])) this.#monitoring.set(config.bmp ?? []);
    this.#listeners.set(config.listen, passwordRules(config));
    for (const change of plan.changes) {
      const entry = this.entries.get(change.peer);
      if (entry && change.effect === 'added' && entry.config.shutdown === undefined) this.#start(entry);
    }
    this.#deferral.begin();
    this.schedule();
    return plan;
  }

  #applyPeer(peer: PeerConfig, effect: 'added' | 'live' | 're-evaluate' | 'reset'): void {
    const known = this.entries.get(peer.name);
    if (!known) {
      this.#add(peer, null);
      return;
    }
    const addressChanged = known.config.address !== peer.address || known.config.interface !== peer.interface;
    if (addressChanged) {
      this.#remove(known, CEASE_DECONFIGURED);
      this.#start(this.#add(peer, null));
      return;
    }
    const wasDown = known.config.shutdown !== undefined;
    const bfdChanged = known.config.bfd !== peer.bfd;
    known.config = peer;
    this.#reconfigureRib(known);
    if (bfdChanged) this.#links.start(known);
    if (peer.shutdown !== undefined) {
      const words = peer.shutdown === true ? '' : peer.shutdown;
      known.peer.stop(this.#cease(known, CEASE_SHUTDOWN, shutdownData(words)), 'administratively shut down');
      this.#links.stop(known);
    } else if (wasDown) this.#start(known);
    else if (effect === 'reset') {
      known.peer.reset(this.#cease(known, CEASE_CONFIG_CHANGE), 'the configuration of the session changed');
    }
  }

  #applyRange(range: PeerRangeConfig, effect: 'live' | 're-evaluate' | 'reset'): void {
    for (const entry of [...this.entries.values()]) {
      if (entry.range !== range.name) continue;
      const inside = Prefix.parse(range.prefix).contains(IpAddress.parse(entry.config.address));
      if (!inside) {
        this.#remove(entry, CEASE_DECONFIGURED);
        continue;
      }
      entry.config = memberConfig(range, entry.config.address);
      this.#reconfigureRib(entry);
      if (effect === 'reset') entry.peer.reset(this.#cease(entry, CEASE_CONFIG_CHANGE), 'the configuration changed');
    }
  }

  #add(config: EntryConfig, range: string | null): Entry {
    const rib = this.rib.addPeer(this.#ribConfig(config));
    const entry = newEntry(new Peer(config.name, this), config, rib, range);
    this.entries.set(config.name, entry);
    this.#byAddress.set(config.address, entry);
    this.#byRib.set(rib.id, entry);
    return entry;
  }

  #start(entry: Entry): void {
    if (this.#stopped) return;
    entry.peer.start();
    this.#links.start(entry);
  }

  #remove(entry: Entry, subcode: number): void {
    const silent = entry.config.removal === 'silent';
    entry.peer.stop(silent ? null : this.#cease(entry, subcode), 'removed from the configuration');
    this.#links.stop(entry);
    entry.staleTimer?.cancel();
    entry.idleTimer?.cancel();
    this.rib.removePeer(entry.rib);
    this.entries.delete(entry.peer.name);
    if (this.#byAddress.get(entry.config.address) === entry) this.#byAddress.delete(entry.config.address);
    this.#byRib.delete(entry.rib.id);
    this.#deferral.check();
    this.schedule();
  }

  #ribConfig(config: EntryConfig): ReturnType<typeof ribPeerConfig> {
    return ribPeerConfig(config.name, config.address, config, this.#compile(config, this.config?.filters ?? {}));
  }

  #compile(peer: PeerOptions & { readonly name: string }, filters: Filters): PeerPolicies {
    return {
      import: this.#policies.compile(peer.import, 'import', filters, `${peer.name}.import`),
      export: this.#policies.compile(peer.export, 'export', filters, `${peer.name}.export`),
    };
  }

  #reconfigureRib(entry: Entry): void {
    this.rib.configurePeer(entry.rib, this.#ribConfig(entry.config));
    this.schedule();
  }

  get listening(): readonly ListenConfig[] {
    return this.#listeners.listening;
  }

  // ------------------------------------------------------------ connections

  /** Unknown addresses never reach a state machine. */
  #accept(connection: Connection): void {
    const entry = this.#byAddress.get(connection.remoteAddress) ?? this.#fromRange(connection.remoteAddress);
    if (!entry || this.#stopped) {
      this.unknownConnections++;
      connection.destroy();
      if (!entry) this.emit({ type: 'unknown-peer', at: this.clock.wall(), address: connection.remoteAddress });
      return;
    }
    const { localAddress } = entry.config;
    if (localAddress !== undefined && localAddress !== connection.localAddress) {
      this.unknownConnections++;
      connection.destroy();
      return;
    }
    try {
      connection.setTtl(ttlOf(entry.config, this.#isExternal(entry)));
    } catch {
      connection.destroy(); // it is closed already
      return;
    }
    entry.peer.accept(connection);
  }

  #fromRange(text: string): Entry | null {
    const address = IpAddress.tryParse(text);
    if (!address || this.#transport.isOwnAddress(text)) return null;
    let best: { range: PeerRangeConfig; length: number } | null = null;
    for (const range of this.config?.peerRanges ?? []) {
      const prefix = Prefix.parse(range.prefix);
      if (prefix.contains(address) && prefix.length > (best?.length ?? -1)) best = { range, length: prefix.length };
    }
    if (!best) return null;
    const { range } = best;
    let members = 0;
    for (const entry of this.entries.values()) if (entry.range === range.name) members++;
    if (members >= (range.limit ?? DEFAULT_RANGE_LIMIT)) return null;
    const entry = this.#add(memberConfig(range, text), range.name);
    this.#start(entry);
    this.#forgetLater(entry, false); // unless it comes to a session
    return entry;
  }

  #interfaceOf(zone: number): string | null {
    for (const { config } of this.entries.values()) {
      if (config.interface !== undefined && this.#transport.interfaceIndex(config.interface) === zone)
        return config.interface;
    }
    return null;
  }

  #isExternal(entry: Entry): boolean {
    return entry.config.asNumber !== (entry.config.localAs ?? this.config?.asNumber);
  }

  // ------------------------------------------------------------ PeerHost

  context(peer: Peer): FsmContext {
    const entry = this.entries.get(peer.name)!;
    const config = this.config!;
    const localAs = entry.config.localAs ?? config.asNumber;
    const capabilities = capabilitiesOf(
      config,
      entry.config,
      localAs,
      this.#deferral.active,
      this.#options.forwardingKept ?? false,
    );
    return {
      localAs,
      routerId: routerIdNumber(config.routerId, 'routerId'),
      peerAs: entry.config.asNumber ?? null,
      passive: entry.range !== null || (entry.config.passive ?? false),
      holdTime: entry.config.holdTime ?? config.holdTime ?? DEFAULT_HOLD_TIME,
      keepaliveTime: entry.config.keepaliveTime ?? null,
      capabilities,
      gracefulRestart: (capabilities.gracefulRestart?.families.length ?? 0) > 0,
      delayOpen: 0,
      random: this.#random,
    };
  }

  offered(peer: Peer, capabilities: Capabilities): void {
    this.entries.get(peer.name)!.offered = capabilities;
  }

  target(peer: Peer): ConnectRequest {
    const entry = this.entries.get(peer.name)!;
    const { config } = entry;
    return {
      address: config.address,
      port: config.port ?? BGP_PORT,
      ...(config.localAddress !== undefined && { localAddress: config.localAddress }),
      ...(config.interface !== undefined && { interface: config.interface }),
      ...(config.password !== undefined && { password: config.password }),
      ...ttlOf(config, this.#isExternal(entry)),
      timeout: 0,
    };
  }

  connect(
    request: ConnectRequest,
    done: (error: Error | null, connection: Connection | null) => void,
  ): { cancel(): void } {
    try {
      return this.#transport.connect(request, done);
    } catch (error) {
      let cancelled = false;
      this.#soon(() => {
        if (!cancelled) done(error instanceof Error ? error : new Error(String(error)), null);
      });
      return { cancel: () => void (cancelled = true) };
    }
  }

  afterRead(callback: () => void): void {
    this.#soon(() => this.#soon(callback));
  }

  established(peer: Peer, session: Session): void {
    const entry = this.entries.get(peer.name)!;
    const { negotiated, open, connection } = session;
    entry.received = [];
    entry.refreshing = [];
    entry.warned = [];
    entry.idleTimer?.cancel();
    const siblings = this.#transport.siblings(connection.localAddress);
    const local = (family: AddressFamily): IpAddress | null =>
      nextHopAddress(family, connection.localAddress, entry.config, siblings);
    const own = IpAddress.tryParse(connection.localAddress);
    const linkLocal = own?.family === 6 && own.isLinkLocal() ? own : null;
    const { longLivedAware } = open.capabilities;
    this.rib.peerUp(entry.rib, {
      codec: negotiated.codec,
      routerId: open.routerId,
      localAddress: { ipv4: local('ipv4'), ipv6: local('ipv6') },
      localLinkLocal: linkLocal,
      zone:
        linkLocal && entry.config.interface !== undefined ? this.#transport.interfaceIndex(entry.config.interface) : 0,
      longLivedStale: { ipv4: longLivedAware, ipv6: longLivedAware },
    });
    this.#monitoring.up(session);
    this.#deferral.hold(entry);
    this.#helper.returned(entry, session);
    this.#deferral.check();
    this.schedule();
  }

  down(peer: Peer, session: Session, cause: DownCause, notification: Notification | null): void {
    const entry = this.entries.get(peer.name)!;
    this.#monitoring.down(session, cause, notification);
    this.#helper.lost(entry, session, cause, notification);
    entry.received = [];
    if (entry.range !== null) this.#forgetLater(entry, entry.retained.length > 0);
    this.#deferral.check();
    this.schedule();
  }

  update(peer: Peer, session: Session, buf: Uint8Array, off: number, len: number): ProtocolError | null {
    const entry = this.entries.get(peer.name)!;
    const result = this.rib.receive(entry.rib, buf, off, len);
    this.#monitoring.update(session, buf, off, len, result.verdict);
    if (result.endOfRib) this.#endOfRib(entry, result.endOfRib);
    if (result.verdict !== 0) {
      const worst = result.errors[0]!;
      if (result.verdict === VERDICT_DISCARD) entry.discarded++;
      if (result.verdict === VERDICT_WITHDRAW) entry.withdrawn++;
      const verdict = (['discard', 'discard', 'withdraw', 'reset'] as const)[result.verdict];
      this.emit({ type: 'update-error', at: this.clock.wall(), peer: peer.name, verdict, reason: worst.reason });
      if (result.verdict === VERDICT_RESET) return worst;
    }
    const error = this.#checkLimit(entry);
    if (!this.#scheduled) this.schedule();
    return error;
  }

  refresh(peer: Peer, session: Session, refresh: RouteRefresh): void {
    const entry = this.entries.get(peer.name)!;
    const { family, subtype } = refresh;
    if (!family || !session.negotiated.families.includes(family)) return;
    if (subtype === REFRESH_REQUEST) this.#sendAgain(entry, session, family);
    else if (!session.negotiated.enhancedRouteRefresh) return;
    else if (subtype === REFRESH_BEGIN) this.rib.beginRefresh(entry.rib, family);
    else if (subtype === REFRESH_END) this.rib.sweepStale(entry.rib, family);
    this.schedule();
  }

  /** All routes of the family once more, between marks where the peer knows them. */
  #sendAgain(entry: Entry, session: Session, family: AddressFamily): void {
    if (session.negotiated.enhancedRouteRefresh && !entry.refreshing.includes(family)) {
      entry.peer.sendRefresh(encodeRouteRefresh(family, REFRESH_BEGIN));
      entry.refreshing = [...entry.refreshing, family];
    }
    this.rib.softOut(entry.rib, family);
  }

  #endRefresh(entry: Entry): void {
    const done = entry.refreshing.filter((family) => entry.rib.families[family].member?.walk === null);
    for (const family of done) entry.peer.sendRefresh(encodeRouteRefresh(family, REFRESH_END));
    if (done.length > 0) entry.refreshing = entry.refreshing.filter((family) => !done.includes(family));
  }

  writable(): void {
    this.schedule();
  }

  stateChanged(peer: Peer, from: NeighbourState, to: NeighbourState, reason: ResetReason | undefined): void {
    const entry = this.entries.get(peer.name);
    if (entry && (reason || (from === 'connect' && to !== 'connect'))) entry.tried = true;
    if (from !== to || reason) {
      this.emit({ type: 'peer-state', at: this.clock.wall(), peer: peer.name, from, to, ...(reason && { reason }) });
    }
    this.#deferral.check();
  }

  // ------------------------------------------------------------ graceful restart

  #endOfRib(entry: Entry, family: AddressFamily): void {
    if (!entry.received.includes(family)) entry.received = [...entry.received, family];
    this.#helper.endOfRib(entry, family);
    this.emit({ type: 'end-of-rib', at: this.clock.wall(), peer: entry.peer.name, family });
    this.#deferral.check();
  }

  get converged(): boolean {
    return !this.#deferral.active;
  }

  // ------------------------------------------------------------ limits, ranges, notifications

  #checkLimit(entry: Entry): ProtocolError | null {
    const limits = entry.config.maxPrefixes;
    if (!limits) return null;
    for (const family of ADDRESS_FAMILIES) {
      const count = entry.rib.families[family].received;
      const limit = typeof limits.limit === 'number' ? limits.limit : limits.limit[family];
      if (limit === undefined || count <= limit) continue;
      if (!entry.warned.includes(family)) {
        entry.warned = [...entry.warned, family];
        this.emit({ type: 'max-prefixes', at: this.clock.wall(), peer: entry.peer.name, family, count, limit });
      }
      if (limits.action === 'warn') continue;
      const data = new Uint8Array([
        0,
        family === 'ipv4' ? 1 : 2,
        1,
        limit >>> 24,
        (limit >>> 16) & 255,
        (limit >>> 8) & 255,
        limit & 255,
      ]);
      const notification = this.#cease(entry, CEASE_MAX_PREFIXES, data);
      const reason = `${count} ${family} prefixes, the limit is ${limit}`;
      entry.peer.reset(notification, reason, limits.restartSeconds * 1000);
      return null;
    }
    return null;
  }

  #forgetLater(entry: Entry, retained: boolean): void {
    entry.idleTimer?.cancel();
    const wait = retained ? STALE_PATH_LIMIT : DYNAMIC_IDLE;
    entry.idleTimer = this.clock.after(wait, () => {
      if (entry.peer.session) return;
      if (entry.peer.idle && entry.retained.length === 0) this.#remove(entry, CEASE_DECONFIGURED);
      else this.#forgetLater(entry, entry.retained.length > 0);
    });
  }

  /** A Cease that ends graceful restart too where the peer knows Hard Reset (RFC 8538). */
  #cease(entry: Entry, subcode: number, data: Uint8Array = EMPTY_BYTES): Notification {
    const plain: Notification = { code: ERR_CEASE, subcode, data };
    const theirs = entry.peer.session?.open.capabilities.gracefulRestart;
    const mine = entry.offered?.gracefulRestart;
    return theirs?.notification && mine?.notification ? hardReset(plain) : plain;
  }

  // ------------------------------------------------------------ routes

  /** The whole set of routes this host originates. Throws `invalid-argument` with nothing changed. */
  setLocalRoutes(routes: readonly LocalRoute[]): void {
    const wanted = new Map<string, LocalRoute>();
    const made = new Map<string, { prefix: Prefix; attributes: ReturnType<typeof localAttributes> }>();
    for (const [i, route] of routes.entries()) {
      const prefix = Prefix.parse(route.prefix);
      const key = prefix.toString();
      wanted.set(key, route);
      if (!same(this.#local.get(key), route))
        made.set(key, { prefix, attributes: localAttributes(route, `routes[${i}]`) });
    }
    for (const [key] of this.#local) {
      if (wanted.has(key)) continue;
      this.rib.withdrawLocal(Prefix.parse(key));
      this.#local.delete(key);
    }
    for (const [key, { prefix, attributes }] of made) {
      this.rib.originate(prefix, attributes);
      this.#local.set(key, wanted.get(key)!);
    }
    this.schedule();
  }

  /** The whole set of routes taken from dumps, by prefix, without those that are local routes too. */
  setReplayed(routes: ReadonlyMap<string, ReplayRoute>): void {
    for (const [key, { prefix }] of this.#replayed) {
      if (!routes.has(key)) this.rib.withdrawLocal(prefix, REPLAY_SOURCE);
    }
    for (const [key, { prefix, attributes }] of routes) {
      if (!same(this.#replayed.get(key)?.attributes, attributes)) this.rib.originate(prefix, attributes, REPLAY_SOURCE);
    }
    this.#replayed = routes;
    this.schedule();
  }

  localRoute(prefix: string): LocalRoute | undefined {
    return this.#local.get(prefix);
  }

  clear(name: string | null, mode: ClearMode): void {
    const entries = name === null ? [...this.entries.values()] : [this.entry(name)];
    for (const entry of entries) {
      const session = entry.peer.session;
      if (mode === 'hard') entry.peer.reset(this.#cease(entry, CEASE_RESET), 'cleared by the operator');
      else if (session) {
        for (const family of session.negotiated.families) {
          if (mode === 'soft-out') this.#sendAgain(entry, session, family);
          else {
            this.rib.softIn(entry.rib, family);
            if (session.negotiated.routeRefresh) entry.peer.sendRefresh(encodeRouteRefresh(family, REFRESH_REQUEST));
          }
        }
      }
    }
    this.schedule();
  }

  /** Throws `not-found` with the names there are. */
  entry(name: string): Entry {
    const entry = this.entries.get(name) ?? this.#byAddress.get(name);
    if (entry) return entry;
    const names = [...this.entries.keys()];
    throw new BrindleError('not-found', `no BGP peer "${name}"`, {
      remedy: names.length > 0 ? `the peers are ${names.slice(0, 20).join(', ')}` : 'no peer is configured',
    });
  }

  #nextHopChanged(text: string, state: NextHopState): void {
    this.#unresolved.delete(text);
    for (const id of this.#tracked.get(text) ?? []) this.rib.setNextHop(id, state.reachable, state.metric);
    this.schedule();
  }

  /** A next hop that comes with different link-local addresses is several to the RIB, and one to the tracker. */
  #trackNextHops(): void {
    for (const { id, address } of this.rib.nextHops.takeNew()) {
      if (!address) continue;
      const text = address.toString();
      if (this.#transport.isOwnAddress(text)) this.rib.setNextHop(id, false, 0);
      else if (address.isLinkLocal()) this.rib.setNextHop(id, true, 0);
      else if (this.#options.nextHops) {
        const ids = this.#tracked.get(text);
        if (ids) {
          ids.push(id);
          const [first = id] = ids;
          this.rib.setNextHop(id, this.rib.nextHops.reachable[first] === 1, this.rib.nextHops.metric[first]!);
          continue;
        }
        this.#tracked.set(text, [id]);
        this.#unresolved.add(text);
        this.#options.nextHops.track(text);
      }
    }
  }

  // ------------------------------------------------------------ scheduling

  /** Asks for a slice of RIB work and sending in the next turn of the event loop. */
  schedule(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    this.#soon(() => {
      this.#scheduled = false;
      if (!this.#stopped && this.#slice()) this.schedule();
    });
  }

  /** True when there is more to do at once. */
  #slice(): boolean {
    const end = this.clock.monotonic() + SLICE_MS;
    let more = true;
    while (more) {
      this.#trackNextHops();
      more = this.rib.work();
      if (this.#pump()) more = true;
      if (this.#feed?.step(!more && this.#unresolved.size === 0)) more = true;
      if (this.clock.monotonic() >= end) break;
    }
    return more;
  }

  /** Hands routes to every peer that has room. True when some peer could take more at once. */
  #pump(): boolean {
    let more = false;
    const out: Uint8Array[] = [];
    for (const entry of this.entries.values()) {
      const { peer, rib } = entry;
      if (!peer.session || !peer.writable) continue;
      if (entry.refreshing.length > 0) this.#endRefresh(entry);
      if (!this.rib.hasOutput(rib)) continue;
      out.length = 0;
      this.rib.pull(rib, PULL_OCTETS, out);
      for (const octets of out) peer.send(octets);
      if (peer.writable && this.rib.hasOutput(rib)) more = true;
    }
    return more;
  }

  // ------------------------------------------------------------ events, end

  emit(event: SpeakerEvent): void {
    for (const watcher of this.#watchers) watcher(event);
  }

  watch(listener: (event: SpeakerEvent) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  /** See SpeakerHandle.stop. */
  stop(mode: 'restart' | 'shutdown', words = ''): void {
    if (this.#stopped) return;
    for (const entry of this.entries.values()) {
      const notification = mode === 'shutdown' ? this.#cease(entry, CEASE_SHUTDOWN, shutdownData(words)) : null;
      entry.peer.stop(notification, mode === 'shutdown' ? 'administrative shutdown' : 'the speaker restarts');
      entry.staleTimer?.cancel();
      entry.idleTimer?.cancel();
      if (mode === 'shutdown') this.#links.stop(entry);
    }
    this.#stopped = true;
    this.#deferral.cancel();
    this.#monitoring.close();
    this.#listeners.close();
  }
}

function passwordRules(config: SpeakerConfig): PasswordRule[] {
  const rules: PasswordRule[] = [];
  for (const { address, password } of config.peers) if (password !== undefined) rules.push({ peer: address, password });
  for (const { prefix, password } of config.peerRanges)
    if (password !== undefined) rules.push({ peer: prefix, password });
  return rules;
}
