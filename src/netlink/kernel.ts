// The real kernel as NetlinkApi: rtnetlink in one network namespace. In: operations and queries. Out: outcomes and
// decoded tables. Three sockets: one for synchronous calls, one each for work off the main thread and for
// notifications, opened when they are first needed but always in the namespace given at the start.
import type { Family, IpAddress } from '#net/address.ts';
import { closeFd } from '#sys/ffi.ts';
import { openCurrentNetns, openNetns } from '#sys/netns.ts';
import type { LookupOptions, NetlinkApi, Outcome, RouteFilter, SubscribeOptions, Subscription } from './api.ts';
import { type Acknowledgement, NetlinkConnection } from './connection.ts';
import { RTM_NEWLINK, RTM_NEWROUTE } from './constants.ts';
import { isKernelError, KernelError } from './errors.ts';
import { KernelMonitor } from './monitor.ts';
import { describeOperation, encodeOperation } from './operation.ts';
import { decodeAddress, encodeAddressDump } from './route/address.ts';
import { decodeLink, encodeLinkDump } from './route/link.ts';
import { decodeNeighbour, encodeNeighbourDump } from './route/neighbour.ts';
import { decodeRoute, encodeRouteDump, encodeRouteLookup } from './route/route.ts';
import { decodeRule, encodeRuleDump } from './route/rule.ts';
import type { InterfaceAddress, Link, LinkReference, Neighbour, Operation, Route, Rule } from './types.ts';
import { MessageBuilder, type NetlinkMessage } from './wire.ts';

export interface KernelNetlinkOptions {
  /** Path or open descriptor of the namespace; absent: the calling thread's. */
  readonly netns?: string | number | undefined;
}

/** errno of a lookup that found nothing, or a route of type unreachable, blackhole, prohibit. */
const NO_ROUTE = ['ENETUNREACH', 'EHOSTUNREACH', 'EINVAL', 'EACCES'];

export class KernelNetlink implements NetlinkApi {
  /** Held so that sockets opened later are in the same namespace. */
  readonly #netns: number;
  readonly #connection: NetlinkConnection;
  #background: NetlinkConnection | null = null;
  readonly #monitors = new Set<KernelMonitor>();
  readonly #builder = new MessageBuilder();
  #open = true;

