// What an attachment is called: its endpoint, its host side interface, its own MAC address. Pure.
// Kubernetes only when both K8S_POD_NAMESPACE and K8S_POD_NAME are there: podman sets the second alone.
import { createHash } from 'node:crypto';
import { nameFault } from '#model/formats.ts';
import type { Resource } from '#model/resource.ts';
import { type IpAddress, familyBits } from '#net/address.ts';
import { formatMac } from '#net/mac.ts';
import type { CniConfig } from './config.ts';
import type { CniEnvironment } from './environment.ts';

/** The profile of endpoints without Kubernetes: allows all until a policy selects them. */
const DEFAULT_ALLOW = 'projectcalico-default-allow';
const INTERFACE_PREFIX = 'cali';
/** As long as a resource name may be. */
const MAX_NAME = 253;

export interface Identity {
  readonly orchestrator: 'k8s' | 'cni';
  readonly namespace: string;
  readonly endpointName: string;
  readonly hostInterface: string;
  /** Locally administered; the same for the same attachment, so that a retried ADD gives the same. */
  readonly mac: string;
}

export function identify(environment: CniEnvironment, network: string, host: string): Identity {
  const { containerId, ifname, args } = environment;
  const { podNamespace, podName } = args;
  const isKubernetes = podNamespace !== null && podName !== null;
  const workload = isKubernetes ? podName : containerId;
  const key = isKubernetes ? `${podNamespace}.${podName}` : `${containerId}.${ifname}`;
  // The pod's first interface has the name that Calico gives it; a second one needs another.
  const hashed = isKubernetes && ifname !== 'eth0' ? `${key}.${ifname}` : key;
  const digest = createHash('sha1').update(`${network}/${containerId}/${ifname}`).digest();
  return {
    orchestrator: isKubernetes ? 'k8s' : 'cni',
    namespace: isKubernetes ? podNamespace : 'default',
    endpointName: endpointName([host, isKubernetes ? 'k8s' : 'cni', workload, ifname]),
    hostInterface:
      INTERFACE_PREFIX +
      createHash('sha1')
        .update(hashed)
        .digest('hex')
        .slice(0, 15 - INTERFACE_PREFIX.length),
    mac: formatMac(Uint8Array.of((digest[0]! & 0xfc) | 0x02, ...digest.subarray(1, 6))),
  };
}

/**
 * `node-k8s-pod-eth0` as Calico writes it: dashes inside a part are doubled. What a name cannot hold is replaced, and a
 * digest added, so that different workloads never share a name.
 */
function endpointName(parts: readonly string[]): string {
  const name = parts.map((part) => part.replaceAll('-', '--')).join('-');
  if (nameFault(name) === null) return name;
  const digest = createHash('sha1').update(name).digest('hex').slice(0, 10);
  const clean = name
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '-')
    .slice(0, MAX_NAME - digest.length - 1);
  return `${clean.replace(/-+$/, '')}-${digest}`;
}

export function endpointResource(
  environment: CniEnvironment,
  config: CniConfig,
  identity: Identity,
  host: string,
  addresses: readonly IpAddress[],
): Resource {
  const { containerId, ifname, args } = environment;
  const { orchestrator, namespace } = identity;
  const ipNetworks = addresses.map((address) => `${address}/${familyBits(address.family)}`);
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: {
      name: identity.endpointName,
      namespace,
      labels: {
        ...config.labels,
        'projectcalico.org/namespace': namespace,
        'projectcalico.org/orchestrator': orchestrator,
      },
    },
    spec: {
      orchestrator,
      workload: args.podName ?? containerId,
      node: host,
      containerID: containerId,
      ...(orchestrator === 'k8s' ? { pod: args.podName } : {}),
      endpoint: ifname,
      ipNetworks,
      profiles: [orchestrator === 'k8s' ? `kns.${namespace}` : DEFAULT_ALLOW],
      interfaceName: identity.hostInterface,
      mac: config.mac ?? identity.mac,
      ports: [],
    },
  };
}
