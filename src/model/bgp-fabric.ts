// BGPFabric (brindle.dev/v1), a single one named `default`: how hosts find each other. A full mesh up to a number of
// hosts, above it route reflectors chosen in every group of hosts that share a topology label.
// Hosts with a route reflector cluster id of their own, and a disabled mesh in BGPConfiguration, come before this.
import { defineKind } from './kind.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { Default, Int, OneOf, type Static, Text, Type } from './schema.ts';

export const BGPFabricSpec = Type.Object({
  mode: Default(OneOf(['Auto', 'Mesh', 'Reflectors'], 'Auto: a mesh up to meshLimit hosts, reflectors above'), 'Auto'),
  meshLimit: Default(Int(2, 1000, 'Most hosts of a full mesh'), 100),
  topologyLabel: Default(
    Type.String({ description: 'Label of Nodes; hosts with one value share reflectors', minLength: 1 }),
    'topology.kubernetes.io/zone',
  ),
  reflectorsPerZone: Default(Int(1, 8, 'How many reflectors each value of the label has'), 2),
  reflectorSelector: Default(Text('selector', 'The hosts that may be reflectors'), 'all()'),
});
export type BGPFabricSpec = Static<typeof BGPFabricSpec>;
export type BGPFabric = Resource<BGPFabricSpec>;

function validate({ metadata }: BGPFabric, problems: Problems): void {
  if (metadata.name !== 'default') problems.add('metadata.name', 'there is one fabric only', 'write default');
}

export const bgpFabric = defineKind({
  apiVersion: 'brindle.dev/v1',
  kind: 'BGPFabric',
  plural: 'bgpfabrics',
  singular: 'bgpfabric',
  shortNames: ['fabric'],
  namespaced: false,
  description: 'How hosts peer with each other: mesh or automatic route reflectors.',
  spec: BGPFabricSpec,
  specOptional: true,
  validate,
  columns: [
    { title: 'MODE', value: ({ spec }) => spec.mode },
    { title: 'MESH UP TO', value: ({ spec }) => String(spec.meshLimit) },
    { title: 'LABEL', value: ({ spec }) => spec.topologyLabel },
    { title: 'REFLECTORS', value: ({ spec }) => String(spec.reflectorsPerZone) },
  ],
});
