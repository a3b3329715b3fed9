// BGPConfiguration: what holds for the BGP of all hosts (`default`), or of one (`node.<host>`). Calico's fields.
// Trap: a field that is absent in `node.<host>` is taken from `default`, so the schema fills in no defaults here; the
// constants of bgp-common.ts are what holds where neither says anything.
import { Community, SecretReference } from './bgp-common.ts';
import { parseCommunity } from './formats.ts';
import { defineKind } from './kind.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { Int, IntOrText, OneOf, type Static, Text, Type } from './schema.ts';

const Optional = Type.Optional;
const CidrList = (description: string) => Optional(Type.Array(Type.Object({ cidr: Text('net') }), { description }));
const Priority = Optional(Int(1, 2_147_483_646));

export const BGPConfigurationSpec = Type.Object({
  asNumber: Optional(IntOrText('as-number', 'AS number of hosts that name none: 64512 when absent')),
  nodeToNodeMeshEnabled: Optional(Type.Boolean({ description: 'Every host peers with every other: true when absent' })),
  listenPort: Optional(Int(1, 65_535, 'Port on which BGP listens: 179 when absent')),
  bindMode: Optional(OneOf(['None', 'NodeIP'], 'NodeIP: listen on the address of the Node only')),
  logSeverityScreen: Optional(OneOf(['Debug', 'Info', 'Warning', 'Error', 'Fatal'])),
  serviceClusterIPs: CidrList('Service addresses that every host announces'),
  serviceExternalIPs: CidrList('External service addresses that may be announced'),
  serviceLoadBalancerIPs: CidrList('Load balancer addresses that may be announced'),
  serviceLoadBalancerAggregation: Optional(OneOf(['Enabled', 'Disabled'])),
  communities: Optional(Type.Array(Type.Object({ name: Text('name'), value: Community }), { maxItems: 500 })),
  prefixAdvertisements: Optional(
    Type.Array(Type.Object({ cidr: Text('net'), communities: Type.Array(Type.String(), { minItems: 1 }) }), {
      maxItems: 500,
    }),
  ),
  nodeMeshPassword: Optional(SecretReference),
  nodeMeshMaxRestartTime: Optional(
    Text('duration', 'How long mesh peers hold our routes while we restart: 120s when absent'),
  ),
  ignoredInterfaces: Optional(Type.Array(Type.String())),
  localWorkloadPeeringIPV4: Optional(Text('ipv4')),
  localWorkloadPeeringIPV6: Optional(Text('ipv6')),
  programClusterRoutes: Optional(OneOf(['Enabled', 'EnabledNoEncapOnly', 'Disabled'])),
  ipv4NormalRoutePriority: Priority,
  ipv4ElevatedRoutePriority: Priority,
  ipv6NormalRoutePriority: Priority,
  ipv6ElevatedRoutePriority: Priority,
});
export type BGPConfigurationSpec = Static<typeof BGPConfigurationSpec>;
export type BGPConfiguration = Resource<BGPConfigurationSpec>;

const OF_ALL_HOSTS = ['asNumber', 'nodeToNodeMeshEnabled', 'nodeMeshPassword', 'nodeMeshMaxRestartTime'] as const;

function validate({ metadata, spec }: BGPConfiguration, problems: Problems): void {
  if (metadata.name !== 'default' && !metadata.name.startsWith('node.')) {
    problems.add(
      'metadata.name',
      `"${metadata.name}" is not the name of a BGP configuration`,
      'write default, or node.<host> for a single host',
    );
  }
  if (metadata.name !== 'default') {
    for (const field of OF_ALL_HOSTS) {
      if (spec[field] !== undefined)
        problems.add(`spec.${field}`, 'holds for all hosts', 'set it in the BGPConfiguration named default');
    }
  }
  if (spec.nodeToNodeMeshEnabled === false) {
    for (const field of ['nodeMeshPassword', 'nodeMeshMaxRestartTime'] as const) {
      if (spec[field] !== undefined)
        problems.add(`spec.${field}`, 'needs the mesh', 'enable nodeToNodeMeshEnabled, or set it on the BGPPeers');
    }
  }
  const names = new Set<string>();
  for (const [i, { name }] of (spec.communities ?? []).entries()) {
    if (names.has(name)) problems.add(`spec.communities[${i}].name`, `"${name}" is there twice`);
    names.add(name);
  }
  for (const [i, { communities }] of (spec.prefixAdvertisements ?? []).entries()) {
    for (const [j, text] of communities.entries()) {
      if (names.has(text) || parseCommunity(text)) continue;
      problems.add(
        `spec.prefixAdvertisements[${i}].communities[${j}]`,
        `"${text}" is neither a community nor a name in spec.communities`,
        'write aa:nn or aa:nn:mm, or add the name',
      );
    }
  }
}

export const bgpConfiguration = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'BGPConfiguration',
  plural: 'bgpconfigurations',
  singular: 'bgpconfiguration',
  shortNames: ['bgpconfig', 'bgpconfigs'],
  namespaced: false,
  description: 'What holds for the BGP of all hosts (default) or of one (node.<host>).',
  spec: BGPConfigurationSpec,
  specOptional: true,
  validate,
  columns: [
    { title: 'MESH', value: ({ spec }) => (spec.nodeToNodeMeshEnabled === false ? 'no' : 'yes') },
    { title: 'AS', value: ({ spec }) => String(spec.asNumber ?? '(default)') },
    { title: 'PORT', value: ({ spec }) => String(spec.listenPort ?? '(default)') },
    { title: 'SERVICES', value: ({ spec }) => (spec.serviceClusterIPs ?? []).map((c) => c.cidr).join(','), wide: true },
  ],
});
