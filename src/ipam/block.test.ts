import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { AddressBlock } from './block.ts';
import { blockName, candidateBlocks } from './candidates.ts';

describe('AddressBlock', () => {
  it('gives every address once, then none', () => {
    for (const cidr of ['10.0.0.64/26', 'fd00::40/122']) {
      const block = new AddressBlock(Prefix.parse(cidr), 'p');
      const seen = new Set<string>();
      for (let i = 0; i < 64; i++) seen.add(String(block.take('a', 0, 0)));
      assert.equal(seen.size, 64);
      assert.ok([...seen].every((text) => text !== 'null'));
      assert.equal(block.take('a', 0, 0), null);
      assert.equal(block.used, 64);
    }
  });

  it('reuses the longest idle address first and not before the cooldown', () => {
    const block = new AddressBlock(Prefix.parse('10.0.0.0/30'), 'p');
    const taken = Array.from({ length: 4 }, () => block.take('a', 0, 0)!);
    block.free(taken[2]!, 'a', 1000);
    block.free(taken[0]!, 'a', 2000);
    assert.equal(block.take('b', 2500, 5000), null);
    assert.equal(block.take('b', 6000, 5000)?.toString(), '10.0.0.2');
    assert.equal(block.take('b', 6999, 5000), null);
    assert.equal(block.take('b', 7000, 5000)?.toString(), '10.0.0.0');
  });

  it('does not give out what is held back, nor take back from a stranger', () => {
    const block = new AddressBlock(Prefix.parse('10.0.0.0/32'), 'p');
    const address = block.take('a', 0, 0)!;
    assert.equal(block.free(address, 'b', 1), false);
    assert.equal(block.free(address, 'a', 1, true), true);
    assert.equal(block.take('b', 1e9, 0), null);
    assert.equal(block.claim(address, 'b'), false);
    assert.equal(block.isEmpty, false);
    block.thaw(address, 5);
    assert.equal(block.isEmpty, true);
    assert.ok(block.claim(address, 'b'));
  });

  it('agrees with a model', () => {
    const step = fc.record({
      what: fc.constantFrom('take', 'free', 'claim'),
      which: fc.nat(7),
      owner: fc.constantFrom('a', 'b'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const cidr = Prefix.parse('fd00::8/125');
        const block = new AddressBlock(cidr, 'p');
        const model = new Map<string, string>();
        let now = 1;
        for (const { what, which, owner } of steps) {
          now++;
          const address: IpAddress = cidr.first.plus(which);
          if (what === 'take') {
            const got = block.take(owner, now, 0);
            assert.equal(got === null, model.size === 8);
            if (got) {
              assert.ok(!model.has(got.toString()) && cidr.contains(got));
              model.set(got.toString(), owner);
            }
          } else if (what === 'claim') {
            assert.equal(block.claim(address, owner), !model.has(address.toString()));
            if (!model.has(address.toString())) model.set(address.toString(), owner);
          } else if (block.free(address, owner, now)) {
            assert.equal(model.get(address.toString()), owner);
            model.delete(address.toString());
          } else assert.notEqual(model.get(address.toString()), owner);
          assert.equal(block.used, model.size);
          assert.equal(block.available(now, 0), 8 - model.size);
        }
        for (const { address, owner } of block.owners()) assert.equal(model.get(address.toString()), owner);
      }),
    );
  });
});

describe('candidateBlocks', () => {
  it('visits each block once, in an order of its own for each host', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), fc.nat(8), (host, bits) => {
        const pool = Prefix.parse(`10.0.0.0/${26 - bits}`);
        const seen = [...candidateBlocks(pool, 26, host)].map(String);
        assert.equal(new Set(seen).size, 1 << bits);
        assert.ok(seen.every((text) => pool.covers(Prefix.parse(text))));
      }),
    );
    const first = (host: string): string => String(candidateBlocks(Prefix.parse('fd00::/48'), 122, host).next().value);
    assert.notEqual(first('h1'), first('h2'));
  });

  it('names a block after its CIDR', () => {
    assert.equal(blockName(Prefix.parse('10.244.0.64/26')), '10-244-0-64-26');
    assert.equal(blockName(Prefix.parse('fd00:10::40/122')), 'fd00-10--40-122');
  });
});
