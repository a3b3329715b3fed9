// GlobalNetworkPolicy and StagedGlobalNetworkPolicy: policies across namespaces and for hosts. Calico's projectcalico.org/v3 fields.
import { defineKind } from './kind.ts';
import { checkNoGlobal, checkRules, checkTypes, Rules, Types, warnIgnoredRules } from './policy-rule.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { checkStagedDelete, StagedAction } from './staged.ts';
import { Default, OneOf, type Static, Text, Type } from './schema.ts';

const flag = (description: string) => Type.Optional(Type.Boolean({ description }));

const fields = {
  tier: Default(Text('label-name', 'The tier the policy belongs to'), 'default'),
  order: Type.Optional(Type.Number({ description: 'Lower comes first; absent comes last' })),
  selector: Type.Optional(Text('selector', 'The endpoints that the policy applies to; absent means all')),
  namespaceSelector: Type.Optional(Text('selector', 'Only endpoints of namespaces with these labels')),
  serviceAccountSelector: Type.Optional(Text('selector', 'Only endpoints whose service account has these labels')),
  types: Type.Optional(Types),
  ingress: Type.Optional(Rules),
  egress: Type.Optional(Rules),
  applyOnForward: flag('Applies also to traffic that a host endpoint forwards'),
  doNotTrack: flag('Applies before connection tracking, to each packet alone; needs applyOnForward'),
  preDNAT: flag('Applies before destination NAT; ingress only; needs applyOnForward'),
  performanceHints: Type.Optional(Type.Array(OneOf(['AssumeNeededOnEveryNode']))),
};

export const GlobalNetworkPolicySpec = Type.Object(fields);
export type GlobalNetworkPolicySpec = Static<typeof GlobalNetworkPolicySpec>;
export type GlobalNetworkPolicy = Resource<GlobalNetworkPolicySpec>;

export const StagedGlobalNetworkPolicySpec = Type.Object({ ...fields, stagedAction: StagedAction });
export type StagedGlobalNetworkPolicySpec = Static<typeof StagedGlobalNetworkPolicySpec>;
export type StagedGlobalNetworkPolicy = Resource<StagedGlobalNetworkPolicySpec>;

function validate({ spec }: GlobalNetworkPolicy, problems: Problems): void {
  checkTypes(spec.types, problems);
  checkNoGlobal(spec.selector, 'spec.selector', problems);
  checkNoGlobal(spec.namespaceSelector, 'spec.namespaceSelector', problems);
  checkNoGlobal(spec.serviceAccountSelector, 'spec.serviceAccountSelector', problems);
  if (spec.doNotTrack && spec.preDNAT) {
    problems.add('spec.preDNAT', 'cannot be combined with doNotTrack', 'write two policies');
  }
  if (spec.preDNAT && spec.egress && spec.egress.length > 0) {
    problems.add('spec.egress', 'a preDNAT policy has no egress rules', 'remove them');
  }
  if (spec.preDNAT && spec.types?.includes('Egress')) {
    problems.add('spec.types', 'a preDNAT policy cannot have type Egress', 'write [Ingress]');
  }
  if (!spec.applyOnForward && (spec.doNotTrack || spec.preDNAT)) {
    const flagName = spec.doNotTrack ? 'doNotTrack' : 'preDNAT';
    problems.add('spec.applyOnForward', `must be true in a ${flagName} policy`, 'write applyOnForward: true');
  }
  checkRules(spec, false, problems);
}

function warn({ spec }: GlobalNetworkPolicy, warnings: Problems): void {
  warnIgnoredRules(spec, spec.types, 'types', warnings);
}

const columns = [
  { title: 'TIER', value: ({ spec }: GlobalNetworkPolicy) => spec.tier },
  { title: 'ORDER', value: ({ spec }: GlobalNetworkPolicy) => String(spec.order ?? 'last') },
  { title: 'SELECTOR', value: ({ spec }: GlobalNetworkPolicy) => spec.selector || 'all()' },
];

export const globalNetworkPolicy = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'GlobalNetworkPolicy',
  plural: 'globalnetworkpolicies',
  singular: 'globalnetworkpolicy',
  shortNames: ['gnp'],
  namespaced: false,
  description: 'What traffic endpoints of all namespaces, and hosts, may have.',
  spec: GlobalNetworkPolicySpec,
  specOptional: true,
  validate,
  warn,
  columns,
});

export const stagedGlobalNetworkPolicy = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'StagedGlobalNetworkPolicy',
  plural: 'stagedglobalnetworkpolicies',
  singular: 'stagedglobalnetworkpolicy',
  shortNames: ['sgnp'],
  namespaced: false,
  description: 'A GlobalNetworkPolicy that is only counted, not enforced.',
  spec: StagedGlobalNetworkPolicySpec,
  specOptional: true,
  validate: (policy, problems) => {
    checkStagedDelete(policy.spec, problems);
    validate(policy, problems);
  },
  warn,
  columns,
});
