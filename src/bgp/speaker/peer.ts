// One neighbour's I/O: its connections, timers and counters around the pure state machine.
// In: bytes and connection events of the transport, decisions of the speaker. Out: messages on the wire; routes,
// refresh requests and changes of state to the host.
// RFC 4271 section 8 (by way of #bgp/fsm), 9687 (send hold timer).
//
// Traps:
// - A hold timer that fires late finds octets that arrived in time but were not read yet. So expiry is declared only
//   after the event loop has had the chance to read: the arrival of the last message is noted, and an expired timer
//   looks at it again two turns later.
// - The buffer of a message is valid only while it is handled.
import type { Clock, TimerHandle } from '#base/clock.ts';
import { errorText } from '#base/errors.ts';
import {
  type DownCause,
  type FsmAction,
  type FsmContext,
  type FsmEvent,
  INITIAL_NEIGHBOUR,
  type Neighbour,
  neighbourState,
  step,
  type TimerName,
} from '#bgp/fsm/neighbour.ts';
import { CONNECT_TIMEOUT, type NeighbourState } from '#bgp/fsm/states.ts';
import type { Capabilities } from '#bgp/wire/capabilities.ts';
import {
  decodeRouteRefresh,
  encodeKeepalive,
  Framer,
  MSG_KEEPALIVE,
  MSG_NOTIFICATION,
  MSG_OPEN,
  MSG_ROUTE_REFRESH,
  MSG_UPDATE,
  type ProtocolError,
  type RouteRefresh,
} from '#bgp/wire/message.ts';
import { decodeNotification, encodeNotification, type Notification, notificationText } from '#bgp/wire/notification.ts';
import { decodeOpen, encodeOpen, isProtocolError, type Negotiated, type OpenMessage } from '#bgp/wire/open.ts';
import type { Connection, ConnectRequest, ResetReason } from './api.ts';

/** Octets a connection may hold unsent before no more routes are handed to it. */
const WRITE_LIMIT = 256 * 1024;

export interface Counts {
  open: number;
  update: number;
  notification: number;
  keepalive: number;
  refresh: number;
}

const noCounts = (): Counts => ({ open: 0, update: 0, notification: 0, keepalive: 0, refresh: 0 });
const COUNTED: readonly (keyof Counts | undefined)[] = [
  undefined,
  'open',
  'update',
  'notification',
  'keepalive',
  'refresh',
];

/** What a peer needs of the speaker. */
export interface PeerHost {
  readonly clock: Clock;
  /** For the FSM's decisions; read anew for each event, since configuration and the R bit change. */
  context(peer: Peer): FsmContext;
  connect(
    request: ConnectRequest,
    done: (error: Error | null, connection: Connection | null) => void,
  ): { cancel(): void };
  /** An OPEN went out with these. */
  offered(peer: Peer, capabilities: Capabilities): void;
  /** Where and how to dial. */
  target(peer: Peer): ConnectRequest;
  established(peer: Peer, session: Session): void;
  /** `session` is the one that ended. */
  down(peer: Peer, session: Session, cause: DownCause, notification: Notification | null): void;
  /** A framed UPDATE. The error resets the session. */
  update(peer: Peer, session: Session, buf: Uint8Array, off: number, len: number): ProtocolError | null;
  refresh(peer: Peer, session: Session, refresh: RouteRefresh): void;
  /** There is room for more routes. */
  writable(peer: Peer, session: Session): void;
  stateChanged(peer: Peer, from: NeighbourState, to: NeighbourState, reason: ResetReason | undefined): void;
  /** Runs the callback after pending I/O has been read. */
  afterRead(callback: () => void): void;
}

/** An established session. */
export interface Session {
  readonly connection: Connection;
  readonly open: OpenMessage;
  readonly negotiated: Negotiated;
  /** The OPEN messages as they were on the wire, for monitoring. */
  readonly openSent: Uint8Array;
  readonly openReceived: Uint8Array;
  /** Monotonic milliseconds. */
  readonly since: number;
}

interface Line {
  readonly id: number;
  readonly connection: Connection;
  readonly framer: Framer;
  lastReceived: number;
  openSent: Uint8Array;
  openReceived: Uint8Array;
  /** Octets written in all; with the backlog this tells what the peer's window has taken. */
  written: number;
  sendHold: TimerHandle | null;
  closed: boolean;
}

