// `brindle store`: looking after the store itself: info, check, backup, migrate.
import { chmodSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { BrindleError, errorText } from '#base/errors.ts';
import { readConfig, storeAt } from '#datastore/config.ts';
import type { EtcdConfig } from '#datastore/etcd/config.ts';
import { migrateStore } from '#datastore/migrate.ts';
import { openStore } from '#datastore/open.ts';
import { kindByKey, parseResource } from '#model/registry.ts';
import { keyOf, type Resource } from '#model/resource.ts';
import { formatTable } from '../format/table.ts';
import { toJson } from '../format/yaml.ts';
import { addStoreOptions, storeConfig, type StoreOptions, withStore } from '../store-access.ts';

export function register(program: Command): void {
  const store = program.command('store').description('Look after the store itself.');
  addStoreOptions(store.command('info').description('Show where the store is, how large, and what it holds.'))
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['json']))
    .action(info);
  addStoreOptions(
    store
      .command('check')
      .description('Check the file and every resource in it; exit status 1 when something is wrong.'),
  ).action(check);
  addStoreOptions(store.command('backup').description('Write a copy of the store into a new file; it may be in use.'))
    .argument('<file>', 'the new file')
    .action(backup);
  addStoreOptions(
    store.command('migrate').description('Copy everything into another, empty store. The source stays as it is.'),
  )
    .option('--to <path>', 'the other store: a path, or etcd://HOST:PORT,...')
    .option('--to-config <file>', 'a configuration that names the other store, of any driver')
    .addHelpText(
      'after',
      '\nAn interrupted move can be run again. At the end both stores are compared.\n\n  brindle store migrate --config old.yaml --to-config new.yaml',
    )
    .action(migrate);
}

function embeddedPath(options: StoreOptions): string {
  const path = storeConfig(options).embedded?.path;
  if (path === undefined)
    throw new BrindleError('unsupported', 'only the embedded store is a file', {
      remedy: "use the tools of the store's own, such as etcdctl snapshot save",
    });
  return path;
}

async function info(options: StoreOptions & { output?: 'json' }): Promise<void> {
  const { etcd } = storeConfig(options);
  if (etcd) {
    await etcdInfo(etcd, options.output);
    return;
  }
  const { storeFacts } = await import('#datastore/embedded/maintenance.ts');
  const facts = storeFacts(embeddedPath(options));
  if (options.output === 'json') {
    process.stdout.write(toJson(facts));
    return;
  }
  process.stdout.write(
    `Store      ${facts.path} (embedded, ${(facts.size / 1024 / 1024).toFixed(1)} MiB)\n` +
      `Revision   ${facts.revision}\n` +
      `History    ${facts.history} changes, from revision ${facts.compacted + 1} on\n\n${kindTable(facts.kinds)}`,
  );
}

async function etcdInfo(config: EtcdConfig, output: 'json' | undefined): Promise<void> {
  const { EtcdStore } = await import('#datastore/etcd/store.ts');
  const store = new EtcdStore(config);
  try {
    const facts = await store.facts();
    const size = (facts.size / 1024 / 1024).toFixed(1);
    process.stdout.write(
      output === 'json'
        ? toJson(facts)
        : `Store      ${facts.endpoints.join(', ')} (etcd ${facts.version}, ${size} MiB)\n` +
            `Revision   ${facts.revision}\n\n${kindTable(facts.kinds)}`,
    );
  } finally {
    await store.close();
  }
}

function kindTable(kinds: readonly { readonly kind: string; readonly count: number }[]): string {
  const rows = kinds.map(({ kind, count }) => [kind, String(count)]);
  return `${formatTable(['KIND', 'COUNT'], rows, { right: [1] })}\n`;
}

async function check(options: StoreOptions): Promise<void> {
  const { checkStore } = await import('#datastore/embedded/maintenance.ts');
  const path = embeddedPath(options);
  const problems = checkStore(path, faultOf);
  if (problems.length === 0) {
    process.stdout.write(`${path} is sound\n`);
    return;
  }
  process.stdout.write(problems.map((text) => `${text}\n`).join(''));
  process.exitCode = 1;
}

/** Kinds of another version cannot be judged here, and are no fault. */
function faultOf(resource: Resource): string | null {
  if (!kindByKey(keyOf(resource).kind)) return null;
  try {
    parseResource(resource);
    return null;
  } catch (error) {
    return errorText(error);
  }
}

async function backup(file: string, options: StoreOptions): Promise<void> {
  const { backupStore } = await import('#datastore/embedded/maintenance.ts');
  const to = resolve(file);
  backupStore(embeddedPath(options), to);
  chmodSync(to, 0o600);
  process.stdout.write(`${to} written\n`);
}

async function migrate(options: StoreOptions & { to?: string; toConfig?: string }): Promise<void> {
  if ((options.to === undefined) === (options.toConfig === undefined)) {
    throw new BrindleError('invalid-argument', 'give either --to or --to-config');
  }
  const target = options.to === undefined ? readConfig(options.toConfig).store : storeAt(options.to);
  const source = storeConfig(options);
  if (JSON.stringify(source) === JSON.stringify(target))
    throw new BrindleError('invalid-argument', 'both are the same store');
  await withStore(options, 'existing', async (from) => {
    const to = await openStore(target);
    try {
      const moved = await migrateStore(from, to);
      const rows = moved.map((m) => [m.kind, String(m.copied), String(m.present)]);
      process.stdout.write(
        `${formatTable(['KIND', 'COPIED', 'PRESENT'], rows, { right: [1, 2] })}\nboth stores hold the same\n`,
      );
    } finally {
      await to.close();
    }
  });
}
