import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type { SetSpec } from '../objects.ts';
import { decodeIntervals, decodeKey, encodeElement, keyFromType, keyLength, keyType } from './elements.ts';

const PORTS: SetSpec = { name: 'p', key: ['ipv4', 'protocol', 'port'] };
const NETS: SetSpec = { name: 'n', key: ['ipv4'], interval: true };

describe('elements of sets', () => {
  it('are laid out as the kernel wants them', () => {
    assert.deepEqual([...encodeElement(PORTS, '10.0.0.1 . 6 . 258')[0]!.key], [10, 0, 0, 1, 6, 0, 0, 0, 1, 2, 0, 0]);
    assert.equal(keyType(PORTS.key), 0x730d);
    assert.equal(keyLength(['port']), 2);
    assert.deepEqual(keyFromType(0x730d), PORTS.key);
    assert.equal(keyFromType(5), null);
    const name = encodeElement({ name: 'm', key: ['interface'], verdicts: true }, 'cali1')[0]!.key;
    assert.equal(name.length, 16);
    assert.equal(decodeKey(['interface'], name), 'cali1');
    assert.equal(decodeKey(PORTS.key, encodeElement(PORTS, '10.0.0.1 . 17 . 53')[0]!.key), '10.0.0.1 . 17 . 53');
  });

  it('have two ends where they are intervals, but for the one that reaches the last address', () => {
    assert.deepEqual(
      encodeElement(NETS, '10.0.0.0/8').map((e) => [[...e.key], e.isEnd]),
      [
        [[10, 0, 0, 0], false],
        [[11, 0, 0, 0], true],
      ],
    );
    assert.equal(encodeElement(NETS, '255.0.0.0/8').length, 1);
    assert.equal(encodeElement(NETS, '0.0.0.0/0').length, 1);
  });

  it('come back as the CIDRs that went in, adjacent ones too', () => {
    const cidr = fc
      .tuple(fc.integer({ min: 0, max: 0xffffffff }), fc.integer({ min: 1, max: 32 }))
      .map(([value, length]) => Prefix.of(IpAddress.fromUint32(value), length));
    fc.assert(
      fc.property(fc.array(cidr, { maxLength: 12 }), (prefixes) => {
        const apart: Prefix[] = [];
        for (const prefix of prefixes) {
          for (const p of [prefix, Prefix.of(prefix.last.plus(1), prefix.length)]) {
            if (!apart.some((other) => other.overlaps(p))) apart.push(p);
          }
        }
        const texts = apart.map((p) => (p.isHost() ? p.address.toString() : p.toString()));
        const elements = texts.flatMap((text) => encodeElement(NETS, text)).reverse();
        assert.deepEqual(decodeIntervals(elements)?.sort(), texts.sort());
      }),
    );
    const odd = [encodeElement(NETS, '10.0.0.0/31')[0]!, encodeElement(NETS, '10.0.0.2')[1]!];
    assert.equal(decodeIntervals(odd), null);
  });
});
