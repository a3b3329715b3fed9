// The renderer's rung: every policy scenario through calculation and rendering onto the in-memory nftables of each host, packet by
// packet. Needs neither root nor kernel; what the kernel does with the same table, nft-drivers.test.ts and policy-dataplane.test.ts show.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CalcGraph } from '#calc/graph.ts';
import { Dataplane } from '#dataplane/dataplane.ts';
import type { HostEndpoint } from '#model/host-endpoint.ts';
import type { Pod } from '#model/kubernetes-objects.ts';
import { Problems } from '#model/problems.ts';
import { parseResource } from '#model/registry.ts';
import type { Resource } from '#model/resource.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { FORWARD_PATH, INPUT_PATH, OUTPUT_PATH, type Packet } from '#nft/evaluate.ts';
import { FakeNftables } from '#nft/fake.ts';
import type { Hook } from '#nft/objects.ts';
import { convertPod } from '#policy/convert/endpoints.ts';
import { parseFlow } from '#policy/evaluate/flow.ts';
import { type Party, type Route, routeOf } from '#policy/evaluate/route.ts';
import type { Endpoint } from '#policy/world/endpoint.ts';
import { buildWorld } from '#policy/world/world.ts';
import { loadScenarios } from '../support/scenarios.ts';

const UPLINK = 'eth0';
const TABLE = 'brindle';
/** Of a flow that does not say. */
const EPHEMERAL_PORT = 40_000;

/** All hosts of a step, each with its table. */
class Hosts {
  readonly #drivers = new Map<string, FakeNftables>();
  readonly #interfaces = new Map<string, string>();

  static async of(resources: readonly Resource[]): Promise<Hosts> {
    const hosts = new Hosts();
    const names = new Set<string>();
    for (const resource of resources) {
      const node = nodeOf(resource);
      if (node) names.add(node);
    }
    for (const name of names) await hosts.#add(name, resources);
    return hosts;
  }

  async #add(hostName: string, resources: readonly Resource[]): Promise<void> {
    const graph = new CalcGraph({ hostName, implicitNamespaces: true });
    for (const resource of resources) {
      if (nodeOf(resource) !== hostName) graph.update(resource);
      else if (resource.kind === 'Pod') {
        const local = this.#workloadOf(resource as Pod);
        if (local) graph.setLocalEndpoint(local);
      } else if (resource.kind === 'WorkloadEndpoint') {
        this.#interfaces.set(idOf(resource), (resource as WorkloadEndpoint).spec.interfaceName);
        graph.setLocalEndpoint(resource);
      } else graph.update(withInterface(resource as HostEndpoint));
    }
    graph.setInSync();
    const driver = new FakeNftables();
    const dataplane = new Dataplane({ driver });
    await dataplane.start();
    await dataplane.apply(graph.flush());
    assert.deepEqual(dataplane.failures(), []);
    this.#drivers.set(hostName, driver);
  }

  /** The endpoint that the CNI plugin would make of a pod. */
  #workloadOf(pod: Pod): WorkloadEndpoint | null {
    const data = convertPod(pod);
    if (!data || data.addresses.length === 0) return null;
    const interfaceName = `cali${this.#interfaces.size}`;
    this.#interfaces.set(data.id, interfaceName);
    return {
      apiVersion: 'projectcalico.org/v3',
      kind: 'WorkloadEndpoint',
      metadata: { name: `node-k8s-${data.name}-eth0`, namespace: data.namespace, labels: pod.metadata.labels ?? {} },
      spec: {
        orchestrator: 'k8s',
        node: data.node ?? '',
        pod: data.name,
        endpoint: 'eth0',
        interfaceName,
        ipNetworks: data.addresses.map((a) => `${a}/${a.family === 4 ? 32 : 128}`),
        profiles: [...data.profiles],
        ports: data.ports.map((p) => ({ ...p })),
        ...(pod.spec.serviceAccountName ? { serviceAccountName: pod.spec.serviceAccountName } : {}),
      },
    };
  }

  allows(route: Route): boolean {
    const { source, destination, packet: p } = route;
    if (source.endpoint && source.endpoint === destination.endpoint) return true;
    const packet: Packet = {
      family: p.family,
      source: String(p.source.address),
      destination: String(p.destination.address),
      protocol: p.protocol,
      ...(p.destinationPort === null
        ? {}
        : { destinationPort: p.destinationPort, sourcePort: p.sourcePort ?? EPHEMERAL_PORT }),
      ...(p.icmp === null ? {} : { icmpType: p.icmp.type, icmpCode: p.icmp.code ?? 0 }),
    };
    const same = source.nodes.some((node) => destination.nodes.includes(node));
    const [from, to] = [this.#workloadInterface(source), this.#workloadInterface(destination)];
    const send = (party: Party, path: readonly Hook[], inInterface: string, outInterface: string): boolean => {
      const driver = this.#drivers.get(party.nodes[0] ?? '');
      return driver?.send(TABLE, path, { ...packet, inInterface, outInterface }).verdict !== 'drop';
    };
    if (same && from && to) return send(source, FORWARD_PATH, from, to);
    if (same && from) return send(source, INPUT_PATH, from, '');
    if (same && to) return send(destination, OUTPUT_PATH, '', to);
    if (same) return true;
    const leaves = from ? send(source, FORWARD_PATH, from, UPLINK) : send(source, OUTPUT_PATH, '', UPLINK);
    const arrives = to ? send(destination, FORWARD_PATH, UPLINK, to) : send(destination, INPUT_PATH, UPLINK, '');
    return leaves && arrives;
  }

  #workloadInterface({ endpoint }: Party): string | null {
    return endpoint?.data.kind === 'workload' ? this.#interfaceOf(endpoint) : null;
  }

  #interfaceOf(endpoint: Endpoint): string {
    return this.#interfaces.get(endpoint.data.id) ?? 'cali-unknown';
  }
}

