// MRT records to octets (RFC 6396 section 4, RFC 8050). In: typed records. Out: whole records, header first.
// AS numbers are always written with 4 octets, and messages as MESSAGE_AS4.
import { BrindleError } from '#base/errors.ts';
import { encodeAttributes, encodeNextHop } from '#bgp/wire/attributes.ts';
import { type AddressFamily, type PathAttributes, STORAGE_SESSION } from '#bgp/wire/types.ts';
import { OctetWriter } from '#bgp/wire/writer.ts';
import type { IpAddress } from '#net/address.ts';
import {
  BGP4MP_MESSAGE_AS4,
  BGP4MP_MESSAGE_AS4_ADDPATH,
  BGP4MP_MESSAGE_AS4_LOCAL,
  BGP4MP_MESSAGE_AS4_LOCAL_ADDPATH,
  BGP4MP_STATE_CHANGE_AS4,
  MOST_RECORD_OCTETS,
  MRT_BGP4MP,
  MRT_BGP4MP_ET,
  MRT_TABLE_DUMP_V2,
  type MrtSession,
  type MrtTime,
  type RibEntry,
  TDV2_PEER_INDEX_TABLE,
  TDV2_RIB_IPV4_UNICAST,
  TDV2_RIB_IPV4_UNICAST_ADDPATH,
  TDV2_RIB_IPV6_UNICAST,
  TDV2_RIB_IPV6_UNICAST_ADDPATH,
  type WritableRecord,
} from './records.ts';

const PEER_IPV6 = 1;
const PEER_AS4 = 2;
const FLAG_OPTIONAL = 0x80;
const ATTR_MP_REACH = 14;
const ATTR_NEXT_HOP = 3;

/** Throws `invalid-argument` for what no record can hold: over 65535 peers or paths, addresses of two families. */
export function encodeRecord(record: WritableRecord): Uint8Array {
  switch (record.type) {
    case 'peer-index-table': {
      const body = new OctetWriter(64).u32(record.collector);
      const name = new TextEncoder().encode(record.viewName);
      body.u16(counted(name.length, 'viewName')).bytes(name).u16(counted(record.peers.length, 'peers'));
      for (const { routerId, address, asNumber } of record.peers) {
        body.u8(PEER_AS4 | (address.family === 6 ? PEER_IPV6 : 0));
        body.u32(routerId).bytes(address.bytes).u32(asNumber);
      }
      return framed(record.time, MRT_TABLE_DUMP_V2, TDV2_PEER_INDEX_TABLE, body);
    }
    case 'rib': {
      const { prefix, entries, addPath } = record;
      const body = new OctetWriter(256).u32(record.sequence).u8(prefix.length);
      body.bytes(prefix.address.bytes.subarray(0, (prefix.length + 7) >> 3));
      body.u16(counted(entries.length, 'entries'));
      for (const entry of entries) putEntry(body, entry, addPath);
      const plain = prefix.family === 4 ? TDV2_RIB_IPV4_UNICAST : TDV2_RIB_IPV6_UNICAST;
      const withIds = prefix.family === 4 ? TDV2_RIB_IPV4_UNICAST_ADDPATH : TDV2_RIB_IPV6_UNICAST_ADDPATH;
      return framed(record.time, MRT_TABLE_DUMP_V2, addPath ? withIds : plain, body);
    }
    case 'message': {
      const body = session(record).bytes(record.message);
      const received = record.addPath ? BGP4MP_MESSAGE_AS4_ADDPATH : BGP4MP_MESSAGE_AS4;
      const sent = record.addPath ? BGP4MP_MESSAGE_AS4_LOCAL_ADDPATH : BGP4MP_MESSAGE_AS4_LOCAL;
      if (!record.as4) {
        throw new BrindleError('invalid-argument', 'messages of sessions with 2-octet AS numbers are not written', {
          field: 'as4',
        });
      }
      return framed(record.time, MRT_BGP4MP, record.local ? sent : received, body);
    }
    case 'state-change': {
      const body = session(record).u16(record.from).u16(record.to);
      return framed(record.time, MRT_BGP4MP, BGP4MP_STATE_CHANGE_AS4, body);
    }
  }
}

/**
 * Attributes as a RIB entry holds them (RFC 6396 4.3.4): an IPv4 next hop of an IPv4 route in NEXT_HOP, any other in an
 * MP_REACH_NLRI of next hop alone. Without a next hop, which is a route of the speaker itself, the unspecified address.
 */
export function encodeRibAttributes(attributes: PathAttributes, family: AddressFamily): Uint8Array {
  const out = new OctetWriter(128).bytes(encodeAttributes(attributes, STORAGE_SESSION, 'none'));
  if (family === 'ipv4' && (attributes.nextHop?.family ?? 4) === 4) {
    out.u8(0x40).u8(ATTR_NEXT_HOP).u8(4);
    return out.bytes(attributes.nextHop?.bytes ?? new Uint8Array(4)).finish();
  }
  const nextHop = attributes.nextHop ? encodeNextHop(attributes) : new Uint8Array(16);
  out.u8(FLAG_OPTIONAL).u8(ATTR_MP_REACH);
  return out
    .u8(nextHop.length + 1)
    .u8(nextHop.length)
    .bytes(nextHop)
    .finish();
}

function putEntry(body: OctetWriter, entry: RibEntry, addPath: boolean): void {
  body.u16(entry.peerIndex).u32(entry.originated);
  if (addPath) body.u32(entry.pathId);
  body.u16(counted(entry.attributes.length, 'attributes')).bytes(entry.attributes);
}

function session(record: MrtSession): OctetWriter {
  const { peerAddress, localAddress } = record;
  if (peerAddress.family !== localAddress.family) {
    throw new BrindleError('invalid-argument', `${peerAddress} and ${localAddress} are of two families`, {
      field: 'localAddress',
    });
  }
  const body = new OctetWriter(64).u32(record.peerAs).u32(record.localAs).u16(record.interfaceIndex);
  return body.u16(family(peerAddress)).bytes(peerAddress.bytes).bytes(localAddress.bytes);
}

const family = (address: IpAddress): number => (address.family === 4 ? 1 : 2);

function counted(count: number, field: string): number {
  if (count <= 0xffff) return count;
  throw new BrindleError('invalid-argument', `${field}: ${count} do not fit into an MRT record`, { field });
}

/** Only BGP4MP has a form with microseconds; they are left out elsewhere. */
function framed(time: MrtTime, type: number, subtype: number, body: OctetWriter): Uint8Array {
  const extended = type === MRT_BGP4MP && time.microseconds !== null;
  const length = body.length + (extended ? 4 : 0);
  if (length > MOST_RECORD_OCTETS) throw new BrindleError('invalid-argument', `an MRT record of ${length} octets`);
  const out = new OctetWriter(16 + body.length).u32(time.seconds);
  out
    .u16(extended ? MRT_BGP4MP_ET : type)
    .u16(subtype)
    .u32(length);
  if (extended) out.u32(time.microseconds ?? 0);
  return out.bytes(body.finish()).finish();
}
