// The routing core alone, no sockets: frame, intern, store, decide, bucket by attribute set, encode.
// Prints milliseconds and ns per prefix for an announcement and a withdrawal, cold and warm, for both families.
// Usage: node bench/bgp/core.ts [prefixes] [attribute sets] [family] [runs]
import { IpAddress } from '#net/address.ts';
import { acceptAll } from '#bgp/filter/policy.ts';
import { Rib } from '#bgp/rib/rib.ts';
import type { PeerSession } from '#bgp/rib/peers.ts';
import type { AddressFamily } from '#bgp/wire/types.ts';
import { announcements, withdrawals } from './load.ts';

const PREFIXES = Number(process.argv[2] ?? 500_000);
const SETS = Number(process.argv[3] ?? 1000);

function session(asn: number, address: string): PeerSession {
  const agreed = { addPathReceive: false, addPathSend: false, extendedNextHop: false };
  return {
    codec: {
      as4: true,
      external: true,
      localAs: 65000,
      peerAs: asn,
      maxMessageLength: 4096,
      families: { ipv4: agreed, ipv6: agreed },
    },
    routerId: IpAddress.parse(address).toUint32(),
    localAddress: { ipv4: IpAddress.parse('10.0.0.254'), ipv6: IpAddress.parse('fd00::fe') },
    localLinkLocal: null,
    zone: 0,
    longLivedStale: { ipv4: false, ipv6: false },
  };
}

/** Feeds messages as they would come from a socket, in chunks of 64 KiB, and pulls what the receiver is sent. */
function pass(rib: Rib, stream: Uint8Array, from: ReturnType<Rib['addPeer']>, to: ReturnType<Rib['addPeer']>): number {
  let sent = 0;
  const out: Uint8Array[] = [];
  const take = (): void => {
    for (const peer of [to, from]) {
      do {
        out.length = 0;
        rib.pull(peer, 65536, out);
        if (peer === to) for (const octets of out) sent += octets.length;
      } while (out.length > 0);
    }
  };
  let chunk = 0;
  for (let off = 0; off < stream.length; ) {
    const len = (stream[off + 16]! << 8) | stream[off + 17]!;
    rib.receive(from, stream, off, len);
    off += len;
    if (off - chunk >= 65536) {
      chunk = off;
      rib.work();
      take();
    }
  }
  while (rib.work()) take();
  take();
  return sent;
}

for (const family of ['ipv4', 'ipv6'] as AddressFamily[]) {
  if (process.argv[4] !== undefined && process.argv[4] !== family) continue;
  const announce = announcements(family, PREFIXES, SETS, 65001, family === 'ipv4' ? '10.0.0.1' : 'fd00::1');
  const withdraw = withdrawals(family, PREFIXES);
  for (const run of ['cold', 'warm', 'warm'].slice(0, Number(process.argv[5] ?? 3))) {
    const rib = new Rib({
      identity: { routerId: 0x0a0000fe, localAs: 65000, clusterId: 1 },
      now: () => performance.now(),
    });
    const peers = [1, 2].map((n) =>
      rib.addPeer({
        name: `p${n}`,
        address: IpAddress.parse(`10.0.0.${n}`),
        importPolicy: acceptAll,
        exportPolicy: acceptAll,
      }),
    );
    rib.peerUp(peers[0]!, session(65001, '10.0.0.1'));
    rib.peerUp(peers[1]!, session(65002, '10.0.0.2'));
    const cpu = process.cpuUsage();
    const started = performance.now();
    const octets = pass(rib, announce, peers[0]!, peers[1]!);
    const announced = performance.now();
    const used = process.cpuUsage(cpu);
    pass(rib, withdraw, peers[0]!, peers[1]!);
    const withdrawn = performance.now();
    const ms = (t: number): string => `${t.toFixed(0)} ms (${((t * 1e6) / PREFIXES).toFixed(0)} ns/prefix)`;
    console.log(
      `${family} ${PREFIXES} prefixes ${SETS} sets ${run}: announce ${ms(announced - started)} (processor ${(used.user / 1000).toFixed(0)}+${(used.system / 1000).toFixed(0)} ms), ` +
        `withdraw ${ms(withdrawn - announced)}, sent ${(octets / 1e6).toFixed(1)} MB, ` +
        `rss ${(process.memoryUsage().rss / 1e6).toFixed(0)} MB`,
    );
  }
}
