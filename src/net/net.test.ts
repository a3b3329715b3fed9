import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { IpAddress } from './address.ts';
import { formatMac, parseMac } from './mac.ts';
import { Prefix } from './prefix.ts';
import { PrefixTrie } from './prefix-trie.ts';

const anyAddress = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map((b) => IpAddress.fromBytes(b));
const anyPrefix = fc
  .tuple(anyAddress, fc.nat(128))
  .map(([address, length]) => Prefix.of(address, length % (address.bytes.length * 8 + 1)));

describe('IpAddress', () => {
  it('prints as RFC 5952 says', () => {
    for (const [text, printed] of [
      ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
      ['2001:0db8::0001', '2001:db8::1'],
      ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
      ['::', '::'],
      ['::1', '::1'],
      ['1::', '1::'],
      ['::ffff:1.2.3.4', '::ffff:1.2.3.4'],
      ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
      ['10.0.0.1', '10.0.0.1'],
    ] as const) {
      assert.equal(IpAddress.parse(text).toString(), printed);
    }
  });
  it('refuses what is not an address', () => {
    for (const text of [
      '',
      '1.2.3',
      '1.2.3.4.5',
      '256.1.1.1',
      '01.2.3.4',
      '1.2.3.4 ',
      ':::',
      '1::2::3',
      '1:2:3:4:5:6:7:8:9',
      '1:2:3:4:5:6:7::8:9',
      'g::',
      '12345::',
      '1.2.3.4::',
      'fe80::1%eth0',
    ]) {
      assert.equal(IpAddress.tryParse(text), null, text);
    }
  });
  it('round trips through text and integers', () => {
    fc.assert(
      fc.property(anyAddress, (a) => {
        assert.ok(IpAddress.parse(a.toString()).equals(a));
        assert.ok(IpAddress.fromBigInt(a.family, a.toBigInt()).equals(a));
        assert.ok(a.plus(5).plus(-5).equals(a));
      }),
    );
  });
});

describe('Prefix', () => {
  it('names the masked form when host bits are set', () => {
    assert.throws(() => Prefix.parseStrict('10.1.2.3/16'), /host bits/);
    assert.equal(Prefix.parse('10.1.2.3/16').toString(), '10.1.0.0/16');
  });
  it('refuses nonsense', () => {
    for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/08', '/8', '::/129', 'x/8'])
      assert.equal(Prefix.tryParse(text), null, text);
  });
  it('contains what masking says', () => {
    fc.assert(
      fc.property(anyPrefix, anyAddress, (p, a) => {
        const expected = a.family === p.family && Prefix.of(a, p.length).equals(p);
        assert.equal(p.contains(a), expected);
        assert.ok(p.contains(p.first) && p.contains(p.last));
        assert.ok(Prefix.parse(p.toString()).equals(p));
      }),
    );
  });
});

describe('PrefixTrie', () => {
  it('agrees with a linear search', () => {
    fc.assert(
      fc.property(
        fc.array(anyPrefix, { maxLength: 60 }),
        fc.array(fc.nat(59)),
        anyAddress,
        (prefixes, removed, probe) => {
          const trie = new PrefixTrie<number>();
          const model = new Map<string, Prefix>();
          for (const [i, p] of prefixes.entries()) {
            trie.set(p, i);
            model.set(p.toString(), p);
          }
          for (const i of removed) {
            const p = prefixes[i];
            if (p) assert.equal(trie.delete(p), model.delete(p.toString()));
          }
          assert.equal(trie.size, model.size);
          const best = [...model.values()].filter((p) => p.contains(probe)).sort((a, b) => b.length - a.length)[0];
          assert.equal(trie.match(probe)?.prefix.toString(), best?.toString());
          assert.deepEqual(
            [...trie.entries()].map((e) => e.prefix.toString()).toSorted(),
            [...model.keys()].toSorted(),
          );
        },
      ),
    );
  });
});

describe('mac', () => {
  it('round trips and refuses', () => {
    assert.equal(formatMac(parseMac('EE:ee:00:01:02:ff')), 'ee:ee:00:01:02:ff');
    assert.throws(() => parseMac('ee:ee:ee'), /MAC/);
  });
});
