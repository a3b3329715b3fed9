// RTM_*ROUTE: routes with one or many next hops. Pure. Spec: rtnetlink(7), linux/rtnetlink.h, RFC 5549 (RTA_VIA).
//
// Traps:
// - A weight of n is sent as n - 1.
// - An IPv6 route has no scope, and metric 0 means 1024 on adding and "any" on deleting.
// - An IPv6 multipath route may come as several messages with one next hop each on old kernels; ours sends one.
import type { Family } from '#net/address.ts';
import type { IpAddress } from '#net/address.ts';
import type { Prefix } from '#net/prefix.ts';
import { AF_INET, AF_INET6 } from '#sys/constants.ts';
import * as c from '../constants.ts';
import type { LookupOptions } from '../api.ts';
import type { NewNextHop, NewRoute, NextHop, Route, RouteKey, RouteType } from '../types.ts';
import { Attributes, broken, fixedHeader, type MessageBuilder, type NetlinkMessage } from '../wire.ts';
import { readAddress, readPrefix } from './ip.ts';

const RTMSG = 12;
const RTNEXTHOP = 8;
const TYPES: readonly (RouteType | undefined)[] = [
  undefined,
  'unicast',
  'local',
  'broadcast',
  'anycast',
  'multicast',
  'blackhole',
  'unreachable',
  'prohibit',
  'throw',
];
const IPV6_DEFAULT_METRIC = 1024;

const domainOf = (family: Family): number => (family === 4 ? AF_INET : AF_INET6);

/** The metric that a route without one gets. */
export function defaultMetric(family: Family): number {
  return family === 4 ? 0 : IPV6_DEFAULT_METRIC;
}

/** The scope that a route without one gets, as iproute2 does. */
export function defaultScope(route: NewRoute): number {
  if (route.destination.family === 6) return c.RT_SCOPE_UNIVERSE;
  if (route.type === 'local') return c.RT_SCOPE_HOST;
  const hops = route.nextHops ?? [];
  return hops.length > 0 && hops.every((hop) => !hop.gateway) ? c.RT_SCOPE_LINK : c.RT_SCOPE_UNIVERSE;
}

interface Header {
  readonly destination: Prefix;
  readonly table?: number | undefined;
  readonly protocol?: number | undefined;
  readonly scope?: number | undefined;
  readonly type?: RouteType | undefined;
}

function rtmsg(out: MessageBuilder, header: Header): void {
  const table = header.table ?? c.RT_TABLE_MAIN;
  out.u8(domainOf(header.destination.family)).u8(header.destination.length).u8(0).u8(0);
  out
    .u8(table < 256 ? table : 0)
    .u8(header.protocol ?? 0)
    .u8(header.scope ?? 0);
  out.u8(header.type === undefined ? 0 : TYPES.indexOf(header.type)).u32(0);
  if (header.destination.length > 0) out.attribute(c.RTA_DST, header.destination.address.bytes);
  if (table >= 256) out.attributeU32(c.RTA_TABLE, table);
}

export function encodeRoute(out: MessageBuilder, route: NewRoute, replace: boolean): void {
  out.begin(c.RTM_NEWROUTE, replace ? c.NLM_F_CREATE | c.NLM_F_REPLACE : c.NLM_F_CREATE | c.NLM_F_EXCL);
  rtmsg(out, { ...route, type: route.type ?? 'unicast', scope: route.scope ?? defaultScope(route) });
  if (route.metric !== undefined) out.attributeU32(c.RTA_PRIORITY, route.metric);
  if (route.source) out.attribute(c.RTA_PREFSRC, route.source.bytes);
  const { mtu } = route;
  if (mtu) out.nest(c.RTA_METRICS, () => out.attributeU32(c.RTAX_MTU, mtu));
  if (route.expiresSeconds !== undefined) out.attributeU32(c.RTA_EXPIRES, route.expiresSeconds);
  const hops = route.nextHops ?? [];
  const family = route.destination.family;
  const [only] = hops;
  if (only && hops.length === 1) {
    if (only.ifindex) out.attributeU32(c.RTA_OIF, only.ifindex);
    gateway(out, family, only);
    if (only.onlink) setHeaderFlags(out, c.RTNH_F_ONLINK);
  } else if (hops.length > 1) {
    out.nest(c.RTA_MULTIPATH, () => hops.forEach((hop) => multipathHop(out, family, hop)), false);
  }
  out.end();
}

/** The single next hop's flags are in the route header; it is still the message begun last. */
function setHeaderFlags(out: MessageBuilder, flags: number): void {
  const start = out.startOf(out.count - 1) + 16 + 8;
  const bytes = out.bytes();
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(start, flags, true);
}

function multipathHop(out: MessageBuilder, family: Family, hop: NewNextHop): void {
  out.lengthPrefixed(() => {
    out
      .u8(hop.onlink ? c.RTNH_F_ONLINK : 0)
      .u8((hop.weight ?? 1) - 1)
      .u32(hop.ifindex ?? 0);
    gateway(out, family, hop);
  });
}

function gateway(out: MessageBuilder, family: Family, hop: NewNextHop): void {
  if (!hop.gateway) return;
  if (hop.gateway.family === family) out.attribute(c.RTA_GATEWAY, hop.gateway.bytes);
  else out.attribute(c.RTA_VIA, Uint8Array.of(domainOf(hop.gateway.family), 0, ...hop.gateway.bytes));
}

