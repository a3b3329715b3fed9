// MRT octets to typed records (RFC 6396, RFC 8050). In: chunks of a file in any cut. Out: records; one that is wrong
// inside comes out as `malformed` with the reason, and reading goes on behind it.
// Throws BrindleError `corrupt` only where the file cannot be followed any further: a length beyond belief, a cut end.
//
// Traps: writers differ in the MP_REACH_NLRI of RIB entries. RFC 6396 wants the next hop alone; some write the whole
// attribute. Its first octet tells: a next hop's length is never 0, the first octet of an AFI always is.
import { BrindleError } from '#base/errors.ts';
import { decodeAttributes } from '#bgp/wire/attributes.ts';
import { type AddressFamily, afiOf, type DecodedAttributes, STORAGE_SESSION } from '#bgp/wire/types.ts';
import { OctetWriter, readU16, readU32 } from '#bgp/wire/writer.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import {
  BGP4MP_MESSAGE,
  BGP4MP_MESSAGE_ADDPATH,
  BGP4MP_MESSAGE_AS4,
  BGP4MP_MESSAGE_AS4_ADDPATH,
  BGP4MP_MESSAGE_AS4_LOCAL,
  BGP4MP_MESSAGE_AS4_LOCAL_ADDPATH,
  BGP4MP_MESSAGE_LOCAL,
  BGP4MP_MESSAGE_LOCAL_ADDPATH,
  BGP4MP_STATE_CHANGE,
  BGP4MP_STATE_CHANGE_AS4,
  MOST_RECORD_OCTETS,
  MRT_BGP4MP,
  MRT_BGP4MP_ET,
  MRT_HEADER_OCTETS,
  MRT_TABLE_DUMP_V2,
  type MrtPeer,
  type MrtRecord,
  type MrtSession,
  type MrtTime,
  type RibEntry,
  TDV2_PEER_INDEX_TABLE,
  TDV2_RIB_IPV4_UNICAST,
  TDV2_RIB_IPV4_UNICAST_ADDPATH,
  TDV2_RIB_IPV6_UNICAST,
  TDV2_RIB_IPV6_UNICAST_ADDPATH,
} from './records.ts';

const FLAG_EXTENDED = 0x10;
const ATTR_NEXT_HOP = 3;
const ATTR_MP_REACH = 14;

/** Thrown and caught in this file alone. */
class Malformed extends Error {}

/** Octets of one record, read from the front. */
class Cursor {
  readonly buf: Uint8Array;
  #at = 0;

  constructor(buf: Uint8Array) {
    this.buf = buf;
  }

  get left(): number {
    return this.buf.length - this.#at;
  }

  take(octets: number, what: string): Uint8Array {
    if (octets > this.left) throw new Malformed(`${what} is cut off`);
    const part = this.buf.subarray(this.#at, this.#at + octets);
    this.#at += octets;
    return part;
  }

  u8(what: string): number {
    return this.take(1, what)[0]!;
  }

  u16(what: string): number {
    return readU16(this.take(2, what), 0);
  }

  u32(what: string): number {
    return readU32(this.take(4, what), 0);
  }

  rest(): Uint8Array {
    return this.take(this.left, 'the rest');
  }

  end(): void {
    if (this.left > 0) throw new Malformed(`${this.left} octets are left over`);
  }
}

/** Cuts a stream of octets into records. One for each file. */
export class MrtReader {
  #rest: Uint8Array = new Uint8Array(0);
  #offset = 0;

