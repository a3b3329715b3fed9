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

/** All tiers in order: the built-in ones, those made, and those that policies name although nobody made them. */
export function orderTiers(tiers: Iterable<Tier>, named: Iterable<string>): TierData[] {
  const all = new Map<string, TierData>();
  const add = (name: string, order: number | null, action: 'Deny' | 'Pass', missing: boolean): void => {
    all.set(name, { name, order, defaultAction: action === 'Pass' ? 'pass' : 'deny', missing });
  };
  for (const [name, { order, defaultAction }] of Object.entries(BUILT_IN_TIERS)) add(name, order, defaultAction, false);
  for (const tier of tiers) {
    const { order, defaultAction } = tierSettings(tier);
    add(tier.metadata.name, order, defaultAction, false);
  }
  for (const name of named) if (!all.has(name)) add(name, null, 'Deny', true);
  return [...all.values()].sort(compareTiers);
}
