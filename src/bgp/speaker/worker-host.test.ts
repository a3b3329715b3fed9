// The speaker behind a message channel, with both ends in this thread.
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, it } from 'node:test';
import { isBrindleError } from '#base/errors.ts';
import { silentLogger } from '#base/log.ts';
import { systemClock } from '#base/clock.ts';
import type { NextHopState, SpeakerEvent } from './api.ts';
import { MockNetwork } from './mock-transport.ts';
import { peerConfig, ScriptedPeer, speakerConfig, TableSink } from './testing.ts';
import { serveSpeaker } from './worker.ts';
import { WorkerSpeaker } from './worker-host.ts';
import type { FromWorker, ToWorker } from './worker-protocol.ts';

/** A worker thread without the thread: messages are cloned and come later, as they do between threads. */
class Channel {
  readonly host = new EventEmitter();
  readonly port = new EventEmitter();
  ended = false;

  readonly worker = {
    postMessage: (message: ToWorker): void => this.#deliver(this.port, message),
    on: (event: string, listener: (value: never) => void): unknown =>
      this.host.on(event, listener as (value: unknown) => void),
    terminate: async (): Promise<void> => this.end(0),
  };

  readonly inside = {
    postMessage: (message: FromWorker): void => this.#deliver(this.host, message),
    on: (_event: 'message', listener: (message: ToWorker) => void): unknown => this.port.on('message', listener),
  };

  end(code: number): void {
    if (this.ended) return;
    this.ended = true;
    this.host.emit('exit', code);
  }

  #deliver(to: EventEmitter, message: unknown): void {
    const copy: unknown = structuredClone(message);
    setImmediate(() => {
      if (!this.ended) to.emit('message', copy);
    });
  }
}

describe('speaker in a worker', () => {
  it('answers calls, feeds the sink, tracks next hops, passes events and errors on', async () => {
    const network = new MockNetwork(systemClock);
    const peer = new ScriptedPeer({ network }, '10.0.0.2');
    const channel = new Channel();
    const start = { hasSink: true, hasNextHops: true, restarting: false, forwardingKept: false };
    serveSpeaker(channel.inside, network.transport('10.0.0.1'), () => ({ watch: () => ({ stop: () => {} }) }), start);
    const sink = new TableSink();
    let tell: (address: string, state: NextHopState) => void = () => {};
    const lost: string[] = [];
    const host = new WorkerSpeaker({
      worker: channel.worker,
      log: silentLogger,
      sink,
      nextHops: {
        track: (address) => setImmediate(() => tell(address, { reachable: true, metric: 0 })),
        untrack: () => {},
        onChange: (listener) => {
          tell = listener;
        },
      },
      onLost: (reason) => lost.push(reason),
    });
    const events: SpeakerEvent[] = [];
    host.watch((event) => events.push(event));
    const until = async (check: () => boolean): Promise<void> => {
      for (let i = 0; !check(); i++) {
        assert.ok(i < 500);
        await new Promise((done) => setTimeout(done, 10));
      }
    };
    await host.setLocalRoutes([{ prefix: '10.1.0.0/16' }]);
    const { changes } = await host.configure(speakerConfig('10.0.0.1', [peerConfig('10.0.0.2')]));
    assert.equal(changes[0]?.effect, 'added');
    await until(() => events.some((e) => e.type === 'peer-state' && e.to === 'established'));
    peer.announce('10.2.0.0/16');
    await until(() => sink.routes.get('10.2.0.0/16') === '10.0.0.2');
    assert.ok(sink.converges > 0);
    assert.equal((await host.summary())[0]?.state, 'established');
    assert.deepEqual([...peer.announced], ['10.1.0.0/16']);
    await assert.rejects(
      host.peer('nobody'),
      (error) => isBrindleError(error, 'not-found') && error.remedy !== undefined,
    );

    const pending = host.status();
    channel.end(1);
    await assert.rejects(pending, (error) => isBrindleError(error, 'unavailable'));
    await assert.rejects(host.status(), (error) => isBrindleError(error, 'unavailable'));
    assert.deepEqual(lost, ['the BGP thread ended with code 1']);
  });
});