  /** The records that are whole with this chunk. Throws `corrupt` with the offset of a record too long to be one. */
  *push(chunk: Uint8Array): Generator<MrtRecord> {
    let buf = chunk;
    if (this.#rest.length > 0) {
      buf = new Uint8Array(this.#rest.length + chunk.length);
      buf.set(this.#rest);
      buf.set(chunk, this.#rest.length);
    }
    let at = 0;
    while (buf.length - at >= MRT_HEADER_OCTETS) {
      const length = readU32(buf, at + 8);
      if (length > MOST_RECORD_OCTETS) {
        throw new BrindleError('corrupt', `MRT record at octet ${this.#offset + at} claims ${length} octets`, {
          remedy: 'is the file MRT, and uncompressed?',
        });
      }
      const end = at + MRT_HEADER_OCTETS + length;
      if (end > buf.length) break;
      const record = decodeRecord(buf.subarray(at, end));
      at = end;
      yield record;
    }
    this.#offset += at;
    this.#rest = new Uint8Array(buf.subarray(at)); // a copy, which the slice of a Buffer is not
  }

  /** To be called after the last chunk. Throws `corrupt` when the last record is not whole. */
  end(): void {
    if (this.#rest.length === 0) return;
    throw new BrindleError('corrupt', `the MRT file ends in the middle of the record at octet ${this.#offset}`, {
      remedy: 'use a file that was written to its end',
    });
  }
}

/** One whole record, header first, as `MrtReader` cuts them. Values are views of the octets given. */
export function decodeRecord(octets: Uint8Array): MrtRecord {
  const mrtType = readU16(octets, 4);
  const subtype = readU16(octets, 6);
  let time: MrtTime = { seconds: readU32(octets, 0), microseconds: null };
  const body = new Cursor(octets.subarray(MRT_HEADER_OCTETS));
  try {
    if (mrtType === MRT_BGP4MP_ET) time = { ...time, microseconds: body.u32('the time') };
    const record =
      mrtType === MRT_TABLE_DUMP_V2
        ? tableDump(time, subtype, body)
        : mrtType === MRT_BGP4MP || mrtType === MRT_BGP4MP_ET
          ? bgp4mp(time, subtype, body)
          : null;
    return record ?? { type: 'other', time, mrtType, subtype, body: body.rest() };
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return { type: 'malformed', time, mrtType, subtype, reason: error.message };
  }
}

function tableDump(time: MrtTime, subtype: number, body: Cursor): MrtRecord | null {
  switch (subtype) {
    case TDV2_PEER_INDEX_TABLE:
      return peerIndexTable(time, body);
    case TDV2_RIB_IPV4_UNICAST:
      return rib(time, body, 'ipv4', false);
    case TDV2_RIB_IPV6_UNICAST:
      return rib(time, body, 'ipv6', false);
    case TDV2_RIB_IPV4_UNICAST_ADDPATH:
      return rib(time, body, 'ipv4', true);
    case TDV2_RIB_IPV6_UNICAST_ADDPATH:
      return rib(time, body, 'ipv6', true);
    default:
      return null;
  }
}

function peerIndexTable(time: MrtTime, body: Cursor): MrtRecord {
  const collector = body.u32('the collector');
  const viewName = new TextDecoder().decode(body.take(body.u16('the view name'), 'the view name'));
  const count = body.u16('the count of peers');
  const peers: MrtPeer[] = [];
  for (let i = 0; i < count; i++) {
    const kind = body.u8('a peer');
    const routerId = body.u32('a peer');
    const address = IpAddress.fromBytes(body.take(kind & 1 ? 16 : 4, 'a peer'));
    peers.push({ routerId, address, asNumber: kind & 2 ? body.u32('a peer') : body.u16('a peer') });
  }
  body.end();
  return { type: 'peer-index-table', time, collector, viewName, peers };
}

function rib(time: MrtTime, body: Cursor, family: AddressFamily, addPath: boolean): MrtRecord {
  const sequence = body.u32('the sequence number');
  const length = body.u8('the prefix');
  if (length > (family === 'ipv4' ? 32 : 128)) throw new Malformed(`prefix length ${length}`);
  const address = new Uint8Array(family === 'ipv4' ? 4 : 16);
  address.set(body.take((length + 7) >> 3, 'the prefix'));
  const count = body.u16('the count of paths');
  const entries: RibEntry[] = [];
  for (let i = 0; i < count; i++) {
    const peerIndex = body.u16('a path');
    const originated = body.u32('a path');
    const pathId = addPath ? body.u32('a path') : 0;
    entries.push({ peerIndex, originated, pathId, attributes: body.take(body.u16('a path'), 'the attributes') });
  }
  body.end();
  const prefix = Prefix.of(IpAddress.fromBytes(address), length);
  return { type: 'rib', time, sequence, prefix, addPath, entries };
}

interface MessageKind {
  readonly as4: boolean;
  readonly local: boolean;
  readonly addPath: boolean;
}

const MESSAGES: ReadonlyMap<number, MessageKind> = new Map([
  [BGP4MP_MESSAGE, { as4: false, local: false, addPath: false }],
  [BGP4MP_MESSAGE_AS4, { as4: true, local: false, addPath: false }],
  [BGP4MP_MESSAGE_LOCAL, { as4: false, local: true, addPath: false }],
  [BGP4MP_MESSAGE_AS4_LOCAL, { as4: true, local: true, addPath: false }],
  [BGP4MP_MESSAGE_ADDPATH, { as4: false, local: false, addPath: true }],
  [BGP4MP_MESSAGE_AS4_ADDPATH, { as4: true, local: false, addPath: true }],
  [BGP4MP_MESSAGE_LOCAL_ADDPATH, { as4: false, local: true, addPath: true }],
  [BGP4MP_MESSAGE_AS4_LOCAL_ADDPATH, { as4: true, local: true, addPath: true }],
]);

function bgp4mp(time: MrtTime, subtype: number, body: Cursor): MrtRecord | null {
  if (subtype === BGP4MP_STATE_CHANGE || subtype === BGP4MP_STATE_CHANGE_AS4) {
    const as4 = subtype === BGP4MP_STATE_CHANGE_AS4;
    const session = readSession(body, as4);
    const from = body.u16('the old state');
    const to = body.u16('the new state');
    body.end();
    return { type: 'state-change', time, as4, ...session, from, to };
  }
  const kind = MESSAGES.get(subtype);
  if (!kind) return null;
  const session = readSession(body, kind.as4);
  const message = body.rest();
  if (message.length < 19) throw new Malformed('the BGP message is cut off');
  if (readU16(message, 16) !== message.length) throw new Malformed('the BGP message has another length than it says');
  return { type: 'message', time, ...kind, ...session, message };
}

function readSession(body: Cursor, as4: boolean): MrtSession {
  const peerAs = as4 ? body.u32('the peer') : body.u16('the peer');
  const localAs = as4 ? body.u32('the peer') : body.u16('the peer');
  const interfaceIndex = body.u16('the interface');
  const afi = body.u16('the address family');
  if (afi !== 1 && afi !== 2) throw new Malformed(`address family ${afi}`);
  const octets = afi === 1 ? 4 : 16;
  const peerAddress = IpAddress.fromBytes(body.take(octets, 'the peer'));
  const localAddress = IpAddress.fromBytes(body.take(octets, 'the local address'));
  return { peerAs, localAs, interfaceIndex, peerAddress, localAddress };
}

/** The attributes of a RIB entry. An unspecified next hop, with which speakers dump their own routes, counts as none. */
export function ribAttributes(entry: Pick<RibEntry, 'attributes'>, family: AddressFamily): DecodedAttributes {
  const raw = entry.attributes;
  const out = new OctetWriter(raw.length + 8);
  let p = 0;
  while (p < raw.length) {
    const header = raw[p]! & FLAG_EXTENDED ? 4 : 3;
    if (raw.length - p < header) break;
    const code = raw[p + 1]!;
    const length = header === 4 ? readU16(raw, p + 2) : raw[p + 2]!;
    const value = p + header;
    if (length > raw.length - value) break;
    if (code === ATTR_MP_REACH && length > 0) putReach(out, raw, value, length, family);
    else if (code !== ATTR_NEXT_HOP || length !== 4 || readU32(raw, value) !== 0) {
      out.bytes(raw.subarray(p, value + length));
    }
    p = value + length;
  }
  out.bytes(raw.subarray(p)); // cut off: the decoder tells
  const block = out.finish();
  return decodeAttributes(block, 0, block.length, STORAGE_SESSION, false);
}

/** MP_REACH_NLRI with its family and without prefixes, as the decoder of UPDATEs takes it. */
function putReach(out: OctetWriter, raw: Uint8Array, off: number, len: number, family: AddressFamily): void {
  const whole = raw[off] === 0 && len >= 4;
  const at = whole ? off + 3 : off;
  const octets = raw[at]!;
  const end = Math.min(at + 1 + octets, off + len);
  const nextHop = raw.subarray(at + 1, end);
  if (octets > 0 && nextHop.every((octet) => octet === 0)) return;
  out
    .u8(0x80)
    .u8(ATTR_MP_REACH)
    .u8(nextHop.length + 5);
  out.u16(afiOf(family)).u8(1).u8(octets).bytes(nextHop).u8(0);
}
