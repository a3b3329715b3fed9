// The RIB end to end: messages in, octets out.
import assert from 'node:assert/strict';
import test from 'node:test';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { acceptAll, rejectAll } from '#bgp/filter/policy.ts';
import { makeAttributes } from '#bgp/wire/attributes.ts';
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
