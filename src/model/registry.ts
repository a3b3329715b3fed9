// All kinds, and the way in for everything from outside. In: an unknown value (a parsed YAML document). Out: a Resource
// that is validated and defaulted, or an InvalidResourceError with every problem found.
import { BrindleError } from '#base/errors.ts';
import { bgpAggregate } from './bgp-aggregate.ts';
import { bgpConfiguration } from './bgp-configuration.ts';
import { bgpFabric } from './bgp-fabric.ts';
import { bgpFilter } from './bgp-filter.ts';
import { bgpPeer } from './bgp-peer.ts';
import { bgpPeerGroup } from './bgp-peer-group.ts';
import { clusterNetworkPolicy } from './cluster-network-policy.ts';
import { globalNetworkPolicy, stagedGlobalNetworkPolicy } from './global-network-policy.ts';
import { hostEndpoint } from './host-endpoint.ts';
import { ipBlock } from './ip-block.ts';
import { ipPool } from './ip-pool.ts';
import { kubernetesNetworkPolicy, stagedKubernetesNetworkPolicy } from './kubernetes-network-policy.ts';
import { KUBERNETES_OBJECTS } from './kubernetes-objects.ts';
import { networkPolicy, stagedNetworkPolicy } from './network-policy.ts';
import { globalNetworkSet, networkSet } from './network-set.ts';
import { profile } from './profile.ts';
import { tier } from './tier.ts';
import { ipReservation } from './ip-reservation.ts';
import { node } from './node.ts';
import { workloadEndpoint } from './workload-endpoint.ts';
import type { Kind } from './kind.ts';
import { checkMetadata } from './metadata.ts';
import { nearest } from './nearest.ts';
import { InvalidResourceError, type Problem, Problems } from './problems.ts';
import { type Resource, kindKey } from './resource.ts';
import { check, describe } from './schema.ts';

export const DEFAULT_NAMESPACE = 'default';

/** Every kind, in the order in which `apply` writes and `brindle get all` shows. */
export const KINDS: readonly Kind[] = [
  node,
  ipPool,
  ipReservation,
  ipBlock,
  bgpConfiguration,
  bgpFabric,
  bgpFilter,
  bgpPeer,
  bgpPeerGroup,
  bgpAggregate,
  ...KUBERNETES_OBJECTS,
  hostEndpoint,
  profile,
  globalNetworkSet,
  networkSet,
  tier,
  globalNetworkPolicy,
  networkPolicy,
  stagedGlobalNetworkPolicy,
  stagedNetworkPolicy,
  stagedKubernetesNetworkPolicy,
  kubernetesNetworkPolicy,
  clusterNetworkPolicy,
  workloadEndpoint,
];

export interface ParseOptions {
  /** Where the resource came from, for messages: `pools.yaml, document 2`. */
  readonly source?: string;
  /** The namespace of namespaced resources that name none; `default` when absent. */
  readonly namespace?: string;
  /** The kinds known; all of Brindle's when absent. */
  readonly kinds?: readonly Kind[];
}

/** Groups whose kinds a bare word means, where another group has a kind of the same name. */
const OUR_GROUPS = ['projectcalico.org', 'brindle.dev'];

/** The kind by what a person types: kind, plural, singular or short name, any case. Null when there is none. */
export function findKind(word: string, kinds: readonly Kind[] = KINDS): Kind | null {
  const wanted = word.toLowerCase();
  // `ippools.projectcalico.org` picks by group too, `nodes.core` Kubernetes' own.
  const dot = wanted.indexOf('.');
  const name = dot < 0 ? wanted : wanted.slice(0, dot);
  const group = dot < 0 ? null : wanted.slice(dot + 1);
  const found = kinds.filter(
    (kind) =>
      (group === null || (groupOf(kind.apiVersion) || 'core') === group) &&
      [kind.kind.toLowerCase(), kind.plural, kind.singular, ...kind.shortNames].includes(name),
  );
  return found.find((kind) => OUR_GROUPS.includes(groupOf(kind.apiVersion))) ?? found[0] ?? null;
}

/** As `findKind`, with an `invalid-argument` that names the nearest kind in place of null. */
export function requireKind(word: string, kinds: readonly Kind[] = KINDS): Kind {
  const kind = findKind(word, kinds);
  if (kind) return kind;
  const near = nearest(
    word,
    kinds.flatMap((k) => [k.plural, k.singular, ...k.shortNames]),
  );
  throw new BrindleError('invalid-argument', `there is no kind "${word}"`, {
    remedy: near ? `did you mean ${near}?` : 'brindle api-resources lists them',
  });
}

/** The kind of a stored resource; null when this version does not know it. */
export function kindOf(resource: Pick<Resource, 'apiVersion' | 'kind'>, kinds: readonly Kind[] = KINDS): Kind | null {
  return kinds.find((k) => k.kind === resource.kind && k.apiVersion === resource.apiVersion) ?? null;
}

/** The kind by its store key (see `kindKey`); null when this version does not know it. */
export function kindByKey(key: string, kinds: readonly Kind[] = KINDS): Kind | null {
  return kinds.find((k) => kindKey(k.apiVersion, k.kind) === key) ?? null;
}

/** `projectcalico.org` of `projectcalico.org/v3`; '' of `v1`. */
export function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}

