// The agent: everything that runs on a host, put together, started and stopped in order.
// In: the configuration. Out: containers with addresses, routes and policy; BGP sessions; an API.
//
// Start: what the kernel and the journal hold is adopted first, then the socket opens (STATUS says "not yet"), then the
// store's snapshot goes through the calculation, and only then may anything be removed. Stop leaves everything in force.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { getRequestListener } from '@hono/node-server';
import { type Clock, systemClock, type TimerHandle } from '#base/clock.ts';
import { BrindleError, errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import { CalcGraph } from '#calc/graph.ts';
import type { Endpoints } from '#cni/dependencies.ts';
import { CniHandler } from '#cni/handler.ts';
import { systemNamespaces } from '#cni/namespaces.ts';
import { serveCni } from '#cni/protocol.ts';
import { replaySpool, spoolDirectory } from '#cni/spool.ts';
import { Dataplane } from '#dataplane/dataplane.ts';
import { EndpointWiring } from '#dataplane/endpoint-wiring.ts';
import { prepareHost } from '#dataplane/host-settings.ts';
import { openKernelAccess, type KernelAccess } from '#dataplane/kernel-access.ts';
import { ROUTE_PROTOCOL } from '#dataplane/ownership.ts';
import type { KnownPool } from '#docker/dependencies.ts';
import { Informer } from '#datastore/informer.ts';
import { openStore } from '#datastore/open.ts';
import type { Store, StoreEvent } from '#datastore/store.ts';
import { Ipam } from '#ipam/allocator.ts';
import { systemFiles } from '#ipam/files.ts';
import { poolFromResource } from '#ipam/pools.ts';
import type { AgentConfig } from '#model/agent-config.ts';
import type { IPPool } from '#model/ip-pool.ts';
import { keyText, kindKey, type Resource } from '#model/resource.ts';
import { KINDS } from '#model/registry.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { Prefix } from '#net/prefix.ts';
import type { Subscription } from '#netlink/api.ts';
import { NetlinkNftDriver } from '#nft/netlink/netlink-driver.ts';
import { parseSelector } from '#policy/selector/selector.ts';
import { bgpRoutes } from './api/bgp.ts';
import { agentApi } from './api/server.ts';
import { BGP_KINDS } from './bgp/hosts.ts';
import { BgpService } from './bgp/service.ts';
import { ContainerWiring } from './container-wiring.ts';
import { DepartedHosts } from './departed-hosts.ts';
import { DockerService } from './docker-service.ts';
import { EndpointPublisher } from './endpoint-publisher.ts';
import { LocalEndpoints } from './local-endpoints.ts';
import { MetricsServer } from './metrics-server.ts';
import { detectAddresses } from './node-address.ts';
import { Pipeline } from './pipeline.ts';
import { RoutingService } from './routing-service.ts';
import { SocketServer } from './socket-server.ts';
import { AgentReport } from './report.ts';
import { startSpeakerThread } from './speaker-thread.ts';

/** How often journal, store, interfaces and containers are compared, in ms; two such looks release an address. */
const REPAIR_EVERY = 60_000;
/** How long addresses of the host must be quiet before they are read again, in ms. */
const SETTLE = 500;
/** An ADD that comes before the first snapshot waits this long for it, in ms. */
const READY_PATIENCE = 20_000;

export interface AgentOptions {
  readonly config: AgentConfig;
  readonly log: Logger;
  readonly clock?: Clock;
  readonly version: string;
  /** Something that the agent cannot do without has ended; the process should, too, and be started again. */
  readonly onFatal: (reason: string) => void;
}

export class Agent {
  readonly config: AgentConfig;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #kernel: KernelAccess;
  readonly #store: Store;
  readonly #dataplane: Dataplane;
  readonly #ipam: Ipam;
  readonly #endpoints: LocalEndpoints;
  readonly #publisher: EndpointPublisher;
  readonly #pipeline: Pipeline;
  readonly #calc: CalcGraph;
  readonly #routing: RoutingService;
  readonly #bgp: BgpService;
  readonly #handler: CniHandler;
  readonly #wiring: EndpointWiring;
  readonly #containerWiring: ContainerWiring;
  readonly #informer: Informer;
  readonly #server: SocketServer;
  readonly #metrics: MetricsServer | null;
  readonly #docker: DockerService | null;
  readonly #resources = new Map<string, Resource>();
  readonly #departed: DepartedHosts;
  readonly #ready = Promise.withResolvers<void>();
  /** This host's Node as last seen, also when it was deleted since. */
  #node: Resource | null = null;
  #isReady = false;
  #storeTrouble: string | null = null;
  #repairTimer: TimerHandle | null = null;
  #stopped = false;
  #addresses: Subscription | null = null;
  #addressTimer: TimerHandle | null = null;

  /** Starts an agent. Throws what stops it from serving at all: the socket is taken, the kernel refuses, the store is corrupt. */
  static async start(options: AgentOptions): Promise<Agent> {
    const { config, log } = options;
    mkdirSync(config.runDirectory, { recursive: true, mode: 0o755 });
    mkdirSync(config.stateDirectory, { recursive: true, mode: 0o700 });
    const store = await openStore(config.store);
    const kernel = openKernelAccess();
    const clock = options.clock ?? systemClock;
    const holder: { agent: Agent | null } = { agent: null };
    const ipam = await Ipam.open({
      host: config.hostName,
      store,
      clock,
      log: log.child({ part: 'ipam' }),
      files: systemFiles,
      journalPath: join(config.stateDirectory, 'attachments.journal'),
      matches: (selector, labels) => parseSelector(selector).matches(labels),
      cooldown: config.ipam.cooldownSeconds,
      ...(config.ipam.maxBlocks !== undefined && { maxBlocks: config.ipam.maxBlocks }),
      onBlocksChanged: () => holder.agent?.blocksChanged(),
    });
    const agent = new Agent(options, { clock, store, kernel, ipam });
    holder.agent = agent;
    await agent.#start();
    return agent;
  }

  private constructor(options: AgentOptions, parts: { clock: Clock; store: Store; kernel: KernelAccess; ipam: Ipam }) {
    const { config, log } = options;
    this.config = config;
    this.#log = log;
    this.#clock = parts.clock;
    this.#store = parts.store;
    this.#kernel = parts.kernel;
    this.#ipam = parts.ipam;
    const { hostName } = config;
    this.#dataplane = new Dataplane({
      driver: NetlinkNftDriver.open(),
      logger: log.child({ part: 'policy' }),
      render: { natAddresses: { 4: config.nat.ipv4Address ?? null, 6: config.nat.ipv6Address ?? null } },
    });
    this.#calc = new CalcGraph({ hostName, implicitNamespaces: true, natExclusions: config.nat.exclusions });
    this.#publisher = new EndpointPublisher({ store: this.#store, clock: this.#clock, log });
    this.#endpoints = new LocalEndpoints({
      hostName,
      onChange: (key, resource) => {
        if (resource) {
          this.#calc.setLocalEndpoint(resource);
          const { interfaceName, ipNetworks } = (resource as WorkloadEndpoint).spec;
          this.#routing.setEndpoint(keyText(key), interfaceName, ipNetworks);
        } else {
          this.#calc.removeLocalEndpoint(key);
          this.#routing.removeEndpoint(keyText(key));
        }
        this.#pipeline.schedule();
      },
      publish: (key, resource) => {
        if (resource) this.#publisher.put(resource);
        else this.#publisher.drop(key);
      },
    });
    this.#routing = new RoutingService({ kernel: this.#kernel, log: log.child({ part: 'routes' }) });
    this.#pipeline = new Pipeline({
      calc: this.#calc,
      policy: this.#dataplane,
      blocks: this.#routing,
      endpoints: this.#endpoints,
      log,
    });
    this.#bgp = new BgpService({
      hostName,
      speaker: startSpeakerThread({
        log: log.child({ part: 'bgp' }),
        sink: this.#routing.sink,
        nextHops: this.#routing.nextHops,
        forwardingKept: this.#kernel.host.netlink.listRoutes({ protocol: ROUTE_PROTOCOL }).length > 0,
        onLost: options.onFatal,
      }),
      blocks: () => this.#ownBlocks(),
      hostRoutes: this.#routing,
      readPassword,
      log: log.child({ part: 'bgp' }),
    });
    this.#wiring = new EndpointWiring(this.#kernel, log.child({ part: 'wiring' }));
    this.#containerWiring = new ContainerWiring(this.#wiring, this.#kernel, (name, index, addresses) =>
      this.#routing.wired(name, index, addresses),
    );
    const endpoints: Endpoints = {
      activate: (endpoint) => this.#activate(endpoint),
      deactivate: (key, containerId) => {
        this.#endpoints.detach(key, containerId);
      },
      namespaceLabels: (namespace) => this.#resources.get(`Namespace/${namespace}`)?.metadata.labels ?? {},
    };
    this.#docker = config.docker
      ? new DockerService({
          config,
          docker: config.docker,
          ipam: this.#ipam,
          wiring: this.#containerWiring,
          routing: this.#routing,
          endpoints,
          pools: () => this.#workloadPools(),
          untilReady: () => this.#untilServing(),
          clock: this.#clock,
          log: log.child({ part: 'docker' }),
        })
      : null;
    this.#handler = new CniHandler({
      host: hostName,
      ipam: this.#ipam,
      wiring: this.#containerWiring,
      endpoints,
      namespaces: systemNamespaces(),
      clock: this.#clock,
      log: log.child({ part: 'cni' }),
      notReady: () => this.#notReady(),
    });
    this.#informer = new Informer(
      this.#store,
      KINDS.map((kind) => kindKey(kind.apiVersion, kind.kind)),
      {
        onSnapshot: (resources) => {
          void this.#snapshot(resources);
        },
        onEvents: (events) => this.#events(events),
        onTrouble: (error) => {
          this.#storeTrouble = error ? errorText(error) : null;
        },
      },
    );
    this.#departed = new DepartedHosts({
      host: hostName,
      store: this.#store,
      clock: this.#clock,
      log: log.child({ part: 'ipam' }),
      resources: () => this.#informer.resources(),
      isAnnounced: (cidr) => this.#routing.isLearned(cidr),
    });
    const report = new AgentReport({
      config,
      startedAt: this.#clock.monotonic(),
      clock: this.#clock,
      ipam: this.#ipam,
      endpoints: this.#endpoints,
      dataplane: this.#dataplane,
      publisher: this.#publisher,
      routing: this.#routing,
      bgp: this.#bgp,
      problems: () => this.#calc.problems,
      storeTrouble: () => this.#storeTrouble,
      isSynced: () => this.#isReady,
      version: options.version,
      settled: () => this.#pipeline.settled(),
      resources: () => this.#knownResources(),
    });
    const app = agentApi(report);
    bgpRoutes(app, this.#bgp.speaker, this.#bgp);
    const listener = getRequestListener(app.fetch);
    this.#metrics = config.metrics
      ? new MetricsServer({ ...config.metrics, metrics: () => report.metrics(), log: log.child({ part: 'metrics' }) })
      : null;
    this.#server = new SocketServer({
      path: this.socketPath,
      onHttp: (request, response) => void listener(request, response),
      onCni: (socket, first) => {
        serveCni(socket, first, async (request, gone) => {
          await this.#untilReady(request.environment.get('CNI_COMMAND'));
          return this.#handler.handle(request, gone);
        }).catch((error: unknown) => log.debug({ error: errorText(error) }, 'CNI connection failed'));
      },
      log,
    });
  }

  get socketPath(): string {
    return join(this.config.runDirectory, 'brindle.sock');
  }

  /** Resolves when the first snapshot is in force. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Ends the process's part. Routes, policy and interfaces stay in force; peers hold our routes if `mode` is `restart`. */
  async stop(mode: 'restart' | 'shutdown' = 'restart'): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#repairTimer?.cancel();
    this.#addressTimer?.cancel();
    this.#addresses?.close();
    this.#informer.stop();
    await this.#server.close();
    this.#metrics?.stop();
    await this.#docker?.stop();
    await this.#bgp.stop(mode);
    this.#routing.stop();
    await this.#publisher.stop();
    await this.#ipam.flush().catch(() => undefined); // the store may be away; it is told at the next start
    await this.#ipam.close();
    await this.#dataplane.stop();
    await this.#store.close();
    this.#kernel.close();
  }

  /** The leases have changed: other blackhole routes, other routes for the peers. */
  blocksChanged(): void {
    for (const { cidr, lost } of this.#ipam.blocks()) this.#calc.setLocalBlock(cidr.toString(), !lost);
    this.#pipeline.schedule();
    this.#bgp.refresh();
  }

  async #start(): Promise<void> {
    await this.#dataplane.start();
    await this.#routing.start();
    const changed = prepareHost(this.#kernel.host, [4, 6]);
    if (changed.length > 0) this.#log.info({ changed }, 'kernel parameters set for routing');
    await this.#wiring.cleanLeftovers();
    for (const { endpoint } of this.#ipam.attachments()) if (endpoint !== null) this.#endpoints.attach(endpoint);
    this.blocksChanged();
    this.#readHostInterfaces();
    this.#addresses = this.#kernel.host.netlink.subscribe({
      topics: ['address', 'link'],
      onEvents: () => this.#hostInterfacesChanged(),
    });
    await this.#server.listen();
    await this.#metrics?.start();
    await this.#docker?.start();
    this.#informer.start();
    this.#log.info({ host: this.config.hostName, socket: this.socketPath }, 'agent started');
  }

  async #snapshot(resources: readonly Resource[]): Promise<void> {
    try {
      for (const resource of resources) this.#remember(resource);
      this.#applyPools();
      await this.#ensureNode();
      await this.#ipam
        .verify()
        .catch((error: unknown) => this.#log.warn({ error: errorText(error) }, 'leases not verified'));
      await this.#handler.recover();
      await replaySpool({
        directory: spoolDirectory(this.socketPath),
        now: this.#clock.wall(),
        log: this.#log,
        handler: (request, madeAt) => this.#handler.handle(request, undefined, madeAt),
      });
      await this.#pipeline.snapshot(resources);
      this.#bgp.snapshot([...this.#resources.values()]);
      this.#isReady = true;
      this.#ready.resolve();
      this.#scheduleRepair();
      this.#log.info({ resources: resources.length, endpoints: this.#endpoints.size }, 'in sync');
    } catch (error) {
      this.#log.error({ error: errorText(error) }, 'the first snapshot could not be put in force');
      this.#ready.reject(error);
    }
  }

  #events(events: readonly StoreEvent[]): void {
    let pools = false;
    for (const event of events) {
      if (event.type === 'put') this.#remember(event.resource);
      else {
        this.#resources.delete(`${event.key.kind}/${event.key.name}`);
        if (event.key.kind === 'Node') this.#departed.nodeDeleted(event.key.name);
      }
      pools ||= POOL_KINDS.includes(event.key.kind);
    }
    if (pools) this.#applyPools();
    this.#pipeline.events(events);
    this.#bgp.events(events);
  }

  /** Keeps what this class itself asks for; endpoints and policies are the calculation's. */
  #remember(resource: Resource): void {
    const kind = kindKey(resource.apiVersion, resource.kind);
    if (kind === 'Node' && resource.metadata.name === this.config.hostName) this.#node = resource;
    if (KEPT_KINDS.includes(kind)) this.#resources.set(`${kind}/${resource.metadata.name}`, resource);
  }

  #applyPools(): void {
    const ofKind = (kind: string): Resource[] =>
      [...this.#resources].filter(([key]) => key.startsWith(`${kind}/`)).map(([, resource]) => resource);
    const node = this.#resources.get(`Node/${this.config.hostName}`);
    this.#ipam.setPools(
      ofKind('IPPool').map((pool) => poolFromResource(pool as IPPool)),
      node?.metadata.labels ?? {},
    );
    this.#ipam.setReservations(
      ofKind('IPReservation').flatMap((reservation) =>
        ((reservation.spec as { reservedCIDRs?: readonly string[] }).reservedCIDRs ?? []).map((cidr) =>
          Prefix.parseOrHost(cidr),
        ),
      ),
    );
  }

  /** A host that nobody described describes itself; one that lives although its Node was deleted says so. */
  async #ensureNode(): Promise<void> {
    if (this.#resources.has(`Node/${this.config.hostName}`)) return;
    const again = this.#node !== null;
    const node = this.#node === null ? this.#detectedNode() : copyOf(this.#node);
    if (node === null) return;
    try {
      this.#remember(await this.#store.create(node));
      this.#log.info({ spec: node.spec, again }, 'described this host in the store');
    } catch (error) {
      this.#log.warn({ error: errorText(error) }, 'could not describe this host in the store');
    }
  }

  #detectedNode(): Resource | null {
    const { ipv4, ipv6 } = detectAddresses(this.#kernel.host.netlink);
    if (ipv4 === null && ipv6 === null) {
      this.#log.warn(
        { host: this.config.hostName },
        'no default route, so no address found for this host; write a Node resource',
      );
      return null;
    }
    return {
      apiVersion: 'projectcalico.org/v3',
      kind: 'Node',
      metadata: { name: this.config.hostName },
      spec: { bgp: { ...(ipv4 !== null && { ipv4Address: ipv4 }), ...(ipv6 !== null && { ipv6Address: ipv6 }) } },
    };
  }

  #activate(endpoint: Resource): Promise<void> {
    this.#endpoints.attach(endpoint);
    return this.#pipeline.commit();
  }

  #workloadPools(): KnownPool[] {
    return [...this.#resources.values()]
      .filter((resource) => resource.kind === 'IPPool')
      .map((resource) => poolFromResource(resource as IPPool))
      .filter(({ uses }) => uses.includes('Workload'))
      .map(({ cidr, disabled }) => ({ family: cidr.family, cidr: cidr.toString(), disabled }));
  }

  #ownBlocks(): { cidr: string; pool: string }[] {
    return [...this.#ipam.blocks()].filter((b) => !b.lost).map((b) => ({ cidr: b.cidr.toString(), pool: b.pool }));
  }

  /** The host's own endpoints stand over what the store says of them. */
  *#knownResources(): Generator<Resource> {
    yield* this.#endpoints.values();
    for (const resource of this.#informer.resources()) if (!this.#endpoints.owns(resource)) yield resource;
  }

  /** Container interfaces come and go by the hundred; the host's own addresses are read once they have settled. */
  #hostInterfacesChanged(): void {
    this.#addressTimer ??= this.#clock.after(SETTLE, () => {
      this.#addressTimer = null;
      this.#readHostInterfaces();
      this.#containerWiring.forgetMtu();
      this.#pipeline.schedule();
    });
  }

  #readHostInterfaces(): void {
    const { netlink } = this.#kernel.host;
    const names = new Map(netlink.listLinks().map((link) => [link.index, link.name]));
    const byAddress = new Map<string, string>();
    for (const { address, ifindex } of netlink.listAddresses()) {
      const name = names.get(ifindex);
      if (name !== undefined && !address.isLinkLocal()) byAddress.set(address.toString(), name);
    }
    this.#calc.setHostInterfaces(byAddress);
  }

  /** DEL and STATUS are served at once; the others need the first snapshot. */
  async #untilReady(verb: string | undefined): Promise<void> {
    if (verb === 'STATUS' || verb === 'DEL' || verb === 'VERSION') return;
    await this.#untilSnapshot();
  }

  /** Docker's calls wait for the first snapshot, all of them. */
  async #untilServing(): Promise<void> {
    await this.#untilSnapshot();
    const reason = this.#notReady();
    if (reason !== null) throw new BrindleError('unavailable', reason);
  }

  #notReady(): string | null {
    if (this.#isReady) return null;
    return `the agent has not read its store yet${this.#storeTrouble ? `: ${this.#storeTrouble}` : ''}`;
  }

  async #untilSnapshot(): Promise<void> {
    if (this.#isReady) return;
    const late = Promise.withResolvers<void>();
    const timer = this.#clock.after(READY_PATIENCE, () => late.resolve());
    await Promise.race([this.#ready.promise.catch(() => undefined), late.promise]);
    timer.cancel();
  }

  #scheduleRepair(): void {
    if (this.#stopped) return;
    this.#repairTimer = this.#clock.after(REPAIR_EVERY, () => {
      this.#repair()
        .catch((error: unknown) => this.#log.warn({ error: errorText(error) }, 'repair failed; tried again'))
        .finally(() => this.#scheduleRepair());
    });
  }

  async #repair(): Promise<void> {
    const lost = await this.#handler.repair(REPAIR_EVERY / 2);
    await this.#docker?.repair(lost);
    await this.#ipam.verify();
    await this.#ipam.handBack(true);
    if (this.#node !== null) await this.#ensureNode();
    await this.#departed.look();
    this.#bgp.refresh(); // password files may have changed
  }
}

const POOL_KINDS = ['IPPool', 'IPReservation', 'Node'];
const KEPT_KINDS = [...POOL_KINDS, 'Namespace', ...BGP_KINDS];

/** As it was written, to be created anew. */
function copyOf({ apiVersion, kind, metadata, spec }: Resource): Resource {
  const { name, labels, annotations } = metadata;
  return { apiVersion, kind, metadata: { name, ...(labels && { labels }), ...(annotations && { annotations }) }, spec };
}

/** The first line of the file, without the end of line; null when there is no key of 1 to 80 octets. */
function readPassword(path: string): string | null {
  try {
    const key = readFileSync(path, 'utf8').split('\n')[0]!.trimEnd();
    const { length } = Buffer.from(key);
    return length >= 1 && length <= 80 ? key : null;
  } catch {
    return null;
  }
}

/** For callers that must not start. */
export function assertRoot(): void {
  if (process.getuid?.() !== 0) {
    throw new BrindleError('permission', 'the agent needs root', { remedy: 'run it with sudo or as a system service' });
  }
}
