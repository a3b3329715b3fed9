import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NO_CAPABILITIES } from '#bgp/wire/capabilities.ts';
import { CEASE_COLLISION, ERR_CEASE, ERR_FSM, ERR_HOLD, ERR_OPEN } from '#bgp/wire/notification.ts';
import type { OpenMessage } from '#bgp/wire/open.ts';
import { EMPTY_BYTES } from '#bgp/wire/types.ts';
import {
  type FsmAction,
  type FsmContext,
  type FsmEvent,
  INITIAL_NEIGHBOUR,
  type Neighbour,
  neighbourState,
  step,
} from './neighbour.ts';

const context = (over: Partial<FsmContext> = {}): FsmContext => ({
  localAs: 65001,
  routerId: 0x0a000001,
  peerAs: 65002,
  passive: false,
  holdTime: 90,
  keepaliveTime: null,
  capabilities: { ...NO_CAPABILITIES, families: ['ipv4'], as4: 65001 },
  gracefulRestart: false,
  delayOpen: 0,
  random: () => 0.5,
  ...over,
});

const peerOpen = (over: Partial<OpenMessage> = {}): OpenMessage => ({
  asNumber: 65002,
  holdTime: 90,
  routerId: 0x0a000002,
  capabilities: { ...NO_CAPABILITIES, families: ['ipv4'], as4: 65002 },
  ...over,
});

class Run {
  neighbour: Neighbour = INITIAL_NEIGHBOUR;
  actions: readonly FsmAction[] = [];
  readonly context: FsmContext;

  constructor(over: Partial<FsmContext> = {}) {
    this.context = context(over);
  }

  on(event: FsmEvent): this {
    const result = step(this.neighbour, event, this.context);
    this.neighbour = result.neighbour;
    this.actions = result.actions;
    return this;
  }

  types(): string[] {
    return this.actions.map((a) => a.type);
  }

  /** The notification just sent, `code/subcode`. */
  sent(): string | undefined {
    const action = this.actions.find((a) => a.type === 'send-notification');
    return action ? `${action.notification.code}/${action.notification.subcode}` : undefined;
  }

  timer(name: string): number | undefined {
    const action = this.actions.findLast((a) => a.type === 'set-timer' && a.timer === name);
    return action?.type === 'set-timer' ? action.ms : undefined;
  }

  established(): this {
    this.on({ type: 'start' }).on({ type: 'dialled', connection: 1 });
    this.on({ type: 'open', connection: 1, open: peerOpen() }).on({ type: 'keepalive', connection: 1 });
    assert.equal(neighbourState(this.neighbour), 'established');
    return this;
  }
}

