// Sets that active rules refer to, and who is in them, kept up to date by deltas.
// In: sets asked for (with a count of users), endpoints and network sets with labels, addresses and named ports.
// Out: complete sets when they come to be, deltas afterwards, removals when the last user has gone.
// Two endpoints may for a moment hold one address, so members are counted.
import type { DesiredUpdate, Protocol } from '#model/desired.ts';
import type { SetCollector, SetSpec } from '#policy/compile/compile.ts';
import { setId } from '#policy/compile/compile.ts';
import { SelectorIndex } from '#policy/selector/index.ts';

export interface NamedPort {
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
}

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
  readonly #services = new Map<string, readonly { address: string; ports: readonly NamedPort[] }[]>();

  constructor() {
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
    else this.#index.addSelector(id, spec.selector);
    return id;
  }

  release(id: string): void {
    const live = this.#sets.get(id);
    if (!live) return;
    live.users--;
    this.#dirty.add(id); // decided at flush, so that a set released and used again in one batch stays
  }

  setItem(id: string, item: SetItem): void {
    const old = this.#items.get(id);
    if (old && (!sameList(old.nets, item.nets) || !samePorts(old.ports, item.ports))) this.removeItem(id);
    this.#items.set(id, item);
    this.#index.setItem(id, item.labels, item.parents);
  }

  removeItem(id: string): void {
    if (!this.#items.has(id)) return;
    this.#index.removeItem(id);
    this.#items.delete(id);
  }

  setService(key: string, endpoints: readonly { address: string; ports: readonly NamedPort[] }[] | null): void {
    for (const sign of [-1, 1] as const) {
      if (sign === 1) {
        if (endpoints) this.#services.set(key, endpoints);
        else this.#services.delete(key);
      }
      for (const [id, live] of this.#sets) {
        if (live.spec.type === 'service' && `${live.spec.namespace}/${live.spec.name}` === key) {
          this.#fillService(id, live.spec, sign);
        }
      }
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
        if (live.spec.type !== 'service') this.#index.removeSelector(id);
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

  #contribute(setName: string, itemId: string, sign: 1 | -1): void {
    const live = this.#sets.get(setName);
    const item = this.#items.get(itemId);
    if (!live || !item) return;
    if (live.spec.type === 'selector') for (const net of item.nets) this.#count(setName, live, net, sign);
    else if (live.spec.type === 'named-port') {
      for (const port of item.ports) {
        if (port.name !== live.spec.port) continue;
        if (live.spec.protocol !== null && live.spec.protocol !== port.protocol) continue;
        for (const net of item.nets) this.#count(setName, live, `${hostOf(net)},${port.protocol},${port.port}`, sign);
      }
    }
  }

  #fillService(id: string, spec: SetSpec & { type: 'service' }, sign: 1 | -1): void {
    const live = this.#sets.get(id);
    if (!live) return;
    for (const endpoint of this.#services.get(`${spec.namespace}/${spec.name}`) ?? []) {
      if (!spec.ports) this.#count(id, live, endpoint.address, sign);
      else for (const p of endpoint.ports) this.#count(id, live, `${endpoint.address},${p.protocol},${p.port}`, sign);
    }
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
  return spec.type === 'selector' || (spec.type === 'service' && !spec.ports) ? 'net' : 'named-port';
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
