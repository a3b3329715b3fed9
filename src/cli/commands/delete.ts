// `brindle delete`: by kind and name, by labels, all of a kind, or what files name.
import type { Command } from 'commander';
import { BrindleError } from '#base/errors.ts';
import { deleteResources } from '#datastore/delete.ts';
import type { Store } from '#datastore/store.ts';
import { displayName, KINDS } from '#model/registry.ts';
import { keyOf, keyText, kindKey, type ResourceKey } from '#model/resource.ts';
import { labelFilter } from '../label-filter.ts';
import { readManifests } from '../manifests.ts';
import { keyFor, type NamespaceOptions, namespaceOf, parseRequests, quoted } from '../resource-arguments.ts';
import { addStoreOptions, type StoreOptions, withStore } from '../store-access.ts';

interface DeleteFlags extends StoreOptions, NamespaceOptions {
  readonly filename?: string[];
  readonly recursive?: boolean;
  readonly selector?: string;
  readonly all?: boolean;
  readonly ignoreNotFound?: boolean;
  readonly force?: boolean;
}

interface Target {
  readonly key: ResourceKey;
  /** What to call it when it is not there. */
  readonly called: string;
}

export function register(program: Command): void {
  addStoreOptions(
    program
      .command('delete')
      .description('Delete resources: delete KIND NAME..., delete KIND/NAME..., delete -f FILE.'),
  )
    .argument('[kind...]', 'kind (also plural or short name), then names')
    .option(
      '-f, --filename <path>',
      'what the file, folder or standard input (-) names; may be given several times',
      collect,
    )
    .option('-R, --recursive', 'folders with all that is in them')
    .option('-n, --namespace <name>', 'the namespace to look in (default: default)')
    .option('-A, --all-namespaces', 'look in all namespaces; only with --all or -l')
    .option('-l, --selector <labels>', 'everything of the kind with these labels')
    .option('--all', 'everything of the kind')
    .option('--ignore-not-found', 'what is not there is no error')
    .option('--force', 'also what other resources need')
    .addHelpText(
      'after',
      '\n  brindle delete bgppeer tor-a\n  brindle delete wep -l app=web -A\n  brindle delete -f pools.yaml',
    )
    .action(async (words: string[], flags: DeleteFlags) => {
      await withStore(flags, 'existing', (store) => run(store, words, flags));
    });
}

function collect(value: string, earlier: string[] = []): string[] {
  return [...earlier, value];
}

async function run(store: Store, words: readonly string[], flags: DeleteFlags): Promise<void> {
  const targets = await targetsOf(store, words, flags);
  if (targets.length === 0) process.stderr.write('Nothing to delete.\n');
  const missing: string[] = [];
  const options = flags.force ? { force: true } : {};
  for (const [i, { deleted }] of (
    await deleteResources(
      store,
      targets.map((t) => t.key),
      options,
    )
  ).entries()) {
    if (deleted) process.stdout.write(`${displayName(deleted)} deleted\n`);
    else missing.push(targets[i]!.called);
  }
  if (missing.length > 0 && !flags.ignoreNotFound)
    throw new BrindleError('not-found', `${missing.join(', ')} not found`);
}

async function targetsOf(store: Store, words: readonly string[], flags: DeleteFlags): Promise<Target[]> {
  if (flags.filename) {
    if (words.length > 0) throw new BrindleError('invalid-argument', 'give either -f or kind and names');
    // What others refer to goes last: the other way round than apply.
    const rank = new Map(KINDS.map((kind, i) => [kindKey(kind.apiVersion, kind.kind), i]));
    return readManifests(flags.filename, flags)
      .map(({ resource }) => keyOf(resource))
      .sort((a, b) => (rank.get(b.kind) ?? 0) - (rank.get(a.kind) ?? 0))
      .map((key) => ({ key, called: keyText(key) }));
  }
  const requests = parseRequests(words);
  const many = flags.all === true || flags.selector !== undefined;
  const filter = flags.selector === undefined ? () => true : labelFilter(flags.selector);
  const out: Target[] = [];
  for (const { kind, names } of requests) {
    if (names.length > 0 && many) throw new BrindleError('invalid-argument', 'give either names or --all or -l');
    if (names.length === 0 && !many) {
      throw new BrindleError('invalid-argument', `no name is given`, {
        remedy: `write ${kind.singular} NAME, --all, or -l LABELS`,
      });
    }
    for (const name of names) out.push({ key: keyFor(kind, name, flags), called: quoted(kind, name) });
    if (!many) continue;
    const namespace = namespaceOf(kind, flags);
    const { resources } = await store.list(
      kindKey(kind.apiVersion, kind.kind),
      namespace === undefined ? {} : { namespace },
    );
    for (const resource of resources) {
      if (filter(resource.metadata.labels ?? {}))
        out.push({ key: keyOf(resource), called: quoted(kind, resource.metadata.name) });
    }
  }
  return out;
}