describe('neighbour FSM', () => {
  it('walks from Idle to Established', () => {
    const run = new Run();
    assert.equal(neighbourState(run.neighbour), 'idle');
    assert.deepEqual(run.on({ type: 'start' }).types(), ['clear-timer', 'dial', 'set-timer']);
    assert.equal(neighbourState(run.neighbour), 'connect');
    run.on({ type: 'dialled', connection: 1 });
    assert.equal(neighbourState(run.neighbour), 'open-sent');
    assert.equal(run.timer('hold'), 60_000);
    run.on({ type: 'open', connection: 1, open: peerOpen({ holdTime: 30 }) });
    assert.equal(neighbourState(run.neighbour), 'open-confirm');
    assert.equal(run.timer('hold'), 30_000);
    assert.equal(run.timer('keepalive'), 10_000 * 0.875);
    run.on({ type: 'keepalive', connection: 1 });
    assert.ok(run.types().includes('established'));
  });

  it('waits for the peer when passive, and takes its connection', () => {
    const run = new Run({ passive: true }).on({ type: 'start' });
    assert.equal(neighbourState(run.neighbour), 'active');
    assert.deepEqual(run.on({ type: 'accepted' }).types(), ['take', 'send-open', 'set-timer']);
  });

  it('retries with a growing, jittered delay up to its cap', () => {
    const run = new Run({ random: () => 1 }).on({ type: 'start' });
    const delays: (number | undefined)[] = [];
    for (let i = 0; i < 6; i++) {
      const connection = run.neighbour.dialling!;
      run.on({ type: 'dial-failed', connection, reason: 'refused' });
      delays.push(run.timer('connect-retry'));
      run.on({ type: 'timer', timer: 'connect-retry', connection: 0 });
    }
    assert.deepEqual(delays, [1000, 2000, 4000, 8000, 15_000, 15_000]);
  });

  it('answers errors of the OPEN with their subcodes and waits in Idle', () => {
    for (const [open, sent] of [
      [peerOpen({ asNumber: 65009 }), '2/2'],
      [peerOpen({ capabilities: { ...NO_CAPABILITIES, families: ['ipv6'] } }), '2/7'],
    ] as const) {
      const run = new Run().on({ type: 'start' }).on({ type: 'dialled', connection: 1 });
      run.on({ type: 'open', connection: 1, open });
      assert.equal(run.sent(), sent);
      assert.equal(neighbourState(run.neighbour), 'idle');
      assert.equal(run.timer('idle-hold'), 1000);
      assert.deepEqual(run.on({ type: 'accepted' }).types(), ['refuse']);
      run.on({ type: 'timer', timer: 'idle-hold', connection: 0 });
      assert.equal(neighbourState(run.neighbour), 'connect');
    }
  });

  it('names a twin: own router id in the own AS', () => {
    const run = new Run({ peerAs: 65001 }).on({ type: 'start' }).on({ type: 'dialled', connection: 1 });
    run.on({ type: 'open', connection: 1, open: peerOpen({ asNumber: 65001, routerId: 0x0a000001 }) });
    assert.equal(run.sent(), '2/3');
    const external = new Run().on({ type: 'start' }).on({ type: 'dialled', connection: 1 });
    external.on({ type: 'open', connection: 1, open: peerOpen({ routerId: 0x0a000001 }) });
    assert.equal(neighbourState(external.neighbour), 'open-confirm'); // RFC 6286: only the AS must differ
  });

  it('gives the subcode of RFC 6608 for a message out of place', () => {
    const run = new Run().on({ type: 'start' }).on({ type: 'dialled', connection: 1 });
    assert.equal(run.on({ type: 'update', connection: 1 }).sent(), `${ERR_FSM}/1`);
    const confirm = new Run().on({ type: 'start' }).on({ type: 'dialled', connection: 1 });
    confirm.on({ type: 'open', connection: 1, open: peerOpen() });
    assert.equal(confirm.on({ type: 'update', connection: 1 }).sent(), `${ERR_FSM}/2`);
    const established = new Run().established();
    assert.equal(established.on({ type: 'open', connection: 1, open: peerOpen() }).sent(), `${ERR_FSM}/3`);
  });

  it('expires the hold timer with 4/0 and says so', () => {
    const run = new Run().established().on({ type: 'timer', timer: 'hold', connection: 1 });
    assert.equal(run.sent(), `${ERR_HOLD}/0`);
    const down = run.actions.find((a) => a.type === 'down');
    assert.equal(down?.type === 'down' && down.cause, 'hold-expired');
  });

  it('with hold time 0 has neither hold timer nor keepalives', () => {
    const run = new Run().on({ type: 'start' }).on({ type: 'dialled', connection: 1 });
    run.on({ type: 'open', connection: 1, open: peerOpen({ holdTime: 0 }) });
    assert.equal(run.timer('hold'), undefined);
    assert.equal(run.timer('keepalive'), undefined);
  });

  it('offers no capabilities after the peer refused the parameter', () => {
    const run = new Run().on({ type: 'start' }).on({ type: 'dialled', connection: 1 });
    const notification = { code: ERR_OPEN, subcode: 4, data: EMPTY_BYTES };
    run.on({ type: 'notification', connection: 1, notification });
    if (run.neighbour.mode === 'hold') run.on({ type: 'timer', timer: 'idle-hold', connection: 0 });
    else run.on({ type: 'timer', timer: 'connect-retry', connection: 0 });
    run.on({ type: 'dialled', connection: run.neighbour.dialling! });
    const open = run.actions.find((a) => a.type === 'send-open');
    assert.equal(open?.type === 'send-open' && open.plain, true);
  });

  it('closes without a word when stopped for a restart, with cease when shut down', () => {
    const silent = new Run().established().on({ type: 'stop', notification: null, reason: 'restart' });
    assert.equal(silent.sent(), undefined);
    assert.ok(silent.types().includes('close'));
    const cease = { code: ERR_CEASE, subcode: 2, data: EMPTY_BYTES };
    assert.equal(new Run().established().on({ type: 'stop', notification: cease, reason: 'x' }).sent(), '6/2');
  });

  it('compares router ids unsigned', () => {
    // 200.0.0.1 dominates 10.0.0.2 although it is negative as a signed number.
    const run = new Run({ routerId: 0xc8000001 }).on({ type: 'start' }).on({ type: 'dialled', connection: 1 });
    run.on({ type: 'accepted' }).on({ type: 'open', connection: 2, open: peerOpen() });
    assert.equal(run.types().includes('send-keepalive'), false); // held back: connection 1 may yet win
    run.on({ type: 'open', connection: 1, open: peerOpen() });
    assert.equal(run.sent(), `6/${CEASE_COLLISION}`);
    assert.deepEqual(
      run.neighbour.connections.map((c) => c.initiator),
      ['local'],
    );
  });

  it('keeps an established session against a newcomer, unless a settled peer restarts gracefully', () => {
    const gracefulRestart = { restarting: false, notification: true, time: 120, families: [] };
    const open = peerOpen({ capabilities: { ...peerOpen().capabilities, gracefulRestart } });
    for (const [settled, graceful, winner] of [
      [true, false, 1],
      [false, true, 1],
      [true, true, 2],
    ] as const) {
      const run = new Run({ gracefulRestart: graceful }).on({ type: 'start' }).on({ type: 'dialled', connection: 1 });
      run.on({ type: 'open', connection: 1, open }).on({ type: 'keepalive', connection: 1 });
      if (settled) run.on({ type: 'timer', timer: 'stable', connection: 0 });
      run.on({ type: 'accepted' }).on({ type: 'open', connection: 2, open });
      assert.deepEqual(
        run.neighbour.connections.map((c) => c.id),
        [winner],
      );
    }
  });
});

