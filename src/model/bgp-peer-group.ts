// BGPPeerGroup (brindle.dev/v1): session settings that Calico's BGPPeer has no field for, and peers that are not named one
// by one. As a peer group of a router: members take its settings. Members are BGPPeers (named or selected by label),
// whoever connects from a range (listen ranges), and neighbours on interfaces (unnumbered, RFC 8950).
// A BGPPeer's own fields come before those of its group; of several groups the first by name.
import { Prefix } from '#net/prefix.ts';
import { Family } from './bgp-common.ts';
import { parseDuration } from './formats.ts';
import { defineKind } from './kind.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { Default, Int, IntOrText, OneOf, type Static, Text, Type } from './schema.ts';

const Optional = Type.Optional;

const Bfd = Type.Object({
  interval: Default(Text('duration', 'How often packets are sent and expected'), '300ms'),
  multiplier: Default(Int(1, 255, 'How many may be missing before the peer is down'), 3),
  multihop: Optional(Type.Boolean({ description: 'The peer is not on the same link (RFC 5883)' })),
});

const MaxPrefixes = Type.Object({
  ipv4: Optional(Int(1, 10_000_000, 'Most IPv4 prefixes accepted from a peer')),
  ipv6: Optional(Int(1, 10_000_000, 'Most IPv6 prefixes accepted from a peer')),
  action: Default(OneOf(['Reset', 'Warn'], 'Reset: end the session (Cease 6/1); Warn: an event only'), 'Reset'),
  restartAfter: Default(Text('duration', 'How long the session stays down'), '5m'),
});

export const BGPPeerGroupSpec = Type.Object({
  nodeSelector: Default(Text('selector', 'The hosts on which the group holds'), 'all()'),
  peers: Optional(Type.Array(Text('name'), { description: 'Names of BGPPeers that are members' })),
  peerSelector: Optional(Text('selector', 'Labels of BGPPeers that are members')),
  nodeMesh: Default(Type.Boolean({ description: 'The sessions of the node-to-node mesh are members' }), false),
  listenRanges: Optional(
    Type.Array(
      Type.Object({
        cidr: Text('strict-cidr', 'Whoever connects from here is a member'),
        asNumber: Optional(IntOrText('as-number', 'AS number such a peer must have; any when absent')),
        limit: Optional(Int(1, 100_000, 'Most peers at once: 5000 when absent')),
      }),
    ),
  ),
  interfaces: Optional(
    Type.Array(
      Type.Object({
        name: Text('interface-name', 'The interface whose neighbour is a member, by its link-local address'),
        asNumber: IntOrText('as-number', 'AS number of the neighbour'),
      }),
    ),
  ),
  session: Default(
    Type.Object({
      holdTime: Optional(Text('duration', 'Hold time offered: 0, or 3s and more; 90s when absent')),
      keepaliveTime: Optional(Text('duration')),
      bfd: Optional(Bfd),
      maxPrefixes: Optional(MaxPrefixes),
      families: Optional(Type.Array(Family, { minItems: 1 })),
      addPaths: Optional(OneOf(['None', 'Send', 'Receive', 'Both'])),
      passive: Optional(Type.Boolean({ description: 'Wait for the peer to connect' })),
      password: Optional(Text('tcp-md5-key', 'TCP-MD5 key (RFC 2385)')),
      passwordFile: Optional(
        Text('absolute-path', 'File on each host with the TCP-MD5 key, so that the store does not hold it'),
      ),
      ttlSecurity: Optional(Int(1, 255, 'Accept packets from at most this many hops away (RFC 5082)')),
      multihop: Optional(Int(1, 255, 'Most hops to an external peer')),
      restartTime: Optional(Text('duration', 'How long peers hold our routes while we restart: 120s when absent')),
      longLivedStaleTime: Optional(
        Text('duration', 'How long stale routes are kept after that (RFC 9494); off when absent'),
      ),
      routeReflectorClient: Optional(Type.Boolean()),
      routeServerClient: Optional(
        Type.Boolean({ description: 'Routes go on without our AS and with their next hop (RFC 7947)' }),
      ),
      extendedNextHop: Optional(Type.Boolean({ description: 'IPv4 routes with IPv6 next hops (RFC 8950)' })),
      enforceFirstAS: Optional(Type.Boolean()),
      nextHopMode: Optional(OneOf(['Auto', 'Self', 'Keep'])),
      localPreference: Optional(Int(0, 4_294_967_295, 'LOCAL_PREF of what is learned: 100 when absent')),
      localASNumber: Optional(IntOrText('as-number')),
      numAllowedLocalASNumbers: Optional(Int(0, 255)),
      filters: Optional(Type.Array(Text('name'), { description: 'Names of BGPFilters, in order' })),
      import: Optional(OneOf(['All', 'None'], 'What comes in where no filter decides: All when absent')),
      export: Optional(
        OneOf(['All', 'Local', 'None'], 'What goes out where no filter decides; Local: what this host originates'),
      ),
      shutdown: Optional(
        Type.String({ description: 'Administratively down, with words for the peer (RFC 9003)', maxLength: 128 }),
      ),
    }),
    {},
  ),
});
export type BGPPeerGroupSpec = Static<typeof BGPPeerGroupSpec>;
export type BGPPeerGroup = Resource<BGPPeerGroupSpec>;

