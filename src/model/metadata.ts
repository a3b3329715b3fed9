// Reads a resource's metadata: names, namespaces, labels, annotations. In: unknown. Out: Metadata and problems.
// Fields that an API server adds when it exports (managedFields, generation, ownerReferences, finalizers, ...) are read
// and left behind, so that what `kubectl get -o yaml` or `calicoctl get -o yaml` prints goes in unchanged.
import { labelKeyFault, labelNameFault, labelValueFault, nameFault } from './formats.ts';
import { nearest } from './nearest.ts';
import type { Problems } from './problems.ts';
import type { Metadata } from './resource.ts';
import { describe, quoteRemedy } from './schema.ts';

const KEPT = ['name', 'namespace', 'labels', 'annotations', 'uid', 'resourceVersion', 'creationTimestamp'];
const LEFT_BEHIND = [
  'managedFields',
  'generation',
  'generateName',
  'ownerReferences',
  'finalizers',
  'selfLink',
  'clusterName',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
];
const MAX_ANNOTATIONS = 262_144;

export function checkMetadata(
  value: unknown,
  namespaced: boolean,
  defaultNamespace: string,
  problems: Problems,
): Metadata {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    problems.add('metadata', value === undefined ? 'is required' : `must be a set of fields, not ${describe(value)}`);
    return { name: '' };
  }
  const raw = value as Record<string, unknown>;
  for (const key of Object.keys(raw)) {
    if (KEPT.includes(key) || LEFT_BEHIND.includes(key)) continue;
    const near = nearest(key, KEPT);
    problems.add(
      `metadata.${key}`,
      'is an unknown field',
      near ? `did you mean ${near}?` : `known here: ${KEPT.join(', ')}`,
    );
  }
  const out: Metadata = { name: checkName(raw['name'], problems) };
  const namespace = raw['namespace'] ?? undefined;
  if (namespaced) out.namespace = checkNamespace(namespace, defaultNamespace, problems);
  else if (namespace !== undefined && namespace !== '') {
    problems.add('metadata.namespace', 'this kind belongs to no namespace', 'remove it');
  }
  const labels = checkTextMap(raw['labels'], 'metadata.labels', problems);
  for (const [key, text] of Object.entries(labels ?? {})) {
    const fault = labelKeyFault(key) ?? labelValueFault(text);
    if (fault) problems.add('metadata.labels', fault.reason, fault.remedy);
  }
  const annotations = checkTextMap(raw['annotations'], 'metadata.annotations', problems);
  let size = 0;
  for (const [key, text] of Object.entries(annotations ?? {})) {
    size += key.length + text.length;
    const fault = labelKeyFault(key);
    if (fault) problems.add('metadata.annotations', fault.reason, fault.remedy);
  }
  if (size > MAX_ANNOTATIONS)
    problems.add('metadata.annotations', `has ${size} characters in all, at most ${MAX_ANNOTATIONS} are allowed`);
  if (labels) out.labels = labels;
  if (annotations) out.annotations = annotations;
  for (const key of ['uid', 'resourceVersion', 'creationTimestamp'] as const) {
    const text = raw[key];
    if (typeof text === 'string') {
      if (text !== '') out[key] = text;
    } else if (text instanceof Date) out[key] = text.toISOString();
    else if (text !== undefined && text !== null)
      problems.add(`metadata.${key}`, `must be a text, not ${describe(text)}`, 'put it in quotes');
  }
  return out;
}

function checkName(value: unknown, problems: Problems): string {
  if (value === undefined || value === null) problems.add('metadata.name', 'is required');
  else if (typeof value !== 'string')
    problems.add('metadata.name', `must be a text, not ${describe(value)}`, quoteRemedy(value));
  else {
    const fault = nameFault(value);
    if (fault) problems.add('metadata.name', fault.reason, fault.remedy);
    return value;
  }
  return '';
}

function checkNamespace(value: unknown, defaultNamespace: string, problems: Problems): string {
  if (value === undefined || value === '') return defaultNamespace;
  if (typeof value !== 'string') {
    problems.add('metadata.namespace', `must be a text, not ${describe(value)}`);
    return defaultNamespace;
  }
  const fault = labelNameFault(value);
  if (fault) problems.add('metadata.namespace', fault.reason, fault.remedy);
  return value;
}

function checkTextMap(value: unknown, path: string, problems: Problems): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) {
    problems.add(path, `must be a set of fields, not ${describe(value)}`);
    return undefined;
  }
  const entries: [string, string][] = [];
  for (const [key, text] of Object.entries(value)) {
    if (typeof text === 'string') entries.push([key, text]);
    else if (text === null) entries.push([key, '']);
    else problems.add(path, `value of "${key}" must be a text, not ${describe(text)}`, quoteRemedy(text));
  }
  return entries.length > 0 ? Object.fromEntries(entries) : undefined;
}
