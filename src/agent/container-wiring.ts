// The CNI verbs' view of container interfaces, over the dataplane's wiring.
// In: requests of the verbs. Out: calls of EndpointWiring, in the terms of the verbs.
import type { WireRequest, Wired, Wiring } from '#cni/dependencies.ts';
import type { EndpointWiring } from '#dataplane/endpoint-wiring.ts';
import type { KernelAccess } from '#dataplane/kernel-access.ts';
import { GATEWAY_V4, HOST_LINK_LOCAL } from '#dataplane/ownership.ts';
import type { Attachment } from '#model/attachment.ts';
import { IpAddress } from '#net/address.ts';

const ETHERNET_MTU = 1500;
/** Addresses that only a default route leads to: the dummy address of RFC 7600, and one of the discard prefix of RFC 6666. */
const OUTSIDE = [IpAddress.parse('192.0.0.8'), IpAddress.parse('100::1')];

/** Told of each interface that was made, with its index on the host. */
export type OnWired = (hostInterface: string, index: number, addresses: readonly IpAddress[]) => void;

export class ContainerWiring implements Wiring {
  readonly #wiring: EndpointWiring;
  readonly #kernel: KernelAccess;
  readonly #onWired: OnWired;
  #mtu: number | null = null;

  constructor(wiring: EndpointWiring, kernel: KernelAccess, onWired: OnWired) {
    this.#wiring = wiring;
    this.#kernel = kernel;
    this.#onWired = onWired;
  }

  wire(request: WireRequest): Promise<Wired> {
    try {
      const mtu = request.mtu ?? this.#fabricMtu();
      const { hostMac, containerMac, hostIndex } = this.#wiring.wire({
        netnsPath: request.netns,
        containerInterface: request.ifname,
        hostInterface: request.hostInterface,
        addresses: request.addresses,
        mtu,
        containerMac: request.mac,
      });
      this.#onWired(request.hostInterface, hostIndex, request.addresses);
      return Promise.resolve({ hostMac, mac: containerMac, mtu, gateways: { 4: GATEWAY_V4, 6: HOST_LINK_LOCAL } });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** As `wire`, with the container's side left on the host under a temporary name. */
  wireHalf(request: {
    readonly hostInterface: string;
    readonly temporary: string;
    readonly addresses: readonly IpAddress[];
    readonly mac: string;
    readonly mtu: number | null;
  }): void {
    const { hostInterface, addresses, mac } = request;
    const { hostIndex } = this.#wiring.wire({
      netnsPath: null,
      containerInterface: request.temporary,
      hostInterface,
      addresses,
      mtu: request.mtu ?? this.#fabricMtu(),
      containerMac: mac,
    });
    this.#onWired(hostInterface, hostIndex, addresses);
  }

  half(hostInterface: string, temporary: string): 'absent' | 'here' | 'moved' {
    return this.#wiring.half(hostInterface, temporary);
  }

  async unwire({ hostInterface }: { readonly hostInterface: string }): Promise<void> {
    if (this.#wiring.unwire(hostInterface)) await this.#wiring.idle();
  }

  check(attachment: Attachment): Promise<readonly string[]> {
    const host = this.#kernel.host.netlink.getLink(attachment.hostInterface);
    if (!host) return Promise.resolve([`interface ${attachment.hostInterface} is missing on the host`]);
    return Promise.resolve(
      this.#wiring.check({
        netnsPath: attachment.netns,
        containerInterface: attachment.ifname,
        hostInterface: attachment.hostInterface,
        addresses: attachment.addresses.map((text) => IpAddress.parse(text)),
        mtu: host.mtu,
        ...(attachment.mac !== undefined && { containerMac: attachment.mac }),
      }),
    );
  }

  hostInterfaces(): Promise<ReadonlySet<string>> {
    return Promise.resolve(new Set(this.#wiring.list().map((link) => link.name)));
  }

  /** To be called when an interface of the host has changed. */
  forgetMtu(): void {
    this.#mtu = null;
  }

  /** The least MTU of the interfaces that traffic to the outside leaves by: no encapsulation, so nothing is taken off. */
  #fabricMtu(): number {
    if (this.#mtu !== null) return this.#mtu;
    const { netlink } = this.#kernel.host;
    const mtus = OUTSIDE.flatMap((address) => netlink.lookupRoute(address)?.nextHops ?? [])
      .map((hop) => (hop.ifindex === null ? undefined : netlink.getLink(hop.ifindex)?.mtu))
      .filter((mtu) => mtu !== undefined);
    this.#mtu = mtus.length > 0 ? Math.min(...mtus) : ETHERNET_MTU;
    return this.#mtu;
  }
}
