// The sessions of one host. Pure.
// In: the hosts, BGPPeer and BGPPeerGroup resources. Out: the speaker's peers and ranges.
// Names: `mesh-<node>` for sessions of the fabric (mesh or reflectors, so that one that stays is not touched when the
// fabric changes), `<BGPPeer>` for a peer with an address, `<BGPPeer>-<node>` for hosts that a selector finds,
// `<BGPPeerGroup>-<prefix>` for ranges.
import { errorText } from '#base/errors.ts';
import type { AddressFamily, PeerConfig, PeerOptions, PeerRangeConfig } from '#bgp/speaker/api.ts';
import type { BGPConfigurationSpec } from '#model/bgp-configuration.ts';
import type { BGPPeerGroup } from '#model/bgp-peer-group.ts';
import type { BGPPeer } from '#model/bgp-peer.ts';
import { DEFAULT_BGP_PORT } from '#model/bgp-common.ts';
import { parseAddressPort } from '#model/formats.ts';
import { Prefix } from '#net/prefix.ts';
import { parseSelector } from '#policy/selector/selector.ts';
import type { Fabric } from './fabric.ts';
import { asNumberOf, type BgpHost } from './hosts.ts';
import { groupOf, holdsOn, type OwnSettings, type Settings, settingsFor } from './settings.ts';

export interface SessionContext {
  readonly self: BgpHost;
  readonly hosts: readonly BgpHost[];
  readonly groups: readonly BGPPeerGroup[];
  readonly passwords: ReadonlyMap<string, string | null>;
  /** Told what was asked for and cannot be done. */
  readonly problem: (text: string) => void;
}

/** A route of the host itself that a peer is reached by. */
export interface PeerRoute {
  readonly prefix: string;
  readonly gateway: string;
}

export interface Sessions {
  readonly peers: readonly PeerConfig[];
  /** Those that are here only because another host looks for this one. */
  readonly reverse: readonly PeerConfig[];
  readonly routes: readonly PeerRoute[];
}

/** Sessions with the other hosts of the fabric. */
export function fabricSessions(
  context: SessionContext,
  fabric: Fabric,
  configuration: BGPConfigurationSpec,
): PeerConfig[] {
  const { self, groups, problem } = context;
  const group = groups.find((candidate) => candidate.spec.nodeMesh && holdsOn(self, candidate)) ?? null;
  const { nodeMeshMaxRestartTime, nodeMeshPassword } = configuration;
  const own: OwnSettings = {
    ...(nodeMeshMaxRestartTime !== undefined && { maxRestartTime: nodeMeshMaxRestartTime }),
    ...(nodeMeshPassword !== undefined && { password: nodeMeshPassword }),
  };
  const refusals = new Set<string>();
  const peers = fabric.linksOf(self.name).flatMap(({ other, isClient }) =>
    hostSession(context, other, {
      name: `mesh-${other.name}`,
      own,
      group,
      isClient,
      exported: 'all',
      refuse: (reason) => refusals.add(reason),
    }),
  );
  for (const reason of refusals) problem(`BGPConfiguration/default: sessions between hosts: ${reason}`);
  return peers;
}

/** What a BGPPeer means on this host: one session, several, or none. */
export function peerSessions(context: SessionContext, resource: BGPPeer): Sessions {
  const { self, groups, problem } = context;
  const { name } = resource.metadata;
  const refuse = (reason: string): void => problem(`BGPPeer/${name}: ${reason}`);
  try {
    const { spec } = resource;
    if (spec.localWorkloadSelector !== undefined) {
      if (isSelected(resource, self)) refuse('peering with local workloads (localWorkloadSelector) is not supported');
      return NOTHING;
    }
    const group = groupOf(resource, self, groups);
    if (spec.peerSelector !== undefined) {
      const sessionsWith = (others: readonly BgpHost[]): PeerConfig[] =>
        others.flatMap((other) =>
          hostSession(context, other, {
            name: `${name}-${other.name}`,
            own: spec,
            group,
            isClient: self.clusterId !== null && other.clusterId !== self.clusterId,
            exported: exportedBy(self),
            refuse,
          }),
        );
      const { found, finders } = partners(context, resource);
      return { peers: sessionsWith(found), reverse: sessionsWith(finders), routes: [] };
    }
    return isSelected(resource, self) ? addressSession(context, resource, group, refuse) : NOTHING;
  } catch (error) {
    refuse(errorText(error));
    return NOTHING;
  }
}

