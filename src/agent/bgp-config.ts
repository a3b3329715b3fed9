// What the speaker of one host should be configured with, worked out from the resources of the store. Pure.
// In: the host's name, Node, BGPConfiguration, BGPPeer and BGPFilter resources. Out: a SpeakerConfig, or the reason why
// there is none, and what in the resources could not be honoured.
// Semantics: Calico's BGPConfiguration and BGPPeer; a node with a route reflector cluster id leaves the mesh.
import type { FilterSpec, PeerConfig, RoutePolicy, SpeakerConfig } from '#bgp/speaker/api.ts';
import { errorText } from '#base/errors.ts';
import type { Resource } from '#model/resource.ts';
import { IpAddress } from '#net/address.ts';
import { parseSelector } from '#policy/selector/selector.ts';

export const DEFAULT_AS_NUMBER = 64_512;
const BGP_PORT = 179;
/** Seconds a peer holds our routes while we restart. */
const DEFAULT_RESTART_TIME = 120;
/** Calico lets an external peer be any number of hops away unless TTL security is asked for. */
const ANY_HOPS = 255;

interface NodeSpec {
  readonly bgp?: {
    readonly ipv4Address?: string;
    readonly ipv6Address?: string;
    readonly asNumber?: number | string;
    readonly routeReflectorClusterID?: string;
  };
}

interface BgpConfigurationSpec {
  readonly asNumber?: number | string;
  readonly nodeToNodeMeshEnabled?: boolean;
  readonly listenPort?: number;
  readonly bindMode?: string;
  readonly nodeMeshMaxRestartTime?: string;
}

interface BgpPeerSpec {
  readonly node?: string;
  readonly nodeSelector?: string;
  readonly peerIP?: string;
  readonly asNumber?: number | string;
  readonly peerSelector?: string;
  readonly keepOriginalNextHop?: boolean;
  readonly nextHopMode?: string;
  readonly maxRestartTime?: string;
  readonly numAllowedLocalASNumbers?: number;
  readonly ttlSecurity?: number;
  readonly sourceAddress?: string;
  readonly filters?: readonly string[];
  readonly localASNumber?: number | string;
  readonly keepaliveTime?: string;
  readonly password?: unknown;
}

export interface BgpResources {
  readonly nodes: readonly Resource[];
  readonly configurations: readonly Resource[];
  readonly peers: readonly Resource[];
  readonly filters?: readonly Resource[];
}

export interface BgpPlan {
  /** null: this host does not speak BGP, for the reason given. */
  readonly config: SpeakerConfig | null;
  readonly reason: string | null;
  /** What was asked for and cannot be done, with its resource. */
  readonly problems: readonly string[];
}

interface Speaker {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly asNumber: number;
  readonly clusterId: string | null;
}

/** The names of mesh sessions are `mesh-<node>`, those of peers `<BGPPeer>` or `<BGPPeer>-<node>`. */
export function bgpPlanFor(hostName: string, resources: BgpResources): BgpPlan {
  const problems: string[] = [];
  const configuration = {
    ...configurationSpec(resources.configurations, 'default'),
    ...configurationSpec(resources.configurations, `node.${hostName}`),
  };
  const defaultAs = parseAs(configuration.asNumber) ?? DEFAULT_AS_NUMBER;
  const speakers = resources.nodes.map((node) => speakerOf(node, defaultAs)).filter((s) => s !== null);
  const self = speakers.find((s) => s.name === hostName);
  if (!self) return { config: null, reason: `Node ${hostName} has no spec.bgp address`, problems };

  const peers = new Map<string, PeerConfig>();
  const listenPort = configuration.listenPort ?? BGP_PORT;
  if (configuration.nodeToNodeMeshEnabled ?? true) {
    for (const peer of meshPeers(self, speakers, listenPort, configuration)) peers.set(peer.name, peer);
  }
  for (const resource of resources.peers) {
    try {
      for (const peer of configuredPeers(resource, self, speakers, listenPort, problems)) peers.set(peer.name, peer);
    } catch (error) {
      problems.push(`BGPPeer/${resource.metadata.name}: ${errorText(error)}`);
    }
  }
  const defined = Object.fromEntries((resources.filters ?? []).map((f) => [f.metadata.name, f.spec as FilterSpec]));
  const chosen = withoutDoubles([...peers.values()], problems).map((peer) => withKnownFilters(peer, defined, problems));
  const used = new Set(chosen.flatMap((peer) => [...filtersOf(peer.import), ...filtersOf(peer.export)]));
  return {
    config: {
      routerId: self.ipv4 ?? hashedRouterId(hostName),
      asNumber: self.asNumber,
      ...(self.clusterId !== null && { clusterId: self.clusterId }),
      listen: listenAddresses(self, configuration).map((address) => ({ address, port: listenPort })),
      gracefulRestart: { enabled: true, restartTime: DEFAULT_RESTART_TIME },
      multipath: { maximumPaths: 16, relax: true },
      ...(used.size > 0 && { filters: Object.fromEntries([...used].map((name) => [name, defined[name]!])) }),
      peers: chosen,
      peerRanges: [],
      hostName,
    },
    reason: null,
    problems,
  };
}

