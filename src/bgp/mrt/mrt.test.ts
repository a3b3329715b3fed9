// MRT records: known octets, round trips, cut and mutated files.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isBrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { makeAttributes } from '#bgp/wire/attributes.ts';
import { encodeKeepalive } from '#bgp/wire/message.ts';
import { decodeRecord, MrtReader, ribAttributes } from './reader.ts';
import type { MrtRecord, WritableRecord } from './records.ts';
import { encodeRecord, encodeRibAttributes } from './writer.ts';

const TIME = { seconds: 0x65000000, microseconds: null };
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
const address = (text: string): IpAddress => IpAddress.parse(text);

const attributes4 = makeAttributes({
  asPath: [{ type: 'sequence', asns: [65010, 4200000001] }],
  nextHop: address('192.0.2.1'),
  med: 5,
  localPref: 100,
  communities: [0xfde80001],
});
const attributes6 = makeAttributes({
  origin: 2,
  nextHop: address('2001:db8::1'),
  linkLocalNextHop: address('fe80::1'),
});
const session = {
  peerAs: 4200000001,
  localAs: 65001,
  interfaceIndex: 3,
  peerAddress: address('2001:db8::2'),
  localAddress: address('2001:db8::1'),
};
const RECORDS: readonly WritableRecord[] = [
  {
    type: 'peer-index-table',
    time: TIME,
    collector: 0x0a090001,
    viewName: 'main',
    peers: [
      { routerId: 0x0a090002, address: address('10.9.0.2'), asNumber: 65002 },
      { routerId: 0, address: address('2001:db8::2'), asNumber: 4200000001 },
    ],
  },
  {
    type: 'rib',
    time: TIME,
    sequence: 7,
    prefix: Prefix.parse('10.1.128.0/17'),
    addPath: false,
    entries: [
      { peerIndex: 1, originated: 12, pathId: 0, attributes: encodeRibAttributes(attributes4, 'ipv4') },
      { peerIndex: 0, originated: 13, pathId: 0, attributes: encodeRibAttributes(makeAttributes({}), 'ipv4') },
    ],
  },
  {
    type: 'rib',
    time: TIME,
    sequence: 8,
    prefix: Prefix.parse('2001:db8:1::/48'),
    addPath: true,
    entries: [{ peerIndex: 1, originated: 12, pathId: 9, attributes: encodeRibAttributes(attributes6, 'ipv6') }],
  },
  {
    type: 'message',
    time: { seconds: 9, microseconds: 999_999 },
    as4: true,
    addPath: false,
    local: true,
    ...session,
    message: encodeKeepalive(),
  },
  { type: 'message', time: TIME, as4: true, addPath: true, local: false, ...session, message: encodeKeepalive() },
  { type: 'state-change', time: { seconds: 9, microseconds: 1 }, as4: true, ...session, from: 5, to: 6 },
];

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** A record with views turned into copies, so that deepEqual looks at octets only. */
function plain(record: MrtRecord): unknown {
  return JSON.parse(
    JSON.stringify(record, (_key, value: unknown) => {
      if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
      return value instanceof IpAddress || value instanceof Prefix ? value.toString() : value;
    }),
  );
}

