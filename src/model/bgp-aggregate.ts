// BGPAggregate (brindle.dev/v1): a prefix above the blocks that some hosts announce in their place, such as the addresses
// of a rack. As `aggregate-address` of a router.
import { Community } from './bgp-common.ts';
import { defineKind } from './kind.ts';
import type { Resource } from './resource.ts';
import { Default, OneOf, type Static, Text, Type } from './schema.ts';

export const BGPAggregateSpec = Type.Object({
  cidr: Text('strict-cidr', 'The prefix to announce, such as 10.244.16.0/20'),
  nodeSelector: Default(Text('selector', 'The hosts that announce it'), 'all()'),
  announce: Default(OneOf(['WhenCovered', 'Always'], 'WhenCovered: while the host has a route inside'), 'WhenCovered'),
  summaryOnly: Default(Type.Boolean({ description: 'Routes inside are not announced beside it' }), true),
  peers: Type.Optional(
    Type.Array(Text('name'), {
      description: 'Names of BGPPeers and BGPPeerGroups it goes to; all external peers when absent',
    }),
  ),
  communities: Type.Optional(Type.Array(Community)),
});
export type BGPAggregateSpec = Static<typeof BGPAggregateSpec>;
export type BGPAggregate = Resource<BGPAggregateSpec>;

export const bgpAggregate = defineKind({
  apiVersion: 'brindle.dev/v1',
  kind: 'BGPAggregate',
  plural: 'bgpaggregates',
  singular: 'bgpaggregate',
  shortNames: ['aggregate', 'aggregates'],
  namespaced: false,
  description: 'A prefix above the blocks that some hosts announce in their place.',
  spec: BGPAggregateSpec,
  columns: [
    { title: 'CIDR', value: ({ spec }) => spec.cidr },
    { title: 'HOSTS', value: ({ spec }) => spec.nodeSelector },
    { title: 'ANNOUNCED', value: ({ spec }) => (spec.announce === 'Always' ? 'always' : 'when covered') },
    { title: 'SUMMARY ONLY', value: ({ spec }) => (spec.summaryOnly ? 'yes' : 'no'), wide: true },
  ],
});
