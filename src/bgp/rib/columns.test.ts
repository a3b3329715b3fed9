import assert from 'node:assert/strict';
import test from 'node:test';
import { grown, nextCapacity, RowQueue } from './columns.ts';
import { OctetArena } from './octet-arena.ts';

test('a row is queued once, keeps its place, and can be queued again when it is out', () => {
  const queue = new RowQueue();
  for (const row of [5, 3, 5, 9, 3]) queue.push(row);
  assert.equal(queue.length, 3);
  assert.equal(queue.shift(), 5);
  assert.equal(queue.push(5), true);
  assert.deepEqual([queue.shift(), queue.shift(), queue.shift(), queue.shift()], [3, 9, 5, 0]);
});

test('a queue keeps its order over growth, wherever its beginning is', () => {
  const queue = new RowQueue();
  let out = 1;
  let into = 1;
  for (let turn = 0; turn < 2000; turn++) {
    for (let i = 0; i < 9; i++) queue.push(into++);
    for (let i = 0; i < 4; i++) assert.equal(queue.shift(), out++);
  }
  while (queue.length > 0) assert.equal(queue.shift(), out++);
  assert.equal(out, into);
});

test('capacities grow to what is needed and columns keep what they hold', () => {
  assert.equal(nextCapacity(64, 65) > 64, true);
  assert.equal(nextCapacity(64, 5_000_000) >= 5_000_000, true);
  const column = grown(Uint16Array.of(1, 2, 3), 8);
  assert.deepEqual([...column], [1, 2, 3, 0, 0, 0, 0, 0]);
});

test('the arena gives back what was stored, and uses freed room again', () => {
  const arena = new OctetArena(16);
  const text = (n: number): Uint8Array => Uint8Array.from({ length: n % 100 }, (_, i) => (n + i) & 255);
  const offsets = Array.from({ length: 500 }, (_, n) => arena.store(text(n), 0, text(n).length));
  const same = (n: number): boolean => text(n).every((octet, i) => arena.bytes[offsets[n]! + i] === octet);
  assert.equal(
    offsets.every((_, n) => same(n)),
    true,
  );
  const { size } = arena;
  for (let n = 0; n < 500; n += 2) arena.release(offsets[n]!, text(n).length);
  for (let n = 0; n < 500; n += 2) offsets[n] = arena.store(text(n), 0, text(n).length);
  assert.equal(arena.size, size);
  assert.equal(
    offsets.every((_, n) => same(n)),
    true,
  );
});
