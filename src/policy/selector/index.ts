// Keeps, as both change, which selectors match which labelled items (endpoints, network sets).
// In: selectors; items with own labels and the names of parents (profiles) they inherit labels from; labels of parents.
// Out: `matchStarted` and `matchStopped`, exactly once a change, and both directions for asking.
// An item's change costs what its labels and the selectors near them cost, not the number of all selectors: a selector is filed under
// label tests of which one must hold (requirements.ts), and is asked again only when a label it mentions has changed.
// Inheritance: the item's own label wins, then the first parent in the item's list that has it.
import { mentionedLabels, necessaryTests, type LabelTest } from './requirements.ts';
import type { Labels, Selector } from './selector.ts';

export interface MatchListener {
  matchStarted(selectorId: string, itemId: string): void;
  matchStopped(selectorId: string, itemId: string): void;
}

interface Item {
  readonly id: string;
  labels: Labels;
  parents: readonly Parent[];
  readonly matches: Set<Entry>;
}

interface Parent {
  readonly id: string;
  /** null while nobody has told the parent's labels. */
  labels: Labels | null;
  readonly items: Set<Item>;
}

interface Entry {
  readonly id: string;
  readonly selector: Selector;
  readonly mentions: ReadonlySet<string>;
  /** Where the entry is filed; null: under `unfiled`. */
  readonly tests: readonly LabelTest[] | null;
  readonly items: Set<Item>;
}

const NO_LABELS: Labels = {};

/** label -> value -> things; the value undefined stands for "has the label". */
class ByLabel<T> {
  readonly #map = new Map<string, Map<string | undefined, Set<T>>>();

  add(label: string, value: string | undefined, thing: T): void {
    let values = this.#map.get(label);
    if (!values) this.#map.set(label, (values = new Map()));
    let things = values.get(value);
    if (!things) values.set(value, (things = new Set()));
    things.add(thing);
  }

  delete(label: string, value: string | undefined, thing: T): void {
    const values = this.#map.get(label);
    const things = values?.get(value);
    if (!values || !things?.delete(thing)) return;
    if (things.size === 0) values.delete(value);
    if (values.size === 0) this.#map.delete(label);
  }

  get(label: string, value: string | undefined): ReadonlySet<T> | undefined {
    return this.#map.get(label)?.get(value);
  }

  *having(label: string): Generator<T> {
    for (const things of this.#map.get(label)?.values() ?? []) yield* things;
  }

  /** Things under the test; with no value, the sum over all values, counted up to 64 values. */
  count(test: LabelTest): number {
    if (test.value !== undefined) return this.get(test.label, test.value)?.size ?? 0;
    let sum = 0;
    let seen = 0;
    for (const things of this.#map.get(test.label)?.values() ?? []) {
      sum += things.size;
      if (++seen >= 64) break;
    }
    return sum;
  }
}

export class SelectorIndex {
  readonly #listener: MatchListener;
  readonly #items = new Map<string, Item>();
  readonly #parents = new Map<string, Parent>();
  readonly #entries = new Map<string, Entry>();
  readonly #itemsByLabel = new ByLabel<Item>();
  readonly #parentsByLabel = new ByLabel<Parent>();
  readonly #entriesByTest = new ByLabel<Entry>();
  readonly #unfiled = new Set<Entry>();

  /** The listener must not change the index while it is told. */
  constructor(listener: MatchListener) {
    this.#listener = listener;
  }

