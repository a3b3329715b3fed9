// RFC 7606 as a table: each malformed UPDATE with the verdict it requires. Verdicts are those of splitUpdate and
// decodeAttributes together, in the order in which the RIB asks them.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeAttributes } from './attributes.ts';
import { frame, MSG_UPDATE } from './message.ts';
import { decodeNlri, NlriColumns } from './nlri.ts';
import { type CodecSession, STORAGE_SESSION, type Verdict } from './types.ts';
import { attributeKey, splitUpdate, UpdateView } from './update.ts';
import { OctetWriter } from './writer.ts';

const external: CodecSession = {
  as4: true,
  external: true,
  localAs: 65001,
  peerAs: 65002,
  maxMessageLength: 4096,
  families: {
    ipv4: { addPathReceive: false, addPathSend: false, extendedNextHop: false },
    ipv6: { addPathReceive: false, addPathSend: false, extendedNextHop: false },
  },
};
const internal: CodecSession = { ...external, external: false, peerAs: 65001 };
const narrow: CodecSession = { ...external, as4: false };

const attr = (flags: number, code: number, ...value: number[]): number[] => [flags, code, value.length, ...value];
const ORIGIN = attr(0x40, 1, 0);
const AS_PATH = attr(0x40, 2, 2, 1, 0, 0, 0xfd, 0xea);
const AS_PATH_NARROW = attr(0x40, 2, 2, 1, 0xfd, 0xea);
const NEXT_HOP = attr(0x40, 3, 10, 0, 0, 2);
const GOOD = [...ORIGIN, ...AS_PATH, ...NEXT_HOP];
const PREFIX = [16, 10, 1];
const MP = (nextHop: number[], nlri: number[] = [48, 0xfd, 1, 0, 0, 0, 0]): number[] =>
  attr(0x80, 14, 0, 2, 1, nextHop.length, ...nextHop, 0, ...nlri);
const V6_NEXT_HOP = [0xfd, 9, ...Array.from({ length: 13 }, () => 0), 2];

function update(
  attributes: readonly number[],
  nlri: readonly number[] = PREFIX,
  withdrawn: readonly number[] = [],
): Uint8Array {
  const body = new OctetWriter().u16(withdrawn.length).bytes(Uint8Array.from(withdrawn));
  body.u16(attributes.length).bytes(Uint8Array.from(attributes)).bytes(Uint8Array.from(nlri));
  return frame(MSG_UPDATE, body.finish());
}

const scratch = new Uint8Array(70_000);

function judge(message: Uint8Array, session: CodecSession): { verdict: Verdict; subcode: number; reason: string } {
  const view = new UpdateView();
  const first = splitUpdate(message, 0, message.length, session, view);
  if (first >= 2) return { verdict: first, subcode: view.subcode, reason: view.reason };
  const ranges = [
    ['ipv4', view.withdrawnOff, view.withdrawnLen],
    ['ipv4', view.nlriOff, view.nlriLen],
    [view.reachFamily, view.reachNlriOff, view.reachNlriLen],
    [view.unreachFamily, view.unreachNlriOff, view.unreachNlriLen],
  ] as const;
  for (const [family, off, len] of ranges) {
    if (family && len > 0 && !decodeNlri(family, message, off, len, false, new NlriColumns())) {
      return { verdict: 3, subcode: 10, reason: 'prefix' };
    }
  }
  const range = { buf: scratch, off: 0, len: 0 };
  let worst: { verdict: Verdict; subcode: number; reason: string } = {
    verdict: first,
    subcode: view.subcode,
    reason: '',
  };
  const look = (which: 'nlri' | 'reach'): void => {
    attributeKey(view, which, scratch, range);
    const { verdict, errors } = decodeAttributes(range.buf, range.off, range.len, session, view.hasReachable);
    const error = errors.find((e) => e.verdict === verdict);
    if (error && verdict > worst.verdict) worst = { verdict, subcode: error.subcode, reason: error.reason };
  };
  if (view.nlriLen > 0 || !view.hasReachable) look('nlri');
  if (view.reachNlriLen > 0) look('reach');
  if (worst.verdict === 2 && !view.hasReachable && view.hasAttributes) return { ...worst, verdict: 3 };
  return worst;
}

const OK = 0;
const DISCARD = 1;
const WITHDRAW = 2;
const RESET = 3;

