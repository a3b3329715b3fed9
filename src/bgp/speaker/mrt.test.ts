// Dumps of the tables and their replay, in the simulated network.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MrtReader, ribAttributes } from '#bgp/mrt/reader.ts';
import type { DumpView } from './api.ts';
import { dumpPiece } from './mrt-dump.ts';
import { Replay } from './mrt-replay.ts';
import { routes } from './queries.ts';
import { peerConfig, ScriptedPeer, speakerConfig, World } from './testing.ts';
import type { Speaker } from './speaker.ts';

function dump(speaker: Speaker, view: DumpView): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let piece = dumpPiece(speaker, view, null);
  for (;;) {
    pieces.push(piece.octets);
    if (piece.next === null) return pieces;
    piece = dumpPiece(speaker, view, structuredClone(piece.next));
  }
}

function world(): { world: World; speaker: Speaker; peer: ScriptedPeer } {
  const stage = new World();
  const speaker = stage.speaker('10.9.0.1');
  const peer = new ScriptedPeer(stage, '10.9.0.2');
  speaker.setLocalRoutes([{ prefix: '10.1.0.0/16', communities: ['65001:7'] }]);
  speaker.configure(speakerConfig('10.9.0.1', [peerConfig('10.9.0.2')]));
  stage.run();
  return { world: stage, speaker, peer };
}

describe('MRT dump', () => {
  it('holds all paths with the peers they came from', () => {
    const { world: stage, speaker, peer } = world();
    peer.announce('10.2.0.0/16', '10.3.0.0/16', '10.1.0.0/16');
    stage.run();
    const lines: string[] = [];
    const reader = new MrtReader();
    for (const octets of dump(speaker, 'accepted')) {
      for (const record of reader.push(octets)) {
        if (record.type === 'peer-index-table')
          lines.push(record.peers.map((p) => `${p.address} ${p.asNumber}`).join());
        else if (record.type === 'rib') {
          for (const entry of record.entries) {
            const { attributes } = ribAttributes(entry, 'ipv4');
            lines.push(`${record.prefix} from ${entry.peerIndex} by ${attributes?.nextHop ?? 'us'}`);
          }
        } else assert.fail(record.type);
      }
    }
    reader.end();
    assert.deepEqual(lines.toSorted(), [
      '0.0.0.0 65001,10.9.0.2 65002',
      '10.1.0.0/16 from 0 by us',
      '10.1.0.0/16 from 1 by 10.9.0.2',
      '10.2.0.0/16 from 1 by 10.9.0.2',
      '10.3.0.0/16 from 1 by 10.9.0.2',
    ]);
  });

  it('comes back as routes of another speaker, with their attributes, and goes again', () => {
    const { world: stage, speaker, peer } = world();
    peer.announce('10.2.0.0/16', '10.3.0.0/16');
    stage.run();
    const replay = new Replay({ file: 'dump.mrt', peer: '10.9.0.2', nextHop: 'keep' });
    for (const octets of dump(speaker, 'received')) replay.push(octets);
    replay.end();
    assert.deepEqual([...replay.routes.keys()].toSorted(), ['10.2.0.0/16', '10.3.0.0/16']);

    const other = stage.speaker('10.9.0.9');
    other.configure(speakerConfig('10.9.0.9', []));
    other.setReplayed(replay.routes);
    stage.run();
    const shown = (s: Speaker): unknown =>
      routes(s, { view: 'best', within: '10.2.0.0/15' }).paths.map((p) => [p.prefix, p.asPath, p.nextHop, p.origin]);
    assert.deepEqual(shown(other), shown(speaker));
    other.setReplayed(new Map([...replay.routes].slice(0, 1)));
    stage.run();
    assert.equal(routes(other, { view: 'best' }).paths.length, 1);
  });

  it('refuses what is no dump, and a peer that is not in it', () => {
    const { speaker } = world();
    const none = new Replay({ file: 'x.mrt', nextHop: 'self' });
    assert.throws(() => none.end(), { code: 'corrupt' });
    const stranger = new Replay({ file: 'x.mrt', peer: '10.9.0.77', nextHop: 'self' });
    for (const octets of dump(speaker, 'best')) stranger.push(octets);
    assert.throws(() => stranger.end(), { code: 'not-found', remedy: /10\.9\.0\.2/ });
  });
});
