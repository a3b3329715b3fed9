// Which policies are for which local endpoints, in which order: a policy is active while it selects one.
// In: policies, tiers, profiles, local endpoints. Out: policies to compile and endpoints to tell the dataplane of,
// as sets of what is dirty; the graph turns them into updates.
import type { EndpointTier } from '#model/desired.ts';
import { BUILT_IN_TIERS } from '#model/tier.ts';
import { builtInTier, comparePolicies, compareTiers, missingTier, type TierData } from '#policy/order.ts';
import type { Policy } from '#policy/policy.ts';
import { SelectorIndex } from '#policy/selector/index.ts';

/** Where in a packet's way policies act on a host endpoint; a workload endpoint has `normal` alone. */
export type Stage = 'untracked' | 'pre-dnat' | 'normal' | 'forward';

export class LocalPolicies {
  readonly #index: SelectorIndex;
  readonly #policies = new Map<string, Policy>();
  readonly #tiers = new Map<string, TierData>();
  /** Endpoint -> ids of the policies that select it. */
  readonly #byEndpoint = new Map<string, Set<string>>();
  /** Policy -> number of local endpoints it selects. */
  readonly #users = new Map<string, number>();
  /** What the graph has to look at again. */
  readonly dirtyEndpoints = new Set<string>();
  readonly dirtyPolicies = new Set<string>();

  constructor() {
    for (const name of Object.keys(BUILT_IN_TIERS)) this.#tiers.set(name, builtInTier(name)!);
    this.#index = new SelectorIndex({
      matchStarted: (policy, endpoint) => {
        let policies = this.#byEndpoint.get(endpoint);
        if (!policies) this.#byEndpoint.set(endpoint, (policies = new Set()));
        policies.add(policy);
        const users = (this.#users.get(policy) ?? 0) + 1;
        this.#users.set(policy, users);
        this.dirtyEndpoints.add(endpoint);
        if (users === 1) this.dirtyPolicies.add(policy);
      },
      matchStopped: (policy, endpoint) => {
        this.#byEndpoint.get(endpoint)?.delete(policy);
        const users = (this.#users.get(policy) ?? 1) - 1;
        this.#users.set(policy, users);
        this.dirtyEndpoints.add(endpoint);
        if (users === 0) this.dirtyPolicies.add(policy);
      },
    });
  }

  get index(): SelectorIndex {
    return this.#index;
  }

  isActive(policy: string): boolean {
    return (this.#users.get(policy) ?? 0) > 0;
  }

  policy(id: string): Policy | undefined {
    return this.#policies.get(id);
  }

  setPolicy(policy: Policy): void {
    const old = this.#policies.get(policy.id);
    this.#policies.set(policy.id, policy);
    this.#index.addSelector(policy.id, policy.selector);
    this.dirtyPolicies.add(policy.id);
    if (
      !old ||
      old.tier !== policy.tier ||
      old.order !== policy.order ||
      old.staged !== policy.staged ||
      old.untracked !== policy.untracked ||
      old.preDnat !== policy.preDnat ||
      old.applyOnForward !== policy.applyOnForward ||
      (old.ingress === null) !== (policy.ingress === null) ||
      (old.egress === null) !== (policy.egress === null)
    ) {
      this.#touchEndpointsOf(policy.id);
    }
  }

  removePolicy(id: string): void {
    if (!this.#policies.has(id)) return;
    this.#touchEndpointsOf(id);
    this.#index.removeSelector(id);
    this.#policies.delete(id);
    this.#users.delete(id);
    this.dirtyPolicies.add(id);
  }

  setTier(tier: TierData): void {
    this.#tiers.set(tier.name, tier);
    this.#touchTier(tier.name);
  }

  removeTier(name: string): void {
    const builtIn = builtInTier(name);
    if (builtIn) this.#tiers.set(name, builtIn);
    else this.#tiers.delete(name);
    this.#touchTier(name);
  }

  setEndpoint(id: string, labels: Readonly<Record<string, string>>, parents: readonly string[]): void {
    this.#index.setItem(id, labels, parents);
    this.dirtyEndpoints.add(id);
  }

  removeEndpoint(id: string): void {
    this.#index.removeItem(id);
    this.#byEndpoint.delete(id);
    this.dirtyEndpoints.add(id);
  }

  /**
   * The tiers that govern an endpoint, in order. A tier that does not exist comes last and denies (corner 5). Staged policies
   * are left out, so that a tier which has no other passes.
   */
  tiersOf(endpoint: string, stage: Stage): EndpointTier[] {
    const byTier = new Map<string, Policy[]>();
    for (const id of this.#byEndpoint.get(endpoint) ?? []) {
      const policy = this.#policies.get(id);
      if (!policy || policy.staged || !actsAt(policy, stage)) continue;
      const list = byTier.get(policy.tier);
      if (list) list.push(policy);
      else byTier.set(policy.tier, [policy]);
    }
    return [...byTier.keys()]
      .map((name): TierData => this.#tiers.get(name) ?? missingTier(name))
      .sort(compareTiers)
      .map((tier) => {
        const policies = byTier.get(tier.name)!.sort(comparePolicies);
        return {
          name: tier.name,
          defaultAction: tier.defaultAction,
          ingress: policies.filter((p) => p.ingress !== null).map((p) => p.id),
          egress: policies.filter((p) => p.egress !== null).map((p) => p.id),
        };
      });
  }

  #touchEndpointsOf(policy: string): void {
    for (const [endpoint, policies] of this.#byEndpoint) if (policies.has(policy)) this.dirtyEndpoints.add(endpoint);
  }

  #touchTier(name: string): void {
    for (const policy of this.#policies.values()) {
      if (policy.tier !== name || !this.isActive(policy.id)) continue;
      this.dirtyPolicies.add(policy.id);
      this.#touchEndpointsOf(policy.id);
    }
  }
}

function actsAt({ untracked, preDnat, applyOnForward }: Policy, stage: Stage): boolean {
  if (stage === 'untracked') return untracked;
  if (stage === 'pre-dnat') return preDnat;
  return !untracked && !preDnat && (stage === 'normal' || applyOnForward);
}
