// YAML and JSON of resources, in the order in which people expect the fields.
import { stringify } from 'yaml';
import type { Resource } from '#model/resource.ts';

const METADATA = ['name', 'namespace', 'labels', 'annotations', 'uid', 'resourceVersion', 'creationTimestamp'];

/** One document, with a newline at the end. Long lines are not folded. */
export function toYaml(value: unknown): string {
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
}

export function toJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** The resource with its fields in the usual order. */
export function ordered(resource: Resource): Resource {
  const { apiVersion, kind, metadata, spec, status, ...rest } = resource;
  const known = METADATA.filter((key) => key in metadata).map((key) => [key, metadata[key as keyof typeof metadata]]);
  return {
    apiVersion,
    kind,
    metadata: { ...(Object.fromEntries(known) as Resource['metadata']), ...metadata },
    spec,
    ...rest,
    ...(status === undefined ? {} : { status }),
  };
}

/** One resource as itself, several as a `List` that `apply` reads back. */
export function asDocument(resources: readonly Resource[], single: boolean): unknown {
  const [only] = resources;
  return single && only ? ordered(only) : { apiVersion: 'v1', kind: 'List', items: resources.map(ordered) };
}
