// An endpoint of a world and the policies that apply to it, found when first asked for.
import type { EndpointData } from '../convert/endpoints.ts';
import type { TierData } from '../order.ts';
import type { Direction, Policy } from '../policy.ts';
import type { Entity } from './entity.ts';
import type { RuleList } from './rule-list.ts';

/** A policy with its rules ready to be asked. */
export interface WorldPolicy {
  readonly data: Policy;
  /** null: the policy does not govern the direction. */
  readonly rules: Readonly<Record<Direction, RuleList | null>>;
}

/** One tier with the policies that select an endpoint, in order. */
export interface AppliedTier {
  readonly tier: TierData;
  readonly policies: readonly WorldPolicy[];
}

/** Where in a packet's way policies act: before connection tracking, before destination NAT, or at the filter; there for forwarded traffic alone. */
export type Stage = 'untracked' | 'pre-dnat' | 'normal' | 'forward';

function actsAt({ untracked, preDnat, applyOnForward }: Policy, stage: Stage): boolean {
  if (stage === 'untracked') return untracked;
  if (stage === 'pre-dnat') return preDnat;
  return !untracked && !preDnat && (stage === 'normal' || applyOnForward);
}

export class Endpoint {
  readonly data: EndpointData;
  readonly entity: Entity;
  readonly #tiers: readonly TierData[];
  readonly #policies: readonly WorldPolicy[];
  readonly #applied = new Map<string, readonly AppliedTier[]>();
  #selecting: readonly WorldPolicy[] | undefined;

  /** `tiers` and `policies` of the whole world, in order. */
  constructor(data: EndpointData, entity: Entity, tiers: readonly TierData[], policies: readonly WorldPolicy[]) {
    this.data = data;
    this.entity = entity;
    this.#tiers = tiers;
    this.#policies = policies;
  }

  /** Every policy that selects the endpoint, staged ones too, in any direction. */
  get policies(): readonly WorldPolicy[] {
    this.#selecting ??= this.#policies.filter(({ data }) => data.selector.matchesLookup(this.entity.lookup));
    return this.#selecting;
  }

  /** The tiers with at least one policy, staged ones too, that governs the direction at the stage. */
  applied(direction: Direction, stage: Stage): readonly AppliedTier[] {
    const key = `${stage} ${direction}`;
    let tiers = this.#applied.get(key);
    if (!tiers) {
      const acting = this.policies.filter(({ data, rules }) => rules[direction] && actsAt(data, stage));
      tiers = this.#tiers
        .map((tier) => ({ tier, policies: acting.filter(({ data }) => data.tier === tier.name) }))
        .filter(({ policies }) => policies.length > 0);
      this.#applied.set(key, tiers);
    }
    return tiers;
  }
}