const NOTHING: Sessions = { peers: [], reverse: [], routes: [] };

/** Listen ranges of the groups that hold on this host. */
export function rangeSessions(context: SessionContext): PeerRangeConfig[] {
  const { self, groups, passwords, problem } = context;
  return groups
    .filter((group) => holdsOn(self, group))
    .flatMap((group) =>
      (group.spec.listenRanges ?? []).flatMap((range): PeerRangeConfig[] => {
        const prefix = Prefix.parse(range.cidr);
        const family: AddressFamily = prefix.family === 4 ? 'ipv4' : 'ipv6';
        const asNumber = asNumberOf(range.asNumber);
        const settings = settingsFor({
          own: {},
          group,
          peerAs: asNumber,
          hostAs: self.asNumber,
          families: [family],
          exported: exportedBy(self),
          passwords,
        });
        if ('refused' in settings) {
          problem(`BGPPeerGroup/${group.metadata.name}: ${settings.refused}`);
          return [];
        }
        if (settings.shutdown !== null) return []; // nobody to tell: whoever connects is refused
        return [
          {
            ...settings.options,
            ...otherFamilyAddress(self, family, settings.options.families),
            ...reflecting(self, asNumber, settings.options),
            name: `${group.metadata.name}-${prefix}`,
            prefix: prefix.toString(),
            ...(asNumber !== null && { asNumber }),
            ...(range.limit !== undefined && { limit: range.limit }),
          },
        ];
      }),
    );
}

/** A host announces what it originates and is no transit; a reflector passes on. */
function exportedBy(self: BgpHost): 'all' | 'local' {
  return self.clusterId === null ? 'local' : 'all';
}

function isSelected({ spec }: BGPPeer, host: BgpHost): boolean {
  if (spec.node !== undefined) return spec.node === host.name;
  return spec.nodeSelector === undefined || parseSelector(spec.nodeSelector).matches(host.labels);
}

/**
 * The hosts that a BGPPeer with a peerSelector pairs this one with: those it finds, and those that find it. A session
 * needs both its ends, so it is made from the other one as well, unless `reversePeering` is Manual.
 */
function partners({ self, hosts }: SessionContext, resource: BGPPeer): { found: BgpHost[]; finders: BgpHost[] } {
  const { peerSelector, reversePeering } = resource.spec;
  const selector = parseSelector(peerSelector!);
  const others = hosts.filter((other) => other.name !== self.name);
  const found = isSelected(resource, self) ? others.filter((other) => selector.matches(other.labels)) : [];
  const isFound = selector.matches(self.labels) && reversePeering !== 'Manual';
  const finders = others.filter((other) => isFound && !found.includes(other) && isSelected(resource, other));
  return { found, finders };
}

interface HostSessionOptions {
  readonly name: string;
  readonly own: OwnSettings;
  readonly group: BGPPeerGroup | null;
  readonly isClient: boolean;
  readonly exported: 'all' | 'local';
  readonly refuse: (reason: string) => void;
}

