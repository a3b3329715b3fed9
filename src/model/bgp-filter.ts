// BGPFilter: ordered rules for routes from and to a peer. Calico's projectcalico.org/v3 fields. The first rule that matches
// decides; where none does, the peer's built-in rule does.
import { Prefix } from '#net/prefix.ts';
import { Community } from './bgp-common.ts';
import type { BGPPeerGroupSpec } from './bgp-peer-group.ts';
import type { BGPPeerSpec } from './bgp-peer.ts';
import { defineKind } from './kind.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { Int, IntOrText, OneOf, type Static, Text, Type } from './schema.ts';

const Optional = Type.Optional;
const AsPath = Type.Array(IntOrText('as-number'), { minItems: 1, maxItems: 10 });
const PRIORITY_MAX = 2_147_483_646;

const Operation = Type.Object({
  addCommunity: Optional(Type.Object({ value: Community })),
  prependASPath: Optional(Type.Object({ prefix: AsPath })),
  setPriority: Optional(Type.Object({ value: Int(1, PRIORITY_MAX) })),
});

export const BGPFilterRule = Type.Object({
  action: OneOf(['Accept', 'Reject'], 'What happens to a route that matches: Accept or Reject'),
  cidr: Optional(Text('cidr')),
  matchOperator: Optional(OneOf(['Equal', 'NotEqual', 'In', 'NotIn'])),
  prefixLength: Optional(Type.Object({ min: Optional(Int(0, 128)), max: Optional(Int(0, 128)) })),
  source: Optional(OneOf(['RemotePeers'], 'Only routes learned from peers')),
  interface: Optional(
    Type.String({ description: 'Only routes by this interface; * stands for any characters', minLength: 1 }),
  ),
  peerType: Optional(OneOf(['eBGP', 'iBGP'])),
  communities: Optional(Type.Object({ values: Type.Array(Community, { minItems: 1, maxItems: 1 }) })),
  asPathPrefix: Optional(Type.Array(IntOrText('as-number'))),
  priority: Optional(Int(1, PRIORITY_MAX)),
  operations: Optional(Type.Array(Operation, { minItems: 1, maxItems: 10 })),
});
export type BGPFilterRule = Static<typeof BGPFilterRule>;

const Rules = (description: string) => Optional(Type.Array(BGPFilterRule, { description }));

export const BGPFilterSpec = Type.Object({
  exportV4: Rules('Rules for IPv4 routes to the peer'),
  importV4: Rules('Rules for IPv4 routes from the peer'),
  exportV6: Rules('Rules for IPv6 routes to the peer'),
  importV6: Rules('Rules for IPv6 routes from the peer'),
});
export type BGPFilterSpec = Static<typeof BGPFilterSpec>;
export type BGPFilter = Resource<BGPFilterSpec>;

const LISTS = ['exportV4', 'importV4', 'exportV6', 'importV6'] as const;

function validate({ spec }: BGPFilter, problems: Problems): void {
  for (const list of LISTS) {
    const family = list.endsWith('V4') ? 4 : 6;
    for (const [i, rule] of (spec[list] ?? []).entries()) validateRule(rule, family, `spec.${list}[${i}]`, problems);
  }
}

function validateRule(rule: BGPFilterRule, family: 4 | 6, path: string, problems: Problems): void {
  const { cidr, matchOperator, prefixLength } = rule;
  if (cidr !== undefined && matchOperator === undefined)
    problems.add(`${path}.matchOperator`, 'is required with cidr', 'write Equal, NotEqual, In or NotIn');
  if (cidr === undefined && matchOperator !== undefined) problems.add(`${path}.cidr`, 'is required with matchOperator');
  const prefix = cidr === undefined ? null : Prefix.parse(cidr);
  if (prefix && prefix.family !== family) {
    problems.add(
      `${path}.cidr`,
      `${prefix} is not IPv${family}`,
      `put the rule into ${path.includes('export') ? 'export' : 'import'}V${prefix.family}`,
    );
  }
  if (prefixLength) {
    const { min, max } = prefixLength;
    const bits = family === 4 ? 32 : 128;
    if (!prefix) problems.add(`${path}.prefixLength`, 'is only possible with cidr');
    for (const [name, value] of [
      ['min', min],
      ['max', max],
    ] as const) {
      if (value !== undefined && value > bits)
        problems.add(`${path}.prefixLength.${name}`, `${value} is out of range for IPv${family}`, `write 0 to ${bits}`);
    }
    if (min !== undefined && max !== undefined && min > max)
      problems.add(`${path}.prefixLength`, `min ${min} is greater than max ${max}`);
  }
  if (rule.operations && rule.action !== 'Accept')
    problems.add(`${path}.operations`, 'are only possible with action Accept');
  for (const [i, operation] of (rule.operations ?? []).entries()) {
    if (Object.keys(operation).length !== 1) {
      problems.add(
        `${path}.operations[${i}]`,
        'must have exactly one operation',
        'write addCommunity, prependASPath or setPriority, each in an entry of its own',
      );
    }
  }
}

function usedIn(filters: readonly string[] | undefined, name: string): string | null {
  return filters?.includes(name) ? 'spec.filters' : null;
}

export const bgpFilter = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'BGPFilter',
  plural: 'bgpfilters',
  singular: 'bgpfilter',
  namespaced: false,
  description: 'Ordered rules for routes from and to a BGP peer.',
  spec: BGPFilterSpec,
  specOptional: true,
  validate,
  neededBy: [
    { kind: 'BGPPeer', use: (filter, peer) => usedIn((peer.spec as BGPPeerSpec).filters, filter.metadata.name) },
    {
      kind: 'BGPPeerGroup',
      use: (filter, group) => usedIn((group.spec as BGPPeerGroupSpec).session.filters, filter.metadata.name),
    },
  ],
  columns: LISTS.map((list) => ({
    title:
      list === 'exportV4'
        ? 'EXPORT V4'
        : list === 'importV4'
          ? 'IMPORT V4'
          : list === 'exportV6'
            ? 'EXPORT V6'
            : 'IMPORT V6',
    value: ({ spec }: BGPFilter) => (spec[list]?.length ? `${spec[list].length} rules` : ''),
  })),
});
