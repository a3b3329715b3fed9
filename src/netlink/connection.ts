// One netlink socket: requests out, answers in, matched by sequence number. In: a MessageBuilder with any number of
// messages. Out: an error or success for each, and the messages with which the kernel answered.
// Synchronous: a request to the kernel is a function call in disguise; it is carried out inside of `send`.
//
// Traps:
// - The kernel handles all messages of one send in order and goes on after a failed one. Only the last asks for an
//   acknowledgement, errors come anyway: so thousands of successful messages cost one answer.
// - The socket lives in the namespace in which the thread was when it was opened, and stays there.
// - A dump may be interrupted by a change (NLM_F_DUMP_INTR) and is then no consistent picture: it is done again.
// - Replies of a request that ran into its timeout may still come; what has another sequence number is thrown away.
import { write } from 'node:fs';
import { BrindleError } from '#base/errors.ts';
import * as sys from '#sys/constants.ts';
import { SystemError } from '#sys/errors.ts';
import { check, closeFd, lastErrno, libc } from '#sys/ffi.ts';
import { withNetns } from '#sys/netns.ts';
import { setIntOption } from '#sys/sockopt.ts';
import * as c from './constants.ts';
import { KernelError } from './errors.ts';
import { Attributes, fixedHeader, type MessageBuilder, type NetlinkMessage, readMessages } from './wire.ts';

/** The kernel never makes a datagram longer than this for us. */
const RECEIVE_BUFFER = 64 * 1024;
/** A send longer than the socket's send buffer is refused; this is well below the default of 208 KiB. */
const MAX_SEND_OCTETS = 96 * 1024;
/** An error answer takes about 1 KiB of the receive buffer; all messages of a send may fail. */
const MAX_SEND_MESSAGES = 1024;
const RECEIVE_QUEUE = 2 * 1024 * 1024;
const DUMP_ATTEMPTS = 8;
/** About 2 ms of work for routes. */
const DATAGRAMS_A_TURN = 8;
/** The kernel answers within microseconds, unless it waits for a lock (deleting interfaces can hold it for long). */
const ANSWER_TIMEOUT_MS = 10_000;

export interface ConnectionOptions {
  /** Path or descriptor of the namespace to open the socket in; absent: the thread's own. */
  readonly netns?: string | number | undefined;
  /** NETLINK_ROUTE (default) or NETLINK_NETFILTER. */
  readonly family?: number | undefined;
}

/** What became of one message. `errno` 0 is success; `text` is the kernel's explanation or warning. */
export interface Acknowledgement {
  readonly errno: number;
  readonly text: string | null;
}

const SUCCESS: Acknowledgement = { errno: 0, text: null };

export class NetlinkConnection {
  readonly fd: number;
  /** The port number that the kernel notes as the cause of changes made here. */
  readonly port: number;
  #open = true;
  #sequence = 1;
  #asyncTail: Promise<unknown> | null = null;
  readonly #buffer = new Uint8Array(RECEIVE_BUFFER);

  constructor(options: ConnectionOptions = {}) {
    const open = () => openSocket(options.family ?? c.NETLINK_ROUTE);
    this.fd = options.netns === undefined ? open() : withNetns(options.netns, open);
    this.port = bindNetlink(this.fd);
  }

