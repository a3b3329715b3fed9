import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { IpAddress } from '#net/address.ts';
import { AS_TRANS, decodeAttributes, encodeAttributes, makeAttributes, mergeAs4Path } from './attributes.ts';
import { type Capabilities, NO_CAPABILITIES } from './capabilities.ts';
import {
  decodeRouteRefresh,
  encodeEndOfRib,
  encodeKeepalive,
  encodeRouteRefresh,
  frame,
  Framer,
  MSG_OPEN,
  type ProtocolError,
} from './message.ts';
import { decodeNlri, encodeIpv4Nlri, encodeIpv6Nlri, NlriColumns } from './nlri.ts';
import {
  decodeNotification,
  encodeNotification,
  hardReset,
  notificationText,
  shutdownData,
  shutdownText,
} from './notification.ts';
import { decodeOpen, encodeOpen, isProtocolError, negotiate, type OpenMessage } from './open.ts';
import { type AsPathSegment, type CodecSession, EMPTY_BYTES, type PathAttributes, STORAGE_SESSION } from './types.ts';
import { attributeKey, splitUpdate, UpdateView } from './update.ts';

/** Objects with the usual prototype, so that they compare equal to decoded ones. */
const record = <T extends object>(members: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(members).map((made): T => ({ ...made }));
const u32 = fc.nat(0xffffffff);
const asn = fc.integer({ min: 1, max: 0xffffffff });
const segment: fc.Arbitrary<AsPathSegment> = record({
  type: fc.constantFrom('set' as const, 'sequence' as const),
  asns: fc.array(asn, { minLength: 1, maxLength: 6 }),
});
const v4 = fc
  .tuple(fc.integer({ min: 1, max: 126 }), fc.nat(255), fc.nat(255), fc.nat(255))
  .map((b) => IpAddress.parse(b.join('.')));
const v6 = fc
  .uint8Array({ minLength: 14, maxLength: 14 })
  .map((b) => IpAddress.fromBytes(Uint8Array.from([0x20, 1, ...b])));
const unique = <T>(items: T[]): T[] => [...new Map(items.map((i) => [JSON.stringify(i), i])).values()];
const compare = (a: readonly number[], b: readonly number[]): number => {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
};
const attributes: fc.Arbitrary<PathAttributes> = record({
  origin: fc.constantFrom(0 as const, 1 as const, 2 as const),
  asPath: fc.array(segment, { maxLength: 3 }),
  nextHop: v4,
  linkLocalNextHop: fc.constant(null),
  med: fc.option(u32),
  localPref: fc.option(u32),
  atomicAggregate: fc.boolean(),
  aggregator: fc.option(record({ asn, address: u32 })),
  communities: fc.array(u32, { maxLength: 80 }).map((c) => unique(c).sort((a, b) => a - b)),
  extendedCommunities: fc.array(fc.tuple(u32, u32), { maxLength: 5 }).map((c) => unique(c).sort(compare)),
  largeCommunities: fc.array(fc.tuple(u32, u32, u32), { maxLength: 5 }).map((c) => unique(c).sort(compare)),
  originatorId: fc.option(u32),
  clusterList: fc.array(u32, { maxLength: 4 }),
  unknown: fc
    .array(
      record({
        flags: fc.constant(0xe0),
        code: fc.integer({ min: 40, max: 120 }),
        value: fc.uint8Array({ maxLength: 300 }),
      }),
      {
        maxLength: 3,
      },
    )
    .map((list) => [...new Map(list.map((a) => [a.code, a])).values()].sort((a, b) => a.code - b.code)),
});

function joined(path: readonly AsPathSegment[]): string {
  // Neighbouring sequences may be merged by the AS4 rules; their content may not change.
  return path.flatMap((s) => (s.type === 'sequence' ? s.asns.map(String) : [`{${s.asns.join(',')}}`])).join(' ');
}

describe('path attributes', () => {
  it('read back as they were written', () => {
    fc.assert(
      fc.property(attributes, (a) => {
        const octets = encodeAttributes(a, STORAGE_SESSION, 'attribute');
        const read = decodeAttributes(octets, 0, octets.length, STORAGE_SESSION);
        assert.deepEqual(read.errors, []);
        assert.deepEqual(read.attributes, a);
      }),
    );
  });

  it('carry IPv6 next hops, with a link-local one or without', () => {
    fc.assert(
      fc.property(attributes, v6, fc.boolean(), (a, nextHop, withLocal) => {
        const linkLocalNextHop = withLocal ? IpAddress.parse('fe80::7') : null;
        const octets = encodeAttributes({ ...a, nextHop, linkLocalNextHop }, STORAGE_SESSION, 'ipv6');
        const read = decodeAttributes(octets, 0, octets.length, STORAGE_SESSION);
        assert.deepEqual(read.attributes, { ...a, nextHop, linkLocalNextHop });
      }),
    );
  });

  it('survive a speaker of 2-octet AS numbers (RFC 6793)', () => {
    const session: CodecSession = { ...STORAGE_SESSION, as4: false };
    fc.assert(
      fc.property(attributes, (a) => {
        const octets = encodeAttributes(a, session, 'attribute');
        const read = decodeAttributes(octets, 0, octets.length, session).attributes!;
        assert.equal(joined(read.asPath), joined(a.asPath));
        assert.deepEqual(read.aggregator, a.aggregator);
      }),
    );
  });

  it('merges AS4_PATH as RFC 6793 4.2.3 says', () => {
    const seq = (...asns: number[]): AsPathSegment => ({ type: 'sequence', asns });
    const merged = (path: AsPathSegment[], as4: AsPathSegment[]): string => joined(mergeAs4Path(path, as4));
    assert.equal(merged([seq(1, AS_TRANS, AS_TRANS)], [seq(70000, 80000)]), '1 70000 80000');
    assert.equal(merged([seq(1)], [seq(70000, 80000)]), '1'); // longer than AS_PATH: not believed
    assert.equal(
      merged([seq(1, 2), { type: 'set', asns: [3, 4] }], [{ type: 'set', asns: [70003, 4] }]),
      '1 2 {70003,4}',
    );
    assert.equal(merged([seq(1)], []), '1');
  });

  it('ignores the AS4 attributes when an old speaker has aggregated', () => {
    const old = makeAttributes({ nextHop: IpAddress.parse('10.0.0.1'), asPath: [{ type: 'sequence', asns: [70000] }] });
    const session: CodecSession = { ...STORAGE_SESSION, as4: false };
    const octets = [...encodeAttributes(old, session, 'attribute')];
    octets.push(0xc0, 7, 6, 0, 5, 1, 1, 1, 1, 0xc0, 18, 8, 0, 1, 0x11, 0x70, 2, 2, 2, 2);
    const { attributes: read } = decodeAttributes(Uint8Array.from(octets), 0, octets.length, session);
    assert.equal(joined(read!.asPath), String(AS_TRANS));
    assert.deepEqual(read!.aggregator, { asn: 5, address: 0x01010101 });
  });

  it('leave out towards an external peer what is not for it', () => {
    const a = makeAttributes({
      nextHop: IpAddress.parse('10.0.0.1'),
      localPref: 100,
      originatorId: 7,
      clusterList: [8],
      extendedCommunities: [
        [0x40040000, 1],
        [0x00020000, 2],
      ],
    });
    const session: CodecSession = { ...STORAGE_SESSION, external: true };
    const octets = encodeAttributes(a, session, 'attribute');
    const read = decodeAttributes(octets, 0, octets.length, STORAGE_SESSION).attributes!;
    assert.equal(read.localPref, null);
    assert.equal(read.originatorId, null);
    assert.deepEqual(read.clusterList, []);
    assert.deepEqual(read.extendedCommunities, [[0x00020000, 2]]);
  });
});

describe('prefixes', () => {
  it('read back as they were written, with identifiers and without', () => {
    const prefix = record({ words: fc.tuple(u32, u32, u32, u32), bits: fc.nat(128), id: u32 });
    fc.assert(
      fc.property(fc.array(prefix, { maxLength: 40 }), fc.boolean(), (prefixes, addPath) => {
        const buf = new Uint8Array(2000);
        const mask = (word: number, kept: number): number =>
          kept <= 0 ? 0 : kept >= 32 ? word : (word & (-1 << (32 - kept))) >>> 0;
        for (const family of ['ipv4', 'ipv6'] as const) {
          let end = 0;
          for (const { words, bits, id } of prefixes) {
            const pathId = addPath ? id : null;
            if (family === 'ipv4') end = encodeIpv4Nlri(buf, end, words[0], bits % 33, pathId);
            else end = encodeIpv6Nlri(buf, end, ...words, bits, pathId);
          }
          const out = new NlriColumns(2);
          assert.ok(decodeNlri(family, buf, 0, end, addPath, out));
          assert.equal(out.count, prefixes.length);
          for (const [i, { words, bits, id }] of prefixes.entries()) {
            const length = family === 'ipv4' ? bits % 33 : bits;
            assert.equal(out.bits[i], length);
            assert.equal(out.pathId[i], addPath ? id : 0);
            assert.equal(out.word0[i], mask(words[0], length));
            if (family === 'ipv6') assert.equal(out.word3[i], mask(words[3], length - 96));
          }
        }
      }),
    );
  });
});

describe('framing', () => {
  it('gives the same messages whatever the chunks', () => {
    const messages = [encodeKeepalive(), encodeRouteRefresh('ipv6', 0), encodeEndOfRib('ipv4'), encodeEndOfRib('ipv6')];
    const stream = new Uint8Array(messages.reduce((n, m) => n + m.length, 0));
    let at = 0;
    for (const message of messages) {
      stream.set(message, at);
      at += message.length;
    }
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 60 }), (sizes) => {
        const framer = new Framer();
        const seen: Uint8Array[] = [];
        const push = (chunk: Uint8Array): void => {
          const error = framer.push(chunk, (_type, buf, off, len) => {
            seen.push(buf.slice(off, off + len));
            return true;
          });
          assert.equal(error, null);
        };
        let from = 0;
        for (const size of sizes) {
          push(stream.slice(from, from + size));
          from = Math.min(stream.length, from + size);
        }
        push(stream.slice(from));
        assert.deepEqual(seen, messages);
        assert.equal(framer.pending, 0);
      }),
    );
  });

  it('tells header errors apart (RFC 4271 6.1)', () => {
    const error = (change: (m: Uint8Array) => void, message = encodeKeepalive()): ProtocolError | null => {
      change(message);
      return new Framer().push(message, () => true);
    };
    const code = (e: ProtocolError | null): string => `${e?.code}/${e?.subcode} ${e ? [...e.data].join() : ''}`;
    assert.equal(code(error((m) => (m[3] = 0))), '1/1 ');
    assert.equal(code(error((m) => (m[17] = 18))), '1/2 0,18');
    assert.equal(code(error((m) => (m[17] = 20))), '1/2 0,20');
    assert.equal(code(error((m) => (m[16] = 0x20))), '1/2 32,19');
    assert.equal(code(error((m) => (m[18] = 9))), '1/3 9');
    assert.equal(code(error((m) => (m[18] = MSG_OPEN))), '1/2 0,19');
  });

  it('takes extended messages only when told', () => {
    const message = frame(2, new Uint8Array(5000));
    assert.equal(new Framer().push(message, () => true)?.subcode, 2);
    const framer = new Framer();
    framer.maxLength = 65535;
    let length = 0;
    const take = (_t: number, _b: Uint8Array, _o: number, len: number): boolean => {
      length = len;
      return true;
    };
    assert.equal(framer.push(message.subarray(0, 4000), take), null);
    assert.equal(framer.push(message.subarray(4000), take), null);
    assert.equal(length, 5019);
  });
});

