// BMP stations (RFC 7854): what peers send, told on as it came, before policy (adj-RIB-in).
// In: sessions up and down, UPDATEs, the tables for a station that comes later. Out: BMP messages on a connection of each
// station. A station that reads too slowly loses its connection and begins anew later; BGP never waits for one.
//
// Traps: UPDATEs go on verbatim, so their NLRI have path identifiers when the OPENs in Peer Up say so, and routes of
// the first transfer must have them too. An UPDATE treated as withdrawal (RFC 7606) is told as the withdrawal it became.
import type { DownCause } from '#bgp/fsm/neighbour.ts';
import {
  DOWN_LOCAL,
  DOWN_LOCAL_NOTIFICATION,
  DOWN_REMOTE,
  DOWN_REMOTE_NOTIFICATION,
  encodeInitiation,
  encodePeerDown,
  encodePeerUp,
  encodeRouteMonitoring,
  encodeStatistics,
  encodeTermination,
  STAT_ADJ_RIB_IN,
  STAT_ADJ_RIB_IN_FAMILY,
  STAT_TREATED_AS_WITHDRAW,
  TERMINATED_ADMINISTRATIVELY,
  type BmpPeer,
} from '#bgp/bmp/messages.ts';
import { PATH_LIVE } from '#bgp/rib/path-table.ts';
import { LOCAL_PEER } from '#bgp/rib/peers.ts';
import { encodeAttributes, encodeNextHop } from '#bgp/wire/attributes.ts';
import { encodeEndOfRib, frame, MSG_UPDATE } from '#bgp/wire/message.ts';
import { encodeIpv4Nlri, encodeIpv6Nlri, MAX_NLRI_OCTETS } from '#bgp/wire/nlri.ts';
import { encodeNotification, type Notification } from '#bgp/wire/notification.ts';
import {
  ADDRESS_FAMILIES,
  type AddressFamily,
  afiOf,
  STORAGE_SESSION,
  VERDICT_RESET,
  VERDICT_WITHDRAW,
  type Verdict,
} from '#bgp/wire/types.ts';
import { splitUpdate, UpdateView } from '#bgp/wire/update.ts';
import { OctetWriter } from '#bgp/wire/writer.ts';
import { IpAddress } from '#net/address.ts';
import type { BmpStationConfig, Connection } from './api.ts';
import type { Session } from './peer.ts';
import { same } from './plan.ts';
import type { Speaker } from './speaker.ts';

/** Octets a station may be behind before its connection is given up. */
const MOST_BACKLOG = 16 * 1024 * 1024;
/** Octets unsent at which the first transfer of the tables pauses. */
const TRANSFER_BACKLOG = 256 * 1024;
/** Rows of a table in one turn of the event loop. */
const ROWS = 200;
const FIRST_RETRY = 1000;
const LAST_RETRY = 120_000;
const CONNECT_TIMEOUT = 10_000;
const STATISTICS_INTERVAL = 60_000;
/** RFC 4271 8.1: AutomaticStop, the event told when we end a session without a NOTIFICATION. */
const EVENT_AUTOMATIC_STOP = 8;

/** The stations of one speaker. */
export class Monitoring {
  readonly #speaker: Speaker;
  readonly #soon: (callback: () => void) => void;
  #stations: Station[] = [];

  constructor(speaker: Speaker, soon: (callback: () => void) => void) {
    this.#speaker = speaker;
    this.#soon = soon;
  }

