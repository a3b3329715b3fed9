import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ERR_CEASE } from '#bgp/wire/notification.ts';
import { explain, peerDetail, route, routes, status, summary } from './queries.ts';
import { metricsText } from './metrics.ts';
import {
  eventsOf,
  OUR_AS,
  PEER_AS,
  peerConfig,
  ScriptedPeer,
  speakerConfig,
  table,
  TableSink,
  World,
} from './testing.ts';

const US = '10.0.0.1';
const A = '10.0.0.2';
const B = '10.0.0.3';

describe('Speaker', () => {
  it('two of them meet whoever dials first, and exchange routes', () => {
    const world = new World();
    const one = world.speaker(US);
    const two = world.speaker(A);
    one.setLocalRoutes([{ prefix: '10.1.0.0/16' }]);
    two.setLocalRoutes([
      { prefix: '10.2.0.0/16', communities: ['no-export'] },
      { prefix: '10.3.0.0/16', med: 5 },
    ]);
    one.configure(speakerConfig(US, [peerConfig(A)]));
    two.configure(speakerConfig(A, [peerConfig(US, { asNumber: OUR_AS })], { asNumber: PEER_AS }));
    world.run(5_000);
    assert.deepEqual(table(one), ['10.1.0.0/16', '10.3.0.0/16']);
    assert.deepEqual(table(two), ['10.1.0.0/16', '10.2.0.0/16', '10.3.0.0/16']);
    assert.equal(route(one, '10.3.0.0/16').paths[0]?.med, 5);
    two.setLocalRoutes([]);
    world.run();
    assert.deepEqual(table(one), ['10.1.0.0/16']);
    assert.equal(status(one).peers.established, 1);
    assert.match(metricsText(one), /bgp_peer_state\{peer="10.0.0.2",address="10.0.0.2"\} 6/);
  });

  it('shares the load over equal paths, and tells the sink only what matters', () => {
    const world = new World();
    const [a, b] = [new ScriptedPeer(world, A), new ScriptedPeer(world, B)];
    const sink = new TableSink();
    const speaker = world.speaker(US, { sink });
    speaker.configure(
      speakerConfig(US, [peerConfig(A), peerConfig(B)], { multipath: { maximumPaths: 8, relax: true } }),
    );
    world.run();
    a.announce('10.9.0.0/16');
    b.announce('10.9.0.0/16');
    world.run();
    assert.deepEqual(sink.routes.get('10.9.0.0/16')?.split(' ').toSorted(), [A, B]);
    const { length } = sink.batches;
    a.announce('10.9.0.0/16');
    world.run();
    assert.equal(sink.batches.length, length);
    b.withdraw('10.9.0.0/16');
    world.run();
    assert.equal(sink.routes.get('10.9.0.0/16'), A);
    a.die();
    world.run();
    assert.equal(sink.routes.size, 0);
  });

  it('waits for the tracker before a next hop counts, and tracks each address once', () => {
    const world = new World();
    const a = new ScriptedPeer(world, A);
    const tracked: string[] = [];
    let tell: (address: string, state: { reachable: boolean; metric: number }) => void = () => {};
    const sink = new TableSink();
    const nextHops = {
      track: (t: string) => void tracked.push(t),
      untrack: () => {},
      onChange: (l: typeof tell) => void (tell = l),
    };
    const speaker = world.speaker(US, { sink, nextHops });
    speaker.configure(speakerConfig(US, [peerConfig(A)]));
    world.run();
    a.announce('10.9.0.0/16');
    world.run();
    assert.deepEqual(tracked, [A]);
    assert.deepEqual(table(speaker), []);
    assert.equal(route(speaker, '10.9.0.0/16').paths[0]?.rejected, 'the next hop cannot be reached');
    tell(A, { reachable: true, metric: 3 });
    world.run();
    assert.deepEqual(table(speaker), ['10.9.0.0/16']);
    tell(A, { reachable: false, metric: 0 });
    world.run();
    assert.deepEqual([table(speaker), sink.routes.size], [[], 0]);
  });

  it('never lets a stranger, or itself, near a state machine', () => {
    const world = new World();
    const speaker = world.speaker(US);
    const events = eventsOf(speaker);
    const range = {
      name: 'r',
      prefix: '10.0.0.0/24',
      families: ['ipv4'],
      import: 'all',
      export: 'all',
      limit: 1,
    } as const;
    speaker.configure(speakerConfig(US, [], { peerRanges: [range] }));
    const dial = (from: string): void => {
      world.network
        .transport(from)
        .connect({ address: US, port: 179, timeout: 0 }, (_e, c) => c?.start({ data() {}, drain() {}, close() {} }));
      world.run();
    };
    dial('192.0.2.1');
    dial(US);
    assert.equal(speaker.unknownConnections, 2);
    assert.equal(speaker.entries.size, 0);
    dial(A);
    assert.deepEqual([...speaker.entries.keys()], [`r-${A}`]);
    dial(B); // over the limit
    assert.equal(speaker.entries.size, 1);
    assert.deepEqual(events.filter((e) => e.type === 'unknown-peer').length, 3);
    world.run(200_000);
    assert.equal(speaker.entries.size, 0, 'a member that never came up is forgotten');
  });

  it('stops a peer that sends too much, and lets it come back later', () => {
    const world = new World();
    const a = new ScriptedPeer(world, A);
    const speaker = world.speaker(US);
    const events = eventsOf(speaker);
    const maxPrefixes = { limit: 2, action: 'reset', restartSeconds: 60 } as const;
    speaker.configure(speakerConfig(US, [peerConfig(A, { maxPrefixes })]));
    world.run();
    a.announce('10.2.0.0/16', '10.3.0.0/16', '10.4.0.0/16');
    world.run();
    assert.deepEqual(
      a.notifications.map((n) => `${n.code}/${n.subcode} ${n.data.join()}`),
      ['6/1 0,1,1,0,0,0,2'],
    );
    assert.deepEqual(table(speaker), []);
    assert.ok(events.some((e) => e.type === 'max-prefixes' && e.count === 3));
    world.run(55_000);
    assert.equal(speaker.entries.get(A)?.peer.state, 'idle');
    world.run(10_000);
    assert.equal(speaker.entries.get(A)?.peer.state, 'established');
  });

  it('touches only the peers that a change names', () => {
    const world = new World();
    const [a, b] = [new ScriptedPeer(world, A), new ScriptedPeer(world, B)];
    const speaker = world.speaker(US);
    const config = (pa: object, pb: object, over: object = {}): ReturnType<typeof speakerConfig> =>
      speakerConfig(US, [peerConfig(A, pa), peerConfig(B, pb)], over);
    speaker.setLocalRoutes([{ prefix: '10.1.0.0/16' }]);
    speaker.configure(config({}, {}));
    world.run();
    a.announce('10.2.0.0/16');
    world.run();
    const flaps = (): number[] => summary(speaker).map((p) => p.flaps);
    const change = (...args: Parameters<typeof config>): unknown => {
      const { changes } = speaker.configure(config(...args));
      world.run(3_000);
      return changes;
    };
    assert.deepEqual(change({}, {}), []);
    assert.deepEqual(change({ description: 'x' }, {}), [{ peer: A, effect: 'live', fields: ['description'] }]);
    assert.deepEqual(change({ description: 'x' }, { export: 'none' }), [
      { peer: B, effect: 're-evaluate', fields: ['export'] },
    ]);
    assert.deepEqual([...b.announced], []);
    assert.deepEqual(change({ description: 'x' }, { export: 'local' }), [
      { peer: B, effect: 're-evaluate', fields: ['export'] },
    ]);
    assert.deepEqual([...b.announced], ['10.1.0.0/16']);
    const filters = { f: { importV4: [{ action: 'Reject', cidr: '10.2.0.0/16', matchOperator: 'In' }] } };
    const named = { import: { filters: ['f'] } };
    change({ description: 'x', ...named }, { export: 'local' }, { filters });
    assert.deepEqual(table(speaker), ['10.1.0.0/16']);
    assert.match(route(speaker, '10.2.0.0/16').paths[0]?.rejected ?? '', /filter/);
    assert.deepEqual(change({ description: 'x', ...named }, { export: 'local' }, { filters: { f: {} } }), [
      { peer: A, effect: 're-evaluate', fields: ['import'] },
    ]);
    assert.deepEqual(table(speaker), ['10.1.0.0/16', '10.2.0.0/16']);
    assert.deepEqual(flaps(), [0, 0]);
    assert.deepEqual(
      change({ description: 'x', ...named }, { export: 'local', holdTime: 30 }, { filters: { f: {} } }),
      [{ peer: B, effect: 'reset', fields: ['holdTime'] }],
    );
    assert.deepEqual(flaps(), [0, 1]);
    assert.equal(peerDetail(speaker, B).holdTime.agreed, 30);
    assert.throws(() => speaker.configure(config({ import: { filters: ['g'] } }, {})), /there is no filter "g"/);
    assert.equal(summary(speaker).filter((p) => p.state === 'established').length, 2);
  });

  it('reflects between clients, not between others, and explains', () => {
    const world = new World();
    const C = '10.0.0.4';
    const peers = [A, B, C].map((address) => {
      const peer = new ScriptedPeer(world, address);
      peer.asNumber = OUR_AS;
      peer.capabilities = { ...peer.capabilities, as4: OUR_AS };
      return peer;
    });
    const speaker = world.speaker(US);
    const internal = { asNumber: OUR_AS };
    speaker.configure(
      speakerConfig(US, [
        peerConfig(A, internal),
        peerConfig(B, internal),
        peerConfig(C, { ...internal, routeReflectorClient: true }),
      ]),
    );
    world.run();
    peers[0]!.asNumber = 65077; // the path it announces: an AS behind it
    peers[0]!.announce('10.2.0.0/16');
    world.run();
    assert.deepEqual([...peers[1]!.announced], []);
    assert.deepEqual([...peers[2]!.announced], ['10.2.0.0/16']);
    const reasons = Object.fromEntries(explain(speaker, '10.2.0.0/16').map((e) => [e.peer, [e.advertised, e.reason]]));
    assert.match(String(reasons[A]?.[1]), /split horizon/);
    assert.match(String(reasons[B]?.[1]), /neither end is a route reflector client/);
    assert.equal(reasons[C]?.[0], true);
    assert.equal(explain(speaker, '10.77.0.0/16', A)[0]?.reason, 'no path to this prefix is known');
    assert.equal(routes(speaker, { view: 'advertised', peer: C }).paths[0]?.originatorId, A);
    assert.throws(() => routes(speaker, { view: 'advertised' }), /one peer/);
    assert.throws(() => peerDetail(speaker, 'nobody'), /no BGP peer "nobody"/);
  });

  it('answers refresh requests, and asks for them', () => {
    const world = new World();
    const a = new ScriptedPeer(world, A);
    const speaker = world.speaker(US);
    speaker.setLocalRoutes([{ prefix: '10.1.0.0/16' }]);
    speaker.configure(speakerConfig(US, [peerConfig(A)]));
    world.run();
    a.announced.clear();
    a.send(Uint8Array.from([...new Uint8Array(16).fill(255), 0, 23, 5, 0, 1, 0, 1]));
    world.run();
    assert.deepEqual([...a.announced], ['10.1.0.0/16']);
    speaker.clear(A, 'soft-in');
    world.run();
    assert.deepEqual(a.refreshes, [0]);
    a.announced.clear();
    speaker.clear(null, 'soft-out');
    world.run();
    assert.deepEqual([...a.announced], ['10.1.0.0/16']);
  });

  it('marks the begin and the end of what it sends again (RFC 7313)', () => {
    const world = new World();
    const a = new ScriptedPeer(world, A, { enhancedRouteRefresh: true });
    const speaker = world.speaker(US);
    speaker.setLocalRoutes([{ prefix: '10.1.0.0/16' }]);
    speaker.configure(speakerConfig(US, [peerConfig(A)]));
    world.run();
    a.announce('10.2.0.0/16', '10.3.0.0/16');
    const request = (subtype: number): void => {
      a.send(Uint8Array.from([...new Uint8Array(16).fill(255), 0, 23, 5, 0, 1, subtype, 1]));
      world.run();
    };
    request(0);
    assert.deepEqual([a.refreshes[0], a.refreshes.includes('update'), a.refreshes.at(-1)], [1, true, 2]);
    request(1);
    a.announce('10.2.0.0/16');
    world.run();
    assert.deepEqual(table(speaker), ['10.1.0.0/16', '10.2.0.0/16', '10.3.0.0/16 stale']);
    request(2);
    assert.deepEqual(table(speaker), ['10.1.0.0/16', '10.2.0.0/16']);
  });

  it('resets on a malformed UPDATE only when it must, and says who and why', () => {
    const world = new World();
    const a = new ScriptedPeer(world, A);
    const speaker = world.speaker(US);
    speaker.configure(speakerConfig(US, [peerConfig(A)]));
    world.run();
    a.announce('10.2.0.0/16');
    const bad = (attributes: number[], nlri: number[]): Uint8Array => {
      const body = [0, 0, 0, attributes.length, ...attributes, ...nlri];
      return Uint8Array.from([...new Uint8Array(16).fill(255), 0, 19 + body.length, 2, ...body]);
    };
    a.send(bad([0x40, 1, 1, 9], [16, 10, 2]));
    world.run();
    assert.deepEqual(table(speaker), []);
    assert.equal(peerDetail(speaker, A).updateErrors.withdrawn, 1);
    assert.equal(peerDetail(speaker, A).state, 'established');
    a.send(bad([], [99, 1, 2, 3]));
    world.run(50);
    const { lastReset, state } = peerDetail(speaker, A);
    assert.deepEqual([state, lastReset?.by, lastReset?.code, lastReset?.subcode], ['idle', 'local', 3, 10]);
    assert.notEqual(lastReset?.code, ERR_CEASE);
  });

  it('keeps a session whose messages arrive late but in time, and gives up a dead one', () => {
    const world = new World();
    const a = new ScriptedPeer(world, A);
    a.holdTime = 9;
    const speaker = world.speaker(US);
    speaker.configure(speakerConfig(US, [peerConfig(A)]));
    world.run(60_000);
    assert.equal(peerDetail(speaker, A).flaps, 0);
    assert.ok(peerDetail(speaker, A).holdMargin! > 4_000);
    a.hang();
    world.run(9_500);
    assert.equal(peerDetail(speaker, A).flaps, 1);
    assert.equal(peerDetail(speaker, A).lastReset?.code, 4);
  });
});
