// Whoever has an address and labels: endpoints and network sets, and the profiles they inherit from.
// In: validated resources. Out: EndpointData, NetworkSetData, ProfileData.
// Rules (Calico): a pod has profiles `kns.<namespace>` and `ksa.<namespace>.<account>`; the first allows everything, both hand labels
// down. A pod that has finished owns no address. A pod on the host's network is no endpoint.
import type { HostEndpoint } from '#model/host-endpoint.ts';
import type { Namespace, Pod, ServiceAccount } from '#model/kubernetes-objects.ts';
import type { GlobalNetworkSet, NetworkSet } from '#model/network-set.ts';
import { parseProtocol } from '#model/port.ts';
import { keyOf, keyText } from '#model/resource.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { plainRule, type ProfileData } from '../policy.ts';
import type { Labels } from '../selector/selector.ts';
import {
  METADATA_NAME_LABEL,
  NAME_LABEL,
  NAMESPACE_LABEL,
  NAMESPACE_PREFIX,
  namespaceProfile,
  ORCHESTRATOR_LABEL,
  ownLabels,
  SERVICE_ACCOUNT_LABEL,
  SERVICE_ACCOUNT_PREFIX,
  serviceAccountProfile,
} from './labels.ts';

export interface NamedPort {
  readonly name: string;
  /** IANA number. */
  readonly protocol: number;
  readonly port: number;
}

export interface EndpointData {
  /** `keyText` of the resource: unique among all kinds. */
  readonly id: string;
  readonly kind: 'workload' | 'host';
  /** '' for a host endpoint. */
  readonly namespace: string;
  readonly name: string;
  /** `namespace/name` of the pod that it is or belongs to; null when it is of no pod. */
  readonly pod: string | null;
  /** Own labels with the worked-out ones, without inherited ones. */
  readonly labels: Labels;
  /** Names of profiles, in order. */
  readonly profiles: readonly string[];
  readonly addresses: readonly IpAddress[];
  readonly ports: readonly NamedPort[];
  /** The host it is on; null when not known. */
  readonly node: string | null;
  /** Of a host endpoint: `*`, a name, or null when only its addresses say which interface it is. Null for a pod. */
  readonly interfaceName: string | null;
}

export interface NetworkSetData {
  /** `keyText` of the resource. */
  readonly id: string;
  readonly labels: Labels;
  /** Names of profiles it inherits labels from. */
  readonly parents: readonly string[];
  readonly nets: readonly Prefix[];
}

/** An endpoint's protocol text or number as IANA number; TCP when absent. */
function portProtocol(protocol: string | number | undefined): number {
  return parseProtocol(protocol ?? 'TCP') ?? 0;
}

const FINISHED = new Set(['Succeeded', 'Failed', 'Completed']);
const POD_IP_ANNOTATION = 'cni.projectcalico.org/podIP';
const POD_IPS_ANNOTATION = 'cni.projectcalico.org/podIPs';

/** Whether the pod has ended, or has given its address back, which the CNI plugin says with an empty annotation. */
export function podHasFinished(pod: Pod): boolean {
  return FINISHED.has(pod.status?.phase ?? '') || pod.metadata.annotations?.[POD_IP_ANNOTATION] === '';
}

/** The addresses in the order of the status; empty before it has one and after it has finished. */
export function podAddresses(pod: Pod): IpAddress[] {
  if (podHasFinished(pod)) return [];
  const { podIPs, podIP } = pod.status ?? {};
  const annotations = pod.metadata.annotations ?? {};
  let texts: readonly string[] = [];
  if (podIPs?.length) texts = podIPs.map(({ ip }) => ip);
  else if (podIP) texts = [podIP];
  else texts = (annotations[POD_IPS_ANNOTATION] || annotations[POD_IP_ANNOTATION] || '').split(',');
  const addresses = texts.map((text) => IpAddress.tryParse(text.split('/')[0]!.trim()));
  return addresses.filter((address) => address !== null);
}

/** The name of the pod's host, or its host's address where no name is told; null when neither is. */
export function podNode({ spec, status }: Pod): string | null {
  return spec.nodeName || status?.hostIP || null;
}

