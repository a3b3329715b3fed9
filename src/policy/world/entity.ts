// What selectors are asked of: an endpoint or a network set with all its labels, own and inherited, and the answers it has given.
import type { EndpointData } from '../convert/endpoints.ts';
import type { LabelLookup } from '../selector/ast.ts';
import type { Labels, Selector } from '../selector/selector.ts';

const UNKNOWN = 0;
const NO = 1;
const YES = 2;

export class Entity {
  /** null for a network set. */
  readonly endpoint: EndpointData | null;
  readonly lookup: LabelLookup;
  readonly #labels: ReadonlyMap<string, string>;
  readonly #size: number;
  #answers: Uint8Array | undefined;

  /** `inherited`: the labels of each parent, first parent first. `selectors`: how many selector numbers there are. */
  constructor(own: Labels, inherited: readonly Labels[], endpoint: EndpointData | null, selectors: number) {
    this.endpoint = endpoint;
    this.#size = selectors;
    const labels = new Map<string, string>();
    for (const source of [...inherited.toReversed(), own]) {
      for (const [name, value] of Object.entries(source)) labels.set(name, value);
    }
    this.#labels = labels;
    this.lookup = (name) => this.#labels.get(name);
  }

  /** Own and inherited, own first. */
  get labels(): ReadonlyMap<string, string> {
    return this.#labels;
  }

  /** Whether the selector with this number matches; asked once, remembered. */
  matches(number: number, selector: Selector): boolean {
    this.#answers ??= new Uint8Array(this.#size);
    const answer = this.#answers[number] ?? UNKNOWN;
    if (answer !== UNKNOWN) return answer === YES;
    const matched = selector.matchesLookup(this.lookup);
    this.#answers[number] = matched ? YES : NO;
    return matched;
  }
}
