// BFD: our sessions against BIRD's, and ours against ours across a router (multihop). A link that is cut without a word
// must take the routes with it long before the hold time of 90 s.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stage, until } from './support.ts';

const birdFile = (ours: string): string => `
router id 10.9.1.2;
protocol bfd { interface "eth0" { interval 300 ms; multiplier 3; }; }
protocol static s4 { ipv4; route 10.2.0.0/16 blackhole; }
protocol bgp brindle {
  local as 65002; neighbor ${ours} as 65001; connect delay time 1; bfd on; graceful restart on;
  ipv4 { import all; export all; };
}`;

const ourFile = (theirs: string, bfd: boolean): string => `
routerId: 10.9.1.1
asNumber: 65001
listen: [{address: 0.0.0.0, port: 179}, {address: "::", port: 179}]
networks: [10.1.0.0/16]
peers: [{name: bird, address: "${theirs}", asNumber: 65002, import: all, export: all, bfd: ${bfd}}]`;

describe('BFD', () => {
  for (const version of [4, 6] as const) {
    it(`tells of a dead link to BIRD over IPv${version}, and can be switched on in a running session`, async () => {
      await using stage = new Stage();
      const { namespace, ours, theirs, ours6, theirs6 } = stage.neighbour();
      const bird = await stage.bird(namespace, birdFile(version === 4 ? ours : ours6));
      const file = (bfd: boolean): string => ourFile(version === 4 ? theirs : theirs6, bfd);
      const speaker = await stage.speaker(file(false));
      await speaker.established('bird');
      await until('routes', async () => (await speaker.prefixes()).includes('10.2.0.0/16'));
      speaker.reload(file(true));
      await until('BFD is up here', async () => (await speaker.peer('bird')).bfd === 'up');
      await until('BFD is up there', async () => (await bird.birdc('show bfd sessions')).includes('Up'));
      assert.equal((await speaker.peer('bird')).flaps, 0);

      await stage.us.run('ip', 'link', 'set', 'eth1', 'down');
      const down = await until('the routes are gone', async () => {
        const gone = !(await speaker.prefixes()).includes('10.2.0.0/16');
        return gone && (await speaker.peer('bird'));
      });
      assert.equal(down.lastReset?.by, 'local');
      assert.match(down.lastReset?.reason ?? '', /BFD/);
      assert.equal(down.holdTime.configured, 90);
      await until('and there', async () => (await bird.prefixes('brindle')).length === 0);
    });
  }

  it('lets the session come back with the link', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    await stage.bird(namespace, birdFile(ours));
    const speaker = await stage.speaker(ourFile(theirs, true));
    await speaker.established('bird');
    await until('BFD is up', async () => (await speaker.peer('bird')).bfd === 'up');
    await namespace.run('ip', 'link', 'set', 'eth0', 'down');
    await until('down', async () => (await speaker.peer('bird')).state !== 'established');
    await namespace.run('ip', 'link', 'set', 'eth0', 'up');
    await speaker.established('bird', 60);
    await until('BFD is up again', async () => (await speaker.peer('bird')).bfd === 'up');
    // A restart of ours: BIRD takes no connection before BFD is back.
    await speaker.stop('SIGKILL');
    await speaker.start();
    await speaker.established('bird', 60);
    await until('BFD is up after the restart', async () => (await speaker.peer('bird')).bfd === 'up');
  });
});
