// The hosts as BGP speakers, and the resources that say what each should do. Pure.
// In: Node and BGPConfiguration resources. Out: addresses, AS number, port and labels of every host that speaks BGP.
// projectcalico.org/v3: a field of BGPConfiguration `node.<host>` comes before that of `default`.
import { DEFAULT_AS, DEFAULT_BGP_PORT } from '#model/bgp-common.ts';
import type { BGPAggregate } from '#model/bgp-aggregate.ts';
import type { BGPConfiguration, BGPConfigurationSpec } from '#model/bgp-configuration.ts';
import type { BGPFabric } from '#model/bgp-fabric.ts';
import type { BGPFilter } from '#model/bgp-filter.ts';
import type { BGPPeerGroup } from '#model/bgp-peer-group.ts';
import type { BGPPeer } from '#model/bgp-peer.ts';
import { parseAsNumber, parseDuration } from '#model/formats.ts';
import type { IPPool } from '#model/ip-pool.ts';
import type { Node } from '#model/node.ts';
import { keyOf, type Resource } from '#model/resource.ts';
import { IpAddress } from '#net/address.ts';

/** Every resource that BGP depends on. */
export interface BgpResources {
  readonly nodes: readonly Node[];
  readonly configurations: readonly BGPConfiguration[];
  readonly peers: readonly BGPPeer[];
  readonly filters: readonly BGPFilter[];
  readonly groups: readonly BGPPeerGroup[];
  readonly aggregates: readonly BGPAggregate[];
  readonly fabrics: readonly BGPFabric[];
  readonly pools: readonly IPPool[];
}

export const BGP_KINDS = [
  'Node',
  'BGPConfiguration',
  'BGPPeer',
  'BGPFilter',
  'BGPPeerGroup',
  'BGPAggregate',
  'BGPFabric',
  'IPPool',
] as const;

/** Sorts resources by kind; others are left out. Each list is in the order of names, so that all hosts see the same. */
export function bgpResources(resources: Iterable<Resource>): BgpResources {
  const byKind = new Map<string, Resource[]>();
  for (const resource of resources) {
    const { kind } = keyOf(resource);
    const list = byKind.get(kind);
    if (list) list.push(resource);
    else byKind.set(kind, [resource]);
  }
  const of = <T>(kind: (typeof BGP_KINDS)[number]): T[] =>
    (byKind.get(kind) ?? []).toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1)) as T[];
  return {
    nodes: of('Node'),
    configurations: of('BGPConfiguration'),
    peers: of('BGPPeer'),
    filters: of('BGPFilter'),
    groups: of('BGPPeerGroup'),
    aggregates: of('BGPAggregate'),
    fabrics: of('BGPFabric'),
    pools: of('IPPool'),
  };
}

/** A host that speaks BGP. */
export interface BgpHost {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** null: it has no address of that family. */
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly asNumber: number;
  /** A route reflector by configuration; null for all others. */
  readonly clusterId: string | null;
  /** Where it listens. */
  readonly port: number;
}

/** What holds for a host. */
export function configurationFor(host: string, { configurations }: BgpResources): BGPConfigurationSpec {
  const named = (name: string): BGPConfigurationSpec =>
    configurations.find(({ metadata }) => metadata.name === name)?.spec ?? {};
  return { ...named('default'), ...named(`node.${host}`) };
}

/** All hosts with an address for BGP, in the order of names. */
export function bgpHosts(resources: BgpResources): BgpHost[] {
  const ownPorts = new Map(
    resources.configurations.flatMap(({ metadata, spec }): [string, number][] =>
      spec.listenPort === undefined ? [] : [[metadata.name, spec.listenPort]],
    ),
  );
  const { asNumber } = configurationFor('', resources);
  return resources.nodes.flatMap(({ metadata: { name, labels }, spec }): BgpHost[] => {
    const bgp = spec.bgp;
    if (!bgp || (bgp.ipv4Address === undefined && bgp.ipv6Address === undefined)) return [];
    return [
      {
        name,
        labels: labels ?? {},
        ipv4: hostPart(bgp.ipv4Address),
        ipv6: hostPart(bgp.ipv6Address),
        asNumber: asNumberOf(bgp.asNumber) ?? asNumberOf(asNumber) ?? DEFAULT_AS,
        clusterId: bgp.routeReflectorClusterID ? bgp.routeReflectorClusterID : null,
        port: ownPorts.get(`node.${name}`) ?? ownPorts.get('default') ?? DEFAULT_BGP_PORT,
      },
    ];
  });
}

function hostPart(text: string | undefined): string | null {
  return text ? IpAddress.parse(text.split('/')[0]!).toString() : null;
}

/** null when absent. */
export function asNumberOf(value: number | string | undefined): number | null {
  return value === undefined ? null : parseAsNumber(value);
}

/** Seconds, not rounded; null when absent. */
export function secondsOf(duration: string | undefined): number | null {
  const milliseconds = duration === undefined ? null : parseDuration(duration);
  return milliseconds === null ? null : milliseconds / 1000;
}
