// One host with a real agent in a namespace, containers that the CNI executable attaches, and a world outside behind an uplink:
// policy scenarios with real packets. In: resources as a scenario has them. Out: flows tried, each `allow` or `deny`.
//
// Pods become containers with the pod's addresses (asked for by the `ips` capability) and labels; a later change of labels is
// written to the endpoint in the store. All pods are attached to this one host, wherever the scenario puts them. Every other
// resource is written to the store as it is. Pods themselves are written too: named ports and accounts of peers come from them.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ApiClient } from '#agent/api/client.ts';
import type { EndpointStatus, PolicyState } from '#agent/api/types.ts';
import { EmbeddedStore } from '#datastore/embedded/store.ts';
import type { Pod } from '#model/kubernetes-objects.ts';
import { parseResource } from '#model/registry.ts';
import { keyOf, keyText, type Resource } from '#model/resource.ts';
import { KernelConntrack } from '#netlink/conntrack.ts';
import { IpAddress } from '#net/address.ts';
import { convertPod } from '#policy/convert/endpoints.ts';
import { parseFlow, type Flow, type FlowEnd } from '#policy/evaluate/flow.ts';
import { Problems } from '#model/problems.ts';
import { createNamedNetns, deleteNamedNetns } from '#sys/netns.ts';
import { CniRunner, PluginError } from './cni-runner.ts';
import { addAddresses, connectNetns, testNetns, uniqueName, until } from './netns.ts';
import type { RawFlow, RawResource } from './scenarios.ts';
import { type Probe, Traffic } from './traffic.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const HOST = 'policy-host';
const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;
/** ICMP messages that the kernel lets begin a connection; any other without one is invalid to it, whatever policy says. */
const BEGINNING = { [ICMP]: new Set([8, 13, 15, 17]), [ICMPV6]: new Set([128]) };
const ECHO = { [ICMP]: 8, [ICMPV6]: 128 };
const POOLS = { v4: '10.65.0.0/16', v6: 'fd00:65::/32', other: 'fd00::/120' };
const OURS = new Set([`Node/${HOST}`, ...Object.keys(POOLS).map((name) => `IPPool/${name}`)]);
/** The CNI code of an address that somebody has, which it is for a moment after its container has gone. */
const ADDRESS_TAKEN = 101;
/** What the agent itself writes. */
const WRITTEN_BY_AGENT = new Set(['IPBlock', 'WorkloadEndpoint']);

interface Container {
  readonly pod: string;
  readonly id: string;
  readonly path: string;
  readonly addresses: readonly IpAddress[];
  labels: string;
}

/** How a flow fared: null when this rung cannot send it. */
export type Tried = 'allow' | 'deny' | null;

export interface PolicyHostOptions {
  /** More of the agent's configuration. */
  readonly config?: object;
}

export class PolicyHost {
  readonly #work: string;
  readonly #host = testNetns('p');
  readonly #outside = testNetns('o');
  readonly #outsideAddresses = new Set<string>();
  readonly #uplink: number;
  readonly #containers = new Map<string, Container>();
  readonly #stored = new Map<string, { text: string; version: string; resource: Resource }>();
  #store!: EmbeddedStore;
  #agent!: ChildProcess;
  #runner!: CniRunner;
  #api!: ApiClient;
  #conntrack!: KernelConntrack;
  traffic!: Traffic;
  output = '';

