import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DeltaTracker } from './delta-tracker.ts';

const updates = <K, V>(t: DeltaTracker<K, V>) => [...t.pendingUpdates()].map((u) => [u.key, u.desired] as [K, V]);
const deletes = <K, V>(t: DeltaTracker<K, V>) => [...t.pendingDeletes()].map((d) => d.key);

const byText = (a: unknown, b: unknown) => (String(a) < String(b) ? -1 : 1);

describe('DeltaTracker', () => {
  it('reports what is absent, different and superfluous', () => {
    const t = new DeltaTracker<string, number>();
    t.desired.set('a', 1);
    t.desired.set('b', 2);
    t.actual.replaceAll([
      ['b', 3],
      ['c', 4],
    ]);
    assert.deepEqual(
      [...t.pendingUpdates()],
      [
        { key: 'a', desired: 1, actual: undefined },
        { key: 'b', desired: 2, actual: 3 },
      ],
    );
    assert.deepEqual([...t.pendingDeletes()], [{ key: 'c', actual: 4 }]);
    assert.equal(t.isPending('b'), true);
    assert.equal(t.isPending('x'), false);
  });

  it('lets the owner tick work off while iterating', () => {
    const t = new DeltaTracker<string, number>();
    for (let i = 0; i < 10; i++) t.desired.set(`d${i}`, i);
    for (let i = 0; i < 10; i++) t.actual.set(`a${i}`, i);
    for (const u of t.pendingUpdates()) t.actual.set(u.key, u.desired);
    for (const d of t.pendingDeletes()) t.actual.delete(d.key);
    assert.ok(t.isInSync());
    assert.equal(t.actual.size, 10);
  });

  it('uses the given equality', () => {
    const t = new DeltaTracker<string, { v: number }>((x, y) => x.v === y.v);
    t.desired.set('a', { v: 1 });
    t.actual.set('a', { v: 1 });
    assert.ok(t.isInSync());
  });

  it('sees drift after it was in sync', () => {
    const t = new DeltaTracker<string, number>();
    t.desired.set('a', 1);
    t.actual.set('a', 1);
    t.actual.delete('a');
    assert.deepEqual(updates(t), [['a', 1]]);
    t.actual.set('a', 1);
    t.desired.delete('a');
    assert.deepEqual(deletes(t), ['a']);
  });

  it('agrees with a full comparison after any sequence of operations', () => {
    const key = fc.constantFrom('a', 'b', 'c', 'd');
    const value = fc.integer({ min: 0, max: 2 });
    const side = fc.constantFrom('desired' as const, 'actual' as const);
    const operation = fc.oneof(
      fc.record({ op: fc.constant('set' as const), side, key, value }),
      fc.record({ op: fc.constant('delete' as const), side, key }),
      fc.record({ op: fc.constant('replaceAll' as const), side, entries: fc.array(fc.tuple(key, value)) }),
    );
    fc.assert(
      fc.property(fc.array(operation), (operations) => {
        const t = new DeltaTracker<string, number>();
        const model = { desired: new Map<string, number>(), actual: new Map<string, number>() };
        for (const o of operations) {
          if (o.op === 'set') {
            t[o.side].set(o.key, o.value);
            model[o.side].set(o.key, o.value);
          } else if (o.op === 'delete') {
            t[o.side].delete(o.key);
            model[o.side].delete(o.key);
          } else {
            t[o.side].replaceAll(o.entries);
            model[o.side] = new Map(o.entries);
          }
        }
        const wantUpdates = [...model.desired].filter(([k, v]) => model.actual.get(k) !== v);
        const wantDeletes = [...model.actual.keys()].filter((k) => !model.desired.has(k));
        assert.deepEqual(updates(t).sort(byText), wantUpdates.sort(byText));
        assert.deepEqual(deletes(t).sort(byText), wantDeletes.sort(byText));
        assert.deepEqual(new Map(t.desired), model.desired);
        assert.deepEqual(new Map(t.actual), model.actual);
      }),
    );
  });
});
