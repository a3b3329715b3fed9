import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatAge } from './age.ts';
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