/** `ippool.projectcalico.org/default`, as kubectl says it. */
export function displayName(resource: Resource, kinds: readonly Kind[] = KINDS): string {
  const kind = kindOf(resource, kinds);
  const group = groupOf(resource.apiVersion);
  const singular = kind?.singular ?? resource.kind.toLowerCase();
  return `${group ? `${singular}.${group}` : singular}/${resource.metadata.name}`;
}

const TOP_LEVEL = ['apiVersion', 'kind', 'metadata', 'spec', 'status'];

/** Reads one resource. Throws InvalidResourceError (`invalid-resource`) with all problems. The value itself is not changed. */
export function parseResource(value: unknown, options: ParseOptions = {}): Resource {
  const kinds = options.kinds ?? KINDS;
  const problems = new Problems();
  const raw = value as Record<string, unknown>;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    problems.add('', `a resource must be a set of fields (apiVersion, kind, metadata, spec), not ${describe(value)}`);
    throw invalid(null, problems, options);
  }
  const kind = readKind(raw, kinds, problems);
  if (!kind) throw invalid(raw, problems, options);
  const metadata = checkMetadata(raw['metadata'], kind.namespaced, options.namespace ?? DEFAULT_NAMESPACE, problems);
  const beside: Record<string, unknown> = {};
  for (const key of Object.keys(raw)) {
    if (TOP_LEVEL.includes(key)) continue;
    if (kind.flat) {
      beside[key] = raw[key];
      continue;
    }
    const near = nearest(key, TOP_LEVEL);
    problems.add(key, 'is an unknown field', near ? `did you mean ${near}?` : 'fields of the kind belong under spec');
  }
  let spec: unknown = raw['spec'] ?? (kind.flat ? beside : undefined);
  if (spec === undefined && kind.specOptional) spec = {};
  if (spec === undefined) problems.add('spec', 'is required');
  else spec = check(kind.spec, spec, kind.flat ? '' : 'spec', problems);
  let status: unknown = raw['status'] ?? undefined;
  if (status !== undefined && kind.status) status = check(kind.status, status, 'status', problems);
  if (problems.any) throw invalid(raw, problems, options);
  if (kind.defaults) spec = kind.defaults(spec);
  const resource: Resource = { apiVersion: kind.apiVersion, kind: kind.kind, metadata, spec };
  if (status !== undefined) resource.status = status;
  kind.validate?.(resource, problems);
  if (problems.any) throw invalid(raw, problems, options);
  return resource;
}

function readKind(raw: Record<string, unknown>, kinds: readonly Kind[], problems: Problems): Kind | null {
  const { apiVersion, kind } = raw;
  if (typeof kind !== 'string' || kind === '') {
    problems.add(
      'kind',
      kind === undefined ? 'is required' : `must be a text, not ${describe(kind)}`,
      'write a kind such as IPPool',
    );
  }
  if (typeof apiVersion !== 'string' || apiVersion === '') {
    const known = typeof kind === 'string' ? kinds.find((k) => k.kind === kind) : undefined;
    problems.add(
      'apiVersion',
      apiVersion === undefined ? 'is required' : `must be a text, not ${describe(apiVersion)}`,
      `write ${known?.apiVersion ?? 'projectcalico.org/v3'}`,
    );
  }
  if (typeof kind !== 'string' || typeof apiVersion !== 'string' || problems.any) return null;
  const found = kindOf({ apiVersion, kind }, kinds);
  if (found) return found;
  const namesakes = kinds.filter((k) => k.kind === kind);
  if (namesakes.length > 0) {
    const versions = [...new Set(namesakes.map((k) => k.apiVersion))];
    const near = nearest(apiVersion, versions);
    problems.add('apiVersion', `${kind} is not known as ${apiVersion}`, `write ${near ?? versions.join(' or ')}`);
    return null;
  }
  const near = nearest(
    kind,
    kinds.map((k) => k.kind),
  );
  problems.add(
    'kind',
    `${kind} (${apiVersion}) is an unknown kind`,
    near ? `did you mean ${near}?` : 'brindle api-resources lists the kinds',
  );
  return null;
}

function invalid(raw: Record<string, unknown> | null, problems: Problems, options: ParseOptions): InvalidResourceError {
  return new InvalidResourceError([{ subject: subjectOf(raw, options.source), problems: problems.list }]);
}

function subjectOf(raw: Record<string, unknown> | null, source: string | undefined): string {
  const metadata = raw?.['metadata'] as { name?: unknown; namespace?: unknown } | undefined;
  const words: string[] = [typeof raw?.['kind'] === 'string' ? raw['kind'] : 'resource'];
  if (typeof metadata?.namespace === 'string' && metadata.namespace) words.push(metadata.namespace);
  if (typeof metadata?.name === 'string' && metadata.name) words.push(metadata.name);
  return source === undefined ? words.join('/') : `${words.join('/')} (${source})`;
}

/** What a valid resource asks for that has no effect or is probably not meant. */
export function warningsOf(resource: Resource, kinds: readonly Kind[] = KINDS): readonly Problem[] {
  const problems = new Problems();
  kindOf(resource, kinds)?.warn?.(resource, problems);
  return problems.list;
}

/** What a resource of a list or file is called in messages. */
export function resourceSubject(resource: Resource, source?: string): string {
  return subjectOf(resource as unknown as Record<string, unknown>, source);
}
