// Everything that a decision needs, parsed and indexed once. In: validated resources. Out: World, read by policy/evaluate.
// Pure and synchronous; also for a browser. What is worked out per endpoint or address is worked out when first asked for, and kept.
// Traps: pods and network sets imply their namespace when a set of manifests leaves it out; a WorkloadEndpoint that stands for a pod gives way
// to the pod; `*` host endpoints, and those that name only an interface, have the addresses of their node.
import type { HostEndpoint } from '#model/host-endpoint.ts';
import type {
  EndpointSlice,
  Endpoints,
  KubernetesNode,
  Namespace,
  Pod,
  Service,
  ServiceAccount,
} from '#model/kubernetes-objects.ts';
import type { NetworkSet } from '#model/network-set.ts';
import type { Node } from '#model/node.ts';
import type { Profile } from '#model/profile.ts';
import { kindKey, type Resource } from '#model/resource.ts';
import type { Tier } from '#model/tier.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { IpAddress } from '#net/address.ts';
import { convertProfile } from '../convert/calico.ts';
import {
  convertHostEndpoint,
  convertNamespace,
  convertNetworkSet,
  convertPod,
  convertServiceAccount,
  convertWorkloadEndpoint,
  DEFAULT_ALLOW_PROFILE,
  type EndpointData,
  namespaceProfileData,
  podAddresses,
  podNode,
} from '../convert/endpoints.ts';
import { convertPolicy, POLICY_KINDS } from '../convert/policies.ts';
import { convertServices, type Frontend, type ServiceData, serviceFrontends } from '../convert/services.ts';
import { comparePolicies, orderTiers, type TierData } from '../order.ts';
import type { Direction, Policy, PolicyRule, ProfileData } from '../policy.ts';
import type { Labels, Selector } from '../selector/selector.ts';
import { AddressBook, type AddressOwners, append } from './address-book.ts';
import { Endpoint, type WorldPolicy } from './endpoint.ts';
import { Entity } from './entity.ts';
import type { Surroundings } from './matcher.ts';
import { RuleList } from './rule-list.ts';
import { SelectorTable } from './selector-table.ts';

export interface NodeData {
  readonly name: string;
  readonly labels: Labels;
  readonly addresses: readonly IpAddress[];
}

/** A profile with its rules ready to be asked. */
export interface WorldProfile {
  readonly data: ProfileData;
  readonly rules: Readonly<Record<Direction, RuleList>>;
}

export interface World {
  readonly tiers: readonly TierData[];
  /** In the order in which they are asked, within their tiers. */
  readonly policies: readonly WorldPolicy[];
  readonly profiles: ReadonlyMap<string, WorldProfile>;
  /** By id, in no order that means anything. */
  readonly endpoints: ReadonlyMap<string, Endpoint>;
  /** By the pod they are or belong to, `namespace/name`. */
  readonly endpointsByPod: ReadonlyMap<string, readonly Endpoint[]>;
  /** By `name` and, where there is a namespace, by `namespace/name` too. */
  readonly endpointsByName: ReadonlyMap<string, readonly Endpoint[]>;
  /**
   * By node: the host endpoint that traffic between its workloads and other hosts passes. It is the one for all interfaces, or the only
   * one; a node with several and no `*` has none here, because nothing says which interface is used.
   */
  readonly gates: ReadonlyMap<string, Endpoint>;
  /** Pods on the host's network: a flow may name them, but they are no endpoint. By `namespace/name`. */
  readonly hostPods: ReadonlyMap<string, readonly IpAddress[]>;
  readonly nodes: ReadonlyMap<string, NodeData>;
  /** By `namespace/name`. */
  readonly services: ReadonlyMap<string, ServiceData>;
  /** By `address,protocol,port`, see `frontendKey`. */
  readonly frontends: ReadonlyMap<string, Frontend>;
  readonly addresses: AddressBook;
}

export function frontendKey(address: IpAddress, protocol: number, port: number | null): string {
  return `${address},${protocol},${port}`;
}

/** Sorts resources by kind; kinds that have no part in a decision are left alone. */
class Sorted {
  readonly #byKind = new Map<string, Resource[]>();

  constructor(resources: Iterable<Resource>) {
    for (const resource of resources) {
      // `Node` is a kind of two groups with the same key.
      const key = resource.apiVersion === 'v1' ? `v1/${resource.kind}` : kindKey(resource.apiVersion, resource.kind);
      const list = this.#byKind.get(key);
      if (list) list.push(resource);
      else this.#byKind.set(key, [resource]);
    }
  }

