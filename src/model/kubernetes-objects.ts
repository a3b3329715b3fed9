// Kubernetes' own objects that policy reads: Namespace, ServiceAccount, Pod, Service, EndpointSlice, Endpoints, Node.
// They belong to the API server, which has validated them. Only the fields that matter here are checked; the others are let through.
// Traps: ServiceAccount, EndpointSlice and Endpoints have no spec, their fields are read as one; a pod's `ports` may declare
// the same name once for each protocol.
import { defineKind } from './kind.ts';
import type { Resource } from './resource.ts';
import { Int, OneOf, Open, type Static, Text, TextMap, Type } from './schema.ts';

const ContainerPort = Open({
  name: Type.Optional(Type.String()),
  containerPort: Int(1, 65_535),
  hostPort: Type.Optional(Int(0, 65_535)),
  protocol: Type.Optional(OneOf(['TCP', 'UDP', 'SCTP'])),
});
const Container = Open({
  name: Type.Optional(Type.String()),
  ports: Type.Optional(Type.Array(ContainerPort)),
  restartPolicy: Type.Optional(Type.String()),
});

export const PodSpec = Open({
  nodeName: Type.Optional(Type.String()),
  hostNetwork: Type.Optional(Type.Boolean()),
  serviceAccountName: Type.Optional(Type.String()),
  containers: Type.Optional(Type.Array(Container)),
  initContainers: Type.Optional(Type.Array(Container)),
});
export type PodSpec = Static<typeof PodSpec>;
const AddressList = Type.Optional(Type.Array(Open({ ip: Text('ip') })));
export const PodStatus = Open({
  phase: Type.Optional(Type.String()),
  podIP: Type.Optional(Type.String()),
  podIPs: AddressList,
  hostIP: Type.Optional(Type.String()),
  hostIPs: AddressList,
});
export type PodStatus = Static<typeof PodStatus>;
export type Pod = Resource<PodSpec, PodStatus>;

export type Namespace = Resource<object>;
export type ServiceAccount = Resource<object>;

export const ServiceSpec = Open({
  selector: Type.Optional(TextMap()),
  type: Type.Optional(Type.String()),
  clusterIP: Type.Optional(Type.String()),
  clusterIPs: Type.Optional(Type.Array(Type.String())),
  externalIPs: Type.Optional(Type.Array(Type.String())),
  ports: Type.Optional(
    Type.Array(
      Open({
        name: Type.Optional(Type.String()),
        protocol: Type.Optional(OneOf(['TCP', 'UDP', 'SCTP'])),
        port: Int(1, 65_535),
        targetPort: Type.Optional(Type.Unsafe<number | string>({ 'x-kubernetes-int-or-string': true })),
      }),
    ),
  ),
});
export type ServiceSpec = Static<typeof ServiceSpec>;
export type Service = Resource<ServiceSpec>;

const SlicePort = Open({
  name: Type.Optional(Type.String()),
  port: Type.Optional(Int(1, 65_535)),
  protocol: Type.Optional(OneOf(['TCP', 'UDP', 'SCTP'])),
});

export const EndpointSliceSpec = Open({
  addressType: Type.Optional(OneOf(['IPv4', 'IPv6', 'FQDN'])),
  endpoints: Type.Optional(Type.Array(Open({ addresses: Type.Optional(Type.Array(Type.String())) }))),
  ports: Type.Optional(Type.Array(SlicePort)),
});
export type EndpointSliceSpec = Static<typeof EndpointSliceSpec>;
export type EndpointSlice = Resource<EndpointSliceSpec>;

export const EndpointsSpec = Open({
  subsets: Type.Optional(
    Type.Array(
      Open({
        addresses: AddressList,
        notReadyAddresses: AddressList,
        ports: Type.Optional(Type.Array(SlicePort)),
      }),
    ),
  ),
});
export type EndpointsSpec = Static<typeof EndpointsSpec>;
export type Endpoints = Resource<EndpointsSpec>;

export const KubernetesNodeStatus = Open({
  addresses: Type.Optional(Type.Array(Open({ type: Type.String(), address: Type.String() }))),
});
export type KubernetesNode = Resource<object, Static<typeof KubernetesNodeStatus>>;

export const namespace = defineKind({
  apiVersion: 'v1',
  kind: 'Namespace',
  plural: 'namespaces',
  singular: 'namespace',
  shortNames: ['ns'],
  namespaced: false,
  description: 'A namespace of Kubernetes, or one that groups endpoints without it.',
  spec: Open({}),
  specOptional: true,
});

export const serviceAccount = defineKind({
  apiVersion: 'v1',
  kind: 'ServiceAccount',
  plural: 'serviceaccounts',
  singular: 'serviceaccount',
  shortNames: ['sa'],
  namespaced: true,
  description: 'What a pod runs as.',
  spec: Open({}),
  specOptional: true,
  flat: true,
});

export const pod = defineKind({
  apiVersion: 'v1',
  kind: 'Pod',
  plural: 'pods',
  singular: 'pod',
  shortNames: ['po'],
  namespaced: true,
  description: 'A pod of Kubernetes.',
  spec: PodSpec,
  specOptional: true,
  status: PodStatus,
});

export const service = defineKind({
  apiVersion: 'v1',
  kind: 'Service',
  plural: 'services',
  singular: 'service',
  shortNames: ['svc'],
  namespaced: true,
  description: 'A service of Kubernetes.',
  spec: ServiceSpec,
  specOptional: true,
});

export const endpointSlice = defineKind({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  plural: 'endpointslices',
  singular: 'endpointslice',
  namespaced: true,
  description: 'Where a service of Kubernetes is served.',
  spec: EndpointSliceSpec,
  specOptional: true,
  flat: true,
});

export const endpoints = defineKind({
  apiVersion: 'v1',
  kind: 'Endpoints',
  plural: 'endpoints',
  singular: 'endpoints',
  shortNames: ['ep'],
  namespaced: true,
  description: 'Where a service of Kubernetes is served, in the old form.',
  spec: EndpointsSpec,
  specOptional: true,
  flat: true,
});

export const kubernetesNode = defineKind({
  apiVersion: 'v1',
  kind: 'Node',
  plural: 'nodes',
  singular: 'node',
  shortNames: ['no'],
  namespaced: false,
  description: 'A node of Kubernetes.',
  spec: Open({}),
  specOptional: true,
  status: KubernetesNodeStatus,
});

/** All of this file, for the registry. */
export const KUBERNETES_OBJECTS = [
  namespace,
  serviceAccount,
  pod,
  service,
  endpointSlice,
  endpoints,
  kubernetesNode,
] as const;
