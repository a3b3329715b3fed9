// What every resource looks like, whatever its kind: the Kubernetes object shape.

export interface Metadata {
  name: string;
  /** Absent on cluster-scoped kinds; `default` when a namespaced resource leaves it out. */
  namespace?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  /** Set by the store on creation, never changes. */
  uid?: string;
  /** Set by the store: the revision of the last write, decimal. Sent back unchanged for compare-and-swap. */
  resourceVersion?: string;
  /** Set by the store on creation, RFC 3339 in UTC. */
  creationTimestamp?: string;
}

export interface Resource<Spec = unknown, Status = unknown> {
  apiVersion: string;
  kind: string;
  metadata: Metadata;
  spec: Spec;
  status?: Status;
}

/** Identity of a resource inside a store. `namespace` is '' for cluster-scoped kinds. */
export interface ResourceKey {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

export function keyOf(resource: Resource): ResourceKey {
  return { kind: resource.kind, namespace: resource.metadata.namespace ?? '', name: resource.metadata.name };
}

/** `Kind/namespace/name` or `Kind/name`: unique, sortable, for maps and messages. */
export function keyText(key: ResourceKey): string {
  return key.namespace ? `${key.kind}/${key.namespace}/${key.name}` : `${key.kind}/${key.name}`;
}
