// An in-memory kernel: network namespaces with links, addresses, routes, rules and neighbours, for tests of whatever
// works through NetlinkApi. It refuses what the real one refuses, with the same errno (compliance/suite.ts runs on both), and
// sends the same notifications. No packets flow in it.
import { BrindleError, unreachable } from '#base/errors.ts';
import type { Family, IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type {
  KernelEvent,
  LookupOptions,
  NetlinkApi,
  Outcome,
  RouteFilter,
  SubscribeOptions,
  Subscription,
  Topic,
} from './api.ts';
import { RT_SCOPE_LINK, RT_TABLE_LOCAL, RT_TABLE_MAIN, RTPROT_KERNEL } from './constants.ts';
import { KernelError } from './errors.ts';
import { describeOperation } from './operation.ts';
import { defaultMetric, defaultScope } from './route/route.ts';
import type {
  InterfaceAddress,
  Link,
  LinkReference,
  LinkSettings,
  Neighbour,
  NewAddress,
  NewLinkSettings,
  NewNextHop,
  NewRoute,
  NewRule,
  NewVeth,
  NextHop,
  Operation,
  Route,
  RouteKey,
  Rule,
} from './types.ts';

/** errno and the kernel's text, thrown inside and turned into a KernelError with the operation's words. */
class Refusal extends Error {
  readonly errno: string;
  readonly text: string | null;

  constructor(errno: string, text: string | null = null) {
    super(errno);
    this.errno = errno;
    this.text = text;
  }
}

interface Listener {
  readonly owner: FakeNetlink;
  readonly options: SubscribeOptions;
  queue: KernelEvent[];
  open: boolean;
}

interface PeerOf {
  readonly namespace: FakeNamespace;
  readonly index: number;
}

export class FakeKernel {
  readonly #namespaces: FakeNamespace[] = [];

  /** A new namespace with a loopback interface that is up. */
  createNamespace(): FakeNamespace {
    const namespace = new FakeNamespace(this, this.#namespaces.length + 1000);
    this.#namespaces.push(namespace);
    return namespace;
  }

  /** By the descriptor that the namespace said it has. */
  byFd(fd: number): FakeNamespace | null {
    return this.#namespaces.find((n) => n.fd === fd) ?? null;
  }
}

/** The state of one namespace. `connect` gives a NetlinkApi onto it, as opening a socket does. */
export class FakeNamespace {
  /** Stands for an open descriptor, as `netnsFd`. */
  readonly fd: number;
  readonly links = new Map<number, Link>();
  readonly addresses: InterfaceAddress[] = [];
  readonly routes: Route[] = [];
  readonly rules: Rule[] = [];
  readonly neighbours: Neighbour[] = [];
  readonly #kernel: FakeKernel;
  readonly #peers = new Map<number, PeerOf>();
  readonly #listeners = new Set<Listener>();
  #nextIndex = 1;

  constructor(kernel: FakeKernel, fd: number) {
    this.#kernel = kernel;
    this.fd = fd;
    const lo = this.#addLink({ name: 'lo', mtu: 65536, mac: '00:00:00:00:00:00' }, null, 'lo');
    this.links.set(lo.index, { ...lo, up: true, carrier: true, loopback: true });
  }

  connect(): NetlinkApi {
    return new FakeNetlink(this);
  }

  subscribe(owner: FakeNetlink, options: SubscribeOptions): Subscription {
    const listener: Listener = { owner, options, queue: [], open: true };
    this.#listeners.add(listener);
    return {
      close: () => {
        listener.open = false;
        this.#listeners.delete(listener);
      },
    };
  }

  /** As if notifications had been lost. */
  loseNotifications(): void {
    for (const listener of this.#listeners) this.#deliver(listener, { type: 'resync' });
  }

  link(reference: LinkReference): Link {
    for (const link of this.links.values()) {
      if (typeof reference === 'number' ? link.index === reference : link.name === reference) return link;
    }
    throw new Refusal('ENODEV');
  }

  /** Carries out one operation or throws a Refusal. Returns the link for `link-get`. */
  apply(o: Operation, by: FakeNetlink | null): Link | null {
    switch (o.op) {
      case 'link-get':
        return this.link(o.link);
      case 'veth-add':
        this.#addVeth(o.veth);
        return null;
      case 'bridge-add':
        this.#refuseName(o.bridge.name);
        this.#changed(this.#addLink(o.bridge, null, 'bridge'), 'link');
        return null;
      case 'link-set':
        this.#setLink(o.link, o.settings);
        return null;
      case 'link-delete': {
        const link = this.link(o.link);
        if (link.loopback) throw new Refusal('EOPNOTSUPP');
        this.#deleteLink(link);
        return null;
      }
      case 'group-delete': {
        if (o.group === 0) throw new Refusal('EPERM');
        const members = [...this.links.values()].filter((link) => link.group === o.group);
        if (members.length === 0) throw new Refusal('ENODEV');
        for (const link of members) if (this.links.has(link.index)) this.#deleteLink(link);
        return null;
      }
      case 'address-add':
      case 'address-replace':
        this.#addAddress(o.address, o.op === 'address-replace');
        return null;
      case 'address-delete':
        this.#deleteAddress(o.address);
        return null;
      case 'route-add':
      case 'route-replace':
        this.#addRoute(o.route, o.op === 'route-replace', by);
        return null;
      case 'route-delete':
        this.#deleteRoute(o.route, by);
        return null;
      case 'rule-add':
        this.#addRule(o.rule);
        return null;
      case 'rule-delete': {
        const at = this.rules.findIndex((rule) => sameRule(rule, completeRule(o.rule)));
        if (at < 0) throw new Refusal('ENOENT');
        this.rules.splice(at, 1);
        return null;
      }
      case 'neighbour-replace':
        this.link(o.neighbour.ifindex);
        this.#setNeighbour({ ...o.neighbour, state: o.neighbour.state ?? 'permanent', proxy: false });
        return null;
      case 'proxy-add':
        this.link(o.ifindex);
        this.#setNeighbour({ ifindex: o.ifindex, address: o.address, mac: null, state: 'none', proxy: true });
        return null;
      case 'neighbour-delete':
      case 'proxy-delete':
        this.#deleteNeighbour(o.ifindex, o.address, o.op === 'proxy-delete');
        return null;
      case 'proxy-delay':
        this.link(o.ifindex);
        return null;
      default:
        return unreachable(o);
    }
  }

  #refuseName(name: string): void {
    for (const link of this.links.values()) if (link.name === name) throw new Refusal('EEXIST');
  }

  #addLink(settings: NewLinkSettings, peerIndex: number | null, kind: string): Link {
    const index = this.#nextIndex++;
    const link: Link = {
      index,
      name: settings.name,
      kind: kind === 'lo' ? null : kind,
      mac: settings.mac ?? `02:00:00:00:${hexByte(this.fd)}:${hexByte(index)}`,
      mtu: settings.mtu ?? 1500,
      txQueueLength: settings.txQueueLength ?? 1000,
      up: settings.up ?? false,
      carrier: (settings.up ?? false) && kind !== 'veth',
      loopback: kind === 'lo',
      group: settings.group ?? 0,
      master: null,
      peerIndex,
      peerNamespace: null,
      alias: null,
    };
    this.links.set(index, link);
    return link;
  }

  #addVeth(veth: NewVeth): void {
    const other = veth.peer.netnsFd === undefined ? this : this.#kernel.byFd(veth.peer.netnsFd);
    if (!other) throw new Refusal('EINVAL');
    this.#refuseName(veth.name);
    other.#refuseName(veth.peer.name);
    if (other === this && veth.name === veth.peer.name) throw new Refusal('EEXIST');
    const peer = other.#addLink(veth.peer, null, 'veth');
    const link = this.#addLink(veth, peer.index, 'veth');
    const foreign = other !== this;
    this.links.set(link.index, { ...link, peerNamespace: foreign ? other.fd : null });
    other.links.set(peer.index, { ...peer, peerIndex: link.index, peerNamespace: foreign ? this.fd : null });
    this.#peers.set(link.index, { namespace: other, index: peer.index });
    other.#peers.set(peer.index, { namespace: this, index: link.index });
    this.#changed(this.links.get(link.index)!, 'link');
    other.#changed(other.links.get(peer.index)!, 'link');
  }

  #setLink(reference: LinkReference, settings: LinkSettings): void {
    const before = this.link(reference);
    const { name, mac, mtu, txQueueLength, group, alias, up, master } = settings;
    if (name !== undefined && name !== before.name) this.#refuseName(name);
    if (settings.netnsFd !== undefined) throw new BrindleError('unsupported', 'the fake moves no links');
    if (master !== undefined && master !== null && this.link(master).kind !== 'bridge') throw new Refusal('EOPNOTSUPP');
    const link: Link = {
      ...before,
      ...(name === undefined ? {} : { name }),
      ...(mac === undefined ? {} : { mac }),
      ...(mtu === undefined ? {} : { mtu }),
      ...(txQueueLength === undefined ? {} : { txQueueLength }),
      ...(group === undefined ? {} : { group }),
      ...(alias === undefined ? {} : { alias }),
      ...(up === undefined ? {} : { up }),
      ...(master === undefined ? {} : { master }),
    };
    this.links.set(link.index, link);
    if (before.up && !link.up) this.#dropRoutes(link.index);
    this.#updateCarrier(link.index);
    if (!before.up && link.up) this.#connectedRoutes(link.index);
    this.#changed(this.links.get(link.index)!, 'link');
  }

  #updateCarrier(index: number): void {
    const link = this.links.get(index)!;
    const peer = this.#peers.get(index);
    const other = peer?.namespace.links.get(peer.index);
    const carrier = link.up && (other?.up ?? true);
    if (carrier !== link.carrier) this.links.set(index, { ...link, carrier });
    if (!peer || !other || other.carrier === (other.up && link.up)) return;
    peer.namespace.links.set(peer.index, { ...other, carrier: other.up && link.up });
    peer.namespace.#changed(peer.namespace.links.get(peer.index)!, 'link');
  }

  #deleteLink(link: Link): void {
    const peer = this.#peers.get(link.index);
    this.#removeLink(link);
    const other = peer?.namespace.links.get(peer.index);
    if (peer && other) peer.namespace.#removeLink(other);
  }

  #removeLink(link: Link): void {
    this.#dropRoutes(link.index);
    for (const list of [this.addresses, this.neighbours]) {
      for (let i = list.length - 1; i >= 0; i--) if (list[i]!.ifindex === link.index) list.splice(i, 1);
    }
    this.#peers.delete(link.index);
    this.links.delete(link.index);
    for (const slave of [...this.links.values()]) {
      if (slave.master === link.index) this.links.set(slave.index, { ...slave, master: null });
    }
    this.#changed({ ...link, up: false, carrier: false }, 'link-removed');
  }

  /** IPv4 routes go without a notification, as in the real kernel. */
  #dropRoutes(index: number): void {
    for (let i = this.routes.length - 1; i >= 0; i--) {
      const route = this.routes[i]!;
      if (route.nextHops.length === 0 || !route.nextHops.every((hop) => hop.ifindex === index)) continue;
      this.routes.splice(i, 1);
      if (route.destination.family === 6) this.#emit('route', { type: 'route-removed', route }, null);
    }
  }

  #addAddress(address: NewAddress, replace: boolean): void {
    const link = this.link(address.ifindex);
    const at = this.addresses.findIndex((a) => a.ifindex === address.ifindex && a.address.equals(address.address));
    if (at >= 0 && !replace) throw new Refusal('EEXIST');
    const linkLocal = address.address.family === 6 && address.address.isLinkLocal();
    const entry: InterfaceAddress = {
      ifindex: address.ifindex,
      address: address.address,
      prefixLength: address.prefixLength,
      scope: address.scope ?? (linkLocal ? 'link' : 'global'),
      tentative: false,
      dadFailed: false,
      deprecated: false,
      noPrefixRoute: address.noPrefixRoute ?? false,
      permanent: true,
    };
    if (at >= 0) this.addresses[at] = entry;
    else this.addresses.push(entry);
    if (link.up) this.#connectedRoutes(link.index);
    this.#emit('address', { type: 'address', address: entry }, null);
  }

  #deleteAddress(address: Pick<NewAddress, 'ifindex' | 'address' | 'prefixLength'>): void {
    this.link(address.ifindex);
    const at = this.addresses.findIndex((a) => a.ifindex === address.ifindex && a.address.equals(address.address));
    const entry = this.addresses[at];
    if (!entry || entry.prefixLength !== address.prefixLength) throw new Refusal('EADDRNOTAVAIL');
    this.addresses.splice(at, 1);
    const destination = Prefix.of(entry.address, entry.prefixLength);
    const route = this.routes.findIndex(
      (r) =>
        r.protocol === RTPROT_KERNEL && r.destination.equals(destination) && r.nextHops[0]?.ifindex === entry.ifindex,
    );
    if (route >= 0) this.#removeRouteAt(route, null);
    this.#emit('address', { type: 'address-removed', address: entry }, null);
  }

  #connectedRoutes(ifindex: number): void {
    for (const a of this.addresses) {
      const destination = Prefix.of(a.address, a.prefixLength);
      if (a.ifindex !== ifindex || a.noPrefixRoute || (destination.isHost() && a.address.family === 4)) continue;
      const there = this.routes.some((r) => r.destination.equals(destination) && r.nextHops[0]?.ifindex === ifindex);
      if (there) continue;
      const route: Route = {
        destination,
        table: RT_TABLE_MAIN,
        protocol: RTPROT_KERNEL,
        type: 'unicast',
        scope: a.address.family === 4 ? RT_SCOPE_LINK : 0,
        metric: a.address.family === 4 ? 0 : 256,
        source: a.address.family === 4 ? a.address : null,
        mtu: null,
        nextHops: [{ ifindex, gateway: null, weight: 1, onlink: false, dead: false }],
      };
      this.routes.push(route);
      this.#emit('route', { type: 'route', route }, null);
    }
  }

  #addRoute(wanted: NewRoute, replace: boolean, by: FakeNetlink | null): void {
    const { family } = wanted.destination;
    const type = wanted.type ?? 'unicast';
    const hops = wanted.nextHops ?? [];
    if (type === 'unicast' && hops.length === 0) throw new Refusal(family === 4 ? 'ENODEV' : 'ENODEV');
    const route: Route = {
      destination: wanted.destination,
      table: wanted.table ?? RT_TABLE_MAIN,
      protocol: wanted.protocol,
      type,
      scope: wanted.scope ?? defaultScope(wanted),
      metric: wanted.metric || defaultMetric(family),
      source: wanted.source ?? null,
      mtu: wanted.mtu ?? null,
      nextHops: type === 'unicast' || type === 'local' ? hops.map((hop) => this.#nextHop(hop, family)) : [],
    };
    const at = this.routes.findIndex((r) => sameKey(r, route));
    if (at >= 0 && !replace) throw new Refusal('EEXIST');
    if (at >= 0) this.routes[at] = route;
    else this.routes.push(route);
    this.#emit('route', { type: 'route', route }, by);
  }

  #nextHop(hop: NewNextHop, family: Family): NextHop {
    const gateway = hop.gateway ?? null;
    let ifindex = hop.ifindex ?? null;
    if (ifindex !== null && !this.link(ifindex).up) throw new Refusal('ENETDOWN');
    if (gateway && !hop.onlink && !(gateway.family === 6 && gateway.isLinkLocal() && ifindex !== null)) {
      const reached = this.#bestRoute(gateway);
      const direct = reached?.nextHops.find((h) => h.gateway === null && (ifindex === null || h.ifindex === ifindex));
      if (!direct) {
        throw new Refusal(
          family === 4 ? 'ENETUNREACH' : 'EHOSTUNREACH',
          family === 4 ? 'Nexthop has invalid gateway' : null,
        );
      }
      ifindex ??= direct.ifindex;
    }
    if (ifindex === null) throw new Refusal('ENODEV');
    return { ifindex, gateway, weight: hop.weight ?? 1, onlink: hop.onlink ?? false, dead: false };
  }

  #deleteRoute(key: RouteKey, by: FakeNetlink | null): void {
    const table = key.table ?? RT_TABLE_MAIN;
    const at = this.routes.findIndex(
      (r) =>
        r.destination.equals(key.destination) &&
        r.table === table &&
        (key.metric === undefined || r.metric === key.metric) &&
        (key.protocol === undefined || r.protocol === key.protocol) &&
        (key.type === undefined || r.type === key.type) &&
        (key.ifindex === undefined || r.nextHops.some((hop) => hop.ifindex === key.ifindex)),
    );
    if (at < 0) throw new Refusal('ESRCH');
    this.#removeRouteAt(at, by);
  }

  #removeRouteAt(at: number, by: FakeNetlink | null): void {
    const [route] = this.routes.splice(at, 1);
    if (route) this.#emit('route', { type: 'route-removed', route }, by);
  }

  #bestRoute(destination: IpAddress): Route | null {
    let best: Route | null = null;
    for (const route of this.routes) {
      if (route.table !== RT_TABLE_MAIN || !route.destination.contains(destination)) continue;
      const longer = best === null || route.destination.length > best.destination.length;
      if (longer || (best && route.destination.length === best.destination.length && route.metric < best.metric)) {
        best = route;
      }
    }
    return best;
  }

  lookup(destination: IpAddress, options: LookupOptions): Route | null {
    const own = this.addresses.find((a) => a.address.equals(destination));
    if (own) {
      return {
        destination: Prefix.host(destination),
        table: RT_TABLE_LOCAL,
        protocol: RTPROT_KERNEL,
        type: 'local',
        scope: 254,
        metric: 0,
        source: null,
        mtu: null,
        nextHops: [{ ifindex: own.ifindex, gateway: null, weight: 1, onlink: false, dead: false }],
      };
    }
    const best = this.#bestRoute(destination);
    if (best?.type !== 'unicast') return null;
    const { outputInterface } = options;
    if (outputInterface !== undefined && !best.nextHops.some((hop) => hop.ifindex === outputInterface)) return null;
    return best;
  }

  #addRule(wanted: NewRule): void {
    const rule = completeRule(wanted);
    if (this.rules.some((other) => sameRule(other, rule))) throw new Refusal('EEXIST');
    this.rules.push(rule);
  }

  #setNeighbour(neighbour: Neighbour): void {
    const at = this.neighbours.findIndex((n) => sameNeighbour(n, neighbour));
    if (at >= 0) this.neighbours[at] = neighbour;
    else this.neighbours.push(neighbour);
    if (!neighbour.proxy) this.#emit('neighbour', { type: 'neighbour', neighbour }, null);
  }

  #deleteNeighbour(ifindex: number, address: IpAddress, proxy: boolean): void {
    this.link(ifindex);
    const at = this.neighbours.findIndex((n) => sameNeighbour(n, { ifindex, address, proxy }));
    if (at < 0) throw new Refusal('ENOENT');
    const [neighbour] = this.neighbours.splice(at, 1);
    if (neighbour && !proxy) this.#emit('neighbour', { type: 'neighbour-removed', neighbour }, null);
  }

  #changed(link: Link, type: 'link' | 'link-removed'): void {
    this.#emit('link', { type, link }, null);
  }

  #emit(topic: Topic, event: KernelEvent, by: FakeNetlink | null): void {
    for (const listener of this.#listeners) {
      if (!listener.options.topics.includes(topic)) continue;
      if (topic === 'route' && listener.options.ignoreOwn && by === listener.owner) continue;
      this.#deliver(listener, event);
    }
  }

  #deliver(listener: Listener, event: KernelEvent): void {
    listener.queue.push(event);
    if (listener.queue.length > 1) return;
    setImmediate(() => {
      const events = listener.queue;
      listener.queue = [];
      if (listener.open) listener.options.onEvents(events);
    });
  }
}

