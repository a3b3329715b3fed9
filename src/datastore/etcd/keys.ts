// Where a resource lives in etcd: `PREFIX/KIND/NAMESPACE/NAME`, with an empty NAMESPACE for cluster-scoped kinds, and how it
// is written there. In: keys and resources. Out: bytes, and back.
//
// Traps: names that hold anything but what Kubernetes allows are percent-encoded, so that a `/` cannot make another key.
// The value holds no resourceVersion: that is the key's revision.
import { BrindleError } from '#base/errors.ts';
import type { Resource, ResourceKey } from '#model/resource.ts';
import type { KeyValue } from './messages.ts';

/** Of the value, not of the resource: a reader refuses what is newer than it knows. */
export const VALUE_SCHEMA = 1;

interface Value {
  readonly schema: number;
  /** Random, of the write: a writer that lost the answer finds out whether it was its own. */
  readonly write: string;
  readonly resource: Resource;
}

export class Keys {
  /** Without a `/` at the end. */
  readonly prefix: string;

  constructor(prefix: string) {
    this.prefix = prefix;
  }

  key(key: ResourceKey): Buffer {
    return this.#bytes(key.kind, key.namespace, key.name);
  }

  /** What every key of all kinds, of a kind, or of a kind and a namespace begins with. */
  under(kind?: string, namespace?: string): Buffer {
    if (kind === undefined) return this.#bytes('');
    return namespace === undefined ? this.#bytes(kind, '') : this.#bytes(kind, namespace, '');
  }

  /** Null for a key that no resource has. */
  parse(bytes: Buffer): ResourceKey | null {
    const text = bytes.toString();
    if (!text.startsWith(`${this.prefix}/`)) return null;
    const parts = text.slice(this.prefix.length + 1).split('/');
    if (parts.length !== 3) return null;
    try {
      const [kind = '', namespace = '', name = ''] = parts.map(decodeURIComponent);
      return kind === '' || name === '' ? null : { kind, namespace, name };
    } catch {
      return null;
    }
  }

  #bytes(...parts: string[]): Buffer {
    return Buffer.from([this.prefix, ...parts.map(encodeURIComponent)].join('/'));
  }
}

/** The first key that does not begin with `prefix`. */
export function endOf(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  for (let last = end.length - 1; last >= 0; last--) {
    if (end[last] === 0xff) continue;
    end[last]! += 1;
    return end.subarray(0, last + 1);
  }
  return Buffer.from([0]); // etcd's word for "to the end of all keys"
}

export function encodeValue(resource: Resource, write: string): Buffer {
  const metadata = { ...resource.metadata };
  delete metadata.resourceVersion;
  const value: Value = { schema: VALUE_SCHEMA, write, resource: { ...resource, metadata } };
  return Buffer.from(JSON.stringify(value));
}

/** Errors: `corrupt`; `unsupported` when a newer Brindle wrote it. */
export function decodeValue(kv: KeyValue): { resource: Resource; write: string } {
  let value: Partial<Value>;
  try {
    value = JSON.parse(kv.value.toString()) as Partial<Value>;
  } catch (error) {
    throw corrupt(kv, error);
  }
  if (value === null || typeof value !== 'object' || typeof value.schema !== 'number') throw corrupt(kv);
  if (value.schema > VALUE_SCHEMA) {
    throw new BrindleError('unsupported', `${kv.key.toString()} is written in schema ${value.schema}`, {
      remedy: `this version reads up to ${VALUE_SCHEMA}; upgrade it`,
    });
  }
  const { resource, write = '' } = value;
  if (typeof resource?.metadata?.name !== 'string' || typeof resource.kind !== 'string') throw corrupt(kv);
  resource.metadata.resourceVersion = String(kv.modRevision);
  return { resource, write };
}

function corrupt(kv: KeyValue, cause?: unknown): BrindleError {
  return new BrindleError('corrupt', `the value of ${kv.key.toString()} in etcd is no resource`, {
    remedy: 'put it right or delete this key with etcdctl',
    cause,
  });
}
