// BGPPeer: a router, or other hosts, that some hosts peer with. Calico's projectcalico.org/v3 fields.
// What Calico has no field for (hold time, BFD, maximum prefixes, ...) is in BGPPeerGroup, which names or selects BGPPeers.
import { SecretReference } from './bgp-common.ts';
import { parseAddressPort } from './formats.ts';
import { defineKind } from './kind.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { IpAddress } from '#net/address.ts';
import { Int, IntOrText, OneOf, type Static, Text, Type } from './schema.ts';

const Optional = Type.Optional;

export const BGPPeerSpec = Type.Object({
  node: Optional(Text('name', 'The host that peers; all hosts when neither node nor nodeSelector is given')),
  nodeSelector: Optional(Text('selector', 'The hosts that peer')),
  peerIP: Optional(Text('address-port', 'Address of the peer, with a port where it is not 179')),
  asNumber: Optional(IntOrText('as-number', 'AS number of the peer')),
  localASNumber: Optional(IntOrText('as-number', 'AS number under which this peer knows us')),
  peerSelector: Optional(Text('selector', 'The hosts to peer with, in place of peerIP')),
  localWorkloadSelector: Optional(Text('selector', 'The local workloads to peer with, in place of peerIP')),
  filters: Optional(Type.Array(Text('name'), { description: 'Names of BGPFilters, in order' })),
  password: Optional(SecretReference),
  sourceAddress: Optional(OneOf(['UseNodeIP', 'None'])),
  nextHopMode: Optional(OneOf(['Auto', 'Self', 'Keep'])),
  keepOriginalNextHop: Optional(Type.Boolean()),
  maxRestartTime: Optional(Text('duration', 'How long the peer holds our routes while we restart: 120s when absent')),
  keepaliveTime: Optional(Text('duration')),
  numAllowedLocalASNumbers: Optional(Int(0, 255, 'How often our AS may be in a path from this peer')),
  ttlSecurity: Optional(Int(0, 255, 'Accept packets from at most this many hops away (RFC 5082); 0 is off')),
  reachableBy: Optional(Text('ip', 'The gateway by which the peer is reached')),
  reversePeering: Optional(OneOf(['Auto', 'Manual'])),
});
export type BGPPeerSpec = Static<typeof BGPPeerSpec>;
export type BGPPeer = Resource<BGPPeerSpec>;

/** Two fields of which only one may be given. */
const EXCLUSIVE: readonly (readonly [keyof BGPPeerSpec, keyof BGPPeerSpec])[] = [
  ['node', 'nodeSelector'],
  ['peerIP', 'peerSelector'],
  ['asNumber', 'peerSelector'],
  ['keepOriginalNextHop', 'nextHopMode'],
  ['localWorkloadSelector', 'peerIP'],
  ['localWorkloadSelector', 'peerSelector'],
];

function given(value: unknown): boolean {
  return value !== undefined && value !== '' && value !== false;
}

function validate({ spec }: BGPPeer, problems: Problems): void {
  for (const [one, other] of EXCLUSIVE) {
    if (given(spec[one]) && given(spec[other]))
      problems.add(`spec.${one}`, `cannot be combined with ${other}`, 'remove one of the two');
  }
  const { peerIP, peerSelector, localWorkloadSelector } = spec;
  if (!given(peerIP) && !given(peerSelector) && !given(localWorkloadSelector)) {
    problems.add('spec', 'names no peer', 'write peerIP, peerSelector or localWorkloadSelector');
  }
  if ((given(peerIP) || given(localWorkloadSelector)) && spec.asNumber === undefined) {
    problems.add('spec.asNumber', 'is required', 'write the AS number of the peer');
  }
  const peer = peerIP === undefined ? null : parseAddressPort(peerIP);
  if (peer && (peer.address.isUnspecified() || peer.address.isMulticast())) {
    problems.add('spec.peerIP', `${peer.address} cannot be the address of a peer`);
  }
  if (spec.reachableBy !== undefined) {
    const gateway = IpAddress.parse(spec.reachableBy);
    if (!peer) problems.add('spec.reachableBy', 'is only possible with peerIP', 'remove it');
    else if (gateway.family !== peer.address.family) {
      problems.add(
        'spec.reachableBy',
        `${gateway} is not of the family of the peer ${peer.address}`,
        `write an IPv${peer.address.family} address`,
      );
    }
  }
}

function hostsOf(spec: BGPPeerSpec): string {
  return spec.node ?? spec.nodeSelector ?? '(all)';
}

export const bgpPeer = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'BGPPeer',
  plural: 'bgppeers',
  singular: 'bgppeer',
  shortNames: ['peer', 'peers'],
  namespaced: false,
  description: 'A router, or other hosts, that some hosts peer with.',
  spec: BGPPeerSpec,
  validate,
  columns: [
    { title: 'PEER', value: ({ spec }) => spec.peerIP ?? spec.peerSelector ?? spec.localWorkloadSelector ?? '' },
    { title: 'AS', value: ({ spec }) => String(spec.asNumber ?? '') },
    { title: 'HOSTS', value: ({ spec }) => hostsOf(spec) },
    { title: 'FILTERS', value: ({ spec }) => (spec.filters ?? []).join(','), wide: true },
    {
      title: 'NEXT HOP',
      value: ({ spec }) => spec.nextHopMode ?? (spec.keepOriginalNextHop ? 'Keep' : 'Auto'),
      wide: true,
    },
  ],
});
