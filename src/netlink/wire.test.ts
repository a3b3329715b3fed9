import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isBrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { decodeFlow } from './conntrack.ts';
import * as c from './constants.ts';
import { decodeEvent } from './monitor.ts';
import { encodeOperation } from './operation.ts';
import { decodeAddress } from './route/address.ts';
import { decodeLink } from './route/link.ts';
import { decodeNeighbour } from './route/neighbour.ts';
import { decodeRoute } from './route/route.ts';
import { decodeRule } from './route/rule.ts';
import type { Route, Rule } from './types.ts';
import { Attributes, MessageBuilder, type NetlinkMessage, readAttributes, readMessages } from './wire.ts';

const only = (out: MessageBuilder): NetlinkMessage => [...readMessages(out.bytes())][0]!;

/** Runs it; whatever it throws must be our own error. */
function tame(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    if (!isBrindleError(error, 'protocol')) throw error;
  }
}

describe('MessageBuilder and readers', () => {
  it('write what they read, with alignment, and grow', () => {
    const out = new MessageBuilder(16);
    for (let i = 0; i < 50; i++) {
      out.begin(100 + i, 5).u32(i);
      out
        .attributeU8(1, i)
        .attributeU16(2, i)
        .attributeU32(3, i)
        .attributeString(4, 'x'.repeat(i % 7));
      out.nest(5, () => out.attribute(6, Uint8Array.of(1, 2, 3)).attributeU8(7, 9)).end();
      out.stamp(i, 1000 + i, 1);
    }
    const messages = [...readMessages(out.bytes())];
    assert.equal(messages.length, 50);
    for (const [i, message] of messages.entries()) {
      assert.deepEqual([message.type, message.flags, message.sequence], [100 + i, 5, 1000 + i]);
      const attributes = new Attributes(message.payload, 4);
      assert.deepEqual([attributes.u8(1), attributes.u16(2), attributes.u32(3)], [i, i, i]);
      assert.equal(attributes.string(4), 'x'.repeat(i % 7));
      assert.deepEqual(attributes.nested(5)?.bytes(6), Uint8Array.of(1, 2, 3));
      assert.equal(attributes.nested(5)?.u8(7), 9);
      assert.equal(attributes.u8(99), undefined);
    }
  });

  it('leave nothing of an earlier batch in the padding', () => {
    const out = new MessageBuilder(64);
    out.begin(1, 0).attribute(1, new Uint8Array(16).fill(255)).end();
    out.clear();
    out.begin(1, 0).attribute(1, Uint8Array.of(1)).end();
    assert.deepEqual([...out.bytes().subarray(16)], [5, 0, 1, 0, 1, 0, 0, 0]);
  });

  it('refuse lengths that do not fit', () => {
    const message = (length: number) => Uint8Array.from({ length: 20 }, (_, i) => (i === 0 ? length : 0));
    for (const length of [0, 15, 21, 255]) {
      assert.throws(
        () => [...readMessages(message(length))],
        (e) => isBrindleError(e, 'protocol'),
      );
    }
    for (const bytes of [
      [3, 0, 1, 0],
      [9, 0, 1, 0, 1],
      [0, 0, 0, 0],
    ]) {
      assert.throws(
        () => [...readAttributes(Uint8Array.from(bytes))],
        (e) => isBrindleError(e, 'protocol'),
      );
    }
    assert.throws(
      () => new Attributes(Uint8Array.of(5, 0, 1, 0, 7)).u32(1),
      (e) => isBrindleError(e, 'protocol'),
    );
  });

  it('end with any bytes, throwing nothing but `protocol`', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(16), (bytes, offset) => {
        tame(() => [...readMessages(bytes)]);
        tame(() => [...readAttributes(bytes, offset)]);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('decoders', () => {
  const decoders = [decodeLink, decodeAddress, decodeRoute, decodeRule, decodeNeighbour, decodeEvent, decodeFlow];
  const types = [16, 17, 20, 21, 24, 25, 28, 29, 32, 33, 256];

  it('end with any payload, throwing nothing but `protocol`', () => {
    const payload = fc.oneof(fc.uint8Array({ maxLength: 200 }), structured());
    fc.assert(
      fc.property(fc.constantFrom(...types), payload, (type, bytes) => {
        const message = { type, flags: 0, sequence: 0, port: 0, payload: bytes };
        for (const decode of decoders) tame(() => decode(message));
      }),
      { numRuns: 3000 },
    );
  });

  it('end with damaged messages of the real form', () => {
    const out = new MessageBuilder();
    encodeOperation(out, { op: 'route-add', route: ecmpRoute() });
    const good = out.bytes().slice();
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 4 }), (damage) => {
        const bytes = good.slice();
        for (const [at, value] of damage) bytes[at] = value;
        tame(() => {
          for (const message of readMessages(bytes)) for (const decode of decoders) tame(() => decode(message));
        });
      }),
      { numRuns: 3000 },
    );
  });

  it('never read outside of the message: what follows does not matter', () => {
    const out = new MessageBuilder();
    encodeOperation(out, { op: 'route-add', route: ecmpRoute() });
    const expected = decodeRoute(only(out));
    const padded = new Uint8Array(out.length + 64).fill(0xff);
    padded.set(out.bytes(), 32);
    const inside = [...readMessages(padded.subarray(32, 32 + out.length))][0]!;
    assert.deepEqual(decodeRoute(inside), expected);
  });
});

