// Builds the tree of a selector from its tokens. `&&` binds tighter than `||`, `!` tighter than both.
// Throws SelectorError: anything after a complete expression is an error.
import { ALL_NODE, inNode, joinNode, notNode, type SelectorNode } from './ast.ts';
import { describeToken, SelectorError, type Token, tokenize } from './lexer.ts';

/** Deeper than 1 024 characters of `(` and `!` can nest; guards the stack against longer text. */
const MAX_DEPTH = 1024;

export function parseNode(text: string): SelectorNode {
  const tokens = tokenize(text);
  let token = tokens.next().value;
  let depth = 0;
  const peek = (): Token => token;
  const advance = (): void => {
    token = tokens.next().value;
  };
  const fail = (found: Token, expected: string): never => {
    throw new SelectorError(text, found.at, `expected ${expected} but found ${describeToken(found)}`);
  };
  const expect = (type: Token['type'], what: string): void => {
    if (peek().type !== type) fail(peek(), what);
    advance();
  };

  const parseChain = (op: 'and' | 'or', sign: '&&' | '||', operand: () => SelectorNode): SelectorNode => {
    const operands = [operand()];
    while (peek().type === sign) {
      advance();
      operands.push(operand());
    }
    return joinNode(op, operands);
  };
  const parseOr = (): SelectorNode => parseChain('or', '||', parseAnd);
  const parseAnd = (): SelectorNode => parseChain('and', '&&', parseOperation);

  const parseOperation = (): SelectorNode => {
    let negated = false;
    while (peek().type === '!') {
      negated = !negated;
      advance();
    }
    const node = parseTerm();
    return negated ? notNode(node) : node;
  };

  const parseTerm = (): SelectorNode => {
    const first = peek();
    switch (first.type) {
      case 'has':
        advance();
        return { op: 'has', label: first.name };
      case 'all':
      case 'global':
        advance();
        return { op: first.type };
      case 'label':
        advance();
        return parseComparison(first.name);
      case '(': {
        if (++depth > MAX_DEPTH) {
          throw new SelectorError(text, first.at, `parentheses nested more than ${MAX_DEPTH} deep`);
        }
        advance();
        const node = parseOr();
        expect(')', '")"');
        depth--;
        return node;
      }
      default:
        return fail(first, 'a label, has(), all() or "("');
    }
  };

  const parseComparison = (label: string): SelectorNode => {
    const sign = peek();
    if (sign.type !== 'operator') return fail(sign, `an operator after label "${label}"`);
    advance();
    if (sign.operator === 'in' || sign.operator === 'not in') {
      expect('{', `"{" after "${sign.operator}"`);
      return inNode(sign.operator, label, parseValues());
    }
    const value = peek();
    if (value.type !== 'string') return fail(value, `a string in quotes after "${sign.operator}"`);
    advance();
    return { op: sign.operator, label, value: value.value };
  };

  /** A set may be empty and may end with a comma. */
  const parseValues = (): string[] => {
    const values: string[] = [];
    for (let item = peek(); item.type === 'string'; item = peek()) {
      values.push(item.value);
      advance();
      if (peek().type !== ',') break;
      advance();
    }
    expect('}', 'a string in quotes or "}"');
    return values;
  };

  if (peek().type === 'end') return ALL_NODE;
  const root = parseOr();
  if (peek().type !== 'end') fail(peek(), '&&, || or the end');
  return root;
}
