// What the Docker driver needs from the rest of the agent. The agent plugs the real ones in; tests plug fakes.
import type { Clock } from '#base/clock.ts';
import type { Logger } from '#base/log.ts';
import type { Attachment } from '#model/attachment.ts';
import type { Resource, ResourceKey } from '#model/resource.ts';
import type { Family, IpAddress } from '#net/address.ts';

/** As `ipam/allocator.ts` has it; see there. */
export interface Addresses {
  assign(request: {
    readonly handle: string;
    readonly families?: readonly Family[];
    readonly pools?: Readonly<Partial<Record<Family, readonly string[]>>>;
    readonly requested?: readonly IpAddress[];
    readonly namespaceLabels?: Readonly<Record<string, string>>;
    readonly attach: (addresses: readonly IpAddress[]) => Attachment;
  }): Promise<{ readonly addresses: readonly IpAddress[]; readonly durable: Promise<void> }>;
  commit(handle: string): Promise<void>;
  amend(attachment: Attachment): Promise<void>;
  release(handle: string, vacated?: Promise<unknown>): Promise<boolean>;
  attachments(): Iterable<Attachment>;
}

/** Interfaces whose container's side Docker moves. */
export interface HalfWiring {
  /** Makes the pair, with the host's side routed and up. All or nothing. `mtu` in bytes; null: the fabric's. */
  wire(request: {
    readonly hostInterface: string;
    readonly temporary: string;
    readonly addresses: readonly IpAddress[];
    readonly mac: string;
    readonly mtu: number | null;
  }): void;
  /** Resolves when the pair is gone. Absent is no error. */
  unwire(hostInterface: string): Promise<void>;
  /** Where the container's side is. */
  half(hostInterface: string, temporary: string): 'absent' | 'here' | 'moved';
}

/** Routes of an interface whose endpoint is not known yet. */
export interface HeldRoutes {
  hold(endpointId: string, hostInterface: string, addresses: readonly IpAddress[]): void;
  drop(endpointId: string): void;
}

export interface Endpoints {
  /** Resolves when the endpoint's policy is in force in the kernel. */
  activate(endpoint: Resource): Promise<void>;
  deactivate(key: ResourceKey, containerId: string): void;
  namespaceLabels(namespace: string): Readonly<Record<string, string>>;
}

export interface KnownPool {
  readonly family: Family;
  readonly cidr: string;
  readonly disabled: boolean;
}

/** What is kept of a Docker network. */
export interface KnownNetwork {
  readonly id: string;
  /** Bytes; null: the fabric's. */
  readonly mtu: number | null;
}

export interface Networks {
  get(id: string): KnownNetwork | null;
  /** On disk when it returns. Throws `unavailable`. */
  put(network: KnownNetwork): void;
  delete(id: string): void;
}

export interface EngineContainer {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly endpoints: readonly { readonly endpointId: string; readonly network: string }[];
}

/** Docker's own API. Never to be asked while Docker waits for us: it would wait for ever. */
export interface Engine {
  /** Containers on any of these networks, by id. */
  containers(networkIds: readonly string[]): Promise<readonly EngineContainer[]>;
}

export interface DockerDependencies {
  /** Name of this host's Node. */
  readonly host: string;
  readonly addresses: Addresses;
  readonly wiring: HalfWiring;
  readonly routes: HeldRoutes;
  readonly endpoints: Endpoints;
  readonly pools: () => readonly KnownPool[];
  readonly networks: Networks;
  readonly engine: Engine;
  readonly clock: Clock;
  readonly log: Logger;
}
