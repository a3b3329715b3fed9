// nftables in memory, with the checks of the kernel: for tests of whoever writes to the kernel, and for comparing the rendered policy
// with the evaluator without a kernel. Product code: `brindle simulate` and the tests of other folders use it.
// In: transactions. Out: the same answers as the kernel's, the state as text, and what becomes of a packet.
import { BrindleError } from '#base/errors.ts';
import { Prefix } from '#net/prefix.ts';
import type { CommitFailure, ForeignChange, ListedChain, ListedSet, NftDriver, TableState } from './driver.ts';
import { type Evaluation, evaluate, type Packet, type TableView } from './evaluate.ts';
import { rule as ruleText, verdict as verdictText } from './format.ts';
import type { BaseChain, ChainSpec, CounterValue, Hook, Rule, SetSpec, Verdict } from './objects.ts';
import type { Command, Transaction } from './transaction.ts';

/** NFT_JUMP_STACK_SIZE: how deep jumps may nest. */
const JUMP_DEPTH = 16;

interface FakeChain {
  readonly base: BaseChain | null;
  readonly rules: Rule[];
  readonly counters: { packets: number; bytes: number }[];
}

interface FakeSet {
  readonly spec: SetSpec;
  readonly elements: Set<string>;
  readonly verdicts: Map<string, Verdict>;
}

class FakeTable implements TableView {
  readonly chainMap = new Map<string, FakeChain>();
  readonly sets = new Map<string, FakeSet>();

  clone(): FakeTable {
    const copy = new FakeTable();
    for (const [name, chain] of this.chainMap) {
      copy.chainMap.set(name, { base: chain.base, rules: [...chain.rules], counters: [...chain.counters] });
    }
    for (const [name, set] of this.sets) {
      copy.sets.set(name, { spec: set.spec, elements: new Set(set.elements), verdicts: new Map(set.verdicts) });
    }
    return copy;
  }

  chain(name: string): FakeChain | null {
    return this.chainMap.get(name) ?? null;
  }

  chains(): Iterable<[string, FakeChain]> {
    return this.chainMap;
  }

  spec(name: string): SetSpec | null {
    return this.sets.get(name)?.spec ?? null;
  }

  elements(name: string): ReadonlySet<string> {
    return this.sets.get(name)?.elements ?? new Set();
  }

  verdicts(name: string): ReadonlyMap<string, Verdict> {
    return this.sets.get(name)?.verdicts ?? new Map();
  }
}

export class FakeNftables implements NftDriver {
  #tables = new Map<string, FakeTable>();
  #generation = 1;
  readonly #watchers = new Set<{ readonly table: string; readonly onChange: (change: ForeignChange) => void }>();
  /** Every transaction that was committed, as text. */
  readonly committed: string[] = [];
  /** Given each command; an error makes the transaction fail there, as if the kernel had refused it. */
  refuse: ((command: Command) => Error | null) | null = null;

  commit(transaction: Transaction): Promise<CommitFailure | null> {
    if (transaction.error) return Promise.resolve({ error: transaction.error, command: null });
    const before = this.#tables.get(transaction.table);
    let table: FakeTable | null = before?.clone() ?? null;
    for (const [index, command] of transaction.commands.entries()) {
      try {
        const refusal = this.refuse?.(command);
        if (refusal) throw refusal;
        table = execute(table, command);
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        return Promise.resolve({ error, command: index });
      }
    }
    if (table) {
      const loop = jumpProblem(table);
      if (loop) return Promise.resolve({ error: loop, command: null });
      this.#tables.set(transaction.table, table);
    } else this.#tables.delete(transaction.table);
    this.#generation++;
    this.committed.push(transaction.toString());
    return Promise.resolve(null);
  }

  list(name: string): Promise<TableState | null> {
    const table = this.#tables.get(name);
    if (!table) return Promise.resolve(null);
    const chains = new Map<string, ListedChain>();
    for (const [chainName, chain] of table.chainMap) {
      const rules = chain.rules.map((rule, i) => ({
        comment: rule.comment,
        counter: rule.statements.some((s) => s.type === 'counter') ? (chain.counters[i] ?? null) : null,
      }));
      chains.set(chainName, { base: chain.base, rules });
    }
    const sets = new Map<string, ListedSet>();
    for (const [setName, set] of table.sets) {
      sets.set(setName, {
        spec: set.spec,
        elements: new Set(set.elements),
        verdicts: new Map(set.verdicts),
        foreign: false,
      });
    }
    return Promise.resolve({ chains, sets });
  }

