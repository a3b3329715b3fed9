// The finite state machine of one neighbour: a pure function (state, event) -> (state, actions).
// In: what the network, the clock and the operator did. Out: what to send, dial, close and time. It knows no sockets
// and no clock; randomness for jitter comes with the context. RFC 4271 section 8 and 6.8, 4486, 5492, 6286, 6608, 9687.
//
// A neighbour may have several TCP connections at once: the one we dial and the ones it dials. Collisions are settled
// so that two speakers of this code always keep the same connection:
// - the connection dialled by the dominant side wins (higher router id, then higher AS; unsigned);
// - an OPEN on the winner closes every other connection that is not established;
// - an OPEN on a loser while the winner still waits for its OPEN is held back: no KEEPALIVE goes out until the winner
//   has got its OPEN (the loser is closed) or is gone (the loser proceeds);
// - once a connection is in OpenConfirm, a dial still under way is given up before its OPEN is sent.
// Without the last two, one side could close the connection that the other has just established.
//
// Trap: UPDATE and KEEPALIVE in Established only restart the hold timer. The I/O shell notes the time of arrival itself
// and does not call the machine for them.
import { type Capabilities, encodeCapabilities } from '#bgp/wire/capabilities.ts';
import type { ProtocolError } from '#bgp/wire/message.ts';
import {
  CEASE_COLLISION,
  ERR_CEASE,
  ERR_FSM,
  ERR_HOLD,
  ERR_OPEN,
  ERR_SEND_HOLD,
  FSM_ESTABLISHED,
  FSM_OPEN_CONFIRM,
  FSM_OPEN_SENT,
  type Notification,
  notificationText,
} from '#bgp/wire/notification.ts';
import {
  type Negotiated,
  negotiate,
  OPEN_CAPABILITY,
  OPEN_PARAMETER,
  OPEN_PEER_AS,
  OPEN_ROUTER_ID,
  type OpenMessage,
} from '#bgp/wire/open.ts';
import { EMPTY_BYTES } from '#bgp/wire/types.ts';
import {
  CONNECT_RETRY_CAP,
  CONNECT_RETRY_FIRST,
  CONNECT_RETRY_FLOOR,
  CONNECT_TIMEOUT,
  type ConnectionState,
  IDLE_HOLD_CAP,
  IDLE_HOLD_FIRST,
  type NeighbourState,
  OPEN_SENT_HOLD,
  SETTLED_AFTER,
  STABLE_AFTER,
} from './states.ts';

export interface FsmContext {
  readonly localAs: number;
  /** Unsigned 32 bits. */
  readonly routerId: number;
  /** Null: any AS will do. */
  readonly peerAs: number | null;
  readonly passive: boolean;
  /** Seconds. */
  readonly holdTime: number;
  /** Seconds; null: a third of what is agreed. */
  readonly keepaliveTime: number | null;
  readonly capabilities: Capabilities;
  /** A session that is up restarts gracefully when the peer connects anew (RFC 4724 section 4.2). */
  readonly gracefulRestart: boolean;
  /** Milliseconds to wait for the peer's OPEN before sending ours; 0: none. */
  readonly delayOpen: number;
  /** Between 0 and 1. */
  readonly random: () => number;
}

export interface ConnectionMachine {
  readonly id: number;
  readonly initiator: 'local' | 'remote';
  readonly state: ConnectionState;
  /** The peer's OPEN; null before it came. */
  readonly open: OpenMessage | null;
  readonly negotiated: Negotiated | null;
  /** In OpenConfirm, with our KEEPALIVE held back until the connection that would win has settled. */
  readonly heldBack: boolean;
  /** The peer's KEEPALIVE came while ours was held back. */
  readonly confirmed: boolean;
}

export interface Neighbour {
  /** `off`: stopped by the operator; `hold`: waits after an error and refuses connections; `run`. */
  readonly mode: 'off' | 'hold' | 'run';
  /** The connection being dialled; null when none is. */
  readonly dialling: number | null;
  readonly connections: readonly ConnectionMachine[];
  /** Failed dials in a row. */
  readonly dialFailures: number;
  /** Errors in a row. */
  readonly errors: number;
  /** The session has stood long enough that a new connection cannot be a late collision. */
  readonly settled: boolean;
  /** The peer refused capabilities (2/4): the next OPEN goes without. */
  readonly plainOpen: boolean;
  readonly nextId: number;
}

