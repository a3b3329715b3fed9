// Capabilities of an OPEN (RFC 5492): one table from code to name, reader and writer. @wire-vocabulary
// RFC 2918, 4724, 4760, 6793, 7313, 7911, 8538, 8654, 8950, 9494, and the host name of
// draft-walton-bgp-hostname-capability. An unknown capability is kept as it is and otherwise passed over.
import { type AddressFamily, afiOf, familyOf, SAFI_UNICAST } from './types.ts';
import { OctetWriter, readU16, readU32 } from './writer.ts';

export interface GracefulRestartCapability {
  /** R: the sender has just restarted. */
  readonly restarting: boolean;
  /** N: NOTIFICATION and hold expiry restart gracefully too (RFC 8538). */
  readonly notification: boolean;
  /** Seconds, 0 to 4095. */
  readonly time: number;
  /** F of each family: forwarding went on. An empty list still promises an End-of-RIB. */
  readonly families: readonly { readonly family: AddressFamily; readonly forwarding: boolean }[];
}

export interface LongLivedFamily {
  readonly family: AddressFamily;
  readonly forwarding: boolean;
  /** Seconds, 0 to 2^24 - 1. */
  readonly staleTime: number;
}

export interface AddPathFamily {
  readonly family: AddressFamily;
  readonly send: boolean;
  readonly receive: boolean;
}

/** What one side's OPEN offers. */
export interface Capabilities {
  /** Families of the multiprotocol capability; null when that capability is absent (IPv4 unicast is then implied). */
  readonly families: readonly AddressFamily[] | null;
  readonly routeRefresh: boolean;
  readonly enhancedRouteRefresh: boolean;
  readonly extendedMessages: boolean;
  /** The 4-octet AS number; null when not offered. */
  readonly as4: number | null;
  /** Families whose routes may have an IPv6 next hop (only IPv4 is of interest). */
  readonly extendedNextHop: readonly AddressFamily[];
  readonly gracefulRestart: GracefulRestartCapability | null;
  readonly longLived: readonly LongLivedFamily[];
  /** The capability of RFC 9494 is there, if only without families: the sender understands long-lived stale routes. */
  readonly longLivedAware: boolean;
  readonly addPath: readonly AddPathFamily[];
  readonly hostName: string | null;
  readonly unknown: readonly { readonly code: number; readonly value: Uint8Array }[];
}

export const NO_CAPABILITIES: Capabilities = {
  families: null,
  routeRefresh: false,
  enhancedRouteRefresh: false,
  extendedMessages: false,
  as4: null,
  extendedNextHop: [],
  gracefulRestart: null,
  longLived: [],
  longLivedAware: false,
  addPath: [],
  hostName: null,
  unknown: [],
};

type Draft = { -readonly [K in keyof Capabilities]: Capabilities[K] };

interface Codec {
  readonly name: string;
  /** False when the value is malformed. */
  readonly decode: (draft: Draft, buf: Uint8Array, off: number, len: number) => boolean;
  /** Values to send, one for each instance of the capability. */
  readonly encode: (capabilities: Capabilities) => Uint8Array[];
}

const flag = (name: string, key: 'routeRefresh' | 'enhancedRouteRefresh' | 'extendedMessages'): Codec => ({
  name,
  decode(draft) {
    draft[key] = true;
    return true;
  },
  encode: (c) => (c[key] ? [new Uint8Array(0)] : []),
});