  generation(): Promise<number> {
    return Promise.resolve(this.#generation);
  }

  watch(table: string, onChange: (change: ForeignChange) => void): { close(): void } {
    const watcher = { table, onChange };
    this.#watchers.add(watcher);
    return { close: () => this.#watchers.delete(watcher) };
  }

  close(): void {}

  /** What somebody else might do: the whole table is gone. */
  removeTable(name: string): void {
    if (!this.#tables.delete(name)) return;
    this.#generation++;
    for (const watcher of this.#watchers) if (watcher.table === name) watcher.onChange({ by: 'somebody' });
  }

  /** The whole table as text, sorted, so that equal states read equal. Null when there is none. */
  text(name: string): string | null {
    const table = this.#tables.get(name);
    if (!table) return null;
    const out: string[] = [];
    for (const [setName, set] of table.sets) {
      const verdicts = [...set.verdicts].map(([key, v]) => `${key} : ${verdictText(v)}`);
      out.push(`set ${setName} ${set.spec.key.join('.')} { ${[...set.elements, ...verdicts].sort().join(', ')} }`);
    }
    for (const [chainName, chain] of table.chainMap) {
      const base = chain.base ? ` ${chain.base.hook} ${chain.base.priority}` : '';
      out.push(`chain ${chainName}${base} {\n${chain.rules.map((r) => `  ${ruleText(r)}\n`).join('')}}`);
    }
    return out.sort().join('\n');
  }

  /** Sends a packet along the hooks and counts it. Accepted when there is no table. */
  send(name: string, path: readonly Hook[], packet: Packet, bytes = 84): Evaluation {
    const table = this.#tables.get(name) ?? new FakeTable();
    const result = evaluate(table, path, packet);
    for (const { chain, position } of result.matched) {
      const counters = table.chainMap.get(chain)!.counters;
      const old: CounterValue = counters[position]!;
      counters[position] = { packets: old.packets + 1, bytes: old.bytes + bytes };
    }
    return result;
  }
}

function execute(table: FakeTable | null, command: Command): FakeTable | null {
  if (command.type === 'add-table') return table ?? new FakeTable();
  if (!table) throw refused('ENOENT', 'table');
  switch (command.type) {
    case 'delete-table':
      return null;
    case 'add-chain':
      addChain(table, command.chain);
      return table;
    case 'flush-chain': {
      const chain = need(table.chainMap.get(command.name), command.name);
      chain.rules.length = 0;
      chain.counters.length = 0;
      return table;
    }
    case 'delete-chain':
      need(table.chainMap.get(command.name), command.name);
      if (isChainUsed(table, command.name)) throw refused('EBUSY', command.name);
      table.chainMap.delete(command.name);
      return table;
    case 'add-rule': {
      const chain = need(table.chainMap.get(command.chain), command.chain);
      checkReferences(table, command.rule);
      chain.rules.push(command.rule);
      chain.counters.push({ packets: 0, bytes: 0 });
      return table;
    }
    case 'add-set': {
      const known = table.sets.get(command.set.name);
      if (known && !sameForm(known.spec, command.set)) throw refused('EEXIST', command.set.name);
      if (!known) {
        table.sets.set(command.set.name, { spec: command.set, elements: new Set(), verdicts: new Map() });
      }
      return table;
    }
    case 'delete-set':
      need(table.sets.get(command.set.name), command.set.name);
      if (isSetUsed(table, command.set.name)) throw refused('EBUSY', command.set.name);
      table.sets.delete(command.set.name);
      return table;
    case 'flush-set': {
      const set = need(table.sets.get(command.set.name), command.set.name);
      set.elements.clear();
      set.verdicts.clear();
      return table;
    }
    case 'add-elements': {
      const set = need(table.sets.get(command.set.name), command.set.name);
      for (const element of command.elements) addElement(set, element);
      return table;
    }
    case 'delete-elements': {
      const set = need(table.sets.get(command.set.name), command.set.name);
      for (const element of command.elements) if (!set.elements.delete(element)) throw refused('ENOENT', element);
      return table;
    }
    case 'add-map-elements': {
      const map = need(table.sets.get(command.set.name), command.set.name);
      for (const { key, verdict } of command.elements) {
        const known = map.verdicts.get(key);
        if (known && verdictText(known) !== verdictText(verdict)) throw refused('EEXIST', key);
        if ('chain' in verdict) need(table.chainMap.get(verdict.chain), verdict.chain);
        map.verdicts.set(key, verdict);
      }
      return table;
    }
    case 'delete-map-elements': {
      const map = need(table.sets.get(command.set.name), command.set.name);
      for (const key of command.elements) if (!map.verdicts.delete(key)) throw refused('ENOENT', key);
      return table;
    }
  }
}

function addChain(table: FakeTable, spec: ChainSpec): void {
  const known = table.chainMap.get(spec.name);
  if (!known) {
    table.chainMap.set(spec.name, { base: spec.base ?? null, rules: [], counters: [] });
    return;
  }
  const same = known.base?.hook === spec.base?.hook && known.base?.priority === spec.base?.priority;
  if (!same) throw refused('EEXIST', spec.name);
}

function addElement(set: FakeSet, element: string): void {
  if (set.elements.has(element)) return;
  if (set.spec.interval) {
    const added = Prefix.parseOrHost(element);
    for (const other of set.elements) {
      if (Prefix.parseOrHost(other).overlaps(added)) throw refused('EEXIST', `${element} overlaps ${other}`);
    }
  }
  set.elements.add(element);
}

function checkReferences(table: FakeTable, rule: Rule): void {
  for (const s of rule.statements) {
    if (s.type === 'jump' || s.type === 'goto') {
      const target = need(table.chainMap.get(s.chain), s.chain);
      if (target.base) throw refused('EOPNOTSUPP', s.chain);
    } else if (s.type === 'set' || s.type === 'service-set') need(table.sets.get(s.set), s.set);
    else if (s.type === 'interface-verdicts') need(table.sets.get(s.map), s.map);
  }
}

function isChainUsed(table: FakeTable, name: string): boolean {
  for (const [other, chain] of table.chainMap) {
    if (other === name) continue;
    for (const rule of chain.rules) if (rule.statements.some((s) => 'chain' in s && s.chain === name)) return true;
  }
  for (const set of table.sets.values()) {
    for (const verdict of set.verdicts.values()) if ('chain' in verdict && verdict.chain === name) return true;
  }
  return false;
}

function isSetUsed(table: FakeTable, name: string): boolean {
  for (const chain of table.chainMap.values()) {
    for (const rule of chain.rules) {
      if (rule.statements.some((s) => ('set' in s && s.set === name) || ('map' in s && s.map === name))) return true;
    }
  }
  return false;
}

/** A loop (ELOOP) or too deep a nest of jumps (EMLINK), from any base chain on. */
function jumpProblem(table: FakeTable): Error | null {
  const depth = new Map<string, number>();
  const onPath = new Set<string>();
  const visit = (name: string): number => {
    if (onPath.has(name)) throw refused('ELOOP', name);
    const known = depth.get(name);
    if (known !== undefined) return known;
    onPath.add(name);
    let deepest = 0;
    for (const target of targets(table, name)) deepest = Math.max(deepest, visit(target) + 1);
    onPath.delete(name);
    depth.set(name, deepest);
    if (deepest >= JUMP_DEPTH) throw refused('EMLINK', name);
    return deepest;
  };
  try {
    for (const name of table.chainMap.keys()) visit(name);
    return null;
  } catch (error) {
    return error as Error;
  }
}

function* targets(table: FakeTable, name: string): Generator<string> {
  for (const rule of table.chainMap.get(name)?.rules ?? []) {
    for (const s of rule.statements) {
      if (s.type === 'jump' || s.type === 'goto') yield s.chain;
      else if (s.type === 'interface-verdicts') {
        for (const v of table.verdicts(s.map).values()) if ('chain' in v) yield v.chain;
      }
    }
  }
}

function sameForm(a: SetSpec, b: SetSpec): boolean {
  return a.key.join() === b.key.join() && a.interval === b.interval && a.verdicts === b.verdicts;
}

function need<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw refused('ENOENT', name);
  return value;
}

function refused(errno: string, what: string): BrindleError {
  return new BrindleError('kernel', `nftables: ${errno}: ${what}`);
}
