// Our speaker against FRR's bgpd (without zebra): routes both ways, MD5, ADD-PATH, IPv4 over IPv6 next hops, reflection.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stage, until } from './support.ts';

const frrPeer = (ours: string, options: readonly string[] = [], family: readonly string[] = []): string => `
router bgp 65002
 bgp router-id 10.9.1.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp log-neighbor-changes
 bgp graceful-restart
 neighbor ${ours} remote-as 65001
 neighbor ${ours} timers connect 1
${options.map((o) => ` neighbor ${ours} ${o}`).join('\n')}
 address-family ipv4 unicast
  network 10.2.0.0/16
  network 10.3.0.0/16
${family.map((o) => `  neighbor ${ours} ${o}`).join('\n')}
 exit-address-family
 address-family ipv6 unicast
  network fd02::/48
  neighbor ${ours} activate
${family.map((o) => `  neighbor ${ours} ${o}`).join('\n')}
 exit-address-family
`;

const ourFile = (theirs: string, extra = '', asNumber = 65002): string => `
routerId: 10.9.1.1
asNumber: 65001
listen: [{address: 0.0.0.0, port: 179}, {address: "::", port: 179}]
networks: [10.1.0.0/16, {prefix: fd01::/48, communities: ["65001:7", "65001:8"], largeCommunities: ["65001:1:2"]}]
peers:
  - {name: frr, address: "${theirs}", asNumber: ${asNumber}, families: [ipv4, ipv6], import: all, export: all${extra}}`;