/** null for a pod on the host's network, which is no endpoint. */
export function convertPod(pod: Pod): EndpointData | null {
  const { spec, metadata } = pod;
  if (spec.hostNetwork) return null;
  const namespace = metadata.namespace ?? '';
  const account = spec.serviceAccountName;
  // Init containers that restart run beside the others and may serve ports.
  const containers = [
    ...(spec.containers ?? []),
    ...(spec.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always'),
  ];
  return {
    id: keyText(keyOf(pod)),
    kind: 'workload',
    namespace,
    name: metadata.name,
    pod: `${namespace}/${metadata.name}`,
    labels: {
      ...ownLabels(metadata.labels),
      [NAMESPACE_LABEL]: namespace,
      [ORCHESTRATOR_LABEL]: 'k8s',
      ...(account ? { [SERVICE_ACCOUNT_LABEL]: account } : {}),
    },
    profiles: [namespaceProfile(namespace), ...(account ? [serviceAccountProfile(namespace, account)] : [])],
    addresses: podAddresses(pod),
    ports: containers.flatMap(({ ports = [] }) =>
      ports
        .filter(({ name }) => name)
        .map(({ name, protocol, containerPort }) => ({
          name: name!,
          protocol: portProtocol(protocol),
          port: containerPort,
        })),
    ),
    node: podNode(pod),
    interfaceName: null,
  };
}

export function convertWorkloadEndpoint(endpoint: WorkloadEndpoint): EndpointData {
  const { spec, metadata } = endpoint;
  const namespace = metadata.namespace ?? '';
  return {
    id: keyText(keyOf(endpoint)),
    kind: 'workload',
    namespace,
    name: metadata.name,
    pod: spec.pod === undefined ? null : `${namespace}/${spec.pod}`,
    labels: {
      ...ownLabels(metadata.labels),
      [NAMESPACE_LABEL]: namespace,
      ...(spec.orchestrator ? { [ORCHESTRATOR_LABEL]: spec.orchestrator } : {}),
      ...(spec.serviceAccountName ? { [SERVICE_ACCOUNT_LABEL]: spec.serviceAccountName } : {}),
    },
    profiles: spec.profiles,
    addresses: spec.ipNetworks.map((text) => Prefix.parseOrHost(text).address),
    ports: spec.ports
      .filter(({ name }) => name)
      .map(({ name, protocol, port }) => ({ name, protocol: portProtocol(protocol), port })),
    node: spec.node,
    interfaceName: spec.interfaceName,
  };
}

export function convertHostEndpoint(endpoint: HostEndpoint): EndpointData {
  const { spec, metadata } = endpoint;
  return {
    id: keyText(keyOf(endpoint)),
    kind: 'host',
    namespace: '',
    name: metadata.name,
    pod: null,
    labels: ownLabels(metadata.labels),
    profiles: spec.profiles ?? [],
    addresses: (spec.expectedIPs ?? []).map((text) => IpAddress.parse(text)),
    ports: (spec.ports ?? []).map(({ name, protocol, port }) => ({ name, protocol: portProtocol(protocol), port })),
    node: spec.node,
    interfaceName: spec.interfaceName ?? null,
  };
}

export function convertNetworkSet(set: NetworkSet | GlobalNetworkSet): NetworkSetData {
  const { metadata, spec } = set;
  const namespace = set.kind === 'NetworkSet' ? (metadata.namespace ?? '') : '';
  return {
    id: keyText(keyOf(set)),
    labels: { ...ownLabels(metadata.labels), ...(namespace ? { [NAMESPACE_LABEL]: namespace } : {}) },
    parents: namespace ? [namespaceProfile(namespace)] : [],
    nets: (spec.nets ?? []).map((net) => Prefix.parseOrHost(net)),
  };
}

function inherited(prefix: string, labels: Labels): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).map(([key, value]) => [prefix + key, value]));
}

/** The profile of a namespace by name and labels; a namespace that is only implied by its pods has none of its own. */
export function namespaceProfileData(name: string, labels: Labels = {}): ProfileData {
  return {
    id: namespaceProfile(name),
    labels: inherited(NAMESPACE_PREFIX, { ...labels, [METADATA_NAME_LABEL]: name, [NAME_LABEL]: name }),
    ingress: [plainRule('allow', 0)],
    egress: [plainRule('allow', 0)],
  };
}

export function convertNamespace(namespace: Namespace): ProfileData {
  return namespaceProfileData(namespace.metadata.name, namespace.metadata.labels);
}

export function convertServiceAccount(account: ServiceAccount): ProfileData {
  const { name, namespace = '', labels = {} } = account.metadata;
  return {
    id: serviceAccountProfile(namespace, name),
    labels: inherited(SERVICE_ACCOUNT_PREFIX, { ...labels, [NAME_LABEL]: name }),
    ingress: [],
    egress: [],
  };
}

/** What Calico's controllers give to host endpoints that they make: everything is allowed until a policy applies. */
export const DEFAULT_ALLOW_PROFILE: ProfileData = {
  id: 'projectcalico-default-allow',
  labels: {},
  ingress: [plainRule('allow', 0)],
  egress: [plainRule('allow', 0)],
};
