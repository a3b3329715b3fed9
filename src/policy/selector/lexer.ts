// Cuts the text of a selector into tokens, each with its position.
// In: the text a person wrote. Out: tokens, the last one `end`. Throws SelectorError with the position.
// Spec: Calico's selector language. Traps: white space is space and tab only; strings have no escapes; whether a word is an
// operator or a label name depends on the token before it (`in in {"x"}` tests the label `in`); `has`, `all` and `global` are
// functions only when `(` follows at once.
import { BrindleError } from '#base/errors.ts';

export type Operator = '==' | '!=' | 'in' | 'not in' | 'contains' | 'starts with' | 'ends with';

export type Token =
  | { readonly type: 'label'; readonly at: number; readonly name: string }
  | { readonly type: 'string'; readonly at: number; readonly value: string }
  | { readonly type: 'operator'; readonly at: number; readonly operator: Operator }
  | { readonly type: 'has'; readonly at: number; readonly name: string }
  | { readonly type: 'all' | 'global'; readonly at: number }
  | { readonly type: '{' | '}' | '(' | ')' | ',' | '!' | '&&' | '||'; readonly at: number }
  | { readonly type: 'end'; readonly at: number };

/** Calico's limit on a label name inside a selector. */
const MAX_LABEL_NAME = 512;

/** A selector that does not parse. `position` counts UTF-16 units from 0. */
export class SelectorError extends BrindleError {
  readonly position: number;

  constructor(text: string, position: number, reason: string) {
    super('invalid-argument', `selector ${JSON.stringify(text)}: ${reason} at position ${position + 1}`);
    this.name = 'SelectorError';
    this.position = position;
  }
}

/** How a token is called in a message. */
export function describeToken(token: Token): string {
  switch (token.type) {
    case 'label':
      return `label "${token.name}"`;
    case 'string':
      return `string "${token.value}"`;
    case 'operator':
      return `operator "${token.operator}"`;
    case 'has':
      return `has(${token.name})`;
    case 'all':
    case 'global':
      return `${token.type}()`;
    case 'end':
      return 'the end';
    default:
      return `"${token.type}"`;
  }
}

const LABEL_NAME = /[A-Za-z0-9_./-]+/y;
const FUNCTION = /(has|all|global)\(/y;
const WORD_OPERATOR = /(contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in)/y;
const OPERATOR_OF: Record<string, Operator> = {
  contains: 'contains',
  startswith: 'starts with',
  endswith: 'ends with',
  notin: 'not in',
  in: 'in',
};

/** The tokens one at a time, so that the parser complains of the first thing wrong. Ends with `end`. */
export function* tokenize(text: string): Generator<Token, never> {
  let afterLabel = false;
  let at = 0;
  const fail = (position: number, reason: string): never => {
    throw new SelectorError(text, position, reason);
  };
  const take = (pattern: RegExp): string | null => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0] ?? null;
  };
  const skipSpace = (): void => {
    while (text[at] === ' ' || text[at] === '\t') at++;
  };
  const takeName = (): string | null => {
    const name = take(LABEL_NAME);
    if (name !== null && name.length > MAX_LABEL_NAME) {
      fail(at, `label name of ${name.length} characters, the limit is ${MAX_LABEL_NAME},`);
    }
    return name;
  };

  for (;;) {
    skipSpace();
    const start = at;
    const c = text[at];
    if (c === undefined) {
      for (;;) yield { type: 'end', at };
    }
    const wordIsOperator = afterLabel;
    afterLabel = false;
    switch (c) {
      case '(':
      case ')':
      case '{':
      case '}':
      case ',':
        at++;
        yield { type: c, at: start };
        continue;
      case '"':
      case "'": {
        const close = text.indexOf(c, at + 1);
        if (close < 0) fail(at, 'a string that is not closed');
        at = close + 1;
        yield { type: 'string', at: start, value: text.slice(start + 1, close) };
        continue;
      }
      case '=':
        if (text[at + 1] !== '=') fail(at, 'expected "=="');
        at += 2;
        yield { type: 'operator', at: start, operator: '==' };
        continue;
      case '!':
        if (text[at + 1] === '=') {
          at += 2;
          yield { type: 'operator', at: start, operator: '!=' };
        } else {
          at++;
          yield { type: '!', at: start };
        }
        continue;
      case '&':
        if (text[at + 1] !== '&') fail(at, 'expected "&&"');
        at += 2;
        yield { type: '&&', at: start };
        continue;
      case '|':
        if (text[at + 1] !== '|') fail(at, 'expected "||"');
        at += 2;
        yield { type: '||', at: start };
        continue;
      default:
    }
    if (wordIsOperator) {
      const word = take(WORD_OPERATOR);
      const operator = word === null ? undefined : OPERATOR_OF[word.replace(/[ \t]/g, '')];
      if (word === null || operator === undefined) {
        return fail(at, 'expected an operator (==, !=, in, not in, contains, starts with, ends with)');
      }
      at += word.length;
      yield { type: 'operator', at: start, operator };
      continue;
    }
    const call = take(FUNCTION);
    if (call !== null) {
      at += call.length;
      skipSpace();
      let name = '';
      if (call === 'has(') {
        name = takeName() ?? fail(at, 'expected a label name inside has()');
        at += name.length;
        skipSpace();
      }
      if (text[at] !== ')') fail(at, `expected ")" to close ${call})`);
      at++;
      if (call === 'has(') yield { type: 'has', at: start, name };
      else yield { type: call === 'all(' ? 'all' : 'global', at: start };
      continue;
    }
    const name = takeName() ?? fail(at, `unexpected character ${JSON.stringify(c)}`);
    at += name.length;
    afterLabel = true;
    yield { type: 'label', at: start, name };
  }
}
