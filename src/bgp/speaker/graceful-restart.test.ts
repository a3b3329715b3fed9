// Graceful restart in both roles, as a matrix over what the peer offers, says on its return, and sends.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CEASE_SHUTDOWN, ERR_CEASE, hardReset } from '#bgp/wire/notification.ts';
import { EMPTY_BYTES } from '#bgp/wire/types.ts';
import { graceful, peerConfig, ScriptedPeer, speakerConfig, table, TableSink, World } from './testing.ts';

const US = '10.0.0.1';
const PEER = '10.0.0.2';
const SHUTDOWN = { code: ERR_CEASE, subcode: CEASE_SHUTDOWN, data: EMPTY_BYTES };

describe('a peer restarts (we help)', () => {
  type End = 'dies' | 'shuts down' | 'shuts down hard' | 'hangs';
  for (const offered of ['nothing', 'graceful', 'graceful with N'] as const) {
    for (const end of ['dies', 'shuts down', 'shuts down hard', 'hangs'] as const satisfies readonly End[]) {
      const kept =
        offered !== 'nothing' &&
        (end === 'dies' || (offered === 'graceful with N' && (end === 'shuts down' || end === 'hangs')));
      for (const back of ['never', 'without capability', 'without F', 'with F and R', 'with F'] as const) {
        for (const endOfRib of back === 'never' ? [false] : [true, false]) {
          it(`offers ${offered}, ${end}, is back ${back}${endOfRib ? ' and says End-of-RIB' : ''}`, () => {
            const world = new World();
            const peer = new ScriptedPeer(
              world,
              PEER,
              offered === 'nothing' ? {} : graceful({ notification: offered === 'graceful with N' }),
            );
            const speaker = world.speaker(US);
            speaker.configure(speakerConfig(US, [peerConfig(PEER)]));
            world.run();
            peer.announce('10.2.0.0/16', '10.3.0.0/16');
            peer.sayEndOfRib();
            world.run();
            assert.deepEqual(table(speaker), ['10.2.0.0/16', '10.3.0.0/16']);

            peer.listening = false;
            if (end === 'dies') peer.die();
            else if (end === 'shuts down') peer.notify(SHUTDOWN);
            else if (end === 'shuts down hard') peer.notify(hardReset(SHUTDOWN));
            else {
              peer.hang();
              world.network.cut(US, PEER);
            }
            world.run(end === 'hangs' ? 95_000 : 50);
            assert.deepEqual(table(speaker), kept ? ['10.2.0.0/16 stale', '10.3.0.0/16 stale'] : [], 'while away');
            if (end === 'hangs') return;
            if (back === 'never') {
              world.run(101_000);
              assert.deepEqual(table(speaker), [], 'after the restart time');
              return;
            }

            peer.comeBack(
              back === 'without capability'
                ? {}
                : graceful({ forwarding: back !== 'without F', restarting: back === 'with F and R' }),
            );
            world.run(20_000);
            assert.equal(speaker.entries.get(PEER)?.peer.state, 'established');
            const stillKept = kept && (back === 'with F' || back === 'with F and R');
            assert.deepEqual(table(speaker), stillKept ? ['10.2.0.0/16 stale', '10.3.0.0/16 stale'] : [], 'back');
            peer.announce('10.2.0.0/16');
            world.run();
            assert.deepEqual(
              table(speaker),
              ['10.2.0.0/16', ...(stillKept ? ['10.3.0.0/16 stale'] : [])],
              'said again',
            );
            if (endOfRib) peer.sayEndOfRib();
            world.run(endOfRib ? 100 : 361_000);
            assert.deepEqual(table(speaker), ['10.2.0.0/16'], endOfRib ? 'after End-of-RIB' : 'after the limit');
          });
        }
      }
    }
  }

  it('purges what is stale when the peer restarts twice', () => {
    const world = new World();
    const peer = new ScriptedPeer(world, PEER, graceful());
    const speaker = world.speaker(US);
    speaker.configure(speakerConfig(US, [peerConfig(PEER)]));
    world.run();
    peer.announce('10.2.0.0/16', '10.3.0.0/16');
    world.run();
    peer.die();
    world.run(50);
    peer.comeBack(graceful());
    world.run(20_000);
    peer.announce('10.2.0.0/16');
    world.run();
    peer.die();
    world.run(50);
    assert.deepEqual(table(speaker), ['10.2.0.0/16 stale']);
  });

  it('keeps long-lived stale routes as a last resort (RFC 9494)', () => {
    const world = new World();
    const longLived = [{ family: 'ipv4', forwarding: true, staleTime: 1000 }] as const;
    const peer = new ScriptedPeer(world, PEER, { ...graceful(), longLived });
    const other = new ScriptedPeer(world, '10.0.0.3');
    const speaker = world.speaker(US);
    const sink = new TableSink();
    speaker.configure(
      speakerConfig(US, [peerConfig(PEER, { longLived: { enabled: true, staleTime: 500 } }), peerConfig('10.0.0.3')]),
    );
    assert.equal(sink.routes.size, 0);
    world.run();
    peer.announce('10.2.0.0/16');
    world.run();
    assert.deepEqual([...other.announced], ['10.2.0.0/16']);
    peer.die();
    world.run(99_000);
    assert.deepEqual([...other.announced], ['10.2.0.0/16']);
    world.run(2_000);
    assert.deepEqual(table(speaker), ['10.2.0.0/16 stale']);
    assert.deepEqual([...other.announced], []); // it does not know what long-lived stale is
    world.run(1_001_000);
    assert.deepEqual(table(speaker), []);
  });
});

