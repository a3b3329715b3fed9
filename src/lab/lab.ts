// The life of a lab: up, one more host, restart of a part, down. Everything it makes outside its directory is noted
// in the manifest first, so that `down` finds it after any crash; what it did not make it leaves alone.
import { BrindleError } from '#base/errors.ts';
import { removeContainer, runContainer, type RunOptions, type RunResult } from './containers.ts';
import { agentName, agentOf, startAgent, waitAgent, writeHostFiles } from './hosts.ts';
import { type FabricKernel, machineKernel } from './kernel.ts';
import {
  DEFAULT_LAB,
  makePlan,
  type Plan,
  type PlannedHost,
  type PlannedInterface,
  type PlannedRouter,
} from './plan.ts';
import { isAlive, type LabProcess, processesOf, stop, until } from './processes.ts';
import { hostResources, labResources } from './resources.ts';
import { routerDriver } from './routers/drivers.ts';
import { removeFrrLeftovers } from './routers/frr.ts';
import type { RouterSession } from './routers/driver.ts';
import { type ContainerFile, type LabFile, LabState } from './state.ts';
import { applyToStore } from './store.ts';
import { type Topology, withHost } from './topology.ts';

/** Told of each step as it ends. `milliseconds` is what it took. */
export type Progress = (step: string, milliseconds: number) => void;

export interface UpOptions {
  readonly name?: string;
  readonly topology: Topology;
  /** False: only namespaces, wires and routers. */
  readonly agents?: boolean;
  readonly progress?: Progress;
  readonly kernel?: FabricKernel;
  /** When it is aborted, the making stops and what was made is removed. */
  readonly signal?: AbortSignal;
}

const AGENT_READY_MS = 60_000;
const SESSIONS_READY_MS = 60_000;

/** A lab that is up. */
export class Lab {
  readonly state: LabState;
  readonly file: LabFile;
  readonly plan: Plan;
  readonly #kernel: FabricKernel;

  private constructor(state: LabState, file: LabFile, kernel: FabricKernel) {
    this.state = state;
    this.file = file;
    this.plan = makePlan(state.name, file.topology);
    this.#kernel = kernel;
  }

  /** Throws `not-found` when it is not up. */
  static open(name: string = DEFAULT_LAB, kernel: FabricKernel = machineKernel): Lab {
    const state = new LabState(name);
    return new Lab(state, state.load(), kernel);
  }