  /** Files a selector and reports its matches. The same id with another selector replaces it, reporting only what differs. */
  addSelector(id: string, selector: Selector): void {
    const old = this.#entries.get(id);
    if (old?.selector.canonical === selector.canonical) return;
    const tests = necessaryTests(selector.node, (test) => this.#cost(test));
    const entry: Entry = { id, selector, mentions: mentionedLabels(selector.node), tests, items: new Set() };
    if (old) this.#unfile(old);
    this.#entries.set(id, entry);
    if (tests) for (const test of tests) this.#entriesByTest.add(test.label, test.value, entry);
    else this.#unfiled.add(entry);
    for (const item of this.#candidates(tests)) {
      if (!selector.matchesLookup((name) => effective(item, name))) continue;
      entry.items.add(item);
      item.matches.add(entry);
      if (!old?.items.has(item)) this.#listener.matchStarted(id, item.id);
    }
    for (const item of old?.items ?? []) {
      item.matches.delete(old!);
      if (!entry.items.has(item)) this.#listener.matchStopped(id, item.id);
    }
  }

  /** Forgets a selector, reporting the end of its matches. Unknown ids are ignored. */
  removeSelector(id: string): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#unfile(entry);
    this.#entries.delete(id);
    for (const item of entry.items) {
      item.matches.delete(entry);
      this.#listener.matchStopped(id, item.id);
    }
  }

