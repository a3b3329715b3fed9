// The etcd store: resources as keys of an etcd v3 cluster, revisions are etcd's. In: resources, validated by the caller.
// Out: the same with revisions; watches. Implements store.ts.
//
// Traps: a request may be carried out although its answer was lost, and is then sent again. Every write therefore compares
// the key's revision and carries a random mark, by which it recognises itself. Lists are read in pages, all at the revision
// of the first.
import { randomUUID } from 'node:crypto';
import { type Clock, systemClock } from '#base/clock.ts';
import { BrindleError, isBrindleError } from '#base/errors.ts';
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';
import type { DeleteOptions, ListOptions, ListResult, Revision, Store, Watch, WatchOptions } from '../store.ts';
import { EtcdClient, type EtcdTimes } from './client.ts';
import type { EtcdConfig } from './config.ts';
import { decodeValue, encodeValue, endOf, Keys } from './keys.ts';
import type { KeyValue, RangeRequest, RangeResponse, RequestOp } from './messages.ts';
import { EtcdWatch } from './watch.ts';

export interface EtcdStoreOptions extends EtcdConfig {
  readonly times?: EtcdTimes;
  readonly clock?: Clock;
  /** 0 up to 1: which endpoint is first. */
  readonly random?: () => number;
}

export interface EtcdFacts {
  readonly endpoints: readonly string[];
  readonly version: string;
  readonly revision: Revision;
  /** Bytes of the member's database. */
  readonly size: number;
  readonly kinds: readonly { readonly kind: string; readonly count: number }[];
}

export const DEFAULT_PREFIX = '/brindle';
const PAGE = 500;
/** A list that is overtaken by compaction between two pages begins again, this many times. */
const LISTS = 3;
/** Bytes. etcd's default request limit is 1.5 MiB. */
const MAX_VALUE = 1_500_000;

export class EtcdStore implements Store {
  readonly #client: EtcdClient;
  readonly #keys: Keys;
  readonly #clock: Clock;
  readonly #watches = new Set<EtcdWatch>();
  readonly #running = new Set<Promise<unknown>>();
  #closed = false;

  /** Does not wait for etcd. Errors: `invalid-argument`. */
  constructor(options: EtcdStoreOptions) {
    const prefix = options.prefix ?? DEFAULT_PREFIX;
    if (!/^(\/[\w.-]+)+$/.test(prefix)) {
      throw new BrindleError('invalid-argument', `${JSON.stringify(prefix)} cannot begin keys`, {
        field: 'store.etcd.prefix',
        remedy: 'write /NAME',
      });
    }
    this.#keys = new Keys(prefix);
    this.#client = new EtcdClient(options, prefix, options.times, options.random);
    this.#clock = options.clock ?? systemClock;
  }

  get(key: ResourceKey): Promise<Resource | null> {
    return this.#run(async () => (await this.#read(key))?.resource ?? null);
  }