describe('MRT', () => {
  it('writes the octets of RFC 6396', () => {
    const table = encodeRecord({
      type: 'peer-index-table',
      time: TIME,
      collector: 0x0a090001,
      viewName: '',
      peers: [{ routerId: 0x0a090002, address: address('10.9.0.2'), asNumber: 65002 }],
    });
    assert.deepEqual(table, hex('65000000 000d 0001 00000015  0a090001 0000 0001  02 0a090002 0a090002 0000fdea'));
    const route = encodeRecord({
      type: 'rib',
      time: TIME,
      sequence: 1,
      prefix: Prefix.parse('2001:db8::/32'),
      addPath: false,
      entries: [
        {
          peerIndex: 0,
          originated: 2,
          pathId: 0,
          attributes: encodeRibAttributes(makeAttributes({ nextHop: address('2001:db8::1') }), 'ipv6'),
        },
      ],
    });
    assert.deepEqual(
      route,
      hex(`65000000 000d 0004 0000002e 00000001 20 20010db8 0001 0000 00000002 001b
           40 01 01 00  40 02 00  80 0e 11 10 20010db8000000000000000000000001`),
    );
  });

  it('reads what it writes, in any cut', () => {
    const file = concat(RECORDS.map(encodeRecord));
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 30 }), (cuts) => {
        const reader = new MrtReader();
        const seen: unknown[] = [];
        let at = 0;
        for (let i = 0; at < file.length; i++) {
          const next = at + cuts[i % cuts.length]!;
          for (const record of reader.push(file.subarray(at, next))) seen.push(plain(record));
          at = next;
        }
        reader.end();
        assert.deepEqual(seen, RECORDS.map(plain));
      }),
      { numRuns: 50 },
    );
  });

  it('gives the attributes back, whichever form MP_REACH_NLRI has', () => {
    assert.deepEqual(
      ribAttributes({ attributes: encodeRibAttributes(attributes4, 'ipv4') }, 'ipv4').attributes,
      attributes4,
    );
    assert.deepEqual(
      ribAttributes({ attributes: encodeRibAttributes(attributes6, 'ipv6') }, 'ipv6').attributes,
      attributes6,
    );
    const over6 = makeAttributes({ nextHop: address('2001:db8::1') });
    assert.deepEqual(ribAttributes({ attributes: encodeRibAttributes(over6, 'ipv4') }, 'ipv4').attributes, over6);
    const whole = hex('40010100 400200 800e1a 0002 01 10 20010db8000000000000000000000001 00 2020010db8');
    assert.deepEqual(ribAttributes({ attributes: whole }, 'ipv6').attributes, over6);
    for (const family of ['ipv4', 'ipv6'] as const) {
      const own = ribAttributes({ attributes: encodeRibAttributes(makeAttributes({}), family) }, family);
      assert.deepEqual([own.verdict, own.attributes], [0, makeAttributes({})]);
    }
  });

  it('reads peers with 2-octet AS numbers and passes over types it does not know', () => {
    const table = decodeRecord(hex('00000001 000d 0001 00000013  0a090001 0000 0001  00 0a090002 0a090002 fdea'));
    assert.equal(table.type === 'peer-index-table' && table.peers[0]?.asNumber, 65002);
    assert.equal(decodeRecord(hex('00000001 000b 0000 00000002 abcd')).type, 'other');
  });

  it('tells of records that are wrong inside, and of files that cannot be followed', () => {
    const long = decodeRecord(hex('00000001 000d 0002 00000007 00000001 21 0000'));
    assert.equal(long.type === 'malformed' && long.reason, 'prefix length 33');
    const reader = new MrtReader();
    assert.throws(() => [...reader.push(hex('00000001 000d 0002 7fffffff'))], { code: 'corrupt' });
    const cut = new MrtReader();
    assert.deepEqual([...cut.push(hex('00000001 000d 0002 00000007 00'))], []);
    assert.throws(() => cut.end(), { code: 'corrupt' });
  });

  it('survives mutated files', () => {
    const file = concat(RECORDS.map(encodeRecord));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(file.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        fc.nat(file.length),
        (changes, length) => {
          const mutated = file.slice(0, length);
          for (const [at, octet] of changes) if (at < length) mutated[at] = octet;
          const reader = new MrtReader();
          try {
            for (const record of reader.push(mutated)) {
              if (record.type !== 'rib') continue;
              const family = record.prefix.family === 4 ? 'ipv4' : 'ipv6';
              for (const entry of record.entries) ribAttributes(entry, family);
            }
            reader.end();
          } catch (error) {
            if (!isBrindleError(error)) throw error;
          }
        },
      ),
      { numRuns: 3000 },
    );
  });
});