describe('FRR', () => {
  it('exchanges and withdraws routes of both families', async () => {
    await using stage = new Stage();
    const { namespace, ours, ours6, theirs } = stage.neighbour();
    const frr = await stage.frr(namespace, frrPeer(ours));
    const speaker = await stage.speaker(ourFile(theirs));
    await speaker.established('frr');
    await until('all is exchanged', async () => {
      const [learned, v4, v6] = [await speaker.prefixes(), await frr.routes('ipv4'), await frr.routes('ipv6')];
      return learned.length === 5 && '10.1.0.0/16' in v4 && 'fd01::/48' in v6;
    });
    assert.deepEqual(await speaker.prefixes(), ['10.1.0.0/16', '10.2.0.0/16', '10.3.0.0/16', 'fd01::/48', 'fd02::/48']);
    const [v4] = (await frr.routes('ipv4'))['10.1.0.0/16'] ?? [];
    assert.deepEqual([v4?.path, v4?.nexthops?.[0]?.ip], ['65001', ours]);
    const [v6] = (await frr.routes('ipv6'))['fd01::/48'] ?? [];
    assert.equal(v6?.nexthops?.[0]?.ip, ours6);
    const detail = await frr.vtysh('show bgp ipv6 unicast fd01::/48');
    assert.match(detail, /Community: 65001:7 65001:8/);
    assert.match(detail, /Large Community: 65001:1:2/);

    await frr.vtysh('configure terminal\nrouter bgp 65002\naddress-family ipv4 unicast\nno network 10.3.0.0/16');
    await until('their withdrawal is heard', async () => !(await speaker.prefixes()).includes('10.3.0.0/16'));
    await frr.vtysh(`clear bgp ipv4 unicast ${ours} soft in`);
    await until('their refresh is heard', async () => (await speaker.peer('frr')).messages.received.refresh > 0);
    assert.ok('10.1.0.0/16' in (await frr.routes('ipv4')));
  });

  it('authenticates by TCP-MD5 and keeps TTL security', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    await stage.frr(namespace, frrPeer(ours, ['password secret', 'ttl-security hops 1']));
    const speaker = await stage.speaker(ourFile(theirs, ', password: secret, ttlSecurity: 1'));
    await speaker.established('frr');
  });

  it('restarts gracefully: FRR holds our routes meanwhile', async () => {
    await using stage = new Stage();
    const { namespace, ours, theirs } = stage.neighbour();
    const frr = await stage.frr(namespace, frrPeer(ours, ['graceful-restart-helper']));
    const speaker = await stage.speaker(ourFile(theirs));
    await speaker.established('frr');
    await until(
      'routes',
      async () => '10.1.0.0/16' in (await frr.routes('ipv4')) && 'fd01::/48' in (await frr.routes('ipv6')),
    );
    await speaker.stop('SIGKILL');
    const state = async (): Promise<string> => {
      const answer = await frr.json(`show bgp neighbors ${ours}`);
      return (answer as unknown as Record<string, { bgpState?: string }>)[ours]?.bgpState ?? '';
    };
    await until('FRR has seen it', async () => (await state()) !== 'Established');
    assert.ok('10.1.0.0/16' in (await frr.routes('ipv4')));
    await speaker.start();
    await speaker.established('frr');
    await until('End-of-RIB', async () => (await speaker.peer('frr')).families.every((f) => f.endOfRibSent));
    assert.ok('10.1.0.0/16' in (await frr.routes('ipv4')));
    assert.ok('fd01::/48' in (await frr.routes('ipv6')));
  });

  it('carries IPv4 routes with an IPv6 next hop (RFC 8950)', async () => {
    await using stage = new Stage();
    const { namespace, ours6, theirs6 } = stage.neighbour();
    const config = frrPeer(ours6, ['capability extended-nexthop'], ['activate']);
    const frr = await stage.frr(namespace, config);
    const yaml = ourFile(theirs6, ', extendedNextHop: true');
    const speaker = await stage.speaker(yaml);
    await speaker.established('frr');
    const path = await until('learned', async () => (await speaker.route('10.2.0.0/16')).paths[0]);
    assert.equal(path.nextHop, theirs6);
    const told = await until('told', async () => (await frr.routes('ipv4'))['10.1.0.0/16']?.[0]);
    assert.ok(told.valid);
  });

  it('sends and receives several paths of a prefix (ADD-PATH)', async () => {
    await using stage = new Stage();
    const a = stage.neighbour();
    const b = stage.neighbour();
    const options = ['addpath-tx-all-paths'];
    const frrA = await stage.frr(a.namespace, frrPeer(a.ours, [], options));
    await stage.frr(b.namespace, frrPeer(b.ours, ['timers 3 9']).replace('10.9.1.2', '10.9.2.2'));
    const speaker = await stage.speaker(`
routerId: 10.9.1.1
asNumber: 65001
listen: [{address: 0.0.0.0, port: 179}]
networks: [10.2.0.0/16]
peers:
  - {name: a, address: ${a.theirs}, asNumber: 65002, families: [ipv4], import: all, export: all, addPaths: both}
  - {name: b, address: ${b.theirs}, asNumber: 65002, families: [ipv4], import: all, export: all}`);
    await speaker.established('a');
    await speaker.established('b');
    await until('both paths', async () => (await speaker.route('10.3.0.0/16')).paths.length === 2);
    // Their own AS is in b's paths, so FRR refuses those; ours of 10.2.0.0/16 goes out with an identifier.
    await until('told', async () => ((await frrA.routes('ipv4'))['10.2.0.0/16'] ?? []).length === 2);
    const peer = await speaker.peer('a');
    assert.ok(peer.capabilities.received.some((c) => c.startsWith('add-path')));
  });

  it('is a client of our route reflector', async () => {
    await using stage = new Stage();
    const a = stage.neighbour();
    const b = stage.neighbour();
    const internal = (config: string): string => config.replaceAll('65002', '65001');
    const frrA = await stage.frr(a.namespace, internal(frrPeer(a.ours)));
    const only = frrPeer(b.ours).replace('10.9.1.2', '10.9.2.2').replace('network 10.3.0.0/16', 'network 10.7.0.0/16');
    await stage.frr(b.namespace, internal(only));
    const speaker = await stage.speaker(`
routerId: 10.9.1.1
asNumber: 65001
clusterId: 9.9.9.9
listen: [{address: 0.0.0.0, port: 179}]
peers:
  - {name: a, address: ${a.theirs}, asNumber: 65001, routeReflectorClient: true}
  - {name: b, address: ${b.theirs}, asNumber: 65001, routeReflectorClient: true}`);
    await speaker.established('a');
    await speaker.established('b');
    await until('reflected', async () => '10.7.0.0/16' in (await frrA.routes('ipv4')));
    const detail = await frrA.vtysh('show bgp ipv4 unicast 10.7.0.0/16');
    assert.match(detail, /Originator: 10\.9\.2\.2, Cluster list: 9\.9\.9\.9/);
    assert.match(detail, new RegExp(`${b.theirs.replaceAll('.', '\\.')} .*from ${a.ours.replaceAll('.', '\\.')}`));
  });
});
