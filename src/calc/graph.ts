// The calculation: resources in, what the dataplane should hold out. Pure and synchronous; no I/O, no clock.
// In: put and delete of resources in any order (`update`), the host's own endpoints from the agent (`setLocalEndpoint`:
// they are there before the store knows of them). Out: `flush()` gives the difference to the last flush, ordered so that
// whatever is referred to comes first. The result depends on the present resources alone, not on the order of events.
import { errorText } from '#base/errors.ts';
import type { DesiredEndpoint, DesiredPolicy, DesiredUpdate } from '#model/desired.ts';
import type { HostEndpoint } from '#model/host-endpoint.ts';
import type { KubernetesNode, Namespace, Pod, ServiceAccount } from '#model/kubernetes-objects.ts';
import type { NetworkSet } from '#model/network-set.ts';
import type { IPPool } from '#model/ip-pool.ts';
import type { Node } from '#model/node.ts';
import type { Profile } from '#model/profile.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';
import type { Tier } from '#model/tier.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { compileRules, type SetCollector } from '#policy/compile/compile.ts';
import { convertProfile } from '#policy/convert/calico.ts';
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
} from '#policy/convert/endpoints.ts';
import { POLICY_KINDS } from '#policy/convert/policies.ts';
import { tierData } from '#policy/order.ts';
import { plainRule, type PolicyRule, type ProfileData } from '#policy/policy.ts';
import { checkedPolicy } from './checked-policy.ts';
import { LocalPolicies } from './local-policies.ts';
import { type NatExclusions, OutgoingNat } from './outgoing-nat.ts';
import { Services, SERVICE_KINDS } from './services.ts';
import { SetMembers } from './set-members.ts';

export interface CalcOptions {
  /** Endpoints of this host are local. */
  readonly hostName: string;
  /**
   * Whether a namespace that no resource describes exists all the same, as it does where there is no Kubernetes.
   * Otherwise its endpoints are closed.
   */
  readonly implicitNamespaces: boolean;
  /** What containers of natOutgoing pools reach by their own address; the pools only when absent. */
  readonly natExclusions?: NatExclusions;
}

/** What a resource in the store that cannot be used is worth: a line for its status. */
export interface ResourceProblem {
  readonly key: string;
  readonly error: string;
}

/** A local endpoint: as it was told, and as the rules of policy see it. */
interface LocalEndpoint {
  readonly data: EndpointData;
  readonly interfaceName: string;
}

const NAMESPACE_PROFILE = 'kns.';
const DENY = [plainRule('deny', 0)];

export class CalcGraph {
  readonly #options: CalcOptions;
  readonly #sets = new SetMembers();
  readonly #policies = new LocalPolicies();
  readonly #services = new Services();
  readonly #nat: OutgoingNat;
  readonly #profiles = new Map<string, ProfileData>();
  /** Namespaces that only their endpoints imply. */
  readonly #implied = new Set<string>();
  readonly #localEndpoints = new Map<string, LocalEndpoint>();
  /** Profile -> local endpoints that have it. */
  readonly #profileUsers = new Map<string, Set<string>>();
  readonly #dirtyProfiles = new Set<string>();
  /** Policy or profile id -> the set ids it holds, once per use. */
  readonly #holds = new Map<string, string[]>();
  readonly #toldEndpoints = new Map<string, string>();
  readonly #toldPolicies = new Set<string>();
  readonly #blocks = new Map<string, boolean>();
  #hostInterfaces: ReadonlyMap<string, string> = new Map();
  readonly #problems = new Map<string, ResourceProblem>();
  #inSync: 'no' | 'now' | 'told' = 'no';

  constructor(options: CalcOptions) {
    this.#options = options;
    this.#nat = new OutgoingNat(options.natExclusions ?? 'IPPoolsOnly');
    this.#setProfile(DEFAULT_ALLOW_PROFILE);
  }