export const INITIAL_NEIGHBOUR: Neighbour = {
  mode: 'off',
  dialling: null,
  connections: [],
  dialFailures: 0,
  errors: 0,
  settled: false,
  plainOpen: false,
  nextId: 1,
};

/** Timers of the neighbour have connection 0. */
export type TimerName = 'connect-retry' | 'idle-hold' | 'hold' | 'keepalive' | 'delay-open' | 'stable';

export type FsmEvent =
  | { readonly type: 'start' }
  /** `notification` null: connections close without a word. */
  | { readonly type: 'stop'; readonly notification: Notification | null; readonly reason: string }
  /** The session (and every other connection) ends, then all starts anew. `wait` ms in Idle. */
  | {
      readonly type: 'reset';
      readonly notification: Notification | null;
      readonly reason: string;
      readonly wait: number;
    }
  | { readonly type: 'dialled'; readonly connection: number }
  | { readonly type: 'dial-failed'; readonly connection: number; readonly reason: string }
  | { readonly type: 'accepted' }
  | { readonly type: 'closed'; readonly connection: number; readonly reason: string }
  | { readonly type: 'open'; readonly connection: number; readonly open: OpenMessage }
  | { readonly type: 'keepalive' | 'update' | 'refresh'; readonly connection: number }
  | { readonly type: 'notification'; readonly connection: number; readonly notification: Notification }
  | { readonly type: 'error'; readonly connection: number; readonly error: ProtocolError }
  | { readonly type: 'send-hold-expired'; readonly connection: number }
  | { readonly type: 'timer'; readonly timer: TimerName; readonly connection: number };

/** Why a session ended, as graceful restart has to know it. */
export type DownCause =
  | 'stopped'
  | 'connection-lost'
  | 'peer-restarted'
  | 'hold-expired'
  | 'notification-received'
  | 'notification-sent';

export type FsmAction =
  | { readonly type: 'dial'; readonly connection: number }
  | { readonly type: 'cancel-dial'; readonly connection: number }
  /** The connection just accepted gets this id. */
  | { readonly type: 'take'; readonly connection: number }
  /** The connection just accepted is closed. */
  | { readonly type: 'refuse'; readonly notification: Notification | null }
  | { readonly type: 'send-open'; readonly connection: number; readonly plain: boolean }
  | { readonly type: 'send-keepalive'; readonly connection: number }
  | { readonly type: 'send-notification'; readonly connection: number; readonly notification: Notification }
  /** After what was sent has gone out. */
  | { readonly type: 'close'; readonly connection: number }
  | { readonly type: 'set-timer'; readonly timer: TimerName; readonly connection: number; readonly ms: number }
  | { readonly type: 'clear-timer'; readonly timer: TimerName; readonly connection: number }
  | {
      readonly type: 'established';
      readonly connection: number;
      readonly open: OpenMessage;
      readonly negotiated: Negotiated;
    }
  | {
      readonly type: 'down';
      readonly cause: DownCause;
      readonly notification: Notification | null;
      readonly reason: string;
    }
  /** A connection or an attempt failed before there was a session. */
  | {
      readonly type: 'failed';
      readonly by: 'local' | 'remote';
      readonly notification: Notification | null;
      readonly reason: string;
    };

export interface FsmStep {
  readonly neighbour: Neighbour;
  readonly actions: readonly FsmAction[];
}

/** What a neighbour shows to people. */
export function neighbourState(n: Neighbour): NeighbourState {
  let furthest: NeighbourState = 'idle';
  for (const c of n.connections) {
    if (c.state === 'established') return 'established';
    if (c.state === 'open-confirm') furthest = 'open-confirm';
    else if (c.state === 'open-sent' && furthest !== 'open-confirm') furthest = 'open-sent';
  }
  if (furthest !== 'idle') return furthest;
  if (n.dialling !== null) return 'connect';
  return n.mode === 'run' ? 'active' : 'idle';
}

/** One step. Events for connections that are gone are passed over. */
export function step(neighbour: Neighbour, event: FsmEvent, context: FsmContext): FsmStep {
  const machine = new Machine(neighbour, context);
  machine.handle(event);
  return { neighbour: machine.result(), actions: machine.actions };
}

