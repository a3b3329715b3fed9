// Every parser of the wire under mutated messages: no throw, no endless loop, no growth.
// BRINDLE_FUZZ sets the number of messages (`make soak` uses a million), BRINDLE_FUZZ_SEED repeats a run.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IpAddress } from '#net/address.ts';
import { decodeAttributes, encodeAttributes, makeAttributes } from './attributes.ts';
import { NO_CAPABILITIES } from './capabilities.ts';
import {
  decodeRouteRefresh,
  encodeKeepalive,
  encodeRouteRefresh,
  frame,
  Framer,
  MSG_NOTIFICATION,
  MSG_OPEN,
  MSG_ROUTE_REFRESH,
  MSG_UPDATE,
} from './message.ts';
import { decodeNlri, NlriColumns } from './nlri.ts';
import { decodeNotification, encodeNotification, notificationText, shutdownData } from './notification.ts';
import { decodeOpen, encodeOpen } from './open.ts';
import { type CodecSession, STORAGE_SESSION } from './types.ts';
import { attributeKey, splitUpdate, UpdateView } from './update.ts';

const ITERATIONS = Number(process.env['BRINDLE_FUZZ'] ?? 20_000);
const SEED = Number(process.env['BRINDLE_FUZZ_SEED'] ?? Date.now() % 0x7fffffff);

