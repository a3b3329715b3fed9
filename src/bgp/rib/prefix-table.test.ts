import assert from 'node:assert/strict';
import test from 'node:test';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { NlriColumns } from '#bgp/wire/nlri.ts';
import { Ipv4PrefixTable, Ipv6PrefixTable, NO_PREFIX, type PrefixTable } from './prefix-table.ts';

/** A generator of numbers that is the same in every run. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 8; // the low bits repeat soon
  };
}

function randomPrefix(next: () => number, family: 4 | 6): Prefix {
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (next() >>> 16) & (i < 2 ? 3 : 255); // many neighbours
  return Prefix.of(IpAddress.fromBytes(bytes), next() % (bytes.length * 8 + 1));
}

for (const [family, make] of [
  [4, () => new Ipv4PrefixTable()],
  [6, () => new Ipv6PrefixTable()],
] as const) {
  test(`IPv${family}: insertion, lookup and removal agree with a map while the table grows and shrinks`, () => {
    const table: PrefixTable = make();
    const scratch = new NlriColumns(1);
    const model = new Map<string, { prefix: Prefix; row: number }>();
    const next = numbers(family);
    const kept: Prefix[] = [];
    for (let i = 0; i < 60_000; i++) {
      if (next() % 3 !== 0 || kept.length === 0) {
        const prefix = i < 40_000 || kept.length === 0 ? randomPrefix(next, family) : kept[next() % kept.length]!;
        const row = table.insertPrefix(prefix, scratch);
        const known = model.get(prefix.toString());
        if (known) assert.equal(row, known.row);
        else {
          model.set(prefix.toString(), { prefix, row });
          kept.push(prefix);
        }
      } else {
        const at = next() % kept.length;
        const prefix = kept[at]!;
        kept[at] = kept.at(-1)!;
        kept.pop();
        table.remove(model.get(prefix.toString())!.row);
        model.delete(prefix.toString());
        assert.equal(table.findPrefix(prefix, scratch), NO_PREFIX);
      }
    }
    assert.equal(table.count, model.size);
    const rows = new Set<number>();
    for (const { prefix, row } of model.values()) {
      assert.equal(table.findPrefix(prefix, scratch), row);
      assert.equal(table.prefix(row).toString(), prefix.toString());
      rows.add(row);
    }
    assert.equal(rows.size, model.size);
  });
}

test('all lengths of one address are different prefixes', () => {
  for (const [table, address] of [
    [new Ipv4PrefixTable(), '255.255.255.255'],
    [new Ipv6PrefixTable(), 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ] as const) {
    const scratch = new NlriColumns(1);
    const ip = IpAddress.parse(address);
    const rows = new Set<number>();
    for (let bits = 0; bits <= ip.bytes.length * 8; bits++) rows.add(table.insertPrefix(Prefix.of(ip, bits), scratch));
    assert.equal(rows.size, ip.bytes.length * 8 + 1);
  }
});
