// IPPool: the addresses that containers get, and how they appear outside. Calico's projectcalico.org/v3 fields.
// Traps: the CIDR and the block size never change once stored, because leases hang on them; two pools never overlap, not
// even disabled ones. Encapsulation fields are read for migration and warned about: Brindle has no overlay.
import { Prefix } from '#net/prefix.ts';
import type { IPBlockSpec } from './ip-block.ts';
import { defineKind } from './kind.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { Default, Int, OneOf, type Static, Text, Type } from './schema.ts';

export const IPPoolSpec = Type.Object({
  cidr: Text('strict-cidr', 'The addresses of the pool, such as 10.244.0.0/16 or fd00:10::/48'),
  blockSize: Type.Optional(
    Int(20, 128, 'Prefix length of the blocks that hosts lease: 20 to 32 (26), IPv6 116 to 128 (122)'),
  ),
  disabled: Default(Type.Boolean({ description: 'No new addresses are taken from the pool' }), false),
  natOutgoing: Default(
    Type.Boolean({ description: 'Packets from the pool to outside of all pools get the address of the host' }),
    false,
  ),
  disableBGPExport: Default(Type.Boolean({ description: 'The blocks of the pool are not announced over BGP' }), false),
  nodeSelector: Default(Text('selector', 'The hosts that may take addresses from the pool'), 'all()'),
  namespaceSelector: Type.Optional(Text('selector', 'The namespaces whose workloads may take addresses from the pool')),
  allowedUses: Default(Type.Array(OneOf(['Workload', 'Tunnel', 'LoadBalancer'])), ['Workload', 'Tunnel']),
  assignmentMode: Default(
    OneOf(['Automatic', 'Manual'], 'Manual: only for addresses and pools asked for by name'),
    'Automatic',
  ),
  ipipMode: Default(OneOf(['Never', 'Always', 'CrossSubnet']), 'Never'),
  vxlanMode: Default(OneOf(['Never', 'Always', 'CrossSubnet']), 'Never'),
});
export type IPPoolSpec = Static<typeof IPPoolSpec>;
export type IPPool = Resource<IPPoolSpec & { blockSize: number }>;

/** What the pool's blocks are when it does not say: 26 (64 addresses), IPv6 122. */
export function defaultBlockSize(cidr: Prefix): number {
  const size = cidr.family === 4 ? 26 : 122;
  return Math.max(size, cidr.length);
}

const LINK_LOCAL = ['169.254.0.0/16', 'fe80::/10'];
const FORBIDDEN = ['224.0.0.0/4', 'ff00::/8', '127.0.0.0/8', '::1/128'];

function validate(pool: Resource<IPPoolSpec>, problems: Problems): void {
  const { spec } = pool;
  const cidr = Prefix.parse(spec.cidr);
  const [min, max] = cidr.family === 4 ? [20, 32] : [116, 128];
  const size = spec.blockSize ?? 0;
  if (size < min || size > max) {
    problems.add('spec.blockSize', `${size} is out of range for IPv${cidr.family}`, `write ${min} to ${max}`);
  } else if (size < cidr.length) {
    problems.add('spec.blockSize', `a /${size} block is larger than the pool ${cidr}`, `write ${cidr.length} or more`);
  }
  for (const text of LINK_LOCAL) {
    if (cidr.overlaps(Prefix.parse(text)))
      problems.add('spec.cidr', `${cidr} overlaps the link-local range ${text}`, 'choose other addresses');
  }
  for (const text of FORBIDDEN) {
    if (cidr.overlaps(Prefix.parse(text)))
      problems.add('spec.cidr', `${cidr} overlaps ${text}, which no container can have`, 'choose other addresses');
  }
  if (spec.allowedUses.length === 0)
    problems.add('spec.allowedUses', 'must not be empty', 'write [Workload], or disabled: true to close the pool');
  if (spec.allowedUses.includes('LoadBalancer')) {
    if (spec.allowedUses.length > 1)
      problems.add(
        'spec.allowedUses',
        'LoadBalancer cannot be combined with other uses',
        'make a pool of its own for it',
      );
    if (spec.nodeSelector !== 'all()')
      problems.add('spec.nodeSelector', 'a LoadBalancer pool belongs to all hosts', 'write all()');
    if (spec.disableBGPExport)
      problems.add('spec.disableBGPExport', 'a LoadBalancer pool is always announced', 'write false');
  }
}

function warn({ spec }: Resource<IPPoolSpec>, warnings: Problems): void {
  for (const field of ['ipipMode', 'vxlanMode'] as const) {
    if (spec[field] !== 'Never')
      warnings.add(`spec.${field}`, `${spec[field]} has no effect: Brindle routes without tunnels`);
  }
}

function validateAgainst(
  pool: Resource<IPPoolSpec>,
  others: readonly Resource<IPPoolSpec>[],
  problems: Problems,
): void {
  const cidr = Prefix.parse(pool.spec.cidr);
  for (const other of others) {
    const otherCidr = Prefix.tryParse(other.spec.cidr);
    if (otherCidr?.overlaps(cidr)) {
      problems.add(
        'spec.cidr',
        `${cidr} overlaps ${otherCidr} of IPPool/${other.metadata.name}`,
        'choose addresses that no other pool has',
      );
    }
  }
}

function validateUpdate(pool: Resource<IPPoolSpec>, previous: Resource<IPPoolSpec>, problems: Problems): void {
  for (const field of ['cidr', 'blockSize'] as const) {
    if (pool.spec[field] !== previous.spec[field]) {
      problems.add(
        `spec.${field}`,
        `cannot change from ${previous.spec[field]} to ${pool.spec[field]}: leases hang on it`,
        'make a new pool, disable this one, and delete it when it is empty',
      );
    }
  }
}

/** A block with no address in use is handed back by its host when the pool has gone. */
function addressesIn(pool: Resource<IPPoolSpec>, other: Resource): string | null {
  const block = other.spec as IPBlockSpec;
  const count = block.pool === pool.metadata.name ? Object.keys(block.assigned).length : 0;
  return count === 0 ? null : `${count} ${count === 1 ? 'address' : 'addresses'} on ${block.host}`;
}

export const ipPool = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'IPPool',
  plural: 'ippools',
  singular: 'ippool',
  shortNames: ['pool', 'pools'],
  namespaced: false,
  description: 'A range of addresses for containers, and how it appears outside.',
  spec: IPPoolSpec,
  defaults: (spec) => ({ ...spec, blockSize: spec.blockSize ?? defaultBlockSize(Prefix.parse(spec.cidr)) }),
  validate,
  warn,
  validateAgainst,
  validateUpdate,
  neededBy: [{ kind: 'IPBlock', use: addressesIn }],
  columns: [
    { title: 'CIDR', value: ({ spec }) => spec.cidr },
    { title: 'BLOCK', value: ({ spec }) => `/${spec.blockSize}` },
    { title: 'NAT', value: ({ spec }) => (spec.natOutgoing ? 'yes' : 'no') },
    { title: 'DISABLED', value: ({ spec }) => (spec.disabled ? 'yes' : 'no') },
    { title: 'SELECTOR', value: ({ spec }) => spec.nodeSelector },
    { title: 'ASSIGNMENT', value: ({ spec }) => spec.assignmentMode, wide: true },
    { title: 'USES', value: ({ spec }) => spec.allowedUses.join(','), wide: true },
    { title: 'EXPORTED', value: ({ spec }) => (spec.disableBGPExport ? 'no' : 'yes'), wide: true },
  ],
});
