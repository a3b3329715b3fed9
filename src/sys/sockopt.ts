// Socket addresses and the socket options that Node cannot set. In: addresses and plain numbers. Out: option bytes in
// the kernel's layout. Sources: ip(7), ipv6(7), tcp(7), linux/tcp.h; RFC 2385 (TCP-MD5), RFC 5082 (GTSM).
import { BrindleError } from '#base/errors.ts';
import { type Family, IpAddress } from '#net/address.ts';
import type { Prefix } from '#net/prefix.ts';
import * as c from './constants.ts';
import { check, libc } from './ffi.ts';

const SOCKADDR_IN = 16;
const SOCKADDR_IN6 = 28;
const SOCKADDR_STORAGE = 128;
/** struct tcp_md5sig: sockaddr_storage, flags, prefix length, key length (16 bits), ifindex, key. */
const MD5SIG_SIZE = SOCKADDR_STORAGE + 8 + c.TCP_MD5SIG_MAXKEYLEN;

/** struct sockaddr_in or sockaddr_in6. `scope` is an interface index, used for IPv6 link-local addresses only. */
export function encodeSockaddr(address: IpAddress, port: number, scope = 0): Uint8Array {
  const out = new Uint8Array(address.family === 4 ? SOCKADDR_IN : SOCKADDR_IN6);
  const view = new DataView(out.buffer);
  view.setUint16(0, address.family === 4 ? c.AF_INET : c.AF_INET6, littleEndian);
  view.setUint16(2, port);
  out.set(address.bytes, address.family === 4 ? 4 : 8);
  if (address.family === 6) view.setUint32(24, scope, littleEndian);
  return out;
}

/** The address and port of a struct sockaddr_in or sockaddr_in6; null for another family. */
export function decodeSockaddr(bytes: Uint8Array): { address: IpAddress; port: number } | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = view.getUint16(0, littleEndian);
  if (family === c.AF_INET) {
    return { address: IpAddress.fromBytes(bytes.subarray(4, 8)), port: view.getUint16(2) };
  }
  if (family === c.AF_INET6) {
    return { address: IpAddress.fromBytes(bytes.subarray(8, 24)), port: view.getUint16(2) };
  }
  return null;
}

/** Both supported machines (x86-64, arm64) are little-endian; the kernel's structs are in host order. */
const littleEndian = true;

export function setIntOption(fd: number, level: number, name: number, value: number, what: string): void {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, littleEndian);
  check(`set ${what}`, libc().setsockopt(fd, level, name, bytes, bytes.length));
}

export function getIntOption(fd: number, level: number, name: number, what: string): number {
  const bytes = new Uint8Array(4);
  check(`get ${what}`, libc().getsockopt(fd, level, name, bytes, Uint32Array.of(4)));
  return new DataView(bytes.buffer).getInt32(0, littleEndian);
}

/** The local port a socket was bound to. */
export function boundAddress(fd: number): { address: IpAddress; port: number } | null {
  const bytes = new Uint8Array(SOCKADDR_STORAGE);
  check('getsockname', libc().getsockname(fd, bytes, Uint32Array.of(bytes.length)));
  return decodeSockaddr(bytes);
}

/** Binds a socket to a network interface by name. */
export function bindToDevice(fd: number, interfaceName: string): void {
  const bytes = new TextEncoder().encode(`${checkInterfaceName(interfaceName)}\0`);
  check(
    `bind socket to interface ${interfaceName}`,
    libc().setsockopt(fd, c.SOL_SOCKET, c.SO_BINDTODEVICE, bytes, bytes.length),
  );
}

/** TTL or hop limit of what is sent, 1 to 255. */
export function setTtl(fd: number, family: Family, ttl: number): void {
  checkTtl('ttl', ttl, 1);
  if (family === 4) setIntOption(fd, c.IPPROTO_IP, c.IP_TTL, ttl, 'IP_TTL');
  else setIntOption(fd, c.IPPROTO_IPV6, c.IPV6_UNICAST_HOPS, ttl, 'IPV6_UNICAST_HOPS');
}

