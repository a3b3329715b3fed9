// BFD sessions over UDP for the speaker. In: peers to watch. Out: whether their link forwards.
// RFC 5881 (single hop, port 3784, TTL 255 both ways), 5883 (multihop, port 4784).
//
// Trap: packets are told apart by our discriminator once the other side knows it, before that by source address; a
// source port must be 49152 or above and stay the same for the session.
import type { Socket } from 'node:dgram';
import type { Clock } from '#base/clock.ts';
import { errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import { BFD_UP, BfdSession, decodeBfd, DEFAULT_BFD_TIMERS } from '#bgp/bfd/session.ts';
import type { BfdMonitor, BfdTarget } from '#bgp/speaker/api.ts';
import { IpAddress } from '#net/address.ts';
import { openUdp } from '#sys/udp.ts';

const PORT = { single: 3784, multihop: 4784 } as const;
const FIRST_SOURCE_PORT = 49152;
const SOURCE_PORTS = 65536 - FIRST_SOURCE_PORT;

interface Watched {
  readonly target: BfdTarget;
  readonly session: BfdSession;
  readonly socket: Socket;
}

export class BfdService implements BfdMonitor {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #watched = new Map<number, Watched>();
  readonly #receivers = new Map<string, Socket>();
  #next = 1 + Math.floor(Math.random() * 0x7fffffff);
  #nextPort = Math.floor(Math.random() * SOURCE_PORTS);

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  watch(target: BfdTarget, onState: (up: boolean, administrative: boolean) => void): { stop(): void } {
    const discriminator = this.#next++ >>> 0 || 1;
    let socket: Socket;
    try {
      this.#receive(target);
      socket = this.#source(target);
    } catch (error) {
      this.#log.warn({ peer: target.address, error: errorText(error) }, 'BFD cannot start');
      return { stop: () => {} };
    }
    socket.on('error', (error) => this.#log.debug({ peer: target.address, error: errorText(error) }, 'BFD socket'));
    const port = target.multihop ? PORT.multihop : PORT.single;
    const destination = target.interface === undefined ? target.address : `${target.address}%${target.interface}`;
    const session = new BfdSession({
      discriminator,
      timers: DEFAULT_BFD_TIMERS,
      clock: this.#clock,
      random: Math.random,
      send: (octets) => socket.send(octets, port, destination, () => {}), // an unreachable peer is what BFD is for
      onState: (state, administrative) => onState(state === BFD_UP, administrative),
    });
    this.#watched.set(discriminator, { target, session, socket });
    session.start();
    return {
      stop: () => {
        if (!this.#watched.delete(discriminator)) return;
        session.stop();
        setImmediate(() => socket.close()); // after the last packet has gone out
      },
    };
  }

  #source(target: BfdTarget): Socket {
    const localAddress = target.localAddress ?? (IpAddress.parse(target.address).family === 4 ? '0.0.0.0' : '::');
    for (let tries = 0; ; tries++) {
      const localPort = FIRST_SOURCE_PORT + (this.#nextPort++ % SOURCE_PORTS);
      try {
        return openUdp({ localAddress, localPort, ttl: 255, scope: target.scope });
      } catch (error) {
        if (tries === 20) throw error;
      }
    }
  }

  /** One receiver for each IP version and kind of session, made at its first use. */
  #receive(target: BfdTarget): void {
    const { family } = IpAddress.parse(target.address);
    const port = target.multihop ? PORT.multihop : PORT.single;
    const key = `${family} ${port}`;
    if (this.#receivers.has(key)) return;
    const socket = openUdp({
      localAddress: family === 4 ? '0.0.0.0' : '::',
      localPort: port,
      ...(!target.multihop && { requireTtl: 255 }),
    });
    socket.on('error', (error) => this.#log.debug({ error: errorText(error) }, 'BFD socket'));
    socket.on('message', (octets, from) => this.#packet(octets, from.address.split('%')[0] ?? ''));
    this.#receivers.set(key, socket);
  }

  #packet(octets: Uint8Array, from: string): void {
    const packet = decodeBfd(octets);
    if (!packet) return;
    if (packet.yourDiscriminator !== 0) {
      const known = this.#watched.get(packet.yourDiscriminator);
      if (known && known.target.address === from) known.session.receive(packet);
      return;
    }
    for (const { target, session } of this.#watched.values()) if (target.address === from) session.receive(packet);
  }
}
