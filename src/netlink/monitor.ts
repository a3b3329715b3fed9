// Notifications of the kernel as typed events. In: a socket joined to multicast groups. Out: batches of events in the
// kernel's order; `resync` when some were lost (ENOBUFS), after which the listener has to list its tables again.
import { BrindleError } from '#base/errors.ts';
import * as sys from '#sys/constants.ts';
import { SystemError } from '#sys/errors.ts';
import { check, closeFd, lastErrno, libc } from '#sys/ffi.ts';
import { withNetns } from '#sys/netns.ts';
import { type PollHandle, pollReadable } from '#sys/poll.ts';
import { setIntOption } from '#sys/sockopt.ts';
import type { KernelEvent, SubscribeOptions, Topic } from './api.ts';
import { bindNetlink } from './connection.ts';
import * as c from './constants.ts';
import { decodeAddress } from './route/address.ts';
import { decodeLink } from './route/link.ts';
import { decodeNeighbour } from './route/neighbour.ts';
import { decodeRoute } from './route/route.ts';
import { type NetlinkMessage, readMessages } from './wire.ts';

const GROUPS: Record<Topic, readonly number[]> = {
  link: [c.RTNLGRP_LINK],
  address: [c.RTNLGRP_IPV4_IFADDR, c.RTNLGRP_IPV6_IFADDR],
  route: [c.RTNLGRP_IPV4_ROUTE, c.RTNLGRP_IPV6_ROUTE],
  neighbour: [c.RTNLGRP_NEIGH],
};
/** Notifications wait here while the event loop is busy; each takes about 1 KiB of it. */
const RECEIVE_QUEUE = 16 * 1024 * 1024;
/** Datagrams handled before the event loop gets its turn. */
const DATAGRAMS_A_TURN = 256;

export class KernelMonitor {
  readonly #fd: number;
  readonly #poll: PollHandle;
  readonly #ignoredPorts: readonly number[];
  readonly #onEvents: (events: readonly KernelEvent[]) => void;
  readonly #buffer = new Uint8Array(64 * 1024);
  #open = true;

  /** Route events that were caused by the sockets with `ignoredPorts` are left out. */
  constructor(netns: number, ignoredPorts: readonly number[], options: SubscribeOptions) {
    this.#ignoredPorts = ignoredPorts;
    this.#onEvents = options.onEvents;
    this.#fd = withNetns(netns, () => openMonitor(options.topics));
    this.#poll = pollReadable(this.#fd, () => this.#drain());
    this.#poll.unref();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#poll.close();
    closeFd(this.#fd);
  }

  #drain(): void {
    const events: KernelEvent[] = [];
    for (let i = 0; i < DATAGRAMS_A_TURN; i++) {
      const length = libc().recv(this.#fd, this.#buffer, this.#buffer.length, sys.MSG_DONTWAIT | sys.MSG_TRUNC);
      if (length >= 0) {
        this.#read(length, events);
        continue;
      }
      const error = new SystemError('receive netlink notifications', lastErrno());
      if (error.errno === 'ENOBUFS') events.push({ type: 'resync' });
      else if (error.errno === 'EAGAIN') break;
      else if (error.errno !== 'EINTR') throw error;
    }
    if (events.length > 0) this.#onEvents(events);
  }

  #read(length: number, events: KernelEvent[]): void {
    if (length > this.#buffer.length) {
      events.push({ type: 'resync' });
      return;
    }
    try {
      for (const message of readMessages(this.#buffer.subarray(0, length))) {
        const event = this.#event(message);
        if (event) events.push(event);
      }
    } catch (error) {
      // A notification that does not parse is as good as lost.
      if (!(error instanceof BrindleError)) throw error;
      events.push({ type: 'resync' });
    }
  }

  #event(message: NetlinkMessage): KernelEvent | null {
    const isRoute = message.type === c.RTM_NEWROUTE || message.type === c.RTM_DELROUTE;
    if (isRoute && this.#ignoredPorts.includes(message.port)) return null;
    return decodeEvent(message);
  }
}

/** The event of a notification; null for what we do not follow. Throws `protocol`. */
export function decodeEvent(message: NetlinkMessage): KernelEvent | null {
  switch (message.type) {
    case c.RTM_NEWLINK:
    case c.RTM_DELLINK: {
      const link = decodeLink(message);
      return link && { type: message.type === c.RTM_NEWLINK ? 'link' : 'link-removed', link };
    }
    case c.RTM_NEWADDR:
    case c.RTM_DELADDR: {
      const address = decodeAddress(message);
      return address && { type: message.type === c.RTM_NEWADDR ? 'address' : 'address-removed', address };
    }
    case c.RTM_NEWROUTE:
    case c.RTM_DELROUTE: {
      const route = decodeRoute(message);
      return route && { type: message.type === c.RTM_NEWROUTE ? 'route' : 'route-removed', route };
    }
    case c.RTM_NEWNEIGH:
    case c.RTM_DELNEIGH: {
      const neighbour = decodeNeighbour(message);
      return neighbour && { type: message.type === c.RTM_NEWNEIGH ? 'neighbour' : 'neighbour-removed', neighbour };
    }
    default:
      return null;
  }
}

function openMonitor(topics: readonly Topic[]): number {
  const type = sys.SOCK_RAW | sys.SOCK_CLOEXEC | sys.SOCK_NONBLOCK;
  const fd = check('open netlink socket', libc().socket(sys.AF_NETLINK, type, c.NETLINK_ROUTE));
  try {
    setIntOption(fd, sys.SOL_SOCKET, sys.SO_RCVBUFFORCE, RECEIVE_QUEUE, 'SO_RCVBUFFORCE');
    // Unbound it would have port number 0, as the kernel has, and nobody hears their own notifications.
    bindNetlink(fd);
    for (const group of topics.flatMap((topic) => GROUPS[topic])) {
      setIntOption(fd, c.SOL_NETLINK, c.NETLINK_ADD_MEMBERSHIP, group, 'NETLINK_ADD_MEMBERSHIP');
    }
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return fd;
}
