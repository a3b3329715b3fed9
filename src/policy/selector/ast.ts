// The tree of a selector: its nodes, how they are asked of labels, and their canonical text.
// Spec: Calico's selector language. `!=` and `not in` also hold where the label is absent; `!(a == "b")` likewise.

export type SelectorNode =
  | { readonly op: 'all' | 'global' }
  | { readonly op: 'has'; readonly label: string }
  | {
      readonly op: '==' | '!=' | 'contains' | 'starts with' | 'ends with';
      readonly label: string;
      readonly value: string;
    }
  /** `values` is sorted and free of duplicates. */
  | {
      readonly op: 'in' | 'not in';
      readonly label: string;
      readonly values: readonly string[];
      readonly set: ReadonlySet<string>;
    }
  | { readonly op: 'not'; readonly operand: SelectorNode }
  | { readonly op: 'and' | 'or'; readonly operands: readonly SelectorNode[] };

/** Looks a label up; undefined when it is absent. */
export type LabelLookup = (name: string) => string | undefined;

export const ALL_NODE: SelectorNode = { op: 'all' };

export function inNode(op: 'in' | 'not in', label: string, values: Iterable<string>): SelectorNode {
  const set = new Set(values);
  return { op, label, values: [...set].sort(compareCodePoints), set };
}

/** Removes a double negation, so that the canonical text reads back as itself. */
export function notNode(operand: SelectorNode): SelectorNode {
  return operand.op === 'not' ? operand.operand : { op: 'not', operand };
}

export function joinNode(op: 'and' | 'or', operands: readonly SelectorNode[]): SelectorNode {
  return operands.length === 1 ? operands[0]! : { op, operands };
}

/** `global()` holds of everything here; what it means is decided where a namespaceSelector is put into effect. */
export function evaluateNode(node: SelectorNode, lookup: LabelLookup): boolean {
  switch (node.op) {
    case 'all':
    case 'global':
      return true;
    case 'has':
      return lookup(node.label) !== undefined;
    case '==':
      return lookup(node.label) === node.value;
    case '!=':
      return lookup(node.label) !== node.value;
    case 'contains':
      return lookup(node.label)?.includes(node.value) ?? false;
    case 'starts with':
      return lookup(node.label)?.startsWith(node.value) ?? false;
    case 'ends with':
      return lookup(node.label)?.endsWith(node.value) ?? false;
    case 'in': {
      const value = lookup(node.label);
      return value !== undefined && node.set.has(value);
    }
    case 'not in': {
      const value = lookup(node.label);
      return value === undefined || !node.set.has(value);
    }
    case 'not':
      return !evaluateNode(node.operand, lookup);
    case 'and':
      return node.operands.every((operand) => evaluateNode(operand, lookup));
    case 'or':
      return node.operands.some((operand) => evaluateNode(operand, lookup));
  }
}

/** The canonical text: one spacing, double quotes where the value allows, set literals sorted, every && and || in parentheses. */
export function formatNode(node: SelectorNode): string {
  switch (node.op) {
    case 'all':
    case 'global':
      return `${node.op}()`;
    case 'has':
      return `has(${node.label})`;
    case 'in':
    case 'not in':
      return `${node.label} ${node.op} {${node.values.map(quote).join(', ')}}`;
    case 'not':
      return `!${formatNode(node.operand)}`;
    case 'and':
      return `(${node.operands.map(formatNode).join(' && ')})`;
    case 'or':
      return `(${node.operands.map(formatNode).join(' || ')})`;
    default:
      return `${node.label} ${node.op} ${quote(node.value)}`;
  }
}

function quote(value: string): string {
  return value.includes('"') ? `'${value}'` : `"${value}"`;
}

/** Order by Unicode code point, which is the order of UTF-8 octets: what Calico sorts by. `<` orders by UTF-16 unit. */
function compareCodePoints(a: string, b: string): number {
  const left = Array.from(a);
  const right = Array.from(b);
  for (let i = 0; i < left.length && i < right.length; i++) {
    const difference = left[i]!.codePointAt(0)! - right[i]!.codePointAt(0)!;
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

/** Whether `all()` or `global()` occurs anywhere in the tree. */
export function containsCall(node: SelectorNode, op: 'all' | 'global'): boolean {
  switch (node.op) {
    case 'not':
      return containsCall(node.operand, op);
    case 'and':
    case 'or':
      return node.operands.some((operand) => containsCall(operand, op));
    default:
      return node.op === op;
  }
}
