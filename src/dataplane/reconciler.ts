// Wanted objects against what the kernel has, object by object; builds the one transaction that makes them agree.
// Order inside it: sets and elements, chains (policies before endpoints does not matter inside one transaction, but all exist before
// any rule names them), rules, dispatch; then removals the other way round.
// In: wanted objects from the managers, `adopt` with what the kernel has. Out: Transaction; `Built.done` ticks off what was in it.
import { DeltaTracker } from '#base/delta-tracker.ts';
import type { TableState } from '#nft/driver.ts';
import { verdict as verdictText } from '#nft/format.ts';
import type { MapElement, SetSpec, Verdict } from '#nft/objects.ts';
import { Transaction } from '#nft/transaction.ts';
import { chainSignature, type RenderedChain } from './render/chain.ts';

/** Kind and id of what a kernel object is made for, e.g. `policy:NetworkPolicy/ns/name`. */
export type Owner = string;

interface WantedChain {
  readonly owner: Owner;
  readonly chain: RenderedChain;
}

/** What the kernel has of a chain. */
interface ActualChain {
  readonly signature: string;
  readonly isBase: boolean;
}

interface KernelSet {
  spec: SetSpec;
  owner: Owner;
  readonly elements: DeltaTracker<string, true>;
  wanted: boolean;
  /** The kernel has it. */
  actual: boolean;
}

interface KernelMap {
  readonly spec: SetSpec;
  readonly verdicts: DeltaTracker<string, { readonly owner: Owner; readonly verdict: Verdict }>;
  actual: boolean;
}

export interface Built {
  readonly transaction: Transaction;
  /** Call when the kernel has committed it. */
  readonly done: () => void;
  /** Owners of the commands that add or change something. */
  readonly owners: ReadonlySet<Owner>;
}

export class Reconciler {
  readonly #table: string;
  readonly #chains = new DeltaTracker<string, WantedChain | ActualChain>((a, b) => signatureOf(a) === signatureOf(b));
  readonly #sets = new Map<string, KernelSet>();
  readonly #maps = new Map<string, KernelMap>();
  readonly #dirtySets = new Set<KernelSet>();
  #tableExists = false;
  #rebuild = false;

  constructor(table: string, maps: readonly SetSpec[]) {
    this.#table = table;
    for (const spec of maps) {
      const verdicts: KernelMap['verdicts'] = new DeltaTracker(
        (a, b) => verdictText(a.verdict) === verdictText(b.verdict),
      );
      this.#maps.set(spec.name, { spec, verdicts, actual: false });
    }
  }

  // Wanted objects.

  wantChain(owner: Owner, chain: RenderedChain): void {
    this.#chains.desired.set(chain.name, { owner, chain });
  }

  dropChain(name: string): void {
    this.#chains.desired.delete(name);
  }

  /** The chain that is wanted under a name. */
  wantedChain(name: string): RenderedChain | null {
    const chain = this.#chains.desired.get(name);
    return chain && 'chain' in chain ? chain.chain : null;
  }

