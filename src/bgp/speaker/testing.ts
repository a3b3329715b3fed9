// A world for tests of the speaker: a clock that is moved by hand, a simulated network, speakers in it, and peers that
// do exactly what they are told. Pure; no sockets, no real time.
import { ManualClock } from '#base/clock.ts';
import { silentLogger } from '#base/log.ts';
import { encodeAttributes, makeAttributes } from '#bgp/wire/attributes.ts';
import { type Capabilities, NO_CAPABILITIES } from '#bgp/wire/capabilities.ts';
import {
  encodeKeepalive,
  frame,
  Framer,
  MSG_KEEPALIVE,
  MSG_NOTIFICATION,
  MSG_OPEN,
  MSG_ROUTE_REFRESH,
  MSG_UPDATE,
} from '#bgp/wire/message.ts';
import { decodeNlri, encodeIpv4Nlri, NlriColumns } from '#bgp/wire/nlri.ts';
import { decodeNotification, encodeNotification, type Notification } from '#bgp/wire/notification.ts';
import { decodeOpen, encodeOpen, isProtocolError, type OpenMessage } from '#bgp/wire/open.ts';
import { STORAGE_SESSION } from '#bgp/wire/types.ts';
import { splitUpdate, UpdateView } from '#bgp/wire/update.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type { Connection, PeerConfig, RouteSink, SinkBatch, SpeakerConfig, SpeakerEvent } from './api.ts';
import { MockNetwork } from './mock-transport.ts';
import { routes } from './queries.ts';
import { Speaker, type SpeakerOptions } from './speaker.ts';

export class World {
  readonly clock = new ManualClock();
  readonly network = new MockNetwork(this.clock);

  speaker(address: string, options: Partial<SpeakerOptions> = {}): Speaker {
    return new Speaker({
      transport: this.network.transport(address),
      clock: this.clock,
      log: silentLogger,
      random: () => 0.5,
      soon: (callback) => void this.clock.after(0, callback),
      restarting: false,
      ...options,
    });
  }

  /** Moves time on, in ms. */
  run(ms = 100): void {
    this.clock.advance(ms);
  }
}

export const OUR_AS = 65001;
export const PEER_AS = 65002;

/** A configuration of one speaker at an address; its router id is the address. */
export function speakerConfig(
  address: string,
  peers: readonly PeerConfig[],
  over: Partial<SpeakerConfig> = {},
): SpeakerConfig {
  return {
    routerId: address,
    asNumber: OUR_AS,
    listen: [{ address, port: 179 }],
    peers,
    peerRanges: [],
    ...over,
  };
}

export function peerConfig(address: string, over: Partial<PeerConfig> = {}): PeerConfig {
  return { name: address, address, asNumber: PEER_AS, families: ['ipv4'], import: 'all', export: 'all', ...over };
}

/** Prefixes of the best routes, with `stale` behind those that are. */
export function table(speaker: Speaker): string[] {
  return routes(speaker, { view: 'best' }).paths.map((p) => (p.stale ? `${p.prefix} stale` : p.prefix));
}

/** A sink that keeps what it was told. */
export class TableSink implements RouteSink {
  readonly routes = new Map<string, string>();
  readonly batches: SinkBatch[] = [];
  converges = 0;

  apply(batch: SinkBatch): void {
    this.batches.push(batch);
    for (const route of batch.changed) this.routes.set(route.prefix, route.nextHops.map((h) => h.address).join(' '));
    for (const prefix of batch.removed) this.routes.delete(prefix);
  }

  converged(): void {
    this.converges++;
  }
}

/** Collects the events of a speaker. */
export function eventsOf(speaker: Speaker): SpeakerEvent[] {
  const events: SpeakerEvent[] = [];
  speaker.watch((event) => events.push(event));
  return events;
}

/** Graceful restart as a peer offers it. */
export function graceful(
  over: { restarting?: boolean; forwarding?: boolean; notification?: boolean } = {},
): Partial<Capabilities> {
  return {
    gracefulRestart: {
      restarting: over.restarting ?? false,
      notification: over.notification ?? false,
      time: 100,
      families: [{ family: 'ipv4', forwarding: over.forwarding ?? true }],
    },
  };
}

/** A peer that does only what it is told. It listens, and sends its OPEN and KEEPALIVE as soon as it hears ours. */
export class ScriptedPeer {
  readonly address: string;
  capabilities: Capabilities;
  asNumber = PEER_AS;
  holdTime = 90;
  connection: Connection | null = null;
  /** What the speaker said. */
  open: OpenMessage | null = null;
  readonly notifications: Notification[] = [];
  readonly announced = new Set<string>();
  endOfRib = false;
  /** Subtypes of the ROUTE-REFRESH messages, and `update` between them. */
  readonly refreshes: (number | 'update')[] = [];
  closed = false;
  listening = true;
  #silent = false;

