// Our speaker against GoBGP: routes both ways, an orderly end, dynamic neighbours.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stage, until } from './support.ts';

const gobgpPeer = (ours: string, asNumber = 65002): string => `
[global.config]
  as = ${asNumber}
  router-id = "10.9.1.2"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "${ours}"
    peer-as = 65001
  [neighbors.timers.config]
    connect-retry = 1
    hold-time = 9
  [neighbors.graceful-restart.config]
    enabled = true
    restart-time = 20
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
    [neighbors.afi-safis.mp-graceful-restart.config]
      enabled = true
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv6-unicast"
    [neighbors.afi-safis.mp-graceful-restart.config]
      enabled = true
`;

const ourFile = (peers: string): string => `
routerId: 10.9.1.1
asNumber: 65001
listen: [{address: 0.0.0.0, port: 179}]
networks: [10.1.0.0/16, fd01::/48]
${peers}`;

describe('GoBGP', () => {
  it('exchanges and withdraws routes of both families', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    const gobgp = await stage.gobgp(namespace, gobgpPeer(ours));
    const speaker = await stage.speaker(
      ourFile(
        `peers: [{name: go, address: ${theirs}, asNumber: 65002, families: [ipv4, ipv6], import: all, export: all}]`,
      ),
    );
    await speaker.established('go', 40);
    await gobgp.gobgp('global', 'rib', 'add', '10.2.0.0/16', 'community', '65002:5', 'med', '7');
    await gobgp.gobgp('global', 'rib', 'add', '-a', 'ipv6', 'fd02::/48');
    await until('told', async () => {
      const [v4, v6] = [await gobgp.prefixes('ipv4'), await gobgp.prefixes('ipv6')];
      return v4.includes('10.1.0.0/16') && v6.includes('fd01::/48');
    });
    const path = await until('learned', async () => (await speaker.route('10.2.0.0/16')).paths[0]);
    assert.deepEqual([path.asPath, path.med, path.communities], ['65002', 7, ['65002:5']]);
    await until('IPv6 learned', async () => (await speaker.prefixes()).includes('fd02::/48'));
    await gobgp.gobgp('global', 'rib', 'del', '10.2.0.0/16');
    await until('withdrawn', async () => !(await speaker.prefixes()).includes('10.2.0.0/16'));
    await gobgp.gobgp('neighbor', ours, 'shutdown', 'good night');
    const down = await until('their end is heard', async () => {
      const peer = await speaker.peer('go');
      return peer.state !== 'established' && peer;
    });
    assert.match(down.lastReset?.reason ?? '', /administrative shutdown/);
  });

  it('is taken as a dynamic neighbour, and forgotten with the range', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    const gobgp = await stage.gobgp(namespace, gobgpPeer(ours, 65009));
    const range = 'peerRanges: [{name: rack, prefix: 10.9.0.0/16, import: all, export: all, families: [ipv4, ipv6]}]';
    const speaker = await stage.speaker(ourFile(range));
    const peer = await speaker.established(`rack-${theirs}`, 40);
    assert.equal(peer.asNumber, 65009);
    assert.equal(peer.dynamic, true);
    await until('told', async () => (await gobgp.prefixes('ipv4')).includes('10.1.0.0/16'));
    speaker.reload(ourFile(''));
    await until('gone', async () => (await speaker.peers()).length === 0);
    await until('withdrawn', async () => (await gobgp.prefixes('ipv4')).length === 0);
  });
});