/** One session for both families where both hosts have IPv4, else one over IPv6. */
function hostSession(context: SessionContext, other: BgpHost, options: HostSessionOptions): PeerConfig[] {
  const { self, passwords } = context;
  const { name, own, group, isClient, exported, refuse } = options;
  const overV4 = self.ipv4 !== null && other.ipv4 !== null;
  const overV6 = self.ipv6 !== null && other.ipv6 !== null;
  const addresses = overV4
    ? { address: other.ipv4, localAddress: self.ipv4 }
    : overV6
      ? { address: other.ipv6, localAddress: self.ipv6 }
      : null;
  if (!addresses) return [];
  const families: AddressFamily[] = overV4 ? (overV6 ? ['ipv4', 'ipv6'] : ['ipv4']) : ['ipv6'];
  const settings = settingsFor({
    own,
    group,
    peerAs: other.asNumber,
    hostAs: self.asNumber,
    families,
    exported,
    passwords,
  });
  if ('refused' in settings) {
    refuse(settings.refused);
    return [];
  }
  return [
    {
      ...named(name, settings),
      ...addresses,
      port: other.port,
      asNumber: other.asNumber,
      ...(isClient && { routeReflectorClient: true }),
      ...otherFamilyAddress(self, overV4 ? 'ipv4' : 'ipv6', settings.options.families),
    },
  ];
}

function addressSession(
  { self, passwords }: SessionContext,
  { metadata: { name }, spec }: BGPPeer,
  group: BGPPeerGroup | null,
  refuse: (reason: string) => void,
): Sessions {
  const peer = parseAddressPort(spec.peerIP ?? '');
  if (!peer) {
    refuse(`peerIP "${spec.peerIP ?? ''}" is not an address`);
    return NOTHING;
  }
  const family: AddressFamily = peer.address.family === 4 ? 'ipv4' : 'ipv6';
  const localAddress = self[family];
  if (localAddress === null) return NOTHING; // no address of that family here: the peer is not for this host
  const address = peer.address.toString();
  if (address === localAddress) return NOTHING; // a peer of all hosts that is one of them
  const asNumber = asNumberOf(spec.asNumber) ?? self.asNumber;
  const settings = settingsFor({
    own: spec,
    group,
    peerAs: asNumber,
    hostAs: self.asNumber,
    families: [family],
    exported: exportedBy(self),
    passwords,
  });
  if ('refused' in settings) {
    refuse(settings.refused);
    return NOTHING;
  }
  const config: PeerConfig = {
    ...named(name, settings),
    address,
    port: peer.port ?? DEFAULT_BGP_PORT,
    asNumber,
    ...((spec.sourceAddress ?? 'UseNodeIP') === 'UseNodeIP' && { localAddress }),
    ...reflecting(self, asNumber, settings.options),
    ...otherFamilyAddress(self, family, settings.options.families),
  };
  const { reachableBy } = spec;
  const prefix = `${address}/${family === 'ipv4' ? 32 : 128}`;
  return { peers: [config], reverse: [], routes: reachableBy === undefined ? [] : [{ prefix, gateway: reachableBy }] };
}

function named(
  name: string,
  settings: Exclude<Settings, { refused: string }>,
): PeerOptions & { name: string; shutdown?: string | true } {
  return { ...settings.options, name, ...(settings.shutdown !== null && { shutdown: settings.shutdown }) };
}

/** A reflector by configuration has internal peers for clients, unless a group says otherwise. */
function reflecting(
  self: BgpHost,
  asNumber: number | null,
  options: PeerOptions,
): Pick<PeerOptions, 'routeReflectorClient'> {
  const isClient = self.clusterId !== null && asNumber === self.asNumber && options.routeReflectorClient === undefined;
  return isClient ? { routeReflectorClient: true } : {};
}

/** The next hop for routes of the family that the session is not made over. */
function otherFamilyAddress(
  self: BgpHost,
  family: AddressFamily,
  families: readonly AddressFamily[],
): Pick<PeerOptions, 'nextHopAddress'> {
  const other = family === 'ipv4' ? 'ipv6' : 'ipv4';
  const address = self[other];
  return families.includes(other) && address !== null ? { nextHopAddress: address } : {};
}
