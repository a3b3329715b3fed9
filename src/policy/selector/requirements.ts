// What a selector demands of labels at the least, for indexes: a short list of label tests of which one must hold.

import type { SelectorNode } from './ast.ts';

/** The label has this value; with `value` undefined, the label is there at all. */
export interface LabelTest {
  readonly label: string;
  readonly value: string | undefined;
}

/**
 * Tests such that labels which fail all of them cannot match; the cheapest choice by `cost`. An empty list: nothing matches.
 * null: no such list, anything may match.
 */
export function necessaryTests(node: SelectorNode, cost: (test: LabelTest) => number): readonly LabelTest[] | null {
  switch (node.op) {
    case '==':
      return [{ label: node.label, value: node.value }];
    case 'in':
      return node.values.map((value) => ({ label: node.label, value }));
    case 'has':
    case 'contains':
    case 'starts with':
    case 'ends with':
      return [{ label: node.label, value: undefined }];
    case 'and': {
      let best: readonly LabelTest[] | null = null;
      let bestCost = Number.POSITIVE_INFINITY;
      for (const operand of node.operands) {
        const tests = necessaryTests(operand, cost);
        if (!tests) continue;
        const sum = tests.reduce((total, test) => total + cost(test), 0);
        if (sum < bestCost) {
          best = tests;
          bestCost = sum;
        }
      }
      return best;
    }
    case 'or': {
      const all: LabelTest[] = [];
      for (const operand of node.operands) {
        const tests = necessaryTests(operand, cost);
        if (!tests) return null;
        all.push(...tests);
      }
      return all;
    }
    default:
      return null; // all(), global(), and what also holds where the label is absent
  }
}

/** Every label name the selector looks at. */
export function mentionedLabels(node: SelectorNode, into = new Set<string>()): ReadonlySet<string> {
  switch (node.op) {
    case 'all':
    case 'global':
      break;
    case 'not':
      mentionedLabels(node.operand, into);
      break;
    case 'and':
    case 'or':
      for (const operand of node.operands) mentionedLabels(operand, into);
      break;
    default:
      into.add(node.label);
  }
  return into;
}
