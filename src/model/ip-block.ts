// IPBlock (brindle.dev/v1): the lease of a block of a pool by one host, and who has its addresses. Hosts write these
// themselves: creation is the taking of the lease (the name comes from the CIDR, so only one host can succeed), deletion
// hands it back. `assigned` follows the host's own journal a moment later and is for people and for a host that lost
// its journal; it is no second authority.
import { Prefix } from '#net/prefix.ts';
import { defineKind } from './kind.ts';
import type { Resource } from './resource.ts';
import { Default, type Static, Text, Type } from './schema.ts';

const Holder = Type.Object({
  handle: Type.String({ description: 'The attachment: network/container/interface' }),
  endpoint: Type.Optional(Type.String({ description: 'Its WorkloadEndpoint: namespace/name' })),
});

export const IPBlockSpec = Type.Object({
  cidr: Text('strict-cidr', 'The addresses of the block'),
  host: Text('name', 'The host that has the lease'),
  pool: Text('name', 'The pool that the block belongs to'),
  assigned: Default(
    Type.Unsafe<Record<string, Static<typeof Holder>>>({
      type: 'object',
      description: 'Address to who has it',
      additionalProperties: Holder,
    }),
    {},
  ),
});
export type IPBlockSpec = Static<typeof IPBlockSpec>;
export type IPBlock = Resource<IPBlockSpec>;

export const IP_BLOCK_API = 'brindle.dev/v1';

export const ipBlock = defineKind({
  apiVersion: IP_BLOCK_API,
  kind: 'IPBlock',
  plural: 'ipblocks',
  singular: 'ipblock',
  shortNames: ['block', 'blocks'],
  namespaced: false,
  description: 'The lease of a block of addresses by a host; written by the hosts themselves.',
  spec: IPBlockSpec,
  validateUpdate: (block, previous, problems) => {
    for (const field of ['cidr', 'host'] as const) {
      if (block.spec[field] !== previous.spec[field]) {
        problems.add(
          `spec.${field}`,
          `cannot change from ${previous.spec[field]} to ${block.spec[field]}`,
          'a lease ends by its deletion: brindle ipam release',
        );
      }
    }
  },
  columns: [
    { title: 'CIDR', value: ({ spec }) => spec.cidr },
    { title: 'HOST', value: ({ spec }) => spec.host },
    { title: 'POOL', value: ({ spec }) => spec.pool },
    {
      title: 'USED',
      value: ({ spec }) => `${Object.keys(spec.assigned).length}/${Prefix.parse(spec.cidr).size}`,
    },
  ],
});
