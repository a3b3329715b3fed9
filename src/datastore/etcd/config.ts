// The driver's part of the configuration: `store: {etcd: {...}}`, or `etcd://HOST:PORT,HOST:PORT/PREFIX?ca=FILE` where a
// store is named in one word. In: configuration. Out: endpoints, and the files read anew for each connection.
import { readFileSync } from 'node:fs';
import { BrindleError } from '#base/errors.ts';

export interface EtcdConfig {
  /** `HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT`; of one cluster. */
  readonly endpoints: string[];
  /** PEM files. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly username?: string;
  /** A file with the password and nothing else. */
  readonly passwordFile?: string;
  /** What all keys begin with. Default `/brindle`. */
  readonly prefix?: string;
}

export interface Endpoint {
  readonly address: string;
  readonly tls: boolean;
}

const DEFAULT_PORT = 2379;
const FILES = ['ca', 'cert', 'key', 'passwordFile'] as const;

/** Errors: `invalid-argument`. */
export function parseEndpoints(config: EtcdConfig): Endpoint[] {
  const { endpoints } = config;
  if (!Array.isArray(endpoints) || endpoints.length === 0) {
    throw invalid('endpoints', 'the etcd store has no endpoints', 'write store: {etcd: {endpoints: [10.0.0.1:2379]}}');
  }
  if ((config.cert === undefined) !== (config.key === undefined))
    throw invalid('cert', 'a client certificate needs both cert and key', 'name both files');
  if ((config.username === undefined) !== (config.passwordFile === undefined))
    throw invalid('username', 'a user needs both username and passwordFile', 'name both');
  const secured = config.ca !== undefined || config.cert !== undefined;
  const out = (endpoints as readonly unknown[]).map((text, index): Endpoint => {
    const field = `endpoints[${index}]`;
    const match =
      typeof text === 'string' ? /^(?:(https?):\/\/)?(\[[^\]]+\]|[^:/?#[\]]+)(?::(\d+))?\/?$/.exec(text) : null;
    const port = Number(match?.[3] ?? DEFAULT_PORT);
    if (!match || port < 1 || port > 65_535)
      throw invalid(field, `${JSON.stringify(text)} is no endpoint`, 'write HOST:PORT or https://HOST:PORT');
    const tls = match[1] === undefined ? secured : match[1] === 'https';
    if (!tls && secured)
      throw invalid(
        field,
        `${String(text)} is not encrypted, but ca or cert is given`,
        'write https:// or leave both out',
      );
    return { address: `${match[2]}:${port}`, tls };
  });
  return out;
}

/** `etcd://HOST:PORT,HOST:PORT[/PREFIX][?ca=FILE&cert=FILE&key=FILE&username=NAME&passwordFile=FILE]`; null for other texts. */
export function parseEtcdUrl(text: string): EtcdConfig | null {
  const match = /^etcd:\/\/([^/?]*)(\/[^?]*)?(?:\?(.*))?$/.exec(text);
  if (!match) return null;
  const [, hosts = '', path = '', query = ''] = match;
  const config: Record<string, unknown> = { endpoints: hosts.split(',').filter((host) => host !== '') };
  const prefix = path.replace(/\/+$/, '');
  if (prefix !== '') config['prefix'] = prefix;
  for (const [name, value] of new URLSearchParams(query)) {
    if (name !== 'username' && !FILES.some((file) => file === name))
      throw new BrindleError('invalid-argument', `${text}: there is no option "${name}"`, {
        remedy: `known: username, ${FILES.join(', ')}`,
      });
    config[name] = value;
  }
  parseEndpoints(config as unknown as EtcdConfig);
  return config as unknown as EtcdConfig;
}

export interface Secrets {
  readonly ca: Buffer | null;
  readonly cert: Buffer | null;
  readonly key: Buffer | null;
  readonly password: string | null;
}

/** Reads the files; they may have been replaced since the last time. Errors: `permission`, `not-found`, `unavailable`. */
export function readSecrets(config: EtcdConfig): Secrets {
  const read = (name: (typeof FILES)[number]): Buffer | null => {
    const path = config[name];
    if (path === undefined) return null;
    try {
      return readFileSync(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new BrindleError(
        code === 'EACCES' ? 'permission' : code === 'ENOENT' ? 'not-found' : 'unavailable',
        `${path} cannot be read: ${String(code)}`,
        { field: `store.etcd.${name}`, remedy: 'put the file there, readable for this user', cause: error },
      );
    }
  };
  const password =
    read('passwordFile')
      ?.toString()
      .replace(/\r?\n$/, '') ?? null;
  return { ca: read('ca'), cert: read('cert'), key: read('key'), password };
}

function invalid(field: string, message: string, remedy: string): BrindleError {
  return new BrindleError('invalid-argument', message, { field: `store.etcd.${field}`, remedy });
}
