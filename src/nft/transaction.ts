// A transaction: commands in order, all or nothing. It keeps the first error that building it met (so that callers build without
// checking each step), knows which object each command belongs to, and prints itself, one command a line.
import { BrindleError } from '#base/errors.ts';
import * as format from './format.ts';
import type { ChainSpec, MapElement, Rule, SetSpec } from './objects.ts';

export type Command =
  | { readonly type: 'add-table' | 'delete-table' }
  | { readonly type: 'add-chain'; readonly chain: ChainSpec }
  | { readonly type: 'flush-chain' | 'delete-chain'; readonly name: string }
  | { readonly type: 'add-rule'; readonly chain: string; readonly rule: Rule }
  | { readonly type: 'add-set'; readonly set: SetSpec }
  | { readonly type: 'delete-set'; readonly set: SetSpec }
  | { readonly type: 'flush-set'; readonly set: SetSpec }
  | {
      readonly type: 'add-elements' | 'delete-elements';
      readonly set: SetSpec;
      readonly elements: readonly string[];
    }
  | { readonly type: 'add-map-elements'; readonly set: SetSpec; readonly elements: readonly MapElement[] }
  | { readonly type: 'delete-map-elements'; readonly set: SetSpec; readonly elements: readonly string[] };

export class Transaction {
  /** Name of the one table, family inet, that all commands are about. */
  readonly table: string;
  readonly commands: Command[] = [];
  /** The object each command serves, same index as `commands`. */
  readonly owners: string[] = [];
  #texts: string[] = [];
  #error: BrindleError | null = null;
  #errorOwner: string | null = null;
  #owner = '';

  constructor(table: string) {
    this.table = format.identifier(table);
  }

  get isEmpty(): boolean {
    return this.commands.length === 0 && this.#error === null;
  }

  /** The first command that could not be written, null when all could. */
  get error(): BrindleError | null {
    return this.#error;
  }

  /** The owner of the command of `error`. */
  get errorOwner(): string | null {
    return this.#errorOwner;
  }

  /** The commands that follow belong to `owner`. */
  for(owner: string): this {
    this.#owner = owner;
    return this;
  }

  addTable(): this {
    return this.#push({ type: 'add-table' }, () => `add table inet ${this.table}`);
  }

  deleteTable(): this {
    return this.#push({ type: 'delete-table' }, () => `delete table inet ${this.table}`);
  }

  addChain(chain: ChainSpec): this {
    return this.#push(
      { type: 'add-chain', chain },
      () => `add chain ${this.#path(chain.name)}${format.chainBody(chain)}`,
    );
  }

  flushChain(name: string): this {
    return this.#push({ type: 'flush-chain', name }, () => `flush chain ${this.#path(name)}`);
  }

  deleteChain(name: string): this {
    return this.#push({ type: 'delete-chain', name }, () => `delete chain ${this.#path(name)}`);
  }

  addRule(chain: string, rule: Rule): this {
    return this.#push({ type: 'add-rule', chain, rule }, () => `add rule ${this.#path(chain)} ${format.rule(rule)}`);
  }

  addSet(set: SetSpec): this {
    return this.#push(
      { type: 'add-set', set },
      () => `add ${setWord(set)} ${this.#path(set.name)} ${format.setBody(set)}`,
    );
  }

  deleteSet(set: SetSpec): this {
    return this.#push({ type: 'delete-set', set }, () => `delete ${setWord(set)} ${this.#path(set.name)}`);
  }

  flushSet(set: SetSpec): this {
    return this.#push({ type: 'flush-set', set }, () => `flush ${setWord(set)} ${this.#path(set.name)}`);
  }

  /** Does nothing for an empty list. */
  addElements(set: SetSpec, elements: readonly string[]): this {
    return this.#elements('add-elements', set, elements);
  }

  deleteElements(set: SetSpec, elements: readonly string[]): this {
    return this.#elements('delete-elements', set, elements);
  }

  addMapElements(set: SetSpec, elements: readonly MapElement[]): this {
    if (elements.length === 0) return this;
    return this.#push({ type: 'add-map-elements', set, elements }, () => {
      const list = elements.map((e) => `${format.element(set, e.key)} : ${format.verdict(e.verdict)}`);
      return `add element ${this.#path(set.name)} { ${list.join(', ')} }`;
    });
  }

  deleteMapElements(set: SetSpec, elements: readonly string[]): this {
    if (elements.length === 0) return this;
    return this.#push({ type: 'delete-map-elements', set, elements }, () => {
      return `delete element ${this.#path(set.name)} { ${elements.map((e) => format.element(set, e)).join(', ')} }`;
    });
  }

  /** The text of one command. */
  text(index: number): string {
    return this.#texts[index] ?? '';
  }

  /** One command a line, so line N of an error is command N - 1. */
  toString(): string {
    return this.#texts.join('\n');
  }

  #elements(type: 'add-elements' | 'delete-elements', set: SetSpec, elements: readonly string[]): this {
    if (elements.length === 0) return this;
    return this.#push({ type, set, elements }, () => {
      const list = elements.map((e) => format.element(set, e)).join(', ');
      return `${type === 'add-elements' ? 'add' : 'delete'} element ${this.#path(set.name)} { ${list} }`;
    });
  }

  #path(name: string): string {
    return `inet ${this.table} ${format.identifier(name)}`;
  }

  #push(command: Command, text: () => string): this {
    if (this.#error) return this;
    try {
      this.#texts.push(text());
      this.commands.push(command);
      this.owners.push(this.#owner);
    } catch (error) {
      if (!(error instanceof BrindleError)) throw error;
      this.#error = error;
      this.#errorOwner = this.#owner;
    }
    return this;
  }
}

function setWord(set: SetSpec): 'map' | 'set' {
  return set.verdicts ? 'map' : 'set';
}
