// One question: can something in this namespace reach that address? Asked by a TCP connection or by an ICMP echo
// (RFC 792, RFC 4443), from sockets opened inside the namespace but served by this process, so that thousands of
// questions need no process each.
import { BrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import { AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW } from '#sys/constants.ts';
import { isSystemError, SystemError } from '#sys/errors.ts';
import { check, closeFd, lastErrno, libc } from '#sys/ffi.ts';
import { withNetns } from '#sys/netns.ts';
import { pollReadable } from '#sys/poll.ts';
import { encodeSockaddr, setIntOption } from '#sys/sockopt.ts';
import { connectTcp } from '#sys/tcp.ts';

/**
 * `ok`: an answer came. `refused`: reached, but nobody serves the port. `silent`: nothing came back in time, as when a
 * policy drops. `unreachable`: a router or the own host said that there is no way.
 */
export type Outcome = 'ok' | 'refused' | 'silent' | 'unreachable';

const ICMP = { protocol: 1, request: 8, reply: 0, headerOf: (packet: Uint8Array) => (packet[0]! & 15) * 4 };
const ICMPV6 = { protocol: 58, request: 128, reply: 129, headerOf: () => 0 };
/** Socket options by which the word of a router that there is no way becomes an error of the socket. */
const IP_RECVERR = 11;
const IPV6_RECVERR = 25;

/** Connects from the namespace at `path` and closes again. `limit` in milliseconds. */
export function probeTcp(path: string, address: string, port: number, limit: number): Promise<Outcome> {
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  withNetns(path, () => {
    connectTcp({ remoteAddress: address, remotePort: port, timeoutMs: limit }, (error, socket) => {
      if (socket) {
        socket.on('error', () => {}); // its only use is over
        socket.resetAndDestroy();
        resolve('ok');
      } else {
        const outcome = outcomeOf(error);
        if (outcome) resolve(outcome);
        else reject(error ?? new BrindleError('internal', 'a connection ended without a result'));
      }
    });
  });
  return promise;
}

/** Sends one echo request from the namespace at `path` and waits up to `limit` ms for the answer. */
export function probePing(path: string, address: string, limit: number): Promise<Outcome> {
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  const target = IpAddress.parse(address);
  const icmp = target.family === 4 ? ICMP : ICMPV6;
  const request = echoRequest(icmp.request);
  let fd: number;
  try {
    fd = withNetns(path, () => openConnected(target, icmp.protocol));
  } catch (error) {
    const outcome = outcomeOf(error);
    return outcome ? Promise.resolve(outcome) : Promise.reject(error);
  }
  const answer = new Uint8Array(256);
  const finish = (outcome: Outcome | null, error?: unknown): void => {
    clearTimeout(timer);
    poll.close();
    closeFd(fd);
    if (outcome) resolve(outcome);
    else reject(error);
  };
  const poll = pollReadable(fd, () => {
    const length = libc().recv(fd, answer, answer.length, 0);
    if (length < 0) {
      const error = new SystemError(`ping ${address}`, lastErrno());
      if (error.errno === 'EAGAIN') return;
      finish(outcomeOf(error), error);
      return;
    }
    const message = answer.subarray(icmp.headerOf(answer), length);
    // Others' echoes come to this socket too: the identifier and the sequence number tell ours.
    if (message[0] === icmp.reply && request.subarray(4, 8).every((byte, i) => byte === message[4 + i])) finish('ok');
  });
  const timer = setTimeout(() => finish('silent'), limit);
  if (libc().send(fd, request, request.length, 0) === -1) {
    const error = new SystemError(`ping ${address}`, lastErrno());
    finish(outcomeOf(error), error);
  }
  return promise;
}

function openConnected(target: IpAddress, protocol: number): number {
  const family = target.family === 4 ? AF_INET : AF_INET6;
  const fd = check('open ICMP socket', libc().socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
  if (family === AF_INET) setIntOption(fd, IPPROTO_IP, IP_RECVERR, 1, 'IP_RECVERR');
  else setIntOption(fd, IPPROTO_IPV6, IPV6_RECVERR, 1, 'IPV6_RECVERR');
  const to = encodeSockaddr(target, 0);
  if (libc().connect(fd, to, to.length) === 0) return fd;
  const error = new SystemError(`connect to ${target}`, lastErrno());
  closeFd(fd);
  throw error;
}

function echoRequest(type: number): Uint8Array {
  const message = new Uint8Array(16);
  message[0] = type;
  crypto.getRandomValues(message.subarray(4, 8));
  let sum = 0;
  for (let i = 0; i < message.length; i += 2) sum += (message[i]! << 8) | message[i + 1]!;
  sum = (sum & 0xffff) + (sum >>> 16);
  const checksum = ~(sum + (sum >>> 16)) & 0xffff; // of ICMPv6 the kernel fills it in, over a pseudo-header
  message[2] = checksum >> 8;
  message[3] = checksum & 255;
  return message;
}

/** Null when the error says nothing about the way to the address. */
function outcomeOf(error: unknown): Outcome | null {
  if (!isSystemError(error)) return null;
  switch (error.errno) {
    case 'ETIMEDOUT':
      return 'silent';
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return 'refused';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EHOSTDOWN':
    case 'EADDRNOTAVAIL':
      return 'unreachable';
    default:
      return null;
  }
}
