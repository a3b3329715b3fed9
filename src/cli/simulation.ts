// What `simulate` and `lint` work on: a set of manifests, checked as a whole. In: paths. Out: resources without duplicates.
// A set with one invalid resource is refused as a whole, with every error. Kinds that have no part in policy, such as Deployment,
// are left out and told on standard error; a kind that is misspelt is an error all the same.
import { isDeepStrictEqual } from 'node:util';
import type { RawDocument } from '#model/manifest.ts';
import { type InvalidPart, InvalidResourceError } from '#model/problems.ts';
import { groupOf, kindOf, KINDS, resourceSubject, warningsOf } from '#model/registry.ts';
import { keyOf, keyText, type Resource } from '#model/resource.ts';
import type { Finding } from '#policy/lint/lint.ts';
import { readManifests } from './manifests.ts';

/** Kinds of the groups that we read ourselves which are none of our business. */
const FOREIGN_KINDS = new Set([
  'ConfigMap',
  'Secret',
  'PersistentVolume',
  'PersistentVolumeClaim',
  'ReplicationController',
  'LimitRange',
  'ResourceQuota',
  'PodTemplate',
  'Event',
  'Ingress',
  'IngressClass',
  'ServiceCIDR',
  'IPAddress',
  // What Calico keeps beside its policies; an export of a cluster holds them.
  'FelixConfiguration',
  'ClusterInformation',
  'KubeControllersConfiguration',
  'CalicoNodeStatus',
  'IPAMConfiguration',
  'IPAMConfig',
  'IPAMBlock',
  'IPAMHandle',
  'BlockAffinity',
]);

/** Groups under which somebody might misspell one of our kinds. */
const OWN_GROUPS = new Set([...KINDS.map(({ apiVersion }) => groupOf(apiVersion)), 'crd.projectcalico.org']);

function isForeign({ value }: RawDocument): boolean {
  const { apiVersion, kind } = (value ?? {}) as { apiVersion?: unknown; kind?: unknown };
  if (typeof apiVersion !== 'string' || typeof kind !== 'string' || kind === '' || apiVersion === '') return false;
  if (kindOf({ apiVersion, kind })) return false;
  // A policy under an old or mistaken group is told, never passed over: somebody relies on it.
  if (kind.endsWith('NetworkPolicy') && KINDS.some((known) => known.kind === kind)) return false;
  return !OWN_GROUPS.has(groupOf(apiVersion)) || FOREIGN_KINDS.has(kind);
}

/** A list of flows, which people keep beside the manifests they are asked of. */
function isFlows(value: unknown): boolean {
  const list = (value as { flows?: unknown } | null)?.flows ?? value;
  return (
    Array.isArray(list) && list.every((item) => typeof item === 'object' && item && 'from' in item && 'to' in item)
  );
}

export interface SimulationOptions {
  readonly recursive?: boolean;
  /** Files that are no manifests although they lie in a folder that is named. */
  readonly except?: readonly string[];
}

/** Throws InvalidResourceError with every problem of every file, or as `readManifests`. */
export function readSimulation(paths: readonly string[], options: SimulationOptions): Resource[] {
  const foreign = new Map<string, number>();
  const skip = (document: RawDocument): boolean => {
    if (isFlows(document.value)) return true;
    if (!isForeign(document)) return false;
    const { kind } = document.value as { kind: string };
    foreign.set(kind, (foreign.get(kind) ?? 0) + 1);
    return true;
  };
  const sourced = readManifests(paths, { ...options, skip });
  for (const [kind, count] of foreign) {
    process.stderr.write(`${count} ${kind} left out: it has no part in policy\n`);
  }
  const byKey = new Map<string, { resource: Resource; source: string }>();
  const twice: InvalidPart[] = [];
  for (const { resource, source } of sourced) {
    const key = identity(resource);
    const earlier = byKey.get(key);
    if (!earlier) byKey.set(key, { resource, source });
    else if (!isDeepStrictEqual(earlier.resource, resource)) {
      const reason = `is defined differently in ${earlier.source}`;
      const problem = { field: 'metadata.name', reason, remedy: 'keep one of them' };
      twice.push({ subject: resourceSubject(resource, source), problems: [problem] });
    }
  }
  if (twice.length > 0) throw new InvalidResourceError(twice);
  return [...byKey.values()].map(({ resource }) => resource);
}

/** Findings about resources alone, without the others. */
export function lintResources(resources: readonly Resource[]): Finding[] {
  return resources.flatMap((resource) =>
    warningsOf(resource).map(({ field, reason, remedy }) => ({
      kind: 'no-effect' as const,
      resource: keyText(keyOf(resource)),
      field,
      message: remedy ? `${reason}; ${remedy}` : reason,
    })),
  );
}

/** `changes` over `base`: what has the same identity is replaced. */
export function overlay(base: readonly Resource[], changes: readonly Resource[]): Resource[] {
  const byKey = new Map(base.map((resource) => [identity(resource), resource]));
  for (const resource of changes) byKey.set(identity(resource), resource);
  return [...byKey.values()];
}

function identity(resource: Resource): string {
  return `${resource.apiVersion} ${keyText(keyOf(resource))}`;
}
