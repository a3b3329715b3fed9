// Tells when somebody else changed our table. In: the kernel's nftables notifications. Out: one call for each foreign transaction
// that touched the table, or when notifications were lost (then it may have).
// Trap: a watch that is still open when the process ends by itself aborts it (koffi calls back into an environment that is gone).
// Trap: our own transactions are announced too; they are told by the port number of the socket that made them.
import * as nl from '#netlink/constants.ts';
import { Attributes, readMessages } from '#netlink/wire.ts';
import { NetlinkConnection } from '#netlink/connection.ts';
import * as sys from '#sys/constants.ts';
import { SystemError } from '#sys/errors.ts';
import { lastErrno, libc } from '#sys/ffi.ts';
import { type PollHandle, pollReadable } from '#sys/poll.ts';
import { setIntOption } from '#sys/sockopt.ts';
import type { ForeignChange } from '../driver.ts';
import * as c from './constants.ts';
import { GENERIC_HEADER } from './decode.ts';

/** Notifications wait here while the event loop is busy. */
const RECEIVE_QUEUE = 32 * 1024 * 1024;
const DATAGRAMS_A_TURN = 256;

export interface NftMonitorOptions {
  readonly netns?: string | number | undefined;
  readonly table: string;
  /** Port number of the socket whose changes are ours. */
  readonly ownPort: number;
  readonly onChange: (change: ForeignChange) => void;
}

export class NftMonitor {
  readonly #connection: NetlinkConnection;
  readonly #poll: PollHandle;
  readonly #options: NftMonitorOptions;
  readonly #buffer = new Uint8Array(64 * 1024);
  /** A foreign transaction touched the table; its end is not announced yet. */
  #touched = false;
  #open = true;
  readonly #atExit = (): void => this.close();

  constructor(options: NftMonitorOptions) {
    this.#options = options;
    this.#connection = new NetlinkConnection({ family: nl.NETLINK_NETFILTER, netns: options.netns });
    const { fd } = this.#connection;
    setIntOption(fd, sys.SOL_SOCKET, sys.SO_RCVBUFFORCE, RECEIVE_QUEUE, 'SO_RCVBUFFORCE');
    setIntOption(fd, nl.SOL_NETLINK, nl.NETLINK_ADD_MEMBERSHIP, c.NFNLGRP_NFTABLES, 'NETLINK_ADD_MEMBERSHIP');
    this.#poll = pollReadable(fd, () => this.#drain());
    this.#poll.unref();
    process.once('exit', this.#atExit);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    process.removeListener('exit', this.#atExit);
    this.#poll.close();
    this.#connection.close();
  }

  #drain(): void {
    for (let i = 0; i < DATAGRAMS_A_TURN && this.#open; i++) {
      const flags = sys.MSG_DONTWAIT | sys.MSG_TRUNC;
      const length = libc().recv(this.#connection.fd, this.#buffer, this.#buffer.length, flags);
      if (length >= 0) {
        this.#read(this.#buffer.subarray(0, Math.min(length, this.#buffer.length)));
        continue;
      }
      const error = new SystemError('receive nftables notifications', lastErrno());
      if (error.errno === 'ENOBUFS') this.#options.onChange({ by: null });
      else if (error.errno === 'EAGAIN') return;
      else if (error.errno !== 'EINTR') throw error;
    }
  }

  #read(bytes: Uint8Array): void {
    for (const message of readMessages(bytes)) {
      // The messages of one datagram come from one transaction.
      if (message.port === this.#options.ownPort) return;
      if (message.type >> 8 !== c.NFNL_SUBSYS_NFTABLES) continue;
      const attributes = new Attributes(message.payload, GENERIC_HEADER);
      if ((message.type & 255) === c.MSG_NEWGEN) {
        if (this.#touched) this.#options.onChange({ by: processText(attributes) });
        this.#touched = false;
      } else if (message.payload[0] === c.NFPROTO_INET && attributes.string(c.TABLE_NAME) === this.#options.table) {
        this.#touched = true;
      }
    }
  }
}

function processText(attributes: Attributes): string | null {
  const name = attributes.string(c.GEN_PROC_NAME);
  return name === undefined ? null : `${name} (process ${attributes.u32be(c.GEN_PROC_PID) ?? '?'})`;
}
