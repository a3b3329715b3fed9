// What selectors are asked of: an endpoint or a network set with all its labels, own and inherited.
import type { LabelLookup } from '../selector/ast.ts';
import type { Labels } from '../selector/selector.ts';

export class Entity {
  /** Own and inherited. */
  readonly labels: ReadonlyMap<string, string>;
  readonly lookup: LabelLookup;

  /** `inherited`: the labels of each parent, first parent first. */
  constructor(own: Labels, inherited: readonly Labels[]) {
    const labels = new Map<string, string>();
    for (const source of [...inherited.toReversed(), own]) {
      for (const [name, value] of Object.entries(source)) labels.set(name, value);
    }
    this.labels = labels;
    this.lookup = (name) => labels.get(name);
  }
}