function meshPeers(
  self: Speaker,
  speakers: readonly Speaker[],
  port: number,
  configuration: BgpConfigurationSpec,
): PeerConfig[] {
  if (self.clusterId !== null) return [];
  const restartTime = parseSeconds(configuration.nodeMeshMaxRestartTime) ?? DEFAULT_RESTART_TIME;
  return speakers
    .filter((s) => s.name !== self.name && s.clusterId === null)
    .flatMap((s) => sessionsWith(self, s, `mesh-${s.name}`, { port, restartTime, export: 'all' }));
}

/** One session for both families where both hosts have IPv4, else one over IPv6. */
function sessionsWith(
  self: Speaker,
  other: Speaker,
  name: string,
  options: { port: number; restartTime: number; export: RoutePolicy } & Partial<PeerConfig>,
): PeerConfig[] {
  const { port, restartTime, ...rest } = options;
  const common = {
    ...rest,
    name,
    port,
    asNumber: other.asNumber,
    import: 'all' as const,
    gracefulRestart: { enabled: true, restartTime },
    ...(self.clusterId !== null && other.clusterId !== self.clusterId && { routeReflectorClient: true }),
    ...(other.asNumber !== self.asNumber && { multihop: ANY_HOPS }),
  };
  const dual = self.ipv6 !== null && other.ipv6 !== null;
  if (self.ipv4 !== null && other.ipv4 !== null) {
    return [
      {
        ...common,
        address: other.ipv4,
        localAddress: self.ipv4,
        families: dual ? ['ipv4', 'ipv6'] : ['ipv4'],
        ...(dual && { nextHopAddress: self.ipv6 }),
      },
    ];
  }
  if (dual) return [{ ...common, address: other.ipv6, localAddress: self.ipv6, families: ['ipv6'] }];
  return [];
}

function configuredPeers(
  resource: Resource,
  self: Speaker,
  speakers: readonly Speaker[],
  listenPort: number,
  problems: string[],
): PeerConfig[] {
  const spec = resource.spec as BgpPeerSpec;
  const name = resource.metadata.name;
  if (spec.node !== undefined && spec.node !== self.name) return [];
  if (spec.nodeSelector && !parseSelector(spec.nodeSelector).matches(self.labels)) return [];
  if (spec.password !== undefined) {
    problems.push(`BGPPeer/${name}: spec.password refers to a Kubernetes Secret, and this store has none`);
    return []; // never a session without the authentication that was asked for
  }
  // A host announces what it originates and is no transit; a reflector passes on.
  const otherwise = self.clusterId === null ? 'local' : 'all';
  const filters = spec.filters ?? [];
  const exported: RoutePolicy = filters.length > 0 ? { filters, otherwise } : otherwise;
  const imported: RoutePolicy = filters.length > 0 ? { filters, otherwise: 'all' } : 'all';
  const localAs = parseAs(spec.localASNumber);
  const restartTime = parseSeconds(spec.maxRestartTime) ?? DEFAULT_RESTART_TIME;
  const keepaliveTime = parseSeconds(spec.keepaliveTime);
  const shared = {
    import: imported,
    export: exported,
    gracefulRestart: { enabled: true, restartTime },
    ...(localAs !== null && { localAs }),
    ...(keepaliveTime !== null && { keepaliveTime }),
    ...(spec.numAllowedLocalASNumbers !== undefined && { allowOwnAs: spec.numAllowedLocalASNumbers }),
    nextHop: nextHopMode(spec),
  };
  if (spec.peerSelector !== undefined) {
    const selector = parseSelector(spec.peerSelector);
    return speakers
      .filter((s) => s.name !== self.name && selector.matches(s.labels))
      .flatMap((s) =>
        sessionsWith(self, s, `${name}-${s.name}`, { ...shared, port: listenPort, restartTime, export: exported }),
      );
  }
  const { address, port } = splitPort(spec.peerIP ?? '');
  const asNumber = parseAs(spec.asNumber) ?? self.asNumber;
  const isV4 = IpAddress.parse(address).family === 4;
  const localAddress = isV4 ? self.ipv4 : self.ipv6;
  if (localAddress === null) return []; // no address of that family here: the peer is not for this host
  return [
    {
      ...shared,
      name,
      address,
      port: port ?? BGP_PORT,
      asNumber,
      ...((spec.sourceAddress ?? 'UseNodeIP') === 'UseNodeIP' && { localAddress }),
      families: [isV4 ? 'ipv4' : 'ipv6'],
      ...(spec.ttlSecurity !== undefined
        ? { ttlSecurity: spec.ttlSecurity }
        : asNumber !== (localAs ?? self.asNumber) && { multihop: ANY_HOPS }),
      ...(self.clusterId !== null && asNumber === self.asNumber && { routeReflectorClient: true }),
    },
  ];
}

