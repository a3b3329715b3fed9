// What a session is configured with: the fields of its BGPPeer, then those of its BGPPeerGroup, then the defaults. Pure.
// In: specs, and the keys read from password files. Out: the speaker's options for a peer.
// projectcalico.org/v3 BGPPeer; brindle.dev/v1 BGPPeerGroup. RFC 2385, 4724, 5082, 7947, 9494.
import type { AddressFamily, DefaultPolicy, MaxPrefixesConfig, PeerOptions, RoutePolicy } from '#bgp/speaker/api.ts';
import type { BGPPeerGroup, BGPPeerGroupSpec } from '#model/bgp-peer-group.ts';
import type { BGPPeer, BGPPeerSpec } from '#model/bgp-peer.ts';
import { parseSelector } from '#policy/selector/selector.ts';
import { asNumberOf, type BgpHost, secondsOf } from './hosts.ts';

/** Seconds a peer holds our routes while we restart. */
export const DEFAULT_RESTART_TIME = 120;
/** Calico lets an external peer be any number of hops away unless TTL security is asked for. */
export const ANY_HOPS = 255;

type Session = BGPPeerGroupSpec['session'];

/** The fields of a BGPPeer that are about the session itself. */
export type OwnSettings = Pick<
  BGPPeerSpec,
  | 'filters'
  | 'password'
  | 'nextHopMode'
  | 'keepOriginalNextHop'
  | 'maxRestartTime'
  | 'keepaliveTime'
  | 'numAllowedLocalASNumbers'
  | 'ttlSecurity'
  | 'localASNumber'
>;

export interface SettingsInput {
  readonly own: OwnSettings;
  readonly group: BGPPeerGroup | null;
  /** Of the peer and of this host, before local-as; null where the peer may have any. */
  readonly peerAs: number | null;
  readonly hostAs: number;
  readonly families: readonly AddressFamily[];
  /** What goes out where neither a filter nor a group says anything. */
  readonly exported: DefaultPolicy;
  /** Contents of password files by path; null: could not be read. */
  readonly passwords: ReadonlyMap<string, string | null>;
}

/** Options of a session, or why there must be none. */
export type Settings =
  | { readonly options: PeerOptions; readonly shutdown: string | true | null }
  | { readonly refused: string };

/** The group that a BGPPeer is a member of on this host: the first by name. */
export function groupOf(peer: BGPPeer, host: BgpHost, groups: readonly BGPPeerGroup[]): BGPPeerGroup | null {
  const { name, labels } = peer.metadata;
  const isMember = ({ spec }: BGPPeerGroup): boolean =>
    (spec.peers?.includes(name) ?? false) ||
    (spec.peerSelector !== undefined && parseSelector(spec.peerSelector).matches(labels ?? {}));
  return groups.find((group) => holdsOn(host, group) && isMember(group)) ?? null;
}

/** Whether a group holds on a host. */
export function holdsOn(host: BgpHost, { spec }: BGPPeerGroup): boolean {
  return parseSelector(spec.nodeSelector).matches(host.labels);
}

