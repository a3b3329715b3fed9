import assert from 'node:assert/strict';
import test from 'node:test';
import { isBrindleError } from '#base/errors.ts';
import { Prefix } from '#net/prefix.ts';
import { makeAttributes } from '#bgp/wire/attributes.ts';
import type { PathAttributes } from '#bgp/wire/types.ts';
import { compileFilters, type FilterRule, PRIORITY_BASE } from './compile.ts';
import { acceptAll, rejectAll, type RouteView } from './policy.ts';

let serial = 0;

function view(text: string, members: Partial<RouteView> = {}, attributes: Partial<PathAttributes> = {}): RouteView {
  const prefix = Prefix.parse(text);
  const bytes = prefix.address.bytes;
  const word = (i: number): number =>
    i * 4 < bytes.length ? new DataView(bytes.buffer, bytes.byteOffset).getInt32(i * 4) : 0;
  return {
    family: prefix.family === 4 ? 'ipv4' : 'ipv6',
    word0: word(0),
    word1: word(1),
    word2: word(2),
    word3: word(3),
    bits: prefix.length,
    attributes: makeAttributes(attributes),
    attributesId: ++serial,
    generation: 0,
    fromPeer: true,
    externalPeer: true,
    interfaceName: '',
    ...members,
  };
}

/** True when the rule, put before "reject all", lets the route through. */
function passes(rule: Omit<FilterRule, 'action'>, route: RouteView): boolean {
  const rules = [{ action: 'Accept' as const, ...rule }];
  const spec = route.family === 'ipv4' ? { exportV4: rules } : { exportV6: rules };
  return compileFilters([{ name: 'f', spec }], 'export', rejectAll).evaluate(route).accept;
}

test('cidr with every operator', () => {
  const table: [string, 'Equal' | 'NotEqual' | 'In' | 'NotIn', string, boolean][] = [
    ['10.1.0.0/16', 'Equal', '10.1.0.0/16', true],
    ['10.1.0.0/16', 'Equal', '10.1.0.0/17', false],
    ['10.1.0.0/16', 'NotEqual', '10.1.0.0/17', true],
    ['10.1.0.0/16', 'NotEqual', '10.1.0.0/16', false],
    ['10.1.0.0/16', 'In', '10.1.0.0/16', true],
    ['10.1.0.0/16', 'In', '10.1.255.255/32', true],
    ['10.1.0.0/16', 'In', '10.0.0.0/8', false],
    ['10.1.0.0/16', 'In', '10.2.0.0/24', false],
    ['10.1.0.0/16', 'NotIn', '10.2.0.0/24', true],
    ['10.1.0.0/16', 'NotIn', '10.1.2.0/24', false],
    ['0.0.0.0/0', 'In', '192.0.2.0/24', true],
    ['0.0.0.0/0', 'Equal', '0.0.0.0/0', true],
    ['fd00:1::/32', 'In', 'fd00:1:2:3:4:5:6:7/128', true],
    ['fd00:1::/32', 'In', 'fd00:2::/64', false],
    ['fd00::1:0/112', 'In', 'fd00::1:5/128', true],
    ['fd00::1:0/112', 'In', 'fd00::2:5/128', false],
    ['fd00::1:0/112', 'Equal', 'fd00::1:0/112', true],
  ];
  for (const [cidr, matchOperator, route, expected] of table) {
    assert.equal(passes({ cidr, matchOperator }, view(route)), expected, `${route} ${matchOperator} ${cidr}`);
  }
});

test('prefix length narrows the cidr', () => {
  const rule = (min?: number, max?: number) => ({
    cidr: '10.1.0.0/16',
    matchOperator: 'In' as const,
    prefixLength: { min, max },
  });
  assert.equal(passes(rule(24, 28), view('10.1.2.0/24')), true);
  assert.equal(passes(rule(24, 28), view('10.1.2.0/29')), false);
  assert.equal(passes(rule(24), view('10.1.2.0/23')), false);
  assert.equal(passes(rule(24), view('10.1.2.3/32')), true);
  assert.equal(passes(rule(undefined, 20), view('10.1.0.0/16')), true);
  assert.equal(passes(rule(undefined, 20), view('10.0.0.0/8')), false);
  assert.equal(passes(rule(8), view('10.0.0.0/8')), true); // as BIRD's 10.1.0.0/16{8,32}
  assert.equal(passes(rule(8), view('11.0.0.0/8')), false);
  assert.equal(passes({ ...rule(24, 28), matchOperator: 'NotIn' }, view('10.1.2.0/24')), false);
  assert.equal(passes({ ...rule(24, 28), matchOperator: 'NotIn' }, view('10.1.2.0/30')), true);
});