function filtersOf(policy: RoutePolicy): readonly string[] {
  return typeof policy === 'string' ? [] : policy.filters;
}

/** A peer whose filter is not there exchanges nothing: what the filter would have stopped is not known. */
function withKnownFilters(
  peer: PeerConfig,
  defined: Readonly<Record<string, FilterSpec>>,
  problems: string[],
): PeerConfig {
  const missing = new Set(
    [...filtersOf(peer.import), ...filtersOf(peer.export)].filter((n) => !Object.hasOwn(defined, n)),
  );
  if (missing.size === 0) return peer;
  problems.push(`${peer.name}: BGPFilter ${[...missing].join(', ')} is not there; no route is exchanged until it is`);
  return { ...peer, import: 'none', export: 'none' };
}

/** Two peers with one address cannot be told apart when they connect; the first by name stays. */
function withoutDoubles(peers: readonly PeerConfig[], problems: string[]): PeerConfig[] {
  const byAddress = new Map<string, PeerConfig>();
  for (const peer of peers.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const key = `${peer.address} ${peer.port ?? BGP_PORT}`;
    const first = byAddress.get(key);
    if (first) problems.push(`${peer.name} has the address of ${first.name} (${peer.address}) and is left out`);
    else byAddress.set(key, peer);
  }
  return [...byAddress.values()];
}

function nextHopMode(spec: BgpPeerSpec): 'auto' | 'self' | 'keep' {
  if (spec.nextHopMode === 'Self') return 'self';
  if (spec.nextHopMode === 'Keep' || spec.keepOriginalNextHop === true) return 'keep';
  return 'auto';
}

function listenAddresses(self: Speaker, configuration: BgpConfigurationSpec): string[] {
  if (configuration.bindMode === 'NodeIP') return [self.ipv4, self.ipv6].filter((a) => a !== null);
  return self.ipv6 === null ? ['0.0.0.0'] : self.ipv4 === null ? ['::'] : ['0.0.0.0', '::'];
}

function speakerOf(node: Resource, defaultAs: number): Speaker | null {
  const bgp = (node.spec as NodeSpec).bgp;
  if (!bgp || (bgp.ipv4Address === undefined && bgp.ipv6Address === undefined)) return null;
  return {
    name: node.metadata.name,
    labels: node.metadata.labels ?? {},
    ipv4: hostPart(bgp.ipv4Address),
    ipv6: hostPart(bgp.ipv6Address),
    asNumber: parseAs(bgp.asNumber) ?? defaultAs,
    clusterId: bgp.routeReflectorClusterID ? bgp.routeReflectorClusterID : null,
  };
}

function hostPart(text: string | undefined): string | null {
  return text ? IpAddress.parse(text.split('/')[0]!).toString() : null;
}

/** `64512`, `"64512"` or `"1.10"` (RFC 5396 asdot). */
export function parseAs(value: number | string | undefined): number | null {
  if (value === undefined) return null;
  if (typeof value === 'number') return value;
  const [high, low] = value.split('.');
  return low === undefined ? Number(high) : Number(high) * 65_536 + Number(low);
}

/** `90s`, `2m`, `1h30m`: whole seconds; null when absent. */
export function parseSeconds(text: string | undefined): number | null {
  if (text === undefined) return null;
  let seconds = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)) {
    seconds += Number(amount) * (unit === 'h' ? 3600 : unit === 'm' ? 60 : unit === 'ms' ? 0.001 : 1);
  }
  return Math.round(seconds);
}

/** `10.0.0.1`, `10.0.0.1:1790`, `fd00::1`, `[fd00::1]:1790`. */
function splitPort(text: string): { address: string; port: number | null } {
  const match = /^\[([^\]]+)\]:(\d+)$/.exec(text) ?? /^([\d.]+):(\d+)$/.exec(text);
  if (match) return { address: match[1]!, port: Number(match[2]) };
  return { address: text, port: null };
}

/** A stable non-zero router id for a host without IPv4: FNV-1a of its name. */
function hashedRouterId(hostName: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < hostName.length; i++) hash = Math.imul(hash ^ hostName.charCodeAt(i), 0x01000193);
  return IpAddress.fromUint32(hash >>> 0 || 1).toString();
}

function configurationSpec(resources: readonly Resource[], name: string): BgpConfigurationSpec | undefined {
  return resources.find((r) => r.metadata.name === name)?.spec as BgpConfigurationSpec | undefined;
}
