// For tests: a RIB, peers that remember what they were told by decoding the octets, and messages by text.
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { acceptAll } from '#bgp/filter/policy.ts';
import { decodeAttributes, encodeAttributes, encodeNextHop, makeAttributes } from '#bgp/wire/attributes.ts';
import { decodeNlri, NlriColumns } from '#bgp/wire/nlri.ts';
import { type AddressFamily, type CodecSession, type PathAttributes, STORAGE_SESSION } from '#bgp/wire/types.ts';
import { attributeKey, splitUpdate, UpdateView } from '#bgp/wire/update.ts';
import { OctetWriter } from '#bgp/wire/writer.ts';
import type { PeerConfig, PeerSession, RibPeer } from './peers.ts';
import { type PeerLoss, Rib, type RibOptions } from './rib.ts';

export const TEST_AS = 65000;
const ROUTER_ID = 0x0a0000fe;

export function testRib(options: Partial<RibOptions> = {}): Rib {
  return new Rib({
    identity: { routerId: ROUTER_ID, localAs: TEST_AS, clusterId: ROUTER_ID },
    now: () => 0,
    ...options,
  });
}

export interface RouteText {
  readonly asPath: readonly number[];
  readonly nextHop: string;
  readonly more?: Partial<PathAttributes>;
  /** Default true. */
  readonly as4?: boolean;
}

/** An UPDATE that announces prefixes of one family; with `pathId` ADD-PATH identifiers are written. */
export function announcement(route: RouteText, prefixes: readonly string[], pathId: number | null = null): Uint8Array {
  const parsed = prefixes.map((p) => Prefix.parse(p));
  const attributes = makeAttributes({
    asPath: route.asPath.length > 0 ? [{ type: 'sequence', asns: route.asPath }] : [],
    nextHop: IpAddress.parse(route.nextHop),
    ...route.more,
  });
  const nlri = nlriOctets(parsed, pathId);
  const session = { ...STORAGE_SESSION, as4: route.as4 ?? true };
  if (parsed[0]!.family === 4 && attributes.nextHop!.family === 4) {
    return message(new Uint8Array(0), encodeAttributes(attributes, session, 'attribute'), nlri);
  }
  const nextHop = encodeNextHop(attributes);
  const value = new OctetWriter()
    .u16(parsed[0]!.family === 4 ? 1 : 2)
    .u8(1)
    .u8(nextHop.length)
    .bytes(nextHop)
    .u8(0)
    .bytes(nlri);
  const reach = new OctetWriter().u8(0x90).u8(14).u16(value.length).bytes(value.finish());
  reach.bytes(encodeAttributes(attributes, session, 'none'));
  return message(new Uint8Array(0), reach.finish(), new Uint8Array(0));
}

export function withdrawal(prefixes: readonly string[], pathId: number | null = null): Uint8Array {
  const parsed = prefixes.map((p) => Prefix.parse(p));
  const nlri = nlriOctets(parsed, pathId);
  if (parsed[0]!.family === 4) return message(nlri, new Uint8Array(0), new Uint8Array(0));
  const unreach = new OctetWriter()
    .u8(0x90)
    .u8(15)
    .u16(nlri.length + 3)
    .u16(2)
    .u8(1)
    .bytes(nlri);
  return message(new Uint8Array(0), unreach.finish(), new Uint8Array(0));
}

function nlriOctets(prefixes: readonly Prefix[], pathId: number | null): Uint8Array {
  const out = new OctetWriter();
  for (const prefix of prefixes) {
    if (pathId !== null) out.u32(pathId);
    out.u8(prefix.length).bytes(prefix.address.bytes.subarray(0, (prefix.length + 7) >> 3));
  }
  return out.finish();
}

function message(withdrawn: Uint8Array, attributes: Uint8Array, nlri: Uint8Array): Uint8Array {
  const out = new OctetWriter();
  for (let i = 0; i < 16; i++) out.u8(255);
  out.u16(23 + withdrawn.length + attributes.length + nlri.length).u8(2);
  return out.u16(withdrawn.length).bytes(withdrawn).u16(attributes.length).bytes(attributes).bytes(nlri).finish();
}

export interface TestPeerOptions {
  readonly asn: number;
  readonly address: string;
  readonly routerId?: number;
  readonly families?: readonly AddressFamily[];
  readonly addPathSend?: boolean;
  readonly addPathReceive?: boolean;
  readonly longLivedStale?: boolean;
  readonly as4?: boolean;
  readonly config?: Partial<PeerConfig>;
}

/** A neighbour: says what it is told to, and keeps the table that the octets it is sent amount to. */
export class TestPeer {
  readonly peer: RibPeer;
  readonly session: PeerSession;
  /** `prefix` or `prefix#id` -> attributes. */
  readonly table = new Map<string, PathAttributes>();
  endOfRibs: { family: AddressFamily; routes: number }[] = [];
  octets = 0;
  /** The codec's view of the other direction. */
  readonly #reverse: CodecSession;
  readonly #rib: Rib;

