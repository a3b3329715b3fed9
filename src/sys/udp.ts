// UDP sockets with what Node's own `dgram` cannot do: a TTL that received packets must have (RFC 5082), binding to an
// address that is not there yet. In: options. Out: an ordinary `dgram.Socket` over a descriptor prepared here.
// The TTL is checked by a classic BPF filter on the socket, before any packet is queued.
import { createSocket, type Socket } from 'node:dgram';
import { IpAddress } from '#net/address.ts';
import * as c from './constants.ts';
import { check, closeFd, libc } from './ffi.ts';
import * as option from './sockopt.ts';

export interface UdpOptions {
  /** `0.0.0.0` or `::` for all of one family. */
  readonly localAddress: IpAddress | string;
  /** 0: the kernel chooses. */
  readonly localPort: number;
  /** TTL or hop limit sent, 1 to 255. */
  readonly ttl?: number;
  /** Packets with another TTL or hop limit are dropped by the kernel. */
  readonly requireTtl?: number;
  /** Interface index for IPv6 link-local addresses. */
  readonly scope?: number;
}

/** Offsets of TTL and hop limit in the IP header, and where filters see that header (linux/filter.h). */
const TTL_OFFSET = { 4: 8, 6: 7 } as const;
const SKF_NET_OFF = 0xfff00000;

/** Binds at once. Throws SystemError, or `invalid-argument` for what is not an address. */
export function openUdp(options: UdpOptions): Socket {
  const { localAddress } = options;
  const local = typeof localAddress === 'string' ? IpAddress.parse(localAddress) : localAddress;
  const domain = local.family === 4 ? c.AF_INET : c.AF_INET6;
  const type = c.SOCK_DGRAM | c.SOCK_NONBLOCK | c.SOCK_CLOEXEC;
  const fd = check('open UDP socket', libc().socket(domain, type, 0));
  try {
    if (local.family === 6) option.setIntOption(fd, c.IPPROTO_IPV6, c.IPV6_V6ONLY, 1, 'IPV6_V6ONLY');
    if (options.ttl !== undefined) option.setTtl(fd, local.family, options.ttl);
    if (options.requireTtl !== undefined) {
      const filter = ttlFilter(TTL_OFFSET[local.family], options.requireTtl);
      check('attach TTL filter', libc().attachFilter(fd, filter));
    }
    const address = option.encodeSockaddr(local, options.localPort, local.isLinkLocal() ? (options.scope ?? 0) : 0);
    check(`bind to ${local} port ${options.localPort}`, libc().bind(fd, address, address.length));
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  const socket = createSocket(local.family === 4 ? 'udp4' : 'udp6');
  socket.bind({ fd, exclusive: true });
  return socket;
}

/** Accepts a packet whose octet at `offset` of the IP header has this value, drops every other. */
function ttlFilter(offset: number, value: number): Uint8Array {
  const program = new Uint8Array(4 * 8);
  const view = new DataView(program.buffer);
  const put = (at: number, code: number, ifFalse: number, k: number): void => {
    view.setUint16(at * 8, code, true);
    program[at * 8 + 3] = ifFalse;
    view.setUint32(at * 8 + 4, k, true);
  };
  put(0, 0x30, 0, SKF_NET_OFF + offset); // load an octet
  put(1, 0x15, 1, value); // equal: go on, else skip one
  put(2, 0x06, 0, 0xffffffff); // the whole packet
  put(3, 0x06, 0, 0); // nothing
  return program;
}
