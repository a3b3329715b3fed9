// Which store a verb works on: `--store` (a path or `etcd://HOST:PORT`), else BRINDLE_STORE, else the configuration file
// (`--config`, BRINDLE_CONFIG, /etc/brindle/brindle.yaml). In: options. Out: an open store that is closed again.
import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { BrindleError } from '#base/errors.ts';
import { readConfig, storeAt, storeFromEnvironment } from '#datastore/config.ts';
import { openStore, type StoreConfig } from '#datastore/open.ts';
import type { Store } from '#datastore/store.ts';

export interface StoreOptions {
  readonly store?: string;
  readonly config?: string;
}

export function addStoreOptions(command: Command): Command {
  return command
    .option('--store <path>', 'the store to work on: a path, or etcd://HOST:PORT,... (BRINDLE_STORE)')
    .option(
      '--config <file>',
      'the configuration that names the store (BRINDLE_CONFIG, else /etc/brindle/brindle.yaml)',
    );
}

export function storeConfig(options: StoreOptions): StoreConfig {
  if (options.store !== undefined) return storeAt(options.store);
  return (options.config === undefined ? storeFromEnvironment() : undefined) ?? readConfig(options.config).store;
}

/**
 * Opens the store for the length of `use`. A verb that only reads or removes does not make a store that is not there:
 * `not-found`, because the path is most likely wrong.
 */
export async function withStore<T>(
  options: StoreOptions,
  access: 'existing' | 'create',
  use: (store: Store) => Promise<T>,
): Promise<T> {
  const config = storeConfig(options);
  const path = config.embedded?.path;
  if (access === 'existing' && path !== undefined && !existsSync(path)) {
    throw new BrindleError('not-found', `there is no store ${path} yet`, {
      remedy: 'name another with --store or BRINDLE_STORE, or begin with brindle apply',
    });
  }
  const store = await openStore(config);
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}
