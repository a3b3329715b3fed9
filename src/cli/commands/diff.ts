// `brindle diff`: what `apply` would change, and nothing changed. Exit status 0: nothing; 1: something, or an error.
import type { Command } from 'commander';
import { applyResources } from '#datastore/apply.ts';
import { displayName } from '#model/registry.ts';
import { keyOf, type Resource } from '#model/resource.ts';
import { unifiedDiff } from '../format/diff.ts';
import { styled } from '../format/style.ts';
import { ordered, toYaml } from '../format/yaml.ts';
import { readManifests } from '../manifests.ts';
import { addStoreOptions, type StoreOptions, withStore } from '../store-access.ts';

interface DiffFlags extends StoreOptions {
  readonly filename: string[];
  readonly recursive?: boolean;
  readonly namespace?: string;
}

export function register(program: Command): void {
  addStoreOptions(
    program.command('diff').description('Show what apply would change; exit status 1 when there is something.'),
  )
    .requiredOption(
      '-f, --filename <path>',
      'file, folder, or - for standard input; may be given several times',
      collect,
    )
    .option('-R, --recursive', 'folders with all that is in them')
    .option('-n, --namespace <name>', 'namespace of resources that name none')
    .action(async (flags: DiffFlags) => {
      const resources = readManifests(flags.filename, { ...flags, warn: true });
      const text = await withStore(flags, 'existing', async (store) => {
        const parts: string[] = [];
        for (const { resource, outcome } of await applyResources(store, resources, { dryRun: true })) {
          if (outcome === 'unchanged') continue;
          const stored = outcome === 'created' ? null : await store.get(keyOf(resource));
          const name = displayName(resource);
          parts.push(unifiedDiff(shown(stored), shown(resource), [`stored ${name}`, `new ${name}`], coloured));
        }
        return parts.join('');
      });
      if (text === '') return;
      process.stdout.write(text);
      process.exitCode = 1;
    });
}

function collect(value: string, earlier: string[] = []): string[] {
  return [...earlier, value];
}

/** What a person can change, in a fixed order, so that only real changes show. */
function shown(resource: Resource | null): string {
  if (!resource) return '';
  const { name, namespace, labels, annotations } = resource.metadata;
  const metadata: Resource['metadata'] = { name };
  if (namespace !== undefined) metadata.namespace = namespace;
  if (labels !== undefined) metadata.labels = sorted(labels) as Record<string, string>;
  if (annotations !== undefined) metadata.annotations = sorted(annotations) as Record<string, string>;
  const { apiVersion, kind, spec } = resource;
  return toYaml(ordered({ apiVersion, kind, metadata, spec: sorted(spec) }));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}

function coloured(line: string, sign: ' ' | '-' | '+'): string {
  if (sign === ' ') return line;
  return styled(sign === '+' ? 'green' : 'red', line);
}
