// The RIB end to end: messages in, octets out.
import assert from 'node:assert/strict';
import test from 'node:test';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { compileFilters } from '#bgp/filter/compile.ts';
import { acceptAll, rejectAll } from '#bgp/filter/policy.ts';
import { makeAttributes } from '#bgp/wire/attributes.ts';
import { STEP_TEXT } from './decision.ts';
import { announcement, drain, receiveText, TestPeer, testRib, withdrawal } from './testing.ts';

test('a route goes from one external peer to another, with AS and next hop of ours, and not back', () => {
  const rib = testRib();
  const a = new TestPeer(rib, { asn: 65001, address: '10.0.0.1' });
  const b = new TestPeer(rib, { asn: 65002, address: '10.0.0.2' });
  a.up();
  b.up();
  drain(rib, [a, b]);
  a.send(announcement({ asPath: [65001], nextHop: '10.0.0.1' }, ['10.1.0.0/16', '10.2.0.0/16']));
  drain(rib, [a, b]);
  assert.deepEqual(receiveText(b), [
    '10.1.0.0/16 as 65000 65001 nh 10.0.0.254',
    '10.2.0.0/16 as 65000 65001 nh 10.0.0.254',
  ]);
  assert.deepEqual(receiveText(a), []);
  a.send(withdrawal(['10.1.0.0/16']));
  drain(rib, [a, b]);
  assert.deepEqual(receiveText(b), ['10.2.0.0/16 as 65000 65001 nh 10.0.0.254']);
  assert.equal(a.peer.families.ipv4.received, 1);
  a.down();
  drain(rib, [b]);
  assert.deepEqual(receiveText(b), []);
  assert.equal(rib.families.ipv4.prefixes.count, 0);
  assert.equal(rib.families.ipv4.paths.count, 0);
});

test('End-of-RIB comes once, after the table', () => {
  const rib = testRib();
  rib.originate(Prefix.parse('10.9.0.0/24'), makeAttributes({}));
  const b = new TestPeer(rib, { asn: 65000, address: '10.0.0.2' });
  b.up();
  drain(rib, [b]);
  assert.deepEqual(b.endOfRibs, [{ family: 'ipv4', routes: 1 }]);
  rib.originate(Prefix.parse('10.9.1.0/24'), makeAttributes({}));
  drain(rib, [b]);
  assert.equal(b.endOfRibs.length, 1);
  assert.deepEqual(receiveText(b), ['10.9.0.0/24 as  nh 10.0.0.254 lp 100', '10.9.1.0/24 as  nh 10.0.0.254 lp 100']);
});

test('a peer that joins late gets the table, and changes of policy only what differs', () => {
  const rib = testRib();
  const a = new TestPeer(rib, { asn: 65001, address: '10.0.0.1' });
  const b = new TestPeer(rib, { asn: 65002, address: '10.0.0.2' });
  const c = new TestPeer(rib, { asn: 65003, address: '10.0.0.3' });
  a.up();
  b.up();
  a.send(announcement({ asPath: [65001], nextHop: '10.0.0.1' }, ['10.1.0.0/16', '10.2.0.0/16']));
  drain(rib, [a, b]);
  c.up();
  drain(rib, [a, b, c]);
  assert.equal(receiveText(c).length, 2);
  assert.deepEqual(c.endOfRibs, [{ family: 'ipv4', routes: 2 }]);
  const before = b.octets;
  rib.configurePeer(c.peer, { ...c.peer.config, exportPolicy: rejectAll });
  drain(rib, [a, b, c]);
  assert.deepEqual(receiveText(c), []);
  assert.equal(b.octets, before);
  rib.configurePeer(c.peer, { ...c.peer.config, exportPolicy: acceptAll });
  drain(rib, [a, b, c]);
  assert.equal(receiveText(c).length, 2);
  assert.equal(c.endOfRibs.length, 1);
});

