// Bidirectional Forwarding Detection: the control packet and the state machine of one session. Pure: packets and time
// come in, packets and changes of state go out. RFC 5880 (asynchronous mode, no authentication, no demand mode, no echo).
import type { Clock, TimerHandle } from '#base/clock.ts';

export const BFD_ADMIN_DOWN = 0;
export const BFD_DOWN = 1;
export const BFD_INIT = 2;
export const BFD_UP = 3;
export type BfdState = 0 | 1 | 2 | 3;

/** Diagnostics (RFC 5880 4.1) that are used here. */
const DIAG_NONE = 0;
const DIAG_TIME_EXPIRED = 1;
const DIAG_NEIGHBOUR_DOWN = 3;
const DIAG_ADMIN_DOWN = 7;

const PACKET_OCTETS = 24;
/** While a session is not up it sends at most once a second (RFC 5880 6.8.3). Microseconds. */
const SLOW = 1_000_000;

export interface BfdPacket {
  readonly diagnostic: number;
  readonly state: BfdState;
  readonly poll: boolean;
  readonly final: boolean;
  readonly demand: boolean;
  readonly multiplier: number;
  readonly myDiscriminator: number;
  readonly yourDiscriminator: number;
  /** Microseconds, as are the next two. */
  readonly desiredMinTx: number;
  readonly requiredMinRx: number;
  readonly requiredMinEcho: number;
}

export function encodeBfd(packet: BfdPacket): Uint8Array {
  const out = new Uint8Array(PACKET_OCTETS);
  const view = new DataView(out.buffer);
  out[0] = (1 << 5) | packet.diagnostic;
  out[1] = (packet.state << 6) | (packet.poll ? 0x20 : 0) | (packet.final ? 0x10 : 0) | (packet.demand ? 2 : 0);
  out[2] = packet.multiplier;
  out[3] = PACKET_OCTETS;
  view.setUint32(4, packet.myDiscriminator);
  view.setUint32(8, packet.yourDiscriminator);
  view.setUint32(12, packet.desiredMinTx);
  view.setUint32(16, packet.requiredMinRx);
  view.setUint32(20, packet.requiredMinEcho);
  return out;
}

/** Null for what RFC 5880 6.8.6 says to discard, authenticated packets included. */
export function decodeBfd(octets: Uint8Array): BfdPacket | null {
  if (octets.length < PACKET_OCTETS) return null;
  const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
  const length = octets[3]!;
  const flags = octets[1]!;
  const state = (flags >> 6) as BfdState;
  const yourDiscriminator = view.getUint32(8);
  if (octets[0]! >> 5 !== 1 || length < PACKET_OCTETS || length > octets.length) return null;
  if (octets[2] === 0 || (flags & 0x05) !== 0 || view.getUint32(4) === 0) return null;
  if (yourDiscriminator === 0 && state !== BFD_DOWN && state !== BFD_ADMIN_DOWN) return null;
  return {
    diagnostic: octets[0]! & 31,
    state,
    poll: (flags & 0x20) !== 0,
    final: (flags & 0x10) !== 0,
    demand: (flags & 0x02) !== 0,
    multiplier: octets[2]!,
    myDiscriminator: view.getUint32(4),
    yourDiscriminator,
    desiredMinTx: view.getUint32(12),
    requiredMinRx: view.getUint32(16),
    requiredMinEcho: view.getUint32(20),
  };
}

export interface BfdTimers {
  /** Milliseconds between packets, both ways, once up. */
  readonly interval: number;
  /** Packets that may be missing before the session is down. */
  readonly multiplier: number;
}

export const DEFAULT_BFD_TIMERS: BfdTimers = { interval: 300, multiplier: 3 };

export interface BfdSessionOptions {
  /** Unique on this host, not 0. */
  readonly discriminator: number;
  readonly timers: BfdTimers;
  readonly clock: Clock;
  readonly random: () => number;
  readonly send: (octets: Uint8Array) => void;
  /** `administrative`: the other side has been taken down on purpose, which says nothing about forwarding. */
  readonly onState: (state: BfdState, administrative: boolean) => void;
}

export class BfdSession {
  state: BfdState = BFD_DOWN;
  readonly #options: BfdSessionOptions;
  #diagnostic = DIAG_NONE;
  #remoteState: BfdState = BFD_DOWN;
  #remoteDiscriminator = 0;
  #remoteMinRx = 1;
  #remoteDesiredTx = 0;
  #remoteMultiplier = 0;
  #remoteDemand = false;
  #polling = false;
  #sendTimer: TimerHandle | null = null;
  #detectTimer: TimerHandle | null = null;

  constructor(options: BfdSessionOptions) {
    this.#options = options;
  }

