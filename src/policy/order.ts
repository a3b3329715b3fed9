// In which order tiers and policies are asked. Out: comparers for `sort`.
// Rules (Calico): order ascending, none means last; ties of tiers by name; ties of policies by name, then namespace, then kind.
// A tier that policies name but nobody made comes after all that exist, and ends in Deny.
import type { Tier } from '#model/tier.ts';
import { BUILT_IN_TIERS, tierSettings } from '#model/tier.ts';
import type { Policy } from './policy.ts';

export interface TierData {
  readonly name: string;
  /** null: after all tiers with an order. */
  readonly order: number | null;
  readonly defaultAction: 'deny' | 'pass';
  /** Named by policies, but no such Tier exists. */
  readonly missing: boolean;
}

export function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function compareOrder(a: number | null, b: number | null): number {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  return a - b;
}

export function compareTiers(a: TierData, b: TierData): number {
  if (a.missing !== b.missing) return a.missing ? 1 : -1;
  return compareOrder(a.order, b.order) || compareText(a.name, b.name);
}

export type PolicyOrder = Pick<Policy, 'order' | 'name' | 'namespace' | 'kind'>;

export function comparePolicies(a: PolicyOrder, b: PolicyOrder): number {
  return (
    compareOrder(a.order, b.order) ||
    compareText(a.name, b.name) ||
    compareText(a.namespace, b.namespace) ||
    compareText(a.kind, b.kind)
  );
}

/** A Tier that somebody made. */
export function tierData(tier: Tier): TierData {
  const { order, defaultAction } = tierSettings(tier);
  return { name: tier.metadata.name, order, defaultAction: defaultAction === 'Pass' ? 'pass' : 'deny', missing: false };
}

/** A tier that is there although nobody made it; null when there is none of the name. */
export function builtInTier(name: string): TierData | null {
  const tier = Object.hasOwn(BUILT_IN_TIERS, name) ? BUILT_IN_TIERS[name] : undefined;
  if (!tier) return null;
  return { name, order: tier.order, defaultAction: tier.defaultAction === 'Pass' ? 'pass' : 'deny', missing: false };
}

/** A tier that policies name and nobody made: it ends in Deny. */
export function missingTier(name: string): TierData {
  return { name, order: null, defaultAction: 'deny', missing: true };
}

/** All tiers in order: the built-in ones, those made, and those that policies name although nobody made them. */
export function orderTiers(tiers: Iterable<Tier>, named: Iterable<string>): TierData[] {
  const all = new Map<string, TierData>();
  for (const name of Object.keys(BUILT_IN_TIERS)) all.set(name, builtInTier(name)!);
  for (const tier of tiers) all.set(tier.metadata.name, tierData(tier));
  for (const name of named) if (!all.has(name)) all.set(name, missingTier(name));
  return [...all.values()].sort(compareTiers);
}