export function settingsFor(input: SettingsInput): Settings {
  const { own, group, peerAs, hostAs, exported } = input;
  const session: Session = group?.spec.session ?? {};
  const key = passwordOf(input);
  if ('refused' in key) return key;
  const localAs = asNumberOf(own.localASNumber) ?? asNumberOf(session.localASNumber);
  const families =
    session.families?.map((family): AddressFamily => (family === 'IPv4' ? 'ipv4' : 'ipv6')) ?? input.families;
  const restartTime = secondsOf(own.maxRestartTime) ?? secondsOf(session.restartTime) ?? DEFAULT_RESTART_TIME;
  const staleTime = secondsOf(session.longLivedStaleTime);
  const holdTime = secondsOf(session.holdTime);
  const keepaliveTime = secondsOf(own.keepaliveTime) ?? secondsOf(session.keepaliveTime);
  const allowOwnAs = own.numAllowedLocalASNumbers ?? session.numAllowedLocalASNumbers;
  const nextHop = nextHopMode(own) ?? (session.nextHopMode && NEXT_HOP[session.nextHopMode]);
  const filters = own.filters?.length ? own.filters : (session.filters ?? []);
  const policy = (otherwise: DefaultPolicy): RoutePolicy => (filters.length > 0 ? { filters, otherwise } : otherwise);
  const options: PeerOptions = {
    families,
    import: policy(session.import ? POLICY[session.import] : 'all'),
    export: policy(session.export ? POLICY[session.export] : exported),
    gracefulRestart: { enabled: true, restartTime: Math.min(Math.round(restartTime), 4095) },
    ...(staleTime !== null && { longLived: { enabled: staleTime > 0, staleTime: Math.round(staleTime) } }),
    ...hopsOf(own, session, peerAs !== (localAs ?? hostAs)),
    ...(key.password !== null && { password: key.password }),
    ...(localAs !== null && { localAs }),
    ...(holdTime !== null && { holdTime: Math.round(holdTime) }),
    ...(keepaliveTime !== null && { keepaliveTime }),
    ...(allowOwnAs !== undefined && { allowOwnAs }),
    ...(nextHop !== undefined && { nextHop }),
    ...(session.bfd && { bfd: true }),
    ...(session.maxPrefixes && { maxPrefixes: maxPrefixes(session.maxPrefixes, families) }),
    ...(session.addPaths && { addPaths: ADD_PATHS[session.addPaths] }),
    ...(session.passive !== undefined && { passive: session.passive }),
    ...(session.routeReflectorClient !== undefined && { routeReflectorClient: session.routeReflectorClient }),
    ...(session.routeServerClient !== undefined && { routeServerClient: session.routeServerClient }),
    ...(session.extendedNextHop !== undefined && { extendedNextHop: session.extendedNextHop }),
    ...(session.enforceFirstAS !== undefined && { enforceFirstAs: session.enforceFirstAS }),
    ...(session.localPreference !== undefined && { localPref: session.localPreference }),
  };
  return { options, shutdown: session.shutdown === undefined ? null : session.shutdown || true };
}

const NEXT_HOP = { Auto: 'auto', Self: 'self', Keep: 'keep' } as const;
const POLICY = { All: 'all', Local: 'local', None: 'none' } as const;
const ADD_PATHS = { None: 'none', Send: 'send', Receive: 'receive', Both: 'both' } as const;

function nextHopMode(own: OwnSettings): 'auto' | 'self' | 'keep' | undefined {
  if (own.nextHopMode !== undefined) return NEXT_HOP[own.nextHopMode];
  return own.keepOriginalNextHop ? 'keep' : undefined;
}

/**
 * The BGPPeer's own TTL security comes before any hops of the group. With BFD that is not multihop the peer is on the
 * link (RFC 5881), and with multihop BFD it is not (RFC 5883): the speaker tells by the hops which of the two to run.
 */
function hopsOf(own: OwnSettings, session: Session, external: boolean): Pick<PeerOptions, 'ttlSecurity' | 'multihop'> {
  if (own.ttlSecurity) return { ttlSecurity: own.ttlSecurity };
  if (own.ttlSecurity === undefined && session.ttlSecurity !== undefined) return { ttlSecurity: session.ttlSecurity };
  const isDirect = session.bfd !== undefined && !session.bfd.multihop && session.multihop === undefined;
  if (isDirect || (!external && !session.bfd?.multihop)) return {};
  return { multihop: session.multihop ?? ANY_HOPS };
}

function maxPrefixes(spec: NonNullable<Session['maxPrefixes']>, families: readonly AddressFamily[]): MaxPrefixesConfig {
  const limits = families.flatMap((family): [AddressFamily, number][] => {
    const limit = spec[family];
    return limit === undefined ? [] : [[family, limit]];
  });
  return {
    limit: Object.fromEntries(limits),
    action: spec.action === 'Warn' ? 'warn' : 'reset',
    restartSeconds: Math.round(secondsOf(spec.restartAfter) ?? 300),
  };
}

/** A key that was asked for and cannot be had means no session: never one without the authentication asked for. */
function passwordOf({ own, group, passwords }: SettingsInput): { password: string | null } | { refused: string } {
  const { password, passwordFile } = group?.spec.session ?? {};
  if (password !== undefined) return { password };
  if (passwordFile !== undefined) {
    const text = passwords.get(passwordFile);
    if (text) return { password: text };
    return { refused: `no TCP-MD5 key of 1 to 80 octets can be read from ${passwordFile}: no session without it` };
  }
  if (own.password === undefined) return { password: null };
  return {
    refused:
      'its password is in a Kubernetes Secret, which this host cannot read: no session without it; ' +
      'write a BGPPeerGroup with password or passwordFile for it',
  };
}
