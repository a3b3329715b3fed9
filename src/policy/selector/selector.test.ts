import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { SelectorError } from './lexer.ts';
import { type Labels, parseSelector } from './selector.ts';
import { sha224 } from './sha224.ts';

const matches: readonly (readonly [string, Labels, boolean])[] = [
  ['', {}, true],
  [' \t', { a: 'b' }, true],
  ['all()', {}, true],
  ['all( )', {}, true],
  ['global()', { a: 'b' }, true],
  ['a == "b"', { a: 'b', c: 'd' }, true],
  ['a == "b"', { a: 'c' }, false],
  ['a == "b"', {}, false],
  ["a=='b'", { a: 'b' }, true],
  ['a != "b"', {}, true],
  ['a != "b"', { a: 'b' }, false],
  ['a in {"x", \'y\'}', { a: 'y' }, true],
  ['a in {"x", \'y\'}', {}, false],
  ['a in{"x"}', { a: 'x' }, true],
  ['a in {}', { a: '' }, false],
  ['a in {"x",}', { a: 'x' }, true],
  ['a not in {"x"}', {}, true],
  ['a not in {"x"}', { a: 'x' }, false],
  ['a notin {"x"}', { a: 'y' }, true],
  ['a not\tin {}', { a: 'y' }, true],
  ['a contains "b"', { a: 'abc' }, true],
  ['a contains ""', { a: '' }, true],
  ['a contains ""', {}, false],
  ['a starts with "ab"', { a: 'abc' }, true],
  ['a startswith "b"', { a: 'abc' }, false],
  ['a ends  with "bc"', { a: 'abc' }, true],
  ['a endswith "ab"', { a: 'abc' }, false],
  ['has(a)', { a: '' }, true],
  ['has( a )', { b: '' }, false],
  ['!has(a)', {}, true],
  ['!!has(a)', { a: '' }, true],
  ['! ! !has(a)', { a: '' }, false],
  ['a == "1" || b == "2" && c == "3"', { a: '1' }, true],
  ['(a == "1" || b == "2") && c == "3"', { a: '1' }, false],
  ['!a == "1" && b == "2"', { b: '2' }, true],
  ['!(a == "1" && b == "2")', { a: '1' }, true],
  ['in in {"in"}', { in: 'in' }, true],
  ['not not in {"a"}', { not: 'b' }, true],
  ['has == "x"', { has: 'x' }, true],
  ['all == "x" && global != "y"', { all: 'x' }, true],
  ['contains contains "x"', { contains: 'axb' }, true],
  ['has(has)', { has: '' }, true],
  ['starts starts with "a"', { starts: 'a' }, true],
  ['kubernetes.io/metadata.name == "x"', { 'kubernetes.io/metadata.name': 'x' }, true],
  ['-./_9 == "x"', { '-./_9': 'x' }, true],
  ['a == "b\\"', { a: 'b\\' }, true],
  ['a == "\n"', { a: '\n' }, true],
  ['has(constructor)', {}, false],
  ['has(__proto__)', {}, false],
  ['toString != "x"', {}, true],
];

for (const [text, labels, expected] of matches) {
  test(`${JSON.stringify(text)} ${expected ? 'matches' : 'does not match'} ${JSON.stringify(labels)}`, () => {
    const selector = parseSelector(text);
    assert.equal(selector.matches(labels), expected);
    assert.equal(parseSelector(selector.canonical).matches(labels), expected);
  });
}

const refused: readonly (readonly [string, number])[] = [
  ['b == b', 5],
  ['b contains b', 11],
  ["'b1' == b", 0],
  ['b', 1],
  ['a b', 2],
  ['!', 1],
  ['a = "b"', 2],
  ['a == "b" &', 9],
  ['a == "b" | c == "d"', 9],
  ['a == "b" &&', 11],
  ['a != ||', 5],
  ['a in {"", ||', 10],
  ['a in {,}', 6],
  ['a in {"x" "y"}', 10],
  ['a in {x}', 6],
  ['a in "x"', 5],
  ['a in {"x"', 9],
  ['"x', 0],
  ['"x\'', 0],
  ['(', 1],
  ['(a == "b"', 9],
  [')', 0],
  ['()', 1],
  ['%', 0],
  ['a == "b" && %', 12],
  ['has (a)', 4],
  ['has()', 4],
  ['has(a', 5],
  ['has(a b)', 6],
  ['has("a")', 4],
  ['all ()', 4],
  ['all(x)', 4],
  ['all() all()', 6],
  ['a == "b" c == "d"', 9],
  ['has(a) has(b)', 7],
  ['a == "b")', 8],
  ['a\n== "b"', 1],
  ['a like "b"', 2],
  ['a not "b"', 2],
  ['a starts "b"', 2],
  ['a == "b" and c == "d"', 9],
  ['é == "b"', 0],
  [`${'a'.repeat(513)} == "b"`, 0],
  [`has(${'a'.repeat(513)})`, 4],
];

for (const [text, position] of refused) {
  test(`refuses ${JSON.stringify(text.slice(0, 30))} at ${position}`, () => {
    assert.throws(
      () => parseSelector(text),
      (error: unknown) => error instanceof SelectorError && error.position === position,
    );
  });
}