test('a prefix learned from its own receiver is taken back from it only', () => {
  const rib = testRib();
  const a = new TestPeer(rib, { asn: 65001, address: '10.0.0.1' });
  const b = new TestPeer(rib, { asn: 65002, address: '10.0.0.2' });
  const c = new TestPeer(rib, { asn: 65003, address: '10.0.0.3' });
  for (const p of [a, b, c]) p.up();
  a.send(announcement({ asPath: [65001, 7, 8], nextHop: '10.0.0.1' }, ['10.1.0.0/16']));
  drain(rib, [a, b, c]);
  assert.deepEqual(receiveText(b), ['10.1.0.0/16 as 65000 65001 7 8 nh 10.0.0.254']);
  b.send(announcement({ asPath: [65002], nextHop: '10.0.0.2' }, ['10.1.0.0/16']));
  drain(rib, [a, b, c]);
  assert.deepEqual(receiveText(b), []);
  assert.deepEqual(receiveText(a), ['10.1.0.0/16 as 65000 65002 nh 10.0.0.254']);
  assert.deepEqual(receiveText(c), ['10.1.0.0/16 as 65000 65002 nh 10.0.0.254']);
  b.send(withdrawal(['10.1.0.0/16']));
  drain(rib, [a, b, c]);
  assert.deepEqual(receiveText(a), []);
  assert.deepEqual(receiveText(b), ['10.1.0.0/16 as 65000 65001 7 8 nh 10.0.0.254']);
  assert.deepEqual(receiveText(c), ['10.1.0.0/16 as 65000 65001 7 8 nh 10.0.0.254']);
});

test('IPv6 routes go in MP attributes, and End-of-RIB is an empty MP_UNREACH_NLRI', () => {
  const rib = testRib();
  const families = ['ipv6'] as const;
  const a = new TestPeer(rib, { asn: 65001, address: '10.0.0.1', families });
  const b = new TestPeer(rib, { asn: 65000, address: '10.0.0.2', families });
  a.up();
  b.up();
  drain(rib, [a, b]);
  a.send(announcement({ asPath: [65001], nextHop: 'fd00::1' }, ['fd01::/64', 'fd02::1/128']));
  drain(rib, [a, b]);
  assert.deepEqual(receiveText(b), ['fd01::/64 as 65001 nh fd00::1 lp 100', 'fd02::1/128 as 65001 nh fd00::1 lp 100']);
  assert.equal(b.endOfRibs[0]?.family, 'ipv6');
  a.send(withdrawal(['fd01::/64']));
  drain(rib, [a, b]);
  assert.deepEqual(receiveText(b), ['fd02::1/128 as 65001 nh fd00::1 lp 100']);
});

test('stale routes stay through a restart and go when they are not heard again', () => {
  const rib = testRib();
  const a = new TestPeer(rib, { asn: 65001, address: '10.0.0.1' });
  const b = new TestPeer(rib, { asn: 65002, address: '10.0.0.2' });
  a.up();
  b.up();
  const route = { asPath: [65001], nextHop: '10.0.0.1' };
  a.send(announcement(route, ['10.1.0.0/16', '10.2.0.0/16']));
  drain(rib, [a, b]);
  const before = b.octets;
  a.down('retain');
  drain(rib, [b]);
  assert.equal(b.octets, before);
  a.up();
  a.send(announcement(route, ['10.1.0.0/16']));
  drain(rib, [a, b]);
  assert.equal(b.octets, before);
  assert.equal(a.peer.families.ipv4.stale, 1);
  rib.sweepStale(a.peer, 'ipv4');
  drain(rib, [a, b]);
  assert.deepEqual(receiveText(b), ['10.1.0.0/16 as 65000 65001 nh 10.0.0.254']);
});

test('routes over a next hop that cannot be reached are not used', () => {
  const rib = testRib({ resolveNextHops: true });
  const a = new TestPeer(rib, { asn: 65001, address: '10.0.0.1' });
  const b = new TestPeer(rib, { asn: 65002, address: '10.0.0.2' });
  a.up();
  b.up();
  a.send(announcement({ asPath: [65001], nextHop: '10.0.0.1' }, ['10.1.0.0/16']));
  drain(rib, [a, b]);
  assert.deepEqual(receiveText(b), []);
  const [hop] = rib.nextHops.takeNew();
  assert.equal(hop?.address?.equals(IpAddress.parse('10.0.0.1')), true);
  rib.setNextHop(hop?.id ?? 0, true, 10);
  drain(rib, [a, b]);
  assert.equal(receiveText(b).length, 1);
  rib.setNextHop(hop?.id ?? 0, false, 0);
  drain(rib, [a, b]);
  assert.deepEqual(receiveText(b), []);
});

