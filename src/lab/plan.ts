// Turns a topology into exact namespaces, interfaces, addresses and BGP neighbours. Pure and stable: a host added at
// the end changes nothing of what was planned before, so that a running lab can grow.
//
// Addresses: wire n is 172.30.n.0/31 (RFC 3021) and fd00:172:30:n::/127 (RFC 6164), the even end at the router; router
// n has the loopbacks 172.30.0.n and fd00:172:30::n. Everything lives in namespaces, so two labs may use the same ones.
import type { Family } from '#net/address.ts';
import type { HostSpec, RouterSpec, Topology } from './topology.ts';

export interface PlannedAddress {
  readonly address: string;
  readonly length: number;
}

/** One end of a wire. */
export interface PlannedInterface {
  /** Node and interface at the other end. */
  readonly peer: { readonly node: string; readonly interface: string; readonly ipv4: string; readonly ipv6: string };
  readonly name: string;
  readonly ipv4: PlannedAddress;
  readonly ipv6: PlannedAddress;
}

/** One BGP neighbour as seen from a router. */
export interface PlannedNeighbor {
  readonly node: string;
  readonly family: Family;
  readonly localAddress: string;
  readonly address: string;
  readonly asNumber: number;
  /** A host (which knows only its own blocks) or another router. */
  readonly role: 'host' | 'router';
}

export interface PlannedHost {
  readonly spec: HostSpec;
  readonly namespace: string;
  readonly interfaces: readonly PlannedInterface[];
}

export interface PlannedRouter {
  readonly spec: RouterSpec;
  readonly namespace: string;
  readonly interfaces: readonly PlannedInterface[];
  readonly loopback4: string;
  readonly loopback6: string;
  readonly neighbors: readonly PlannedNeighbor[];
}

/** The Ethernet of a lab without routers: a bridge whose ports are called like the hosts. */
export interface PlannedSwitch {
  readonly namespace: string;
  readonly bridge: string;
}

export interface Plan {
  readonly hosts: readonly PlannedHost[];
  readonly routers: readonly PlannedRouter[];
  readonly switch: PlannedSwitch | null;
}

export const DEFAULT_LAB = 'default';

/** The namespace of a node: `brindle-<node>` in the default lab, `brindle-<lab>-<node>` in one with a name. */
export function namespaceOf(lab: string, node: string): string {
  return lab === DEFAULT_LAB ? `brindle-${node}` : `brindle-${lab}-${node}`;
}

/** The namespace of a container. A dot cannot be in a node's name, so it is never that of a node. */
export function containerNamespaceOf(lab: string, host: string, container: string): string {
  return `${namespaceOf(lab, host)}.${container}`;
}

export function makePlan(lab: string, topology: Topology): Plan {
  const { routers, hosts } = topology;
  if (routers.length === 0) return switchedPlan(lab, hosts);
  const interfaces = new Map<string, PlannedInterface[]>([...routers, ...hosts].map((node) => [node.name, []]));
  let wire = 0;
  const connect = (upper: string, lower: string, lowerInterface: string): void => {
    wire++;
    const [v4, v6] = [wireV4(wire), wireV6(wire)];
    const ends = [
      { node: upper, interface: lower, ipv4: `${v4}${wireOctet(wire)}`, ipv6: v6 },
      { node: lower, interface: lowerInterface, ipv4: `${v4}${wireOctet(wire) + 1}`, ipv6: `${v6}1` },
    ] as const;
    ends.forEach((end, i) => {
      interfaces.get(end.node)!.push({
        name: end.interface,
        ipv4: { address: end.ipv4, length: 31 },
        ipv6: { address: end.ipv6, length: 127 },
        peer: ends[1 - i]!,
      });
    });
  };
  for (const router of routers) for (const to of router.links) connect(to, router.name, to);
  for (const host of hosts) host.uplinks.forEach((uplink, i) => connect(uplink, host.name, `eth${i}`));

  const asOf = new Map([...routers, ...hosts].map((node) => [node.name, node.asNumber]));
  const routerNames = new Set(routers.map((router) => router.name));
  return {
    switch: null,
    hosts: hosts.map((spec) => ({
      spec,
      namespace: namespaceOf(lab, spec.name),
      interfaces: interfaces.get(spec.name)!,
    })),
    routers: routers.map((spec, i) => ({
      spec,
      namespace: namespaceOf(lab, spec.name),
      interfaces: interfaces.get(spec.name)!,
      loopback4: `172.30.0.${i + 1}`,
      loopback6: `fd00:172:30::${(i + 1).toString(16)}`,
      neighbors: interfaces.get(spec.name)!.flatMap(({ ipv4, ipv6, peer }) => {
        const common = {
          node: peer.node,
          asNumber: asOf.get(peer.node)!,
          role: routerNames.has(peer.node) ? ('router' as const) : ('host' as const),
        };
        return [
          { ...common, family: 4 as const, localAddress: ipv4.address, address: peer.ipv4 },
          { ...common, family: 6 as const, localAddress: ipv6.address, address: peer.ipv6 },
        ];
      }),
    })),
  };
}

/** 255 wires fill the third octet; further ones go on in the fourth. */
function wireV4(wire: number): string {
  return `172.30.${((wire - 1) % 255) + 1}.`;
}

function wireOctet(wire: number): number {
  return 2 * Math.floor((wire - 1) / 255);
}

function wireV6(wire: number): string {
  return `fd00:172:30:${wire.toString(16)}::`;
}

function switchedPlan(lab: string, hosts: readonly HostSpec[]): Plan {
  const bridge = 'switch';
  return {
    routers: [],
    switch: { namespace: namespaceOf(lab, bridge), bridge },
    hosts: hosts.map((spec, i) => ({
      spec,
      namespace: namespaceOf(lab, spec.name),
      interfaces: [
        {
          name: 'eth0',
          ipv4: { address: `172.30.${(i + 1) >> 8}.${(i + 1) & 255}`, length: 16 },
          ipv6: { address: `fd00:172:30::${(i + 1).toString(16)}`, length: 64 },
          peer: { node: bridge, interface: spec.name, ipv4: '', ipv6: '' },
        },
      ],
    })),
  };
}