function idOf({ kind, metadata }: Resource): string {
  return metadata.namespace ? `${kind}/${metadata.namespace}/${metadata.name}` : `${kind}/${metadata.name}`;
}

/** The host an endpoint is on; null for what is no endpoint. */
function nodeOf(resource: Resource): string | null {
  if (resource.kind === 'Pod') return convertPod(resource as Pod)?.node ?? null;
  if (resource.kind === 'WorkloadEndpoint' || resource.kind === 'HostEndpoint') {
    return (resource as WorkloadEndpoint | HostEndpoint).spec.node;
  }
  return null;
}

/** A pod that no host is told of stands alone on one. */
function placed(resource: Resource): Resource {
  if (resource.kind !== 'Pod') return resource;
  const pod = resource as Pod;
  if (pod.spec.hostNetwork || convertPod(pod)?.node) return pod;
  return { ...pod, spec: { ...pod.spec, nodeName: `alone-${pod.metadata.namespace}-${pod.metadata.name}` } };
}

/** Every host here has one uplink. */
function withInterface(endpoint: HostEndpoint): HostEndpoint {
  const { interfaceName } = endpoint.spec;
  if (interfaceName === '*') return endpoint;
  return { ...endpoint, spec: { ...endpoint.spec, interfaceName: UPLINK } };
}

for (const scenario of loadScenarios()) {
  describe(`${scenario.file}: ${scenario.name}`, () => {
    for (const step of scenario.steps) {
      it(step.name, { skip: scenario.not['model'] ?? false }, async () => {
        const resources = step.resources.map((resource) => placed(parseResource(resource)));
        const world = buildWorld(resources);
        const hosts = await Hosts.of(resources);
        for (const expected of step.expectations) {
          const flow = parseFlow(expected.flow, 'flow', new Problems());
          assert.ok(flow);
          const route = routeOf(world, flow);
          const verdict = !('reason' in route) && hosts.allows(route) ? 'allow' : 'deny';
          assert.equal(verdict, expected.verdict, JSON.stringify(expected.flow));
        }
      });
    }
  });
}