test('an aggregate is there while a route contributes, and may hide what contributes', () => {
  const rib = testRib();
  const a = new TestPeer(rib, { asn: 65001, address: '10.0.0.1' });
  const b = new TestPeer(rib, { asn: 65002, address: '10.0.0.2' });
  a.up();
  b.up();
  const prefixes = (peer: TestPeer): string[] => [...peer.table.keys()].sort();
  rib.setAggregates([{ prefix: Prefix.parse('10.9.0.0/16'), suppress: true }]);
  a.send(announcement({ asPath: [65001], nextHop: '10.0.0.1' }, ['10.9.7.0/24']));
  drain(rib, [a, b]);
  assert.deepEqual(prefixes(b), ['10.9.7.0/24']); // a learned route does not contribute
  rib.originate(Prefix.parse('10.9.1.0/26'), makeAttributes({}));
  rib.originate(Prefix.parse('10.9.1.64/26'), makeAttributes({}));
  drain(rib, [a, b]);
  assert.deepEqual(prefixes(b), ['10.9.0.0/16', '10.9.7.0/24']);
  assert.equal(b.table.get('10.9.0.0/16')?.aggregator?.asn, 65000);
  assert.deepEqual(
    rib.aggregates('ipv4').map((x) => x.contributors),
    [2],
  );
  rib.withdrawLocal(Prefix.parse('10.9.1.0/26'));
  drain(rib, [a, b]);
  assert.deepEqual(prefixes(b), ['10.9.0.0/16', '10.9.7.0/24']);
  rib.withdrawLocal(Prefix.parse('10.9.1.64/26'));
  drain(rib, [a, b]);
  assert.deepEqual(prefixes(b), ['10.9.7.0/24']);
  rib.setAggregates([{ prefix: Prefix.parse('10.0.0.0/8'), contributors: 'any' }]);
  drain(rib, [a, b]);
  assert.deepEqual(prefixes(b), ['10.0.0.0/8', '10.9.7.0/24']);
  rib.setAggregates([]);
  drain(rib, [a, b]);
  assert.deepEqual(prefixes(b), ['10.9.7.0/24']);
});

test('long-lived stale routes are least preferred and go only to peers that understand', () => {
  const rib = testRib();
  const a = new TestPeer(rib, { asn: 65001, address: '10.0.0.1' });
  const b = new TestPeer(rib, { asn: 65002, address: '10.0.0.2' });
  const c = new TestPeer(rib, { asn: 65003, address: '10.0.0.3' });
  const d = new TestPeer(rib, { asn: 65004, address: '10.0.0.4', longLivedStale: true });
  for (const p of [a, b, c, d]) p.up();
  a.send(announcement({ asPath: [65001], nextHop: '10.0.0.1' }, ['10.1.0.0/16', '10.2.0.0/16']));
  a.send(announcement({ asPath: [65001], nextHop: '10.0.0.1', more: { communities: [0xffff0007] } }, ['10.3.0.0/16']));
  b.send(announcement({ asPath: [65002, 1, 1, 1], nextHop: '10.0.0.2' }, ['10.1.0.0/16']));
  drain(rib, [a, b, c, d]);
  assert.equal(c.table.size, 3);
  a.down('retain');
  drain(rib, [b, c, d]);
  assert.equal(c.table.size, 3);
  rib.ageStale(a.peer, 'ipv4');
  drain(rib, [b, c, d]);
  assert.deepEqual(receiveText(c), ['10.1.0.0/16 as 65000 65002 1 1 1 nh 10.0.0.254']);
  assert.deepEqual([...d.table.keys()].sort(), ['10.1.0.0/16', '10.2.0.0/16']);
  assert.deepEqual(d.table.get('10.2.0.0/16')?.communities, [0xffff0006]);
  const row = rib.families.ipv4.lookup(Prefix.parse('10.1.0.0/16'));
  assert.equal(STEP_TEXT[rib.families.ipv4.prefixes.step[row] ?? 0], 'Path Staleness');
  a.up();
  a.send(announcement({ asPath: [65001], nextHop: '10.0.0.1' }, ['10.1.0.0/16']));
  rib.sweepStale(a.peer, 'ipv4');
  drain(rib, [a, b, c, d]);
  assert.deepEqual(receiveText(c), ['10.1.0.0/16 as 65000 65001 nh 10.0.0.254']);
});

test('a change of import policy re-imports the one peer and keeps what it sent', () => {
  const rib = testRib();
  const a = new TestPeer(rib, { asn: 65001, address: '10.0.0.1' });
  const b = new TestPeer(rib, { asn: 65002, address: '10.0.0.2' });
  a.up();
  b.up();
  a.send(announcement({ asPath: [65001], nextHop: '10.0.0.1' }, ['10.1.0.0/16', '10.2.0.0/16']));
  const rules = [{ action: 'Reject' as const, cidr: '10.1.0.0/16', matchOperator: 'In' as const }];
  const change = [{ action: 'Accept' as const, operations: [{ addCommunity: { value: '1:2' } }] }];
  const policy = compileFilters([{ name: 'f', spec: { importV4: [...rules, ...change] } }], 'import', acceptAll);
  rib.configurePeer(a.peer, { ...a.peer.config, importPolicy: policy });
  drain(rib, [a, b]);
  assert.deepEqual([...b.table.keys()], ['10.2.0.0/16']);
  assert.deepEqual(b.table.get('10.2.0.0/16')?.communities, [65538]);
  assert.equal(a.peer.families.ipv4.received, 2);
  assert.equal(a.peer.families.ipv4.accepted, 1);
  rib.configurePeer(a.peer, { ...a.peer.config, importPolicy: acceptAll });
  drain(rib, [a, b]);
  assert.deepEqual([...b.table.keys()].sort(), ['10.1.0.0/16', '10.2.0.0/16']);
  assert.deepEqual(b.table.get('10.2.0.0/16')?.communities, []);
});

