// Tier: a stage of policies that is decided before the next one is asked. Calico's projectcalico.org/v3 fields.
// Traps: three tiers exist without being written (`default`, `kube-admin`, `kube-baseline`), and what they are cannot be
// changed; an absent order means last; a tier's name is part of other names, so it has no dots.
import { labelNameFault } from './formats.ts';
import { defineKind } from './kind.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { OneOf, type Static, Type } from './schema.ts';

export const TierSpec = Type.Object({
  order: Type.Optional(Type.Number({ description: 'Lower comes first; absent comes last' })),
  defaultAction: Type.Optional(OneOf(['Deny', 'Pass'], 'What happens to traffic that no rule of the tier matched')),
});
export type TierSpec = Static<typeof TierSpec>;
export type Tier = Resource<TierSpec>;

export interface TierSettings {
  /** null: after all tiers that have an order. */
  readonly order: number | null;
  readonly defaultAction: 'Deny' | 'Pass';
}

/** Tiers that exist whether or not anybody wrote them: Calico's, and one for each tier of ClusterNetworkPolicy. */
export const BUILT_IN_TIERS: Readonly<Record<string, TierSettings>> = {
  'kube-admin': { order: 1000, defaultAction: 'Pass' },
  default: { order: 1_000_000, defaultAction: 'Deny' },
  'kube-baseline': { order: 10_000_000, defaultAction: 'Pass' },
};

function builtIn(name: string): TierSettings | undefined {
  return Object.hasOwn(BUILT_IN_TIERS, name) ? BUILT_IN_TIERS[name] : undefined;
}

/** Order and default action, with what the tier leaves out filled in. */
export function tierSettings(tier: Tier): TierSettings {
  const base = builtIn(tier.metadata.name);
  return {
    order: tier.spec.order ?? base?.order ?? null,
    defaultAction: tier.spec.defaultAction ?? base?.defaultAction ?? 'Deny',
  };
}

function validate(tier: Tier, problems: Problems): void {
  const { name } = tier.metadata;
  const fault = labelNameFault(name);
  if (fault) problems.add('metadata.name', fault.reason, fault.remedy);
  const base = builtIn(name);
  if (!base) return;
  for (const field of ['order', 'defaultAction'] as const) {
    const value = tier.spec[field];
    if (value !== undefined && value !== base[field]) {
      problems.add(`spec.${field}`, `of tier ${name} is always ${base[field]}`, `write ${base[field]} or remove it`);
    }
  }
}

export const tier = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'Tier',
  plural: 'tiers',
  singular: 'tier',
  namespaced: false,
  description: 'A stage of policies that is decided before the next one is asked.',
  spec: TierSpec,
  specOptional: true,
  validate,
  // A policy without its tier would still be enforced, but after all others: not what anybody wants from a deletion.
  neededBy: ['GlobalNetworkPolicy', 'NetworkPolicy', 'StagedGlobalNetworkPolicy', 'StagedNetworkPolicy'].map(
    (kind) => ({
      kind,
      use: (t: Tier, policy: Resource) =>
        (policy.spec as { tier?: string }).tier === t.metadata.name ? 'spec.tier' : null,
    }),
  ),
  columns: [
    { title: 'ORDER', value: (t) => String(tierSettings(t).order ?? 'last') },
    { title: 'DEFAULT', value: (t) => tierSettings(t).defaultAction },
  ],
});
