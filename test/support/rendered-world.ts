// The whole way from resources to nftables, in memory: calculation, renderer, and nftables' own rules applied to a packet.
// In: resources as people write them. Out: what becomes of a flow. All workloads are on one host, so that a packet between two of
// them passes the egress of the one and the ingress of the other; an address that nobody has is behind the uplink.
import { CalcGraph } from '#calc/graph.ts';
import { Dataplane } from '#dataplane/dataplane.ts';
import type { Pod } from '#model/kubernetes-objects.ts';
import type { Resource } from '#model/resource.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { FORWARD_PATH, type Packet } from '#nft/evaluate.ts';
import { FakeNftables } from '#nft/fake.ts';
import { convertPod, convertWorkloadEndpoint, type EndpointData } from '#policy/convert/endpoints.ts';
import type { Flow, FlowEnd } from '#policy/evaluate/flow.ts';

const HOST = 'all-workloads';
const UPLINK = 'uplink';
/** What a flow that names no source port comes from. */
const EPHEMERAL_PORT = 40_000;

interface Local {
  readonly data: EndpointData;
  readonly interfaceName: string;
}

export class RenderedWorld {
  readonly #fake = new FakeNftables();
  readonly #dataplane = new Dataplane({ driver: this.#fake });
  readonly #calc = new CalcGraph({ hostName: HOST, implicitNamespaces: true });
  readonly #locals: Local[] = [];

  static async of(resources: readonly Resource[]): Promise<RenderedWorld> {
    const world = new RenderedWorld();
    await world.#dataplane.start();
    for (const resource of resources) world.#add(resource);
    world.#calc.setInSync();
    await world.#dataplane.apply(world.#calc.flush());
    return world;
  }

  get failures(): readonly { owner: string; reason: string }[] {
    return this.#dataplane.failures();
  }

  stop(): Promise<void> {
    return this.#dataplane.stop();
  }

  /** What nftables does with the first packet of a flow; null when the flow is not between workloads and addresses outside. */
  verdict(flow: Flow): 'allow' | 'deny' | null {
    const from = this.#end(flow.from);
    const to = this.#end(flow.to);
    if (!from || !to) return null;
    const pairs = from.addresses.flatMap((a) => to.addresses.map((b) => [a, b] as const));
    const pair = pairs.find(([a, b]) => a.family === b.family);
    if (!pair || pair[0].equals(pair[1])) return null;
    const packet: Packet = {
      family: pair[0].family,
      source: pair[0].toString(),
      destination: pair[1].toString(),
      protocol: flow.protocol,
      ...(flow.port !== null && { destinationPort: flow.port }),
      ...(flow.port !== null && { sourcePort: flow.sourcePort ?? EPHEMERAL_PORT }),
      ...(flow.icmp && { icmpType: flow.icmp.type, icmpCode: flow.icmp.code }),
      inInterface: from.interfaceName,
      outInterface: to.interfaceName,
    };
    return this.#fake.send('brindle', FORWARD_PATH, packet).verdict === 'accept' ? 'allow' : 'deny';
  }

  #add(resource: Resource): void {
    if (resource.apiVersion === 'v1' && resource.kind === 'Pod') {
      const data = convertPod(resource as Pod);
      if (data) this.#attach(podEndpoint(resource as Pod, data, this.#locals.length), data);
      // Services ask for pods; labels and addresses come from the endpoint.
    } else if (resource.kind === 'WorkloadEndpoint') {
      const endpoint = resource as WorkloadEndpoint;
      this.#attach(
        { ...endpoint, spec: { ...endpoint.spec, interfaceName: nameOf(this.#locals.length) } },
        convertWorkloadEndpoint(endpoint),
      );
      return;
    }
    this.#calc.update(resource);
  }

  #attach(endpoint: Resource, data: EndpointData): void {
    this.#locals.push({ data, interfaceName: nameOf(this.#locals.length) });
    this.#calc.setLocalEndpoint(endpoint);
  }

  #end(end: FlowEnd): { interfaceName: string; addresses: EndpointData['addresses'] } | null {
    if ('ip' in end) {
      const owner = this.#locals.find(({ data }) => data.addresses.some((a) => a.equals(end.ip)));
      return { interfaceName: owner?.interfaceName ?? UPLINK, addresses: [end.ip] };
    }
    const owner = this.#locals.find(({ data }) =>
      'pod' in end
        ? data.pod === end.pod
        : [data.name, `${data.namespace}/${data.name}`].includes(end.endpoint) && data.kind === 'workload',
    );
    return owner ? { interfaceName: owner.interfaceName, addresses: owner.data.addresses } : null;
  }
}

function nameOf(index: number): string {
  return `cali${index}`;
}

/** What the agent makes of a pod when the CNI plugin is called for it. */
function podEndpoint(pod: Pod, data: EndpointData, index: number): Resource {
  const account = pod.spec.serviceAccountName;
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { name: `pod-${data.name}`, namespace: data.namespace, labels: pod.metadata.labels ?? {} },
    spec: {
      orchestrator: 'k8s',
      pod: data.name,
      node: HOST,
      ...(account !== undefined && { serviceAccountName: account }),
      ipNetworks: data.addresses.map((a) => `${a}/${a.family === 4 ? 32 : 128}`),
      profiles: [...data.profiles],
      interfaceName: nameOf(index),
      ports: data.ports.map(({ name, protocol, port }) => ({ name, protocol, port })),
    },
  };
}
