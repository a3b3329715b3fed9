// One question: can something in this namespace reach that address? Asked by a TCP connection or by an ICMP echo
// (RFC 792, RFC 4443), from sockets opened inside the namespace but served by this process, so that thousands of
// questions need no process each.
import { setTimeout as sleep } from 'node:timers/promises';
import { BrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import { AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW } from '#sys/constants.ts';
import { isSystemError, SystemError } from '#sys/errors.ts';
import { check, closeFd, lastErrno, libc } from '#sys/ffi.ts';
import { withNetns } from '#sys/netns.ts';
import { type PollHandle, pollReadable } from '#sys/poll.ts';
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
  let echo: EchoSocket;
  try {
    echo = new EchoSocket(path, address, true, (answer) => finish(answer === 0 ? 'ok' : outcomeOf(answer), answer));
  } catch (error) {
    const outcome = outcomeOf(error);
    return outcome ? Promise.resolve(outcome) : Promise.reject(error);
  }
  const timer = setTimeout(() => finish('silent'), limit);
  const finish = (outcome: Outcome | null, error?: unknown): void => {
    clearTimeout(timer);
    echo.close();
    if (outcome) resolve(outcome);
    else reject(error);
  };
  echo.send(0);
  return promise;
}

export interface PingReport {
  readonly sent: number;
  /** Sequence numbers, from 0, that were never answered. */
  readonly lost: readonly number[];
  /** From the start to the first answer, in milliseconds; null when there was none. */
  readonly firstAnswer: number | null;
  /** The longest time between two answers, in milliseconds. */
  readonly longestGap: number;
}

/** Echo requests at a steady rate, to see what is lost while something happens, or when the first one comes through. */
export class PingStream {
  readonly #echo: EchoSocket;
  readonly #timer: NodeJS.Timeout;
  readonly #start = performance.now();
  readonly #answered = new Set<number>();
  readonly #first = Promise.withResolvers<number>();
  #sent = 0;
  #last = this.#start;
  #firstAnswer: number | null = null;
  #longestGap = 0;

  /** From the namespace at `path`, one every `interval` ms (at least 1). */
  constructor(path: string, address: string, interval: number) {
    this.#echo = new EchoSocket(path, address, true, (answer) => {
      if (typeof answer === 'number') this.#onAnswer(answer);
    });
    // A late timer makes up for what it missed, so that the rate holds on a busy machine.
    this.#timer = setInterval(() => {
      const due = (performance.now() - this.#start) / interval;
      while (this.#sent < due && this.#sent < 65536) this.#echo.send(this.#sent++);
    }, interval);
  }

  /** The first answer: milliseconds since the start. */
  first(): Promise<number> {
    return this.#first.promise;
  }

  /** Sends no more, waits for `grace` ms for what is under way, and reports. */
  async stop(grace: number): Promise<PingReport> {
    clearInterval(this.#timer);
    const end = performance.now() + grace;
    while (this.#answered.size < this.#sent && performance.now() < end) await sleep(5);
    this.#echo.close();
    const lost = Array.from({ length: this.#sent }, (_, i) => i).filter((i) => !this.#answered.has(i));
    return { sent: this.#sent, lost, firstAnswer: this.#firstAnswer, longestGap: this.#longestGap };
  }

  #onAnswer(sequence: number): void {
    const now = performance.now();
    this.#answered.add(sequence);
    if (this.#firstAnswer === null) {
      this.#firstAnswer = now - this.#start;
      this.#first.resolve(this.#firstAnswer);
    } else this.#longestGap = Math.max(this.#longestGap, now - this.#last);
    this.#last = now;
  }
}

/** A raw ICMP socket towards one address. */
class EchoSocket {
  readonly #fd: number;
  readonly #icmp: typeof ICMP;
  readonly #identifier = crypto.getRandomValues(new Uint8Array(2));
  readonly #buffer = new Uint8Array(2048);
  readonly #poll: PollHandle;
  readonly #onAnswer: (answer: number | SystemError) => void;
  #open = true;

  /**
   * `onAnswer` gets the sequence number of each answer, or an error that the kernel reports; with `routerErrors` also
   * the word of a router that there is no way. Throws SystemError.
   */
  constructor(path: string, address: string, routerErrors: boolean, onAnswer: (answer: number | SystemError) => void) {
    const target = IpAddress.parse(address);
    this.#icmp = target.family === 4 ? ICMP : ICMPV6;
    this.#onAnswer = onAnswer;
    this.#fd = withNetns(path, () => openConnected(target, this.#icmp.protocol, routerErrors));
    this.#poll = pollReadable(this.#fd, () => this.#receive());
  }

  send(sequence: number): void {
    if (!this.#open) return;
    const request = echoRequest(this.#icmp.request, this.#identifier, sequence);
    if (libc().send(this.#fd, request, request.length, 0) !== -1) return;
    const error = new SystemError('ping', lastErrno());
    setImmediate(() => {
      if (this.#open) this.#onAnswer(error);
    });
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#poll.close();
    closeFd(this.#fd);
  }

  #receive(): void {
    while (this.#open) {
      const length = libc().recv(this.#fd, this.#buffer, this.#buffer.length, 0);
      if (length < 0) {
        const error = new SystemError('ping', lastErrno());
        if (error.errno === 'EAGAIN') return;
        this.#onAnswer(error);
        continue;
      }
      const message = this.#buffer.subarray(this.#icmp.headerOf(this.#buffer), length);
      // The echoes of others come to this socket too: the identifier tells ours.
      if (message[0] !== this.#icmp.reply) continue;
      if (message[4] !== this.#identifier[0] || message[5] !== this.#identifier[1]) continue;
      this.#onAnswer((message[6]! << 8) | message[7]!);
    }
  }
}

function openConnected(target: IpAddress, protocol: number, routerErrors: boolean): number {
  const family = target.family === 4 ? AF_INET : AF_INET6;
  const fd = check('open ICMP socket', libc().socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
  if (routerErrors && family === AF_INET) setIntOption(fd, IPPROTO_IP, IP_RECVERR, 1, 'IP_RECVERR');
  else if (routerErrors) setIntOption(fd, IPPROTO_IPV6, IPV6_RECVERR, 1, 'IPV6_RECVERR');
  const to = encodeSockaddr(target, 0);
  if (libc().connect(fd, to, to.length) === 0) return fd;
  const error = new SystemError(`connect to ${target}`, lastErrno());
  closeFd(fd);
  throw error;
}

function echoRequest(type: number, identifier: Uint8Array, sequence: number): Uint8Array {
  const message = new Uint8Array(16);
  message[0] = type;
  message.set(identifier, 4);
  message[6] = (sequence >> 8) & 255;
  message[7] = sequence & 255;
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
