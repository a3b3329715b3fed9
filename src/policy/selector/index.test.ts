import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SelectorIndex } from './index.ts';
import { type Labels, parseSelector } from './selector.ts';

/** Follows the callbacks and refuses a start or stop that does not fit. */
function follow(): { index: SelectorIndex; pairs: Set<string>; events: string[] } {
  const pairs = new Set<string>();
  const events: string[] = [];
  const index = new SelectorIndex({
    matchStarted: (selector, item) => {
      assert.ok(!pairs.has(`${selector}|${item}`), 'started twice');
      pairs.add(`${selector}|${item}`);
      events.push(`+${selector}|${item}`);
    },
    matchStopped: (selector, item) => {
      assert.ok(pairs.delete(`${selector}|${item}`), 'stopped what had not started');
      events.push(`-${selector}|${item}`);
    },
  });
  return { index, pairs, events };
}

test('own labels win over inherited ones, and the first parent over the second', () => {
  const { index, pairs } = follow();
  index.setParent('p1', { role: 'one', zone: 'z1' });
  index.setParent('p2', { role: 'two', rack: 'r2' });
  index.addSelector('own', parseSelector('role == "own"'));
  index.addSelector('one', parseSelector('role == "one"'));
  index.addSelector('two', parseSelector('role == "two"'));
  index.addSelector('rack', parseSelector('rack == "r2"'));
  index.setItem('e', {}, ['p1', 'p2']);
  assert.deepEqual([...pairs].sort(), ['one|e', 'rack|e']);
  index.setItem('e', { role: 'own' }, ['p1', 'p2']);
  assert.deepEqual([...pairs].sort(), ['own|e', 'rack|e']);
  index.setItem('e', {}, ['p2', 'p1']);
  assert.deepEqual([...pairs].sort(), ['rack|e', 'two|e']);
  index.removeParent('p2');
  assert.deepEqual([...pairs], ['one|e']);
});

test('a replaced selector reports only what differs', () => {
  const { index, events } = follow();
  index.setItem('1', { a: 'x' });
  index.setItem('2', { a: 'y' });
  index.addSelector('s', parseSelector('a in {"x", "y"}'));
  events.length = 0;
  index.addSelector('s', parseSelector('a == "y"'));
  assert.deepEqual(events, ['-s|1']);
  assert.deepEqual([...index.itemsOf('s')], ['2']);
  assert.deepEqual([...index.selectorsOf('2')], ['s']);
});

const labels = fc.dictionary(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('', '1', '2'));
const selector = fc.constantFrom(
  'all()',
  'a == "1"',
  'a != "1"',
  'b in {"1","2"}',
  'b not in {"1"}',
  'has(c)',
  '!has(c)',
  'a == "1" && b == "2"',
  'a == "1" || c == "2"',
  'a == "1" || !has(b)',
  '!(a == "1" || has(b))',
  'a in {}',
  'has(a) && c == ""',
  'a starts with "1"',
);
const id = fc.constantFrom('0', '1', '2', '3');
const parents = fc.uniqueArray(fc.constantFrom('p', 'q'));
const step = fc.oneof(
  fc.tuple(fc.constant('selector' as const), id, fc.option(selector)),
  fc.tuple(fc.constant('item' as const), id, fc.option(fc.tuple(labels, parents))),
  fc.tuple(fc.constant('parent' as const), fc.constantFrom('p', 'q'), fc.option(labels)),
);

test('after any steps the index holds what a full comparison finds', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { index, pairs } = follow();
      const selectors = new Map<string, string>();
      const items = new Map<string, readonly [Labels, readonly string[]]>();
      const handed = new Map<string, Labels>();
      for (const [what, name, value] of steps) {
        if (what === 'selector') {
          if (value === null) index.removeSelector(name);
          else index.addSelector(name, parseSelector(value));
          if (value === null) selectors.delete(name);
          else selectors.set(name, value);
        } else if (what === 'item') {
          if (value === null) index.removeItem(name);
          else index.setItem(name, value[0], value[1]);
          if (value === null) items.delete(name);
          else items.set(name, value);
        } else {
          if (value === null) index.removeParent(name);
          else index.setParent(name, value);
          if (value === null) handed.delete(name);
          else handed.set(name, value);
        }
        const expected: string[] = [];
        for (const [selectorName, text] of selectors) {
          for (const [itemName, [own, from]] of items) {
            const all: Record<string, string> = {};
            for (const parent of from.toReversed()) Object.assign(all, handed.get(parent));
            if (parseSelector(text).matches({ ...all, ...own })) expected.push(`${selectorName}|${itemName}`);
          }
        }
        assert.deepEqual([...pairs].sort(), expected.sort());
      }
    }),
    { numRuns: 300 },
  );
});

test('a label change asks only the selectors near it', () => {
  let asked = 0;
  const index = new SelectorIndex({ matchStarted: () => {}, matchStopped: () => {} });
  for (let i = 0; i < 1000; i++) {
    const selector = parseSelector(`namespace == "default" && app == "app-${i}"`);
    const matchesLookup = selector.matchesLookup.bind(selector);
    selector.matchesLookup = (lookup) => {
      asked++;
      return matchesLookup(lookup);
    };
    index.addSelector(`s${i}`, selector);
  }
  index.setItem('e', { namespace: 'default', app: 'app-1' });
  asked = 0;
  index.setItem('e', { namespace: 'default', app: 'app-2' });
  assert.ok(asked <= 4, `${asked} selectors were asked`);
  assert.deepEqual([...index.selectorsOf('e')], ['s2']);
});