class FakeNetlink implements NetlinkApi {
  readonly #namespace: FakeNamespace;
  readonly #subscriptions: Subscription[] = [];
  #open = true;

  constructor(namespace: FakeNamespace) {
    this.#namespace = namespace;
  }

  execute(operations: readonly Operation[]): Outcome[] {
    if (!this.#open) throw new BrindleError('unavailable', 'the netlink connection is closed');
    return operations.map((operation) => {
      try {
        return { error: null, link: this.#namespace.apply(operation, this) };
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        return { error: new KernelError(describeOperation(operation), error.errno, error.text), link: null };
      }
    });
  }

  executeAsync(operations: readonly Operation[]): Promise<Outcome[]> {
    return new Promise((resolve, reject) => {
      setImmediate(() => {
        try {
          resolve(this.execute(operations));
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }

  listLinks(): Link[] {
    return [...this.#namespace.links.values()];
  }

  getLink(reference: LinkReference): Link | null {
    return this.execute([{ op: 'link-get', link: reference }])[0]?.link ?? null;
  }

  listAddresses(filter: { readonly family?: Family; readonly ifindex?: number } = {}): InterfaceAddress[] {
    return this.#namespace.addresses.filter(
      (a) =>
        (filter.family === undefined || a.address.family === filter.family) &&
        (filter.ifindex === undefined || a.ifindex === filter.ifindex),
    );
  }

  listRoutes(filter: RouteFilter = {}): Route[] {
    const table = filter.table ?? RT_TABLE_MAIN;
    const found = this.#namespace.routes.filter(
      (r) =>
        r.table === table &&
        (filter.family === undefined || r.destination.family === filter.family) &&
        (filter.protocol === undefined || r.protocol === filter.protocol) &&
        (filter.ifindex === undefined || r.nextHops.some((hop) => hop.ifindex === filter.ifindex)),
    );
    return found.sort((a, b) => a.destination.compare(b.destination) || a.metric - b.metric);
  }

  listRoutesAsync(filter: RouteFilter = {}): Promise<Route[]> {
    return new Promise((resolve) => setImmediate(() => resolve(this.listRoutes(filter))));
  }

  listRules(family: Family): Rule[] {
    return this.#namespace.rules.filter((rule) => rule.family === family).sort((a, b) => a.priority - b.priority);
  }

  listNeighbours(
    filter: { readonly family?: Family; readonly ifindex?: number; readonly proxy?: boolean } = {},
  ): Neighbour[] {
    return this.#namespace.neighbours.filter(
      (n) =>
        n.proxy === (filter.proxy ?? false) &&
        (filter.family === undefined || n.address.family === filter.family) &&
        (filter.ifindex === undefined || n.ifindex === filter.ifindex),
    );
  }

  lookupRoute(destination: IpAddress, options: LookupOptions = {}): Route | null {
    return this.#namespace.lookup(destination, options);
  }

  subscribe(options: SubscribeOptions): Subscription {
    const subscription = this.#namespace.subscribe(this, options);
    this.#subscriptions.push(subscription);
    return subscription;
  }

  close(): void {
    this.#open = false;
    for (const subscription of this.#subscriptions) subscription.close();
  }
}

const hexByte = (value: number): string => (value & 255).toString(16).padStart(2, '0');

function sameKey(a: Route, b: Route): boolean {
  return a.table === b.table && a.metric === b.metric && a.destination.equals(b.destination);
}

function sameNeighbour(a: Neighbour, b: Pick<Neighbour, 'ifindex' | 'address' | 'proxy'>): boolean {
  return a.ifindex === b.ifindex && a.proxy === b.proxy && a.address.equals(b.address);
}

function completeRule(rule: NewRule): Rule {
  return {
    source: null,
    destination: null,
    inputInterface: null,
    outputInterface: null,
    mark: null,
    markMask: null,
    invert: false,
    suppressPrefixLength: null,
    protocol: 0,
    ...rule,
  };
}

/** Equal in all that a rule selects by. */
function sameRule(a: Rule, b: Rule): boolean {
  const text = (rule: Rule): string => JSON.stringify({ ...rule, protocol: 0 }, Object.keys(rule).sort());
  return text(a) === text(b) && `${a.source}` === `${b.source}` && `${a.destination}` === `${b.destination}`;
}