  /** Throws as `openNetns`, and SystemError where netlink is not allowed. */
  constructor(options: KernelNetlinkOptions = {}) {
    if (options.netns === undefined) this.#netns = openCurrentNetns();
    else this.#netns = openNetns(typeof options.netns === 'string' ? options.netns : `/proc/self/fd/${options.netns}`);
    try {
      // Without a namespace given no switch is needed.
      this.#connection = new NetlinkConnection(options.netns === undefined ? {} : { netns: this.#netns });
    } catch (error) {
      closeFd(this.#netns);
      throw error;
    }
  }

  execute(operations: readonly Operation[]): Outcome[] {
    if (operations.length === 0) return [];
    const out = this.#builder;
    out.clear();
    for (const operation of operations) encodeOperation(out, operation);
    const links = new Map<number, Link>();
    const acknowledgements = this.#connection.transact(out, (index, message) => {
      const link = message.type === RTM_NEWLINK ? decodeLink(message) : null;
      if (link) links.set(index, link);
    });
    return acknowledgements.map((a, i) => outcome(operations[i]!, a, links.get(i)));
  }

  async executeAsync(operations: readonly Operation[]): Promise<Outcome[]> {
    if (operations.length === 0) return [];
    const out = new MessageBuilder();
    for (const operation of operations) encodeOperation(out, operation);
    this.#background ??= new NetlinkConnection({ netns: this.#netns });
    const acknowledgements = await this.#background.transactAsync(out);
    return acknowledgements.map((a, i) => outcome(operations[i]!, a, undefined));
  }

  listLinks(): Link[] {
    return this.#dump('list interfaces', encodeLinkDump, decodeLink);
  }

  getLink(link: LinkReference): Link | null {
    const [result] = this.execute([{ op: 'link-get', link }]);
    if (result?.error && !isKernelError(result.error, 'ENODEV')) throw result.error;
    return result?.link ?? null;
  }

  listAddresses(filter: { readonly family?: Family; readonly ifindex?: number } = {}): InterfaceAddress[] {
    const encode = (out: MessageBuilder) => encodeAddressDump(out, filter.family, filter.ifindex ?? 0);
    try {
      return this.#dump('list addresses', encode, decodeAddress);
    } catch (error) {
      if (isKernelError(error, 'ENODEV')) return [];
      throw error;
    }
  }

  listRoutes(filter: RouteFilter = {}): Route[] {
    const families: Family[] = filter.family === undefined ? [4, 6] : [filter.family];
    return families.flatMap((family) => {
      try {
        return this.#dump('list routes', (out) => encodeRouteDump(out, family, filter), decodeRoute);
      } catch (error) {
        // ENOENT: a table without routes does not exist. ENODEV: the interface is gone, and its routes with it.
        if (isKernelError(error, 'ENOENT', 'ENODEV')) return [];
        throw error;
      }
    });
  }

  async listRoutesAsync(filter: RouteFilter = {}): Promise<Route[]> {
    const found: Route[] = [];
    for (const family of filter.family === undefined ? ([4, 6] as const) : [filter.family]) {
      const start = found.length;
      const out = new MessageBuilder();
      encodeRouteDump(out, family, filter);
      const onMessage = (message: NetlinkMessage): void => {
        const route = decodeRoute(message);
        if (route) found.push(route);
      };
      const connection = new NetlinkConnection({ netns: this.#netns });
      try {
        await connection.dumpAsync(out, 'list routes', onMessage, () => found.splice(start));
      } catch (error) {
        if (!isKernelError(error, 'ENOENT', 'ENODEV')) throw error;
      } finally {
        connection.close();
      }
    }
    return found;
  }

  listRules(family: Family): Rule[] {
    return this.#dump('list rules', (out) => encodeRuleDump(out, family), decodeRule);
  }

  listNeighbours(
    filter: { readonly family?: Family; readonly ifindex?: number; readonly proxy?: boolean } = {},
  ): Neighbour[] {
    const proxy = filter.proxy ?? false;
    const encode = (out: MessageBuilder) => encodeNeighbourDump(out, filter.family, proxy);
    return this.#dump('list neighbours', encode, decodeNeighbour).filter(
      (n) => n.proxy === proxy && (filter.ifindex === undefined || n.ifindex === filter.ifindex),
    );
  }

  lookupRoute(destination: IpAddress, options: LookupOptions = {}): Route | null {
    const out = this.#builder;
    out.clear();
    encodeRouteLookup(out, destination, options);
    let route: Route | null = null;
    const [result] = this.#connection.transact(out, (_, message) => {
      if (message.type === RTM_NEWROUTE) route = decodeRoute(message);
    });
    if (!result || result.errno === 0) return route;
    const error = new KernelError(`look up the route to ${destination}`, result.errno, result.text);
    if (NO_ROUTE.includes(error.errno)) return null;
    throw error;
  }

  subscribe(options: SubscribeOptions): Subscription {
    const monitor = new KernelMonitor(this.#netns, this.#ownPorts(options), options);
    this.#monitors.add(monitor);
    return {
      close: () => {
        this.#monitors.delete(monitor);
        monitor.close();
      },
    };
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const monitor of this.#monitors) monitor.close();
    this.#connection.close();
    this.#background?.close();
    closeFd(this.#netns);
  }

  #ownPorts(options: SubscribeOptions): number[] {
    return options.ignoreOwn ? [this.#connection.port] : [];
  }

  #dump<T>(operation: string, encode: (out: MessageBuilder) => void, decode: (m: NetlinkMessage) => T | null): T[] {
    const out = this.#builder;
    out.clear();
    encode(out);
    let found: T[] = [];
    this.#connection.dump(
      out,
      operation,
      (message) => {
        const value = decode(message);
        if (value !== null) found.push(value);
      },
      () => {
        found = [];
      },
    );
    return found;
  }
}

function outcome(operation: Operation, a: Acknowledgement, link: Link | undefined): Outcome {
  const error = a.errno === 0 ? null : new KernelError(describeOperation(operation), a.errno, a.text);
  return { error, link: link ?? null };
}

/** Opens rtnetlink in a namespace. The caller closes it. */
export function openNetlink(options: KernelNetlinkOptions = {}): NetlinkApi {
  return new KernelNetlink(options);
}
