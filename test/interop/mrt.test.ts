// MRT dumps of our speaker read by bgpdump, and announced again by a speaker that takes them as input; BMP messages on a
// real socket. Routes come from BIRD.
// Needs root and the Debian packages bird2 and bgpdump.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { Stage, until } from './support.ts';

const exec = promisify(execFile);
const MAIN = resolve(import.meta.dirname, '../../src/cli/main.ts');

const BIRD = `
router id 10.9.1.2;
protocol static s4 { ipv4; route 10.2.0.0/16 blackhole { bgp_community.add((65002, 7)); };
  route 10.3.7.0/25 blackhole { bgp_large_community.add((65002, 1, 2)); }; }
protocol static s6 { ipv6; route fd02::/48 blackhole; }
protocol bgp brindle {
  local as 65002; neighbor 10.9.1.1 as 65001; connect delay time 1; error wait time 1, 2;
  ipv4 { import all; export filter { bgp_med = 30; accept; }; }; ipv6 { import all; export all; };
}`;

const file = (own: string): string => `
routerId: 10.9.1.1
asNumber: 65001
listen: [{address: 0.0.0.0, port: 179}]
${own}
peers:
  - {name: bird, address: 10.9.1.2, asNumber: 65002, families: [ipv4, ipv6], import: all, export: all}`;

/** A station: what it hears goes to its standard output. */
const LISTEN = `require('node:net').createServer((socket) => socket.pipe(process.stdout, { end: false })).listen(5000)`;

describe('MRT and BMP', () => {
  it('bgpdump reads our dump, and a speaker announces it again', async () => {
    await using stage = new Stage();
    const { namespace, theirs, theirs6 } = stage.neighbour();
    const bird = await stage.bird(namespace, BIRD);
    const speaker = await stage.speaker(file('networks: [10.1.0.0/16]'));
    await speaker.established('bird');
    await until('routes', async () => (await speaker.prefixes()).length === 4);

    const dump = join(stage.directory, 'dump.mrt');
    await exec(process.execPath, [MAIN, 'bgp', 'dump', '--mrt', dump, '--socket', speaker.api.socketPath]);
    const { stdout } = await exec('bgpdump', ['-m', dump]);
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => line.split('|'));
    assert.deepEqual(
      lines.map((f) => [f[3], f[4], f[5], f[6], f[7], f[8], f[10], f[11]].join('|')).toSorted(),
      [
        `${theirs}|65002|10.2.0.0/16|65002|IGP|${theirs}|30|65002:7`,
        `${theirs}|65002|10.3.7.0/25|65002|IGP|${theirs}|30|`,
        `${theirs}|65002|fd02::/48|65002|IGP|${theirs6}|0|`,
        '0.0.0.0|65001|10.1.0.0/16||IGP|0.0.0.0|0|',
      ].toSorted(),
    );

    await bird.birdc('disable s4');
    await until('they are withdrawn', async () => (await speaker.prefixes()).length === 2);
    speaker.reload(file(`networksFrom: {file: dump.mrt, peer: ${theirs}}`));
    await until('the dump is announced', async () => (await speaker.prefixes()).length === 3);
    const again = (await speaker.route('10.2.0.0/16')).paths[0];
    assert.deepEqual([again?.asPath, again?.med, again?.communities, again?.peer], ['65002', 30, ['65002:7'], null]);
  });

  it('a BMP station on a real socket hears of the peer and its routes', async () => {
    await using stage = new Stage();
    const { namespace, theirs } = stage.neighbour();
    const station = namespace.start(process.execPath, '-e', LISTEN);
    let heard = Buffer.alloc(0);
    station.stdout?.on('data', (chunk: Buffer) => {
      heard = Buffer.concat([heard, chunk]);
    });
    await stage.bird(namespace, BIRD);
    const speaker = await stage.speaker(file(`bmp: [{address: ${theirs}, port: 5000}]`));
    await speaker.established('bird');
    const types = (): number[] => {
      const found: number[] = [];
      for (let at = 0; at + 6 <= heard.length; at += heard.readUInt32BE(at + 1)) {
        assert.equal(heard[at], 3);
        found.push(heard[at + 5]!);
      }
      return found;
    };
    // Initiation, Peer Up, then routes and End-of-RIB marks of both families.
    await until('routes are monitored', () => types().filter((type) => type === 0).length >= 5);
    assert.deepEqual(types().slice(0, 3), [4, 3, 0]);
    await speaker.stop('SIGTERM');
    await until('the end is told', () => types().at(-1) === 5);
    assert.deepEqual(types().slice(-2), [2, 5]);
  });
});