  /** The registry has checked that resources of a kind have the type of the kind, which the caller names. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters
  of<R extends Resource>(key: string): readonly R[] {
    return (this.#byKind.get(key) ?? []) as unknown as readonly R[];
  }
}

/** Builds a world of validated resources. Their order does not matter. */
export function buildWorld(resources: Iterable<Resource>): World {
  const sorted = new Sorted(resources);
  const pods = sorted.of<Pod>('v1/Pod');
  const converted = convertPolicies(sorted).sort(comparePolicies);
  const tiers = orderTiers(
    sorted.of<Tier>('Tier'),
    converted.map(({ tier }) => tier),
  );
  const nodes = collectNodes(sorted, pods);
  const services = convertServices({
    services: sorted.of<Service>('v1/Service'),
    slices: sorted.of<EndpointSlice>('EndpointSlice.discovery.k8s.io'),
    endpoints: sorted.of<Endpoints>('v1/Endpoints'),
    pods,
  });
  const around = new WorldSurroundings(nodes, services);
  const ready = (rules: readonly PolicyRule[]): RuleList => new RuleList(rules, around);
  const policies = converted.map(
    (data): WorldPolicy => ({
      data,
      rules: { ingress: data.ingress && ready(data.ingress), egress: data.egress && ready(data.egress) },
    }),
  );
  const profiles = new Map<string, WorldProfile>();
  for (const data of collectProfiles(sorted, pods)) {
    profiles.set(data.id, { data, rules: { ingress: ready(data.ingress), egress: ready(data.egress) } });
  }
  const entityOf = (labels: Labels, parents: readonly string[]): Entity =>
    new Entity(
      labels,
      parents.map((name) => profiles.get(name)?.data.labels).filter((found) => found !== undefined),
    );
  // Every rule has been read, so that the table holds every selector.
  const addresses = new AddressBook(around.selectors);
  const endpoints = new Map<string, Endpoint>();
  const endpointsByPod = new Map<string, Endpoint[]>();
  const endpointsByName = new Map<string, Endpoint[]>();
  for (const data of collectEndpoints(sorted, pods, nodes)) {
    const endpoint = new Endpoint(data, entityOf(data.labels, data.profiles), tiers, policies);
    endpoints.set(data.id, endpoint);
    if (data.pod !== null) append(endpointsByPod, data.pod, endpoint);
    append(endpointsByName, data.name, endpoint);
    if (data.namespace) append(endpointsByName, `${data.namespace}/${data.name}`, endpoint);
    for (const address of data.addresses) addresses.addEndpoint(address, endpoint);
  }
  for (const set of [...sorted.of<NetworkSet>('NetworkSet'), ...sorted.of<NetworkSet>('GlobalNetworkSet')]) {
    const { labels, parents, nets } = convertNetworkSet(set);
    const entity = entityOf(labels, parents);
    for (const net of nets) addresses.addSet(net, entity);
  }
  for (const { name, addresses: own } of nodes.values()) for (const address of own) addresses.addNode(address, name);
  const hostPods = new Map(
    pods
      .filter(({ spec }) => spec.hostNetwork)
      .map((pod) => {
        const own = podAddresses(pod);
        const addresses = own.length > 0 ? own : (nodes.get(podNode(pod) ?? '')?.addresses ?? []);
        return [`${pod.metadata.namespace}/${pod.metadata.name}`, addresses];
      }),
  );
  return {
    tiers,
    policies,
    profiles,
    endpoints,
    endpointsByPod,
    endpointsByName,
    gates: findGates(endpoints.values()),
    hostPods,
    nodes,
    services,
    frontends: new Map(
      serviceFrontends(sorted.of<Service>('v1/Service'), services).map((frontend) => [
        frontendKey(frontend.address, frontend.protocol, frontend.port),
        frontend,
      ]),
    ),
    addresses,
  };
}

function findGates(endpoints: Iterable<Endpoint>): Map<string, Endpoint> {
  const byNode = new Map<string, Endpoint[]>();
  for (const endpoint of endpoints) {
    const { kind, node } = endpoint.data;
    if (kind === 'host' && node !== null) append(byNode, node, endpoint);
  }
  const gates = new Map<string, Endpoint>();
  for (const [node, hosts] of byNode) {
    const everywhere = hosts.find(({ data }) => data.interfaceName === '*');
    const gate = everywhere ?? (hosts.length === 1 ? hosts[0] : undefined);
    if (gate) gates.set(node, gate);
  }
  return gates;
}

function convertPolicies(sorted: Sorted): Policy[] {
  return [...POLICY_KINDS].flatMap((kind) => sorted.of(kind).map((resource) => convertPolicy(resource)!));
}

/** What rules ask of the world, made before the rules are. */
class WorldSurroundings implements Surroundings {
  readonly #nodes: ReadonlyMap<string, NodeData>;
  readonly selectors = new SelectorTable();
  readonly #serving = new Map<string, { addresses: ReadonlySet<string>; members: ReadonlySet<string> }>();

