// BMP stations in the simulated network: the order of messages, what they hold, reconnection, a station that hangs.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeEndOfRib } from '#bgp/wire/message.ts';
import { readU16, readU32 } from '#bgp/wire/writer.ts';
import { CEASE_RESET, ERR_CEASE } from '#bgp/wire/notification.ts';
import type { Connection } from './api.ts';
import { peerConfig, ScriptedPeer, speakerConfig, table, World } from './testing.ts';

const STATION = '10.9.0.100';
const PORT = 5000;
const TYPES = ['monitoring', 'statistics', 'down', 'up', 'initiation', 'termination'];

/** Listens for BMP and keeps what comes. */
class StationPeer {
  messages: { type: string; octets: Uint8Array }[] = [];
  connections: Connection[] = [];
  hanging = false;
  #rest = new Uint8Array(0);

  constructor(world: World) {
    world.network.transport(STATION).listen({ address: STATION, port: PORT }, (connection) => {
      this.connections.push(connection);
      this.#rest = new Uint8Array(0);
      connection.start({ data: (chunk) => this.#data(chunk), drain: () => {}, close: () => {} });
      if (this.hanging) connection.pause();
    });
  }

  #data(chunk: Uint8Array): void {
    let buf = Uint8Array.from([...this.#rest, ...chunk]);
    while (buf.length >= 6 && buf.length >= readU32(buf, 1)) {
      const length = readU32(buf, 1);
      assert.equal(buf[0], 3);
      this.messages.push({ type: TYPES[buf[5]!]!, octets: buf.slice(0, length) });
      buf = buf.slice(length);
    }
    this.#rest = buf;
  }

  take(): string[] {
    const types = this.messages.map((m) => m.type);
    this.messages = [];
    return types;
  }
}

const config = (bmp: boolean): ReturnType<typeof speakerConfig> =>
  speakerConfig('10.9.0.1', [peerConfig('10.9.0.2')], bmp ? { bmp: [{ address: STATION, port: PORT }] } : {});

describe('BMP stations', () => {
  it('hear of peers, of their routes as they came, and of the end', () => {
    const world = new World();
    const station = new StationPeer(world);
    const peer = new ScriptedPeer(world, '10.9.0.2');
    const speaker = world.speaker('10.9.0.1');
    speaker.configure(config(false));
    world.run();
    peer.announce('10.2.0.0/16', '10.3.0.0/16');
    world.run();
    speaker.configure(config(true)); // a station that comes late gets what there is
    world.run();
    const [, up, first, mark] = station.messages;
    assert.deepEqual(
      station.messages.map((m) => m.type),
      ['initiation', 'up', 'monitoring', 'monitoring'],
    );
    const { session } = speaker.entries.get('10.9.0.2')!.peer;
    assert.deepEqual(up?.octets.slice(68), Uint8Array.from([...session!.openSent, ...session!.openReceived]));
    assert.equal(readU16(first!.octets, 48 + 16), first!.octets.length - 48);
    const prefixes = Buffer.from(first!.octets.subarray(-6)).toString('hex');
    assert.ok(['100a02100a03', '100a03100a02'].includes(prefixes), prefixes);
    assert.deepEqual(mark?.octets.slice(48), encodeEndOfRib('ipv4'));
    station.take();

    peer.announce('10.4.0.0/16');
    peer.withdraw('10.2.0.0/16');
    world.run();
    assert.deepEqual(station.take(), ['monitoring', 'monitoring']);
    world.run(61_000);
    assert.ok(station.take().includes('statistics'));

    peer.notify({ code: ERR_CEASE, subcode: CEASE_RESET, data: new Uint8Array(0) });
    world.run(1);
    world.run(5);
    const down = station.messages.find((m) => m.type === 'down');
    assert.equal(down?.octets[48], 3);
    assert.deepEqual([...down.octets.slice(-2)], [6, 4]);
    station.take();
    speaker.stop('restart');
    world.run();
    assert.equal(station.take().at(-1), 'termination');
  });

  it('that go away are called again, and ones that hang do not hold up BGP', () => {
    const world = new World();
    const station = new StationPeer(world);
    const peer = new ScriptedPeer(world, '10.9.0.2');
    const speaker = world.speaker('10.9.0.1');
    speaker.configure(config(true));
    world.run();
    assert.deepEqual(station.take().slice(0, 2).toSorted(), ['initiation', 'up']);
    station.hanging = true;
    station.connections[0]!.end();
    world.run(3000);
    assert.equal(station.connections.length, 2);
    assert.deepEqual(station.take(), []);
    peer.announce('10.2.0.0/16');
    world.run();
    assert.deepEqual(table(speaker), ['10.2.0.0/16']);
  });

  it('malformed updates are told as the withdrawals they became', () => {
    const world = new World();
    const station = new StationPeer(world);
    const peer = new ScriptedPeer(world, '10.9.0.2');
    const speaker = world.speaker('10.9.0.1');
    speaker.configure(config(true));
    world.run();
    peer.announce('10.2.0.0/16');
    world.run();
    station.take();
    // ORIGIN of value 9, and nothing else, for 10.2.0.0/16.
    const hex = `${'ff'.repeat(16)}001e02 0000 0004 40010109 100a02`;
    peer.send(Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex')));
    world.run();
    assert.deepEqual(table(speaker), []);
    const [told] = station.messages;
    assert.equal(Buffer.from(told!.octets.slice(48 + 19)).toString('hex'), '0003100a020000');
  });
});