/** Capability code -> how it is read and written. */
export const CAPABILITIES: ReadonlyMap<number, Codec> = new Map<number, Codec>([
  [
    1,
    {
      name: 'multiprotocol',
      decode(draft, buf, off, len) {
        if (len !== 4) return false;
        const family = familyOf(readU16(buf, off), buf[off + 3]!);
        const known = draft.families ?? [];
        draft.families = family && !known.includes(family) ? [...known, family] : known;
        return true;
      },
      encode: (c) => (c.families ?? []).map((f) => new OctetWriter(4).u16(afiOf(f)).u8(0).u8(SAFI_UNICAST).finish()),
    },
  ],
  [2, flag('route-refresh', 'routeRefresh')],
  [
    5,
    {
      name: 'extended-next-hop',
      decode(draft, buf, off, len) {
        if (len % 6 !== 0) return false;
        const families: AddressFamily[] = [];
        for (let p = off; p < off + len; p += 6) {
          const family = familyOf(readU16(buf, p), readU16(buf, p + 2));
          if (family && readU16(buf, p + 4) === 2) families.push(family);
        }
        draft.extendedNextHop = families;
        return true;
      },
      encode(c) {
        if (c.extendedNextHop.length === 0) return [];
        const out = new OctetWriter(6);
        for (const family of c.extendedNextHop) out.u16(afiOf(family)).u16(SAFI_UNICAST).u16(2);
        return [out.finish()];
      },
    },
  ],
  [6, flag('extended-message', 'extendedMessages')],
  [
    64,
    {
      name: 'graceful-restart',
      decode(draft, buf, off, len) {
        if (len < 2 || (len - 2) % 4 !== 0) return false;
        const head = readU16(buf, off);
        const families: { family: AddressFamily; forwarding: boolean }[] = [];
        for (let p = off + 2; p < off + len; p += 4) {
          const family = familyOf(readU16(buf, p), buf[p + 2]!);
          if (family) families.push({ family, forwarding: (buf[p + 3]! & 0x80) !== 0 });
        }
        draft.gracefulRestart = {
          restarting: (head & 0x8000) !== 0,
          notification: (head & 0x4000) !== 0,
          time: head & 0xfff,
          families,
        };
        return true;
      },
      encode(c) {
        const g = c.gracefulRestart;
        if (!g) return [];
        const head = (g.restarting ? 0x8000 : 0) | (g.notification ? 0x4000 : 0) | Math.min(g.time, 4095);
        const out = new OctetWriter(16).u16(head);
        for (const f of g.families)
          out
            .u16(afiOf(f.family))
            .u8(SAFI_UNICAST)
            .u8(f.forwarding ? 0x80 : 0);
        return [out.finish()];
      },
    },
  ],
  [
    65,
    {
      name: 'four-octet-as',
      decode(draft, buf, off, len) {
        if (len !== 4) return false;
        draft.as4 = readU32(buf, off);
        return true;
      },
      encode: (c) => (c.as4 === null ? [] : [new OctetWriter(4).u32(c.as4).finish()]),
    },
  ],
  [
    69,
    {
      name: 'add-path',
      decode(draft, buf, off, len) {
        if (len % 4 !== 0) return false;
        const families: AddPathFamily[] = [];
        for (let p = off; p < off + len; p += 4) {
          const family = familyOf(readU16(buf, p), buf[p + 2]!);
          const mode = buf[p + 3]!;
          // A tuple with an undefined mode is passed over (RFC 7911 section 4).
          if (family && mode >= 1 && mode <= 3) {
            families.push({ family, receive: (mode & 1) !== 0, send: (mode & 2) !== 0 });
          }
        }
        draft.addPath = families;
        return true;
      },
      encode(c) {
        const used = c.addPath.filter((f) => f.send || f.receive);
        if (used.length === 0) return [];
        const out = new OctetWriter(8);
        for (const f of used) {
          out
            .u16(afiOf(f.family))
            .u8(SAFI_UNICAST)
            .u8((f.receive ? 1 : 0) | (f.send ? 2 : 0));
        }
        return [out.finish()];
      },
    },
  ],
  [70, flag('enhanced-route-refresh', 'enhancedRouteRefresh')],
  [
    71,
    {
      name: 'long-lived-graceful-restart',
      decode(draft, buf, off, len) {
        if (len % 7 !== 0) return false;
        const families: LongLivedFamily[] = [];
        for (let p = off; p < off + len; p += 7) {
          const family = familyOf(readU16(buf, p), buf[p + 2]!);
          const staleTime = (buf[p + 4]! << 16) | readU16(buf, p + 5);
          if (family) families.push({ family, forwarding: (buf[p + 3]! & 0x80) !== 0, staleTime });
        }
        draft.longLived = families;
        draft.longLivedAware = true;
        return true;
      },
      encode(c) {
        if (!c.longLivedAware && c.longLived.length === 0) return [];
        const out = new OctetWriter(14);
        for (const f of c.longLived) {
          out
            .u16(afiOf(f.family))
            .u8(SAFI_UNICAST)
            .u8(f.forwarding ? 0x80 : 0);
          out.u8((f.staleTime >>> 16) & 255).u16(f.staleTime & 0xffff);
        }
        return [out.finish()];
      },
    },
  ],
  [
    73,
    {
      name: 'host-name',
      decode(draft, buf, off, len) {
        const length = len > 0 ? buf[off]! : 0;
        if (length + 1 <= len) draft.hostName = new TextDecoder().decode(buf.subarray(off + 1, off + 1 + length));
        return true;
      },
      encode(c) {
        if (c.hostName === null) return [];
        const name = new TextEncoder().encode(c.hostName).subarray(0, 64);
        return [new OctetWriter(66).u8(name.length).bytes(name).u8(0).finish()];
      },
    },
  ],
]);

/** The name of a capability code for people. */
export function capabilityName(code: number): string {
  return CAPABILITIES.get(code)?.name ?? `capability ${code}`;
}

/** Reads capability TLVs into `draft`; the complaint, or null. */
export function decodeCapabilities(draft: Draft, buf: Uint8Array, off: number, len: number): string | null {
  const end = off + len;
  let p = off;
  while (p < end) {
    if (end - p < 2) return 'capability header is cut off';
    const code = buf[p]!;
    const length = buf[p + 1]!;
    p += 2;
    if (length > end - p) return `${capabilityName(code)} overruns its parameter`;
    const codec = CAPABILITIES.get(code);
    if (!codec) draft.unknown = [...draft.unknown, { code, value: buf.slice(p, p + length) }];
    else if (!codec.decode(draft, buf, p, length)) return `${capabilityName(code)} has length ${length}`;
    p += length;
  }
  return null;
}

export function encodeCapabilities(capabilities: Capabilities): Uint8Array {
  const out = new OctetWriter(128);
  for (const [code, codec] of CAPABILITIES) {
    for (const value of codec.encode(capabilities)) out.u8(code).u8(value.length).bytes(value);
  }
  for (const { code, value } of capabilities.unknown) out.u8(code).u8(value.length).bytes(value);
  return out.finish();
}
