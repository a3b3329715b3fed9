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

/** Identity of a resource inside a store. `kind` is a `kindKey`; `namespace` is '' for cluster-scoped kinds. */
export interface ResourceKey {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** Groups whose kinds go by their bare name in a store: ours, Calico's, and the Kubernetes core group (''). */
const BARE_GROUPS = ['projectcalico.org', 'brindle.dev', ''];
/** Kinds of the core group that Calico has too; the bare name is Calico's. */
const CORE_NAMESAKES = ['Node'];

/**
 * What a kind is called inside a store and in keys: the kind itself, or `Kind.group` for kinds of other groups, because
 * `NetworkPolicy` is both Calico's and (as `NetworkPolicy.networking.k8s.io`) Kubernetes'. Kubernetes' Node is `Node.core`.
 */
export function kindKey(apiVersion: string, kind: string): string {
  const group = apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : '';
  if (!BARE_GROUPS.includes(group)) return `${kind}.${group}`;
  return group === '' && CORE_NAMESAKES.includes(kind) ? `${kind}.core` : kind;
}

export function keyOf(resource: Pick<Resource, 'apiVersion' | 'kind' | 'metadata'>): ResourceKey {
  const { namespace, name } = resource.metadata;
  return { kind: kindKey(resource.apiVersion, resource.kind), namespace: namespace ?? '', name };
}

/** `Kind/namespace/name` or `Kind/name`: unique, sortable, for maps and messages. */
export function keyText(key: ResourceKey): string {
  return key.namespace ? `${key.kind}/${key.namespace}/${key.name}` : `${key.kind}/${key.name}`;
}