// ---------------------------------------------------------------- collisions: two machines, every interleaving

type Message = 'open' | 'keepalive' | 'cease' | 'fin';

/** A TCP connection between side 0 and side 1; `id` is what each side calls it, 0 before it knows of it. */
interface Wire {
  readonly dialler: 0 | 1;
  readonly id: [number, number];
  /** Messages on their way to side 0 and side 1. */
  readonly toward: [Message[], Message[]];
  /** The dialler's process has been told. */
  up: boolean;
  readonly closed: [boolean, boolean];
}

interface World {
  sides: [Neighbour, Neighbour];
  wires: Wire[];
  established: [number[], number[]];
}

describe('collision', () => {
  const contexts = (ids: readonly [number, number], as: readonly [number, number]): [FsmContext, FsmContext] => [
    context({ routerId: ids[0], localAs: as[0], peerAs: as[1] }),
    context({ routerId: ids[1], localAs: as[1], peerAs: as[0] }),
  ];

  function explore(ids: readonly [number, number], as: readonly [number, number]): number {
    const sideContexts = contexts(ids, as);
    const opens = [0, 1].map((side) => peerOpen({ routerId: ids[side]!, asNumber: as[side]! }));
    const apply = (world: World, side: 0 | 1, event: FsmEvent, wire?: Wire): void => {
      const { neighbour, actions } = step(world.sides[side], event, sideContexts[side]);
      world.sides[side] = neighbour;
      const byId = (id: number): Wire | undefined => world.wires.find((w) => w.id[side] === id);
      const other = (1 - side) as 0 | 1;
      for (const action of actions) {
        if (action.type === 'dial') {
          const id: [number, number] = [0, 0];
          id[side] = action.connection;
          world.wires.push({ dialler: side, id, toward: [[], []], up: false, closed: [false, false] });
        } else if (action.type === 'take') wire!.id[side] = action.connection;
        else if (action.type === 'refuse') {
          wire!.closed[side] = true;
          wire!.toward[other].push('fin');
        } else if (action.type === 'cancel-dial' || action.type === 'close') {
          const target = byId(action.connection);
          if (target && !target.closed[side]) {
            target.closed[side] = true;
            target.toward[other].push('fin');
          }
        } else if (action.type === 'send-open') byId(action.connection)?.toward[other].push('open');
        else if (action.type === 'send-keepalive') byId(action.connection)?.toward[other].push('keepalive');
        else if (action.type === 'send-notification') byId(action.connection)?.toward[other].push('cease');
        else if (action.type === 'established')
          world.established[side].push(world.wires.indexOf(byId(action.connection)!));
        else assert.notEqual(action.type, 'down', 'an established session was lost to the collision');
      }
    };
    /** What may happen next: TCP comes up at the dialler, TCP is accepted, or a message is read. */
    const choices = (world: World): [number, 'up' | 'accept' | 'read0' | 'read1'][] => {
      const found: [number, 'up' | 'accept' | 'read0' | 'read1'][] = [];
      for (const [i, w] of world.wires.entries()) {
        const acceptor = (1 - w.dialler) as 0 | 1;
        if (!w.up && !w.closed[w.dialler]) found.push([i, 'up']);
        // The handshake is the kernels' affair: acceptance does not wait for the dialler's process.
        if (w.id[acceptor] === 0 && !w.closed[acceptor]) found.push([i, 'accept']);
        for (const side of [0, 1] as const) {
          const ready = side === w.dialler ? w.up : w.id[side] !== 0;
          if (ready && !w.closed[side] && w.toward[side].length > 0) found.push([i, side === 0 ? 'read0' : 'read1']);
        }
      }
      return found;
    };
    const perform = (world: World, [index, what]: [number, string]): void => {
      const wire = world.wires[index]!;
      const acceptor = (1 - wire.dialler) as 0 | 1;
      if (what === 'up') {
        wire.up = true;
        apply(world, wire.dialler, { type: 'dialled', connection: wire.id[wire.dialler] }, wire);
      } else if (what === 'accept') {
        wire.id[acceptor] = -1;
        apply(world, acceptor, { type: 'accepted' }, wire);
      } else {
        const side = what === 'read0' ? 0 : 1;
        const connection = wire.id[side];
        const message = wire.toward[side].shift()!;
        if (message === 'open') apply(world, side, { type: 'open', connection, open: opens[1 - side]! });
        else if (message === 'keepalive') apply(world, side, { type: 'keepalive', connection });
        else if (message === 'cease') {
          const notification = { code: ERR_CEASE, subcode: CEASE_COLLISION, data: EMPTY_BYTES };
          apply(world, side, { type: 'notification', connection, notification });
        } else {
          wire.closed[side] = true;
          apply(world, side, { type: 'closed', connection, reason: 'closed' });
        }
      }
    };
    const start: World = { sides: [INITIAL_NEIGHBOUR, INITIAL_NEIGHBOUR], wires: [], established: [[], []] };
    apply(start, 0, { type: 'start' });
    apply(start, 1, { type: 'start' });
    const seen = new Set<string>();
    const stack = [start];
    let ends = 0;
    for (let world = stack.pop(); world; world = stack.pop()) {
      const next = choices(world);
      if (next.length === 0) {
        ends++;
        assert.equal(neighbourState(world.sides[0]), 'established', JSON.stringify(world));
        assert.equal(neighbourState(world.sides[1]), 'established', JSON.stringify(world));
        assert.equal(world.sides[0].connections.length, 1);
        assert.equal(world.sides[1].connections.length, 1);
        assert.deepEqual(world.established[0], world.established[1]);
        continue;
      }
      for (const choice of next) {
        const copy = structuredClone(world);
        perform(copy, choice);
        const key = JSON.stringify(copy);
        if (!seen.has(key)) {
          seen.add(key);
          stack.push(copy);
        }
      }
    }
    assert.ok(ends > 0);
    return seen.size;
  }

  it('leaves both sides with the same single connection, whatever the order', () => {
    for (const ids of [
      [1, 2],
      [2, 1],
      [0x0a000001, 0xc8000001],
    ] as const) {
      assert.ok(explore(ids, [65001, 65002]) > 100);
    }
  });

  it('settles equal router ids by the AS', () => {
    explore([7, 7], [65001, 65002]);
    explore([7, 7], [65002, 65001]);
  });
});