const capabilities: fc.Arbitrary<Capabilities> = record({
  families: fc.option(fc.constantFrom(['ipv4'] as const, ['ipv6'] as const, ['ipv4', 'ipv6'] as const)),
  routeRefresh: fc.boolean(),
  enhancedRouteRefresh: fc.boolean(),
  extendedMessages: fc.boolean(),
  as4: fc.option(asn),
  extendedNextHop: fc.constantFrom([] as const, ['ipv4'] as const),
  gracefulRestart: fc.option(
    record({
      restarting: fc.boolean(),
      notification: fc.boolean(),
      time: fc.nat(4095),
      families: fc.constantFrom([] as const, [{ family: 'ipv4', forwarding: true }] as const),
    }),
  ),
  longLived: fc.constantFrom([] as const, [{ family: 'ipv6', forwarding: false, staleTime: 0x123456 }] as const),
  longLivedAware: fc.constant(true),
  addPath: fc.constantFrom([] as const, [{ family: 'ipv4', send: true, receive: false }] as const),
  hostName: fc.option(fc.constant('a-host')),
  unknown: fc.array(record({ code: fc.integer({ min: 200, max: 250 }), value: fc.uint8Array({ maxLength: 255 }) }), {
    maxLength: 2,
  }),
});

describe('OPEN', () => {
  it('reads back as it was written, in the short form and the extended one', () => {
    fc.assert(
      fc.property(
        asn,
        fc.constantFrom(0, 3, 90, 65535),
        fc.integer({ min: 1, max: 0xffffffff }),
        capabilities,
        (as, holdTime, routerId, c) => {
          const message = encodeOpen({ asNumber: as, holdTime, routerId }, c);
          const read = decodeOpen(message, 0, message.length);
          assert.ok(!isProtocolError(read));
          assert.deepEqual(read, {
            asNumber: c.as4 ?? Math.min(as, as > 0xffff ? AS_TRANS : as),
            holdTime,
            routerId,
            capabilities: c,
          });
        },
      ),
    );
  });

  it('names what is wrong with one', () => {
    const good = encodeOpen({ asNumber: 1, holdTime: 90, routerId: 1 }, { ...NO_CAPABILITIES, families: ['ipv4'] });
    const code = (change: (m: Uint8Array) => void): string => {
      const message = good.slice();
      change(message);
      const read = decodeOpen(message, 0, message.length);
      return isProtocolError(read) ? `${read.subcode} ${[...read.data].join()}` : 'good';
    };
    assert.equal(
      code((m) => (m[19] = 3)),
      '1 0,4',
    );
    assert.equal(
      code((m) => (m[21] = 0)),
      '2 ',
    );
    assert.equal(
      code((m) => m.set([0, 1], 22)),
      '6 ',
    );
    assert.equal(
      code((m) => m.set([0, 2], 22)),
      '6 ',
    );
    assert.equal(
      code((m) => m.set([0, 0], 22)),
      'good',
    );
    assert.equal(
      code((m) => m.set([0, 0, 0, 0], 24)),
      '3 ',
    );
    assert.equal(
      code((m) => (m[29] = 1)),
      '4 ',
    );
    assert.equal(
      code((m) => (m[28] = 7)),
      '0 ',
    );
    assert.equal(
      code((m) => (m[30] = 9)),
      '0 ',
    );
    assert.equal(
      code((m) => (m[31] = 222)),
      'good',
    ); // an unknown capability
  });

  it('agrees on what both offer', () => {
    const both: Capabilities = {
      ...NO_CAPABILITIES,
      families: ['ipv4', 'ipv6'],
      as4: 1,
      extendedMessages: true,
      addPath: [{ family: 'ipv4', send: true, receive: true }],
    };
    const peer: OpenMessage = {
      asNumber: 2,
      holdTime: 30,
      routerId: 9,
      capabilities: { ...both, families: ['ipv4'], addPath: [{ family: 'ipv4', send: false, receive: true }] },
    };
    const agreed = negotiate({ asNumber: 1, holdTime: 90, capabilities: both }, peer);
    assert.equal(agreed.holdTime, 30);
    assert.deepEqual(agreed.families, ['ipv4']);
    assert.deepEqual(agreed.codec.families.ipv4, { addPathReceive: false, addPathSend: true, extendedNextHop: false });
    assert.equal(agreed.codec.families.ipv6, null);
    assert.equal(agreed.codec.maxMessageLength, 65535);
    const plain = negotiate(
      { asNumber: 1, holdTime: 90, capabilities: both },
      { ...peer, capabilities: NO_CAPABILITIES },
    );
    assert.deepEqual(plain.families, ['ipv4']);
    assert.equal(plain.codec.as4, false);
  });
});

