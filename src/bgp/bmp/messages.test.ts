// BMP messages against octets laid out by hand from RFC 7854.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeKeepalive } from '#bgp/wire/message.ts';
import { IpAddress } from '#net/address.ts';
import {
  encodeInitiation,
  encodePeerDown,
  encodePeerUp,
  encodeRouteMonitoring,
  encodeStatistics,
  encodeTermination,
} from './messages.ts';

const peer = { address: IpAddress.parse('10.9.0.2'), asNumber: 65002, routerId: 0x0a090002 };
const peer6 = { ...peer, address: IpAddress.parse('2001:db8::2') };
const AT = 0x65000000 * 1000 + 250;
const text = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');
const expect = (octets: Uint8Array, wanted: string): void => assert.equal(text(octets), wanted.replaceAll(/\s/g, ''));
const HEADER = `00 00 0000000000000000 000000000000000000000000 0a090002 0000fdea 0a090002 65000000 0003d090`;
const keepalive = text(encodeKeepalive());

describe('BMP', () => {
  it('writes the messages of RFC 7854', () => {
    expect(encodeInitiation('a', 'bc'), '03 00000011 04  0001 0002 6263  0002 0001 61');
    expect(encodeTermination(0), '03 0000000c 05  0001 0002 0000');
    expect(encodeRouteMonitoring(peer, AT, encodeKeepalive(), false), `03 00000043 00 ${HEADER} ${keepalive}`);
    expect(encodePeerDown(peer, AT, 2, Uint8Array.of(0, 8)), `03 00000033 02 ${HEADER} 02 0008`);
    expect(
      encodeStatistics(peer, AT, [
        { type: 7, kind: 'gauge', value: 5 },
        { type: 9, kind: 'gauge', value: 2 ** 32 + 1, afi: 2 },
        { type: 11, kind: 'counter', value: 3 },
      ]),
      `03 00000057 01 ${HEADER} 00000003 0007 0008 0000000000000005 0009 000b 0002 01 0000000100000001 000b 0004 00000003`,
    );
    const up = encodePeerUp(peer, AT, {
      localAddress: IpAddress.parse('10.9.0.1'),
      localPort: 179,
      remotePort: 40000,
      openSent: encodeKeepalive(),
      openReceived: encodeKeepalive(),
    });
    expect(up, `03 0000006a 03 ${HEADER} 000000000000000000000000 0a090001 00b3 9c40 ${keepalive} ${keepalive}`);
  });

  it('marks IPv6 peers and 2-octet AS numbers', () => {
    const message = encodeRouteMonitoring(peer6, AT, encodeKeepalive(), true);
    assert.equal(message[7], 0xa0);
    assert.equal(text(message.subarray(16, 32)), '20010db8000000000000000000000002');
  });
});
