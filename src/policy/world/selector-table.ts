// Numbers every distinct selector of a world, and knows which of them can match given labels at all.
// In: selectors while rules are read, then labels. Out: numbers, and a table of answers in which most are No from the start: a
// selector is filed under label tests of which one must hold (selector/requirements.ts).
import { necessaryTests } from '../selector/requirements.ts';
import type { Selector } from '../selector/selector.ts';
import type { Entity } from './entity.ts';

export const UNKNOWN = 0;
export const NO = 1;
export const YES = 2;

/** A test that only asks whether the label is there is met by far more. */
const PRESENCE_COST = 16;

export class SelectorTable {
  /** By canonical text: equal selectors share a number. */
  readonly #numbers = new Map<string, number>();
  readonly #byValue = new Map<string, Map<string, number[]>>();
  readonly #byPresence = new Map<string, number[]>();
  /** Selectors that may match any labels. */
  readonly #unfiled: number[] = [];

  numberOf(selector: Selector): number {
    const { canonical } = selector;
    let number = this.#numbers.get(canonical);
    if (number === undefined) {
      this.#numbers.set(canonical, (number = this.#numbers.size));
      this.#file(selector, number);
    }
    return number;
  }

  /** By number: NO for what cannot match any of the entities, UNKNOWN for what has to be asked. */
  answersFor(entities: readonly Entity[]): Uint8Array {
    const answers = new Uint8Array(this.#numbers.size).fill(NO);
    if (entities.length === 0) return answers;
    const open = (numbers: readonly number[] | undefined): void => {
      for (const number of numbers ?? []) answers[number] = UNKNOWN;
    };
    open(this.#unfiled);
    for (const { labels } of entities) {
      for (const [label, value] of labels) {
        open(this.#byValue.get(label)?.get(value));
        open(this.#byPresence.get(label));
      }
    }
    return answers;
  }

  #file(selector: Selector, number: number): void {
    const tests = necessaryTests(selector.node, ({ label, value }) =>
      value === undefined ? PRESENCE_COST : 1 + (this.#byValue.get(label)?.get(value)?.length ?? 0),
    );
    if (!tests) this.#unfiled.push(number);
    for (const { label, value } of tests ?? []) {
      if (value === undefined) append(this.#byPresence, label, number);
      else {
        let values = this.#byValue.get(label);
        if (!values) this.#byValue.set(label, (values = new Map()));
        append(values, value, number);
      }
    }
  }
}

function append(map: Map<string, number[]>, key: string, number: number): void {
  const list = map.get(key);
  if (list) list.push(number);
  else map.set(key, [number]);
}
