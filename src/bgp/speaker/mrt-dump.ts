// The tables as an MRT dump (RFC 6396 TABLE_DUMP_V2, RFC 8050), piece by piece, so that no keepalive waits for it.
// In: the speaker and where the last piece ended. Out: octets, whole records; where to go on.
// A dump is no snapshot: what changes while it runs is in it as it was when its row was read. A peer that comes after
// the first piece is left out, as the table of peers at the front does not have it.
import { LOCAL_PEER, type RibPeer } from '#bgp/rib/peers.ts';
import type { FamilyRib } from '#bgp/rib/family-rib.ts';
import { PATH_LIVE } from '#bgp/rib/path-table.ts';
import type { MrtPeer, RibEntry } from '#bgp/mrt/records.ts';
import { encodeRecord, encodeRibAttributes } from '#bgp/mrt/writer.ts';
import { ADDRESS_FAMILIES } from '#bgp/wire/types.ts';
import { IpAddress } from '#net/address.ts';
import type { DumpCursor, DumpPiece, DumpView } from './api.ts';
import { routerIdNumber } from './identity.ts';
import type { Speaker } from './speaker.ts';

/** A piece ends at whichever comes first. */
const PIECE_OCTETS = 256 * 1024;
const PIECE_MS = 3;
/** Rows between two looks at the clock. */
const ROWS = 64;

/** The next piece; `cursor` null for the first. The rows of a cursor mean nothing to another speaker. */
export function dumpPiece(speaker: Speaker, view: DumpView, cursor: DumpCursor | null): DumpPiece {
  if (cursor === null) return firstPiece(speaker);
  const until = speaker.clock.monotonic() + PIECE_MS;
  const index = new Map(cursor.peers.map((peer, i) => [peer.id, { i: i + 1, name: peer.name }]));
  const parts: Uint8Array[] = [];
  let { family: at, row, sequence } = cursor;
  let octets = 0;
  for (; at < ADDRESS_FAMILIES.length; at++, row = 1) {
    const family = ADDRESS_FAMILIES[at]!;
    const rib = speaker.rib.families[family];
    for (; row < rib.prefixes.limit; row++) {
      if (octets >= PIECE_OCTETS || (row % ROWS === 0 && speaker.clock.monotonic() >= until && octets > 0)) {
        return { octets: joined(parts, octets), next: { ...cursor, family: at, row, sequence } };
      }
      if (rib.prefixes.flags[row] === 0) continue;
      const entries = entriesOf(speaker, rib, row, view, index);
      if (entries.length === 0) continue;
      const record = encodeRecord({
        type: 'rib',
        time: now(speaker),
        sequence: sequence++,
        prefix: rib.prefixes.prefix(row),
        addPath: entries.some((entry) => entry.pathId !== 0),
        entries,
      });
      parts.push(record);
      octets += record.length;
    }
  }
  return { octets: joined(parts, octets), next: null };
}

/** Index 0 is the speaker itself, with the unspecified address, as other daemons dump their own routes. */
function firstPiece(speaker: Speaker): DumpPiece {
  const { config } = speaker;
  const collector = config ? routerIdNumber(config.routerId, 'routerId') : 0;
  const unspecified = IpAddress.fromUint32(0);
  const peers: MrtPeer[] = [{ routerId: collector, address: unspecified, asNumber: config?.asNumber ?? 0 }];
  const ids: { id: number; name: string }[] = [];
  for (const entry of speaker.entries.values()) {
    const open = entry.peer.session?.open;
    peers.push({
      routerId: open?.routerId ?? 0,
      address: IpAddress.tryParse(entry.config.address) ?? unspecified,
      asNumber: entry.config.asNumber ?? open?.asNumber ?? 0,
    });
    ids.push({ id: entry.rib.id, name: entry.peer.name });
  }
  const octets = encodeRecord({ type: 'peer-index-table', time: now(speaker), collector, viewName: '', peers });
  return { octets, next: { peers: ids, family: 0, row: 1, sequence: 0 } };
}

function entriesOf(
  speaker: Speaker,
  rib: FamilyRib,
  row: number,
  view: DumpView,
  index: ReadonlyMap<RibPeer['id'], { readonly i: number; readonly name: string }>,
): RibEntry[] {
  const entries: RibEntry[] = [];
  const { paths, prefixes } = rib;
  for (let path = prefixes.head[row]!; path !== 0; path = paths.next[path]!) {
    if ((paths.flags[path]! & PATH_LIVE) === 0) continue;
    const id = view === 'received' ? paths.received[path]! : paths.attributes[path]!;
    if (id === 0 || (view === 'best' && path !== prefixes.best[row])) continue;
    const from = paths.peer[path]!;
    const known = index.get(from);
    // Numbers of peers that went are given again.
    if (from !== LOCAL_PEER && speaker.rib.peers.get(from)?.config.name !== known?.name) continue;
    if (from !== LOCAL_PEER && !known) continue;
    const age = speaker.clock.monotonic() / 1000 - paths.since[path]!;
    entries.push({
      peerIndex: from === LOCAL_PEER ? 0 : known!.i,
      originated: Math.max(0, Math.round(speaker.clock.wall() / 1000 - Math.max(0, age))),
      pathId: from === LOCAL_PEER ? 0 : paths.pathIdOf(path),
      attributes: encodeRibAttributes(speaker.rib.attributes.decoded(id), rib.family),
    });
  }
  return entries;
}

function now(speaker: Speaker): { seconds: number; microseconds: null } {
  return { seconds: Math.floor(speaker.clock.wall() / 1000), microseconds: null };
}

function joined(parts: readonly Uint8Array[], octets: number): Uint8Array {
  const out = new Uint8Array(octets);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