export class Peer {
  readonly name: string;
  readonly received = noCounts();
  readonly sent = noCounts();
  lastReset: ResetReason | null = null;
  lastError: string | null = null;
  flaps = 0;
  /** Monotonic milliseconds of the last change of state. */
  since: number;
  /** Least time left on the hold timer when a message came, in ms. */
  holdMargin: number | null = null;
  session: Session | null = null;
  readonly #host: PeerHost;
  readonly #events: FsmEvent[] = [];
  #neighbour: Neighbour = INITIAL_NEIGHBOUR;
  readonly #lines = new Map<number, Line>();
  readonly #timers = new Map<string, TimerHandle>();
  #dial: { readonly id: number; cancel(): void } | null = null;
  /** The connection that `accepted` is about, until the machine has taken or refused it. */
  #incoming: Connection | null = null;
  #sessionLine: Line | null = null;

  constructor(name: string, host: PeerHost) {
    this.name = name;
    this.#host = host;
    this.since = host.clock.monotonic();
  }

  get state(): NeighbourState {
    return neighbourState(this.#neighbour);
  }

  /** No connection, and none wanted. */
  get stopped(): boolean {
    return this.#neighbour.mode === 'off';
  }

  /** No connection is up or being made. */
  get idle(): boolean {
    return this.#neighbour.connections.length === 0 && this.#neighbour.dialling === null;
  }

  start(): void {
    this.#event({ type: 'start' });
  }

  /** `notification` null: connections close without a word, and the peer may hold our routes. */
  stop(notification: Notification | null, reason: string): void {
    this.#event({ type: 'stop', notification, reason });
  }

  /** Ends the session and starts anew, after `wait` ms in Idle. */
  reset(notification: Notification | null, reason: string, wait = 0): void {
    this.#event({ type: 'reset', notification, reason, wait });
  }

  accept(connection: Connection): void {
    this.#incoming = connection;
    this.#event({ type: 'accepted' });
  }

  /** Sends octets on the session; false when the caller should wait for `writable`. Nothing is sent without one. */
  send(octets: Uint8Array, messages = 1): boolean {
    const line = this.#sessionLine;
    if (!line) return false;
    this.sent.update += messages;
    return this.#write(line, octets);
  }

  sendRefresh(octets: Uint8Array): void {
    const line = this.#sessionLine;
    if (!line) return;
    this.sent.refresh++;
    this.#write(line, octets);
  }

  get writable(): boolean {
    return this.#sessionLine !== null && this.#sessionLine.connection.backlog < WRITE_LIMIT;
  }

  get queuedOctets(): number {
    return this.#sessionLine?.connection.backlog ?? 0;
  }

  // ------------------------------------------------------------ events and actions

  /** Events that come up while one is handled (the host stops a peer in its own callback) wait their turn. */
  #event(event: FsmEvent): void {
    this.#events.push(event);
    if (this.#events.length > 1) return;
    for (let next = this.#events[0]; next; next = this.#events[0]) {
      this.#handle(next);
      this.#events.shift();
    }
  }

  #handle(event: FsmEvent): void {
    const from = this.state;
    const { neighbour, actions } = step(this.#neighbour, event, this.#host.context(this));
    this.#neighbour = neighbour;
    let reset: ResetReason | undefined;
    for (const action of actions) {
      const reason = this.#perform(action);
      if (reason) reset = reason;
    }
    if (event.type === 'accepted') this.#incoming = null;
    const to = this.state;
    if (from !== to || reset) {
      if (from !== to) this.since = this.#host.clock.monotonic();
      this.#host.stateChanged(this, from, to, reset);
    }
  }

  #perform(action: FsmAction): ResetReason | undefined {
    switch (action.type) {
      case 'dial':
        this.#startDial(action.connection);
        return undefined;
      case 'cancel-dial':
        if (this.#dial?.id === action.connection) {
          this.#dial.cancel();
          this.#dial = null;
        }
        return undefined;
      case 'take':
        if (this.#incoming) this.#adopt(action.connection, this.#incoming);
        return undefined;
      case 'refuse':
        this.#incoming?.destroy();
        return undefined;
      case 'send-open':
        this.#sendOpen(action.connection, action.plain);
        return undefined;
      case 'send-keepalive':
        this.#sendOn(action.connection, 'keepalive', encodeKeepalive());
        return undefined;
      case 'send-notification':
        this.#sendOn(action.connection, 'notification', encodeNotification(action.notification));
        return undefined;
      case 'close':
        this.#close(action.connection);
        return undefined;
      case 'set-timer':
        this.#setTimer(action.timer, action.connection, action.ms);
        return undefined;
      case 'clear-timer':
        this.#clearTimer(action.timer, action.connection);
        return undefined;
      case 'established':
        this.#established(action.connection, action.open, action.negotiated);
        return undefined;
      case 'down':
        return this.#down(action.cause, action.notification, action.reason);
      case 'failed': {
        // A refused dial says nothing about why the session went, and must not hide it.
        const reason = this.#reason(action.by, action.notification, action.reason);
        if (action.notification) this.lastReset = reason;
        else this.lastError = action.reason;
        return reason;
      }
    }
  }

  #reason(by: 'local' | 'remote', notification: Notification | null, text: string): ResetReason {
    const named = notification && !text.startsWith(notificationText(notification));
    return {
      by,
      reason: named ? `${notificationText(notification)}: ${text}` : text,
      code: notification?.code ?? null,
      subcode: notification?.subcode ?? null,
      at: this.#host.clock.wall(),
    };
  }

