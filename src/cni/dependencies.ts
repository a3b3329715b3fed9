// What the CNI verbs need from the rest of the agent. The agent plugs the real ones in; tests plug fakes.
import type { Attachment } from '#model/attachment.ts';
import type { Resource, ResourceKey } from '#model/resource.ts';
import type { Family, IpAddress } from '#net/address.ts';

/** As `ipam/allocator.ts` has it; see there. */
export interface AddressService {
  assign(request: {
    readonly handle: string;
    readonly families?: readonly Family[];
    readonly pools?: Readonly<Partial<Record<Family, readonly string[]>>>;
    readonly requested?: readonly IpAddress[];
    readonly namespaceLabels?: Readonly<Record<string, string>>;
    readonly attach: (addresses: readonly IpAddress[]) => Attachment;
  }): Promise<{
    readonly addresses: readonly IpAddress[];
    readonly attachment: Attachment;
    readonly durable: Promise<void>;
  }>;
  commit(handle: string): Promise<void>;
  release(handle: string, vacated?: Promise<unknown>): Promise<boolean>;
  get(handle: string): Attachment | null;
  attachments(): Iterable<Attachment>;
  unfinished(): Iterable<Attachment>;
  look(alive: ReadonlySet<string>, apart: number): readonly Attachment[];
  /** Why no address can be had; null while all is well. */
  readonly problem: string | null;
  readonly isCorrupt: boolean;
}

export interface WireRequest {
  readonly netns: string;
  readonly ifname: string;
  readonly hostInterface: string;
  readonly addresses: readonly IpAddress[];
  readonly mac: string;
  /** Bytes; null = the wiring's choice. */
  readonly mtu: number | null;
}

export interface Wired {
  readonly hostMac: string;
  readonly mac: string;
  readonly mtu: number;
  /** The container's next hops. */
  readonly gateways: { readonly 4: string; readonly 6: string };
}

/** Container interfaces in the kernel. */
export interface Wiring {
  /**
   * Makes the veth pair with addresses and routes on both sides; all or nothing. A stale host side interface of the name is
   * replaced. Throws `already-exists` when the container has an interface of the name, `not-found` or
   * `invalid-argument` with field `CNI_NETNS` when the namespace is none, `kernel`.
   */
  wire(request: WireRequest): Promise<Wired>;
  /** Removes the pair and its routes; resolves when it is gone, which takes the kernel about 20 ms. Absent is no error. */
  unwire(attachment: Pick<Attachment, 'hostInterface' | 'netns' | 'ifname'>): Promise<void>;
  /** What of the wiring is missing or different, in words; empty when all is as `wire` left it. */
  check(attachment: Attachment): Promise<readonly string[]>;
  /** All host side interfaces with our prefix. */
  hostInterfaces(): Promise<ReadonlySet<string>>;
}

/** Endpoints on their way to calculation and policy. */
export interface Endpoints {
  /** Resolves when the endpoint's policy is in force in the kernel. */
  activate(endpoint: Resource): Promise<void>;
  /** Takes the endpoint away, unless another container has taken its name. Does not wait for the kernel. */
  deactivate(key: ResourceKey, containerId: string): void;
  /** The labels of a namespace, for the namespaceSelector of pools; empty when unknown. */
  namespaceLabels(namespace: string): Readonly<Record<string, string>>;
}

/** What a network namespace path leads to. */
export interface Namespaces {
  /** `device:inode`; null when there is nothing or it is no network namespace. */
  identify(path: string): string | null;
  /** Of the agent itself, which is the one that containers are attached to. */
  readonly own: string | null;
}
