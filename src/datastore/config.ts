// Reads the configuration file. In: a path, or nothing for the default one. Out: a complete AgentConfig.
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { parse } from 'yaml';
import { BrindleError } from '#base/errors.ts';
import { type AgentConfig, DEFAULT_CONFIG_PATH, parseAgentConfig } from '#model/agent-config.ts';
import { parseEtcdUrl } from './etcd/config.ts';
import type { StoreConfig } from './open.ts';

/**
 * @param path a file that must exist; undefined: BRINDLE_CONFIG, else /etc/brindle/brindle.yaml, which may be missing.
 * BRINDLE_STORE comes before the store of the file, unless the file is named by `path`.
 * Errors: `not-found`, `permission`, `invalid-argument` (no YAML), InvalidResourceError.
 */
export function readConfig(path?: string, environment: NodeJS.ProcessEnv = process.env): AgentConfig {
  const named = path ?? (environment['BRINDLE_CONFIG'] || undefined);
  const file = named ?? DEFAULT_CONFIG_PATH;
  let text = '';
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') {
      throw new BrindleError(
        code === 'EACCES' ? 'permission' : 'unavailable',
        `the configuration ${file} cannot be read: ${String(code)}`,
        {
          cause: error,
        },
      );
    }
    if (named !== undefined)
      throw new BrindleError('not-found', `there is no configuration ${file}`, {
        remedy: 'check --config and BRINDLE_CONFIG',
      });
  }
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new BrindleError('invalid-argument', `${file} is not YAML: ${(error as Error).message.split('\n')[0]}`, {
      cause: error,
    });
  }
  const config = parseAgentConfig(value, file, hostname());
  const store = path === undefined ? storeFromEnvironment(environment) : undefined;
  return store ? { ...config, store } : config;
}

/** The store that BRINDLE_STORE names. Undefined when it is not set. */
export function storeFromEnvironment(environment: NodeJS.ProcessEnv = process.env): StoreConfig | undefined {
  const path = environment['BRINDLE_STORE'];
  return path ? storeAt(path) : undefined;
}

/** What `--store` and BRINDLE_STORE may say: the path of an embedded store, or `etcd://HOST:PORT,HOST:PORT`. */
export function storeAt(path: string): StoreConfig {
  const etcd = parseEtcdUrl(path);
  if (etcd) return { etcd };
  return { embedded: { path: resolve(path) } };
}
