// What this host originates: its blocks, and aggregates above them. Pure.
// In: the blocks that the host leases, IPPool, BGPAggregate and BGPConfiguration. Out: routes for the speaker, and for
// each aggregate the rules by which a session carries it, its parts, or neither.
// Addresses inside a block are never announced one by one: the block stands for them.
import type { FilterSpec, LocalRoute, RoutePolicy } from '#bgp/speaker/api.ts';
import type { BGPAggregate } from '#model/bgp-aggregate.ts';
import type { BGPConfigurationSpec } from '#model/bgp-configuration.ts';
import { Prefix } from '#net/prefix.ts';
import { parseSelector } from '#policy/selector/selector.ts';
import type { BgpHost, BgpResources } from './hosts.ts';

/** A block of addresses that this host leases. */
export interface OwnBlock {
  readonly cidr: string;
  readonly pool: string;
}

/** A block whose pool has `disableBGPExport` is not announced. */
export function isAnnounced(block: OwnBlock, { pools }: BgpResources): boolean {
  return !pools.some(({ metadata, spec }) => metadata.name === block.pool && spec.disableBGPExport);
}

/** Aggregates that this host announces now. */
export function activeAggregates(
  self: BgpHost,
  resources: BgpResources,
  blocks: readonly OwnBlock[],
): readonly BGPAggregate[] {
  const announced = blocks.filter((block) => isAnnounced(block, resources)).map(({ cidr }) => Prefix.parse(cidr));
  return resources.aggregates.filter(({ spec }) => {
    if (!parseSelector(spec.nodeSelector).matches(self.labels)) return false;
    const prefix = Prefix.parse(spec.cidr);
    // An aggregate that is itself a block is announced as that block.
    if (announced.some((block) => block.equals(prefix))) return false;
    return spec.announce === 'Always' || announced.some((block) => prefix.covers(block));
  });
}

/** All routes that the host originates. */
export function ownRoutes(
  resources: BgpResources,
  blocks: readonly OwnBlock[],
  aggregates: readonly BGPAggregate[],
  configuration: BGPConfigurationSpec,
): LocalRoute[] {
  const communities = advertisedCommunities(configuration);
  const route = (cidr: string, source: string, own: readonly string[]): LocalRoute => {
    const prefix = Prefix.parse(cidr);
    const all = [...new Set([...own, ...communities(prefix)])];
    const standard = all.filter((text) => text.split(':').length === 2);
    const large = all.filter((text) => text.split(':').length === 3);
    return {
      prefix: prefix.toString(),
      source,
      ...(standard.length > 0 && { communities: standard }),
      ...(large.length > 0 && { largeCommunities: large }),
    };
  };
  const routes = [
    ...blocks.filter((block) => isAnnounced(block, resources)).map(({ cidr }) => route(cidr, 'block', [])),
    ...aggregates.map(({ spec }) => route(spec.cidr, 'aggregate', spec.communities ?? [])),
  ];
  return [...new Map(routes.map((one) => [one.prefix, one])).values()];
}

/** `prefixAdvertisements`: every entry whose prefix holds the route adds its communities, by name or by value. */
function advertisedCommunities({
  communities,
  prefixAdvertisements,
}: BGPConfigurationSpec): (prefix: Prefix) => string[] {
  const named = new Map((communities ?? []).map(({ name, value }) => [name, value]));
  const entries = (prefixAdvertisements ?? []).map((entry) => ({
    prefix: Prefix.parseOrHost(entry.cidr),
    values: entry.communities.map((text) => named.get(text) ?? text),
  }));
  return (prefix) => entries.flatMap((entry) => (entry.prefix.covers(prefix) ? entry.values : []));
}

export interface AggregateRules {
  readonly filters: Readonly<Record<string, FilterSpec>>;
  /**
   * Names of the filters that come before a session's own on export. `names`: of the BGPPeer and BGPPeerGroup that it
   * comes from. `isExternal`: the other end is a router of another AS.
   */
  readonly filtersFor: (names: readonly string[], isExternal: boolean) => string[];
}

/**
 * Which sessions carry an aggregate: all external ones, or those it names; never those between hosts, which need the
 * blocks. `announced`: names of aggregates that the speaker originates already; only those may hide their parts, or a
 * peer would for a moment have neither.
 */
export function aggregateRules(aggregates: readonly BGPAggregate[], announced: ReadonlySet<string>): AggregateRules {
  const filters: Record<string, FilterSpec> = {};
  for (const { metadata, spec } of aggregates) {
    const prefix = Prefix.parse(spec.cidr);
    const list = prefix.family === 4 ? 'exportV4' : 'exportV6';
    const rule = { action: 'Reject', cidr: spec.cidr } as const;
    filters[elsewhere(metadata.name)] = { [list]: [{ ...rule, matchOperator: 'Equal' }] };
    if (prefix.isHost()) continue;
    filters[inside(metadata.name)] = {
      [list]: [{ ...rule, matchOperator: 'In', prefixLength: { min: prefix.length + 1 } }],
    };
  }
  return {
    filters,
    filtersFor(names, isExternal) {
      return aggregates.flatMap(({ metadata: { name }, spec }) => {
        const goes = spec.peers ? names.some((peer) => spec.peers!.includes(peer)) : isExternal;
        if (!goes) return [elsewhere(name)];
        const hides = spec.summaryOnly && announced.has(name) && Object.hasOwn(filters, inside(name));
        return hides ? [inside(name)] : [];
      });
    },
  };
}

/** Not names that a BGPFilter could have; they are seen by people in `brindle bgp explain`. */
const elsewhere = (name: string): string => `BGPAggregate/${name} (not for this peer)`;
const inside = (name: string): string => `BGPAggregate/${name} (stands for what is inside)`;

/** A policy with further filters before its own. */
export function withFilters(policy: RoutePolicy, first: readonly string[]): RoutePolicy {
  if (first.length === 0) return policy;
  if (typeof policy === 'string') return { filters: first, otherwise: policy };
  return { ...policy, filters: [...first, ...policy.filters] };
}