  constructor(nodes: ReadonlyMap<string, NodeData>, services: ReadonlyMap<string, ServiceData>) {
    this.#nodes = nodes;
    for (const [name, { addresses, members }] of services) {
      this.#serving.set(name, {
        addresses: new Set(addresses.map(String)),
        members: new Set(members.map(({ address, protocol, port }) => `${address},${protocol},${port}`)),
      });
    }
  }

  selectorNumber(selector: Selector): number {
    return this.selectors.numberOf(selector);
  }

  serves(
    service: string,
    { address }: AddressOwners,
    protocol: number,
    port: number | null,
    withPort: boolean,
  ): boolean {
    const serving = this.#serving.get(service);
    if (!serving) return false;
    return withPort ? serving.members.has(`${address},${protocol},${port}`) : serving.addresses.has(address.toString());
  }

  isNode(selector: Selector, { nodes }: AddressOwners): boolean {
    return nodes.some((name) => selector.matches(this.#nodes.get(name)?.labels ?? {}));
  }
}

/** A namespace that exists, else a profile somebody wrote, else one that pods and network sets imply. */
function collectProfiles(sorted: Sorted, pods: readonly Pod[]): Iterable<ProfileData> {
  const profiles = new Map<string, ProfileData>([[DEFAULT_ALLOW_PROFILE.id, DEFAULT_ALLOW_PROFILE]]);
  const add = (profile: ProfileData): void => {
    profiles.set(profile.id, profile);
  };
  for (const { metadata, spec } of pods) {
    if (!spec.hostNetwork) add(namespaceProfileData(metadata.namespace ?? ''));
  }
  for (const { metadata } of sorted.of<NetworkSet>('NetworkSet')) add(namespaceProfileData(metadata.namespace ?? ''));
  for (const profile of sorted.of<Profile>('Profile')) add(convertProfile(profile));
  for (const namespace of sorted.of<Namespace>('v1/Namespace')) add(convertNamespace(namespace));
  for (const account of sorted.of<ServiceAccount>('v1/ServiceAccount')) add(convertServiceAccount(account));
  return profiles.values();
}

/** What is known of every host, from Kubernetes' Node, ours, what pods say of theirs, and host endpoints. */
function collectNodes(sorted: Sorted, pods: readonly Pod[]): Map<string, NodeData> {
  const nodes = new Map<string, { name: string; labels: Record<string, string>; addresses: IpAddress[] }>();
  const learn = (name: string | undefined, texts: readonly (string | undefined)[], labels: Labels = {}): void => {
    if (!name) return;
    let node = nodes.get(name);
    if (!node) nodes.set(name, (node = { name, labels: {}, addresses: [] }));
    Object.assign(node.labels, labels);
    for (const text of texts) {
      const address = IpAddress.tryParse(text?.split('/')[0] ?? '');
      if (address && !node.addresses.some((known) => known.equals(address))) node.addresses.push(address);
    }
  };
  for (const { metadata, status } of sorted.of<KubernetesNode>('v1/Node')) {
    const texts = (status?.addresses ?? []).map(({ address }) => address);
    learn(metadata.name, texts, metadata.labels);
  }
  for (const { metadata, spec } of sorted.of<Node>('Node')) {
    const listed = (spec.addresses ?? []).map(({ address }) => address);
    learn(metadata.name, [spec.bgp?.ipv4Address, spec.bgp?.ipv6Address, ...listed], metadata.labels);
  }
  for (const pod of pods) {
    const { hostIP, hostIPs = [] } = pod.status ?? {};
    const own = pod.spec.hostNetwork ? podAddresses(pod).map(String) : [];
    learn(podNode(pod) ?? undefined, [hostIP, ...hostIPs.map(({ ip }) => ip), ...own]);
  }
  for (const { spec } of sorted.of<HostEndpoint>('HostEndpoint')) learn(spec.node, spec.expectedIPs ?? []);
  return nodes;
}

function collectEndpoints(sorted: Sorted, pods: readonly Pod[], nodes: ReadonlyMap<string, NodeData>): EndpointData[] {
  const names = new Set(pods.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
  const workloads = sorted
    .of<WorkloadEndpoint>('WorkloadEndpoint')
    .filter(({ metadata, spec }) => !(spec.orchestrator === 'k8s' && names.has(`${metadata.namespace}/${spec.pod}`)))
    .map(convertWorkloadEndpoint);
  const hosts = sorted.of<HostEndpoint>('HostEndpoint').map((resource) => {
    const data = convertHostEndpoint(resource);
    return data.addresses.length > 0 ? data : { ...data, addresses: nodes.get(data.node ?? '')?.addresses ?? [] };
  });
  return [...pods.map(convertPod).filter((data) => data !== null), ...workloads, ...hosts];
}