  constructor(rib: Rib, options: TestPeerOptions) {
    this.#rib = rib;
    const address = IpAddress.parse(options.address);
    this.peer = rib.addPeer({
      name: options.address,
      address,
      importPolicy: acceptAll,
      exportPolicy: acceptAll,
      ...options.config,
    });
    const families = options.families ?? ['ipv4'];
    const agreed = (reverse: boolean) => ({
      addPathReceive: (reverse ? options.addPathSend : options.addPathReceive) ?? false,
      addPathSend: (reverse ? options.addPathReceive : options.addPathSend) ?? false,
      extendedNextHop: false,
    });
    const codec = (reverse: boolean): CodecSession => ({
      as4: options.as4 ?? true,
      external: options.asn !== TEST_AS,
      localAs: TEST_AS,
      peerAs: options.asn,
      maxMessageLength: 4096,
      families: {
        ipv4: families.includes('ipv4') ? agreed(reverse) : null,
        ipv6: families.includes('ipv6') ? agreed(reverse) : null,
      },
    });
    this.#reverse = codec(true);
    const stale = options.longLivedStale ?? false;
    this.session = {
      codec: codec(false),
      routerId: options.routerId ?? (address.family === 4 ? address.toUint32() : 1),
      localAddress: { ipv4: IpAddress.parse('10.0.0.254'), ipv6: IpAddress.parse('fd00::fe') },
      localLinkLocal: null,
      zone: 0,
      longLivedStale: { ipv4: stale, ipv6: stale },
    };
  }

  up(): void {
    this.table.clear();
    this.#rib.peerUp(this.peer, this.session);
  }

  down(loss: PeerLoss = 'remove'): void {
    this.#rib.peerDown(this.peer, loss);
  }

  send(octets: Uint8Array): void {
    const result = this.#rib.receive(this.peer, octets, 0, octets.length);
    if (result.verdict > 1) throw new Error(`verdict ${result.verdict}: ${result.errors[0]?.reason}`);
  }

  /** Takes what is there to be sent to this peer. False when there was nothing. */
  pull(maxOctets = 65536): boolean {
    const out: Uint8Array[] = [];
    const any = this.#rib.pull(this.peer, maxOctets, out);
    for (const octets of out) this.#take(octets);
    return any;
  }

  #take(octets: Uint8Array): void {
    this.octets += octets.length;
    const view = new UpdateView();
    const scratch = new Uint8Array(65600);
    const range = { buf: scratch, off: 0, len: 0 };
    for (let off = 0; off < octets.length; ) {
      const len = (octets[off + 16]! << 8) | octets[off + 17]!;
      if (len > this.#reverse.maxMessageLength || len < 23) throw new Error(`message of ${len} octets`);
      const verdict = splitUpdate(octets, off, len, this.#reverse, view);
      if (verdict !== 0) throw new Error(`what we send is malformed: ${view.reason}`);
      off += len;
      if (view.endOfRib) {
        this.endOfRibs.push({ family: view.endOfRib, routes: this.table.size });
        continue;
      }
      this.#each('ipv4', octets, view.withdrawnOff, view.withdrawnLen, (key) => this.table.delete(key));
      if (view.unreachFamily) {
        this.#each(view.unreachFamily, octets, view.unreachNlriOff, view.unreachNlriLen, (key) =>
          this.table.delete(key),
        );
      }
      for (const which of ['nlri', 'reach'] as const) {
        const family = which === 'nlri' ? 'ipv4' : view.reachFamily;
        const [at, length] = which === 'nlri' ? [view.nlriOff, view.nlriLen] : [view.reachNlriOff, view.reachNlriLen];
        if (!family || length === 0) continue;
        attributeKey(view, which, scratch, range);
        const decoded = decodeAttributes(range.buf, range.off, range.len, { ...this.#reverse, external: false });
        if (!decoded.attributes) throw new Error(`attributes we send are malformed: ${decoded.errors[0]?.reason}`);
        const { attributes } = decoded;
        this.#each(family, octets, at, length, (key) => this.table.set(key, attributes));
      }
    }
  }

  #each(family: AddressFamily, buf: Uint8Array, off: number, len: number, visit: (key: string) => void): void {
    const nlri = new NlriColumns();
    const addPath = this.#reverse.families[family]?.addPathReceive ?? false;
    if (!decodeNlri(family, buf, off, len, addPath, nlri)) throw new Error('prefixes we send are malformed');
    for (let i = 0; i < nlri.count; i++) {
      const words = [nlri.word0[i]!, nlri.word1[i]!, nlri.word2[i]!, nlri.word3[i]!];
      const bytes = new OctetWriter(16);
      for (const word of family === 'ipv4' ? words.slice(0, 1) : words) bytes.u32(word);
      const prefix = Prefix.of(IpAddress.fromBytes(bytes.finish()), nlri.bits[i]!);
      visit(addPath ? `${prefix}#${nlri.pathId[i]}` : prefix.toString());
    }
  }
}

/** Runs everything until nobody has anything left to do or to read. */
export function drain(rib: Rib, peers: readonly TestPeer[]): void {
  for (let turn = 0; turn < 100_000; turn++) {
    let more = rib.work();
    for (const peer of peers) if (peer.pull()) more = true;
    if (!more) return;
  }
  throw new Error('the RIB does not come to rest');
}

/** What a peer was told, a line a route. */
export function receiveText(peer: TestPeer): string[] {
  const lines = [...peer.table].map(([key, a]) => {
    const path = a.asPath.map((s) => (s.type === 'set' ? `{${s.asns.join(' ')}}` : s.asns.join(' '))).join(' ');
    return `${key} as ${path} nh ${a.nextHop}${a.localPref === null ? '' : ` lp ${a.localPref}`}`;
  });
  return lines.sort();
}
