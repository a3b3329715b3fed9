// BMP messages to octets (RFC 7854 section 4). In: typed values and BGP messages as they were on the wire. Out: whole
// BMP messages, version 3. Nothing is read: a monitoring station sends nothing.
import { BrindleError } from '#base/errors.ts';
import { OctetWriter } from '#bgp/wire/writer.ts';
import type { IpAddress } from '#net/address.ts';

const VERSION = 3;
const ROUTE_MONITORING = 0;
const STATISTICS = 1;
const PEER_DOWN = 2;
const PEER_UP = 3;
const INITIATION = 4;
const TERMINATION = 5;

const FLAG_IPV6 = 0x80;
const FLAG_LEGACY_AS = 0x20;

/** Peer Down reasons (RFC 7854 4.9). */
export const DOWN_LOCAL_NOTIFICATION = 1;
export const DOWN_LOCAL = 2;
export const DOWN_REMOTE_NOTIFICATION = 3;
export const DOWN_REMOTE = 4;
export const DOWN_DECONFIGURED = 5;

/** Termination reasons (RFC 7854 4.5). */
export const TERMINATED_ADMINISTRATIVELY = 0;

/** Statistics (RFC 7854 4.8): a gauge of the adj-RIB-in, the same by family, updates treated as withdrawal. */
export const STAT_ADJ_RIB_IN = 7;
export const STAT_ADJ_RIB_IN_FAMILY = 9;
export const STAT_TREATED_AS_WITHDRAW = 11;

/** Whom a message is about: a peer of the global instance, its adj-RIB-in before policy. */
export interface BmpPeer {
  readonly address: IpAddress;
  readonly asNumber: number;
  /** Unsigned 32-bit BGP identifier. */
  readonly routerId: number;
}

export interface Statistic {
  readonly type: number;
  /** 32-bit counters are written with 4 octets, gauges with 8. */
  readonly kind: 'counter' | 'gauge';
  readonly value: number;
  /** For statistics by family; SAFI is unicast. */
  readonly afi?: 1 | 2;
}

/** `at`: milliseconds since the epoch. */
export function encodeRouteMonitoring(peer: BmpPeer, at: number, update: Uint8Array, legacyAs: boolean): Uint8Array {
  return framed(ROUTE_MONITORING, header(peer, at, legacyAs, update.length).bytes(update));
}

export interface PeerUp {
  readonly localAddress: IpAddress;
  readonly localPort: number;
  readonly remotePort: number;
  /** Both whole, header first, as they were on the wire. */
  readonly openSent: Uint8Array;
  readonly openReceived: Uint8Array;
}

export function encodePeerUp(peer: BmpPeer, at: number, up: PeerUp): Uint8Array {
  const body = address16(header(peer, at, false), up.localAddress)
    .u16(up.localPort)
    .u16(up.remotePort);
  return framed(PEER_UP, body.bytes(up.openSent).bytes(up.openReceived));
}

/** `data`: the NOTIFICATION, header first, for reasons 1 and 3; the number of the FSM event for 2; else nothing. */
export function encodePeerDown(peer: BmpPeer, at: number, reason: number, data: Uint8Array): Uint8Array {
  return framed(PEER_DOWN, header(peer, at, false).u8(reason).bytes(data));
}

export function encodeStatistics(peer: BmpPeer, at: number, statistics: readonly Statistic[]): Uint8Array {
  const body = header(peer, at, false).u32(statistics.length);
  for (const { type, kind, value, afi } of statistics) {
    body.u16(type).u16((kind === 'gauge' ? 8 : 4) + (afi === undefined ? 0 : 3));
    if (afi !== undefined) body.u16(afi).u8(1);
    if (kind === 'gauge') body.u32(Math.floor(value / 0x100000000));
    body.u32(value >>> 0);
  }
  return framed(STATISTICS, body);
}

/** Who speaks: the first message of a connection. */
export function encodeInitiation(systemName: string, description: string): Uint8Array {
  const body = new OctetWriter(64);
  tlv(body, 1, new TextEncoder().encode(description));
  tlv(body, 2, new TextEncoder().encode(systemName));
  return framed(INITIATION, body);
}

/** The last message of a connection. */
export function encodeTermination(reason: number): Uint8Array {
  const body = new OctetWriter(8);
  tlv(body, 1, Uint8Array.of(reason >>> 8, reason & 255));
  return framed(TERMINATION, body);
}

function tlv(out: OctetWriter, type: number, value: Uint8Array): void {
  if (value.length > 0xffff) throw new BrindleError('invalid-argument', `BMP text of ${value.length} octets`);
  out.u16(type).u16(value.length).bytes(value);
}

function header(peer: BmpPeer, at: number, legacyAs: boolean, more = 64): OctetWriter {
  const flags = (peer.address.family === 6 ? FLAG_IPV6 : 0) | (legacyAs ? FLAG_LEGACY_AS : 0);
  const out = new OctetWriter(42 + more).u8(0).u8(flags).u32(0).u32(0);
  address16(out, peer.address).u32(peer.asNumber).u32(peer.routerId);
  return out.u32(Math.floor(at / 1000)).u32(Math.floor((at % 1000) * 1000));
}

/** IPv4 addresses stand in the last four of sixteen octets. */
function address16(out: OctetWriter, address: IpAddress): OctetWriter {
  if (address.family === 4) out.u32(0).u32(0).u32(0);
  return out.bytes(address.bytes);
}

function framed(type: number, body: OctetWriter): Uint8Array {
  return new OctetWriter(6 + body.length)
    .u8(VERSION)
    .u32(6 + body.length)
    .u8(type)
    .bytes(body.finish())
    .finish();
}