  /** Resources that could not be used, with the reason. */
  get problems(): readonly ResourceProblem[] {
    return [...this.#problems.values()];
  }

  /** A resource has come to be or has changed. Kinds that the calculation does not know are ignored. */
  update(resource: Resource): void {
    const key = keyOf(resource);
    const text = keyText(key);
    this.#problems.delete(text);
    try {
      this.#update(resource, key.kind, text);
    } catch (error) {
      // Stored by an older version, perhaps. It must not stop the others.
      this.#problems.set(text, { key: text, error: errorText(error) });
    }
  }

  remove(key: ResourceKey): void {
    const text = keyText(key);
    this.#problems.delete(text);
    if (POLICY_KINDS.has(key.kind)) this.#policies.removePolicy(text);
    else if (SERVICE_KINDS.has(key.kind)) this.#services.remove(key.kind, text);
    switch (key.kind) {
      case 'Tier':
        this.#policies.removeTier(key.name);
        break;
      case 'Profile':
        this.#removeProfile(key.name);
        break;
      case 'Namespace':
        this.#removeProfile(NAMESPACE_PROFILE + key.name);
        break;
      case 'ServiceAccount':
        this.#removeProfile(`ksa.${key.namespace}.${key.name}`);
        break;
      case 'HostEndpoint':
        this.#removeLocal(text);
        this.#sets.removeItem(text);
        break;
      case 'WorkloadEndpoint':
        if (!this.#localEndpoints.has(text)) this.#sets.removeItem(text);
        break;
      case 'Pod':
      case 'NetworkSet':
      case 'GlobalNetworkSet':
        this.#sets.removeItem(text);
        break;
      case 'Node':
      case 'Node.core':
        this.#sets.removeNode(text);
        this.#nat.removeHost(text);
        break;
      case 'IPPool':
        this.#nat.removePool(text);
        break;
      default:
        break;
    }
  }

  /** An endpoint of this host, as the agent knows it. Stands over what the store says of it. */
  setLocalEndpoint(resource: Resource): void {
    const endpoint = resource as WorkloadEndpoint;
    this.#setLocal(convertWorkloadEndpoint(endpoint), endpoint.spec.interfaceName);
  }

  removeLocalEndpoint(key: ResourceKey): void {
    const id = keyText(key);
    this.#removeLocal(id);
    this.#sets.removeItem(id);
  }

  /**
   * Which interface of this host has which address: a host endpoint may be known by its addresses alone. One whose interface
   * is not there is not told to the dataplane.
   */
  setHostInterfaces(byAddress: ReadonlyMap<string, string>): void {
    this.#hostInterfaces = byAddress;
    for (const [id, { data }] of this.#localEndpoints) {
      if (data.kind === 'host' && data.interfaceName === null) this.#policies.dirtyEndpoints.add(id);
    }
  }

  /** A block of this host has come or gone. */
  setLocalBlock(cidr: string, present: boolean): void {
    this.#blocks.set(cidr, present);
  }

  /** The first full snapshot is in: from the next flush on the dataplane may remove what is not desired. */
  setInSync(): void {
    if (this.#inSync === 'no') this.#inSync = 'now';
  }

  /** The difference to the last flush. */
  flush(): DesiredUpdate[] {
    const middle: DesiredUpdate[] = [];
    const gone: DesiredUpdate[] = [];
    for (const id of this.#policies.dirtyPolicies) this.#flushPolicy(id, middle, gone);
    this.#policies.dirtyPolicies.clear();
    for (const name of this.#dirtyProfiles) this.#flushProfile(name, middle, gone);
    this.#dirtyProfiles.clear();
    const endpointsGone: DesiredUpdate[] = [];
    for (const id of this.#policies.dirtyEndpoints) this.#flushEndpoint(id, middle, endpointsGone);
    this.#policies.dirtyEndpoints.clear();
    for (const [cidr, present] of this.#blocks) {
      if (present) middle.push({ type: 'block', block: { cidr } });
      else gone.push({ type: 'block-removed', cidr });
    }
    this.#blocks.clear();
    const pools = this.#nat.takeChanged();
    if (pools) middle.push({ type: 'pools', pools });
    if (this.#sets.usesServices) {
      const services = this.#services.takeChanged();
      if (services) this.#sets.setServices(services);
    }
    const sets = this.#sets.flush();
    const updates = [...sets.before, ...middle, ...endpointsGone, ...gone, ...sets.after];
    if (this.#inSync === 'now') {
      updates.push({ type: 'in-sync' });
      this.#inSync = 'told';
    }
    return updates;
  }

  #update(resource: Resource, kind: string, id: string): void {
    if (SERVICE_KINDS.has(kind)) this.#services.put(kind, id, resource);
    const checked = checkedPolicy(resource);
    if (checked) {
      if (checked.policy) this.#policies.setPolicy(checked.policy);
      else this.#policies.removePolicy(id);
      if (checked.problem !== null) this.#problems.set(id, { key: id, error: checked.problem });
      return;
    }
    switch (kind) {
      case 'Tier':
        this.#policies.setTier(tierData(resource as Tier));
        break;
      case 'Profile':
        this.#setProfile(convertProfile(resource as Profile));
        break;
      case 'Namespace':
        this.#setProfile(convertNamespace(resource as Namespace));
        break;
      case 'ServiceAccount':
        this.#setProfile(convertServiceAccount(resource as ServiceAccount));
        break;
      case 'HostEndpoint': {
        const data = convertHostEndpoint(resource as HostEndpoint);
        if (data.node === this.#options.hostName) this.#setLocal(data, data.interfaceName ?? '');
        else this.#setItem(data);
        break;
      }
      case 'WorkloadEndpoint':
        if (!this.#localEndpoints.has(id)) this.#setItem(convertWorkloadEndpoint(resource as WorkloadEndpoint));
        break;
      case 'Pod': {
        const data = convertPod(resource as Pod);
        if (data) this.#setItem(data);
        else this.#sets.removeItem(id);
        break;
      }
      case 'NetworkSet':
      case 'GlobalNetworkSet': {
        const { labels, parents, nets } = convertNetworkSet(resource as NetworkSet);
        for (const parent of parents) this.#implyNamespace(parent);
        this.#sets.setItem(id, { labels, parents, nets: nets.map(String), ports: [] });
        break;
      }
      case 'IPPool':
        this.#nat.setPool(id, resource as IPPool);
        break;
      case 'Node': {
        const { bgp, addresses = [] } = (resource as Node).spec;
        this.#setNode(id, resource, [bgp?.ipv4Address, bgp?.ipv6Address, ...addresses.map(({ address }) => address)]);
        break;
      }
      case 'Node.core':
        this.#setNode(
          id,
          resource,
          (resource as KubernetesNode).status?.addresses?.map(({ address }) => address) ?? [],
        );
        break;
      default:
        break;
    }
  }

  #setNode(id: string, { metadata }: Resource, texts: readonly (string | undefined)[]): void {
    const addresses = texts
      .map((text) => IpAddress.tryParse(text?.split('/')[0] ?? ''))
      .filter((address) => address !== null);
    const nets = [...new Set(addresses.map((address) => Prefix.host(address).toString()))];
    this.#sets.setNode(id, metadata.labels ?? {}, nets);
    this.#nat.setHost(id, nets);
  }

  #setLocal(data: EndpointData, interfaceName: string): void {
    const { id } = data;
    const before = this.#localEndpoints.get(id);
    this.#localEndpoints.set(id, { data, interfaceName });
    for (const profile of before?.data.profiles ?? []) {
      if (!data.profiles.includes(profile)) this.#leaveProfile(profile, id);
    }
    for (const profile of data.profiles) {
      const users = this.#profileUsers.get(profile);
      if (users) users.add(id);
      else {
        this.#profileUsers.set(profile, new Set([id]));
        this.#dirtyProfiles.add(profile);
      }
    }
    this.#setItem(data);
    this.#policies.setEndpoint(id, data.labels, data.profiles);
  }

  #removeLocal(id: string): void {
    const endpoint = this.#localEndpoints.get(id);
    if (!endpoint) return;
    this.#localEndpoints.delete(id);
    for (const profile of endpoint.data.profiles) this.#leaveProfile(profile, id);
    this.#policies.removeEndpoint(id);
  }

  #setItem({ id, labels, profiles, addresses, ports }: EndpointData): void {
    for (const profile of profiles) this.#implyNamespace(profile);
    this.#sets.setItem(id, { labels, parents: profiles, nets: addresses.map((a) => Prefix.host(a).toString()), ports });
  }

  #implyNamespace(profile: string): void {
    if (!this.#options.implicitNamespaces || !profile.startsWith(NAMESPACE_PROFILE)) return;
    this.#implied.add(profile);
    if (!this.#profiles.has(profile)) this.#setProfile(namespaceProfileData(profile.slice(NAMESPACE_PROFILE.length)));
  }

  #setProfile(profile: ProfileData): void {
    this.#profiles.set(profile.id, profile);
    this.#dirtyProfiles.add(profile.id);
    this.#sets.index.setParent(profile.id, profile.labels);
    this.#policies.index.setParent(profile.id, profile.labels);
  }

  #removeProfile(name: string): void {
    this.#profiles.delete(name);
    this.#dirtyProfiles.add(name);
    this.#sets.index.removeParent(name);
    this.#policies.index.removeParent(name);
    if (name === DEFAULT_ALLOW_PROFILE.id) this.#setProfile(DEFAULT_ALLOW_PROFILE);
    else if (this.#implied.has(name)) this.#implyNamespace(name);
  }

  #leaveProfile(profile: string, endpoint: string): void {
    const users = this.#profileUsers.get(profile);
    users?.delete(endpoint);
    if (users?.size === 0) {
      this.#profileUsers.delete(profile);
      this.#dirtyProfiles.add(profile);
    }
  }

  #interfaceOf({ addresses }: EndpointData): string | null {
    for (const address of addresses) {
      const name = this.#hostInterfaces.get(address.toString());
      if (name !== undefined) return name;
    }
    return null;
  }

