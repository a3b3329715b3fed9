// Sets that active rules refer to, and who is in them, kept up to date by deltas.
// In: sets asked for (with a count of users), endpoints and network sets with labels, addresses and named ports.
// Out: complete sets when they come to be, deltas afterwards, removals when the last user has gone.
// Two endpoints may for a moment hold one address, so members are counted.
import type { DesiredUpdate } from '#model/desired.ts';
import { protocolOf, type SetCollector, type SetSpec, setId } from '#policy/compile/compile.ts';
import type { NamedPort } from '#policy/convert/endpoints.ts';
import type { ServiceData } from '#policy/convert/services.ts';
import { SelectorIndex } from '#policy/selector/index.ts';

/** An endpoint or network set. */
export interface SetItem {
  readonly labels: Readonly<Record<string, string>>;
  readonly parents: readonly string[];
  /** CIDRs or addresses. */
  readonly nets: readonly string[];
  readonly ports: readonly NamedPort[];
}

interface LiveSet {
  readonly spec: SetSpec;
  users: number;
  /** Member -> how many items contribute it. */
  readonly members: Map<string, number>;
  /** Members as the dataplane was last told; null before the first time. */
  told: Set<string> | null;
  readonly changed: Set<string>;
}

export class SetMembers implements SetCollector {
  readonly #index: SelectorIndex;
  readonly #items = new Map<string, SetItem>();
  readonly #sets = new Map<string, LiveSet>();
  readonly #dirty = new Set<string>();
  #services: ReadonlyMap<string, ServiceData> = new Map();
  /** Nodes by their own labels: an index of their own, because a node is no endpoint. */
  readonly #nodes: SelectorIndex;

