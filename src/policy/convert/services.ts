// Where services are served. In: Service, EndpointSlice, Endpoints and the pods. Out: for each service the addresses, and with
// them the protocols and ports, that a rule's `services` means; and what kube-proxy makes of the services' own addresses.
// Rules: EndpointSlices (or, where there are none, Endpoints) say it. Where a service has neither, as in a set of manifests, what the
// control plane would make of its selector does: every pod that it selects and that has an address, at the pod's port for each
// targetPort. Readiness is not asked: a rule must not flap with a probe.
import type { EndpointSlice, Endpoints, Pod, Service } from '#model/kubernetes-objects.ts';
import { PROTOCOL_NUMBERS } from '#model/port.ts';
import { IpAddress } from '#net/address.ts';
import { podAddresses } from './endpoints.ts';

export interface ServiceMember {
  readonly address: IpAddress;
  /** IANA number. */
  readonly protocol: number;
  readonly port: number;
  /** The name of the service's port that leads here; '' when it has none. */
  readonly portName: string;
}

/** Where a service is served. `addresses` holds also those that serve no port. */
export interface ServiceData {
  readonly addresses: readonly IpAddress[];
  readonly members: readonly ServiceMember[];
}

export interface ServiceSources {
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  readonly endpoints: readonly Endpoints[];
  readonly pods: readonly Pod[];
}

const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

function protocolNumber(name: string | undefined): number {
  return PROTOCOL_NUMBERS[name ?? 'TCP'] ?? 0;
}

/** By `namespace/name`. */
export function convertServices({ services, slices, endpoints, pods }: ServiceSources): Map<string, ServiceData> {
  const found = new Map<string, { addresses: IpAddress[]; members: ServiceMember[] }>();
  const of = (key: string): { addresses: IpAddress[]; members: ServiceMember[] } => {
    let data = found.get(key);
    if (!data) found.set(key, (data = { addresses: [], members: [] }));
    return data;
  };
  const add = (
    key: string,
    texts: readonly string[],
    ports: readonly { name?: string; protocol?: string; port?: number }[] | undefined,
  ): void => {
    const data = of(key);
    for (const text of texts) {
      const address = IpAddress.tryParse(text);
      if (!address) continue; // an FQDN slice
      data.addresses.push(address);
      for (const { name = '', protocol, port } of ports ?? []) {
        if (port === undefined) continue;
        data.members.push({ address, protocol: protocolNumber(protocol), port, portName: name });
      }
    }
  };
  for (const { metadata, spec } of slices) {
    const name = metadata.labels?.[SERVICE_NAME_LABEL];
    if (!name) continue;
    for (const { addresses = [] } of spec.endpoints ?? []) add(`${metadata.namespace}/${name}`, addresses, spec.ports);
  }
  const sliced = new Set(found.keys());
  for (const { metadata, spec } of endpoints) {
    const key = `${metadata.namespace}/${metadata.name}`;
    if (sliced.has(key)) continue;
    for (const { addresses = [], notReadyAddresses = [], ports } of spec.subsets ?? []) {
      const texts = [...addresses, ...notReadyAddresses].map(({ ip }) => ip);
      add(key, texts, ports);
    }
  }
  const told = new Set(found.keys());
  for (const service of services) {
    const key = `${service.metadata.namespace}/${service.metadata.name}`;
    const data = of(key);
    if (told.has(key)) continue;
    for (const pod of selectedPods(service, pods)) {
      const addresses = podAddresses(pod);
      data.addresses.push(...addresses);
      for (const { name = '', protocol = 'TCP', port, targetPort } of service.spec.ports ?? []) {
        const number = resolveTarget(pod, protocol, targetPort ?? port);
        if (number === null) continue;
        for (const address of addresses) {
          data.members.push({ address, protocol: protocolNumber(protocol), port: number, portName: name });
        }
      }
    }
  }
  return found;
}

/** A service's own address and port, and where packets to it end up. */
export interface Frontend {
  /** `namespace/name`. */
  readonly service: string;
  readonly address: IpAddress;
  /** IANA number. */
  readonly protocol: number;
  readonly port: number;
  /** Of the same family. May be empty. */
  readonly backends: readonly ServiceMember[];
}

/** The addresses that services have of their own: cluster, external and load balancer addresses. */
export function serviceFrontends(services: readonly Service[], served: ReadonlyMap<string, ServiceData>): Frontend[] {
  return services.flatMap(({ metadata, spec, status }) => {
    const service = `${metadata.namespace}/${metadata.name}`;
    const balancer = (status as { loadBalancer?: { ingress?: { ip?: string }[] } } | undefined)?.loadBalancer;
    const texts = [spec.clusterIP, ...(spec.clusterIPs ?? []), ...(spec.externalIPs ?? [])];
    for (const { ip } of balancer?.ingress ?? []) texts.push(ip);
    const addresses = [...new Set(texts)]
      .map((text) => IpAddress.tryParse(text ?? ''))
      .filter((found) => found !== null);
    return addresses.flatMap((address) =>
      (spec.ports ?? []).map(({ name = '', protocol, port }) => {
        const number = protocolNumber(protocol);
        const backends = (served.get(service)?.members ?? []).filter(
          (member) =>
            member.portName === name && member.protocol === number && member.address.family === address.family,
        );
        return { service, address, protocol: number, port, backends };
      }),
    );
  });
}

/** A service without a selector, or with an empty one, selects nothing: somebody else says where it is served. */
function selectedPods({ spec, metadata }: Service, pods: readonly Pod[]): Pod[] {
  const wanted = Object.entries(spec.selector ?? {});
  if (wanted.length === 0 || spec.type === 'ExternalName') return [];
  return pods.filter(
    (pod) =>
      pod.metadata.namespace === metadata.namespace &&
      wanted.every(([key, value]) => pod.metadata.labels?.[key] === value),
  );
}

/** The number of a target port on a pod; null when the pod has no port of the name. */
function resolveTarget(pod: Pod, protocol: string, target: number | string): number | null {
  if (typeof target === 'number') return target;
  if (/^\d+$/.test(target)) return Number(target);
  for (const { ports = [] } of pod.spec.containers ?? []) {
    for (const port of ports)
      if (port.name === target && (port.protocol ?? 'TCP') === protocol) return port.containerPort;
  }
  return null;
}
