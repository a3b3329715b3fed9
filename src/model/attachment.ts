// What a host remembers of each container interface that it attached. The IPAM journal keeps it on local disk, so that
// DEL, CHECK and GC, and the endpoints themselves, survive kill -9 and a store that is away.
import type { Resource } from './resource.ts';

export interface Attachment {
  /** `network/container id/interface`: what CNI calls an attachment. */
  readonly handle: string;
  readonly network: string;
  readonly containerId: string;
  /** The interface inside the container. */
  readonly ifname: string;
  /** The path as the runtime gave it, and `device:inode` of what was there, null when it could not be read. */
  readonly netns: string;
  readonly netnsId: string | null;
  /** Without prefix length, IPv4 first. */
  readonly addresses: readonly string[];
  readonly hostInterface: string;
  /** Of the container's side; absent while the kernel's choice is not known. */
  readonly mac?: string;
  /** The WorkloadEndpoint to be found in the store while the container lives; null until it is known whose it is. */
  readonly endpoint: Resource | null;
  /** For an address that Docker asked for. */
  readonly docker?: DockerBinding;
  /** Milliseconds since the Unix epoch. */
  readonly createdAt: number;
}

/** Docker asks for an address first, and names the endpoint that it is for later. */
export interface DockerBinding {
  readonly networkId: string;
  readonly endpointId: string;
}

export function attachmentHandle(network: string, containerId: string, ifname: string): string {
  return `${network}/${containerId}/${ifname}`;
}