  close(): void {
    if (this.#open) closeFd(this.fd);
    this.#open = false;
  }

  /**
   * Sends all messages and waits for the last to be carried out. Returns one acknowledgement a message. `onData` gets
   * what requests other than dumps answer. Throws `timeout`, SystemError when the socket fails, `protocol`.
   */
  transact(batch: MessageBuilder, onData?: (index: number, message: NetlinkMessage) => void): Acknowledgement[] {
    this.#refuseWhileBusy();
    return this.#transact(batch, onData, (bytes) => this.#send(bytes));
  }

  /**
   * As `transact`, but the kernel's work is done on a thread of libuv's pool while the event loop goes on. Calls are
   * carried out one after the other. The connection takes no synchronous calls meanwhile.
   */
  transactAsync(batch: MessageBuilder): Promise<Acknowledgement[]> {
    const run = async (): Promise<Acknowledgement[]> => {
      const acknowledgements: Acknowledgement[] = [];
      const base = this.#nextSequence(batch.count);
      for (const [from, to] of chunks(batch)) {
        await writeAsync(this.fd, this.#stamp(batch, from, to, base));
        this.#collect(base, from, to, acknowledgements);
      }
      return acknowledgements;
    };
    const result = (this.#asyncTail ?? Promise.resolve()).then(run);
    const done = (): void => {
      if (this.#asyncTail === tail) this.#asyncTail = null;
    };
    const tail: Promise<void> = result.then(done, done);
    this.#asyncTail = tail;
    return result;
  }

  /**
   * Sends one dump request and hands every message of the answer to `onMessage`. When the kernel says that the picture
   * is torn, `onRestart` is called and it all begins again. Throws KernelError for `operation`.
   */
  dump(
    request: MessageBuilder,
    operation: string,
    onMessage: (message: NetlinkMessage) => void,
    onRestart: () => void,
  ): void {
    this.#refuseWhileBusy();
    for (let attempt = 1; ; attempt++) {
      if (this.#dumpOnce(request, operation, onMessage)) return;
      if (attempt === DUMP_ATTEMPTS) throw tooFast(operation);
      onRestart();
    }
  }

  /**
   * As `dump`, reading a few datagrams a turn of the event loop. For tables of any size; the connection takes no other
   * calls meanwhile.
   */
  dumpAsync(
    request: MessageBuilder,
    operation: string,
    onMessage: (message: NetlinkMessage) => void,
    onRestart: () => void,
  ): Promise<void> {
    this.#refuseWhileBusy();
    const run = async (): Promise<void> => {
      for (let attempt = 1; attempt <= DUMP_ATTEMPTS; attempt++) {
        const steps = this.#dumpSteps(request, operation, onMessage);
        let step = steps.next();
        for (let n = 1; !step.done; n++) {
          if (n % DATAGRAMS_A_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
          step = steps.next();
        }
        if (step.value) return;
        onRestart();
      }
      throw tooFast(operation);
    };
    const result = run();
    const done = (): void => {
      this.#asyncTail = null;
    };
    this.#asyncTail = result.then(done, done);
    return result;
  }

  #dumpOnce(request: MessageBuilder, operation: string, onMessage: (message: NetlinkMessage) => void): boolean {
    const steps = this.#dumpSteps(request, operation, onMessage);
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
    }
  }

  /** Reads one datagram a step. Returns whether the picture is consistent. */
  *#dumpSteps(
    request: MessageBuilder,
    operation: string,
    onMessage: (message: NetlinkMessage) => void,
  ): Generator<void, boolean> {
    const sequence = this.#nextSequence(1);
    request.stamp(0, sequence, c.NLM_F_REQUEST | c.NLM_F_DUMP);
    this.#send(request.bytes());
    let consistent = true;
    let failure: unknown = null;
    for (;;) {
      for (const message of readMessages(this.#receive())) {
        if (message.sequence !== sequence) continue;
        if (message.flags & c.NLM_F_DUMP_INTR) consistent = false;
        if (message.type === c.NLMSG_DONE || message.type === c.NLMSG_ERROR) {
          const { errno, text } = readAcknowledgement(message);
          if (errno !== 0) throw new KernelError(operation, errno, text);
          if (failure !== null) throw failure;
          return consistent;
        }
        try {
          if (failure === null) onMessage(message);
        } catch (error) {
          failure = error; // read on: a dump left half-way would block the next one
        }
      }
      yield;
    }
  }

  #transact(
    batch: MessageBuilder,
    onData: ((index: number, message: NetlinkMessage) => void) | undefined,
    send: (bytes: Uint8Array) => void,
  ): Acknowledgement[] {
    const acknowledgements: Acknowledgement[] = [];
    const base = this.#nextSequence(batch.count);
    for (const [from, to] of chunks(batch)) {
      send(this.#stamp(batch, from, to, base));
      this.#collect(base, from, to, acknowledgements, onData);
    }
    return acknowledgements;
  }

  #stamp(batch: MessageBuilder, from: number, to: number, base: number): Uint8Array {
    for (let i = from; i < to; i++) batch.stamp(i, base + i, c.NLM_F_REQUEST | (i === to - 1 ? c.NLM_F_ACK : 0));
    return batch.bytes().subarray(batch.startOf(from), batch.startOf(to));
  }

  /** Receives until the last message of a chunk is acknowledged. */
  #collect(
    base: number,
    from: number,
    to: number,
    acknowledgements: Acknowledgement[],
    onData?: (index: number, message: NetlinkMessage) => void,
  ): void {
    for (let i = from; i < to; i++) acknowledgements.push(SUCCESS);
    for (;;) {
      for (const message of readMessages(this.#receive())) {
        const index = message.sequence - base;
        if (index < from || index >= to) continue;
        if (message.type === c.NLMSG_ERROR) {
          acknowledgements[index] = readAcknowledgement(message);
          if (index === to - 1) return;
        } else if (message.type >= 16) onData?.(index, message);
      }
    }
  }

  #send(bytes: Uint8Array): void {
    for (;;) {
      const sent = libc().send(this.fd, bytes, bytes.length, 0);
      if (sent === bytes.length) return;
      const error = new SystemError('send to netlink socket', sent === -1 ? lastErrno() : 'EMSGSIZE');
      if (error.errno !== 'EINTR') throw error;
    }
  }

  #receive(): Uint8Array {
    for (;;) {
      const length = libc().recv(this.fd, this.#buffer, this.#buffer.length, sys.MSG_TRUNC);
      if (length > this.#buffer.length) {
        throw new BrindleError('protocol', `netlink: the kernel sent a datagram of ${length} octets`);
      }
      if (length >= 0) return this.#buffer.subarray(0, length);
      const error = new SystemError('receive from netlink socket', lastErrno());
      if (error.errno === 'EAGAIN') {
        throw new BrindleError('timeout', `netlink: no answer within ${ANSWER_TIMEOUT_MS} ms`);
      }
      if (error.errno !== 'EINTR') throw error;
    }
  }

  #nextSequence(count: number): number {
    if (!this.#open) throw new BrindleError('unavailable', 'the netlink connection is closed');
    if (this.#sequence + count > 0x7fffffff) this.#sequence = 1;
    const first = this.#sequence;
    this.#sequence += count;
    return first;
  }

  #refuseWhileBusy(): void {
    if (this.#asyncTail) throw new BrindleError('internal', 'netlink connection in use by an asynchronous request');
  }
}

function tooFast(operation: string): BrindleError {
  return new BrindleError('unavailable', `cannot ${operation}: the kernel's table changes faster than it is read`);
}

function openSocket(family: number): number {
  const fd = check('open netlink socket', libc().socket(sys.AF_NETLINK, sys.SOCK_RAW | sys.SOCK_CLOEXEC, family));
  try {
    setIntOption(fd, c.SOL_NETLINK, c.NETLINK_EXT_ACK, 1, 'NETLINK_EXT_ACK');
    setIntOption(fd, c.SOL_NETLINK, c.NETLINK_CAP_ACK, 1, 'NETLINK_CAP_ACK');
    if (family === c.NETLINK_ROUTE) {
      setIntOption(fd, c.SOL_NETLINK, c.NETLINK_GET_STRICT_CHK, 1, 'NETLINK_GET_STRICT_CHK');
    }
    setIntOption(fd, sys.SOL_SOCKET, sys.SO_RCVBUFFORCE, RECEIVE_QUEUE, 'SO_RCVBUFFORCE');
    const timeout = new Uint8Array(16);
    new DataView(timeout.buffer).setBigInt64(0, BigInt(ANSWER_TIMEOUT_MS / 1000), true);
    check('set SO_RCVTIMEO', libc().setsockopt(fd, sys.SOL_SOCKET, sys.SO_RCVTIMEO, timeout, timeout.length));
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return fd;
}

/** Binds the socket to a port number of the kernel's choice, and returns it. */
export function bindNetlink(fd: number): number {
  const sockaddr = new Uint8Array(12);
  new DataView(sockaddr.buffer).setUint16(0, sys.AF_NETLINK, true);
  check('bind netlink socket', libc().bind(fd, sockaddr, sockaddr.length));
  check('getsockname', libc().getsockname(fd, sockaddr, Uint32Array.of(sockaddr.length)));
  return new DataView(sockaddr.buffer).getUint32(4, true);
}

function* chunks(batch: MessageBuilder): Generator<[from: number, to: number]> {
  let from = 0;
  for (let to = 1; to <= batch.count; to++) {
    const full = to - from === MAX_SEND_MESSAGES || batch.startOf(to + 1) - batch.startOf(from) > MAX_SEND_OCTETS;
    if (to < batch.count && !full) continue;
    yield [from, to];
    from = to;
  }
}

function writeAsync(fd: number, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, (error) => {
      if (error) reject(new SystemError('send to netlink socket', error.code ?? 'EIO', { cause: error }));
      else resolve();
    });
  });
}

/** Reads NLMSG_ERROR or NLMSG_DONE: both begin with a negative errno; the extended text follows as attributes. */
function readAcknowledgement(message: NetlinkMessage): Acknowledgement {
  if (message.type === c.NLMSG_DONE && message.payload.length < 4) return SUCCESS;
  const errno = -fixedHeader(message.payload, 4, 'an acknowledgement').getInt32(0, true);
  if ((message.flags & c.NLM_F_ACK_TLVS) === 0) return errno === 0 ? SUCCESS : { errno, text: null };
  let offset = 4;
  if (message.type === c.NLMSG_ERROR) {
    // The header of the failed request follows; its payload too unless the answer is capped.
    const echoed = fixedHeader(message.payload, 20, 'an error answer').getUint32(4, true);
    offset = message.flags & c.NLM_F_CAPPED ? 20 : 4 + Math.max(16, echoed);
  }
  const text = new Attributes(message.payload, offset).string(c.NLMSGERR_ATTR_MSG) ?? null;
  return { errno, text };
}