  /** Tells an item's own labels and its parents, first parent first. */
  setItem(id: string, labels: Labels, parents: readonly string[] = []): void {
    let item = this.#items.get(id);
    const fresh = !item;
    if (!item) this.#items.set(id, (item = { id, labels: NO_LABELS, parents: [], matches: new Set() }));
    const before = { labels: item.labels, parents: item.parents };
    const after = { labels, parents: parents.map((parent) => this.#parent(parent)) };
    fileLabels(this.#itemsByLabel, item, before.labels, labels);
    for (const parent of before.parents) if (!after.parents.includes(parent)) this.#leave(parent, item);
    for (const parent of after.parents) parent.items.add(item);
    item.labels = after.labels;
    item.parents = after.parents;
    if (fresh) {
      this.#update(item, null);
      return;
    }
    const names = new Set<string>();
    for (const side of [before, after]) {
      for (const source of [side.labels, ...side.parents.map((parent) => parent.labels ?? NO_LABELS)]) {
        for (const name of Object.keys(source)) names.add(name);
      }
    }
    for (const name of names) if (effective(before, name) === effective(after, name)) names.delete(name);
    if (names.size > 0) this.#update(item, names);
  }

  removeItem(id: string): void {
    const item = this.#items.get(id);
    if (!item) return;
    this.#items.delete(id);
    fileLabels(this.#itemsByLabel, item, item.labels, NO_LABELS);
    for (const parent of item.parents) this.#leave(parent, item);
    for (const entry of item.matches) {
      entry.items.delete(item);
      this.#listener.matchStopped(entry.id, id);
    }
  }

  /** Tells the labels that a parent hands down. */
  setParent(id: string, labels: Labels): void {
    this.#changeParent(this.#parent(id), labels);
  }

  /** The parent hands nothing down any more; items may still name it. */
  removeParent(id: string): void {
    const parent = this.#parents.get(id);
    if (!parent) return;
    this.#changeParent(parent, null);
    if (parent.items.size === 0) this.#parents.delete(id);
  }

  /** Ids of the selectors that match the item now. */
  *selectorsOf(itemId: string): Generator<string> {
    for (const entry of this.#items.get(itemId)?.matches ?? []) yield entry.id;
  }

  /** Ids of the items that the selector matches now. */
  *itemsOf(selectorId: string): Generator<string> {
    for (const item of this.#entries.get(selectorId)?.items ?? []) yield item.id;
  }

  get itemCount(): number {
    return this.#items.size;
  }

  get selectorCount(): number {
    return this.#entries.size;
  }

  #parent(id: string): Parent {
    let parent = this.#parents.get(id);
    if (!parent) this.#parents.set(id, (parent = { id, labels: null, items: new Set() }));
    return parent;
  }

  #leave(parent: Parent, item: Item): void {
    parent.items.delete(item);
    if (parent.items.size === 0 && parent.labels === null) this.#parents.delete(parent.id);
  }

  #changeParent(parent: Parent, labels: Labels | null): void {
    const before = parent.labels ?? NO_LABELS;
    const after = labels ?? NO_LABELS;
    fileLabels(this.#parentsByLabel, parent, before, after);
    parent.labels = labels;
    const changed = new Set([...Object.keys(before), ...Object.keys(after)]);
    for (const name of changed) if (ownLabel(before, name) === ownLabel(after, name)) changed.delete(name);
    if (changed.size > 0) for (const item of parent.items) this.#update(item, changed);
  }

  #unfile(entry: Entry): void {
    if (entry.tests) for (const test of entry.tests) this.#entriesByTest.delete(test.label, test.value, entry);
    else this.#unfiled.delete(entry);
  }

  /** How much looking at a test's bucket costs: items that a new selector has to ask, selectors that an item has to ask. */
  #cost(test: LabelTest): number {
    let cost = this.#itemsByLabel.count(test) + (this.#entriesByTest.get(test.label, test.value)?.size ?? 0);
    if (test.value === undefined) cost += 8;
    else for (const parent of this.#parentsByLabel.get(test.label, test.value) ?? []) cost += parent.items.size + 1;
    return cost;
  }

  /** Items that may match a selector filed under `tests`. */
  #candidates(tests: readonly LabelTest[] | null): Iterable<Item> {
    if (!tests) return this.#items.values();
    const found = new Set<Item>();
    for (const { label, value } of tests) {
      const items = value === undefined ? this.#itemsByLabel.having(label) : this.#itemsByLabel.get(label, value);
      for (const item of items ?? []) found.add(item);
      const parents = value === undefined ? this.#parentsByLabel.having(label) : this.#parentsByLabel.get(label, value);
      for (const parent of parents ?? []) for (const item of parent.items) found.add(item);
    }
    return found;
  }

  /** Asks again the selectors that may have begun or ceased to match. `changed`: label names, null for a new item. */
  #update(item: Item, changed: ReadonlySet<string> | null): void {
    const ask = new Set<Entry>();
    const consider = (entries: Iterable<Entry> | undefined): void => {
      for (const entry of entries ?? []) if (!changed || !changed.isDisjointFrom(entry.mentions)) ask.add(entry);
    };
    consider(item.matches);
    consider(this.#unfiled);
    for (const source of [item.labels, ...item.parents.map((parent) => parent.labels ?? NO_LABELS)]) {
      for (const [name, value] of Object.entries(source)) {
        consider(this.#entriesByTest.get(name, value));
        consider(this.#entriesByTest.get(name, undefined));
      }
    }
    const lookup = (name: string): string | undefined => effective(item, name);
    for (const entry of ask) {
      const was = item.matches.has(entry);
      const is = entry.selector.matchesLookup(lookup);
      if (is === was) continue;
      if (is) {
        item.matches.add(entry);
        entry.items.add(item);
        this.#listener.matchStarted(entry.id, item.id);
      } else {
        item.matches.delete(entry);
        entry.items.delete(item);
        this.#listener.matchStopped(entry.id, item.id);
      }
    }
  }
}

function ownLabel(labels: Labels, name: string): string | undefined {
  return Object.hasOwn(labels, name) ? labels[name] : undefined;
}

function effective(item: { labels: Labels; parents: readonly Parent[] }, name: string): string | undefined {
  const own = ownLabel(item.labels, name);
  if (own !== undefined) return own;
  for (const parent of item.parents) {
    const inherited = parent.labels === null ? undefined : ownLabel(parent.labels, name);
    if (inherited !== undefined) return inherited;
  }
  return undefined;
}

/** Brings an index by label from one set of labels of a thing to the next. */
function fileLabels<T>(index: ByLabel<T>, thing: T, before: Labels, after: Labels): void {
  for (const [name, value] of Object.entries(before)) {
    if (ownLabel(after, name) !== value) index.delete(name, value, thing);
  }
  for (const [name, value] of Object.entries(after)) {
    if (ownLabel(before, name) !== value) index.add(name, value, thing);
  }
}
