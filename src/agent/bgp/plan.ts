// What the speaker of one host should be configured with and originate, worked out from the resources of the store. Pure.
// In: the host's name, the resources, its blocks, the contents of password files. Out: a SpeakerConfig and routes, or the
// reason why there are none, and what in the resources could not be honoured.
// A resource that cannot be honoured never takes another with it: it alone is left out, and told.
import { errorText } from '#base/errors.ts';
import { compileFilters } from '#bgp/filter/compile.ts';
import { rejectAll } from '#bgp/filter/policy.ts';
import type {
  FilterSpec,
  LocalRoute,
  PeerConfig,
  PeerOptions,
  PeerRangeConfig,
  RoutePolicy,
  SpeakerConfig,
} from '#bgp/speaker/api.ts';
import { checkConfig } from '#bgp/speaker/identity.ts';
import { localAttributes } from '#bgp/speaker/local-routes.ts';
import type { BGPConfigurationSpec } from '#model/bgp-configuration.ts';
import type { BGPPeer } from '#model/bgp-peer.ts';
import { IpAddress } from '#net/address.ts';
import { chooseFabric, type Fabric } from './fabric.ts';
import { bgpHosts, type BgpHost, type BgpResources, configurationFor, secondsOf } from './hosts.ts';
import {
  activeAggregates,
  type AggregateRules,
  aggregateRules,
  type OwnBlock,
  ownRoutes,
  withFilters,
} from './own-routes.ts';
import { fabricSessions, type PeerRoute, peerSessions, rangeSessions, type SessionContext } from './sessions.ts';
import { DEFAULT_RESTART_TIME, groupOf } from './settings.ts';

export interface BgpInput {
  readonly hostName: string;
  readonly resources: BgpResources;
  readonly blocks: readonly OwnBlock[];
  /** Contents of the password files of groups by path; null: it could not be read. */
  readonly passwords?: ReadonlyMap<string, string | null>;
  /** Names of the aggregates that the speaker originates already; those wanted when absent. */
  readonly announced?: ReadonlySet<string>;
}

export interface BgpPlan {
  /** null: this host does not speak BGP, for the reason given. */
  readonly config: SpeakerConfig | null;
  readonly reason: string | null;
  readonly routes: readonly LocalRoute[];
  /** Names of the aggregates in `routes`. */
  readonly aggregates: readonly string[];
  /** Prefixes of aggregates: what is not in a block goes nowhere, or it would travel between router and host for ever. */
  readonly blackholes: readonly string[];
  /** Routes of the host to its peers (`reachableBy`). */
  readonly peerRoutes: readonly PeerRoute[];
  readonly fabric: FabricState;
  /** What was asked for and cannot be done, with its resource. */
  readonly problems: readonly string[];
}

export interface FabricState {
  /** `off`: the mesh is disabled, or this host is no part of it. */
  readonly mode: 'mesh' | 'reflectors' | 'off';
  readonly reflectors: readonly string[];
  /** Names of the sessions that the fabric makes. */
  readonly sessions: ReadonlySet<string>;
  /** Names that such a session would have with each host there is. */
  readonly possible: ReadonlySet<string>;
}

const NO_FABRIC: FabricState = { mode: 'off', reflectors: [], sessions: new Set(), possible: new Set() };

/** Of a host that does not speak BGP. */
export function noPlan(reason: string): BgpPlan {
  return {
    config: null,
    reason,
    routes: [],
    aggregates: [],
    blackholes: [],
    peerRoutes: [],
    fabric: NO_FABRIC,
    problems: [],
  };
}

