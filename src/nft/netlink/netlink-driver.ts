// NftDriver straight over netlink. libnftables loads the kernel's whole ruleset to check names before each command, so its cost grows
// with what is there (7 ms at 1 000 endpoints); the kernel checks all of that itself. Here a commit costs what it changes.
//
// Namespace: the socket is opened by `open`, in the namespace given or the thread's own, and stays there.
// Trap: a batch is one datagram; the kernel answers errors for single messages (all of them, the batch is void then), and an error for
//   the batch as a whole under the number of its first message.
// Trap: only a message that asks for it is acknowledged on success; it is the last command.
import { write } from 'node:fs';
import { BrindleError } from '#base/errors.ts';
import { NetlinkConnection } from '#netlink/connection.ts';
import * as nl from '#netlink/constants.ts';
import { isKernelError, KernelError } from '#netlink/errors.ts';
import { Attributes, fixedHeader, MessageBuilder, type NetlinkMessage, readMessages } from '#netlink/wire.ts';
import * as sys from '#sys/constants.ts';
import { SystemError } from '#sys/errors.ts';
import { lastErrno, libc } from '#sys/ffi.ts';
import { setIntOption } from '#sys/sockopt.ts';
import type { CommitFailure, ForeignChange, ListedSet, NftDriver, TableState } from '../driver.ts';
import type { CounterValue, SetSpec } from '../objects.ts';
import type { Transaction } from '../transaction.ts';
import * as c from './constants.ts';
import {
  decodeChain,
  decodeElements,
  decodeRule,
  decodeSet,
  GENERIC_HEADER,
  listedSet,
  type MutableChain,
} from './decode.ts';
import { type CarriedCounters, COUNT_FROM_ZERO, encodeTransaction } from './encode.ts';
import { NftMonitor } from './monitor.ts';

/** A batch is one datagram and has to fit the send buffer; memory is taken only while it is sent. */
const SEND_BUFFER = 256 * 1024 * 1024;
const RECEIVE_BUFFER = 64 * 1024;
/** Octets from which the kernel's work is done on a thread, so that the event loop goes on. */
const LONG_BATCH = 128 * 1024;

/** Reading counters costs some 50 microseconds a chain; where very much changes they start anew. */
const MAX_CARRIED_CHAINS = 500;

export interface NetlinkNftOptions {
  /** Path or descriptor of the namespace; absent: the thread's own. */
  readonly netns?: string | number;
}

export class NetlinkNftDriver implements NftDriver {
  readonly #connection: NetlinkConnection;
  readonly #netns: string | number | undefined;
  readonly #buffer = new Uint8Array(RECEIVE_BUFFER);
  readonly #monitors = new Set<NftMonitor>();
  #sequence = 1;
  /** Serialises: answers belong to one batch at a time. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(connection: NetlinkConnection, netns: string | number | undefined) {
    this.#connection = connection;
    this.#netns = netns;
  }

  /** Throws SystemError when the socket cannot be opened. */
  static open(options: NetlinkNftOptions = {}): NetlinkNftDriver {
    const connection = new NetlinkConnection({ family: nl.NETLINK_NETFILTER, netns: options.netns });
    setIntOption(connection.fd, sys.SOL_SOCKET, sys.SO_SNDBUFFORCE, SEND_BUFFER, 'SO_SNDBUFFORCE');
    return new NetlinkNftDriver(connection, options.netns);
  }

  async commit(transaction: Transaction): Promise<CommitFailure | null> {
    if (transaction.error) return { error: transaction.error, command: null };
    if (transaction.commands.length === 0) return null;
    return this.#serial(() => this.#commit(transaction));
  }

  async list(table: string, options: { readonly terse?: boolean } = {}): Promise<TableState | null> {
    return this.#serial(async () => this.#list(table, options.terse ?? false));
  }

  async generation(): Promise<number> {
    return this.#serial(async () => this.#generation());
  }