test('a label name of 512 characters is legal', () => {
  const name = 'a'.repeat(512);
  assert.equal(parseSelector(`has(${name})`).matches({ [name]: '' }), true);
});

test('deep nesting is refused, not a stack overflow', () => {
  assert.throws(() => parseSelector(`${'('.repeat(100_000)}all()`), SelectorError);
  assert.equal(parseSelector(`${'('.repeat(510)}all()${')'.repeat(510)}`).canonical, 'all()');
  assert.equal(parseSelector(`${'!'.repeat(100_001)}has(a)`).canonical, '!has(a)');
});

const canonical: readonly (readonly [string, string, string?])[] = [
  ['', 'all()', 's:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug'],
  [' (all() )', 'all()', 's:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug'],
  ['! (has( b)||! has(a ))', '!(has(b) || !has(a))', 's:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q'],
  ['! (a == "b"&&! c != "d")', '!(a == "b" && !c != "d")', 's:lh3haoY1ikTRkd4UZu0nWSaIBknYLPJLX16d-w'],
  ["a == '\"'", "a == '\"'"],
  ["a startswith 'x'", 'a starts with "x"'],
  ["a endswith 'x'", 'a ends with "x"'],
  ['a notin{"z","x",\'z\',}', 'a not in {"x", "z"}'],
  ['a in {"\u{1f600}", "\uffee", "a"}', 'a in {"a", "\uffee", "\u{1f600}"}'],
  ['a == "1" && b == "2" || has(c)', '((a == "1" && b == "2") || has(c))'],
  ['(a == "1" && b == "2") && has(c)', '((a == "1" && b == "2") && has(c))'],
  ['!(!has(a))', 'has(a)'],
];

for (const [text, expected, uid] of canonical) {
  test(`canonical form of ${JSON.stringify(text)}`, () => {
    const selector = parseSelector(text);
    assert.equal(selector.canonical, expected);
    assert.equal(parseSelector(expected).uid, selector.uid);
    if (uid) assert.equal(selector.uid, uid);
    assert.match(selector.uid, /^s:[\w-]{38}$/);
  });
}

test('SHA-224 agrees with the reference implementation', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (message) => {
      assert.deepEqual(Buffer.from(sha224(message)), createHash('sha224').update(message).digest());
    }),
  );
});

/** Any selector text, spelled with odd spacing. */
export const anySelector: fc.Arbitrary<string> = fc.letrec<{ expression: string }>((tie) => {
  const label = fc.constantFrom('a', 'b', 'c', 'in', 'x.y/z');
  const value = fc.constantFrom('""', '"1"', "'2'", '"12"', "'\"'");
  const space = fc.constantFrom('', ' ', '\t');
  const join = (...parts: fc.Arbitrary<string>[]): fc.Arbitrary<string> =>
    fc.tuple(...parts).map((strings) => strings.join(''));
  return {
    expression: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom('all()', 'has(a)', 'has( b )', '!has(c)'),
      join(label, fc.constantFrom(' == ', '!=', ' contains ', ' starts with', ' endswith '), value),
      join(
        label,
        fc.constantFrom(' in', ' not in ', ' notin'),
        space,
        fc.array(value).map((v) => `{${v.join(',')}}`),
      ),
      join(fc.constantFrom('!', '! ', '!!'), tie('expression')),
      join(
        fc.constant('('),
        space,
        tie('expression'),
        fc.constantFrom('&&', ' || '),
        tie('expression'),
        fc.constant(')'),
      ),
      join(tie('expression'), space, fc.constantFrom('&&', '||'), space, tie('expression')),
    ),
  };
}).expression;

const anyLabels = fc.dictionary(
  fc.constantFrom('a', 'b', 'c', 'in', 'x.y/z'),
  fc.constantFrom('', '1', '2', '12', '"'),
);

test('the canonical text is a fixpoint and means the same', () => {
  fc.assert(
    fc.property(anySelector, anyLabels, (text, labels) => {
      const selector = parseSelector(text);
      const again = parseSelector(selector.canonical);
      assert.equal(again.canonical, selector.canonical);
      assert.equal(again.matches(labels), selector.matches(labels));
    }),
  );
});

test('any text is a selector or a SelectorError with a position inside it', () => {
  const piece = fc.constantFrom(
    'has(',
    'all()',
    'global()',
    'in',
    'not',
    ' ',
    '\t',
    '{',
    '}',
    '(',
    ')',
    '"',
    "'",
    '==',
    '!=',
    '!',
    '&&',
    '||',
    '&',
    ',',
    'a',
    'é',
    '\u{1f600}',
    'starts with',
    'contains',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(piece).map((pieces) => pieces.join('')),
      ),
      (text) => {
        try {
          assert.equal(parseSelector(parseSelector(text).canonical).canonical, parseSelector(text).canonical);
        } catch (error) {
          assert.ok(error instanceof SelectorError, String(error));
          assert.ok(error.position >= 0 && error.position <= text.length);
        }
      },
    ),
    { numRuns: 500 },
  );
});