export function encodeRouteDelete(out: MessageBuilder, key: RouteKey): void {
  out.begin(c.RTM_DELROUTE, 0);
  rtmsg(out, { ...key, scope: c.RT_SCOPE_NOWHERE });
  if (key.metric !== undefined) out.attributeU32(c.RTA_PRIORITY, key.metric);
  if (key.ifindex !== undefined) out.attributeU32(c.RTA_OIF, key.ifindex);
  out.end();
}

/** The kernel filters by what is given (strict checking); the caller need not. */
export function encodeRouteDump(
  out: MessageBuilder,
  family: Family,
  filter: { table?: number | undefined; protocol?: number | undefined; ifindex?: number | undefined },
): void {
  out.begin(c.RTM_GETROUTE, 0).u8(domainOf(family)).u8(0).u8(0).u8(0);
  const table = filter.table ?? c.RT_TABLE_MAIN;
  out
    .u8(table < 256 ? table : 0)
    .u8(filter.protocol ?? 0)
    .u8(0)
    .u8(0)
    .u32(0);
  if (table >= 256) out.attributeU32(c.RTA_TABLE, table);
  if (filter.ifindex !== undefined) out.attributeU32(c.RTA_OIF, filter.ifindex);
  out.end();
}

export function encodeRouteLookup(out: MessageBuilder, destination: IpAddress, options: LookupOptions): void {
  out
    .begin(c.RTM_GETROUTE, 0)
    .u8(domainOf(destination.family))
    .u8(destination.bytes.length * 8);
  out
    .u8(options.source ? options.source.bytes.length * 8 : 0)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(0);
  // The IPv6 side refuses RTM_F_LOOKUP_TABLE: it names the table without being asked.
  out.u32(c.RTM_F_FIB_MATCH | (destination.family === 4 ? c.RTM_F_LOOKUP_TABLE : 0));
  out.attribute(c.RTA_DST, destination.bytes);
  if (options.source) out.attribute(c.RTA_SRC, options.source.bytes);
  if (options.mark !== undefined) out.attributeU32(c.RTA_MARK, options.mark);
  if (options.outputInterface !== undefined) out.attributeU32(c.RTA_OIF, options.outputInterface);
  if (options.inputInterface !== undefined) out.attributeU32(c.RTA_IIF, options.inputInterface);
  out.end();
}

/** The protocol of a route message without decoding the rest. */
export function peekProtocol(message: NetlinkMessage): number {
  return message.payload[5] ?? 0;
}

/** null for cached (cloned) routes, for types we do not know and for families other than IPv4 and IPv6. */
export function decodeRoute(message: NetlinkMessage): Route | null {
  const header = fixedHeader(message.payload, RTMSG, 'a route message');
  const domain = header.getUint8(0);
  if (domain !== AF_INET && domain !== AF_INET6) return null;
  const family: Family = domain === AF_INET ? 4 : 6;
  const type = TYPES[header.getUint8(7)];
  const flags = header.getUint32(8, true);
  if (!type || (flags & c.RTM_F_CLONED) !== 0) return null;
  const attributes = new Attributes(message.payload, RTMSG);
  const destination = attributes.bytes(c.RTA_DST) ?? new Uint8Array(family === 4 ? 4 : 16);
  const source = attributes.bytes(c.RTA_PREFSRC);
  return {
    destination: readPrefix(destination, header.getUint8(1), family),
    table: attributes.u32(c.RTA_TABLE) ?? header.getUint8(4),
    protocol: header.getUint8(5),
    type,
    scope: header.getUint8(6),
    metric: attributes.u32(c.RTA_PRIORITY) ?? 0,
    source: source ? readAddress(source, family) : null,
    mtu: attributes.nested(c.RTA_METRICS)?.u32(c.RTAX_MTU) ?? null,
    nextHops: type === 'unicast' || type === 'local' ? decodeNextHops(attributes, family, flags) : [],
  };
}

function decodeNextHops(attributes: Attributes, family: Family, flags: number): NextHop[] {
  const multipath = attributes.bytes(c.RTA_MULTIPATH);
  if (!multipath) return [nextHop(attributes, family, flags, 1, attributes.u32(c.RTA_OIF) ?? 0)];
  const view = new DataView(multipath.buffer, multipath.byteOffset, multipath.byteLength);
  const hops: NextHop[] = [];
  let at = 0;
  while (multipath.length - at >= RTNEXTHOP) {
    const length = view.getUint16(at, true);
    if (length < RTNEXTHOP || length > multipath.length - at) {
      throw broken(`a next hop claims ${length} octets where ${multipath.length - at} are left`);
    }
    const own = new Attributes(multipath.subarray(at, at + length), RTNEXTHOP);
    hops.push(nextHop(own, family, view.getUint8(at + 2), view.getUint8(at + 3) + 1, view.getUint32(at + 4, true)));
    at += (length + 3) & ~3;
  }
  return hops;
}

function nextHop(attributes: Attributes, family: Family, flags: number, weight: number, ifindex: number): NextHop {
  const via = attributes.bytes(c.RTA_VIA);
  const plain = attributes.bytes(c.RTA_GATEWAY);
  let gateway: IpAddress | null = null;
  if (plain) gateway = readAddress(plain, family);
  else if (via) gateway = readAddress(via.subarray(2), via.length === 18 ? 6 : 4);
  return {
    ifindex: ifindex === 0 ? null : ifindex,
    gateway,
    weight,
    onlink: (flags & c.RTNH_F_ONLINK) !== 0,
    dead: (flags & (c.RTNH_F_DEAD | c.RTNH_F_LINKDOWN)) !== 0,
  };
}