  #generation(): number {
    const request = new MessageBuilder(64);
    begin(request, c.MSG_GETGEN).end();
    let generation = 0;
    this.#connection.transact(request, (_, message) => {
      generation = new Attributes(message.payload, GENERIC_HEADER).u32be(c.GEN_ID) ?? 0;
    });
    return generation;
  }

  watch(table: string, onChange: (change: ForeignChange) => void): { close(): void } {
    const monitor = new NftMonitor({ netns: this.#netns, table, ownPort: this.#connection.port, onChange });
    this.#monitors.add(monitor);
    return monitor;
  }

  close(): void {
    for (const monitor of this.#monitors) monitor.close();
    this.#connection.close();
  }

  async #serial<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work, work);
    this.#last = result.catch(() => {});
    return result;
  }

  async #commit(transaction: Transaction): Promise<CommitFailure | null> {
    const { builder, commands } = encodeTransaction(transaction, this.#carriedCounters(transaction));
    const base = this.#sequence;
    this.#sequence = (this.#sequence + builder.count) % 0x7000_0000;
    const lastCommand = builder.count - 2;
    for (let i = 0; i < builder.count; i++) {
      builder.stamp(i, base + i, nl.NLM_F_REQUEST | (i === lastCommand ? nl.NLM_F_ACK : 0));
    }
    const bytes = builder.bytes();
    if (bytes.length < LONG_BATCH) this.#send(bytes);
    else await sendAsync(this.#connection.fd, bytes);
    const failed = this.#collect(base, lastCommand);
    if (!failed) return null;
    const command = commands[failed.index] ?? -1;
    const what = command < 0 ? 'commit an nftables transaction' : `nftables: ${transaction.text(command)}`;
    return { error: new KernelError(what, failed.errno, failed.text), command: command < 0 ? null : command };
  }

  /** What the rules of chains about to be filled anew have counted: a rule that stays as it is goes on counting. */
  #carriedCounters(transaction: Transaction): CarriedCounters {
    const { table } = transaction;
    const counters = new Map<string, CounterValue>();
    const flushed = transaction.commands.flatMap((command) => (command.type === 'flush-chain' ? [command.name] : []));
    if (flushed.length === 0 || flushed.length > MAX_CARRIED_CHAINS) return () => COUNT_FROM_ZERO;
    for (const name of flushed) {
      const attributes = (b: MessageBuilder) => {
        b.attributeString(c.RULE_TABLE, table).attributeString(c.RULE_CHAIN, name);
      };
      try {
        this.#dump(c.MSG_GETRULE, attributes, counters, (message) => {
          const found = decodeRule(message.payload, table);
          if (found?.chain !== name || !found.rule.counter) return;
          counters.set(`${name}\n${found.rule.comment}`, found.rule.counter);
        });
      } catch (error) {
        // A chain that is gone has no counters; the transaction itself will say so.
        if (!isKernelError(error)) throw error;
      }
    }
    return (chain, comment) => counters.get(`${chain}\n${comment}`) ?? COUNT_FROM_ZERO;
  }

  /** The first message that failed; null when all was committed. */
  #collect(base: number, lastCommand: number): { index: number; errno: number; text: string | null } | null {
    let failed: { index: number; errno: number; text: string | null } | null = null;
    for (;;) {
      for (const message of readMessages(this.#receive())) {
        const index = message.sequence - base;
        if (message.type !== nl.NLMSG_ERROR || index < 0 || index > lastCommand + 1) continue;
        const { errno, text } = acknowledgement(message);
        if (errno !== 0 && (!failed || index < failed.index)) failed = { index, errno, text };
        if (index === lastCommand || index === 0) return failed;
      }
    }
  }

  #list(table: string, terse: boolean): TableState | null {
    const chains = new Map<string, MutableChain>();
    const sets = new Map<string, ListedSet>();
    if (!this.#tableExists(table)) return null;
    this.#dump(
      c.MSG_GETCHAIN,
      (b) => b.attributeString(c.CHAIN_TABLE, table),
      chains,
      (message) => {
        const chain = decodeChain(message.payload, table);
        if (chain) chains.set(chain.name, chain.chain);
      },
    );
    const clearRules = { clear: () => chains.forEach((chain) => chain.rules.splice(0)) };
    this.#dump(
      c.MSG_GETRULE,
      (b) => b.attributeString(c.RULE_TABLE, table),
      clearRules,
      (message) => {
        const rule = decodeRule(message.payload, table);
        if (rule) chains.get(rule.chain)?.rules.push(rule.rule);
      },
    );
    if (terse) return { chains, sets };
    const specs = new Map<string, { spec: SetSpec; known: boolean }>();
    this.#dump(
      c.MSG_GETSET,
      (b) => b.attributeString(c.SET_TABLE, table),
      specs,
      (message) => {
        const set = decodeSet(message.payload, table);
        if (set) specs.set(set.spec.name, set);
      },
    );
    for (const [name, { spec, known }] of specs) sets.set(name, this.#elements(table, spec, known));
    return { chains, sets };
  }

  #elements(table: string, spec: SetSpec, known: boolean): ListedSet {
    const raw: Parameters<typeof listedSet>[2][number][] = [];
    const attributes = (b: MessageBuilder) => {
      b.attributeString(c.SET_ELEM_LIST_TABLE, table).attributeString(c.SET_ELEM_LIST_SET, spec.name);
    };
    this.#dump(c.MSG_GETSETELEM, attributes, { clear: () => raw.splice(0) }, (message) => {
      raw.push(...decodeElements(message.payload));
    });
    return listedSet(spec, known, raw);
  }

  #tableExists(table: string): boolean {
    let exists = false;
    this.#dump(
      c.MSG_GETTABLE,
      () => {},
      { clear: () => {} },
      (message) => {
        if (message.payload[0] !== c.NFPROTO_INET) return;
        exists ||= new Attributes(message.payload, GENERIC_HEADER).string(c.TABLE_NAME) === table;
      },
    );
    return exists;
  }

  #dump(
    type: number,
    attributes: (b: MessageBuilder) => void,
    target: { clear(): unknown },
    onMessage: (message: NetlinkMessage) => void,
  ): void {
    const request = new MessageBuilder(512);
    begin(request, type);
    attributes(request);
    request.end();
    this.#connection.dump(request, 'list nftables', onMessage, () => target.clear());
  }

  #send(bytes: Uint8Array): void {
    for (;;) {
      const sent = libc().send(this.#connection.fd, bytes, bytes.length, 0);
      if (sent === bytes.length) return;
      const error = new SystemError('send an nftables transaction', sent === -1 ? lastErrno() : 'EMSGSIZE');
      if (error.errno !== 'EINTR') throw error;
    }
  }

  #receive(): Uint8Array {
    for (;;) {
      const length = libc().recv(this.#connection.fd, this.#buffer, this.#buffer.length, sys.MSG_TRUNC);
      if (length > this.#buffer.length) throw new BrindleError('protocol', `netlink: a datagram of ${length} octets`);
      if (length >= 0) return this.#buffer.subarray(0, length);
      const error = new SystemError('receive the answer of nftables', lastErrno());
      if (error.errno === 'EAGAIN') throw new BrindleError('timeout', 'nftables did not answer');
      if (error.errno !== 'EINTR') throw error;
    }
  }
}

function begin(builder: MessageBuilder, type: number): MessageBuilder {
  builder.begin((c.NFNL_SUBSYS_NFTABLES << 8) | type, 0);
  return builder.u8(c.NFPROTO_INET).u8(0).u16(0);
}

function sendAsync(fd: number, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, (error) => {
      if (error) reject(new SystemError('send an nftables transaction', error.code ?? 'EIO', { cause: error }));
      else resolve();
    });
  });
}

/** Reads NLMSG_ERROR: a negative errno, the header of the message at fault, and perhaps the kernel's text. */
function acknowledgement(message: NetlinkMessage): { errno: number; text: string | null } {
  const view = fixedHeader(message.payload, 20, 'an error answer');
  const errno = -view.getInt32(0, true);
  if (errno === 0 || (message.flags & nl.NLM_F_ACK_TLVS) === 0) return { errno, text: null };
  const offset = message.flags & nl.NLM_F_CAPPED ? 20 : 4 + Math.max(16, view.getUint32(4, true));
  return { errno, text: new Attributes(message.payload, offset).string(nl.NLMSGERR_ATTR_MSG) ?? null };
}