  constructor() {
    const nodeAddresses = (set: string, node: string, sign: 1 | -1): void => {
      const live = this.#sets.get(set);
      for (const net of this.#items.get(node)?.nets ?? []) if (live) this.#count(set, live, net, sign);
    };
    this.#nodes = new SelectorIndex({
      matchStarted: (set, node) => nodeAddresses(set, node, 1),
      matchStopped: (set, node) => nodeAddresses(set, node, -1),
    });
    this.#index = new SelectorIndex({
      matchStarted: (set, item) => this.#contribute(set, item, 1),
      matchStopped: (set, item) => this.#contribute(set, item, -1),
    });
  }

  get index(): SelectorIndex {
    return this.#index;
  }

  get setCount(): number {
    return this.#sets.size;
  }

  use(spec: SetSpec): string {
    const id = setId(spec);
    const live = this.#sets.get(id);
    if (live) {
      live.users++;
      return id;
    }
    this.#sets.set(id, { spec, users: 1, members: new Map(), told: null, changed: new Set() });
    this.#dirty.add(id);
    if (spec.type === 'service') this.#fillService(id, spec, 1);
    else this.#indexOf(spec).addSelector(id, spec.selector);
    return id;
  }

  release(id: string): void {
    const live = this.#sets.get(id);
    if (!live) return;
    live.users--;
    this.#dirty.add(id); // decided at flush, so that a set released and used again in one batch stays
  }

  setItem(id: string, item: SetItem): void {
    this.#setIn(this.#index, id, item);
  }

  removeItem(id: string): void {
    this.#removeFrom(this.#index, id);
  }

  setNode(id: string, labels: Readonly<Record<string, string>>, nets: readonly string[]): void {
    this.#setIn(this.#nodes, id, { labels, parents: [], nets, ports: [] });
  }

  removeNode(id: string): void {
    this.#removeFrom(this.#nodes, id);
  }

  /** Whether any rule asks where services are. */
  get usesServices(): boolean {
    for (const { spec } of this.#sets.values()) if (spec.type === 'service') return true;
    return false;
  }

  /** Where all services are now, by `namespace/name`. */
  setServices(services: ReadonlyMap<string, ServiceData>): void {
    for (const sign of [-1, 1] as const) {
      if (sign === 1) this.#services = services;
      for (const [id, { spec }] of this.#sets) if (spec.type === 'service') this.#fillService(id, spec, sign);
    }
  }

  /** What has changed since the last call. `before` goes ahead of policies, `after` behind them. */
  flush(): { before: DesiredUpdate[]; after: DesiredUpdate[] } {
    const before: DesiredUpdate[] = [];
    const after: DesiredUpdate[] = [];
    for (const id of this.#dirty) {
      const live = this.#sets.get(id);
      if (!live) continue;
      if (live.users === 0) {
        this.#sets.delete(id);
        if (live.spec.type !== 'service') this.#indexOf(live.spec).removeSelector(id);
        if (live.told) after.push({ type: 'set-removed', id });
        continue;
      }
      if (!live.told) {
        live.told = new Set(live.members.keys());
        before.push({ type: 'set', set: { id, type: kindOf(live.spec), members: new Set(live.told) } });
      } else {
        const added: string[] = [];
        const removed: string[] = [];
        for (const member of live.changed) {
          const wanted = live.members.has(member);
          if (wanted === live.told.has(member)) continue;
          if (wanted) {
            live.told.add(member);
            added.push(member);
          } else {
            live.told.delete(member);
            removed.push(member);
          }
        }
        if (added.length + removed.length > 0) before.push({ type: 'set-delta', delta: { id, added, removed } });
      }
      live.changed.clear();
    }
    this.#dirty.clear();
    return { before, after };
  }

  /** Members of a live set, for explanations; null when nothing uses it. */
  members(id: string): ReadonlySet<string> | null {
    const live = this.#sets.get(id);
    return live ? new Set(live.members.keys()) : null;
  }

  #indexOf(spec: SetSpec): SelectorIndex {
    return spec.type === 'nodes' ? this.#nodes : this.#index;
  }

  #setIn(index: SelectorIndex, id: string, item: SetItem): void {
    const old = this.#items.get(id);
    if (old && (!sameList(old.nets, item.nets) || !samePorts(old.ports, item.ports))) this.#removeFrom(index, id);
    this.#items.set(id, item);
    index.setItem(id, item.labels, item.parents);
  }

  #removeFrom(index: SelectorIndex, id: string): void {
    if (!this.#items.has(id)) return;
    index.removeItem(id);
    this.#items.delete(id);
  }

  #contribute(setName: string, itemId: string, sign: 1 | -1): void {
    const live = this.#sets.get(setName);
    const item = this.#items.get(itemId);
    if (!live || !item) return;
    if (live.spec.type === 'selector') for (const net of item.nets) this.#count(setName, live, net, sign);
    else if (live.spec.type === 'named-port') {
      for (const port of item.ports) {
        if (port.name !== live.spec.port) continue;
        if (live.spec.protocol !== null && live.spec.protocol !== port.protocol) continue;
        for (const net of item.nets) this.#count(setName, live, portMember(hostOf(net), port), sign);
      }
    }
  }

  #fillService(id: string, spec: SetSpec & { type: 'service' }, sign: 1 | -1): void {
    const live = this.#sets.get(id);
    const service = this.#services.get(`${spec.namespace}/${spec.name}`);
    if (!live || !service) return;
    if (spec.ports) {
      for (const member of service.members) this.#count(id, live, portMember(member.address.toString(), member), sign);
    } else for (const address of service.addresses) this.#count(id, live, address.toString(), sign);
  }

  #count(id: string, live: LiveSet, member: string, sign: 1 | -1): void {
    const count = (live.members.get(member) ?? 0) + sign;
    if (count > 0) live.members.set(member, count);
    else live.members.delete(member);
    live.changed.add(member);
    this.#dirty.add(id);
  }
}

function kindOf(spec: SetSpec): 'net' | 'named-port' {
  return spec.type === 'named-port' || (spec.type === 'service' && spec.ports) ? 'named-port' : 'net';
}

function portMember(address: string, { protocol, port }: { readonly protocol: number; readonly port: number }): string {
  return `${address},${protocolOf(protocol)},${port}`;
}

function hostOf(net: string): string {
  const slash = net.indexOf('/');
  return slash < 0 ? net : net.slice(0, slash);
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((x, i) => x === b[i]);
}

function samePorts(a: readonly NamedPort[], b: readonly NamedPort[]): boolean {
  return (
    a.length === b.length &&
    a.every((x, i) => x.name === b[i]!.name && x.port === b[i]!.port && x.protocol === b[i]!.protocol)
  );
}
