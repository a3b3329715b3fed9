// NetworkSet and GlobalNetworkSet: labelled lists of CIDRs that selectors treat as endpoints. Calico's projectcalico.org/v3 fields.
// Trap: the namespace label is worked out, never written: with it a set could pose as one of another namespace.
import { defineKind } from './kind.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { type Static, Text, Type } from './schema.ts';

export const NetworkSetSpec = Type.Object({
  nets: Type.Optional(Type.Array(Text('net'), { description: 'CIDRs or single addresses of both families' })),
});
export type NetworkSetSpec = Static<typeof NetworkSetSpec>;
export type NetworkSet = Resource<NetworkSetSpec>;
export type GlobalNetworkSet = Resource<NetworkSetSpec>;

function validate(set: NetworkSet, problems: Problems): void {
  if (set.metadata.labels && Object.hasOwn(set.metadata.labels, 'projectcalico.org/namespace')) {
    problems.add('metadata.labels', 'projectcalico.org/namespace cannot be set by hand', 'remove it');
  }
}

const columns = [{ title: 'NETS', value: ({ spec }: NetworkSet) => spec.nets?.join(',') ?? '' }];

export const networkSet = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'NetworkSet',
  plural: 'networksets',
  singular: 'networkset',
  shortNames: ['netset', 'netsets'],
  namespaced: true,
  description: 'A labelled list of networks that the rules of a namespace can select.',
  spec: NetworkSetSpec,
  specOptional: true,
  validate,
  columns,
});

export const globalNetworkSet = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'GlobalNetworkSet',
  plural: 'globalnetworksets',
  singular: 'globalnetworkset',
  shortNames: ['gns'],
  namespaced: false,
  description: 'A labelled list of networks that rules everywhere can select.',
  spec: NetworkSetSpec,
  specOptional: true,
  validate,
  columns,
});