  #established(id: number, open: OpenMessage, negotiated: Negotiated): void {
    const line = this.#lines.get(id);
    if (!line) return;
    line.framer.maxLength = negotiated.codec.maxMessageLength;
    this.#sessionLine = line;
    this.lastError = null;
    this.session = {
      connection: line.connection,
      open,
      negotiated,
      openSent: line.openSent,
      openReceived: line.openReceived,
      since: this.#host.clock.monotonic(),
    };
    this.#host.established(this, this.session);
  }

  #down(cause: DownCause, notification: Notification | null, text: string): ResetReason {
    const { session } = this;
    const by =
      cause === 'connection-lost' || cause === 'notification-received' || cause === 'peer-restarted'
        ? 'remote'
        : 'local';
    const reason = this.#reason(by, notification, text);
    this.lastReset = reason;
    this.flaps++;
    this.session = null;
    this.#sessionLine = null;
    this.holdMargin = null;
    if (session) this.#host.down(this, session, cause, notification);
    return reason;
  }

  // ------------------------------------------------------------ connections

  #startDial(id: number): void {
    const request = { ...this.#host.target(this), timeout: CONNECT_TIMEOUT };
    const attempt = this.#host.connect(request, (error, connection) => {
      if (this.#dial?.id !== id) {
        connection?.destroy();
        return;
      }
      this.#dial = null;
      if (connection) {
        this.#adopt(id, connection);
        this.#event({ type: 'dialled', connection: id });
      } else this.#event({ type: 'dial-failed', connection: id, reason: errorText(error) });
    });
    this.#dial = { id, cancel: () => attempt.cancel() };
  }

  #adopt(id: number, connection: Connection): void {
    const line: Line = {
      id,
      connection,
      framer: new Framer(),
      lastReceived: this.#host.clock.monotonic(),
      openSent: new Uint8Array(0),
      openReceived: new Uint8Array(0),
      written: 0,
      sendHold: null,
      closed: false,
    };
    this.#lines.set(id, line);
    connection.start({
      data: (chunk) => this.#data(line, chunk),
      drain: () => this.#drained(line),
      close: (error) => {
        if (line.closed) return;
        this.#forget(line);
        this.#event({
          type: 'closed',
          connection: id,
          reason: error ? `connection lost: ${errorText(error)}` : 'the peer closed the connection',
        });
      },
    });
  }

  #close(id: number): void {
    const line = this.#lines.get(id);
    if (!line) return;
    this.#forget(line);
    line.connection.end();
  }

  #forget(line: Line): void {
    line.closed = true;
    line.sendHold?.cancel();
    line.sendHold = null;
    this.#lines.delete(line.id);
  }

  #sendOpen(id: number, plain: boolean): void {
    const line = this.#lines.get(id);
    if (!line) return;
    const { localAs, holdTime, routerId, capabilities } = this.#host.context(this);
    line.openSent = encodeOpen({ asNumber: localAs, holdTime, routerId }, plain ? null : capabilities);
    this.#host.offered(this, capabilities);
    this.#sendOn(id, 'open', line.openSent);
  }

  #sendOn(id: number, kind: keyof Counts, octets: Uint8Array): void {
    const line = this.#lines.get(id);
    if (!line) return;
    this.sent[kind]++;
    this.#write(line, octets);
  }

  #write(line: Line, octets: Uint8Array): boolean {
    line.written += octets.length;
    const room = line.connection.write(octets);
    if (!room && !line.sendHold) this.#watchWindow(line, line.written - line.connection.backlog);
    return room && line.connection.backlog < WRITE_LIMIT;
  }

  /** RFC 9687: a peer that reads nothing for the send hold time is given up. */
  #watchWindow(line: Line, taken: number): void {
    const holdTime = this.session?.negotiated.holdTime ?? 0;
    const wait = Math.max(holdTime * 2, 480) * 1000;
    if (holdTime === 0) return;
    line.sendHold = this.#host.clock.after(wait, () => {
      line.sendHold = null;
      if (line.closed || line.connection.backlog === 0) return;
      const now = line.written - line.connection.backlog;
      if (now > taken) this.#watchWindow(line, now);
      else {
        this.#event({ type: 'send-hold-expired', connection: line.id });
        line.connection.destroy(); // its window is closed: nothing said will arrive
      }
    });
  }

  #drained(line: Line): void {
    line.sendHold?.cancel();
    line.sendHold = null;
    if (this.session && line === this.#sessionLine) this.#host.writable(this, this.session);
  }

  // ------------------------------------------------------------ messages

  #data(line: Line, chunk: Uint8Array): void {
    if (line.closed) return;
    const now = this.#host.clock.monotonic();
    const session = line === this.#sessionLine ? this.session : null;
    if (session && session.negotiated.holdTime > 0) {
      const margin = session.negotiated.holdTime * 1000 - (now - line.lastReceived);
      if (this.holdMargin === null || margin < this.holdMargin) this.holdMargin = margin;
    }
    let whole = false;
    const error = line.framer.push(chunk, (type, buf, off, len) => {
      whole = true;
      this.#message(line, type, buf, off, len);
      return !line.closed;
    });
    if (whole) line.lastReceived = now; // a message trickling in octet by octet is no sign of life
    if (error && !line.closed) this.#event({ type: 'error', connection: line.id, error });
  }

  #message(line: Line, type: number, buf: Uint8Array, off: number, len: number): void {
    const kind = COUNTED[type];
    if (kind) this.received[kind]++;
    const { session } = this;
    if (type === MSG_UPDATE) {
      if (session && line === this.#sessionLine) {
        const error = this.#host.update(this, session, buf, off, len);
        if (error) this.#event({ type: 'error', connection: line.id, error });
      } else this.#event({ type: 'update', connection: line.id });
    } else if (type === MSG_KEEPALIVE) {
      if (line !== this.#sessionLine) this.#event({ type: 'keepalive', connection: line.id });
    } else if (type === MSG_OPEN) {
      line.openReceived = buf.slice(off, off + len);
      const open = decodeOpen(buf, off, len);
      if (isProtocolError(open)) this.#event({ type: 'error', connection: line.id, error: open });
      else this.#event({ type: 'open', connection: line.id, open });
    } else if (type === MSG_NOTIFICATION) {
      this.#event({ type: 'notification', connection: line.id, notification: decodeNotification(buf, off, len) });
    } else if (type === MSG_ROUTE_REFRESH) {
      if (!session || line !== this.#sessionLine) {
        this.#event({ type: 'refresh', connection: line.id });
        return;
      }
      const refresh = decodeRouteRefresh(buf, off, len);
      if (isProtocolError(refresh)) this.#event({ type: 'error', connection: line.id, error: refresh });
      else this.#host.refresh(this, session, refresh);
    }
  }

  // ------------------------------------------------------------ timers

  #setTimer(timer: TimerName, connection: number, ms: number): void {
    this.#clearTimer(timer, connection);
    const key = `${timer} ${connection}`;
    const fire = timer === 'hold' ? () => this.#holdFired(connection, ms) : () => this.#fired(timer, connection);
    this.#timers.set(key, this.#host.clock.after(ms, fire));
  }

  #clearTimer(timer: TimerName, connection: number): void {
    const key = `${timer} ${connection}`;
    this.#timers.get(key)?.cancel();
    this.#timers.delete(key);
  }

  #fired(timer: TimerName, connection: number): void {
    this.#timers.delete(`${timer} ${connection}`);
    this.#event({ type: 'timer', timer, connection });
  }

  #holdFired(connection: number, ms: number): void {
    const line = this.#lines.get(connection);
    if (!line) return;
    const left = (): number => line.lastReceived + ms - this.#host.clock.monotonic();
    const rearm = (): boolean => {
      const remaining = left();
      if (remaining <= 0) return false;
      this.#timers.set(
        `hold ${connection}`,
        this.#host.clock.after(remaining, () => this.#holdFired(connection, ms)),
      );
      return true;
    };
    this.#timers.delete(`hold ${connection}`);
    if (rearm()) return;
    this.#host.afterRead(() => {
      if (line.closed || this.#timers.has(`hold ${connection}`)) return;
      if (!rearm()) this.#event({ type: 'timer', timer: 'hold', connection });
    });
  }
}