  constructor(world: Pick<World, 'network'>, address: string, capabilities: Partial<Capabilities> = {}) {
    this.address = address;
    this.capabilities = {
      ...NO_CAPABILITIES,
      families: ['ipv4'],
      as4: this.asNumber,
      routeRefresh: true,
      ...capabilities,
    };
    world.network.transport(address).listen({ address, port: 179 }, (connection) => {
      if (this.listening) this.#serve(connection);
      else connection.destroy();
    });
  }

  #serve(connection: Connection): void {
    const framer = new Framer();
    this.connection = connection;
    this.closed = false;
    this.open = null;
    this.endOfRib = false;
    this.announced.clear();
    connection.start({
      data: (chunk) => {
        framer.push(chunk, (type, buf, off, len) => {
          this.#message(type, buf.slice(off, off + len));
          return true;
        });
      },
      drain: () => {},
      close: () => {
        this.closed = true;
      },
    });
  }

  #message(type: number, message: Uint8Array): void {
    if (type === MSG_OPEN) {
      const open = decodeOpen(message, 0, message.length);
      if (isProtocolError(open)) throw new Error(open.reason);
      this.open = open;
      if (this.#silent) return;
      const routerId = IpAddress.parse(this.address).toUint32();
      this.send(encodeOpen({ asNumber: this.asNumber, holdTime: this.holdTime, routerId }, this.capabilities));
      this.send(encodeKeepalive());
    } else if (type === MSG_NOTIFICATION) this.notifications.push(decodeNotification(message, 0, message.length));
    else if (type === MSG_ROUTE_REFRESH) this.refreshes.push(message[21]!);
    else if (type === MSG_UPDATE) this.#update(message);
    else if (type === MSG_KEEPALIVE && !this.#silent) this.send(encodeKeepalive());
  }

  #update(message: Uint8Array): void {
    const view = new UpdateView();
    splitUpdate(message, 0, message.length, STORAGE_SESSION, view);
    if (view.endOfRib) this.endOfRib = true;
    else if (this.refreshes.length > 0) this.refreshes.push('update');
    const read = (off: number, len: number): string[] => {
      const columns = new NlriColumns();
      decodeNlri('ipv4', message, off, len, false, columns);
      return Array.from(
        { length: columns.count },
        (_, i) => `${IpAddress.fromUint32(columns.word0[i]!)}/${columns.bits[i]!}`,
      );
    };
    for (const prefix of read(view.withdrawnOff, view.withdrawnLen)) this.announced.delete(prefix);
    for (const prefix of read(view.nlriOff, view.nlriLen)) this.announced.add(prefix);
  }

  send(octets: Uint8Array): void {
    this.connection?.write(octets);
  }

  /** From now on nothing is answered: a peer that hangs. */
  hang(): void {
    this.#silent = true;
  }

  /** The process dies: the connection closes in silence. */
  die(): void {
    this.connection?.destroy();
    this.connection = null;
    this.listening = false;
  }

  comeBack(capabilities: Partial<Capabilities>): void {
    this.capabilities = { ...this.capabilities, gracefulRestart: null, ...capabilities };
    this.listening = true;
  }

  notify(notification: Notification): void {
    this.send(encodeNotification(notification));
    this.connection?.end();
    this.connection = null;
  }

  announce(...prefixes: string[]): void {
    const attributes = makeAttributes({
      asPath: [{ type: 'sequence', asns: [this.asNumber] }],
      nextHop: IpAddress.parse(this.address),
    });
    const session = { ...STORAGE_SESSION, external: true };
    const block = encodeAttributes(attributes, session, 'attribute');
    this.send(frame(MSG_UPDATE, Uint8Array.from([0, 0, 0, block.length, ...block, ...prefixOctets(prefixes)])));
  }

  withdraw(...prefixes: string[]): void {
    const nlri = prefixOctets(prefixes);
    this.send(frame(MSG_UPDATE, Uint8Array.from([0, nlri.length, ...nlri, 0, 0])));
  }

  sayEndOfRib(): void {
    this.send(frame(MSG_UPDATE, new Uint8Array(4)));
  }
}

function prefixOctets(prefixes: readonly string[]): Uint8Array {
  const buf = new Uint8Array(2000);
  let end = 0;
  for (const text of prefixes) {
    const prefix = Prefix.parse(text);
    end = encodeIpv4Nlri(buf, end, prefix.address.toUint32(), prefix.length, null);
  }
  return buf.slice(0, end);
}