describe('other messages', () => {
  it('NOTIFICATION with words (RFC 9003), and Hard Reset (RFC 8538)', () => {
    const words = 'Wartung ☕ um zwölf';
    const notification = { code: 6, subcode: 2, data: shutdownData(words) };
    const message = encodeNotification(hardReset(notification));
    const read = decodeNotification(message, 0, message.length);
    assert.equal(notificationText(read), `cease: hard reset (cease: administrative shutdown: "${words}")`);
    assert.equal(shutdownText(notification), words);
    assert.equal(shutdownData('ä'.repeat(200)).length, 255); // 127 whole characters and the length
    assert.equal(shutdownText({ code: 6, subcode: 2, data: Uint8Array.of(9, 65) }), null);
    assert.equal(shutdownText({ code: 6, subcode: 2, data: Uint8Array.of(2, 0xff, 0xfe) }), null);
    assert.equal(shutdownText({ code: 6, subcode: 4, data: Uint8Array.of(3, 65, 27, 66) }), 'A B');
    assert.equal(notificationText({ code: 99, subcode: 1, data: EMPTY_BYTES }), 'error 99/1');
  });

  it('ROUTE-REFRESH with its length errors (RFC 7313)', () => {
    const good = encodeRouteRefresh('ipv6', 1);
    assert.deepEqual(decodeRouteRefresh(good, 0, good.length), { family: 'ipv6', subtype: 1 });
    const long = frame(5, Uint8Array.of(0, 1, 1, 1, 9));
    const bad = decodeRouteRefresh(long, 0, long.length) as ProtocolError;
    assert.deepEqual([bad.code, bad.subcode, bad.data.length], [7, 1, long.length]);
    const orf = frame(5, Uint8Array.of(0, 1, 0, 1, 9, 9));
    assert.deepEqual(decodeRouteRefresh(orf, 0, orf.length), { family: 'ipv4', subtype: 0 });
  });

  it('End-of-RIB is told from other UPDATEs', () => {
    const view = new UpdateView();
    for (const family of ['ipv4', 'ipv6'] as const) {
      const message = encodeEndOfRib(family);
      assert.equal(splitUpdate(message, 0, message.length, STORAGE_SESSION, view), 0);
      assert.equal(view.endOfRib, family);
    }
    assert.equal(encodeEndOfRib('ipv4').length, 23);
  });

  it('the key of IPv6 attributes does not depend on the prefixes', () => {
    const a = makeAttributes({ nextHop: IpAddress.parse('2001:db8::1'), communities: [5] });
    const session: CodecSession = { ...STORAGE_SESSION, families: { ...STORAGE_SESSION.families } };
    const rest = encodeAttributes(a, session, 'none');
    const keys = [
      [32, 0x20, 1, 0xd, 0xb8],
      [16, 0x20, 1],
    ].map((nlri) => {
      const mp = [0x80, 14, 21 + nlri.length, 0, 2, 1, 16, ...a.nextHop!.bytes, 0, ...nlri];
      const block = [...rest, ...mp];
      const message = frame(2, Uint8Array.from([0, 0, 0, block.length, ...block]));
      const view = new UpdateView();
      assert.equal(splitUpdate(message, 0, message.length, session, view), 0);
      const range = { buf: message, off: 0, len: 0 };
      attributeKey(view, 'reach', new Uint8Array(70000), range);
      return range.buf.slice(range.off, range.off + range.len);
    });
    const [key = new Uint8Array(0)] = keys;
    assert.deepEqual(key, keys[1]);
    assert.deepEqual(key, encodeAttributes(a, STORAGE_SESSION, 'ipv6'));
    assert.equal(decodeAttributes(key, 0, key.length, session).attributes?.nextHop?.toString(), '2001:db8::1');
  });
});
