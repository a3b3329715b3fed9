// The calculation: resources in, what the dataplane should hold out. Pure and synchronous; no I/O, no clock.
// In: put and delete of resources in any order (`update`), the host's own endpoints from the agent (`setLocalEndpoint`:
// they are there before the store knows of them). Out: `flush()` gives the difference to the last flush, ordered so that
// whatever is referred to comes first. The result depends on the present resources alone, not on the order of events.
import { errorText } from '#base/errors.ts';
import type { AbstractRule, DesiredEndpoint, DesiredPolicy, DesiredUpdate } from '#model/desired.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';
import { compileRules, parseProtocol, type SetCollector } from '#policy/compile/compile.ts';
import { NAMESPACE_LABEL, SERVICE_ACCOUNT_LABEL } from '#policy/compile/scoped-selectors.ts';
import { LocalPolicies } from './local-policies.ts';
import {
  BUILT_IN_TIERS,
  DEFAULT_ALLOW_PROFILE,
  defaultAllowProfile,
  namespaceProfile,
  policyView,
  type ProfileView,
  profileView,
  serviceAccountProfile,
  tierView,
} from './policies.ts';
import { type NamedPort, SetMembers } from './set-members.ts';

export interface CalcOptions {
  /** Endpoints of this host are local. */
  readonly hostName: string;
  /**
   * Whether a namespace that no resource describes exists all the same, as it does where there is no Kubernetes.
   * Otherwise its endpoints are closed.
   */
  readonly implicitNamespaces: boolean;
}

interface WorkloadEndpointSpec {
  readonly node?: string;
  readonly interfaceName?: string;
  readonly ipNetworks?: readonly string[];
  readonly profiles?: readonly string[];
  readonly ports?: readonly { name: string; port: number; protocol: string | number }[];
  readonly serviceAccountName?: string;
}

/** What a resource in the store that cannot be used is worth: a line for its status. */
export interface ResourceProblem {
  readonly key: string;
  readonly error: string;
}

export class CalcGraph {
  readonly #options: CalcOptions;
  readonly #sets = new SetMembers();
  readonly #policies = new LocalPolicies();
  readonly #profiles = new Map<string, ProfileView>();
  readonly #localEndpoints = new Map<string, Resource<WorkloadEndpointSpec>>();
  /** Profile -> local endpoints that have it. */
  readonly #profileUsers = new Map<string, Set<string>>();
  readonly #dirtyProfiles = new Set<string>();
  /** Policy or profile id -> the set ids it holds, once per use. */
  readonly #holds = new Map<string, string[]>();
  readonly #toldEndpoints = new Map<string, string>();
  readonly #toldPolicies = new Set<string>();
  readonly #blocks = new Map<string, boolean>();
  readonly #problems = new Map<string, ResourceProblem>();
  #inSync: 'no' | 'now' | 'told' = 'no';