test('paths equal up to the IGP metric share the load', () => {
  const rib = testRib({ maxPaths: 2 });
  const peers = [1, 2, 3].map((n) => new TestPeer(rib, { asn: 65001, address: `10.0.0.${n}` }));
  for (const p of peers) p.up();
  for (const [i, p] of peers.entries()) {
    p.send(announcement({ asPath: [65001, 9], nextHop: `10.0.0.${i + 1}` }, ['10.1.0.0/16']));
  }
  drain(rib, peers);
  const family = rib.families.ipv4;
  const row = family.lookup(Prefix.parse('10.1.0.0/16'));
  const hops = (): string[] => {
    const out: number[] = [];
    family.decision.multipath(row, out);
    return out.map((p) => String(rib.attributes.decoded(family.paths.attributes[p] ?? 0).nextHop));
  };
  assert.deepEqual(hops(), ['10.0.0.1', '10.0.0.2']);
  peers[0]?.send(withdrawal(['10.1.0.0/16']));
  assert.deepEqual(hops(), ['10.0.0.2', '10.0.0.3']);
  const other = new TestPeer(rib, { asn: 65002, address: '10.0.0.4' });
  other.up();
  other.send(announcement({ asPath: [65002, 9], nextHop: '10.0.0.4' }, ['10.1.0.0/16']));
  rib.configure({ maxPaths: 4 });
  assert.equal(hops().length, 2);
  rib.configure({ maxPaths: 4, multipathRelax: true });
  assert.equal(hops().length, 3);
});

test('a reflector of two clusters puts both into the list and finds either again', () => {
  const rib = testRib();
  const client = (address: string, clusterId?: number): TestPeer =>
    new TestPeer(rib, {
      asn: 65000,
      address,
      config: { routeReflectorClient: true, ...(clusterId !== undefined && { clusterId }) },
    });
  const a = client('10.0.0.1', 1);
  const b = client('10.0.0.2', 1);
  const c = client('10.0.0.3', 2);
  const d = client('10.0.0.4');
  for (const p of [a, b, c, d]) p.up();
  a.send(announcement({ asPath: [], nextHop: '10.0.0.1' }, ['10.1.0.0/16']));
  drain(rib, [a, b, c, d]);
  const list = (peer: TestPeer): readonly number[] | undefined => peer.table.get('10.1.0.0/16')?.clusterList;
  assert.deepEqual([list(a), list(b), list(c), list(d)], [undefined, [1], [2, 1], [0x0a0000fe, 1]]);
  assert.equal(c.table.get('10.1.0.0/16')?.originatorId, 0x0a000001);
  c.send(announcement({ asPath: [], nextHop: '10.0.0.3', more: { clusterList: [2] } }, ['10.2.0.0/16']));
  assert.equal(c.peer.families.ipv4.accepted, 0);
});

test('GRACEFUL_SHUTDOWN makes a path the last choice, and is added towards peers that are being left', () => {
  const rib = testRib();
  const a = new TestPeer(rib, { asn: 65001, address: '10.0.0.1' });
  const b = new TestPeer(rib, { asn: 65002, address: '10.0.0.2' });
  const c = new TestPeer(rib, { asn: 65000, address: '10.0.0.3' });
  for (const p of [a, b, c]) p.up();
  a.send(announcement({ asPath: [65001], nextHop: '10.0.0.1', more: { communities: [0xffff0000] } }, ['10.1.0.0/16']));
  drain(rib, [a, b, c]);
  assert.equal(c.table.get('10.1.0.0/16')?.localPref, 0);
  b.send(announcement({ asPath: [65002, 1, 2, 3], nextHop: '10.0.0.2' }, ['10.1.0.0/16']));
  drain(rib, [a, b, c]);
  assert.deepEqual(receiveText(c), ['10.1.0.0/16 as 65002 1 2 3 nh 10.0.0.2 lp 100']);
});