export function bgpPlanFor(input: BgpInput): BgpPlan {
  const { hostName, resources, blocks } = input;
  const hosts = bgpHosts(resources);
  const self = hosts.find((host) => host.name === hostName);
  if (!self) return noPlan(`Node ${hostName} has no spec.bgp address`);
  const problems: string[] = [];
  const problem = (text: string): void => void problems.push(text);
  const configuration = configurationFor(hostName, resources);
  tellUnsupported(configuration, resources, problem);

  const passwords = input.passwords ?? new Map<string, string | null>();
  const context: SessionContext = { self, hosts, groups: resources.groups, passwords, problem };
  const active = activeAggregates(self, resources, blocks);
  const activeNames = active.map(({ metadata }) => metadata.name);
  const announced = input.announced ?? new Set(activeNames);
  const concerned = resources.aggregates.filter(
    ({ metadata: { name } }) => activeNames.includes(name) || announced.has(name),
  );
  const rules = aggregateRules(concerned, new Set(activeNames.filter((name) => announced.has(name))));

  const fabric = fabricOf(hosts, self, configuration, resources, problem);
  const meshed = fabric ? fabricSessions(context, fabric, configuration) : [];
  const peerRoutes: PeerRoute[] = [];
  const peers = meshed.map((peer): Candidate => ({ peer: exporting(peer, rules, [], false), rank: 'fabric' }));
  for (const resource of resources.peers) {
    const sessions = peerSessions(context, resource);
    peerRoutes.push(...sessions.routes);
    const names = namesOf(resource, context);
    const isRouter = resource.spec.peerSelector === undefined;
    const add = (peer: PeerConfig, rank: Rank): void => {
      const isExternal = isRouter && peer.asNumber !== self.asNumber;
      peers.push({ peer: exporting(peer, rules, names, isExternal), rank });
    };
    for (const peer of sessions.peers) add(peer, isRouter ? 'address' : 'selector');
    for (const peer of sessions.reverse) add(peer, 'reverse');
  }
  const ranges = rangeSessions(context).map((range) =>
    exporting(range, rules, [groupName(range, context)], range.asNumber !== self.asNumber),
  );
  const filters: Filters = {
    ...Object.fromEntries(resources.filters.map(({ metadata, spec }) => [metadata.name, spec])),
    ...rules.filters,
  };
  const base: SpeakerConfig = {
    routerId: self.ipv4 ?? hashedRouterId(hostName),
    asNumber: self.asNumber,
    ...(self.clusterId !== null && { clusterId: self.clusterId }),
    listen: listenAddresses(self, configuration).map((address) => ({ address, port: self.port })),
    gracefulRestart: { enabled: true, restartTime: DEFAULT_RESTART_TIME },
    multipath: { maximumPaths: 16, relax: true },
    peers: [],
    peerRanges: [],
    hostName,
  };
  const broken = brokenFilters(filters, problem);
  const usable = <T extends PeerOptions & { readonly name: string }>(
    list: readonly T[],
    as: 'peers' | 'peerRanges',
  ): T[] =>
    list
      .map((peer) => withKnownFilters(peer, filters, broken, problem))
      .filter((peer) => isValid({ ...base, [as]: [peer] }, peer.name, problem));
  const chosen = usable(withoutDoubles(peers, problem), 'peers');
  const chosenRanges = usable(ranges, 'peerRanges');
  const used = new Set(
    [...chosen, ...chosenRanges].flatMap((peer) => [...filtersOf(peer.import), ...filtersOf(peer.export)]),
  );
  const sessions = new Set(meshed.map((peer) => peer.name));
  return {
    config: {
      ...base,
      ...(used.size > 0 && { filters: Object.fromEntries([...used].sort().map((name) => [name, filters[name]!])) }),
      peers: chosen,
      peerRanges: chosenRanges,
    },
    reason: null,
    routes: validRoutes(ownRoutes(resources, blocks, active, configuration), problem),
    aggregates: activeNames,
    blackholes: active.map(({ spec }) => spec.cidr),
    peerRoutes,
    fabric: fabric
      ? {
          mode: fabric.mode,
          reflectors: fabric.reflectors,
          sessions: new Set(chosen.flatMap(({ name }) => (sessions.has(name) ? [name] : []))),
          possible: new Set(hosts.map((host) => `mesh-${host.name}`)),
        }
      : NO_FABRIC,
    problems,
  };
}

type Filters = Readonly<Record<string, FilterSpec>>;

/** Hosts with a cluster id of their own leave the fabric; so does everybody when the mesh is disabled. */
function fabricOf(
  hosts: readonly BgpHost[],
  self: BgpHost,
  configuration: BGPConfigurationSpec,
  { fabrics }: BgpResources,
  problem: (text: string) => void,
): Fabric | null {
  if (configuration.nodeToNodeMeshEnabled === false || self.clusterId !== null) return null;
  const fabric = chooseFabric(
    hosts.filter((host) => host.clusterId === null),
    fabrics.find(({ metadata }) => metadata.name === 'default')?.spec,
  );
  if (fabric.problem !== null) problem(`BGPFabric/default: ${fabric.problem}`);
  return fabric;
}

function exporting<T extends PeerOptions>(
  peer: T,
  rules: AggregateRules,
  names: readonly string[],
  isExternal: boolean,
): T {
  return { ...peer, export: withFilters(peer.export, rules.filtersFor(names, isExternal)) };
}

function namesOf(resource: BGPPeer, { self, groups }: SessionContext): string[] {
  const { name } = resource.metadata;
  const group = groupOf(resource, self, groups);
  return group ? [name, group.metadata.name] : [name];
}

