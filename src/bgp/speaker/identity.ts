// From configuration to what each part works with: numbers from text, the capabilities we offer, the RIB's view of a
// peer, TTLs. Pure.
import { NO_CAPABILITIES, type Capabilities } from '#bgp/wire/capabilities.ts';
import { acceptAll, type RoutePolicy as CompiledPolicy } from '#bgp/filter/policy.ts';
import { BrindleError } from '#base/errors.ts';
import type { PeerConfig as RibPeerConfig } from '#bgp/rib/peers.ts';
import { IpAddress } from '#net/address.ts';
import type { AddressFamily, GracefulRestartConfig, PeerOptions, SpeakerConfig } from './api.ts';

export const DEFAULT_HOLD_TIME = 90;
export const DEFAULT_RESTART_TIME = 120;
export const DEFAULT_RANGE_LIMIT = 5000;
export const DEFAULT_MAXIMUM_PATHS = 16;

/** A dotted quad as an unsigned number. Throws `invalid-argument` naming the field; 0.0.0.0 is no router id. */
export function routerIdNumber(text: string, field: string): number {
  const address = IpAddress.tryParse(text);
  if (address?.family !== 4 || address.isUnspecified()) {
    throw new BrindleError('invalid-argument', `${field} "${text}" is not a router id`, {
      field,
      remedy: 'write a dotted quad such as 10.0.0.1, not 0.0.0.0',
    });
  }
  return address.toUint32();
}

export function routerIdText(value: number): string {
  return IpAddress.fromUint32(value >>> 0).toString();
}

/** Checks what types cannot say. Throws `invalid-argument` with the path of the field. */
export function checkConfig(config: SpeakerConfig): void {
  routerIdNumber(config.routerId, 'routerId');
  if (config.clusterId !== undefined) routerIdNumber(config.clusterId, 'clusterId');
  checkAs(config.asNumber, 'asNumber');
  checkHoldTime(config.holdTime, 'holdTime');
  const names = new Set<string>();
  const entries = [
    ...config.peers.map((peer, i) => ({ peer, at: `peers[${i}]` })),
    ...config.peerRanges.map((peer, i) => ({ peer, at: `peerRanges[${i}]` })),
  ];
  for (const { peer, at } of entries) {
    if (names.has(peer.name)) {
      throw new BrindleError('invalid-argument', `two peers are named "${peer.name}"`, {
        field: `${at}.name`,
        remedy: 'give each peer a name of its own',
      });
    }
    names.add(peer.name);
    checkOptions(peer, at);
    if (peer.asNumber !== undefined) checkAs(peer.asNumber, `${at}.asNumber`);
  }
}

function checkOptions(peer: PeerOptions, at: string): void {
  checkHoldTime(peer.holdTime, `${at}.holdTime`);
  if (peer.localAs !== undefined) checkAs(peer.localAs, `${at}.localAs`);
  if (peer.clusterId !== undefined) routerIdNumber(peer.clusterId, `${at}.clusterId`);
  if (peer.families.length === 0) {
    throw new BrindleError('invalid-argument', `${at}.families is empty`, {
      field: `${at}.families`,
      remedy: 'name ipv4, ipv6 or both',
    });
  }
  if (peer.ttlSecurity !== undefined && peer.multihop !== undefined) {
    throw new BrindleError('invalid-argument', `${at} has both ttlSecurity and multihop`, {
      field: `${at}.multihop`,
      remedy: 'ttlSecurity takes the number of hops itself: leave multihop out',
    });
  }
  for (const field of ['ttlSecurity', 'multihop'] as const) {
    const hops = peer[field];
    if (hops !== undefined && (!Number.isInteger(hops) || hops < 1 || hops > 255)) {
      throw new BrindleError('invalid-argument', `${at}.${field} ${hops} is not in 1..255`, {
        field: `${at}.${field}`,
      });
    }
  }
  if (peer.password !== undefined) {
    const { length } = new TextEncoder().encode(peer.password);
    if (length === 0 || length > 80) {
      throw new BrindleError('invalid-argument', `${at}.password has ${length} octets`, {
        field: `${at}.password`,
        remedy: 'a TCP-MD5 key has 1 to 80 octets',
      });
    }
  }
}

function checkAs(value: number, field: string): void {
  if (Number.isInteger(value) && value >= 1 && value <= 0xffffffff && value !== 23456) return;
  throw new BrindleError('invalid-argument', `${field} ${value} is not an AS number`, {
    field,
    remedy: 'write 1 to 4294967295; 23456 is reserved (RFC 6793)',
  });
}

function checkHoldTime(value: number | undefined, field: string): void {
  if (value === undefined || value === 0) return;
  if (Number.isInteger(value) && value >= 3 && value <= 65535) return;
  throw new BrindleError('invalid-argument', `${field} ${value} is not a hold time`, {
    field,
    remedy: 'write 0 (none) or 3 to 65535 seconds',
  });
}

export function gracefulRestartOf(speaker: SpeakerConfig, peer: PeerOptions): GracefulRestartConfig {
  return peer.gracefulRestart ?? speaker.gracefulRestart ?? { enabled: true, restartTime: DEFAULT_RESTART_TIME };
}