  constructor(options: CalcOptions) {
    this.#options = options;
    for (const tier of BUILT_IN_TIERS) this.#policies.setTier(tier);
    this.#setProfile(defaultAllowProfile());
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
      // Stored by an older version, perhaps. It must not stop the others; what it selected it still selects, closed.
      this.#problems.set(text, { key: text, error: errorText(error) });
    }
  }

  remove(key: ResourceKey): void {
    const text = keyText(key);
    this.#problems.delete(text);
    switch (key.kind) {
      case 'NetworkPolicy':
      case 'GlobalNetworkPolicy':
        this.#policies.removePolicy(text);
        break;
      case 'Tier': {
        const builtIn = BUILT_IN_TIERS.find((tier) => tier.name === key.name);
        if (builtIn) this.#policies.setTier(builtIn);
        else this.#policies.removeTier(key.name);
        break;
      }
      case 'Profile':
        this.#removeProfile(key.name);
        break;
      case 'Namespace':
        this.#removeProfile(`kns.${key.name}`);
        break;
      case 'ServiceAccount':
        this.#removeProfile(`ksa.${key.namespace}.${key.name}`);
        break;
      case 'WorkloadEndpoint':
        if (!this.#localEndpoints.has(text)) this.#sets.removeItem(text);
        break;
      case 'NetworkSet':
      case 'GlobalNetworkSet':
        this.#sets.removeItem(text);
        break;
      default:
        break;
    }
  }

  /** An endpoint of this host, as the agent knows it. Stands over what the store says of it. */
  setLocalEndpoint(resource: Resource): void {
    const id = keyText(keyOf(resource));
    const endpoint = resource as Resource<WorkloadEndpointSpec>;
    const before = this.#localEndpoints.get(id);
    this.#localEndpoints.set(id, endpoint);
    const profiles = endpoint.spec.profiles ?? [];
    for (const profile of before?.spec.profiles ?? []) if (!profiles.includes(profile)) this.#leaveProfile(profile, id);
    for (const profile of profiles) {
      this.#implyNamespace(profile);
      const users = this.#profileUsers.get(profile);
      if (users) users.add(id);
      else {
        this.#profileUsers.set(profile, new Set([id]));
        this.#dirtyProfiles.add(profile);
      }
    }
    this.#policies.setEndpoint(id, endpointLabels(endpoint), profiles);
    this.#setEndpointItem(id, endpoint);
  }

  removeLocalEndpoint(key: ResourceKey): void {
    const id = keyText(key);
    const endpoint = this.#localEndpoints.get(id);
    if (!endpoint) return;
    this.#localEndpoints.delete(id);
    for (const profile of endpoint.spec.profiles ?? []) this.#leaveProfile(profile, id);
    this.#policies.removeEndpoint(id);
    this.#sets.removeItem(id);
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
    const sets = this.#sets.flush();
    const updates = [...sets.before, ...middle, ...endpointsGone, ...gone, ...sets.after];
    if (this.#inSync === 'now') {
      updates.push({ type: 'in-sync' });
      this.#inSync = 'told';
    }
    return updates;
  }

  #update(resource: Resource, kind: string, key: string): void {
    switch (kind) {
      case 'NetworkPolicy':
      case 'GlobalNetworkPolicy':
        this.#policies.setPolicy(policyView(resource));
        break;
      case 'Tier':
        this.#policies.setTier(tierView(resource));
        break;
      case 'Profile':
        this.#setProfile(profileView(resource));
        break;
      case 'Namespace':
        this.#setProfile(namespaceProfile(resource.metadata.name, resource.metadata.labels ?? {}));
        break;
      case 'ServiceAccount':
        this.#setProfile(
          serviceAccountProfile(
            resource.metadata.namespace ?? 'default',
            resource.metadata.name,
            resource.metadata.labels ?? {},
          ),
        );
        break;
      case 'WorkloadEndpoint': {
        const endpoint = resource as Resource<WorkloadEndpointSpec>;
        if (this.#localEndpoints.has(key)) break;
        for (const profile of endpoint.spec.profiles ?? []) this.#implyNamespace(profile);
        this.#setEndpointItem(key, endpoint);
        break;
      }
      case 'NetworkSet':
      case 'GlobalNetworkSet': {
        const namespace = resource.metadata.namespace;
        if (namespace !== undefined) this.#implyNamespace(`kns.${namespace}`);
        this.#sets.setItem(key, {
          labels: ownLabels(resource),
          parents: namespace === undefined ? [] : [`kns.${namespace}`],
          nets: (resource.spec as { nets?: readonly string[] }).nets ?? [],
          ports: [],
        });
        break;
      }
      default:
        break;
    }
  }

  #setEndpointItem(id: string, endpoint: Resource<WorkloadEndpointSpec>): void {
    this.#sets.setItem(id, {
      labels: endpointLabels(endpoint),
      parents: endpoint.spec.profiles ?? [],
      nets: endpoint.spec.ipNetworks ?? [],
      ports: (endpoint.spec.ports ?? []).map(
        (p): NamedPort => ({ name: p.name, port: p.port, protocol: parseProtocol(p.protocol) }),
      ),
    });
  }

  #implyNamespace(profile: string): void {
    if (!this.#options.implicitNamespaces || !profile.startsWith('kns.') || this.#profiles.has(profile)) return;
    this.#setProfile(namespaceProfile(profile.slice('kns.'.length), {}));
  }

  #setProfile(profile: ProfileView): void {
    this.#profiles.set(profile.name, profile);
    this.#dirtyProfiles.add(profile.name);
    this.#sets.index.setParent(profile.name, profile.labels);
    this.#policies.index.setParent(profile.name, profile.labels);
  }

  #removeProfile(name: string): void {
    this.#profiles.delete(name);
    this.#dirtyProfiles.add(name);
    this.#sets.index.removeParent(name);
    this.#policies.index.removeParent(name);
    if (name === DEFAULT_ALLOW_PROFILE) this.#setProfile(defaultAllowProfile());
    else this.#implyNamespace(name);
  }

  #leaveProfile(profile: string, endpoint: string): void {
    const users = this.#profileUsers.get(profile);
    users?.delete(endpoint);
    if (users?.size === 0) {
      this.#profileUsers.delete(profile);
      this.#dirtyProfiles.add(profile);
    }
  }

  #flushPolicy(id: string, out: DesiredUpdate[], gone: DesiredUpdate[]): void {
    const view = this.#policies.policy(id);
    if (!view || !this.#policies.isActive(id)) {
      this.#drop(id, gone);
      return;
    }
    out.push({
      type: 'policy',
      policy: this.#compiled(id, view.tier, view.namespace, view.ingress ?? [], view.egress ?? []),
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
    out.push({
      type: 'policy',
      policy: this.#compiled(id, '', null, profile?.ingress ?? DENY, profile?.egress ?? DENY),
    });
  }

  #compiled(
    id: string,
    tier: string,
    namespace: string | null,
    ingress: Parameters<typeof compileRules>[0],
    egress: Parameters<typeof compileRules>[0],
  ): DesiredPolicy {
    const held: string[] = [];
    const sets: SetCollector = {
      use: (spec) => {
        const set = this.#sets.use(spec);
        held.push(set);
        return set;
      },
    };
    const compile = (rules: Parameters<typeof compileRules>[0], direction: string): readonly AbstractRule[] => {
      try {
        return compileRules(rules, { namespace, sets });
      } catch (error) {
        this.#problems.set(id, { key: id, error: `${direction}: ${errorText(error)}` });
        return CLOSED;
      }
    };
    const policy = { id, tier, ingress: compile(ingress, 'ingress'), egress: compile(egress, 'egress') };
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
    const name = id.slice('WorkloadEndpoint/'.length);
    if (!endpoint) {
      if (this.#toldEndpoints.delete(id)) gone.push({ type: 'endpoint-removed', id: name });
      return;
    }
    const desired: DesiredEndpoint = {
      id: name,
      kind: 'workload',
      interfaceName: endpoint.spec.interfaceName ?? '',
      addresses: (endpoint.spec.ipNetworks ?? []).map((net) => net.split('/')[0]!),
      tiers: this.#policies.tiersOf(id),
      profiles: (endpoint.spec.profiles ?? []).map((profile) => `Profile/${profile}`),
    };
    const text = JSON.stringify(desired);
    if (this.#toldEndpoints.get(id) === text) return;
    this.#toldEndpoints.set(id, text);
    out.push({ type: 'endpoint', endpoint: desired });
  }
}

const DENY = [{ action: 'Deny' }] as const;
/** What a direction whose rules cannot be understood compiles to. */
const CLOSED: readonly AbstractRule[] = [{ action: 'deny', index: 0, source: {}, destination: {} }];

/** Labels as written, without those that pretend to come from a namespace or service account (corner 7). */
function ownLabels(resource: Resource): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [key, value] of Object.entries(resource.metadata.labels ?? {})) {
    if (!key.startsWith('pcns.') && !key.startsWith('pcsa.')) labels[key] = value;
  }
  if (resource.metadata.namespace !== undefined) labels[NAMESPACE_LABEL] = resource.metadata.namespace;
  return labels;
}

function endpointLabels(endpoint: Resource<WorkloadEndpointSpec>): Record<string, string> {
  const labels = ownLabels(endpoint);
  const account = endpoint.spec.serviceAccountName;
  if (account !== undefined && account !== '') labels[SERVICE_ACCOUNT_LABEL] = account;
  return labels;
}