  get discriminator(): number {
    return this.#options.discriminator;
  }

  start(): void {
    this.#transmit();
  }

  /** Says AdminDown once and falls silent. */
  stop(): void {
    this.#sendTimer?.cancel();
    this.#detectTimer?.cancel();
    this.#diagnostic = DIAG_ADMIN_DOWN;
    this.state = BFD_ADMIN_DOWN;
    this.#send(false);
  }

  receive(packet: BfdPacket): void {
    if (this.state === BFD_ADMIN_DOWN) return;
    const txBefore = this.#txInterval();
    this.#remoteDiscriminator = packet.myDiscriminator;
    this.#remoteState = packet.state;
    this.#remoteDemand = packet.demand;
    this.#remoteMinRx = packet.requiredMinRx;
    this.#remoteDesiredTx = packet.desiredMinTx;
    this.#remoteMultiplier = packet.multiplier;
    if (packet.final) this.#polling = false;
    this.#react(packet.state);
    this.#armDetection();
    if (packet.poll) this.#send(true);
    // A shorter interval counts at once, not after the long one that is under way (RFC 5880 6.8.3).
    if (this.#txInterval() < txBefore) this.#scheduleNext();
  }

  #react(remote: BfdState): void {
    if (remote === BFD_ADMIN_DOWN) {
      if (this.state !== BFD_DOWN) this.#change(BFD_DOWN, DIAG_NEIGHBOUR_DOWN, true);
    } else if (this.state === BFD_DOWN) {
      if (remote === BFD_DOWN) this.#change(BFD_INIT, DIAG_NONE, false);
      else if (remote === BFD_INIT) this.#change(BFD_UP, DIAG_NONE, false);
    } else if (this.state === BFD_INIT) {
      if (remote === BFD_INIT || remote === BFD_UP) this.#change(BFD_UP, DIAG_NONE, false);
    } else if (remote === BFD_DOWN) this.#change(BFD_DOWN, DIAG_NEIGHBOUR_DOWN, false);
  }

  #change(state: BfdState, diagnostic: number, administrative: boolean): void {
    this.state = state;
    this.#diagnostic = diagnostic;
    // The intervals change with Up: the other side acknowledges them (RFC 5880 6.8.3).
    if (state === BFD_UP) this.#polling = true;
    else this.#polling = false;
    this.#send(false);
    this.#scheduleNext();
    this.#options.onState(state, administrative);
  }

  #armDetection(): void {
    this.#detectTimer?.cancel();
    const { clock, timers } = this.#options;
    const required = timers.interval * 1000;
    const detect = this.#remoteMultiplier * Math.max(required, this.#remoteDesiredTx);
    this.#detectTimer = clock.after(detect / 1000, () => this.#expired());
  }

  #expired(): void {
    this.#remoteDiscriminator = 0;
    this.#remoteMinRx = 1;
    if (this.state === BFD_UP || this.state === BFD_INIT) this.#change(BFD_DOWN, DIAG_TIME_EXPIRED, false);
  }

  /** Microseconds between our packets, before jitter. */
  #txInterval(): number {
    return Math.max(this.#desiredTx(), this.#remoteMinRx);
  }

  #desiredTx(): number {
    const configured = this.#options.timers.interval * 1000;
    return this.state === BFD_UP ? configured : Math.max(SLOW, configured);
  }

  #transmit(): void {
    // A receiver may ask for silence, or for demand mode once both are up (RFC 5880 6.8.7).
    const quiet =
      this.#remoteMinRx === 0 ||
      (this.#remoteDemand && this.state === BFD_UP && this.#remoteState === BFD_UP && !this.#polling);
    if (!quiet) this.#send(false);
    this.#scheduleNext();
  }

  #scheduleNext(): void {
    this.#sendTimer?.cancel();
    if (this.state === BFD_ADMIN_DOWN) return;
    const { clock, random, timers } = this.#options;
    // 75 to 100 % of the interval; 75 to 90 % where one lost packet is the end.
    const share = 0.75 + (timers.multiplier === 1 ? 0.15 : 0.25) * random();
    this.#sendTimer = clock.after((this.#txInterval() / 1000) * share, () => this.#transmit());
  }

  #send(final: boolean): void {
    const { discriminator, timers, send } = this.#options;
    send(
      encodeBfd({
        diagnostic: this.#diagnostic,
        state: this.state,
        poll: this.#polling && !final,
        final,
        demand: false,
        multiplier: timers.multiplier,
        myDiscriminator: discriminator,
        yourDiscriminator: this.#remoteDiscriminator,
        desiredMinTx: this.#desiredTx(),
        requiredMinRx: timers.interval * 1000,
        requiredMinEcho: 0,
      }),
    );
  }
}
