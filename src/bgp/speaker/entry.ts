// What the speaker keeps of one neighbour, configured or taken from a range.
import type { TimerHandle } from '#base/clock.ts';
import type { RibPeer } from '#bgp/rib/peers.ts';
import type { Capabilities } from '#bgp/wire/capabilities.ts';
import type { AddressFamily } from '#bgp/wire/types.ts';
import type { PeerConfig, PeerRangeConfig } from './api.ts';
import type { Peer } from './peer.ts';

/** A member of a range may be in any AS. */
export type EntryConfig = Omit<PeerConfig, 'asNumber'> & { readonly asNumber?: number };

export interface Entry {
  readonly peer: Peer;
  config: EntryConfig;
  readonly rib: RibPeer;
  /** Name of the range this peer came from; null for a configured one. */
  readonly range: string | null;
  /** What our last OPEN offered. */
  offered: Capabilities | null;
  /** Families whose End-of-RIB has come in this session. */
  received: AddressFamily[];
  /** A first attempt to connect has ended, one way or the other. */
  tried: boolean;
  /** Families kept, stale, for a peer that is away or has not sent its End-of-RIB since (RFC 4724). */
  retained: AddressFamily[];
  staleTimer: TimerHandle | null;
  idleTimer: TimerHandle | null;
  /** Families being sent again between BoRR and EoRR (RFC 7313). */
  refreshing: AddressFamily[];
  /** The BFD session beside the BGP session; null without one. */
  bfd: { readonly stop: () => void; up: boolean } | null;
  /** Families for which the limit of prefixes has been reported. */
  warned: AddressFamily[];
  /** UPDATEs with an attribute discarded, and those treated as withdrawal (RFC 7606). */
  discarded: number;
  withdrawn: number;
}

export function newEntry(peer: Peer, config: EntryConfig, rib: RibPeer, range: string | null): Entry {
  return {
    peer,
    config,
    rib,
    range,
    offered: null,
    received: [],
    tried: false,
    retained: [],
    staleTimer: null,
    idleTimer: null,
    refreshing: [],
    bfd: null,
    warned: [],
    discarded: 0,
    withdrawn: 0,
  };
}

/** A range's configuration for one of its members. */
export function memberConfig(range: PeerRangeConfig, address: string): EntryConfig {
  const { prefix: _prefix, limit: _limit, name, asNumber, ...options } = range;
  return { ...options, name: `${name}-${address}`, address, ...(asNumber !== undefined && { asNumber }) };
}
