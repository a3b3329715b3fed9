// What a Docker endpoint is called: its interfaces, its MAC address, its WorkloadEndpoint. Pure.
// Labels of containers may hold anything; those that are no labels here (too long, blanks) are left out.
import { createHash } from 'node:crypto';
import { labelKeyFault, labelValueFault, nameFault } from '#model/formats.ts';
import type { Resource } from '#model/resource.ts';
import { IpAddress, familyBits } from '#net/address.ts';
import { formatMac } from '#net/mac.ts';
import type { EngineContainer } from './dependencies.ts';

/** The profile of endpoints without Kubernetes: allows all until a policy selects them. */
const DEFAULT_ALLOW = 'projectcalico-default-allow';
const NAMESPACE = 'default';
/** A label with the name of the Docker network, so that policies can keep networks apart. */
const NETWORK_LABEL = 'brindle.dev/docker-network';
const RESERVED = 'projectcalico.org/';
const MAX_NAME = 253;
const SUFFIX = 10;

const digestOf = (endpointId: string): string => createHash('sha1').update(endpointId).digest('hex');

/** `cali` and 11 hexadecimal digits. */
export function hostInterfaceOf(endpointId: string): string {
  return `cali${digestOf(endpointId).slice(0, 11)}`;
}

/** What the container's side is called until Docker has moved it. */
export function temporaryInterfaceOf(endpointId: string): string {
  return `brin${digestOf(endpointId).slice(0, 11)}`;
}

/** Locally administered; the same for the same endpoint, so that a repeated call gives the same. */
export function endpointMac(endpointId: string): string {
  const digest = createHash('sha1').update(endpointId).digest();
  return formatMac(Uint8Array.of((digest[0]! & 0xfc) | 0x02, ...digest.subarray(1, 6)));
}

export interface EndpointFacts {
  readonly host: string;
  /** Name of the Docker network. */
  readonly network: string;
  readonly endpointId: string;
  readonly addresses: readonly string[];
  readonly hostInterface: string;
  readonly mac?: string;
}

export function endpointResource(container: EngineContainer, facts: EndpointFacts): Resource {
  const { host, network, endpointId, hostInterface, mac } = facts;
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: {
      name: endpointName([host, 'docker', container.name, network], endpointId),
      namespace: NAMESPACE,
      labels: {
        ...usableLabels(container.labels),
        ...(labelValueFault(network) === null && { [NETWORK_LABEL]: network }),
        'projectcalico.org/namespace': NAMESPACE,
        'projectcalico.org/orchestrator': 'docker',
      },
    },
    spec: {
      orchestrator: 'docker',
      workload: container.name,
      node: host,
      containerID: container.id,
      endpoint: network,
      ipNetworks: facts.addresses.map((text) => {
        const address = IpAddress.parse(text);
        return `${address}/${familyBits(address.family)}`;
      }),
      profiles: [DEFAULT_ALLOW],
      interfaceName: hostInterface,
      ...(mac !== undefined && { mac }),
      ports: [],
    },
  };
}

/** `host-docker-container-network`; dashes inside a part are doubled, and what a name cannot hold is replaced. */
function endpointName(parts: readonly string[], endpointId: string): string {
  const name = parts.map((part) => part.replaceAll('-', '--')).join('-');
  if (nameFault(name) === null) return name;
  const clean = name
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '-')
    .slice(0, MAX_NAME - SUFFIX - 1);
  return `${clean.replace(/-+$/, '')}-${endpointId.slice(0, SUFFIX)}`;
}

function usableLabels(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels).filter(
      ([key, value]) => !key.startsWith(RESERVED) && labelKeyFault(key) === null && labelValueFault(value) === null,
    ),
  );
}
