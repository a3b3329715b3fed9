// `brindle describe`: one resource in full, for reading.
import type { Command } from 'commander';
import { BrindleError } from '#base/errors.ts';
import { kindKey, type Resource } from '#model/resource.ts';
import { problemText } from '#model/problems.ts';
import { warningsOf } from '#model/registry.ts';
import { ageOf } from '../format/age.ts';
import { styled } from '../format/style.ts';
import { keyFor, type NamespaceOptions, namespaceOf, parseRequests, quoted } from '../resource-arguments.ts';
import { addStoreOptions, type StoreOptions, withStore } from '../store-access.ts';

export function register(program: Command): void {
  addStoreOptions(
    program.command('describe').description('Show resources in full: describe KIND [NAME...], describe KIND/NAME...'),
  )
    .argument('<kind...>', 'kind (also plural or short name), then names')
    .option('-n, --namespace <name>', 'the namespace to look in (default: default)')
    .option('-A, --all-namespaces', 'look in all namespaces')
    .action(async (words: string[], flags: StoreOptions & NamespaceOptions) => {
      const texts = await withStore(flags, 'existing', async (store) => {
        const out: string[] = [];
        for (const { kind, names } of parseRequests(words)) {
          if (names.length === 0) {
            const namespace = namespaceOf(kind, flags);
            const { resources } = await store.list(
              kindKey(kind.apiVersion, kind.kind),
              namespace === undefined ? {} : { namespace },
            );
            out.push(...resources.map(description));
          }
          for (const name of names) {
            const resource = await store.get(keyFor(kind, name, flags));
            if (!resource) throw new BrindleError('not-found', `${quoted(kind, name)} not found`);
            out.push(description(resource));
          }
        }
        return out;
      });
      if (texts.length === 0) process.stderr.write('Nothing found.\n');
      else process.stdout.write(texts.join('\n'));
    });
}

export function description(resource: Resource): string {
  const { metadata, apiVersion, kind } = resource;
  const lines = [
    ...field('Name', metadata.name),
    ...(metadata.namespace === undefined ? [] : field('Namespace', metadata.namespace)),
    ...field('Kind', `${kind} (${apiVersion})`),
    ...many('Labels', metadata.labels),
    ...many('Annotations', metadata.annotations),
    ...field(
      'Created',
      metadata.creationTimestamp === undefined
        ? '?'
        : `${metadata.creationTimestamp} (${ageOf(metadata.creationTimestamp)} ago)`,
    ),
    ...field('Version', metadata.resourceVersion ?? '?'),
    styled('bold', 'Spec:'),
    ...block(resource.spec, 1),
  ];
  if (resource.status !== undefined) lines.push(styled('bold', 'Status:'), ...block(resource.status, 1));
  for (const warning of warningsOf(resource)) lines.push(styled('yellow', `Warning: ${problemText(warning)}`));
  return `${lines.join('\n')}\n`;
}

const TITLE_WIDTH = 14;

function field(title: string, value: string): string[] {
  return [`${styled('bold', `${title}:`)}${' '.repeat(Math.max(1, TITLE_WIDTH - title.length - 1))}${value}`];
}

function many(title: string, entries: Readonly<Record<string, string>> | undefined): string[] {
  const texts = Object.entries(entries ?? {}).map(([key, value]) => `${key}=${value}`);
  const [first = '<none>', ...rest] = texts;
  return [...field(title, first), ...rest.map((text) => ' '.repeat(TITLE_WIDTH) + text)];
}

/** Nested fields, indented, values of one level aligned. */
function block(value: unknown, depth: number): string[] {
  const indent = '  '.repeat(depth);
  if (Array.isArray(value)) {
    return value.flatMap((item) => {
      if (isPlain(item)) return [`${indent}- ${plain(item)}`];
      const [first = '', ...rest] = block(item, depth + 1);
      return [`${indent}- ${first.trimStart()}`, ...rest];
    });
  }
  const entries = Object.entries(value as Record<string, unknown>);
  if (entries.length === 0) return [`${indent}<empty>`];
  const width = Math.max(...entries.filter(([, v]) => isPlain(v)).map(([key]) => key.length + 1), 0);
  return entries.flatMap(([key, inner]) =>
    isPlain(inner)
      ? [`${indent}${`${key}:`.padEnd(width)} ${plain(inner)}`]
      : [`${indent}${key}:`, ...block(inner, depth + 1)],
  );
}

function isPlain(value: unknown): boolean {
  if (Array.isArray(value)) return value.every((item) => typeof item !== 'object') && value.join(', ').length < 80;
  return typeof value !== 'object' || value === null || Object.keys(value).length === 0;
}

function plain(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? '<none>' : value.join(', ');
  if (typeof value === 'object') return '<empty>';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
