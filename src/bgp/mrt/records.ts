// MRT records as typed values, and the numbers of their types. RFC 6396 (MRT), RFC 8050 (ADD-PATH).
import type { IpAddress } from '#net/address.ts';
import type { Prefix } from '#net/prefix.ts';

/** Octets of the header that every record begins with: time, type, subtype, length. */
export const MRT_HEADER_OCTETS = 12;
/** Longest record taken. A RIB record of a thousand paths with large attributes stays far below. */
export const MOST_RECORD_OCTETS = 16 * 1024 * 1024;

export const MRT_TABLE_DUMP_V2 = 13;
export const MRT_BGP4MP = 16;
/** As BGP4MP, with microseconds behind the header. */
export const MRT_BGP4MP_ET = 17;

export const TDV2_PEER_INDEX_TABLE = 1;
export const TDV2_RIB_IPV4_UNICAST = 2;
export const TDV2_RIB_IPV6_UNICAST = 4;
export const TDV2_RIB_IPV4_UNICAST_ADDPATH = 8;
export const TDV2_RIB_IPV6_UNICAST_ADDPATH = 10;

export const BGP4MP_STATE_CHANGE = 0;
export const BGP4MP_MESSAGE = 1;
export const BGP4MP_MESSAGE_AS4 = 4;
export const BGP4MP_STATE_CHANGE_AS4 = 5;
export const BGP4MP_MESSAGE_LOCAL = 6;
export const BGP4MP_MESSAGE_AS4_LOCAL = 7;
export const BGP4MP_MESSAGE_ADDPATH = 8;
export const BGP4MP_MESSAGE_AS4_ADDPATH = 9;
export const BGP4MP_MESSAGE_LOCAL_ADDPATH = 10;
export const BGP4MP_MESSAGE_AS4_LOCAL_ADDPATH = 11;

/** When a record was made. */
export interface MrtTime {
  /** Since the epoch, 32 bits. */
  readonly seconds: number;
  /** 0 to 999 999; null in records that have seconds only. */
  readonly microseconds: number | null;
}

export interface MrtPeer {
  /** Unsigned 32-bit BGP identifier; 0 when there was no session. */
  readonly routerId: number;
  readonly address: IpAddress;
  readonly asNumber: number;
}

/** The peers that the RIB records behind it speak of by index. */
export interface PeerIndexTable {
  readonly type: 'peer-index-table';
  readonly time: MrtTime;
  /** BGP identifier of the speaker whose table this is. */
  readonly collector: number;
  readonly viewName: string;
  readonly peers: readonly MrtPeer[];
}

export interface RibEntry {
  readonly peerIndex: number;
  /** Seconds since the epoch at which the path came. */
  readonly originated: number;
  /** 0 in records without ADD-PATH. */
  readonly pathId: number;
  /** As in the record: AS numbers of 4 octets, MP_REACH_NLRI cut down to its next hop (`ribAttributes` reads them). */
  readonly attributes: Uint8Array;
}

/** All paths to one prefix. */
export interface RibRecord {
  readonly type: 'rib';
  readonly time: MrtTime;
  readonly sequence: number;
  readonly prefix: Prefix;
  /** Entries have path identifiers. */
  readonly addPath: boolean;
  readonly entries: readonly RibEntry[];
}

export interface MrtSession {
  readonly peerAs: number;
  readonly localAs: number;
  readonly interfaceIndex: number;
  /** Both of one family. */
  readonly peerAddress: IpAddress;
  readonly localAddress: IpAddress;
}

/** A BGP message, header and all. */
export interface MessageRecord extends MrtSession {
  readonly type: 'message';
  readonly time: MrtTime;
  /** AS_PATH in the message has AS numbers of 4 octets. */
  readonly as4: boolean;
  /** NLRI in the message have path identifiers. */
  readonly addPath: boolean;
  /** Sent by the collector, not received. */
  readonly local: boolean;
  readonly message: Uint8Array;
}

/** States as RFC 6396 numbers them: 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established. */
export interface StateChangeRecord extends MrtSession {
  readonly type: 'state-change';
  readonly time: MrtTime;
  readonly as4: boolean;
  readonly from: number;
  readonly to: number;
}

/** A record of a type that is not read here: multicast, generic, OSPF, the obsolete TABLE_DUMP. */
export interface OtherRecord {
  readonly type: 'other';
  readonly time: MrtTime;
  readonly mrtType: number;
  readonly subtype: number;
  readonly body: Uint8Array;
}

/** A record that is whole by its length and wrong inside. */
export interface MalformedRecord {
  readonly type: 'malformed';
  readonly time: MrtTime;
  readonly mrtType: number;
  readonly subtype: number;
  readonly reason: string;
}

export type WritableRecord = PeerIndexTable | RibRecord | MessageRecord | StateChangeRecord;
export type MrtRecord = WritableRecord | OtherRecord | MalformedRecord;
