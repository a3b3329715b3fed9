// `brindle label`: sets and removes labels of resources that are in the store.
import type { Command } from 'commander';
import { BrindleError } from '#base/errors.ts';
import { applyResources } from '#datastore/apply.ts';
import type { Store } from '#datastore/store.ts';
import { displayName, parseResource } from '#model/registry.ts';
import type { Resource } from '#model/resource.ts';
import { keyFor, type NamespaceOptions, parseRequests, quoted } from '../resource-arguments.ts';
import { addStoreOptions, type StoreOptions, withStore } from '../store-access.ts';

interface LabelFlags extends StoreOptions, NamespaceOptions {
  readonly overwrite?: boolean;
}

export function register(program: Command): void {
  addStoreOptions(program.command('label').description('Set and remove labels: label KIND NAME... key=value other-'))
    .argument('<words...>', 'kind, names, then key=value to set and key- to remove')
    .option('-n, --namespace <name>', 'the namespace to look in (default: default)')
    .option('--overwrite', 'also change labels that have another value')
    .addHelpText(
      'after',
      '\n  brindle label node h1 rack=a\n  brindle label node/h1 node/h2 rack=b --overwrite\n  brindle label node h1 rack-',
    )
    .action(async (words: string[], flags: LabelFlags) => {
      const changes = words.filter(isChange);
      if (changes.length === 0)
        throw new BrindleError('invalid-argument', 'no label is given', {
          remedy: 'write key=value, or key- to remove one',
        });
      const requests = parseRequests(words.filter((word) => !isChange(word)));
      await withStore(flags, 'existing', async (store) => {
        for (const { kind, names } of requests) {
          if (names.length === 0)
            throw new BrindleError('invalid-argument', 'no name is given', { remedy: `write ${kind.singular} NAME` });
          for (const name of names) {
            const stored = await store.get(keyFor(kind, name, flags));
            if (!stored) throw new BrindleError('not-found', `${quoted(kind, name)} not found`);
            await labelOne(store, stored, changes, flags.overwrite ?? false);
          }
        }
      });
    });
}

function isChange(word: string): boolean {
  return word.includes('=') || word.endsWith('-');
}

async function labelOne(store: Store, stored: Resource, changes: readonly string[], overwrite: boolean): Promise<void> {
  const labels = { ...stored.metadata.labels };
  for (const change of changes) {
    const equals = change.indexOf('=');
    if (equals < 0) {
      delete labels[change.slice(0, -1)];
      continue;
    }
    const key = change.slice(0, equals);
    const value = change.slice(equals + 1);
    const before = Object.hasOwn(labels, key) ? labels[key] : undefined;
    if (before !== undefined && before !== value && !overwrite) {
      throw new BrindleError('conflict', `${displayName(stored)} has ${key}=${before} already`, {
        remedy: 'add --overwrite to change it',
      });
    }
    labels[key] = value;
  }
  const [result] = await applyResources(
    store,
    [parseResource({ ...stored, metadata: { ...stored.metadata, labels } })],
    { mode: 'replace' },
  );
  process.stdout.write(`${displayName(stored)} ${result?.outcome === 'unchanged' ? 'unchanged' : 'labeled'}\n`);
}
