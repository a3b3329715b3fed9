// Routes for benchmarks, encoded beforehand: prefixes of different lengths spread over the address space, in as many
// attribute sets as asked for, each set's prefixes packed into full messages.
import { IpAddress } from '#net/address.ts';
import { encodeAttributes, encodeNextHop, makeAttributes } from '#bgp/wire/attributes.ts';
import { type AddressFamily, type PathAttributes, STORAGE_SESSION } from '#bgp/wire/types.ts';

const MAX_MESSAGE = 4096;

/** Octets of prefix `index`: length and address. All differ; about as long as those of a full table. */
export function nlri(family: AddressFamily, index: number): number[] {
  if (family === 'ipv4') {
    // 1.0.0.0/24 onwards, all /24, in an order that hashes do not love by accident.
    const n = 0x010000 + index;
    return [24, (n >> 16) & 255, (n >> 8) & 255, n & 255];
  }
  return [48, 0x20, 0x01, (index >> 24) & 255, (index >> 16) & 255, (index >> 8) & 255, index & 255];
}

function attributesOf(set: number, asn: number, nextHop: string): PathAttributes {
  return makeAttributes({
    asPath: [{ type: 'sequence', asns: [asn, 100_000 + set, 200_000 + (set % 37), 64_000 + (set % 7)] }],
    nextHop: IpAddress.parse(nextHop),
    med: set % 3 === 0 ? set : null,
    communities: [(asn << 16) >>> 0, ((65_010 << 16) | (set % 65536)) >>> 0],
  });
}

/** A stream of UPDATEs that announces `count` prefixes in `sets` attribute sets, from an external peer. */
export function announcements(
  family: AddressFamily,
  count: number,
  sets: number,
  asn: number,
  nextHop: string,
): Uint8Array {
  const out: Uint8Array[] = [];
  const perSet = Math.ceil(count / sets);
  for (let set = 0, at = 0; set < sets && at < count; set++) {
    const attributes = attributesOf(set, asn, nextHop);
    const octets = encodeAttributes(attributes, STORAGE_SESSION, family === 'ipv4' ? 'attribute' : 'none');
    const end = Math.min(count, at + perSet);
    while (at < end) {
      const prefixes: number[] = [];
      while (at < end && 23 + 40 + octets.length + prefixes.length + 24 < MAX_MESSAGE)
        prefixes.push(...nlri(family, at++));
      if (family === 'ipv4') out.push(update([], [...octets], prefixes));
      else {
        const hop = encodeNextHop(attributes);
        const value = [0, 2, 1, hop.length, ...hop, 0, ...prefixes];
        out.push(update([], [0x90, 14, value.length >> 8, value.length & 255, ...value, ...octets], []));
      }
    }
  }
  return concat(out);
}

/** One UPDATE that announces `count` prefixes from `first` on with one attribute set, as an internal peer does. */
export function announcementsOf(first: number, count: number, nextHop: string): Uint8Array {
  const attributes = makeAttributes({ nextHop: IpAddress.parse(nextHop), localPref: 100 });
  const prefixes = Array.from({ length: count }, (_, i) => nlri('ipv4', first + i)).flat();
  return update([], [...encodeAttributes(attributes, STORAGE_SESSION, 'attribute')], prefixes);
}

/** One UPDATE that withdraws `count` IPv4 prefixes from `first` on. */
export function withdrawalsOf(first: number, count: number): Uint8Array {
  return update(Array.from({ length: count }, (_, i) => nlri('ipv4', first + i)).flat(), [], []);
}

/** A stream of UPDATEs that withdraws the first `count` prefixes. */
export function withdrawals(family: AddressFamily, count: number): Uint8Array {
  const out: Uint8Array[] = [];
  for (let at = 0; at < count; ) {
    const prefixes: number[] = [];
    while (at < count && prefixes.length + 64 < MAX_MESSAGE) prefixes.push(...nlri(family, at++));
    if (family === 'ipv4') out.push(update(prefixes, [], []));
    else {
      const value = [0, 2, 1, ...prefixes];
      out.push(update([], [0x90, 15, value.length >> 8, value.length & 255, ...value], []));
    }
  }
  return concat(out);
}

function update(withdrawn: number[], attributes: number[], prefixes: number[]): Uint8Array {
  const length = 23 + withdrawn.length + attributes.length + prefixes.length;
  const head = [...Array<number>(16).fill(255), length >> 8, length & 255, 2];
  head.push(withdrawn.length >> 8, withdrawn.length & 255, ...withdrawn);
  return Uint8Array.from([...head, attributes.length >> 8, attributes.length & 255, ...attributes, ...prefixes]);
}

export function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(pieces.reduce((sum, p) => sum + p.length, 0));
  let off = 0;
  for (const piece of pieces) {
    out.set(piece, off);
    off += piece.length;
  }
  return out;
}