describe('we restart', () => {
  /** A restarted speaker and its peers; what each has been told so far. */
  const start = (
    ...peers: { capabilities?: Parameters<typeof graceful>[0] | null; there?: boolean }[]
  ): { world: World; scripted: ScriptedPeer[]; speaker: ReturnType<World['speaker']>; sink: TableSink } => {
    const world = new World();
    const scripted = peers.map(({ capabilities, there }, i) => {
      const peer = new ScriptedPeer(
        world,
        `10.0.0.${i + 2}`,
        capabilities === null ? {} : graceful(capabilities ?? {}),
      );
      peer.listening = there ?? true;
      return peer;
    });
    const sink = new TableSink();
    const speaker = world.speaker(US, { restarting: true, forwardingKept: true, sink });
    speaker.setLocalRoutes([{ prefix: '10.1.0.0/16' }]);
    speaker.configure(
      speakerConfig(
        US,
        scripted.map((p) => peerConfig(p.address)),
      ),
    );
    world.run(50);
    return { world, scripted, speaker, sink };
  };

  it('sets R and F in every first OPEN, and announces its own routes at once', () => {
    const { scripted } = start({}, {});
    for (const peer of scripted) {
      assert.deepEqual(peer.open?.capabilities.gracefulRestart, {
        restarting: true,
        notification: true,
        time: 120,
        families: [{ family: 'ipv4', forwarding: true }],
      });
      assert.deepEqual([...peer.announced], ['10.1.0.0/16']);
    }
  });

  it('says End-of-RIB, and lets the sink sweep, when the peers that are there have said theirs', () => {
    const { world, scripted, speaker, sink } = start({}, {});
    const [a, b] = scripted;
    a!.announce('10.2.0.0/16');
    a!.sayEndOfRib();
    world.run();
    assert.deepEqual([a!.endOfRib, b!.endOfRib, speaker.converged, sink.converges], [false, false, false, 0]);
    b!.sayEndOfRib();
    world.run();
    assert.deepEqual([a!.endOfRib, b!.endOfRib, speaker.converged], [true, true, true]);
    assert.ok(sink.converges > 0);
    assert.deepEqual([...sink.routes], [['10.2.0.0/16', '10.0.0.2']]);
  });

  it('does not wait for a peer without graceful restart, one that restarts itself, or one that is not there', () => {
    for (const other of [{ capabilities: null }, { capabilities: { restarting: true } }, { there: false }]) {
      const { world, scripted, speaker } = start({}, other);
      scripted[0]!.sayEndOfRib();
      world.run(500);
      assert.equal(speaker.converged, true, JSON.stringify(other));
      assert.equal(scripted[0]!.endOfRib, true);
    }
  });

  it('waits at most 15 s for a peer that never says End-of-RIB', () => {
    const { world, scripted, speaker } = start({});
    world.run(14_000);
    assert.equal(speaker.converged, false);
    world.run(2_000);
    assert.equal(speaker.converged, true);
    assert.equal(scripted[0]!.endOfRib, true);
  });

  it('clears R once it has converged', () => {
    const { world, scripted, speaker } = start({});
    scripted[0]!.sayEndOfRib();
    world.run();
    speaker.clear(null, 'hard');
    world.run(5_000);
    assert.equal(scripted[0]!.open?.capabilities.gracefulRestart?.restarting, false);
  });

  it('closes in silence for a restart, and says goodbye in a shutdown', () => {
    const restart = start({});
    restart.speaker.stop('restart');
    restart.world.run();
    assert.deepEqual(restart.scripted[0]!.notifications, []);
    assert.equal(restart.scripted[0]!.closed, true);
    const shutdown = start({}, { capabilities: { notification: true } });
    shutdown.speaker.stop('shutdown', 'bye');
    shutdown.world.run();
    assert.deepEqual(
      shutdown.scripted.map((p) => p.notifications.map((n) => `${n.code}/${n.subcode}`).join()),
      ['6/2', '6/9'], // Hard Reset to who knows it (RFC 8538): the routes are really gone
    );
  });
});
