// RTM_*ADDR: addresses of interfaces. Pure. Spec: rtnetlink(7), linux/if_addr.h.
import type { Family } from '#net/address.ts';
import { IpAddress } from '#net/address.ts';
import { AF_INET, AF_INET6, AF_UNSPEC } from '#sys/constants.ts';
import * as c from '../constants.ts';
import type { AddressScope, InterfaceAddress, NewAddress } from '../types.ts';
import { Attributes, fixedHeader, type MessageBuilder, type NetlinkMessage } from '../wire.ts';

const IFADDRMSG = 8;
const SCOPES: Record<AddressScope, number> = { global: 0, link: c.RT_SCOPE_LINK, host: c.RT_SCOPE_HOST };

export function encodeAddressDump(out: MessageBuilder, family: Family | undefined, ifindex: number): void {
  const domain = family === undefined ? AF_UNSPEC : family === 4 ? AF_INET : AF_INET6;
  out.begin(c.RTM_GETADDR, 0).u8(domain).u8(0).u8(0).u8(0).u32(ifindex).end();
}

export function encodeAddressAdd(out: MessageBuilder, address: NewAddress, replace: boolean): void {
  const scope = address.scope ?? (address.address.isLinkLocal() && address.address.family === 6 ? 'link' : 'global');
  header(
    out,
    c.RTM_NEWADDR,
    replace ? c.NLM_F_CREATE | c.NLM_F_REPLACE : c.NLM_F_CREATE | c.NLM_F_EXCL,
    address,
    scope,
  );
  let flags = 0;
  if (address.noDad) flags |= c.IFA_F_NODAD;
  if (address.noPrefixRoute) flags |= c.IFA_F_NOPREFIXROUTE;
  if (flags !== 0) out.attributeU32(c.IFA_FLAGS, flags);
  out.end();
}

export function encodeAddressDelete(
  out: MessageBuilder,
  address: Pick<NewAddress, 'ifindex' | 'address' | 'prefixLength'>,
): void {
  header(out, c.RTM_DELADDR, 0, address, 'global');
  out.end();
}

function header(
  out: MessageBuilder,
  type: number,
  flags: number,
  address: Pick<NewAddress, 'ifindex' | 'address' | 'prefixLength'>,
  scope: AddressScope,
): void {
  out.begin(type, flags);
  out
    .u8(address.address.family === 4 ? AF_INET : AF_INET6)
    .u8(address.prefixLength)
    .u8(0)
    .u8(SCOPES[scope]);
  out.u32(address.ifindex);
  out.attribute(c.IFA_LOCAL, address.address.bytes).attribute(c.IFA_ADDRESS, address.address.bytes);
}

/** null for a family other than IPv4 and IPv6. */
export function decodeAddress(message: NetlinkMessage): InterfaceAddress | null {
  const header = fixedHeader(message.payload, IFADDRMSG, 'an address message');
  const family = header.getUint8(0);
  const attributes = new Attributes(message.payload, IFADDRMSG);
  // On a point-to-point link IFA_ADDRESS is the other side's.
  const bytes = attributes.bytes(c.IFA_LOCAL) ?? attributes.bytes(c.IFA_ADDRESS);
  const length = family === AF_INET ? 4 : family === AF_INET6 ? 16 : 0;
  if (!bytes || length === 0 || bytes.length !== length) return null;
  const flags = attributes.u32(c.IFA_FLAGS) ?? header.getUint8(2);
  const scope = header.getUint8(3);
  return {
    ifindex: header.getUint32(4, true),
    address: IpAddress.fromBytes(bytes),
    prefixLength: header.getUint8(1),
    scope: scope === c.RT_SCOPE_LINK ? 'link' : scope === c.RT_SCOPE_HOST ? 'host' : 'global',
    tentative: (flags & c.IFA_F_TENTATIVE) !== 0,
    dadFailed: (flags & c.IFA_F_DADFAILED) !== 0,
    deprecated: (flags & c.IFA_F_DEPRECATED) !== 0,
    noPrefixRoute: (flags & c.IFA_F_NOPREFIXROUTE) !== 0,
    permanent: (flags & c.IFA_F_PERMANENT) !== 0,
  };
}