  #flushPolicy(id: string, out: DesiredUpdate[], gone: DesiredUpdate[]): void {
    const policy = this.#policies.policy(id);
    if (!policy || policy.staged || !this.#policies.isActive(id)) {
      this.#drop(id, gone);
      return;
    }
    const { tier, ingress, egress, untracked, preDnat } = policy;
    const compiled = this.#compiled(id, tier, ingress ?? [], egress ?? []);
    out.push({
      type: 'policy',
      policy: { ...compiled, ...(untracked && { untracked }), ...(preDnat && { preDnat }) },
    });
  }

  #flushProfile(name: string, out: DesiredUpdate[], gone: DesiredUpdate[]): void {
    const id = `Profile/${name}`;
    if (!this.#profileUsers.has(name)) {
      this.#drop(id, gone);
      return;
    }
    const profile = this.#profiles.get(name);
    // A profile that is not there stands for "deny all".
    out.push({ type: 'policy', policy: this.#compiled(id, '', profile?.ingress ?? DENY, profile?.egress ?? DENY) });
  }

  #compiled(id: string, tier: string, ingress: readonly PolicyRule[], egress: readonly PolicyRule[]): DesiredPolicy {
    const held: string[] = [];
    const sets: SetCollector = {
      use: (spec) => {
        const set = this.#sets.use(spec);
        held.push(set);
        return set;
      },
    };
    const policy = { id, tier, ingress: compileRules(ingress, sets), egress: compileRules(egress, sets) };
    for (const set of this.#holds.get(id) ?? []) this.#sets.release(set);
    this.#holds.set(id, held);
    this.#toldPolicies.add(id);
    return policy;
  }

  #drop(id: string, gone: DesiredUpdate[]): void {
    for (const set of this.#holds.get(id) ?? []) this.#sets.release(set);
    this.#holds.delete(id);
    if (this.#toldPolicies.delete(id)) gone.push({ type: 'policy-removed', id });
  }

  #flushEndpoint(id: string, out: DesiredUpdate[], gone: DesiredUpdate[]): void {
    const endpoint = this.#localEndpoints.get(id);
    const name = dataplaneId(id);
    if (!endpoint) {
      if (this.#toldEndpoints.delete(id)) gone.push({ type: 'endpoint-removed', id: name });
      return;
    }
    const { data } = endpoint;
    const interfaceName = endpoint.interfaceName || this.#interfaceOf(data);
    if (interfaceName === null) {
      if (this.#toldEndpoints.delete(id)) gone.push({ type: 'endpoint-removed', id: name });
      this.#problems.set(id, { key: id, error: 'no interface of this host has an address of spec.expectedIPs' });
      return;
    }
    if (data.kind === 'host') this.#problems.delete(id);
    const desired: DesiredEndpoint = {
      id: name,
      kind: data.kind,
      interfaceName,
      addresses: data.addresses.map(String),
      tiers: this.#policies.tiersOf(id, 'normal'),
      profiles: data.profiles.map((profile) => `Profile/${profile}`),
      ...(data.kind === 'host' && {
        host: {
          untracked: this.#policies.tiersOf(id, 'untracked'),
          preDnat: this.#policies.tiersOf(id, 'pre-dnat'),
          forward: this.#policies.tiersOf(id, 'forward'),
        },
      }),
    };
    const text = JSON.stringify(desired);
    if (this.#toldEndpoints.get(id) === text) return;
    this.#toldEndpoints.set(id, text);
    out.push({ type: 'endpoint', endpoint: desired });
  }
}

/** `namespace/name` of a workload endpoint; a host endpoint keeps its kind, so that the two never meet. */
function dataplaneId(id: string): string {
  return id.startsWith('WorkloadEndpoint/') ? id.slice('WorkloadEndpoint/'.length) : id;
}