/** Mulberry32: small, repeatable. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const sessions: readonly CodecSession[] = [
  STORAGE_SESSION,
  { ...STORAGE_SESSION, external: true, as4: false, maxMessageLength: 4096 },
  {
    ...STORAGE_SESSION,
    families: {
      ipv4: { addPathReceive: true, addPathSend: true, extendedNextHop: true },
      ipv6: { addPathReceive: true, addPathSend: true, extendedNextHop: false },
    },
  },
];

function corpus(): Uint8Array[] {
  const full = makeAttributes({
    asPath: [
      { type: 'sequence', asns: [65001, 70000] },
      { type: 'set', asns: [1, 2] },
    ],
    nextHop: IpAddress.parse('10.0.0.1'),
    med: 5,
    localPref: 100,
    atomicAggregate: true,
    aggregator: { asn: 70000, address: 1 },
    communities: [1, 2, 3],
    extendedCommunities: [[0x00020000, 7]],
    largeCommunities: [[1, 2, 3]],
    originatorId: 9,
    clusterList: [1, 2],
    unknown: [{ flags: 0xe0, code: 99, value: Uint8Array.of(1, 2, 3) }],
  });
  const messages = [encodeKeepalive(), encodeRouteRefresh('ipv6', 1)];
  for (const session of sessions) {
    const block = encodeAttributes(full, session, 'attribute');
    const nlri = [0, 0, 0, 1, 16, 10, 1, 0, 0, 0, 2, 24, 10, 2, 3];
    messages.push(
      frame(MSG_UPDATE, Uint8Array.from([0, 3, 16, 9, 9, block.length >> 8, block.length & 255, ...block, ...nlri])),
    );
    const rest = encodeAttributes({ ...full, nextHop: IpAddress.parse('2001:db8::1') }, session, 'ipv6');
    const unreach = [0x80, 15, 10, 0, 2, 1, 48, 0x20, 1, 0xd, 0xb8, 0, 1];
    const both = [...unreach, ...rest];
    messages.push(frame(MSG_UPDATE, Uint8Array.from([0, 0, both.length >> 8, both.length & 255, ...both])));
  }
  messages.push(
    encodeOpen(
      { asNumber: 70000, holdTime: 90, routerId: 1 },
      {
        ...NO_CAPABILITIES,
        families: ['ipv4', 'ipv6'],
        as4: 70000,
        routeRefresh: true,
        extendedNextHop: ['ipv4'],
        gracefulRestart: {
          restarting: true,
          notification: true,
          time: 120,
          families: [{ family: 'ipv4', forwarding: true }],
        },
        longLived: [{ family: 'ipv4', forwarding: true, staleTime: 3600 }],
        addPath: [{ family: 'ipv4', send: true, receive: true }],
        hostName: 'host',
        unknown: [{ code: 222, value: new Uint8Array(250) }],
      },
    ),
    encodeNotification({ code: 6, subcode: 2, data: shutdownData('bye') }),
    encodeNotification({ code: 6, subcode: 9, data: Uint8Array.of(6, 9, 6, 2) }),
  );
  return messages;
}

describe('mutated messages', () => {
  it(`${ITERATIONS} of them (seed ${SEED}): no throw, no growth`, () => {
    const random = randomOf(SEED);
    const below = (n: number): number => Math.floor(random() * n);
    const messages = corpus();
    const view = new UpdateView();
    const scratch = new Uint8Array(70_000);
    const range = { buf: scratch, off: 0, len: 0 };
    const columns = new NlriColumns();
    const seen = new Map<number, number>();

    const mutate = (source: Uint8Array): Uint8Array => {
      let octets = source.slice();
      for (let n = below(4); n >= 0; n--) {
        const at = below(octets.length);
        switch (below(6)) {
          case 0:
            octets[at] = below(256);
            break;
          case 1:
            octets[at] = octets[at]! ^ (1 << below(8));
            break;
          case 2:
            octets[at] = [0, 1, 127, 128, 254, 255][below(6)]!;
            break;
          case 3:
            octets = octets.slice(0, Math.max(1, at));
            break;
          case 4: {
            const other = messages[below(messages.length)]!;
            octets = Uint8Array.from([...octets.slice(0, at), ...other.slice(below(other.length))]);
            break;
          }
          default:
            octets = Uint8Array.from([...octets.slice(0, at), ...octets.slice(Math.max(0, at - below(20)))]);
        }
      }
      // Most keep a sound header, so that the bodies are reached.
      if (random() < 0.9 && octets.length >= 19) {
        octets.fill(0xff, 0, 16);
        octets[16] = octets.length >>> 8;
        octets[17] = octets.length & 255;
        if (random() < 0.9) octets[18] = source[18]!;
      }
      return octets;
    };

    const handle = (type: number, buf: Uint8Array, off: number, len: number): boolean => {
      seen.set(type, (seen.get(type) ?? 0) + 1);
      if (type === MSG_OPEN) decodeOpen(buf, off, len);
      else if (type === MSG_NOTIFICATION) notificationText(decodeNotification(buf, off, len));
      else if (type === MSG_ROUTE_REFRESH) decodeRouteRefresh(buf, off, len);
      else if (type === MSG_UPDATE) {
        for (const session of sessions) {
          if (splitUpdate(buf, off, len, session, view) === 3) continue;
          for (const which of ['nlri', 'reach'] as const) {
            if (which === 'reach' && view.reachFamily === null) continue;
            attributeKey(view, which, scratch, range);
            assert.ok(range.len <= 65_535 + 64);
            const { attributes } = decodeAttributes(range.buf, range.off, range.len, session, view.hasReachable);
            if (attributes)
              encodeAttributes(attributes, session, attributes.nextHop?.family === 6 ? 'ipv6' : 'attribute');
          }
          for (const [family, from, length] of [
            ['ipv4', view.nlriOff, view.nlriLen],
            ['ipv4', view.withdrawnOff, view.withdrawnLen],
            [view.reachFamily, view.reachNlriOff, view.reachNlriLen],
            [view.unreachFamily, view.unreachNlriOff, view.unreachNlriLen],
          ] as const) {
            if (family === null || length === 0) continue;
            columns.count = 0;
            decodeNlri(family, buf, from, length, session.families[family]?.addPathReceive ?? false, columns);
          }
        }
      }
      return true;
    };

    let framer = new Framer();
    for (let i = 0; i < ITERATIONS; i++) {
      const octets = mutate(messages[below(messages.length)]!);
      const cut = below(octets.length);
      const failed = framer.push(octets.subarray(0, cut), handle) ?? framer.push(octets.subarray(cut), handle);
      assert.ok(framer.pending <= framer.maxLength);
      if (failed) {
        assert.equal(failed.code, 1);
        framer = new Framer();
      } else if (random() < 0.2) framer = new Framer();
    }
    assert.ok(columns.capacity <= 131_072);
    for (const type of [1, 2, 3, 5]) assert.ok((seen.get(type) ?? 0) > ITERATIONS / 1000, `messages of type ${type}`);
  });
});