function groupName(range: PeerRangeConfig, { groups }: SessionContext): string {
  return groups.find(({ metadata }) => range.name === `${metadata.name}-${range.prefix}`)?.metadata.name ?? '';
}

function filtersOf(policy: RoutePolicy): readonly string[] {
  return typeof policy === 'string' ? [] : policy.filters;
}

/** Names of filters whose rules cannot be evaluated. */
function brokenFilters(filters: Filters, problem: (text: string) => void): ReadonlySet<string> {
  const broken = new Set<string>();
  for (const [name, spec] of Object.entries(filters)) {
    try {
      for (const direction of ['import', 'export'] as const) compileFilters([{ name, spec }], direction, rejectAll);
    } catch (error) {
      broken.add(name);
      problem(`BGPFilter/${name}: ${errorText(error)}`);
    }
  }
  return broken;
}

/** A peer whose filter is not there exchanges nothing: what the filter would have stopped is not known. */
function withKnownFilters<T extends PeerOptions & { readonly name: string }>(
  peer: T,
  defined: Filters,
  broken: ReadonlySet<string>,
  problem: (text: string) => void,
): T {
  const missing = new Set(
    [...filtersOf(peer.import), ...filtersOf(peer.export)].filter((n) => !Object.hasOwn(defined, n) || broken.has(n)),
  );
  if (missing.size === 0) return peer;
  problem(`${peer.name}: BGPFilter ${[...missing].join(', ')} cannot be used; no route is exchanged until it can`);
  return { ...peer, import: 'none', export: 'none' };
}

/** What a session comes from; the lower comes first where two have one address. */
type Rank = 'address' | 'selector' | 'reverse' | 'fabric';

interface Candidate {
  readonly peer: PeerConfig;
  readonly rank: Rank;
}

/**
 * Two peers with one address cannot be told apart when they connect: the one that says more stays, of equals the first
 * by name. That several resources pair the same two hosts is nothing to tell.
 */
function withoutDoubles(candidates: readonly Candidate[], problem: (text: string) => void): PeerConfig[] {
  const byAddress = new Map<string, PeerConfig>();
  for (const rank of ['address', 'selector', 'reverse', 'fabric'] as const) {
    const ofRank = candidates.filter((one) => one.rank === rank).map((one) => one.peer);
    for (const peer of ofRank.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      const first = byAddress.get(peer.address);
      if (!first) byAddress.set(peer.address, peer);
      else if (rank === 'address')
        problem(`${peer.name} has the address of ${first.name} (${peer.address}) and is left out`);
    }
  }
  return [...byAddress.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

function isValid(config: SpeakerConfig, name: string, problem: (text: string) => void): boolean {
  try {
    checkConfig(config);
    return true;
  } catch (error) {
    problem(`${name}: ${errorText(error)}`);
    return false;
  }
}

function validRoutes(routes: readonly LocalRoute[], problem: (text: string) => void): LocalRoute[] {
  return routes.map((route) => {
    try {
      localAttributes(route, route.prefix);
      return route;
    } catch (error) {
      problem(`${errorText(error)}; announced without communities`);
      const { communities: _communities, largeCommunities: _large, ...plain } = route;
      return plain;
    }
  });
}

function tellUnsupported(
  configuration: BGPConfigurationSpec,
  { groups }: BgpResources,
  problem: (text: string) => void,
): void {
  for (const field of ['serviceClusterIPs', 'serviceExternalIPs', 'serviceLoadBalancerIPs'] as const) {
    if (configuration[field]?.length) problem(`BGPConfiguration: spec.${field}: services are not announced`);
  }
  for (const { metadata, spec } of groups) {
    if (spec.interfaces?.length) problem(`BGPPeerGroup/${metadata.name}: spec.interfaces is not supported`);
    const { bfd } = spec.session;
    if (bfd && (secondsOf(bfd.interval) !== 0.3 || bfd.multiplier !== 3))
      problem(`BGPPeerGroup/${metadata.name}: spec.session.bfd: its timers are not taken, BFD runs with 3 x 300ms`);
  }
}

function listenAddresses(self: BgpHost, configuration: BGPConfigurationSpec): string[] {
  if (configuration.bindMode === 'NodeIP') return [self.ipv4, self.ipv6].filter((a) => a !== null);
  return self.ipv6 === null ? ['0.0.0.0'] : self.ipv4 === null ? ['::'] : ['0.0.0.0', '::'];
}

/** A stable non-zero router id for a host without IPv4: FNV-1a of its name. */
function hashedRouterId(hostName: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < hostName.length; i++) hash = Math.imul(hash ^ hostName.charCodeAt(i), 0x01000193);
  return IpAddress.fromUint32(hash >>> 0 || 1).toString();
}
