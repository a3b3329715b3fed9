// RTM_*LINK: encoding of changes to links, decoding of links. Pure. Spec: rtnetlink(7), linux/if_link.h, linux/veth.h.
import { formatMac, parseMac } from '#net/mac.ts';
import { AF_INET, AF_INET6 } from '#sys/constants.ts';
import { checkInterfaceName } from '#sys/sockopt.ts';
import * as c from '../constants.ts';
import type { Ipv4Settings, Link, LinkReference, LinkSettings, NewLinkSettings, NewVeth } from '../types.ts';
import { Attributes, fixedHeader, type MessageBuilder, type NetlinkMessage } from '../wire.ts';

const IFINFOMSG = 16;

/** Numbers of linux/ip.h IPV4_DEVCONF_*. */
const IPV4_CONF: Record<keyof Ipv4Settings, number> = {
  forwarding: 1,
  proxyArp: 3,
  acceptRedirects: 4,
  sendRedirects: 6,
  rpFilter: 8,
  routeLocalnet: 26,
};

const ADDR_GEN_EUI64 = 0;
const ADDR_GEN_NONE = 1;

function ifinfo(out: MessageBuilder, index: number, flags = 0, change = 0): MessageBuilder {
  return out.u8(0).u8(0).u16(0).u32(index).u32(flags).u32(change);
}

function reference(out: MessageBuilder, link: LinkReference, flags = 0, change = 0): void {
  ifinfo(out, typeof link === 'number' ? link : 0, flags, change);
  if (typeof link === 'string') out.attributeString(c.IFLA_IFNAME, checkInterfaceName(link));
}

function properties(out: MessageBuilder, link: NewLinkSettings): void {
  out.attributeString(c.IFLA_IFNAME, checkInterfaceName(link.name));
  if (link.mac !== undefined) out.attribute(c.IFLA_ADDRESS, parseMac(link.mac));
  if (link.mtu !== undefined) out.attributeU32(c.IFLA_MTU, link.mtu);
  if (link.txQueueLength !== undefined) out.attributeU32(c.IFLA_TXQLEN, link.txQueueLength);
  if (link.group !== undefined) out.attributeU32(c.IFLA_GROUP, link.group);
}

const upFlag = (up: boolean | undefined): number => (up ? c.IFF_UP : 0);

export function encodeLinkDump(out: MessageBuilder): void {
  ifinfo(out.begin(c.RTM_GETLINK, 0), 0).attributeU32(c.IFLA_EXT_MASK, c.RTEXT_FILTER_SKIP_STATS).end();
}

export function encodeLinkGet(out: MessageBuilder, link: LinkReference): void {
  out.begin(c.RTM_GETLINK, 0);
  reference(out, link);
  out.attributeU32(c.IFLA_EXT_MASK, c.RTEXT_FILTER_SKIP_STATS).end();
}

export function encodeVethAdd(out: MessageBuilder, veth: NewVeth): void {
  ifinfo(out.begin(c.RTM_NEWLINK, c.NLM_F_CREATE | c.NLM_F_EXCL), 0, upFlag(veth.up), upFlag(veth.up));
  properties(out, veth);
  out.nest(c.IFLA_LINKINFO, () => {
    out.attributeString(c.IFLA_INFO_KIND, 'veth');
    out.nest(c.IFLA_INFO_DATA, () => {
      // The peer is a whole link message of its own, so this attribute is not marked as nested.
      out.nest(c.VETH_INFO_PEER, () => peer(out, veth.peer), false);
    });
  });
  out.end();
}

function peer(out: MessageBuilder, link: NewVeth['peer']): void {
  ifinfo(out, 0);
  properties(out, link);
  if (link.netnsFd !== undefined) out.attributeU32(c.IFLA_NET_NS_FD, link.netnsFd);
}

export function encodeBridgeAdd(out: MessageBuilder, bridge: NewLinkSettings): void {
  ifinfo(out.begin(c.RTM_NEWLINK, c.NLM_F_CREATE | c.NLM_F_EXCL), 0, upFlag(bridge.up), upFlag(bridge.up));
  properties(out, bridge);
  out.nest(c.IFLA_LINKINFO, () => out.attributeString(c.IFLA_INFO_KIND, 'bridge')).end();
}

