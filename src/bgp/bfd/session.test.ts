import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ManualClock } from '#base/clock.ts';
import {
  BFD_ADMIN_DOWN,
  BFD_DOWN,
  BFD_UP,
  BfdSession,
  type BfdState,
  type BfdTimers,
  decodeBfd,
  encodeBfd,
} from './session.ts';

/** Two sessions on one link that can be cut. */
class Link {
  readonly clock = new ManualClock();
  readonly ends: [BfdSession, BfdSession];
  readonly log: [string[], string[]] = [[], []];
  readonly sent: [number, number] = [0, 0];
  cut = false;

  constructor(a: BfdTimers, b: BfdTimers) {
    const make = (side: 0 | 1, timers: BfdTimers): BfdSession =>
      new BfdSession({
        discriminator: side + 1,
        timers,
        clock: this.clock,
        random: () => 0.5,
        send: (octets) => {
          this.sent[side]++;
          if (this.cut) return;
          this.clock.after(1, () => {
            const packet = decodeBfd(octets);
            assert.ok(packet);
            this.ends[side === 0 ? 1 : 0].receive(packet);
          });
        },
        onState: (state: BfdState, administrative) => this.log[side].push(`${state}${administrative ? ' admin' : ''}`),
      });
    this.ends = [make(0, a), make(1, b)];
    for (const end of this.ends) end.start();
  }
}

const FAST: BfdTimers = { interval: 300, multiplier: 3 };

describe('BFD', () => {
  it('comes up, and speeds up', () => {
    const link = new Link(FAST, FAST);
    link.clock.advance(3_000);
    assert.deepEqual(
      link.ends.map((e) => e.state),
      [BFD_UP, BFD_UP],
    );
    const before = link.sent[0];
    link.clock.advance(3_000);
    assert.ok(link.sent[0] - before >= 10 && link.sent[0] - before <= 14, `${link.sent[0] - before} packets`);
  });

  it('tells a cut link within its detection time, and recovers', () => {
    const link = new Link(FAST, FAST);
    link.clock.advance(5_000);
    link.cut = true;
    link.clock.advance(901);
    assert.deepEqual(
      link.ends.map((e) => e.state),
      [BFD_DOWN, BFD_DOWN],
    );
    assert.deepEqual(link.log[0].at(-1), '1');
    link.cut = false;
    link.clock.advance(3_000);
    assert.deepEqual(
      link.ends.map((e) => e.state),
      [BFD_UP, BFD_UP],
    );
  });

  it('keeps to the slower of both sides', () => {
    const link = new Link({ interval: 100, multiplier: 3 }, { interval: 1000, multiplier: 3 });
    link.clock.advance(5_000);
    const before = [...link.sent];
    link.clock.advance(10_000);
    assert.ok(link.sent[0] - before[0]! <= 14);
    link.cut = true;
    link.clock.advance(2_000);
    assert.equal(link.ends[0].state, BFD_UP); // three of the other side's slow intervals
    link.clock.advance(1_100);
    assert.equal(link.ends[0].state, BFD_DOWN);
  });

  it('does not take an administrative end for a failure', () => {
    const link = new Link(FAST, FAST);
    link.clock.advance(3_000);
    link.ends[0].stop();
    link.clock.advance(10);
    assert.equal(link.ends[0].state, BFD_ADMIN_DOWN);
    assert.equal(link.log[1].at(-1), '1 admin');
  });

  it('reads back what it writes, and discards what RFC 5880 says to', () => {
    const good = encodeBfd({
      diagnostic: 3,
      state: BFD_UP,
      poll: true,
      final: false,
      demand: false,
      multiplier: 3,
      myDiscriminator: 0xfffffff0,
      yourDiscriminator: 7,
      desiredMinTx: 300_000,
      requiredMinRx: 300_000,
      requiredMinEcho: 0,
    });
    assert.deepEqual(encodeBfd(decodeBfd(good)!), good);
    const bad: [string, (p: Uint8Array) => unknown][] = [
      ['version', (p) => (p[0] = 0x40)],
      ['length too small', (p) => (p[3] = 23)],
      ['length beyond the packet', (p) => (p[3] = 25)],
      ['multiplier 0', (p) => (p[2] = 0)],
      ['multipoint', (p) => (p[1]! |= 1)],
      ['authentication', (p) => (p[1]! |= 4)],
      ['no discriminator', (p) => p.fill(0, 4, 8)],
      ['Up without ours', (p) => p.fill(0, 8, 12)],
    ];
    for (const [name, change] of bad) {
      const packet = good.slice();
      change(packet);
      assert.equal(decodeBfd(packet), null, name);
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (octets) => {
        decodeBfd(octets);
      }),
    );
  });
});