  *wantedChains(): Generator<{ owner: Owner; chain: RenderedChain }> {
    for (const [, chain] of this.#chains.desired) if ('chain' in chain) yield chain;
  }

  wantSet(owner: Owner, spec: SetSpec): void {
    const known = this.#sets.get(spec.name);
    if (known?.wanted) return;
    if (known && !sameSpec(known.spec, spec)) this.#rebuild = true;
    const set: KernelSet = known ?? { spec, owner, elements: new DeltaTracker(), wanted: true, actual: false };
    // What the kernel has under this name was adopted, and is kept as far as it agrees.
    set.spec = spec;
    set.owner = owner;
    set.wanted = true;
    this.#sets.set(spec.name, set);
    this.#dirtySets.add(set);
  }

  dropSet(name: string): void {
    const set = this.#sets.get(name);
    if (!set) return;
    set.wanted = false;
    set.elements.desired.clear();
    if (set.actual) this.#dirtySets.add(set);
    else {
      this.#sets.delete(name);
      this.#dirtySets.delete(set);
    }
  }

  addElement(name: string, element: string): void {
    const set = this.#sets.get(name)!;
    set.elements.desired.set(element, true);
    this.#dirtySets.add(set);
  }

  removeElement(name: string, element: string): void {
    const set = this.#sets.get(name)!;
    set.elements.desired.delete(element);
    this.#dirtySets.add(set);
  }

  wantVerdict(owner: Owner, map: string, key: string, verdict: Verdict): void {
    this.#maps.get(map)!.verdicts.desired.set(key, { owner, verdict });
  }

  dropVerdict(map: string, key: string): void {
    this.#maps.get(map)!.verdicts.desired.delete(key);
  }

  // What the kernel has.

  /** Takes what was listed as what is there, in place of all that was believed before. Null: there is no table. */
  adopt(state: TableState | null): void {
    this.#tableExists = state !== null;
    this.#rebuild = false;
    const chains: [string, ActualChain][] = [];
    for (const [name, chain] of state?.chains ?? []) {
      const signature = chainSignature(
        chain.base,
        chain.rules.map((r) => r.comment),
      );
      chains.push([name, { signature, isBase: chain.base !== null }]);
    }
    this.#chains.actual.replaceAll(chains);
    for (const [name, map] of this.#maps) {
      const listed = state?.sets.get(name);
      if (listed && !sameSpec(listed.spec, map.spec)) this.#rebuild = true;
      map.actual = listed !== undefined;
      map.verdicts.actual.replaceAll(
        [...(listed?.verdicts ?? [])].map(([key, verdict]) => [key, { owner: '', verdict }] as const),
      );
    }
    this.#adoptSets(state);
  }

  #adoptSets(state: TableState | null): void {
    for (const [name, set] of [...this.#sets]) {
      const listed = state?.sets.get(name);
      if (listed && !sameSpec(listed.spec, set.spec)) this.#rebuild = true;
      set.actual = listed !== undefined;
      set.elements.actual.replaceAll([...(listed?.elements ?? [])].map((e) => [e, true] as const));
      if (listed?.foreign) this.#rebuild = true;
      this.#dirtySets.add(set);
      if (!set.actual && !set.wanted) this.#forget(set);
    }
    for (const [name, listed] of state?.sets ?? []) {
      if (this.#sets.has(name) || this.#maps.has(name)) continue;
      const set: KernelSet = {
        spec: listed.spec,
        owner: '',
        elements: new DeltaTracker(),
        wanted: false,
        actual: true,
      };
      set.elements.actual.replaceAll([...listed.elements].map((e) => [e, true] as const));
      this.#sets.set(name, set);
      this.#dirtySets.add(set);
    }
  }

  #forget(set: KernelSet): void {
    this.#sets.delete(set.spec.name);
    this.#dirtySets.delete(set);
  }

  // The difference.

  /** The transaction that is missing; `prune` says whether objects that nobody wants may be removed. */
  build(prune: boolean): Built {
    if (this.#rebuild && prune) this.#forgetActual();
    const tx = new Transaction(this.#table);
    const done: (() => void)[] = [];
    const owners = new Set<Owner>();
    const own = (owner: Owner) => {
      owners.add(owner);
      tx.for(owner);
    };
    this.#writeTable(tx, done);
    this.#writeSets(tx, done, own);
    this.#writeChains(tx, done, own);
    this.#writeVerdicts(tx, done, own, prune);
    if (prune) this.#prune(tx, done);
    return {
      transaction: tx,
      owners,
      done: () => {
        for (const tick of done) tick();
      },
    };
  }

  /** A set of another form stands under a name we need: the table is made anew, in the same transaction as its removal. */
  #forgetActual(): void {
    this.adopt(null);
    this.#rebuild = true;
  }

  #writeTable(tx: Transaction, done: (() => void)[]): void {
    if (this.#rebuild && !this.#tableExists) {
      tx.for('base').addTable().deleteTable();
      done.push(() => {
        this.#rebuild = false;
      });
    }
    if (this.#tableExists) return;
    tx.for('base').addTable();
    done.push(() => {
      this.#tableExists = true;
    });
  }

  #writeSets(tx: Transaction, done: (() => void)[], own: (owner: Owner) => void): void {
    for (const map of this.#maps.values()) {
      if (map.actual) continue;
      tx.for('base').addSet(map.spec);
      done.push(() => {
        map.actual = true;
      });
    }
    for (const set of this.#dirtySets) {
      if (!set.wanted) continue;
      own(set.owner);
      if (!set.actual) tx.addSet(set.spec);
      const removed = [...set.elements.pendingDeletes()].map((d) => d.key);
      const added = [...set.elements.pendingUpdates()].map((u) => u.key);
      tx.deleteElements(set.spec, removed).addElements(set.spec, added);
      done.push(() => {
        set.actual = true;
        for (const element of removed) set.elements.actual.delete(element);
        for (const element of added) set.elements.actual.set(element, true);
        if (set.wanted && set.elements.isInSync()) this.#dirtySets.delete(set);
      });
    }
  }

  #writeChains(tx: Transaction, done: (() => void)[], own: (owner: Owner) => void): void {
    const updates = [...this.#chains.pendingUpdates()].filter((u) => 'chain' in u.desired);
    for (const { desired, actual } of updates) {
      const { owner, chain } = desired as WantedChain;
      own(owner);
      if (actual && isOtherBase(actual as ActualChain, chain)) tx.flushChain(chain.name).deleteChain(chain.name);
      else if (actual) tx.flushChain(chain.name);
      tx.addChain(chain.base ? { name: chain.name, base: chain.base } : { name: chain.name });
    }
    for (const { desired } of updates) {
      const { owner, chain } = desired as WantedChain;
      own(owner);
      for (const { rule } of chain.rules) tx.addRule(chain.name, rule);
      const actual: ActualChain = { signature: chain.signature, isBase: chain.base !== null };
      done.push(() => this.#chains.actual.set(chain.name, actual));
    }
  }

  #writeVerdicts(tx: Transaction, done: (() => void)[], own: (owner: Owner) => void, prune: boolean): void {
    for (const { spec, verdicts } of this.#maps.values()) {
      const replaced: string[] = [];
      const added: MapElement[] = [];
      for (const { key, desired, actual } of [...verdicts.pendingUpdates()]) {
        own(desired.owner);
        if (actual) replaced.push(key);
        added.push({ key, verdict: desired.verdict });
        done.push(() => verdicts.actual.set(key, desired));
      }
      if (prune) {
        for (const { key } of verdicts.pendingDeletes()) {
          replaced.push(key);
          done.push(() => verdicts.actual.delete(key));
        }
      }
      tx.deleteMapElements(spec, replaced).addMapElements(spec, added);
    }
  }

  #prune(tx: Transaction, done: (() => void)[]): void {
    tx.for('');
    const chains = [...this.#chains.pendingDeletes()].map((d) => d.key);
    for (const name of chains) tx.flushChain(name);
    for (const name of chains) {
      tx.deleteChain(name);
      done.push(() => this.#chains.actual.delete(name));
    }
    for (const set of this.#dirtySets) {
      if (set.wanted || !set.actual) continue;
      tx.deleteSet(set.spec);
      done.push(() => {
        set.actual = false;
        set.elements.actual.clear();
        if (!set.wanted && this.#sets.get(set.spec.name) === set) this.#forget(set);
      });
    }
  }
}

function signatureOf(chain: WantedChain | ActualChain): string {
  return 'chain' in chain ? chain.chain.signature : chain.signature;
}

function isOtherBase(actual: ActualChain, wanted: RenderedChain): boolean {
  const baseLine = (signature: string) => signature.slice(0, signature.indexOf('\n'));
  return baseLine(actual.signature) !== baseLine(wanted.signature);
}

function sameSpec(a: SetSpec, b: SetSpec): boolean {
  return a.key.join() === b.key.join() && (a.interval ?? false) === (b.interval ?? false) && a.verdicts === b.verdicts;
}