type Draft = { -readonly [K in keyof Neighbour]: Neighbour[K] };

class Machine {
  readonly actions: FsmAction[] = [];
  readonly #n: Draft;
  readonly #context: FsmContext;

  constructor(neighbour: Neighbour, context: FsmContext) {
    this.#n = { ...neighbour };
    this.#context = context;
  }

  result(): Neighbour {
    return this.#n;
  }

  handle(event: FsmEvent): void {
    switch (event.type) {
      case 'start':
        if (this.#n.mode === 'off') this.#run();
        return;
      case 'stop':
        this.#closeAll(event.notification, 'stopped', event.reason);
        this.#clear('connect-retry');
        this.#clear('idle-hold');
        this.#n.mode = 'off';
        this.#n.errors = 0;
        this.#n.dialFailures = 0;
        return;
      case 'reset':
        if (this.#n.mode === 'off') return;
        this.#closeAll(event.notification, 'stopped', event.reason);
        this.#n.dialFailures = 0;
        if (event.wait > 0) this.#holdDown(event.wait);
        else this.#run();
        return;
      case 'accepted':
        this.#accepted();
        return;
      case 'dialled':
        if (this.#n.dialling !== event.connection) return;
        this.#n.dialling = null;
        this.#clear('connect-retry');
        this.#begin(event.connection, 'local');
        return;
      case 'dial-failed':
        if (this.#n.dialling !== event.connection) return;
        this.#n.dialling = null;
        this.#fail('local', null, event.reason);
        this.#retryLater();
        return;
      case 'timer':
        this.#timer(event.timer, event.connection);
        return;
      default:
        this.#onConnection(event);
    }
  }

  #onConnection(
    event: Exclude<FsmEvent, { type: 'start' | 'stop' | 'reset' | 'accepted' | 'dialled' | 'dial-failed' | 'timer' }>,
  ): void {
    const c = this.#find(event.connection);
    if (!c) return;
    switch (event.type) {
      case 'closed':
        this.#lost(c, 'connection-lost', null, event.reason, 'remote');
        return;
      case 'open':
        this.#openReceived(c, event.open);
        return;
      case 'keepalive':
        if (c.state === 'open-confirm' && c.heldBack) this.#update({ ...c, confirmed: true });
        else if (c.state === 'open-confirm') this.#establish(c);
        else if (c.state === 'established') this.#restartHold(c);
        else this.#unexpected(c, 'KEEPALIVE');
        return;
      case 'update':
      case 'refresh':
        if (c.state === 'established') this.#restartHold(c);
        else this.#unexpected(c, event.type === 'update' ? 'UPDATE' : 'ROUTE-REFRESH');
        return;
      case 'notification':
        this.#notified(c, event.notification);
        return;
      case 'error': {
        const { code, subcode, data, reason } = event.error;
        this.#abort(c, { code, subcode, data }, reason);
        return;
      }
      case 'send-hold-expired':
        this.#abort(
          c,
          { code: ERR_SEND_HOLD, subcode: 0, data: EMPTY_BYTES },
          'the peer has not read for the send hold time',
        );
    }
  }

  // ------------------------------------------------------------ connections come up

  #accepted(): void {
    if (this.#n.mode !== 'run') {
      this.actions.push({ type: 'refuse', notification: null });
      return;
    }
    // A second connection from the peer that is not up yet replaces the first: the peer has given that one up.
    for (const c of this.#n.connections) {
      if (c.initiator === 'remote' && c.state !== 'established') this.#drop(c, null);
    }
    const id = this.#n.nextId;
    this.#n.nextId = id + 1;
    this.actions.push({ type: 'take', connection: id });
    this.#begin(id, 'remote');
  }

  #begin(id: number, initiator: 'local' | 'remote'): void {
    const delayed = this.#context.delayOpen > 0;
    this.#n.connections = [
      ...this.#n.connections,
      {
        id,
        initiator,
        state: delayed ? 'delay-open' : 'open-sent',
        open: null,
        negotiated: null,
        heldBack: false,
        confirmed: false,
      },
    ];
    if (delayed) this.#set('delay-open', this.#context.delayOpen, id);
    else this.#sendOpen(id);
  }

  #sendOpen(id: number): void {
    this.actions.push({ type: 'send-open', connection: id, plain: this.#n.plainOpen });
    this.#set('hold', OPEN_SENT_HOLD, id);
  }

  #openReceived(c: ConnectionMachine, open: OpenMessage): void {
    if (c.state !== 'open-sent' && c.state !== 'delay-open') {
      this.#unexpected(c, 'OPEN');
      return;
    }
    const problem = this.#judgeOpen(open);
    if (problem) {
      this.#abort(c, problem.notification, problem.reason);
      return;
    }
    const outcome = this.#settleCollision(c, open);
    if (outcome === 'lost') return;
    if (c.state === 'delay-open') {
      this.#clear('delay-open', c.id);
      this.#sendOpen(c.id);
    }
    const negotiated = this.#negotiate(open);
    if (this.#n.dialling !== null) {
      this.actions.push({ type: 'cancel-dial', connection: this.#n.dialling });
      this.#n.dialling = null;
    }
    this.#clear('connect-retry');
    const confirmed: ConnectionMachine = {
      ...c,
      state: 'open-confirm',
      open,
      negotiated,
      heldBack: outcome === 'wait',
    };
    this.#update(confirmed);
    if (outcome === 'go') this.#confirm(confirmed);
  }

  #confirm(c: ConnectionMachine): void {
    this.actions.push({ type: 'send-keepalive', connection: c.id });
    this.#update({ ...c, heldBack: false });
    const holdTime = c.negotiated?.holdTime ?? 0;
    if (holdTime > 0) {
      this.#set('hold', holdTime * 1000, c.id);
      this.#setKeepalive(c.id, holdTime);
    } else this.#clear('hold', c.id);
    if (c.confirmed) this.#establish({ ...c, heldBack: false });
  }

  #negotiate(open: OpenMessage): Negotiated {
    const { localAs: asNumber, holdTime, capabilities } = this.#context;
    const offered = this.#n.plainOpen ? { ...capabilities, ...PLAIN } : capabilities;
    return negotiate({ asNumber, holdTime, capabilities: offered }, open);
  }

  #judgeOpen(open: OpenMessage): { notification: Notification; reason: string } | null {
    const refuse = (
      subcode: number,
      reason: string,
      data = EMPTY_BYTES,
    ): { notification: Notification; reason: string } => ({
      notification: { code: ERR_OPEN, subcode, data },
      reason,
    });
    const { peerAs, routerId, localAs, capabilities } = this.#context;
    if (peerAs !== null && open.asNumber !== peerAs) {
      return refuse(OPEN_PEER_AS, `the peer is in AS ${open.asNumber}, not in AS ${peerAs}`);
    }
    if (open.routerId === routerId && open.asNumber === localAs) {
      return refuse(OPEN_ROUTER_ID, 'the peer has our own router id and AS (a cloned machine?)');
    }
    if (this.#negotiate(open).families.length === 0) {
      const wanted = encodeCapabilities(capabilities).slice(0, 6);
      return refuse(OPEN_CAPABILITY, 'no address family in common', wanted);
    }
    return null;
  }

  /** `lost`: `c` had to give way; `wait`: it may yet have to; `go`: it is the only one left. */
  #settleCollision(c: ConnectionMachine, open: OpenMessage): 'lost' | 'wait' | 'go' {
    const cease: Notification = { code: ERR_CEASE, subcode: CEASE_COLLISION, data: EMPTY_BYTES };
    const { routerId, localAs, gracefulRestart } = this.#context;
    const weDominate = routerId !== open.routerId ? routerId >>> 0 > open.routerId >>> 0 : localAs > open.asNumber;
    const winner = weDominate ? 'local' : 'remote';
    let outcome: 'wait' | 'go' = 'go';
    for (const other of this.#n.connections) {
      if (other.id === c.id || other.state === 'delay-open') continue;
      if (other.state === 'established') {
        const agreed = gracefulRestart && other.open?.capabilities.gracefulRestart;
        if (agreed && this.#n.settled && c.initiator === 'remote') {
          // The peer has restarted and its old connection just has not been seen to close.
          this.#remove(other);
          this.actions.push({ type: 'close', connection: other.id });
          this.actions.push({
            type: 'down',
            cause: 'peer-restarted',
            notification: null,
            reason: 'the peer connected anew',
          });
          continue;
        }
        this.#drop(c, cease);
        return 'lost';
      }
      if (c.initiator === winner) this.#drop(other, cease);
      else if (other.state === 'open-confirm') {
        this.#drop(c, cease);
        return 'lost';
      } else outcome = 'wait';
    }
    return outcome;
  }

  #establish(c: ConnectionMachine): void {
    const { open, negotiated } = c;
    if (!open || !negotiated) return;
    this.#update({ ...c, state: 'established' });
    this.#n.dialFailures = 0;
    this.#n.plainOpen = false;
    this.#restartHold(c);
    this.#n.settled = false;
    this.#set('stable', SETTLED_AFTER);
    for (const other of this.#n.connections) {
      if (other.id !== c.id && other.initiator === 'local') {
        this.#drop(other, { code: ERR_CEASE, subcode: CEASE_COLLISION, data: EMPTY_BYTES });
      }
    }
    this.actions.push({ type: 'established', connection: c.id, open, negotiated });
  }

  // ------------------------------------------------------------ connections go down

  #unexpected(c: ConnectionMachine, message: string): void {
    const subcode =
      c.state === 'open-confirm' ? FSM_OPEN_CONFIRM : c.state === 'established' ? FSM_ESTABLISHED : FSM_OPEN_SENT;
    this.#abort(c, { code: ERR_FSM, subcode, data: EMPTY_BYTES }, `${message} was not expected in ${c.state}`);
  }

  #notified(c: ConnectionMachine, notification: Notification): void {
    if (notification.code === ERR_OPEN && notification.subcode === OPEN_PARAMETER && !this.#n.plainOpen) {
      this.#n.plainOpen = true;
      this.#lost(c, 'notification-received', notification, notificationText(notification), 'remote');
      return;
    }
    this.#lost(c, 'notification-received', notification, notificationText(notification), 'remote');
    const collision = notification.code === ERR_CEASE && notification.subcode === CEASE_COLLISION;
    if (notification.code !== ERR_CEASE && !collision && this.#n.connections.length === 0) this.#backOff();
  }

  /** Ends a connection for an error found on it. */
  #abort(c: ConnectionMachine, notification: Notification, reason: string): void {
    this.actions.push({ type: 'send-notification', connection: c.id, notification });
    const cause: DownCause = notification.code === ERR_HOLD ? 'hold-expired' : 'notification-sent';
    this.actions.push({ type: 'close', connection: c.id });
    this.#lost(c, cause, notification, reason, 'local');
    // Another connection with the peer may be the good one: only without any is there a wait.
    if (this.#n.connections.length === 0) this.#backOff();
  }

  #lost(
    c: ConnectionMachine,
    cause: DownCause,
    notification: Notification | null,
    reason: string,
    by: 'local' | 'remote',
  ): void {
    this.#remove(c);
    if (by === 'remote') this.actions.push({ type: 'close', connection: c.id });
    if (c.state === 'established') {
      this.actions.push({ type: 'down', cause, notification, reason });
      this.#clear('stable');
    } else this.#fail(by, notification, reason);
    if (this.#n.connections.length === 0 && this.#n.mode === 'run' && this.#n.dialling === null) this.#retryLater();
  }

  #drop(c: ConnectionMachine, notification: Notification | null): void {
    if (notification) this.actions.push({ type: 'send-notification', connection: c.id, notification });
    this.actions.push({ type: 'close', connection: c.id });
    this.#remove(c);
  }

  #closeAll(notification: Notification | null, cause: DownCause, reason: string): void {
    const all = this.#n.connections;
    this.#n.connections = []; // first, so that none is let go ahead because another one goes
    for (const c of all) {
      this.#drop(c, notification);
      if (c.state === 'established') this.actions.push({ type: 'down', cause, notification, reason });
    }
    this.#clear('stable');
    if (this.#n.dialling !== null) this.actions.push({ type: 'cancel-dial', connection: this.#n.dialling });
    this.#n.dialling = null;
  }

  #fail(by: 'local' | 'remote', notification: Notification | null, reason: string): void {
    this.actions.push({ type: 'failed', by, notification, reason });
  }

  // ------------------------------------------------------------ waiting and dialling

  #run(): void {
    this.#n.mode = 'run';
    this.#clear('idle-hold');
    if (!this.#context.passive) this.#dial();
  }

  #dial(): void {
    if (this.#n.dialling !== null || this.#n.connections.length > 0) return;
    const id = this.#n.nextId;
    this.#n.nextId = id + 1;
    this.#n.dialling = id;
    this.actions.push({ type: 'dial', connection: id });
    this.#set('connect-retry', CONNECT_TIMEOUT);
  }

  #retryLater(): void {
    if (this.#context.passive || this.#n.mode !== 'run') return;
    const bound = Math.min(CONNECT_RETRY_CAP, CONNECT_RETRY_FIRST * 2 ** this.#n.dialFailures);
    this.#n.dialFailures = Math.min(this.#n.dialFailures + 1, 10);
    this.#set('connect-retry', CONNECT_RETRY_FLOOR + this.#context.random() * (bound - CONNECT_RETRY_FLOOR));
  }

  #backOff(): void {
    const wait = Math.min(IDLE_HOLD_CAP, IDLE_HOLD_FIRST * 2 ** this.#n.errors);
    this.#n.errors = Math.min(this.#n.errors + 1, 10);
    this.#holdDown(wait);
  }

  #holdDown(wait: number): void {
    this.#n.mode = 'hold';
    this.#clear('connect-retry');
    if (this.#n.dialling !== null) this.actions.push({ type: 'cancel-dial', connection: this.#n.dialling });
    this.#n.dialling = null;
    this.#set('idle-hold', wait);
  }

  #timer(timer: TimerName, connection: number): void {
    if (timer === 'connect-retry') {
      if (this.#n.mode !== 'run') return;
      if (this.#n.dialling !== null) {
        this.actions.push({ type: 'cancel-dial', connection: this.#n.dialling });
        this.#n.dialling = null;
        this.#fail('local', null, 'no answer to the connection attempt');
        this.#retryLater();
      } else this.#dial();
      return;
    }
    if (timer === 'idle-hold') {
      if (this.#n.mode === 'hold') this.#run();
      return;
    }
    if (timer === 'stable') {
      if (this.#n.settled) this.#n.errors = 0;
      else this.#set('stable', STABLE_AFTER - SETTLED_AFTER);
      this.#n.settled = true;
      return;
    }
    const c = this.#find(connection);
    if (!c) return;
    if (timer === 'hold') {
      const reason =
        c.state === 'established' || c.state === 'open-confirm' ? 'hold time expired' : 'no OPEN from the peer';
      this.#abort(c, { code: ERR_HOLD, subcode: 0, data: EMPTY_BYTES }, reason);
    } else if (timer === 'keepalive') {
      if (!c.negotiated) return;
      this.actions.push({ type: 'send-keepalive', connection: c.id });
      this.#setKeepalive(c.id, c.negotiated.holdTime);
    } else if (c.state === 'delay-open') {
      this.#update({ ...c, state: 'open-sent' });
      this.#sendOpen(c.id);
    }
  }

  #restartHold(c: ConnectionMachine): void {
    if (c.negotiated && c.negotiated.holdTime > 0) this.#set('hold', c.negotiated.holdTime * 1000, c.id);
  }

  #setKeepalive(id: number, holdTime: number): void {
    const third = holdTime / 3;
    const seconds = Math.min(this.#context.keepaliveTime ?? third, third);
    this.#set('keepalive', seconds * 1000 * (0.75 + 0.25 * this.#context.random()), id);
  }

  // ------------------------------------------------------------ small change

  #find(id: number): ConnectionMachine | undefined {
    return this.#n.connections.find((c) => c.id === id);
  }

  #update(c: ConnectionMachine): void {
    this.#n.connections = this.#n.connections.map((other) => (other.id === c.id ? c : other));
  }

  #remove(c: ConnectionMachine): void {
    this.#n.connections = this.#n.connections.filter((other) => other.id !== c.id);
    for (const timer of ['hold', 'keepalive', 'delay-open'] as const) this.#clear(timer, c.id);
    const last = this.#n.connections.length === 1 ? this.#n.connections[0] : undefined;
    if (last?.heldBack) this.#confirm(last);
  }

  #set(timer: TimerName, ms: number, connection = 0): void {
    this.actions.push({ type: 'set-timer', timer, connection, ms });
  }

  #clear(timer: TimerName, connection = 0): void {
    this.actions.push({ type: 'clear-timer', timer, connection });
  }
}

const PLAIN = {
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
} as const;
