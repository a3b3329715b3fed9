// RTM_*NEIGH and RTM_SETNEIGHTBL: neighbours (ARP, ND) and proxied addresses. Pure. Spec: rtnetlink(7),
// linux/neighbour.h.
import type { Family } from '#net/address.ts';
import { IpAddress } from '#net/address.ts';
import { formatMac, parseMac } from '#net/mac.ts';
import { AF_INET, AF_INET6, AF_UNSPEC } from '#sys/constants.ts';
import * as c from '../constants.ts';
import type { Neighbour, NeighbourState, NewNeighbour } from '../types.ts';
import { Attributes, fixedHeader, type MessageBuilder, type NetlinkMessage } from '../wire.ts';

const NDMSG = 12;
const RTN_UNICAST = 1;
const STATES: Record<NeighbourState, number> = {
  none: 0,
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
};

function ndmsg(out: MessageBuilder, family: Family | undefined, ifindex: number, state: number, flags: number): void {
  const domain = family === undefined ? AF_UNSPEC : family === 4 ? AF_INET : AF_INET6;
  out
    .u8(domain)
    .u8(0)
    .u16(0)
    .u32(ifindex)
    .u16(state)
    .u8(flags)
    .u8(state === 0 ? 0 : RTN_UNICAST);
}

export function encodeNeighbourReplace(out: MessageBuilder, neighbour: NewNeighbour): void {
  out.begin(c.RTM_NEWNEIGH, c.NLM_F_CREATE | c.NLM_F_REPLACE);
  const { address } = neighbour;
  const state = STATES[neighbour.state ?? 'permanent'];
  ndmsg(out, address.family, neighbour.ifindex, state, neighbour.router ? c.NTF_ROUTER : 0);
  out.attribute(c.NDA_DST, address.bytes).attribute(c.NDA_LLADDR, parseMac(neighbour.mac)).end();
}

export function encodeNeighbourDelete(out: MessageBuilder, ifindex: number, address: IpAddress): void {
  out.begin(c.RTM_DELNEIGH, 0);
  ndmsg(out, address.family, ifindex, 0, 0);
  out.attribute(c.NDA_DST, address.bytes).end();
}

export function encodeProxy(out: MessageBuilder, ifindex: number, address: IpAddress, remove: boolean): void {
  if (remove) out.begin(c.RTM_DELNEIGH, 0);
  else out.begin(c.RTM_NEWNEIGH, c.NLM_F_CREATE | c.NLM_F_REPLACE);
  ndmsg(out, address.family, ifindex, 0, c.NTF_PROXY);
  out.attribute(c.NDA_DST, address.bytes).end();
}

export function encodeNeighbourDump(out: MessageBuilder, family: Family | undefined, proxy: boolean): void {
  out.begin(c.RTM_GETNEIGH, 0);
  ndmsg(out, family, 0, 0, proxy ? c.NTF_PROXY : 0);
  out.end();
}

export function encodeProxyDelay(out: MessageBuilder, family: Family, ifindex: number, delayMs: number): void {
  out
    .begin(c.RTM_SETNEIGHTBL, 0)
    .u8(family === 4 ? AF_INET : AF_INET6)
    .u8(0)
    .u16(0);
  out.attributeString(c.NDTA_NAME, family === 4 ? 'arp_cache' : 'ndisc_cache');
  out.nest(c.NDTA_PARMS, () => {
    out.attributeU32(c.NDTPA_IFINDEX, ifindex);
    const delay = new Uint8Array(8);
    new DataView(delay.buffer).setBigUint64(0, BigInt(delayMs), true);
    out.attribute(c.NDTPA_PROXY_DELAY, delay);
  });
  out.end();
}

/** null for neighbours of a family other than IPv4 and IPv6 (bridge forwarding entries). */
export function decodeNeighbour(message: NetlinkMessage): Neighbour | null {
  const header = fixedHeader(message.payload, NDMSG, 'a neighbour message');
  const domain = header.getUint8(0);
  const attributes = new Attributes(message.payload, NDMSG);
  const destination = attributes.bytes(c.NDA_DST);
  const length = domain === AF_INET ? 4 : domain === AF_INET6 ? 16 : 0;
  if (!destination || length === 0 || destination.length !== length) return null;
  const mac = attributes.bytes(c.NDA_LLADDR);
  const state = header.getUint16(8, true);
  const names = Object.keys(STATES) as NeighbourState[];
  return {
    ifindex: header.getInt32(4, true),
    address: IpAddress.fromBytes(destination),
    mac: mac?.length === 6 ? formatMac(mac) : null,
    state: names.find((name) => STATES[name] === state) ?? 'none',
    proxy: (header.getUint8(10) & c.NTF_PROXY) !== 0,
  };
}