  /** The whole set. Stations that stay keep their connection. */
  set(configs: readonly BmpStationConfig[]): void {
    const kept = this.#stations.filter((station) => configs.some((config) => same(config, station.config)));
    for (const station of this.#stations) if (!kept.includes(station)) station.close();
    const fresh = configs.filter((config) => !kept.some((station) => same(config, station.config)));
    this.#stations = [...kept, ...fresh.map((config) => new Station(config, this.#speaker, this.#soon))];
  }

  up(session: Session): void {
    if (this.#stations.length === 0) return;
    this.#send(peerUp(session, this.#speaker.clock.wall()));
  }

  down(session: Session, cause: DownCause, notification: Notification | null): void {
    if (this.#stations.length === 0) return;
    const remote = cause === 'notification-received' || cause === 'connection-lost' || cause === 'peer-restarted';
    const reason = notification
      ? cause === 'notification-received'
        ? DOWN_REMOTE_NOTIFICATION
        : DOWN_LOCAL_NOTIFICATION
      : remote
        ? DOWN_REMOTE
        : DOWN_LOCAL;
    const local = Uint8Array.of(0, EVENT_AUTOMATIC_STOP);
    const data = notification ? encodeNotification(notification) : reason === DOWN_LOCAL ? local : new Uint8Array(0);
    this.#send(encodePeerDown(bmpPeer(session), this.#speaker.clock.wall(), reason, data));
  }

  /** An UPDATE as it came, and what became of it. */
  update(session: Session, buf: Uint8Array, off: number, len: number, verdict: Verdict): void {
    if (this.#stations.length === 0 || verdict === VERDICT_RESET) return;
    const { codec } = session.negotiated;
    const peer = bmpPeer(session);
    const at = this.#speaker.clock.wall();
    const updates = verdict === VERDICT_WITHDRAW ? withdrawals(session, buf, off, len) : [buf.subarray(off, off + len)];
    for (const update of updates) this.#send(encodeRouteMonitoring(peer, at, update, !codec.as4));
  }

  close(): void {
    for (const station of this.#stations) station.close();
    this.#stations = [];
  }

  #send(octets: Uint8Array): void {
    for (const station of this.#stations) station.send(octets);
  }
}

class Station {
  readonly config: BmpStationConfig;
  readonly #speaker: Speaker;
  readonly #soon: (callback: () => void) => void;
  #connection: Connection | null = null;
  /** What has to be undone of the state the station is in: an attempt, a wait, or the statistics timer. */
  #pending: { cancel(): void } | null = null;
  #retry = FIRST_RETRY;
  /** Where the first transfer goes on; null when it is done. */
  #transfer: { family: number; row: number } | null = null;
  #closed = false;

  constructor(config: BmpStationConfig, speaker: Speaker, soon: (callback: () => void) => void) {
    this.config = config;
    this.#speaker = speaker;
    this.#soon = soon;
    this.#dial();
  }

  /** Nothing happens while there is no connection. */
  send(octets: Uint8Array): void {
    const connection = this.#connection;
    if (!connection) return;
    connection.write(octets);
    if (connection.backlog <= MOST_BACKLOG) return;
    connection.destroy();
    this.#lost('it reads too slowly');
  }

  close(): void {
    this.#closed = true;
    this.#pending?.cancel();
    this.#connection?.write(encodeTermination(TERMINATED_ADMINISTRATIVELY));
    this.#connection?.end();
    this.#connection = null;
  }

  #dial(): void {
    const { address, port } = this.config;
    const done = (error: Error | null, connection: Connection | null): void => {
      if (this.#closed) connection?.destroy();
      else if (connection) this.#connected(connection);
      else this.#lost(error?.message ?? 'no connection');
    };
    this.#pending = this.#speaker.connect({ address, port, timeout: CONNECT_TIMEOUT }, done);
  }

  #lost(reason: string): void {
    if (this.#closed) return;
    const { address, port } = this.config;
    this.#pending?.cancel();
    this.#connection = null;
    this.#transfer = null;
    this.#speaker.log.warn({ address, port, retry: this.#retry }, `BMP station: ${reason}`);
    this.#pending = this.#speaker.clock.after(this.#retry, () => this.#dial());
    this.#retry = Math.min(this.#retry * 2, LAST_RETRY);
  }

  #connected(connection: Connection): void {
    this.#connection = connection;
    connection.start({
      data: () => {}, // RFC 7854 3.2: nothing is to come from there
      drain: () => this.#more(connection),
      close: (error) => {
        if (this.#connection === connection) this.#lost(error?.message ?? 'it closed the connection');
      },
    });
    const { clock, config, entries } = this.#speaker;
    this.send(encodeInitiation(config?.hostName ?? config?.routerId ?? '', 'Brindle BGP speaker'));
    for (const entry of entries.values()) {
      const { session } = entry.peer;
      if (session) this.send(peerUp(session, clock.wall()));
    }
    if (this.#connection !== connection) return; // thousands of peers, and it reads nothing
    this.#transfer = { family: 0, row: 1 };
    this.#later(connection);
    this.#scheduleStatistics();
  }

  #later(connection: Connection): void {
    this.#soon(() => this.#more(connection));
  }

  /** A slice of the first transfer. */
  #more(connection: Connection): void {
    const transfer = this.#transfer;
    if (!transfer || connection !== this.#connection || connection.backlog >= TRANSFER_BACKLOG) return;
    const family = ADDRESS_FAMILIES[transfer.family];
    if (family === undefined) {
      this.#transfer = null;
      this.#retry = FIRST_RETRY; // it has taken a whole table
      return;
    }
    const { limit } = this.#speaker.rib.families[family].prefixes;
    const end = Math.min(transfer.row + ROWS, limit);
    this.#rows(family, transfer.row, end);
    transfer.row = end;
    if (end >= limit) {
      for (const { peer } of this.#speaker.entries.values()) {
        if (peer.session?.negotiated.families.includes(family)) this.#monitor(peer.session, encodeEndOfRib(family));
      }
      transfer.family++;
      transfer.row = 1;
    }
    this.#later(connection);
  }

  /** Routes of the same peer and attributes go together. */
  #rows(family: AddressFamily, from: number, to: number): void {
    const { rib } = this.#speaker;
    const { prefixes, paths } = rib.families[family];
    const sessions = new Map<number, Session>();
    for (const entry of this.#speaker.entries.values()) {
      if (entry.peer.session) sessions.set(entry.rib.id, entry.peer.session);
    }
    const sets = new Map<string, { session: Session; id: number; nlri: OctetWriter }>();
    const scratch = new Uint8Array(MAX_NLRI_OCTETS);
    for (let row = from; row < to; row++) {
      if (prefixes.flags[row] === 0) continue;
      for (let path = prefixes.head[row]!; path !== 0; path = paths.next[path]!) {
        const peer = paths.peer[path]!;
        const session = sessions.get(peer);
        if (peer === LOCAL_PEER || !session || (paths.flags[path]! & PATH_LIVE) === 0) continue;
        if (rib.isStale(family, path)) continue;
        const pathId = session.negotiated.codec.families[family]?.addPathReceive ? paths.pathIdOf(path) : null;
        const bits = prefixes.bits[row]!;
        const word = (i: number): number => prefixes.word(row, i);
        const length =
          family === 'ipv4'
            ? encodeIpv4Nlri(scratch, 0, word(0), bits, pathId)
            : encodeIpv6Nlri(scratch, 0, word(0), word(1), word(2), word(3), bits, pathId);
        const id = paths.received[path]!;
        const key = `${peer} ${id}`;
        let set = sets.get(key);
        if (!set) {
          set = { session, id, nlri: new OctetWriter(64) };
          sets.set(key, set);
        }
        set.nlri.bytes(scratch.subarray(0, length));
        if (set.nlri.length < 2048) continue;
        this.#set(family, set);
        sets.delete(key);
      }
    }
    for (const set of sets.values()) this.#set(family, set);
  }

  #set(family: AddressFamily, set: { session: Session; id: number; nlri: OctetWriter }): void {
    const attributes = this.#speaker.rib.attributes.decoded(set.id);
    const nlri = set.nlri.finish();
    const body = new OctetWriter(256).u16(0);
    if (family === 'ipv4' && attributes.nextHop?.family === 4) {
      const block = encodeAttributes(attributes, STORAGE_SESSION, 'attribute');
      body.u16(block.length).bytes(block).bytes(nlri);
    } else {
      const block = encodeAttributes(attributes, STORAGE_SESSION, 'none');
      const nextHop = encodeNextHop(attributes);
      const length = 5 + nextHop.length + nlri.length;
      body.u16(block.length + 4 + length).bytes(block);
      body.u8(0x90).u8(14).u16(length).u16(afiOf(family)).u8(1);
      body.u8(nextHop.length).bytes(nextHop).u8(0).bytes(nlri);
    }
    this.#monitor(set.session, frame(MSG_UPDATE, body.finish()));
  }

  /** An UPDATE made here, which always has AS numbers of 4 octets. */
  #monitor(session: Session, update: Uint8Array): void {
    this.send(encodeRouteMonitoring(bmpPeer(session), this.#speaker.clock.wall(), update, false));
  }

  #scheduleStatistics(): void {
    this.#pending = this.#speaker.clock.after(STATISTICS_INTERVAL, () => {
      for (const entry of this.#speaker.entries.values()) {
        const { session } = entry.peer;
        if (!session) continue;
        const { families } = session.negotiated;
        const received = (family: AddressFamily): number => entry.rib.families[family].received;
        const octets = encodeStatistics(bmpPeer(session), this.#speaker.clock.wall(), [
          { type: STAT_ADJ_RIB_IN, kind: 'gauge', value: families.reduce((sum, f) => sum + received(f), 0) },
          ...families.map((family) => ({
            type: STAT_ADJ_RIB_IN_FAMILY,
            kind: 'gauge' as const,
            value: received(family),
            afi: afiOf(family),
          })),
          { type: STAT_TREATED_AS_WITHDRAW, kind: 'counter', value: entry.withdrawn },
        ]);
        this.send(octets);
      }
      if (this.#connection) this.#scheduleStatistics();
    });
  }
}

/** Addresses as sockets tell them may name a zone. */
function addressOf(text: string): IpAddress {
  return IpAddress.tryParse(text.split('%')[0] ?? '') ?? IpAddress.fromUint32(0);
}

function bmpPeer(session: Session): BmpPeer {
  const { connection, open } = session;
  return { address: addressOf(connection.remoteAddress), asNumber: open.asNumber, routerId: open.routerId };
}

function peerUp(session: Session, at: number): Uint8Array {
  const { connection, openSent, openReceived } = session;
  return encodePeerUp(bmpPeer(session), at, {
    localAddress: addressOf(connection.localAddress),
    localPort: connection.localPort,
    remotePort: connection.remotePort,
    openSent,
    openReceived,
  });
}

/** The prefixes of an UPDATE that was treated as withdrawal, withdrawn. */
function withdrawals(session: Session, buf: Uint8Array, off: number, len: number): Uint8Array[] {
  const view = new UpdateView();
  if (splitUpdate(buf, off, len, session.negotiated.codec, view) === VERDICT_RESET) return [];
  const updates: Uint8Array[] = [];
  const plain = new OctetWriter(64)
    .bytes(buf.subarray(view.withdrawnOff, view.withdrawnOff + view.withdrawnLen))
    .bytes(buf.subarray(view.nlriOff, view.nlriOff + view.nlriLen))
    .finish();
  if (plain.length > 0) {
    updates.push(frame(MSG_UPDATE, new OctetWriter(64).u16(plain.length).bytes(plain).u16(0).finish()));
  }
  const unreach = (family: AddressFamily, at: number, length: number): void => {
    const body = new OctetWriter(64).u16(0).u16(length + 7);
    body
      .u8(0x90)
      .u8(15)
      .u16(length + 3)
      .u16(afiOf(family))
      .u8(1);
    updates.push(frame(MSG_UPDATE, body.bytes(buf.subarray(at, at + length)).finish()));
  };
  if (view.reachFamily && view.reachNlriLen > 0) unreach(view.reachFamily, view.reachNlriOff, view.reachNlriLen);
  if (view.unreachFamily && view.unreachNlriLen > 0) {
    unreach(view.unreachFamily, view.unreachNlriOff, view.unreachNlriLen);
  }
  return updates;
}
