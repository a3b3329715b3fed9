// Node: a host, its addresses and its part in BGP. Calico's projectcalico.org/v3 fields; those of tunnels and WireGuard are
// read for migration and have no effect. The agent of a host keeps its own Node up to date.
import { IpAddress } from '#net/address.ts';
import { defineKind } from './kind.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { IntOrText, OneOf, type Static, Text, Type } from './schema.ts';

const Optional = Type.Optional;

export const NodeSpec = Type.Object({
  bgp: Optional(
    Type.Object({
      asNumber: Optional(IntOrText('as-number', 'AS number of the host; the default of BGPConfiguration when absent')),
      ipv4Address: Optional(Text('ipv4-or-cidr', 'Address of the host for BGP, with its prefix length')),
      ipv6Address: Optional(Text('ipv6-or-cidr', 'Address of the host for BGP, with its prefix length')),
      ipv4IPIPTunnelAddr: Optional(Text('ipv4')),
      routeReflectorClusterID: Optional(Text('ipv4', 'Makes the host a route reflector of this cluster')),
    }),
  ),
  addresses: Optional(
    Type.Array(
      Type.Object({
        address: Text('ip-or-cidr'),
        type: Optional(OneOf(['CalicoNodeIP', 'InternalIP', 'ExternalIP'])),
      }),
    ),
  ),
  interfaces: Optional(
    Type.Array(Type.Object({ name: Optional(Type.String()), addresses: Optional(Type.Array(Text('ip-or-cidr'))) })),
  ),
  orchRefs: Optional(Type.Array(Type.Object({ nodeName: Optional(Type.String()), orchestrator: Type.String() }))),
  ipv4VXLANTunnelAddr: Optional(Text('ipv4')),
  ipv6VXLANTunnelAddr: Optional(Text('ipv6')),
  vxlanTunnelMACAddr: Optional(Text('mac')),
  vxlanTunnelMACAddrV6: Optional(Text('mac')),
  wireguard: Optional(
    Type.Object({ interfaceIPv4Address: Optional(Text('ipv4')), interfaceIPv6Address: Optional(Text('ipv6')) }),
  ),
});
export type NodeSpec = Static<typeof NodeSpec>;
export type Node = Resource<NodeSpec>;

function validate({ spec }: Node, problems: Problems): void {
  for (const field of ['ipv4Address', 'ipv6Address'] as const) {
    const text = spec.bgp?.[field];
    if (text === undefined) continue;
    const address = IpAddress.parse(text.split('/')[0]!);
    if (address.isUnspecified() || address.isMulticast() || address.isLoopback()) {
      problems.add(
        `spec.bgp.${field}`,
        `${address} cannot be the address of a host`,
        'write an address of one of its interfaces',
      );
    }
  }
}

export const node = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'Node',
  plural: 'nodes',
  singular: 'node',
  shortNames: ['no', 'host', 'hosts'],
  namespaced: false,
  description: 'A host: its addresses and its part in BGP.',
  spec: NodeSpec,
  specOptional: true,
  validate,
  columns: [
    { title: 'IPV4', value: ({ spec }) => spec.bgp?.ipv4Address ?? '' },
    { title: 'IPV6', value: ({ spec }) => spec.bgp?.ipv6Address ?? '' },
    { title: 'AS', value: ({ spec }) => (spec.bgp?.asNumber === undefined ? '(default)' : String(spec.bgp.asNumber)) },
    { title: 'REFLECTOR', value: ({ spec }) => spec.bgp?.routeReflectorClusterID ?? '', wide: true },
  ],
});
