// The store interface that every driver (embedded, etcd, kubernetes) implements, and the contract between
// them and everybody else. The compliance suite beside it is what "implements" means.
import type { Resource, ResourceKey } from '#model/resource.ts';

/** Position in the store's history. Strictly increasing with every write; opaque to callers except for order. */
export type Revision = number;

export interface ListResult {
  readonly resources: readonly Resource[];
  /** The state listed is the state as of this revision; watch from it to miss nothing. */
  readonly revision: Revision;
}

export type StoreEvent =
  | { readonly type: 'put'; readonly key: ResourceKey; readonly resource: Resource; readonly revision: Revision }
  | { readonly type: 'delete'; readonly key: ResourceKey; readonly last: Resource | null; readonly revision: Revision };

export interface ListOptions {
  readonly namespace?: string;
}

export interface WatchOptions {
  /** Kinds to follow; absent = all. */
  readonly kinds?: readonly string[];
  /** Events with a revision greater than this are delivered. */
  readonly fromRevision: Revision;
  /** Events of one batch come in order of revision; batches come in order. Never called after `stop()`. */
  readonly onEvents: (events: readonly StoreEvent[]) => void;
  /**
   * The watch is in place, and everything up to this revision has been delivered. Called when it begins or comes back, and
   * now and then while nothing happens, by drivers that can tell.
   */
  readonly onProgress?: (revision: Revision) => void;
  /**
   * The watch has ended by itself: `compacted` (list again), or `unavailable` (watch again from the last revision
   * seen). Called at most once.
   */
  readonly onEnd: (error: Error) => void;
}

export interface Watch {
  stop(): void;
}

export interface DeleteOptions {
  /** When given, delete only this version, else error `conflict`. */
  readonly resourceVersion?: string;
}

/**
 * Resources go in validated and defaulted (see `model/registry.ts`); the store checks nothing but identity and version.
 * Every write returns the stored resource with its new `resourceVersion`. Errors are BrindleErrors: `not-found`,
 * `already-exists`, `conflict`, `unavailable`, `permission`, `corrupt`, `unsupported` (written by a newer version).
 */
export interface Store {
  get(key: ResourceKey): Promise<Resource | null>;
  list(kind: string, options?: ListOptions): Promise<ListResult>;
  /** The kinds (by `kindKey`) of which there are resources, also those that this version does not know. */
  kinds(): Promise<readonly string[]>;
  /** `metadata.uid` and `creationTimestamp` are kept when they are given (a move between stores), else set. */
  create(resource: Resource): Promise<Resource>;
  /** Compare-and-swap when `metadata.resourceVersion` is set (`conflict` when it is not the stored one), else overwrite. `not-found` when absent. */
  update(resource: Resource): Promise<Resource>;
  /** Returns what was deleted. `not-found` when absent. */
  delete(key: ResourceKey, options?: DeleteOptions): Promise<Resource>;
  watch(options: WatchOptions): Watch;
  close(): Promise<void>;
}