  /** Brings a lab up and waits until every BGP session stands. When a step fails, what was made is removed again. */
  static async up(options: UpOptions): Promise<Lab> {
    const kernel = options.kernel ?? machineKernel;
    requireRoot();
    const state = new LabState(options.name ?? DEFAULT_LAB);
    const { topology, progress = () => {}, agents = true, signal } = options;
    const plan = makePlan(state.name, topology);
    for (const router of plan.routers) routerDriver(router).check();
    state.create();
    const step = (name: string, work: () => unknown): Promise<void> => timed(progress, name, work, signal);
    try {
      refuseForeign(kernel, namespacesOf(plan));
      const lab = new Lab(state, { version: 1, topology, agents, createdAt: new Date().toISOString() }, kernel);
      await step('namespaces, wires and addresses', () => lab.#build(plan));
      await step('routers', () => plan.routers.forEach((router) => routerDriver(router).start(state, router)));
      state.save(lab.file);
      if (!agents) return lab;
      await step('store', () => applyToStore(state, labResources(topology, plan)));
      await step('agents', () => lab.#startAgents(plan.hosts));
      await step('BGP sessions', () => lab.waitSessions());
      return lab;
    } catch (error) {
      await down(state.name, kernel);
      throw error;
    }
  }

  /** One more host, wired like the last one of its rack. Nothing that runs is restarted. */
  async addHost(options: { name?: string; rack?: string; progress?: Progress } = {}): Promise<Lab> {
    const progress = options.progress ?? (() => {});
    const topology = withHost(this.file.topology, options.name ?? null, options.rack ?? null);
    const grown = new Lab(this.state, { ...this.file, topology }, this.#kernel);
    const host = grown.plan.hosts.at(-1)!;
    refuseForeign(this.#kernel, [host.namespace]);
    await timed(progress, 'namespace, wires and addresses', () => grown.#buildHost(host));
    this.state.save(grown.file);
    const touched = grown.plan.routers.filter((router) => host.spec.uplinks.includes(router.spec.name));
    await timed(progress, 'routers', () =>
      Promise.all(touched.map((router) => routerDriver(router).reconfigure(this.state, router))),
    );
    if (!this.file.agents) return grown;
    await timed(progress, 'store', () => applyToStore(this.state, hostResources(topology, host)));
    await timed(progress, 'agent', () => grown.#startAgents([host]));
    await timed(progress, 'BGP sessions', () => grown.waitSessions());
    return grown;
  }

  /** Starts the agent of a host again, after ending the one that runs, and waits until it is ready. */
  async restartAgent(hostName: string): Promise<void> {
    const host = this.host(hostName);
    const running = agentOf(this.state, hostName);
    if (running && isAlive(running)) await stop([running], 'SIGTERM', 10_000);
    await this.#startAgents([host]);
  }

  /** The process of a host's agent or of a router; null when it is dead. */
  processOf(node: string): LabProcess | null {
    const name = this.plan.hosts.some((host) => host.spec.name === node) ? agentName(node) : node;
    const entry = this.state.manifest().findLast((item) => item.kind === 'process' && item.name === name);
    return entry?.kind === 'process' && isAlive(entry) ? entry : null;
  }

  /** Throws `not-found`, with the names there are. */
  host(name: string): PlannedHost {
    const host = this.plan.hosts.find((candidate) => candidate.spec.name === name);
    if (host) return host;
    throw new BrindleError('not-found', `the lab has no host "${name}"`, {
      remedy: `its hosts are ${this.plan.hosts.map((candidate) => candidate.spec.name).join(', ')}`,
    });
  }

  /** By `HOST/NAME`. Throws `not-found`, with the names there are. */
  container(target: string): ContainerFile {
    const [host = '', name = ''] = target.split('/', 2);
    const container = this.state.container(host, name);
    if (container) return container;
    const there = this.state.containers().map((item) => `${item.host}/${item.name}`);
    throw new BrindleError('not-found', `the lab has no container "${target}"`, {
      remedy: there.length > 0 ? `there are ${there.join(', ')}` : 'start one with brindle lab run',
    });
  }

  /** Starts a container on a host and attaches it by the CNI executable. */
  run(host: string, options: RunOptions): Promise<RunResult> {
    return runContainer(this.#kernel, this.state, this.host(host), options);
  }

  /** Detaches and removes a container; returns what the CNI call took, in milliseconds. */
  remove(container: ContainerFile): Promise<number> {
    return removeContainer(this.#kernel, this.state, this.host(container.host), container);
  }

  /** Waits until the routers see all their sessions established. Throws `timeout` naming those that are not. */
  async waitSessions(limit = SESSIONS_READY_MS): Promise<void> {
    let missing: string[] = [];
    const done = await until(limit, async () => {
      missing = [];
      for (const router of this.plan.routers) {
        for (const session of await this.routerSessions(router)) {
          if (!session.established) {
            missing.push(`${router.spec.name} - ${session.node} IPv${session.family}: ${session.info}`);
          }
        }
      }
      return missing.length === 0 ? true : null;
    });
    if (done) return;
    throw new BrindleError(
      'timeout',
      `BGP sessions are not up after ${limit / 1000} s:\n  ${missing.slice(0, 10).join('\n  ')}`,
    );
  }

  async routerSessions(router: PlannedRouter): Promise<RouterSession[]> {
    try {
      return await routerDriver(router).sessions(this.state, router);
    } catch (error) {
      const info = error instanceof Error ? error.message : String(error);
      return router.neighbors.map(({ node, family }) => ({ node, family, established: false, info }));
    }
  }

  async #startAgents(hosts: readonly PlannedHost[]): Promise<void> {
    for (const host of hosts) startAgent(this.state, host);
    await Promise.all(hosts.map((host) => waitAgent(this.state, host.spec.name, AGENT_READY_MS)));
  }

  #build(plan: Plan): void {
    if (plan.switch) {
      this.#namespace(plan.switch.namespace, plan.switch.bridge);
      this.#kernel.addBridge({ namespace: plan.switch.namespace, interface: plan.switch.bridge });
    }
    for (const router of plan.routers) {
      this.#namespace(router.namespace, router.spec.name);
      const lo = { namespace: router.namespace, interface: 'lo' };
      this.#kernel.addAddress(lo, router.loopback4, 32);
      this.#kernel.addAddress(lo, router.loopback6, 128);
    }
    const namespaceOf = new Map(plan.routers.map((router) => [router.spec.name, router.namespace]));
    for (const router of plan.routers) {
      for (const end of router.interfaces) {
        if (router.spec.links.includes(end.peer.node)) this.#wire(router.namespace, end, namespaceOf);
      }
    }
    for (const host of plan.hosts) this.#buildHost(host);
  }

  #buildHost(host: PlannedHost): void {
    const { namespace, interfaces } = host;
    this.#namespace(namespace, host.spec.name);
    writeHostFiles(this.state, host);
    const upper = new Map(this.plan.routers.map((router) => [router.spec.name, router.namespace]));
    if (this.plan.switch) upper.set(this.plan.switch.bridge, this.plan.switch.namespace);
    for (const end of interfaces) this.#wire(namespace, end, upper);
    if (this.plan.switch) return;
    for (const family of ['ipv4', 'ipv6'] as const) {
      const gateways = interfaces.map((end) => ({ via: end.peer[family], interface: end.name }));
      this.#kernel.addDefaultRoute(namespace, gateways);
    }
  }

  /** The wire of a lower node's interface to the node above it, with the addresses of both ends. */
  #wire(namespace: string, end: PlannedInterface, upperNamespaces: ReadonlyMap<string, string>): void {
    const lower = { namespace, interface: end.name };
    const upper = { namespace: upperNamespaces.get(end.peer.node)!, interface: end.peer.interface };
    this.#kernel.connect(upper, lower);
    if (this.plan.switch) this.#kernel.enslave(upper, this.plan.switch.bridge);
    for (const family of ['ipv4', 'ipv6'] as const) {
      this.#kernel.addAddress(lower, end[family].address, end[family].length);
      if (end.peer[family]) this.#kernel.addAddress(upper, end.peer[family], end[family].length);
    }
  }

  #namespace(namespace: string, role: string): void {
    this.state.note({ kind: 'namespace', name: namespace });
    this.#kernel.createNamespace(namespace, markFor(this.state.name, role));
  }
}

/** What is in the kernel beside each namespace of a lab, so that it is known for ours without any file. */
export function markFor(lab: string, role: string): string {
  return `brindle lab ${lab}: ${role}`;
}

export interface Removed {
  readonly processes: number;
  readonly namespaces: number;
}

/**
 * Takes a lab down, whatever state it is in, and returns what there was to remove. Safe to repeat. Found by the
 * manifest, by the environment of processes, and by the marks of namespaces: any one of them is enough.
 */
export async function down(name: string = DEFAULT_LAB, kernel: FabricKernel = machineKernel): Promise<Removed> {
  requireRoot();
  const state = new LabState(name);
  const present = kernel.namespaces().filter((namespace) => namespace.startsWith('brindle-'));
  const noted = new Set(state.manifest().flatMap((entry) => (entry.kind === 'namespace' ? [entry.name] : [])));
  const ours = present.filter((namespace) => noted.has(namespace) || isMarked(kernel, namespace, name));
  const known = state.manifest().flatMap((entry) => (entry.kind === 'process' ? [entry] : []));
  const running = new Map([...known.filter(isAlive), ...processesOf(name)].map((process) => [process.pid, process]));
  await stop([...running.values()], 'SIGKILL', 10_000);
  removeFrrLeftovers(running.keys());
  for (const namespace of ours) kernel.deleteNamespace(namespace);
  state.remove();
  return { processes: running.size, namespaces: ours.length };
}

function isMarked(kernel: FabricKernel, namespace: string, lab: string): boolean {
  try {
    return kernel.markOf(namespace)?.startsWith(markFor(lab, '')) ?? false;
  } catch {
    return false; // a leftover file that is no namespace is not ours
  }
}

function namespacesOf(plan: Plan): string[] {
  const nodes = [...plan.routers, ...plan.hosts, ...(plan.switch ? [plan.switch] : [])];
  return nodes.map((node) => node.namespace);
}

function refuseForeign(kernel: FabricKernel, wanted: readonly string[]): void {
  const present = new Set(kernel.namespaces());
  const taken = wanted.filter((namespace) => present.has(namespace));
  if (taken.length === 0) return;
  throw new BrindleError('already-exists', `the network namespace ${taken.join(', ')} exists already`, {
    remedy: '`brindle lab down` removes a lab; if it is not of a lab, remove it with `ip netns delete`',
  });
}

function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new BrindleError('permission', 'a lab needs root: it makes network namespaces', {
    remedy: 'run it with sudo',
  });
}

async function timed(progress: Progress, step: string, work: () => unknown, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  const start = performance.now();
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([work(), aborted.promise]);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
  progress(step, performance.now() - start);
}
