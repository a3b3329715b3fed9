// From the `store:` part of the configuration to an open store. In: configuration. Out: a Store.
// Drivers are loaded only when they are asked for.
import { BrindleError } from '#base/errors.ts';
import { nearest } from '#model/nearest.ts';
import type { EtcdConfig } from './etcd/config.ts';
import type { Store } from './store.ts';

/** Exactly one member: `{embedded: {path}}` or `{etcd: {endpoints}}`. */
export interface StoreConfig {
  readonly embedded?: { readonly path: string };
  readonly etcd?: EtcdConfig;
}

/** Driver -> how to open it with its own part of the configuration. */
const DRIVERS: Record<keyof StoreConfig, (config: StoreConfig) => Promise<Store>> = {
  async embedded(config) {
    const path = config.embedded?.path;
    if (typeof path !== 'string' || path === '') {
      throw new BrindleError('invalid-argument', 'the embedded store has no path', {
        field: 'store.embedded.path',
        remedy: 'write store: {embedded: {path: /var/lib/brindle/store.db}}',
      });
    }
    const { EmbeddedStore } = await import('./embedded/store.ts');
    return EmbeddedStore.open({ path });
  },
  async etcd(config) {
    const { EtcdStore } = await import('./etcd/store.ts');
    return new EtcdStore(config.etcd ?? { endpoints: [] });
  },
};

/** Opens the configured store. `invalid-argument` for a configuration that names none, several or an unknown driver; else the driver's errors. */
export async function openStore(config: StoreConfig): Promise<Store> {
  const names = Object.keys(config);
  const known = Object.keys(DRIVERS);
  const [name] = names;
  if (name === undefined || names.length > 1) {
    throw new BrindleError(
      'invalid-argument',
      name === undefined ? 'no store is configured' : `several stores are configured: ${names.join(', ')}`,
      {
        field: 'store',
        remedy: `name exactly one of ${known.join(', ')}`,
      },
    );
  }
  if (!Object.hasOwn(DRIVERS, name)) {
    const near = nearest(name, known);
    throw new BrindleError('invalid-argument', `there is no store driver "${name}"`, {
      field: `store.${name}`,
      remedy: near ? `did you mean ${near}?` : `known: ${known.join(', ')}`,
    });
  }
  return DRIVERS[name as keyof StoreConfig](config);
}