  private constructor() {
    this.#work = mkdtempSync(join(tmpdir(), 'brindle-policy-'));
    this.#uplink = connectNetns(this.#host, this.#outside, {
      a: 'uplink',
      b: 'eth0',
      aAddresses: ['198.18.0.1/30', 'fd18::1/126'],
      bAddresses: ['198.18.0.2/30', 'fd18::2/126'],
    }).b;
  }

  static async start(options: PolicyHostOptions = {}): Promise<PolicyHost> {
    const host = new PolicyHost();
    try {
      await host.#start(options);
      return host;
    } catch (error) {
      await host.close();
      throw error;
    }
  }

  async #start({ config = {} }: PolicyHostOptions): Promise<void> {
    const ip = (name: string, ...args: string[]) => execFileSync('ip', ['-n', name, ...args]);
    ip(this.#host.name, 'route', 'add', 'default', 'via', '198.18.0.2');
    ip(this.#host.name, '-6', 'route', 'add', 'default', 'via', 'fd18::2');
    ip(this.#outside.name, 'route', 'add', POOLS.v4, 'via', '198.18.0.1');
    ip(this.#outside.name, '-6', 'route', 'add', POOLS.v6, 'via', 'fd18::1');
    ip(this.#outside.name, '-6', 'route', 'add', POOLS.other, 'via', 'fd18::1');
    mkdirSync(join(this.#work, 'bin'));
    const cni = join(this.#work, 'bin/brindle-cni');
    assert.equal(spawnSync('cc', ['-O2', '-o', cni, join(ROOT, 'src/cni/brindle-cni.c')]).status, 0);
    this.traffic = Traffic.start(this.#work);
    const path = join(this.#work, 'store.db');
    this.#store = await EmbeddedStore.open({ path });
    const make = async (kind: string, name: string, spec: object) =>
      this.#store.create(parseResource({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec }));
    await make('Node', HOST, {});
    for (const [name, cidr] of Object.entries(POOLS)) {
      await make('IPPool', name, { cidr, blockSize: cidr.includes(':') ? 122 : 26 });
    }
    const file = join(this.#work, 'brindle.yaml');
    const socket = join(this.#work, 'run/brindle.sock');
    const directories = { runDirectory: join(this.#work, 'run'), stateDirectory: join(this.#work, 'state') };
    writeFileSync(file, JSON.stringify({ hostName: HOST, store: { embedded: { path } }, ...directories, ...config }));
    const command = [join(ROOT, 'bin/brindle'), 'agent', '--config', file];
    const environment = { ...process.env, BRINDLE_SOURCE: '1' };
    this.#agent = spawn('nsenter', [`--net=${this.#host.path}`, '--', ...command], { env: environment });
    for (const stream of [this.#agent.stdout, this.#agent.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.output += chunk.toString();
      });
    }
    const child = this.#agent;
    await until('in sync', () => this.output.includes('in sync') || child.exitCode !== null, 60_000);
    assert.equal(child.exitCode, null, this.output);
    this.#api = new ApiClient(socket);
    this.#conntrack = new KernelConntrack(this.#host.path);
    this.#runner = new CniRunner({
      list: {
        cniVersion: '1.0.0',
        name: 'policy',
        plugins: [{ type: 'brindle-cni', capabilities: { ips: true, labels: true } }],
      },
      path: [join(this.#work, 'bin')],
      cacheDirectory: join(this.#work, 'cache'),
      environment: { BRINDLE_SOCKET: socket },
      namespace: this.#host.path,
    });
  }

  async close(): Promise<void> {
    this.traffic?.stop();
    this.#conntrack?.close();
    const agent = this.#agent as ChildProcess | undefined;
    if (agent && agent.exitCode === null) {
      const ended = new Promise((done) => agent.once('exit', done));
      agent.kill('SIGKILL');
      await ended;
    }
    await (this.#store as EmbeddedStore | undefined)?.close();
    for (const { id } of this.#containers.values()) deleteNamedNetns(id);
    this.#host.close();
    this.#outside.close();
    rmSync(this.#work, { recursive: true, force: true });
  }

  get socketPath(): string {
    return this.#api.socketPath;
  }

  /** The host's namespace. */
  get path(): string {
    return this.#host.path;
  }

  /** The namespace and addresses of a pod's container. */
  container(pod: string): { readonly path: string; readonly addresses: readonly IpAddress[] } {
    const found = this.#containers.get(pod);
    assert.ok(found, `no container of ${pod}`);
    return found;
  }

  /** Makes the host's world this one and waits until it is in force. */
  async become(raw: readonly RawResource[]): Promise<void> {
    const resources = raw.map((resource) => parseResource(resource));
    await this.#attach(resources.filter(({ kind }) => kind === 'Pod') as Pod[]);
    const wanted = new Map(resources.map((resource) => [keyText(keyOf(resource)), resource]));
    for (const [key, { resource }] of [...this.#stored]) {
      if (wanted.has(key)) continue;
      await this.#store.delete(keyOf(resource));
      this.#stored.delete(key);
    }
    for (const [key, resource] of wanted) {
      const text = JSON.stringify(resource);
      const known = this.#stored.get(key);
      if (known?.text === text) continue;
      const written = known ? await this.#store.update(resource) : await this.#store.create(resource);
      this.#stored.set(key, { text, version: written.metadata.resourceVersion ?? '', resource });
    }
    await this.#settled();
  }

  /** The state says what is known and in force: everything that was written and nothing that was removed. */
  async #settled(): Promise<void> {
    let seen: PolicyState | null = null;
    await until(
      'the agent has what was written',
      async () => {
        seen = await this.#api.json<PolicyState>('/v1/policy/state', { timeout: 60_000 });
        const known = new Map(seen.resources.map((resource) => [keyText(keyOf(resource)), resource]));
        for (const [key, { version }] of this.#stored) {
          if (known.get(key)?.metadata.resourceVersion !== version) return false;
        }
        for (const [key, { kind }] of known) {
          if (!this.#stored.has(key) && !OURS.has(key) && !WRITTEN_BY_AGENT.has(kind)) return false;
        }
        const local = seen.resources.filter(({ kind }) => kind === 'WorkloadEndpoint');
        return [...this.#containers.values()].every(({ id, labels }) => {
          const own = local.find(({ spec }) => (spec as { containerID?: string }).containerID === id);
          return own !== undefined && labelText(own.metadata.labels ?? {}) === labels;
        });
      },
      60_000,
    );
    assert.deepEqual(seen!.failures, []);
  }

  async #attach(pods: readonly Pod[]): Promise<void> {
    const wanted = new Map<string, { addresses: readonly IpAddress[]; labels: Record<string, string> }>();
    for (const pod of pods) {
      const data = convertPod(pod);
      if (!data || data.addresses.length === 0) continue;
      wanted.set(data.pod!, { addresses: data.addresses, labels: { ...pod.metadata.labels } });
    }
    for (const [pod, container] of [...this.#containers]) {
      if (wanted.get(pod)?.addresses.join() !== container.addresses.join()) await this.#detach(container);
    }
    for (const [pod, { addresses, labels }] of wanted) {
      const known = this.#containers.get(pod);
      if (!known) await this.#run(pod, addresses, labels);
      else if (known.labels !== labelText(labels)) await this.#relabel(known, labels);
    }
  }

  async #run(pod: string, addresses: readonly IpAddress[], labels: Record<string, string>): Promise<void> {
    const id = uniqueName('bt-c');
    const path = createNamedNetns(id);
    const container = { pod, id, path, addresses, labels: labelText(labels) };
    this.#containers.set(pod, container);
    const attachment = { ...this.#attachment(container), capabilityArgs: { ips: addresses.map(String), labels } };
    await until(
      `${pod} is attached`,
      async () => {
        try {
          await this.#runner.add(attachment);
          return true;
        } catch (error) {
          if (error instanceof PluginError && error.code === ADDRESS_TAKEN) return false;
          throw error;
        }
      },
      30_000,
    );
  }

  #attachment({ pod, id, path }: Container): { containerId: string; netns: string; args: string } {
    const [namespace, name] = pod.split('/');
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}`;
    return { containerId: id, netns: path, args };
  }

  async #detach(container: Container): Promise<void> {
    await this.#runner.del(this.#attachment(container));
    deleteNamedNetns(container.id);
    this.traffic.forget(container.path);
    this.#containers.delete(container.pod);
  }

  async #relabel(container: Container, labels: Record<string, string>): Promise<void> {
    const find = async (): Promise<Resource | undefined> => {
      const { resources } = await this.#store.list('WorkloadEndpoint');
      return resources.find(({ spec }) => (spec as { containerID?: string }).containerID === container.id);
    };
    await until('the endpoint is in the store', async () => (await find()) !== undefined, 30_000);
    const endpoint = (await find())!;
    const own = Object.entries(endpoint.metadata.labels ?? {}).filter(([key]) => isSystemLabel(key));
    const metadata = { ...endpoint.metadata, labels: { ...labels, ...Object.fromEntries(own) } };
    await this.#store.update({ ...endpoint, metadata });
    container.labels = labelText(labels);
  }

  endpoints(): Promise<readonly EndpointStatus[]> {
    return this.#api.json<readonly EndpointStatus[]>('/v1/endpoints');
  }

  /** Tries flows with real packets, all at once. `expected` only says how long to wait. */
  async try(flows: readonly RawFlow[], expected: readonly ('allow' | 'deny')[]): Promise<Tried[]> {
    const results: Tried[] = flows.map(() => null);
    const probes: Probe[] = [];
    const places: number[] = [];
    for (const [i, raw] of flows.entries()) {
      const problems = new Problems();
      const flow = parseFlow(raw, 'flow', problems);
      assert.ok(flow, JSON.stringify(problems.list));
      const probe = this.#probe(flow, expected[i] === 'allow' ? 'open' : 'silent');
      if (!probe) continue;
      probes.push(probe);
      places.push(i);
    }
    // Nothing of an earlier step counts as a known connection.
    await this.#conntrack.delete(await this.#conntrack.list(() => true));
    const words = await this.traffic.round(probes);
    for (const [i, word] of words.entries()) {
      if (word === 'busy') continue; // two flows of one round with the same ports
      assert.ok(word === 'open' || word === 'silent', `${JSON.stringify(flows[places[i]!])}: ${word}`);
      results[places[i]!] = word === 'open' ? 'allow' : 'deny';
    }
    return results;
  }

  #probe(flow: Flow, expected: 'open' | 'silent'): Probe | null {
    const { protocol, port, sourcePort } = flow;
    let { icmp } = flow;
    if (protocol === ICMP || protocol === ICMPV6) {
      icmp ??= { type: ECHO[protocol], code: 0 };
      if (!BEGINNING[protocol].has(icmp.type)) return null;
    }
    if ((protocol === TCP || protocol === UDP) && port === null) return null;
    const from = this.#end(flow.from);
    const to = this.#end(flow.to);
    if (!from || !to || (!from.container && !to.container) || from.container === to.container) return null;
    const only = protocol === ICMP ? 4 : protocol === ICMPV6 ? 6 : null;
    const pairs = from.addresses.flatMap((a) => to.addresses.map((b) => [a, b] as const));
    const pair = pairs.find(([a, b]) => a.family === b.family && (only === null || a.family === only));
    if (!pair) return null;
    const pathOf = (end: typeof from, address: IpAddress): string => {
      if (end.container) return end.container.path;
      this.#outsideHas(address);
      return this.#outside.path;
    };
    return {
      from: pathOf(from, pair[0]),
      to: pathOf(to, pair[1]),
      source: pair[0].toString(),
      destination: pair[1].toString(),
      protocol,
      port,
      sourcePort,
      icmp,
      expected,
    };
  }

  #outsideHas(address: IpAddress): void {
    const text = `${address}/${address.family === 4 ? 32 : 128}`;
    if (this.#outsideAddresses.has(text)) return;
    this.#outsideAddresses.add(text);
    addAddresses(this.#outside, this.#uplink, [text]);
  }

  /** null: not a container, nor an address somewhere outside. */
  #end(end: FlowEnd): { container: Container | null; addresses: readonly IpAddress[] } | null {
    if ('endpoint' in end) return null;
    if ('pod' in end) {
      const container = this.#containers.get(end.pod);
      return container ? { container, addresses: container.addresses } : null;
    }
    const { ip } = end;
    const owner = [...this.#containers.values()].find(({ addresses }) => addresses.some((a) => a.equals(ip)));
    if (!owner && this.#isOfHosts(ip)) return null;
    return { container: owner ?? null, addresses: [ip] };
  }

  /** Addresses of nodes and of what runs on their network: traffic of hosts goes other ways than these probes. */
  #isOfHosts(ip: IpAddress): boolean {
    for (const { resource } of this.#stored.values()) {
      if (!['Node', 'HostEndpoint', 'Pod', 'Service'].includes(resource.kind)) continue;
      const text = JSON.stringify(resource);
      if (text.includes(`"${ip}"`) || text.includes(`"${ip}/`)) return true;
    }
    return false;
  }
}

function isSystemLabel(key: string): boolean {
  return key === 'projectcalico.org/namespace' || key === 'projectcalico.org/orchestrator';
}

function labelText(labels: Readonly<Record<string, string>>): string {
  return JSON.stringify(
    Object.entries(labels)
      .filter(([key]) => !isSystemLabel(key))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}
