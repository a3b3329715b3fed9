// What the lab needs of the kernel: named network namespaces, wires between them, addresses, routes, sysctls.
import { BrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { executeAll } from '#netlink/api.ts';
import { KernelNetlink } from '#netlink/kernel.ts';
import { closeFd } from '#sys/ffi.ts';
import {
  createNamedNetns,
  deleteNamedNetns,
  listNamedNetns,
  namedNetnsPath,
  openNetns,
  withNetns,
} from '#sys/netns.ts';
import { writeSysctl } from '#sys/proc.ts';

/** rtm_protocol of routes that an administrator made (linux/rtnetlink.h). */
const RTPROT_STATIC = 4;

export interface End {
  readonly namespace: string;
  readonly interface: string;
}

export interface Gateway {
  readonly via: string;
  readonly interface: string;
}

export interface FabricKernel {
  namespaces(): string[];
  /** Made for routing: forwarding on, loopback up. `mark` stays in the kernel with it (see `markOf`). */
  createNamespace(name: string, mark: string): void;
  /** No error when it is absent. */
  deleteNamespace(name: string): unknown;
  /** The mark of a namespace; null when it has none. */
  markOf(namespace: string): string | null;
  /** A veth pair, one end in each namespace, both up. */
  connect(a: End, b: End): void;
  /** A bridge that is up, for the lab without routers. */
  addBridge(bridge: End): void;
  enslave(port: End, bridge: string): void;
  addAddress(end: End, address: string, length: number): void;
  /** Several gateways share the traffic. */
  addDefaultRoute(namespace: string, gateways: readonly Gateway[]): void;
}

export function namespacePath(name: string): string {
  return namedNetnsPath(name);
}

/** A router's: it forwards, takes no part in duplicate address detection, and spreads flows over equal paths. */
const SYSCTLS: readonly (readonly [string, number])[] = [
  ['ipv4/ip_forward', 1],
  ['ipv6/conf/all/forwarding', 1],
  ['ipv6/conf/default/forwarding', 1],
  ['ipv6/conf/all/accept_dad', 0],
  ['ipv6/conf/default/accept_dad', 0],
  ['ipv4/conf/all/rp_filter', 0],
  ['ipv4/conf/default/rp_filter', 0],
  ['ipv4/fib_multipath_hash_policy', 1],
  ['ipv6/fib_multipath_hash_policy', 1],
];

/** The kernel of this machine. */
export const machineKernel: FabricKernel = {
  namespaces: listNamedNetns,
  createNamespace: (name, mark) => {
    const path = createNamedNetns(name);
    withNetns(path, () => {
      for (const [sysctl, value] of SYSCTLS) writeSysctl(sysctl.split('/'), value);
    });
    inNamespace(name, (netlink) => {
      executeAll(netlink, [{ op: 'link-set', link: 'lo', settings: { up: true, alias: mark } }]);
    });
  },
  deleteNamespace: deleteNamedNetns,
  markOf: (namespace) => inNamespace(namespace, (netlink) => netlink.getLink('lo')?.alias ?? null),
  connect: (a, b) => {
    const netnsFd = openNetns(namedNetnsPath(b.namespace));
    try {
      inNamespace(a.namespace, (netlink) => {
        executeAll(netlink, [
          { op: 'veth-add', veth: { name: a.interface, peer: { name: b.interface, netnsFd } } },
          { op: 'link-set', link: a.interface, settings: { up: true } },
        ]);
      });
      // Not within the creation: an end cannot go up before the pair is whole (ENOTCONN).
      inNamespace(b.namespace, (netlink) => {
        executeAll(netlink, [{ op: 'link-set', link: b.interface, settings: { up: true } }]);
      });
    } finally {
      closeFd(netnsFd);
    }
  },
  addBridge: (bridge) => {
    inNamespace(bridge.namespace, (netlink) => {
      executeAll(netlink, [{ op: 'bridge-add', bridge: { name: bridge.interface, up: true } }]);
    });
  },
  enslave: (port, bridge) => {
    inNamespace(port.namespace, (netlink) => {
      const master = indexOf(netlink, bridge);
      executeAll(netlink, [{ op: 'link-set', link: port.interface, settings: { master } }]);
    });
  },
  addAddress: (end, address, prefixLength) => {
    inNamespace(end.namespace, (netlink) => {
      const ifindex = indexOf(netlink, end.interface);
      const add = { ifindex, address: IpAddress.parse(address), prefixLength, noDad: true };
      executeAll(netlink, [{ op: 'address-add', address: add }]);
    });
  },
  addDefaultRoute: (namespace, gateways) => {
    const destination = Prefix.parse(gateways[0]?.via.includes(':') ? '::/0' : '0.0.0.0/0');
    inNamespace(namespace, (netlink) => {
      const nextHops = gateways.map(({ via, interface: name }) => ({
        gateway: IpAddress.parse(via),
        ifindex: indexOf(netlink, name),
      }));
      executeAll(netlink, [{ op: 'route-add', route: { destination, protocol: RTPROT_STATIC, nextHops } }]);
    });
  },
};

function inNamespace<T>(namespace: string, use: (netlink: KernelNetlink) => T): T {
  const netlink = new KernelNetlink({ netns: namedNetnsPath(namespace) });
  try {
    return use(netlink);
  } finally {
    netlink.close();
  }
}

function indexOf(netlink: KernelNetlink, name: string): number {
  const link = netlink.getLink(name);
  if (!link) throw new BrindleError('not-found', `there is no interface ${name}`);
  return link.index;
}
