// Policies, tiers and profiles as the calculation sees them: parsed once, ordered, independent of where they came from.
// In: resources (projectcalico.org/v3 shape). Out: PolicyView, TierView, ProfileView.
import type { Resource } from '#model/resource.ts';
import { keyOf, keyText } from '#model/resource.ts';
import type { RuleInput } from '#policy/compile/compile.ts';
import {
  combine,
  namespaceSelectorOn,
  ownNamespaceSelector,
  serviceAccountScope,
} from '#policy/compile/scoped-selectors.ts';
import { parseSelector, type Selector } from '#policy/selector/selector.ts';

export interface PolicyView {
  /** `Kind/namespace/name`: the id that the dataplane and the counters carry. */
  readonly id: string;
  readonly kind: string;
  readonly namespace: string | null;
  readonly name: string;
  readonly tier: string;
  /** null sorts last. */
  readonly order: number | null;
  /** Which endpoints the policy is for, complete with namespace and service account. */
  readonly selector: Selector;
  /** null: the policy says nothing about this direction. */
  readonly ingress: readonly RuleInput[] | null;
  readonly egress: readonly RuleInput[] | null;
}

export interface TierView {
  readonly name: string;
  /** null sorts last. */
  readonly order: number | null;
  readonly defaultAction: 'deny' | 'pass';
}

export interface ProfileView {
  readonly name: string;
  readonly ingress: readonly RuleInput[];
  readonly egress: readonly RuleInput[];
  /** Labels that endpoints with this profile inherit. */
  readonly labels: Readonly<Record<string, string>>;
}

/** Tiers that are there without a Tier resource; a resource of the same name stands over them. */
export const BUILT_IN_TIERS: readonly TierView[] = [
  { name: 'kube-admin', order: 1_000, defaultAction: 'pass' },
  { name: 'default', order: 1_000_000, defaultAction: 'deny' },
  { name: 'kube-baseline', order: 10_000_000, defaultAction: 'pass' },
];

/** The profile of endpoints that nobody wrote a profile for, as Calico names it. */
export const DEFAULT_ALLOW_PROFILE = 'projectcalico-default-allow';

const ALLOW_ALL: readonly RuleInput[] = [{ action: 'Allow' }];

interface PolicySpec {
  readonly tier?: string;
  readonly order?: number;
  readonly selector?: string;
  readonly namespaceSelector?: string;
  readonly serviceAccountSelector?: string;
  readonly types?: readonly string[];
  readonly ingress?: readonly RuleInput[];
  readonly egress?: readonly RuleInput[];
}

/** Throws `invalid-argument` when a selector that an older version stored does not parse. */
export function policyView(resource: Resource): PolicyView {
  const spec = resource.spec as PolicySpec;
  const namespace = resource.metadata.namespace ?? null;
  const parts: Selector[] = [];
  if (namespace !== null) parts.push(ownNamespaceSelector(namespace));
  if (spec.namespaceSelector) parts.push(namespaceSelectorOn(spec.namespaceSelector));
  if (spec.serviceAccountSelector) parts.push(serviceAccountScope(spec.serviceAccountSelector));
  parts.push(parseSelector(spec.selector ?? ''));
  const types = spec.types ?? defaultTypes(spec);
  return {
    id: keyText(keyOf(resource)),
    kind: resource.kind,
    namespace,
    name: resource.metadata.name,
    tier: spec.tier ?? 'default',
    order: spec.order ?? null,
    selector: combine(parts),
    ingress: types.includes('Ingress') ? (spec.ingress ?? []) : null,
    egress: types.includes('Egress') ? (spec.egress ?? []) : null,
  };
}

/** No egress rules: ingress. Only egress rules: egress. Both: both. */
function defaultTypes(spec: PolicySpec): readonly string[] {
  const hasIngress = (spec.ingress?.length ?? 0) > 0;
  const hasEgress = (spec.egress?.length ?? 0) > 0;
  if (!hasEgress) return ['Ingress'];
  return hasIngress ? ['Ingress', 'Egress'] : ['Egress'];
}

export function tierView(resource: Resource): TierView {
  const spec = resource.spec as { order?: number | null; defaultAction?: string };
  return {
    name: resource.metadata.name,
    order: spec.order ?? null,
    defaultAction: spec.defaultAction === 'Pass' ? 'pass' : 'deny',
  };
}

export function profileView(resource: Resource): ProfileView {
  const spec = resource.spec as {
    ingress?: readonly RuleInput[];
    egress?: readonly RuleInput[];
    labelsToApply?: Record<string, string>;
  };
  return {
    name: resource.metadata.name,
    ingress: spec.ingress ?? [],
    egress: spec.egress ?? [],
    labels: spec.labelsToApply ?? {},
  };
}

export function defaultAllowProfile(): ProfileView {
  return { name: DEFAULT_ALLOW_PROFILE, ingress: ALLOW_ALL, egress: ALLOW_ALL, labels: {} };
}

/** What a namespace gives its endpoints: everything allowed where no policy says otherwise, and its labels. */
export function namespaceProfile(name: string, labels: Readonly<Record<string, string>>): ProfileView {
  return { name: `kns.${name}`, ingress: ALLOW_ALL, egress: ALLOW_ALL, labels: prefixed('pcns.', name, labels) };
}

/** A service account gives labels only. */
export function serviceAccountProfile(
  namespace: string,
  name: string,
  labels: Readonly<Record<string, string>>,
): ProfileView {
  return { name: `ksa.${namespace}.${name}`, ingress: [], egress: [], labels: prefixed('pcsa.', name, labels) };
}

function prefixed(prefix: string, name: string, labels: Readonly<Record<string, string>>): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [key, value] of Object.entries(labels)) out[prefix + key] = value;
  out[`${prefix}projectcalico.org/name`] = name;
  if (prefix === 'pcns.') out[`${prefix}kubernetes.io/metadata.name`] = name;
  return out;
}

/** nil order last, then name, then namespace, then kind (corner 5). */
export function comparePolicies(a: PolicyView, b: PolicyView): number {
  return (
    numeric(a.order) - numeric(b.order) ||
    compareText(a.name, b.name) ||
    compareText(a.namespace ?? '', b.namespace ?? '') ||
    compareText(a.kind, b.kind)
  );
}

export function compareTiers(a: TierView, b: TierView): number {
  return numeric(a.order) - numeric(b.order) || compareText(a.name, b.name);
}

function numeric(order: number | null): number {
  return order ?? Number.MAX_VALUE;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
