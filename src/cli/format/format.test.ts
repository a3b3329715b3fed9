import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatAge } from './age.ts';
import { diffLines, unifiedDiff } from './diff.ts';
import { displayWidth, formatTable } from './table.ts';
import { asDocument, toYaml } from './yaml.ts';

describe('formatTable', () => {
  it('aligns by what is seen and leaves no blanks at the end', () => {
    assert.equal(
      formatTable(
        ['NAME', 'N', 'X'],
        [
          ['日本', '5', ''],
          ['\u001b[31ma\u001b[0m', '10', 'e\u0301'],
        ],
        { right: [1] },
      ),
      ['NAME    N   X', '日本    5', '\u001b[31ma\u001b[0m      10   e\u0301'].join('\n'),
    );
    assert.equal(formatTable(['A'], [], { headless: true }), '');
    assert.equal(displayWidth('🦊'), 2);
  });
  it('keeps a cell on its line', () => {
    assert.equal(formatTable(['A'], [['x\ny\u001b]0;t\u0007']]), 'A\nx y ]0;t');
  });
});

describe('formatAge', () => {
  it('says it as kubectl does', () => {
    const s = 1000;
    const m = 60 * s;
    const h = 60 * m;
    const d = 24 * h;
    for (const [ms, text] of [
      [-5, '0s'],
      [0, '0s'],
      [119 * s, '119s'],
      [3 * m + 12 * s, '3m12s'],
      [25 * m, '25m'],
      [4 * h + 10 * m, '4h10m'],
      [12 * h, '12h'],
      [3 * d + 4 * h, '3d4h'],
      [40 * d, '40d'],
      [800 * d, '2y70d'],
      [Number.NaN, '?'],
    ] as const) {
      assert.equal(formatAge(ms), text);
    }
  });
});

describe('yaml', () => {
  it('puts fields in the usual order and several resources into a list', () => {
    const resource = {
      spec: {},
      metadata: { resourceVersion: '1', labels: {}, name: 'a' },
      kind: 'K',
      apiVersion: 'v',
    };
    assert.equal(
      toYaml(asDocument([resource], true)),
      'apiVersion: v\nkind: K\nmetadata:\n  name: a\n  labels: {}\n  resourceVersion: "1"\nspec: {}\n',
    );
    assert.match(toYaml(asDocument([resource], false)), /^apiVersion: v1\nkind: List\nitems:\n {2}- apiVersion: v\n/);
  });
});

describe('unifiedDiff', () => {
  it('is what diff -u says', () => {
    const before = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', ''].join('\n');
    const after = before.replace('b\n', 'B\n').replace('l\n', 'l\nm\n');
    assert.equal(
      unifiedDiff(before, after, ['x', 'y']),
      '--- x\n+++ y\n@@ -1,5 +1,5 @@\n a\n-b\n+B\n c\n d\n e\n@@ -10,3 +10,4 @@\n j\n k\n l\n+m\n',
    );
    assert.equal(unifiedDiff('', 'a\n', ['x', 'y']), '--- x\n+++ y\n@@ -0,0 +1,1 @@\n+a\n');
    assert.equal(unifiedDiff('a\n', 'a\n', ['x', 'y']), '');
  });
  it('leads from one text to the other', () => {
    const text = fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 12 });
    fc.assert(
      fc.property(text, text, (a, b) => {
        const lines = diffLines(a.join('\n'), b.join('\n'));
        const side = (not: string) => lines.filter((line) => line.sign !== not).map((line) => line.text);
        assert.deepEqual(side('+'), a);
        assert.deepEqual(side('-'), b);
      }),
    );
  });
});
