// NetworkPolicy and StagedNetworkPolicy: policies of one namespace. Calico's projectcalico.org/v3 fields.
// Trap: Kubernetes has a kind of the same name in `networking.k8s.io/v1`; that one is kubernetes-network-policy.ts.
import { defineKind } from './kind.ts';
import { checkNoGlobal, checkRules, checkTypes, Rules, Types, warnIgnoredRules } from './policy-rule.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { checkStagedDelete, StagedAction } from './staged.ts';
import { Default, OneOf, type Static, Text, Type } from './schema.ts';

const fields = {
  tier: Default(Text('label-name', 'The tier the policy belongs to'), 'default'),
  order: Type.Optional(Type.Number({ description: 'Lower comes first; absent comes last' })),
  selector: Type.Optional(
    Text('selector', 'The endpoints of the namespace that the policy applies to; absent means all'),
  ),
  serviceAccountSelector: Type.Optional(Text('selector', 'Only endpoints whose service account has these labels')),
  types: Type.Optional(Types),
  ingress: Type.Optional(Rules),
  egress: Type.Optional(Rules),
  performanceHints: Type.Optional(Type.Array(OneOf(['AssumeNeededOnEveryNode']))),
};

export const NetworkPolicySpec = Type.Object(fields);
export type NetworkPolicySpec = Static<typeof NetworkPolicySpec>;
export type NetworkPolicy = Resource<NetworkPolicySpec>;

export const StagedNetworkPolicySpec = Type.Object({ ...fields, stagedAction: StagedAction });
export type StagedNetworkPolicySpec = Static<typeof StagedNetworkPolicySpec>;
export type StagedNetworkPolicy = Resource<StagedNetworkPolicySpec>;

function validate({ spec }: NetworkPolicy, problems: Problems): void {
  checkTypes(spec.types, problems);
  checkNoGlobal(spec.selector, 'spec.selector', problems);
  checkNoGlobal(spec.serviceAccountSelector, 'spec.serviceAccountSelector', problems);
  checkRules(spec, true, problems);
}

function warn({ spec }: NetworkPolicy, warnings: Problems): void {
  warnIgnoredRules(spec, spec.types, 'types', warnings);
}

const columns = [
  { title: 'TIER', value: ({ spec }: NetworkPolicy) => spec.tier },
  { title: 'ORDER', value: ({ spec }: NetworkPolicy) => String(spec.order ?? 'last') },
  { title: 'SELECTOR', value: ({ spec }: NetworkPolicy) => spec.selector || 'all()' },
];

export const networkPolicy = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  singular: 'networkpolicy',
  shortNames: ['caliconetworkpolicy', 'caliconetworkpolicies'],
  namespaced: true,
  description: 'What traffic the endpoints of a namespace may have.',
  spec: NetworkPolicySpec,
  specOptional: true,
  validate,
  warn,
  columns,
});

export const stagedNetworkPolicy = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'StagedNetworkPolicy',
  plural: 'stagednetworkpolicies',
  singular: 'stagednetworkpolicy',
  shortNames: ['snp'],
  namespaced: true,
  description: 'A NetworkPolicy that is only counted, not enforced.',
  spec: StagedNetworkPolicySpec,
  specOptional: true,
  validate: (policy, problems) => {
    checkStagedDelete(policy.spec, problems);
    validate(policy, problems);
  },
  warn,
  columns,
});