test('source, peer type, interface, communities, AS path, priority', () => {
  assert.equal(passes({ source: 'RemotePeers' }, view('10.0.0.0/8', { fromPeer: false })), false);
  assert.equal(passes({ source: 'RemotePeers' }, view('10.0.0.0/8')), true);
  assert.equal(passes({ peerType: 'iBGP' }, view('10.0.0.0/8')), false);
  assert.equal(passes({ peerType: 'eBGP' }, view('10.0.0.0/8')), true);
  assert.equal(passes({ interface: 'cali*' }, view('10.0.0.0/8', { interfaceName: 'cali123' })), true);
  assert.equal(passes({ interface: 'cali*' }, view('10.0.0.0/8', { interfaceName: 'xcali' })), false);
  assert.equal(passes({ interface: 'eth.1' }, view('10.0.0.0/8', { interfaceName: 'ethx1' })), false);
  const tagged = { communities: [(65000 << 16) | 7], largeCommunities: [[65000, 1, 2] as const] };
  assert.equal(
    passes({ communities: { values: ['65000:7'] } }, view('10.0.0.0/8', {}, { communities: [4259840007] })),
    true,
  );
  assert.equal(passes({ communities: { values: ['65000:8'] } }, view('10.0.0.0/8', {}, tagged)), false);
  assert.equal(passes({ communities: { values: ['65000:1:2'] } }, view('10.0.0.0/8', {}, tagged)), true);
  const path = { asPath: [{ type: 'sequence' as const, asns: [65001, 65002] }] };
  assert.equal(passes({ asPathPrefix: [65001] }, view('10.0.0.0/8', {}, path)), true);
  assert.equal(passes({ asPathPrefix: [65001, '65002'] }, view('10.0.0.0/8', {}, path)), true);
  assert.equal(passes({ asPathPrefix: [65002] }, view('10.0.0.0/8', {}, path)), false);
  assert.equal(passes({ asPathPrefix: [65001, 65002, 1] }, view('10.0.0.0/8', {}, path)), false);
  assert.equal(passes({ priority: 100 }, view('10.0.0.0/8', {}, { localPref: PRIORITY_BASE - 100 })), true);
  assert.equal(passes({ priority: 100 }, view('10.0.0.0/8')), false);
});

test('the first rule that matches decides, filter by filter, and the default behind them', () => {
  const policy = compileFilters(
    [
      { name: 'one', spec: { exportV4: [{ action: 'Reject', cidr: '10.1.0.0/16', matchOperator: 'In' }] } },
      { name: 'two', spec: { exportV4: [{ action: 'Accept', cidr: '10.0.0.0/8', matchOperator: 'In' }] } },
    ],
    'export',
    rejectAll,
  );
  assert.deepEqual(policy.evaluate(view('10.1.2.0/24')), {
    accept: false,
    changes: null,
    rule: 'filter one, exportV4[0]: Reject',
  });
  assert.equal(policy.evaluate(view('10.2.0.0/24')).rule, 'filter two, exportV4[0]: Accept');
  assert.equal(policy.evaluate(view('192.0.2.0/24')).rule, 'default: none');
  assert.equal(policy.evaluate(view('fd00::/64')).rule, 'default: none');
});

test('operations add up', () => {
  const policy = compileFilters(
    [
      {
        name: 'f',
        spec: {
          importV4: [
            {
              action: 'Accept',
              operations: [
                { addCommunity: { value: '65000:1' } },
                { addCommunity: { value: '65000:1:2' } },
                { prependASPath: { prefix: [1, 2] } },
                { prependASPath: { prefix: [3] } },
                { setPriority: { value: 512 } },
              ],
            },
          ],
        },
      },
    ],
    'import',
    acceptAll,
  );
  assert.deepEqual(policy.evaluate(view('10.0.0.0/8')).changes, {
    addCommunities: [4259840001],
    addLargeCommunities: [[65000, 1, 2]],
    prependAsPath: [3, 1, 2],
    localPref: PRIORITY_BASE - 512,
  });
});

test('equal rules have equal ids; no rules of the direction is the default itself', () => {
  const spec = { exportV4: [{ action: 'Accept' as const }] };
  const a = compileFilters([{ name: 'f', spec }], 'export', rejectAll);
  const b = compileFilters([{ name: 'f', spec: structuredClone(spec) }], 'export', rejectAll);
  assert.equal(a.id, b.id);
  assert.notEqual(a.id, compileFilters([{ name: 'f', spec }], 'export', acceptAll).id);
  assert.equal(compileFilters([{ name: 'f', spec }], 'import', acceptAll), acceptAll);
});

test('what does not parse is refused with its field', () => {
  const bad = (rule: Partial<FilterRule>, field: string): void => {
    assert.throws(
      () => compileFilters([{ name: 'f', spec: { exportV4: [{ action: 'Accept', ...rule }] } }], 'export', rejectAll),
      (error) => isBrindleError(error, 'invalid-argument') && error.field === field,
    );
  };
  bad({ cidr: 'fd00::/64' }, 'spec.exportV4[0].cidr');
  bad({ communities: { values: ['x:1'] } }, 'spec.exportV4[0].communities.values[0]');
  bad({ asPathPrefix: ['no'] }, 'spec.exportV4[0].asPathPrefix[0]');
  bad({ operations: [{ addCommunity: { value: '1' } }] }, 'spec.exportV4[0].operations[0].addCommunity.value');
});