export function encodeLinkSet(out: MessageBuilder, link: LinkReference, settings: LinkSettings): void {
  out.begin(c.RTM_NEWLINK, 0);
  if (settings.up === undefined) reference(out, link);
  else reference(out, link, upFlag(settings.up), c.IFF_UP);
  // By name, IFLA_IFNAME is the key; a new name then needs the index.
  if (settings.name !== undefined) out.attributeString(c.IFLA_IFNAME, checkInterfaceName(settings.name));
  if (settings.mac !== undefined) out.attribute(c.IFLA_ADDRESS, parseMac(settings.mac));
  if (settings.mtu !== undefined) out.attributeU32(c.IFLA_MTU, settings.mtu);
  if (settings.txQueueLength !== undefined) out.attributeU32(c.IFLA_TXQLEN, settings.txQueueLength);
  if (settings.group !== undefined) out.attributeU32(c.IFLA_GROUP, settings.group);
  if (settings.alias !== undefined) out.attributeString(c.IFLA_IFALIAS, settings.alias);
  if (settings.master !== undefined) out.attributeU32(c.IFLA_MASTER, settings.master ?? 0);
  if (settings.netnsFd !== undefined) out.attributeU32(c.IFLA_NET_NS_FD, settings.netnsFd);
  const { ipv4, ipv6AutoLinkLocal } = settings;
  if (ipv4 !== undefined || ipv6AutoLinkLocal !== undefined) {
    out.nest(c.IFLA_AF_SPEC, () => {
      if (ipv4) out.nest(AF_INET, () => out.nest(c.IFLA_INET_CONF, () => ipv4Conf(out, ipv4)));
      if (ipv6AutoLinkLocal !== undefined) {
        const mode = ipv6AutoLinkLocal ? ADDR_GEN_EUI64 : ADDR_GEN_NONE;
        out.nest(AF_INET6, () => out.attributeU8(c.IFLA_INET6_ADDR_GEN_MODE, mode));
      }
    });
  }
  out.end();
}

function ipv4Conf(out: MessageBuilder, settings: Ipv4Settings): void {
  for (const name of Object.keys(IPV4_CONF) as (keyof Ipv4Settings)[]) {
    const value = settings[name];
    if (value !== undefined) out.attributeU32(IPV4_CONF[name], value);
  }
}

export function encodeLinkDelete(out: MessageBuilder, link: LinkReference): void {
  out.begin(c.RTM_DELLINK, 0);
  reference(out, link);
  out.end();
}

export function encodeGroupDelete(out: MessageBuilder, group: number): void {
  ifinfo(out.begin(c.RTM_DELLINK, 0), 0).attributeU32(c.IFLA_GROUP, group).end();
}

/** A link of RTM_NEWLINK or RTM_DELLINK; null for a message of another protocol family (bridge ports). */
export function decodeLink(message: NetlinkMessage): Link | null {
  const header = fixedHeader(message.payload, IFINFOMSG, 'a link message');
  if (header.getUint8(0) !== 0) return null;
  const flags = header.getUint32(8, true);
  const attributes = new Attributes(message.payload, IFINFOMSG);
  const mac = attributes.bytes(c.IFLA_ADDRESS);
  const kind = attributes.nested(c.IFLA_LINKINFO)?.string(c.IFLA_INFO_KIND) ?? null;
  return {
    index: header.getInt32(4, true),
    name: attributes.string(c.IFLA_IFNAME) ?? '',
    kind,
    mac: mac?.length === 6 ? formatMac(mac) : null,
    mtu: attributes.u32(c.IFLA_MTU) ?? 0,
    txQueueLength: attributes.u32(c.IFLA_TXQLEN) ?? 0,
    up: (flags & c.IFF_UP) !== 0,
    carrier: (flags & c.IFF_LOWER_UP) !== 0,
    loopback: (flags & c.IFF_LOOPBACK) !== 0,
    group: attributes.u32(c.IFLA_GROUP) ?? 0,
    master: attributes.u32(c.IFLA_MASTER) ?? null,
    peerIndex: attributes.u32(c.IFLA_LINK) || null,
    peerNamespace: attributes.u32(c.IFLA_LINK_NETNSID) ?? null,
    alias: attributes.string(c.IFLA_IFALIAS) ?? null,
  };
}
