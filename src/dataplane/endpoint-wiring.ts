// Gives a container its interface, and takes it away. In: the container's namespace, names and addresses. Out: a veth
// pair, addresses, routes and neighbours on both sides, as the kernel contract of docs/design/overview.md says:
//
//   container                                   host
//   eth0  10.1.0.5/32, fd00::5/128  ---veth---  caliX  ee:ee:ee:ee:ee:ee, fe80::ecee:eeff:feee:eeee
//   169.254.1.1 dev eth0 scope link             10.1.0.5 dev caliX scope link
//   default via 169.254.1.1                     fd00::5 dev caliX
//   default via fe80::ecee:eeff:feee:eeee       proxy_arp, strict rp_filter, forwarding, no RA, no DAD
//
// All of it is synchronous and takes about a millisecond: it is what a container runtime waits for.
//
// Traps:
// - Deleting an interface takes the kernel 15 to 20 ms, whether one or fifty. `unwire` therefore only takes it down and
//   moves it to a link group; the group is deleted in the background. README.md has the measurements.
// - Setting an interface down drops its routes, IPv4 ones without a notification.
// - The kernel puts a new IPv6 address into service (local route, multicast group) later, in a work queue that also
//   waits for the routing lock. A packet that comes first is lost, and the next neighbour solicitation follows a second
//   later. So we write a short-lived local route ourselves, and the neighbour entries on both sides.
// - rp_filter in force is the maximum of the interface's and `all`: see host-settings.ts.
import { randomBytes } from 'node:crypto';
import { BrindleError, errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import { IpAddress } from '#net/address.ts';
import { formatMac, parseMac } from '#net/mac.ts';
import { Prefix } from '#net/prefix.ts';
import { isKernelError } from '#netlink/errors.ts';
import type { Link, Operation } from '#netlink/types.ts';
import { checkInterfaceName } from '#sys/sockopt.ts';
import type { KernelAccess, Namespace } from './kernel-access.ts';
import {
  DOOMED_GROUP,
  DOOMED_GROUPS,
  GATEWAY_V4,
  HOST_LINK_LOCAL,
  HOST_MAC,
  INTERFACE_PREFIX,
  isDoomed,
  ROUTE_PROTOCOL,
} from './ownership.ts';

const RTPROT_KERNEL = 2;
const RTPROT_BOOT = 3;
const RT_TABLE_LOCAL = 255;
const IPV6_METRIC = 1024;
const KERNEL_CATCHES_UP_SECONDS = 10;
/** Interfaces deleted by one message: the kernel holds its routing lock for about 0.3 ms for each. */
const DELETED_TOGETHER = 16;
const MTU_MIN = 68; // RFC 791
const MTU_MIN_V6 = 1280; // RFC 8200 section 5
const MTU_MAX = 65535;
const DEFAULT_V4 = Prefix.parse('0.0.0.0/0');
const DEFAULT_V6 = Prefix.parse('::/0');

export interface WireRequest {
  /**
   * Path of the container's network namespace. Null: the container's side is left in the host's own namespace, down and
   * without addresses, for somebody who moves it and sets it up, as Docker does.
   */
  readonly netnsPath: string | null;
  /** Name inside, usually `eth0`; the temporary name when it is left on the host. */
  readonly containerInterface: string;
  /** Name on the host, with our prefix. */
  readonly hostInterface: string;
  /** At least one; of either family. */
  readonly addresses: readonly IpAddress[];
  /** 68 to 65535, with IPv6 at least 1280. */
  readonly mtu: number;
  /** A unicast MAC address; absent: a random, locally administered one. */
  readonly containerMac?: string | undefined;
}

export interface WiredEndpoint {
  readonly hostMac: string;
  readonly containerMac: string;
  readonly hostIndex: number;
  readonly containerIndex: number;
}

export class EndpointWiring {
  readonly #kernel: KernelAccess;
  readonly #log: Logger;
  #purging: Promise<void> | null = null;
  /** Groups with interfaces to delete, and how many. */
  readonly #doomed = new Map<number, number>();
  #group = DOOMED_GROUP;

  constructor(kernel: KernelAccess, log: Logger) {
    this.#kernel = kernel;
    this.#log = log;
  }

  /**
   * Makes the interface and returns when packets can flow. On any error nothing is left behind. Throws
   * `invalid-argument` for a bad request, `not-found` when the namespace is gone, `already-exists` when an interface
   * of either name is there or an address is routed to another interface, and KernelError.
   */
  wire(request: WireRequest): WiredEndpoint {
    const containerMac = checkRequest(request);
    if (request.netnsPath === null) return this.#wireHalf(request, containerMac);
    const container = this.#kernel.open(request.netnsPath);
    try {
      if (container.id === this.#kernel.host.id) {
        throw new BrindleError('invalid-argument', `${request.netnsPath} is the host's own network namespace`, {
          field: 'netnsPath',
          remedy: 'containers on the host network need no interface; do not call the plugin for them',
        });
      }
      const link = this.#createVeth(request, container, containerMac);
      const containerIndex = link.peerIndex ?? 0;
      try {
        this.#wireHost(request, link.index, containerMac);
        wireContainer(request, container, containerIndex);
      } catch (error) {
        this.unwire(request.hostInterface);
        throw error;
      }
      return { hostMac: HOST_MAC, containerMac, hostIndex: link.index, containerIndex };
    } finally {
      container.close();
    }
  }

  #wireHalf(request: WireRequest, containerMac: string): WiredEndpoint {
    const link = this.#createVeth(request, this.#kernel.host, containerMac);
    try {
      this.#wireHost(request, link.index, containerMac);
    } catch (error) {
      this.unwire(request.hostInterface);
      throw error;
    }
    return { hostMac: HOST_MAC, containerMac, hostIndex: link.index, containerIndex: link.peerIndex ?? 0 };
  }

  /** Where the container's side of an interface that was made without a namespace is now. */
  half(hostInterface: string, temporaryName: string): 'absent' | 'here' | 'moved' {
    const { netlink } = this.#kernel.host;
    const link = netlink.getLink(hostInterface);
    if (!link || isDoomed(link.group)) return 'absent';
    return netlink.getLink(temporaryName)?.index === link.peerIndex && link.peerNamespace === null ? 'here' : 'moved';
  }

  /**
   * Takes an endpoint out of service at once: its host routes are gone and its interface is down when this returns.
   * The interface itself is deleted soon after, in the background. False when there was none (or it was doomed
   * already).
   */
  unwire(hostInterface: string): boolean {
    const [found, set] = this.#kernel.host.netlink.execute([
      { op: 'link-get', link: hostInterface },
      { op: 'link-set', link: hostInterface, settings: { up: false, group: this.#group } },
    ]);
    if (isKernelError(set?.error, 'ENODEV')) return false;
    if (set?.error) throw set.error;
    const members = (this.#doomed.get(this.#group) ?? 0) + 1;
    this.#doomed.set(this.#group, members);
    if (members >= DELETED_TOGETHER) this.#nextGroup();
    this.#purge();
    return !isDoomed(found?.link?.group ?? 0);
  }

  /**
   * What is wrong with an endpoint, sentence by sentence; empty when all is as `wire` left it. Throws `not-found` when
   * the namespace is gone.
   */
  check(request: WireRequest): string[] {
    checkRequest(request);
    if (request.netnsPath === null) return checkHost(request, this.#kernel.host);
    const container = this.#kernel.open(request.netnsPath);
    try {
      return [...checkHost(request, this.#kernel.host), ...checkContainer(request, container)];
    } finally {
      container.close();
    }
  }

  /** Host side interfaces that are in service, by our prefix. */
  list(): Link[] {
    return this.#kernel.host.netlink
      .listLinks()
      .filter((link) => link.name.startsWith(INTERFACE_PREFIX) && link.kind === 'veth' && !isDoomed(link.group));
  }

  /** Deletes what a crash left half-deleted. To be called once at the start. */
  cleanLeftovers(): Promise<void> {
    for (const { group } of this.#kernel.host.netlink.listLinks()) {
      if (isDoomed(group)) this.#doomed.set(group, (this.#doomed.get(group) ?? 0) + 1);
    }
    this.#purge();
    return this.idle();
  }

  /** Resolves when no deletion is under way. */
  async idle(): Promise<void> {
    while (this.#purging) await this.#purging;
  }

  #createVeth(request: WireRequest, container: Namespace, containerMac: string): Link {
    const { hostInterface: name, mtu } = request;
    const hasV6 = request.addresses.some((a) => a.family === 6);
    const operations: Operation[] = [
      {
        op: 'veth-add',
        veth: {
          name,
          mac: HOST_MAC,
          mtu,
          peer: {
            name: request.containerInterface,
            mac: containerMac,
            mtu,
            ...(request.netnsPath !== null && { netnsFd: container.fd }),
          },
        },
      },
      {
        op: 'link-set',
        link: name,
        settings: {
          ipv4: { proxyArp: 1, forwarding: 1, rpFilter: 1 },
          ...(hasV6 ? { ipv6AutoLinkLocal: false } : {}),
        },
      },
      { op: 'link-get', link: name },
    ];
    let [added, set, found] = this.#kernel.host.netlink.execute(operations);
    if (isKernelError(added?.error, 'EEXIST')) {
      this.#resolveConflict(request, container);
      [added, set, found] = this.#kernel.host.netlink.execute(operations);
    }
    if (added?.error) throw added.error;
    const error = set?.error ?? found?.error;
    if (!error && found?.link) return found.link;
    this.unwire(name);
    throw error ?? new BrindleError('internal', `the kernel does not know ${name}, which it has just made`);
  }

  /** One of the two names is taken. Waits for a deletion when that is all that is in the way, else throws. */
  #resolveConflict(request: WireRequest, container: Namespace): void {
    const { host } = this.#kernel;
    const onHost = host.netlink.getLink(request.hostInterface);
    const inside = container.netlink.getLink(request.containerInterface);
    const other = inside?.peerIndex ? host.netlink.getLink(inside.peerIndex) : null;
    const otherEnd = other?.name.startsWith(INTERFACE_PREFIX) ? other : null;
    for (const link of [onHost, otherEnd]) {
      if (link && isDoomed(link.group)) host.netlink.execute([{ op: 'link-delete', link: link.index }]);
    }
    if (onHost && !isDoomed(onHost.group)) {
      throw new BrindleError('already-exists', `interface ${request.hostInterface} exists on the host`, {
        field: 'hostInterface',
        remedy: 'remove the container it belongs to first',
      });
    }
    if (inside && !(otherEnd && isDoomed(otherEnd.group))) {
      throw new BrindleError(
        'already-exists',
        `interface ${request.containerInterface} exists in ${request.netnsPath === null ? "the host's own namespace" : `network namespace ${request.netnsPath}`}`,
        { field: 'containerInterface', remedy: 'remove it, or choose another interface name' },
      );
    }
  }

  #wireHost(request: WireRequest, index: number, containerMac: string): void {
    const { host } = this.#kernel;
    const name = request.hostInterface;
    const operations: Operation[] = [
      { op: 'link-set', link: index, settings: { up: true } },
      { op: 'proxy-delay', family: 4, ifindex: index, delayMs: 0 },
    ];
    if (request.addresses.some((a) => a.family === 6)) {
      // Before the link comes up, or it would send a router solicitation.
      const conf = (parameter: string) => ['ipv6', 'conf', name, parameter];
      host.setSysctls([
        [conf('accept_ra'), 0],
        [conf('accept_dad'), 0],
        [conf('forwarding'), 1],
        [conf('proxy_ndp'), 1],
      ]);
      const address = IpAddress.parse(HOST_LINK_LOCAL);
      operations.push(
        { op: 'address-add', address: { ifindex: index, address, prefixLength: 64, noDad: true } },
        atOnce(address, index),
      );
    }
    // Permanent ones do not count against the kernel's limit of neighbours (gc_thresh3, 1 024 for all namespaces
    // together), at which packets to new containers would be dropped.
    for (const address of request.addresses) {
      operations.push({ op: 'neighbour-replace', neighbour: { ifindex: index, address, mac: containerMac } });
    }
    const first = operations.length;
    for (const address of request.addresses) {
      const route = { destination: Prefix.host(address), protocol: ROUTE_PROTOCOL, nextHops: [{ ifindex: index }] };
      operations.push({ op: 'route-add', route });
    }
    const outcomes = host.netlink.execute(operations);
    for (const [i, { error }] of outcomes.entries()) {
      if (i >= first && isKernelError(error, 'EEXIST')) throw routeConflict(host, request.addresses[i - first]!, error);
      if (error) throw error;
    }
  }

  #purge(): void {
    if (this.#purging) return;
    const failed = new Map<number, number>();
    const run = async (): Promise<void> => {
      // What is taken down in the same turn goes together.
      await new Promise((resolve) => setImmediate(resolve));
      for (;;) {
        const [next] = this.#doomed;
        if (!next) break;
        const [group, members] = next;
        this.#doomed.delete(group);
        if (group === this.#group) this.#nextGroup(); // what comes from now on is for a later round
        if (!(await this.#deleteGroup(group))) failed.set(group, members);
      }
      this.#purging = null;
      for (const [group, members] of failed) this.#doomed.set(group, members);
    };
    this.#purging = run();
  }

  #nextGroup(): void {
    this.#group = DOOMED_GROUP + ((this.#group - DOOMED_GROUP + 1) % DOOMED_GROUPS);
  }

  /** False when it has to be tried again, with the next unwire. */
  async #deleteGroup(group: number): Promise<boolean> {
    try {
      const [outcome] = await this.#kernel.host.netlink.executeAsync([{ op: 'group-delete', group }]);
      // ENODEV: no interface in the group.
      if (outcome?.error && !isKernelError(outcome.error, 'ENODEV')) throw outcome.error;
      return true;
    } catch (error) {
      this.#log.warn({ error: errorText(error) }, 'interfaces out of service could not be deleted; tried again later');
      return false;
    }
  }
}

/** Inside the container: loopback up, address, gateway, default route; all in one send. */
function wireContainer(request: WireRequest, container: Namespace, index: number): void {
  const operations: Operation[] = [
    { op: 'link-set', link: 'lo', settings: { up: true } },
    { op: 'link-set', link: index, settings: { up: true } },
  ];
  const families = new Set(request.addresses.map((a) => a.family));
  if (families.has(6)) {
    // Runtimes switch IPv6 off in containers that are not told otherwise.
    const conf = (name: string, parameter: string) => ['ipv6', 'conf', name, parameter];
    container.setSysctls([
      [conf('lo', 'disable_ipv6'), 0],
      [conf(request.containerInterface, 'disable_ipv6'), 0],
      [conf(request.containerInterface, 'accept_dad'), 0],
      [conf(request.containerInterface, 'accept_ra'), 0],
    ]);
  }
  for (const address of request.addresses) {
    const prefixLength = address.family === 4 ? 32 : 128;
    const noDad = address.family === 6;
    operations.push({ op: 'address-add', address: { ifindex: index, address, prefixLength, noDad } });
    if (noDad) operations.push(atOnce(address, index));
  }
  if (families.has(4)) {
    const gateway = IpAddress.parse(GATEWAY_V4);
    const direct = { destination: Prefix.host(gateway), protocol: RTPROT_BOOT, nextHops: [{ ifindex: index }] };
    const byDefault = { destination: DEFAULT_V4, protocol: RTPROT_BOOT, nextHops: [{ ifindex: index, gateway }] };
    operations.push(
      { op: 'neighbour-replace', neighbour: { ifindex: index, address: gateway, mac: HOST_MAC } },
      { op: 'route-add', route: direct },
      { op: 'route-add', route: byDefault },
    );
  }
  if (families.has(6)) {
    const gateway = IpAddress.parse(HOST_LINK_LOCAL);
    const byDefault = { destination: DEFAULT_V6, protocol: RTPROT_BOOT, nextHops: [{ ifindex: index, gateway }] };
    operations.push(
      { op: 'neighbour-replace', neighbour: { ifindex: index, address: gateway, mac: HOST_MAC, router: true } },
      { op: 'route-add', route: byDefault },
    );
  }
  for (const [i, { error }] of container.netlink.execute(operations).entries()) {
    if (operations[i]?.op === 'route-add' && isKernelError(error, 'EEXIST')) {
      throw new BrindleError('already-exists', `${request.netnsPath} has a default route already`, {
        remedy: 'only the first network of a container can be this one',
        cause: error,
      });
    }
    if (error) throw error;
  }
}

/** What the kernel does for an IPv6 address a moment later for good. */
function atOnce(address: IpAddress, ifindex: number): Operation {
  const route = {
    destination: Prefix.host(address),
    protocol: RTPROT_KERNEL,
    table: RT_TABLE_LOCAL,
    type: 'local' as const,
    // One of its own for each interface: all have the same link-local address.
    metric: IPV6_METRIC + ifindex,
    expiresSeconds: KERNEL_CATCHES_UP_SECONDS,
    nextHops: [{ ifindex }],
  };
  return { op: 'route-replace', route };
}

function routeConflict(host: Namespace, address: IpAddress, cause: unknown): BrindleError {
  const destination = Prefix.host(address);
  const other = host.netlink.listRoutes({ family: address.family }).find((r) => r.destination.equals(destination));
  const index = other?.nextHops[0]?.ifindex;
  const name = index ? (host.netlink.getLink(index)?.name ?? `interface ${index}`) : (other?.type ?? 'somewhere else');
  return new BrindleError('already-exists', `address ${address} is already routed to ${name}`, {
    field: 'addresses',
    remedy: 'the address belongs to another container, or its route is left over; remove that one first',
    cause,
  });
}

/** Throws `invalid-argument`. Returns the container's MAC address. */
function checkRequest(request: WireRequest): string {
  const fail = (field: string, reason: string, remedy?: string): never => {
    throw new BrindleError('invalid-argument', reason, { field, remedy });
  };
  checkInterfaceName(request.hostInterface, 'hostInterface');
  checkInterfaceName(request.containerInterface, 'containerInterface');
  if (!request.hostInterface.startsWith(INTERFACE_PREFIX)) {
    fail('hostInterface', `"${request.hostInterface}" does not begin with "${INTERFACE_PREFIX}"`);
  }
  if (request.netnsPath === null && request.containerInterface.startsWith(INTERFACE_PREFIX)) {
    fail('containerInterface', `"${request.containerInterface}" begins with "${INTERFACE_PREFIX}"`);
  }
  if (request.containerInterface === 'lo') fail('containerInterface', 'the loopback interface cannot be wired');
  if (request.addresses.length === 0) fail('addresses', 'an endpoint needs at least one address');
  const seen = new Set<string>();
  for (const address of request.addresses) {
    if (address.isUnspecified() || address.isLoopback() || address.isMulticast() || address.isLinkLocal()) {
      fail('addresses', `${address} cannot be the address of a container`);
    }
    if (seen.has(`${address}`)) fail('addresses', `${address} is given twice`);
    seen.add(`${address}`);
  }
  const min = request.addresses.some((a) => a.family === 6) ? MTU_MIN_V6 : MTU_MIN;
  if (!Number.isInteger(request.mtu) || request.mtu < min || request.mtu > MTU_MAX) {
    fail('mtu', `MTU ${request.mtu} is not in ${min}..${MTU_MAX}`);
  }
  if (request.containerMac === undefined) return randomMac();
  const mac = parseMac(request.containerMac);
  if (mac[0]! & 1) fail('containerMac', `${request.containerMac} is a multicast address`);
  if (mac.every((octet) => octet === 0)) fail('containerMac', `${request.containerMac} is no address`);
  return formatMac(mac);
}

/** Locally administered, unicast (IEEE 802). */
function randomMac(): string {
  const bytes = Uint8Array.from(randomBytes(6));
  bytes[0] = (bytes[0]! & 0xfc) | 0x02;
  return formatMac(bytes);
}

function checkHost(request: WireRequest, host: Namespace): string[] {
  const name = request.hostInterface;
  const link = host.netlink.getLink(name);
  if (!link || isDoomed(link.group)) return [`interface ${name} does not exist on the host`];
  const problems: string[] = [];
  if (!link.up) problems.push(`interface ${name} is down on the host`);
  if (link.mac !== HOST_MAC) problems.push(`interface ${name} has MAC address ${link.mac}, not ${HOST_MAC}`);
  const routes = host.netlink.listRoutes({ ifindex: link.index });
  for (const address of request.addresses) {
    const destination = Prefix.host(address);
    if (!routes.some((route) => route.destination.equals(destination))) {
      problems.push(`the host has no route to ${destination} by ${name}`);
    }
  }
  return problems;
}

function checkContainer(request: WireRequest, container: Namespace): string[] {
  const name = request.containerInterface;
  const link = container.netlink.getLink(name);
  if (!link) return [`interface ${name} does not exist in ${request.netnsPath}`];
  const problems: string[] = [];
  if (!link.up) problems.push(`interface ${name} is down in the container`);
  if (request.containerMac !== undefined && link.mac !== request.containerMac.toLowerCase()) {
    problems.push(`interface ${name} has MAC address ${link.mac}, not ${request.containerMac}`);
  }
  const present = container.netlink.listAddresses({ ifindex: link.index });
  for (const address of request.addresses) {
    if (!present.some((a) => a.address.equals(address)))
      problems.push(`interface ${name} has not got address ${address}`);
  }
  const routes = container.netlink.listRoutes({ ifindex: link.index });
  const families = new Set(request.addresses.map((a) => a.family));
  for (const [family, destination, text] of [
    [4, DEFAULT_V4, GATEWAY_V4],
    [6, DEFAULT_V6, HOST_LINK_LOCAL],
  ] as const) {
    if (!families.has(family)) continue;
    const gateway = IpAddress.parse(text);
    const found = routes.some(
      (r) => r.destination.equals(destination) && r.nextHops.some((hop) => hop.gateway?.equals(gateway)),
    );
    if (!found) problems.push(`the container has no IPv${family} default route via ${gateway}`);
  }
  return problems;
}