/** Lowest TTL or hop limit accepted, 0 (any) to 255. Segments below it are dropped silently (RFC 5082). */
export function setMinTtl(fd: number, family: Family, minTtl: number): void {
  checkTtl('minTtl', minTtl, 0);
  if (family === 4) setIntOption(fd, c.IPPROTO_IP, c.IP_MINTTL, minTtl, 'IP_MINTTL');
  else setIntOption(fd, c.IPPROTO_IPV6, c.IPV6_MINHOPCOUNT, minTtl, 'IPV6_MINHOPCOUNT');
}

/** DSCP of what is sent, 0 to 63 (RFC 2474). */
export function setDscp(fd: number, family: Family, dscp: number): void {
  if (!Number.isInteger(dscp) || dscp < 0 || dscp > 63) {
    throw new BrindleError('invalid-argument', `DSCP ${dscp} is not in 0..63`, { field: 'dscp' });
  }
  if (family === 4) setIntOption(fd, c.IPPROTO_IP, c.IP_TOS, dscp << 2, 'IP_TOS');
  else setIntOption(fd, c.IPPROTO_IPV6, c.IPV6_TCLASS, dscp << 2, 'IPV6_TCLASS');
}

/** Lets a socket bind to an address that the host does not have (yet). */
export function setFreebind(fd: number, family: Family): void {
  if (family === 4) setIntOption(fd, c.IPPROTO_IP, c.IP_FREEBIND, 1, 'IP_FREEBIND');
  else setIntOption(fd, c.IPPROTO_IPV6, c.IPV6_FREEBIND, 1, 'IPV6_FREEBIND');
}

/**
 * TCP-MD5 key (RFC 2385) for segments to and from `peer`; an empty key removes it (`ENOENT` when there is none).
 * A host prefix uses TCP_MD5SIG, any other TCP_MD5SIG_EXT; the longest matching prefix wins.
 */
export function setMd5Key(fd: number, peer: Prefix, key: Uint8Array): void {
  if (key.length > c.TCP_MD5SIG_MAXKEYLEN) {
    throw new BrindleError('invalid-argument', `the TCP-MD5 key for ${peer} has ${key.length} octets, at most 80 fit`, {
      field: 'md5Key',
    });
  }
  const out = new Uint8Array(MD5SIG_SIZE);
  const view = new DataView(out.buffer);
  out.set(encodeSockaddr(peer.address, 0), 0);
  const extended = !peer.isHost();
  if (extended) {
    out[SOCKADDR_STORAGE] = c.TCP_MD5SIG_FLAG_PREFIX;
    out[SOCKADDR_STORAGE + 1] = peer.length;
  }
  view.setUint16(SOCKADDR_STORAGE + 2, key.length, littleEndian);
  out.set(key, SOCKADDR_STORAGE + 8);
  const option = extended ? c.TCP_MD5SIG_EXT : c.TCP_MD5SIG;
  check(`set TCP-MD5 key for ${peer}`, libc().setsockopt(fd, c.IPPROTO_TCP, option, out, out.length));
}

/** `all` and `default` are directories beside the interfaces' own in /proc/sys/net. */
const RESERVED_NAMES = ['.', '..', 'all', 'default'];

/** Refuses what the kernel would refuse or misread as an interface name. Returns the name. */
export function checkInterfaceName(name: string, field = 'interfaceName'): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what is refused
  if (/^[^\s/:%\x00-\x1f\x7f-\u{10ffff}]{1,15}$/u.test(name) && !RESERVED_NAMES.includes(name)) return name;
  throw new BrindleError('invalid-argument', `"${name}" is not an interface name`, {
    field,
    remedy: 'use 1 to 15 printable ASCII characters without space, "/", ":" or "%"',
  });
}

function checkTtl(field: string, value: number, min: number): void {
  if (!Number.isInteger(value) || value < min || value > 255) {
    throw new BrindleError('invalid-argument', `${field} ${value} is not in ${min}..255`, { field });
  }
}