  list(kind: string, options: ListOptions = {}): Promise<ListResult> {
    return this.#run(async () => {
      for (let left = LISTS; ; left--) {
        try {
          return await this.#list(kind, options.namespace);
        } catch (error) {
          if (left === 1 || !isBrindleError(error, 'compacted')) throw error;
        }
      }
    });
  }

  kinds(): Promise<readonly string[]> {
    return this.#run(async () => {
      const out: string[] = [];
      const rangeEnd = endOf(this.#keys.under());
      for (let key = this.#keys.under(); ; ) {
        const { kvs } = await this.#range({ key, rangeEnd, limit: 1, keysOnly: true });
        const [first] = kvs;
        if (!first) return out;
        const kind = this.#keys.parse(first.key)?.kind;
        if (kind !== undefined) out.push(kind);
        // One look-up a kind: past all keys of this one.
        key = kind === undefined ? Buffer.concat([first.key, Buffer.from([0])]) : endOf(this.#keys.under(kind));
      }
    });
  }

  create(resource: Resource): Promise<Resource> {
    return this.#run(async () => {
      const key = keyOf(resource);
      const uid = resource.metadata.uid ?? randomUUID();
      const creationTimestamp = resource.metadata.creationTimestamp ?? timestamp(this.#clock.wall());
      const stored = await this.#put(key, 0, {
        ...resource,
        metadata: { ...resource.metadata, uid, creationTimestamp },
      });
      if (stored) return stored;
      throw new BrindleError('already-exists', `${keyText(key)} exists already`, {
        remedy: 'update it, or choose another name',
      });
    });
  }

  update(resource: Resource): Promise<Resource> {
    return this.#run(async () => {
      const key = keyOf(resource);
      const wanted = resource.metadata.resourceVersion;
      for (;;) {
        const before = await this.#stored(key, wanted);
        const { uid, creationTimestamp } = before.resource.metadata;
        const metadata = { ...resource.metadata };
        if (uid !== undefined) metadata.uid = uid;
        if (creationTimestamp !== undefined) metadata.creationTimestamp = creationTimestamp;
        const stored = await this.#put(key, before.revision, { ...resource, metadata });
        if (stored) return stored;
        // Somebody was faster: with a version given, the next look says so.
      }
    });
  }

  delete(key: ResourceKey, options: DeleteOptions = {}): Promise<Resource> {
    return this.#run(async () => {
      for (;;) {
        const before = await this.#stored(key, options.resourceVersion);
        const bytes = this.#keys.key(key);
        const { won, now, again } = await this.#swap(bytes, before.revision, { requestDeleteRange: { key: bytes } });
        // Sent twice and gone now: it was this one, as far as anybody can tell.
        if (won || (again && !now)) return before.resource;
      }
    });
  }

  watch(options: WatchOptions): Watch {
    this.#checkOpen();
    const watch = new EtcdWatch(
      {
        client: this.#client,
        keys: this.#keys,
        newest: async () => (await this.#range({ key: this.#keys.under(), limit: 1, keysOnly: true })).header.revision,
        onStopped: (stopped) => this.#watches.delete(stopped),
      },
      options,
    );
    this.#watches.add(watch);
    return watch;
  }

  /** Of the member that is asked, and what is stored. */
  facts(): Promise<EtcdFacts> {
    return this.#run(async () => {
      const { response } = await this.#client.call(this.#client.methods.status, {});
      const kinds: { kind: string; count: number }[] = [];
      for (const kind of await this.kinds()) {
        const key = this.#keys.under(kind);
        kinds.push({ kind, count: (await this.#range({ key, rangeEnd: endOf(key), countOnly: true })).count });
      }
      const { version, dbSize: size, header } = response;
      return { endpoints: this.#client.config.endpoints, version, revision: header.revision, size, kinds };
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const watch of this.#watches) watch.stop();
    this.#client.stopRetrying();
    await Promise.allSettled(this.#running);
    this.#client.close();
  }

  #checkOpen(): void {
    if (this.#closed) throw new BrindleError('unavailable', 'the etcd store is closed');
  }

  /** `close` waits for what runs. */
  async #run<T>(operation: () => Promise<T>): Promise<T> {
    this.#checkOpen();
    const running = operation();
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async #range(request: RangeRequest): Promise<RangeResponse> {
    return (await this.#client.call(this.#client.methods.range, request)).response;
  }

  async #read(key: ResourceKey): Promise<{ resource: Resource; revision: Revision } | null> {
    const [kv] = (await this.#range({ key: this.#keys.key(key) })).kvs;
    return kv ? { resource: decodeValue(kv).resource, revision: kv.modRevision } : null;
  }

  /** `not-found`; `conflict` when `version` is given and is another. */
  async #stored(key: ResourceKey, version: string | undefined): Promise<{ resource: Resource; revision: Revision }> {
    const stored = await this.#read(key);
    if (!stored) throw new BrindleError('not-found', `${keyText(key)} does not exist`);
    if (version !== undefined && version !== String(stored.revision)) {
      throw new BrindleError(
        'conflict',
        `${keyText(key)} has changed: it is at version ${stored.revision}, not ${version}`,
        { remedy: 'read it again and repeat the change' },
      );
    }
    return stored;
  }

  async #list(kind: string, namespace: string | undefined): Promise<ListResult> {
    const prefix = this.#keys.under(kind, namespace);
    const rangeEnd = endOf(prefix);
    const found: { key: ResourceKey; resource: Resource }[] = [];
    let revision: Revision | undefined;
    for (let key = prefix; ; ) {
      const page = await this.#range({ key, rangeEnd, limit: PAGE, ...(revision === undefined ? {} : { revision }) });
      revision ??= page.header.revision;
      for (const kv of page.kvs) {
        const parsed = this.#keys.parse(kv.key);
        if (parsed) found.push({ key: parsed, resource: decodeValue(kv).resource });
      }
      const last = page.kvs.at(-1);
      if (!page.more || !last) break;
      key = Buffer.concat([last.key, Buffer.from([0])]);
    }
    // etcd's order is that of the whole key, where `a-b/` comes before `a/`.
    found.sort((a, b) => compare(a.key.namespace, b.key.namespace) || compare(a.key.name, b.key.name));
    return { resources: found.map(({ resource }) => resource), revision };
  }

  /** Writes when the key is at `revision` (0: absent); null when it is not. */
  async #put(key: ResourceKey, revision: Revision, resource: Resource): Promise<Resource | null> {
    const write = randomUUID();
    const bytes = this.#keys.key(key);
    const value = encodeValue(resource, write);
    if (value.length > MAX_VALUE) {
      throw new BrindleError(
        'invalid-argument',
        `${keyText(key)} has ${value.length} bytes, at most ${MAX_VALUE} are stored`,
        { remedy: 'split it' },
      );
    }
    const { won, now, at, again } = await this.#swap(bytes, revision, { requestPut: { key: bytes, value } });
    if (won) return decodeValue({ key: bytes, value, modRevision: at }).resource;
    if (!again || !now) return null;
    const found = decodeValue(now);
    return found.write === write ? found.resource : null;
  }

  async #swap(
    key: Buffer,
    modRevision: Revision,
    request: RequestOp,
  ): Promise<{ won: boolean; now: KeyValue | undefined; at: Revision; again: boolean }> {
    const { response, again } = await this.#client.call(this.#client.methods.txn, {
      compare: [{ key, result: 0, target: 2, modRevision }],
      success: [request],
      failure: [{ requestRange: { key } }],
    });
    const now = response.succeeded ? undefined : response.responses[0]?.responseRange?.kvs[0];
    return { won: response.succeeded, now, at: response.header.revision, again };
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** RFC 3339 in UTC, whole seconds, as Kubernetes writes it. */
function timestamp(wall: number): string {
  return `${new Date(wall).toISOString().slice(0, 19)}Z`;
}