describe('routes and rules', () => {
  const v4 = fc.integer({ min: 1, max: 0xdfffffff }).map((n) => IpAddress.fromUint32(n));
  const v6 = fc.bigInt({ min: 1n, max: (1n << 127n) - 1n }).map((n) => IpAddress.fromBigInt(6, n));

  it('come back as they were sent', () => {
    const address = fc.oneof(v4, v6);
    const hop = (family: 4 | 6) =>
      fc.record({
        ifindex: fc.integer({ min: 1, max: 1000 }),
        gateway: family === 4 ? fc.oneof(v4, v6) : v6,
        weight: fc.integer({ min: 1, max: 256 }),
        onlink: fc.boolean(),
      });
    const route = address.chain((a) =>
      fc.record({
        destination: fc.integer({ min: 0, max: a.family === 4 ? 32 : 128 }).map((length) => Prefix.of(a, length)),
        protocol: fc.nat(255),
        table: fc.integer({ min: 1, max: 100_000 }),
        metric: fc.integer({ min: 1, max: 0xffffffff }),
        source: a.family === 4 ? fc.option(v4) : fc.option(v6),
        mtu: fc.option(fc.integer({ min: 68, max: 65535 })),
        nextHops: fc.array(hop(a.family), { minLength: 1, maxLength: 8 }),
      }),
    );
    fc.assert(
      fc.property(route, (wanted) => {
        const out = new MessageBuilder();
        encodeOperation(out, { op: 'route-add', route: wanted });
        const weights = wanted.nextHops.length > 1;
        const expected: Route = {
          ...wanted,
          type: 'unicast',
          scope: 0,
          // A single next hop has no weight.
          nextHops: wanted.nextHops.map((h) => ({ ...h, weight: weights ? h.weight : 1, dead: false })),
        };
        assert.deepEqual(plain(decodeRoute(only(out))), plain(expected));
      }),
    );
  });

  it('of blackhole type have no next hop', () => {
    const out = new MessageBuilder();
    const destination = Prefix.parse('10.0.0.0/26');
    encodeOperation(out, { op: 'route-add', route: { destination, protocol: 155, type: 'blackhole' } });
    const route = decodeRoute(only(out));
    assert.deepEqual([route?.type, route?.nextHops, route?.table], ['blackhole', [], c.RT_TABLE_MAIN]);
  });

  it('keep every part of a rule', () => {
    const rule: Rule = {
      family: 6,
      priority: 100,
      source: Prefix.parse('fd00::/64'),
      destination: Prefix.parse('fd01::/48'),
      inputInterface: 'eth0',
      outputInterface: 'eth1',
      mark: 0x30000,
      markMask: 0xff0000,
      invert: true,
      table: 1000,
      suppressPrefixLength: 0,
      protocol: 155,
    };
    const out = new MessageBuilder();
    encodeOperation(out, { op: 'rule-add', rule });
    assert.deepEqual(plain(decodeRule(only(out))), plain(rule));
  });

  it('refuse names that are no interface names', () => {
    for (const name of ['', 'a/b', 'sixteen-letters-', '..', 'all', 'a b', 'ä']) {
      assert.throws(
        () => encodeOperation(new MessageBuilder(), { op: 'link-delete', link: name }),
        (e) => isBrindleError(e, 'invalid-argument'),
        name,
      );
    }
  });
});

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

function ecmpRoute() {
  return {
    destination: Prefix.parse('192.168.0.0/24'),
    protocol: 155,
    mtu: 1400,
    nextHops: [
      { ifindex: 2, gateway: IpAddress.parse('10.0.0.2') },
      { ifindex: 3, gateway: IpAddress.parse('fd00::2'), weight: 4 },
    ],
  };
}

/** A struct of 16 octets followed by well-formed attributes with any content, some of them nested. */
function structured(): fc.Arbitrary<Uint8Array> {
  const attribute = fc.record({ type: fc.nat(60), value: fc.uint8Array({ maxLength: 24 }), nested: fc.boolean() });
  return fc
    .tuple(fc.uint8Array({ minLength: 8, maxLength: 16 }), fc.array(attribute, { maxLength: 6 }))
    .map(([head, list]) => {
      const out = new MessageBuilder();
      out.begin(0, 0).raw(head);
      for (const { type, value, nested } of list) {
        if (nested) out.nest(type, () => out.attribute(value.length, value));
        else out.attribute(type, value);
      }
      out.end();
      return out.bytes().slice(16);
    });
}