type Case = readonly [name: string, message: Uint8Array, verdict: Verdict, subcode: number, session?: CodecSession];

const without = (block: number[]): number[] => {
  const at = GOOD.findIndex((_, i) => block.every((octet, j) => GOOD[i + j] === octet));
  return [...GOOD.slice(0, at), ...GOOD.slice(at + block.length)];
};

const CASES: readonly Case[] = [
  ['all is well', update(GOOD), OK, 0],
  ['all is well with IPv6', update([...MP(V6_NEXT_HOP), ...ORIGIN, ...AS_PATH], []), OK, 0],
  ['withdrawal only', update([], [], PREFIX), OK, 0],
  ['withdrawal and announcement of one prefix', update(GOOD, PREFIX, PREFIX), OK, 0],

  ['withdrawn length beyond the message', frame(2, Uint8Array.of(0, 99, 0, 0)), RESET, 1],
  ['attribute length beyond the message', frame(2, Uint8Array.of(0, 0, 0, 99)), RESET, 1],
  ['attribute overruns the block', update([...GOOD, 0x80, 4, 9, 0, 0]), WITHDRAW, 5],
  ['attribute header cut off', update([...GOOD, 0x80, 4]), WITHDRAW, 1],
  ['overrun and nothing reachable', update([...ORIGIN, 0x80, 4, 9, 0], []), RESET, 5],
  ['extended length cut off', update([...GOOD, 0x90, 4, 0]), WITHDRAW, 1],
  ['extended length of a short attribute', update([0x50, 1, 0, 1, 0, ...AS_PATH, ...NEXT_HOP]), OK, 0],

  ['ORIGIN missing', update(without(ORIGIN)), WITHDRAW, 3],
  ['AS_PATH missing', update(without(AS_PATH)), WITHDRAW, 3],
  ['NEXT_HOP missing', update(without(NEXT_HOP)), WITHDRAW, 3],
  ['nothing mandatory in a withdrawal', update(attr(0x80, 4, 0, 0, 0, 1), [], PREFIX), OK, 0],
  ['NEXT_HOP beside MP_REACH_NLRI is passed over', update([...MP(V6_NEXT_HOP), ...GOOD], []), OK, 0],

  ['ORIGIN of length 2', update([...attr(0x40, 1, 0, 0), ...without(ORIGIN)]), WITHDRAW, 5],
  ['ORIGIN of length 0', update([...attr(0x40, 1), ...without(ORIGIN)]), WITHDRAW, 5],
  ['ORIGIN 3', update([...attr(0x40, 1, 3), ...without(ORIGIN)]), WITHDRAW, 6],
  ['ORIGIN with optional flag', update([...attr(0xc0, 1, 0), ...without(ORIGIN)]), WITHDRAW, 4],
  ['ORIGIN with partial flag', update([...attr(0x60, 1, 0), ...without(ORIGIN)]), OK, 0],
  ['ORIGIN with unused flag bits', update([...attr(0x4f, 1, 0), ...without(ORIGIN)]), OK, 0],
  ['ORIGIN twice', update([...GOOD, ...attr(0x40, 1, 2)]), DISCARD, 1],

  ['AS_PATH with segment type 9', update([...ORIGIN, ...attr(0x40, 2, 9, 1, 0, 0, 0, 1), ...NEXT_HOP]), WITHDRAW, 11],
  ['AS_PATH with an empty segment', update([...ORIGIN, ...attr(0x40, 2, 2, 0), ...NEXT_HOP]), WITHDRAW, 11],
  ['AS_PATH segment overruns', update([...ORIGIN, ...attr(0x40, 2, 2, 2, 0, 0, 0, 1), ...NEXT_HOP]), WITHDRAW, 11],
  [
    'AS_PATH with one octet left over',
    update([...ORIGIN, ...attr(0x40, 2, 2, 1, 0, 0, 0, 1, 2), ...NEXT_HOP]),
    WITHDRAW,
    11,
  ],
  ['AS_PATH with AS 0', update([...ORIGIN, ...attr(0x40, 2, 2, 1, 0, 0, 0, 0), ...NEXT_HOP]), WITHDRAW, 11],
  [
    'AS_PATH with a confederation segment',
    update([...ORIGIN, ...attr(0x40, 2, 3, 1, 0, 0, 0, 1), ...NEXT_HOP]),
    WITHDRAW,
    11,
  ],
  ['empty AS_PATH', update([...ORIGIN, ...attr(0x40, 2), ...NEXT_HOP]), OK, 0],
  ['AS_PATH of narrow numbers', update([...ORIGIN, ...AS_PATH_NARROW, ...NEXT_HOP]), WITHDRAW, 11],
  ['AS_PATH of narrow numbers on a narrow session', update([...ORIGIN, ...AS_PATH_NARROW, ...NEXT_HOP]), OK, 0, narrow],

  ['NEXT_HOP of length 5', update([...ORIGIN, ...AS_PATH, ...attr(0x40, 3, 1, 2, 3, 4, 5)]), WITHDRAW, 5],
  ['NEXT_HOP 0.0.0.0', update([...ORIGIN, ...AS_PATH, ...attr(0x40, 3, 0, 0, 0, 0)]), WITHDRAW, 8],
  ['NEXT_HOP multicast', update([...ORIGIN, ...AS_PATH, ...attr(0x40, 3, 224, 0, 0, 1)]), WITHDRAW, 8],

  ['MED of length 3', update([...GOOD, ...attr(0x80, 4, 0, 0, 1)]), WITHDRAW, 5],
  ['MED with transitive flag', update([...GOOD, ...attr(0xc0, 4, 0, 0, 0, 1)]), WITHDRAW, 4],
  ['LOCAL_PREF of length 3, internal', update([...GOOD, ...attr(0x40, 5, 0, 0, 1)]), WITHDRAW, 5, internal],
  ['LOCAL_PREF of length 3, external', update([...GOOD, ...attr(0x40, 5, 0, 0, 1)]), OK, 0],
  ['ATOMIC_AGGREGATE of length 1', update([...GOOD, ...attr(0x40, 6, 0)]), DISCARD, 5],
  ['AGGREGATOR of length 6 on a wide session', update([...GOOD, ...attr(0xc0, 7, 0, 1, 1, 2, 3, 4)]), DISCARD, 5],
  ['AGGREGATOR of AS 0', update([...GOOD, ...attr(0xc0, 7, 0, 0, 0, 0, 1, 2, 3, 4)]), DISCARD, 9],
  ['AGGREGATOR with wrong flags', update([...GOOD, ...attr(0x40, 7, 0, 0, 0, 1, 1, 2, 3, 4)]), WITHDRAW, 4],

  ['COMMUNITIES of length 6', update([...GOOD, ...attr(0xc0, 8, 0, 1, 0, 2, 0, 3)]), WITHDRAW, 9],
  ['COMMUNITIES of length 0', update([...GOOD, ...attr(0xc0, 8)]), WITHDRAW, 9],
  ['EXTENDED_COMMUNITIES of length 4', update([...GOOD, ...attr(0xc0, 16, 0, 1, 0, 2)]), WITHDRAW, 9],
  ['EXTENDED_COMMUNITIES of length 0', update([...GOOD, ...attr(0xc0, 16)]), WITHDRAW, 9],
  ['LARGE_COMMUNITIES of length 8', update([...GOOD, ...attr(0xc0, 32, 0, 0, 0, 1, 0, 0, 0, 2)]), WITHDRAW, 9],
  ['LARGE_COMMUNITIES of length 0', update([...GOOD, ...attr(0xc0, 32)]), WITHDRAW, 9],
  ['ORIGINATOR_ID of length 3, internal', update([...GOOD, ...attr(0x80, 9, 1, 2, 3)]), WITHDRAW, 5, internal],
  ['ORIGINATOR_ID of length 3, external', update([...GOOD, ...attr(0x80, 9, 1, 2, 3)]), OK, 0],
  ['CLUSTER_LIST of length 5, internal', update([...GOOD, ...attr(0x80, 10, 1, 2, 3, 4, 5)]), WITHDRAW, 5, internal],
  ['CLUSTER_LIST of length 0, internal', update([...GOOD, ...attr(0x80, 10)]), WITHDRAW, 5, internal],
  ['CLUSTER_LIST of length 5, external', update([...GOOD, ...attr(0x80, 10, 1, 2, 3, 4, 5)]), OK, 0],

  [
    'AS4_PATH malformed, narrow session',
    update([...ORIGIN, ...AS_PATH_NARROW, ...NEXT_HOP, ...attr(0xc0, 17, 2, 9, 0)]),
    DISCARD,
    9,
    narrow,
  ],
  ['AS4_PATH malformed, wide session', update([...GOOD, ...attr(0xc0, 17, 2, 9, 0)]), OK, 0],
  [
    'AS4_AGGREGATOR of length 6',
    update([...ORIGIN, ...AS_PATH_NARROW, ...NEXT_HOP, ...attr(0xc0, 18, 0, 1, 1, 2, 3, 4)]),
    DISCARD,
    5,
    narrow,
  ],

  ['unknown well-known attribute', update([...GOOD, ...attr(0x40, 99, 1)]), RESET, 2],
  ['unknown optional transitive attribute', update([...GOOD, ...attr(0xc0, 99, 1)]), OK, 0],
  ['unknown optional attribute', update([...GOOD, ...attr(0x80, 99, 1)]), OK, 0],

  ['MP_REACH_NLRI with a next hop of 5', update([...MP([1, 2, 3, 4, 5]), ...ORIGIN, ...AS_PATH], []), RESET, 9],
  ['MP_REACH_NLRI with a next hop of 0', update([...MP([]), ...ORIGIN, ...AS_PATH], []), RESET, 9],
  ['MP_REACH_NLRI too short', update([...attr(0x80, 14, 0, 2, 1), ...ORIGIN, ...AS_PATH], []), RESET, 9],
  ['MP_REACH_NLRI twice', update([...MP(V6_NEXT_HOP), ...MP(V6_NEXT_HOP), ...ORIGIN, ...AS_PATH], []), RESET, 1],
  [
    'MP_REACH_NLRI with wrong flags',
    update([0x40, ...MP(V6_NEXT_HOP).slice(1), ...ORIGIN, ...AS_PATH], []),
    WITHDRAW,
    4,
  ],
  [
    'MP_REACH_NLRI of an unknown family',
    update([...attr(0x80, 14, 0, 25, 65, 4, 1, 2, 3, 4, 0, 9, 9), ...GOOD]),
    OK,
    0,
  ],
  [
    'MP_REACH_NLRI with an unspecified next hop',
    update([...MP(Array.from({ length: 16 }, () => 0)), ...ORIGIN, ...AS_PATH], []),
    WITHDRAW,
    8,
  ],
  ['MP_UNREACH_NLRI too short', update(attr(0x80, 15, 0, 2), []), RESET, 9],
  ['MP_UNREACH_NLRI twice', update([...attr(0x80, 15, 0, 2, 1), ...attr(0x80, 15, 0, 2, 1)], []), RESET, 1],

  ['prefix longer than 32', update(GOOD, [33, 1, 2, 3, 4, 5]), RESET, 10],
  ['prefix cut off', update(GOOD, [24, 1, 2]), RESET, 10],
  ['withdrawn prefix longer than 32', update([], [], [40, 1, 2, 3, 4, 5]), RESET, 10],
  ['IPv6 prefix longer than 128', update([...MP(V6_NEXT_HOP, [129]), ...ORIGIN, ...AS_PATH], []), RESET, 10],
  ['prefix with host bits', update(GOOD, [8, 255]), OK, 0],

  [
    'the worst of two complaints counts',
    update([...attr(0x40, 1, 9), ...without(ORIGIN), ...attr(0x40, 99, 1)]),
    RESET,
    2,
  ],
  ['malformed attribute without reachable prefixes', update(attr(0x80, 4, 0), [], PREFIX), RESET, 5],
];

describe('malformed UPDATEs (RFC 7606)', () => {
  for (const [name, message, verdict, subcode, session] of CASES) {
    it(name, () => {
      const found = judge(message, session ?? external);
      assert.deepEqual([found.verdict, found.subcode], [verdict, subcode], found.reason);
    });
  }

  it('keeps the good part when an attribute is discarded, and the first of two', () => {
    const block = Uint8Array.from([...GOOD, ...attr(0x40, 6, 0), ...attr(0x40, 1, 2), ...attr(0xc0, 99, 7)]);
    const { attributes } = decodeAttributes(block, 0, block.length, external);
    assert.equal(attributes?.origin, 0);
    assert.equal(attributes?.atomicAggregate, false);
    assert.deepEqual(attributes?.unknown, [{ flags: 0xe0, code: 99, value: Uint8Array.of(7) }]);
  });

  it('stored attributes are read back as internal', () => {
    assert.equal(STORAGE_SESSION.external, false);
  });
});
