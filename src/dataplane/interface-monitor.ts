// Follows the network interfaces of the host. In: netlink notifications. Out: typed events for what appeared, changed,
// came up, went down or disappeared, and the present state by name and by index. After lost notifications it lists the
// interfaces and reports the differences, so listeners never miss one.
//
// A host side interface that is out of service (in the doomed group) counts as gone, although the kernel still has it.
import type { KernelEvent, NetlinkApi, Subscription } from '#netlink/api.ts';
import type { Link } from '#netlink/types.ts';
import { INTERFACE_PREFIX, isDoomed } from './ownership.ts';

export type InterfaceEvent =
  | { readonly type: 'appeared'; readonly link: Link }
  | { readonly type: 'disappeared'; readonly link: Link }
  /** Up: administratively up and with carrier. */
  | { readonly type: 'up'; readonly link: Link }
  | { readonly type: 'down'; readonly link: Link }
  /** Something else about it: name, MAC address, MTU, group, master. */
  | { readonly type: 'changed'; readonly link: Link; readonly before: Link };

export type InterfaceListener = (event: InterfaceEvent) => void;

/** Whether an interface can carry packets. */
export function isUsable(link: Link): boolean {
  return link.up && link.carrier;
}

/** Whether it is the host side of a workload. */
export function isWorkloadInterface(link: Link): boolean {
  return link.name.startsWith(INTERFACE_PREFIX);
}

export class InterfaceMonitor {
  readonly #netlink: NetlinkApi;
  readonly #links = new Map<number, Link>();
  readonly #byName = new Map<string, Link>();
  readonly #listeners = new Set<InterfaceListener>();
  #subscription: Subscription | null = null;

  constructor(netlink: NetlinkApi) {
    this.#netlink = netlink;
  }

  /** Lists what is there, reporting it to listeners added before, and follows it from now on. */
  start(): void {
    this.#subscription = this.#netlink.subscribe({
      topics: ['link'],
      onEvents: (events) => {
        for (const event of events) this.#onEvent(event);
      },
    });
    this.#list();
  }

  close(): void {
    this.#subscription?.close();
    this.#subscription = null;
    this.#listeners.clear();
  }

  /** Returns the function that removes the listener. */
  onEvent(listener: InterfaceListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  byIndex(index: number): Link | null {
    return this.#links.get(index) ?? null;
  }

  byName(name: string): Link | null {
    return this.#byName.get(name) ?? null;
  }

  all(): Link[] {
    return [...this.#links.values()];
  }

  #onEvent(event: KernelEvent): void {
    if (event.type === 'resync') this.#list();
    else if (event.type === 'link-removed') this.#remove(event.link.index);
    else if (event.type === 'link') this.#set(event.link);
  }

  #list(): void {
    const links = this.#netlink.listLinks();
    const present = new Set(links.map((link) => link.index));
    for (const index of [...this.#links.keys()]) if (!present.has(index)) this.#remove(index);
    for (const link of links) this.#set(link);
  }

  #set(link: Link): void {
    if (isDoomed(link.group)) {
      this.#remove(link.index);
      return;
    }
    const before = this.#links.get(link.index);
    if (before && before.name !== link.name && this.#byName.get(before.name) === before)
      this.#byName.delete(before.name);
    this.#links.set(link.index, link);
    this.#byName.set(link.name, link);
    if (!before) {
      this.#emit({ type: 'appeared', link });
      if (isUsable(link)) this.#emit({ type: 'up', link });
      return;
    }
    if (isUsable(before) && !isUsable(link)) this.#emit({ type: 'down', link });
    if (differs(before, link)) this.#emit({ type: 'changed', link, before });
    if (!isUsable(before) && isUsable(link)) this.#emit({ type: 'up', link });
  }

  #remove(index: number): void {
    const link = this.#links.get(index);
    if (!link) return;
    this.#links.delete(index);
    if (this.#byName.get(link.name) === link) this.#byName.delete(link.name);
    if (isUsable(link)) this.#emit({ type: 'down', link: { ...link, up: false, carrier: false } });
    this.#emit({ type: 'disappeared', link });
  }

  #emit(event: InterfaceEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}

function differs(a: Link, b: Link): boolean {
  return a.name !== b.name || a.mac !== b.mac || a.mtu !== b.mtu || a.group !== b.group || a.master !== b.master;
}