/** Path below `spec` -> least and most, in ms. */
const DURATIONS = [
  ['holdTime', 3000, 65_535_000, true],
  ['keepaliveTime', 1000, 21_845_000, false],
  ['restartTime', 0, 4_095_000, false],
  ['longLivedStaleTime', 0, 16_777_215_000, false],
] as const;

function validate({ spec }: BGPPeerGroup, problems: Problems): void {
  const { session } = spec;
  for (const [field, least, most, orZero] of DURATIONS) {
    const text = session[field];
    if (text === undefined) continue;
    const ms = parseDuration(text) ?? 0;
    if ((ms >= least && ms <= most) || (orZero && ms === 0)) continue;
    problems.add(
      `spec.session.${field}`,
      `${text} is out of range`,
      `write ${orZero ? '0, or ' : ''}${least / 1000}s to ${most / 1000}s`,
    );
  }
  if (session.bfd) {
    const ms = parseDuration(session.bfd.interval) ?? 0;
    if (ms < 10 || ms > 60_000)
      problems.add('spec.session.bfd.interval', `${session.bfd.interval} is out of range`, 'write 10ms to 60s');
  }
  if (session.ttlSecurity !== undefined && session.multihop !== undefined) {
    problems.add('spec.session.ttlSecurity', 'cannot be combined with multihop', 'remove one of the two');
  }
  if (session.password !== undefined && session.passwordFile !== undefined) {
    problems.add('spec.session.password', 'cannot be combined with passwordFile', 'remove one of the two');
  }
  const ranges = (spec.listenRanges ?? []).map((range) => Prefix.parse(range.cidr));
  for (const [i, range] of ranges.entries()) {
    const j = ranges.findIndex((other) => other.overlaps(range));
    if (j < i) problems.add(`spec.listenRanges[${i}].cidr`, `${range} overlaps ${ranges[j]} of listenRanges[${j}]`);
  }
  const names = (spec.interfaces ?? []).map((entry) => entry.name);
  for (const [i, name] of names.entries()) {
    if (names.indexOf(name) < i) problems.add(`spec.interfaces[${i}].name`, `${name} is there twice`);
  }
}

function warn({ spec }: BGPPeerGroup, warnings: Problems): void {
  const members =
    spec.peers?.length || spec.peerSelector || spec.listenRanges?.length || spec.interfaces?.length || spec.nodeMesh;
  if (!members)
    warnings.add('spec', 'the group has no members', 'write peers, peerSelector, listenRanges, interfaces or nodeMesh');
}

function membersOf(spec: BGPPeerGroupSpec): string {
  return [
    ...(spec.nodeMesh ? ['mesh'] : []),
    ...(spec.peers ?? []),
    ...(spec.peerSelector === undefined ? [] : [spec.peerSelector]),
    ...(spec.listenRanges ?? []).map((range) => range.cidr),
    ...(spec.interfaces ?? []).map((entry) => entry.name),
  ].join(',');
}

export const bgpPeerGroup = defineKind({
  apiVersion: 'brindle.dev/v1',
  kind: 'BGPPeerGroup',
  plural: 'bgppeergroups',
  singular: 'bgppeergroup',
  shortNames: ['peergroup', 'peergroups'],
  namespaced: false,
  description: 'Session settings for BGP peers, listen ranges and unnumbered interfaces.',
  spec: BGPPeerGroupSpec,
  validate,
  warn,
  columns: [
    { title: 'MEMBERS', value: ({ spec }) => membersOf(spec) },
    { title: 'HOLD', value: ({ spec }) => spec.session.holdTime ?? '(default)' },
    {
      title: 'BFD',
      value: ({ spec }) => (spec.session.bfd ? `${spec.session.bfd.interval} x ${spec.session.bfd.multiplier}` : 'off'),
    },
    { title: 'HOSTS', value: ({ spec }) => spec.nodeSelector, wide: true },
  ],
});