/** What we offer a peer. `restarting` is the R bit, `forwarding` the F bit of every family. */
export function capabilitiesOf(
  speaker: SpeakerConfig,
  peer: PeerOptions,
  localAs: number,
  restarting: boolean,
  forwarding: boolean,
): Capabilities {
  const { families } = peer;
  const graceful = gracefulRestartOf(speaker, peer);
  const add = peer.addPaths ?? 'none';
  const wide = peer.extendedNextHop ?? peer.interface !== undefined;
  const longLived = graceful.enabled && peer.longLived?.enabled ? peer.longLived : null;
  return {
    ...NO_CAPABILITIES,
    families,
    routeRefresh: true,
    enhancedRouteRefresh: true,
    extendedMessages: true,
    as4: localAs,
    extendedNextHop: wide && families.includes('ipv4') ? ['ipv4'] : [],
    // With graceful restart off the capability still goes out, empty: it promises our End-of-RIB.
    gracefulRestart: {
      restarting: graceful.enabled && restarting,
      notification: graceful.enabled,
      time: graceful.enabled ? graceful.restartTime : 0,
      families: graceful.enabled ? families.map((family) => ({ family, forwarding })) : [],
    },
    longLived: longLived ? families.map((family) => ({ family, forwarding, staleTime: longLived.staleTime })) : [],
    longLivedAware: true,
    addPath:
      add === 'none' ? [] : families.map((family) => ({ family, send: add !== 'receive', receive: add !== 'send' })),
    hostName: speaker.hostName ?? null,
  };
}

/** TTL options of a connection to a peer. A direct external neighbour is one hop away and no further. */
export function ttlOf(peer: PeerOptions, external: boolean): { ttl?: number; minTtl?: number } {
  if (peer.ttlSecurity !== undefined) return { ttl: 255, minTtl: 256 - peer.ttlSecurity };
  if (peer.multihop !== undefined) return { ttl: peer.multihop };
  return external ? { ttl: 1 } : {};
}

export interface PeerPolicies {
  readonly import: CompiledPolicy;
  readonly export: CompiledPolicy;
}

/** The RIB's side of a peer. */
export function ribPeerConfig(name: string, address: string, peer: PeerOptions, policies: PeerPolicies): RibPeerConfig {
  return {
    name,
    address: IpAddress.parse(address),
    importPolicy: withLocalPref(policies.import, peer.localPref),
    exportPolicy: policies.export,
    routeReflectorClient: peer.routeReflectorClient ?? false,
    ...(peer.clusterId !== undefined && { clusterId: routerIdNumber(peer.clusterId, 'clusterId') }),
    routeServerClient: peer.routeServerClient ?? false,
    nextHop: peer.nextHop ?? 'auto',
    allowOwnAs: peer.allowOwnAs ?? 0,
    enforceFirstAs: peer.enforceFirstAs ?? false,
    interfaceName: peer.interface ?? '',
  };
}

/** What the peer sends gets this preference where the policy sets none. */
function withLocalPref(policy: CompiledPolicy, localPref: number | undefined): CompiledPolicy {
  if (localPref === undefined) return policy;
  const decide = (decision: ReturnType<CompiledPolicy['evaluate']>): ReturnType<CompiledPolicy['evaluate']> =>
    decision.accept ? { ...decision, changes: { localPref, ...decision.changes } } : decision;
  const made = new Map<object, ReturnType<CompiledPolicy['evaluate']>>();
  const id = `${policy.id} localPref ${localPref}`;
  if (policy.constant) {
    const constant = decide(policy.constant);
    return { id, constant, evaluate: () => constant };
  }
  return {
    id,
    evaluate(route) {
      // One object a rule, as the RIB compares decisions by identity.
      const inner = policy.evaluate(route);
      let outer = made.get(inner);
      if (!outer) made.set(inner, (outer = decide(inner)));
      return outer;
    },
  };
}

const LOCAL_YES = { accept: true, changes: null, rule: 'default: local' } as const;
const LOCAL_NO = { accept: false, changes: null, rule: 'default: local routes only' } as const;

/** Only what this speaker originates: a host is no transit. */
export const localOnly: CompiledPolicy = {
  id: 'local',
  evaluate: (route) => (route.fromPeer ? LOCAL_NO : LOCAL_YES),
};

export { acceptAll };

/** Our address of a family as next hop, on a session from `localAddress`. */
export function nextHopAddress(
  family: AddressFamily,
  localAddress: string,
  peer: PeerOptions,
  siblings: readonly string[],
): IpAddress | null {
  const version = family === 'ipv4' ? 4 : 6;
  const own = IpAddress.tryParse(localAddress);
  if (own?.family === version && !own.isLinkLocal()) return own;
  if (peer.nextHopAddress !== undefined) {
    const configured = IpAddress.tryParse(peer.nextHopAddress);
    if (configured?.family === version) return configured;
  }
  for (const text of siblings) {
    const candidate = IpAddress.tryParse(text);
    if (candidate?.family === version && !candidate.isLinkLocal() && !candidate.isLoopback()) return candidate;
  }
  return null;
}
