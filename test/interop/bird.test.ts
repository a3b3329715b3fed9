// Our speaker against BIRD 2: routes both ways, timers, refresh, graceful restart in both roles, protection.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stage, until } from './support.ts';

const STATICS = `
protocol static s4 { ipv4; route 10.2.0.0/16 blackhole; route 10.3.0.0/16 blackhole; }
protocol static s6 { ipv6; route fd02::/48 blackhole; }`;

const birdPeer = (ours: string, extra = '', channel = 'import all; export all;'): string => `
router id 10.9.1.2;
${STATICS}
protocol bgp brindle {
  local as 65002; neighbor ${ours} as 65001; connect delay time 1; error wait time 1, 2;
  ipv4 { ${channel} }; ipv6 { ${channel} };
  ${extra}
}`;

const ourFile = (theirs: string, extra = '', networks = '10.1.0.0/16, fd01::/48'): string => `
routerId: 10.9.1.1
asNumber: 65001
listen: [{address: 0.0.0.0, port: 179}, {address: "::", port: 179}]
networks: [${networks}]
peers:
  - {name: bird, address: "${theirs}", asNumber: 65002, families: [ipv4, ipv6], import: all, export: all${extra}}`;

describe('BIRD', () => {
  it('exchanges, changes and withdraws routes of both families', async () => {
    await using stage = new Stage();
    const { namespace, ours, ours6, theirs, theirs6 } = stage.neighbour();
    const bird = await stage.bird(namespace, birdPeer(ours));
    const speaker = await stage.speaker(ourFile(theirs));
    await speaker.established('bird');
    await until('all is exchanged', async () => {
      const [learned, told] = [await speaker.prefixes(), await bird.prefixes('brindle')];
      return learned.length === 5 && told.length === 2;
    });
    assert.deepEqual(await speaker.prefixes(), ['10.1.0.0/16', '10.2.0.0/16', '10.3.0.0/16', 'fd01::/48', 'fd02::/48']);
    const told = await bird.routes('brindle');
    assert.deepEqual(
      told
        .map((r) => [r.prefix, r.attributes['as_path'], r.attributes['next_hop'], r.attributes['origin']])
        .toSorted((a, b) => (a[0]! < b[0]! ? -1 : 1)),
      [
        ['10.1.0.0/16', '65001', ours, 'IGP'],
        ['fd01::/48', '65001', ours6, 'IGP'],
      ],
    );
    const [path] = (await speaker.route('fd02::/48')).paths;
    assert.equal(path?.nextHop, theirs6);
    assert.equal(path?.asPath, '65002');

    await bird.birdc('disable s4');
    await until('their withdrawal is heard', async () => (await speaker.prefixes()).length === 3);
    await bird.birdc('enable s4');
    await until('their announcement is heard', async () => (await speaker.prefixes()).length === 5);
    speaker.reload(ourFile(theirs, '', '10.4.0.0/16'));
    await until('our change is heard', async () => (await bird.prefixes('brindle')).join() === '10.4.0.0/16');
    assert.equal((await speaker.peer('bird')).flaps, 0);
  });

  it('takes an orderly end and a refresh, and tells the reason of the last reset', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    const bird = await stage.bird(namespace, birdPeer(ours));
    const speaker = await stage.speaker(ourFile(theirs));
    await speaker.established('bird');
    await until('routes', async () => (await bird.prefixes('brindle')).length === 2);

    await bird.birdc('reload in brindle');
    await until('their refresh is heard', async () => (await speaker.peer('bird')).messages.received.refresh > 0);
    assert.equal((await bird.prefixes('brindle')).length, 2);
    const before = (await speaker.peer('bird')).messages.received.update;
    await speaker.api.json('/v1/bgp/clear', { method: 'POST', body: { peer: 'bird', mode: 'soft-in' } });
    await until('our refresh is answered', async () => (await speaker.peer('bird')).messages.received.update > before);
    assert.equal((await speaker.prefixes()).length, 5);

    await bird.birdc('disable brindle "maintenance at noon"');
    const down = await until('the session is down', async () => {
      const peer = await speaker.peer('bird');
      return peer.state !== 'established' && peer;
    });
    assert.equal(down.lastReset?.by, 'remote');
    assert.match(down.lastReset?.reason ?? '', /administrative shutdown: "maintenance at noon"/);
    assert.deepEqual(await speaker.prefixes(), ['10.1.0.0/16', 'fd01::/48']);
    await bird.birdc('enable brindle');
    await speaker.established('bird');
  });

  it('gives a silent peer up when the hold time is over, and meets it again', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    const bird = await stage.bird(namespace, birdPeer(ours, 'graceful restart off;'));
    const speaker = await stage.speaker(ourFile(theirs, ', holdTime: 3'));
    const peer = await speaker.established('bird');
    assert.equal(peer.holdTime.agreed, 3);
    bird.kill('SIGSTOP');
    try {
      const down = await until('hold time expires', async () => {
        const now = await speaker.peer('bird');
        return now.state !== 'established' && now;
      });
      assert.equal(down.lastReset?.code, 4);
      assert.equal(down.lastReset?.by, 'local');
      await until('its routes are gone', async () => (await speaker.prefixes()).length === 2);
    } finally {
      bird.kill('SIGCONT');
    }
    await speaker.established('bird');
  });

  it('restarts without the peer losing a route', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    const bird = await stage.bird(namespace, birdPeer(ours, 'graceful restart on; debug { states, events };'));
    const speaker = await stage.speaker(ourFile(theirs));
    await speaker.established('bird');
    await until('routes', async () => (await bird.prefixes('brindle')).length === 2);
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      await speaker.stop(signal);
      await until('BIRD has seen it', async () => !(await bird.isUp('brindle')));
      assert.equal((await bird.prefixes('brindle')).length, 2, `after ${signal}`);
      await speaker.start();
      await speaker.established('bird');
      await until('End-of-RIB both ways', async () => {
        const { families } = await speaker.peer('bird');
        return families.every((f) => f.endOfRibReceived && f.endOfRibSent);
      });
      assert.equal((await bird.prefixes('brindle')).length, 2, `back after ${signal}`);
      assert.deepEqual(await speaker.prefixes(), [
        '10.1.0.0/16',
        '10.2.0.0/16',
        '10.3.0.0/16',
        'fd01::/48',
        'fd02::/48',
      ]);
    }
  });

  it('keeps the routes of a peer that restarts, and sweeps what it does not say again', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    const bird = await stage.bird(namespace, birdPeer(ours, 'graceful restart on;'));
    const speaker = await stage.speaker(ourFile(theirs));
    await speaker.established('bird');
    await until('routes', async () => (await speaker.prefixes()).length === 5);
    await bird.stop('SIGKILL');
    const held = await until('held stale', async () => {
      const peer = await speaker.peer('bird');
      return peer.state !== 'established' && peer.gracefulRestart.helping && peer;
    });
    assert.equal(held.families.find((f) => f.family === 'ipv4')?.stale, 2);
    assert.equal((await speaker.prefixes()).length, 5);
    await bird.start();
    await bird.birdc('disable s6');
    await speaker.established('bird');
    await until('swept', async () => {
      const peer = await speaker.peer('bird');
      return !peer.gracefulRestart.helping && peer.families.every((f) => f.stale === 0);
    });
    assert.ok((await speaker.prefixes()).includes('10.2.0.0/16'));
  });

  it('authenticates by TCP-MD5 in both directions, and is deaf to a wrong key', async () => {
    for (const passive of [false, true]) {
      await using stage = new Stage();
      const { namespace, ours, theirs } = stage.neighbour();
      const bird = await stage.bird(namespace, birdPeer(ours, `password "key"; ${passive ? '' : 'passive on;'}`));
      const speaker = await stage.speaker(ourFile(theirs, `, password: key, passive: ${passive}`));
      await speaker.established('bird');
      speaker.reload(ourFile(theirs, `, password: other, passive: ${passive}`));
      await until('down with the other key', async () => (await speaker.peer('bird')).state !== 'established');
      assert.equal(await until('BIRD is down', async () => !(await bird.isUp('brindle'))), true);
      speaker.reload(ourFile(theirs, `, password: key, passive: ${passive}`));
      await speaker.established('bird', 30);
    }
  });

  it('meets TTL security', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    await stage.bird(namespace, birdPeer(ours, 'ttl security on;'));
    const speaker = await stage.speaker(ourFile(theirs, ', ttlSecurity: 1'));
    await speaker.established('bird');
  });

  it('survives garbage and strangers on its port', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    const stranger = stage.neighbour();
    await stage.bird(namespace, birdPeer(ours));
    const speaker = await stage.speaker(ourFile(theirs));
    await speaker.established('bird');
    const send = (from: typeof stranger, text: string): Promise<unknown> =>
      from.namespace.tryRun('sh', '-c', `printf '${text}' | busybox nc -w 1 ${from.ours} 179`);
    const garbage = ['GET / HTTP/1.0\\r\\n\\r\\n', '\\377'.repeat(200), ''];
    for (const text of garbage) await send(stranger, text);
    // From the peer's own address it even reaches a state machine, as a second connection.
    for (const text of garbage) await send({ namespace, ours } as typeof stranger, text);
    await until('they are counted', async () => (await speaker.status()).unknownConnections >= 3);
    assert.equal((await speaker.peer('bird')).flaps, 0);
    assert.equal((await speaker.peers()).length, 1);
  });
});
