import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Gateway, type Resolution, RouteExchange } from './route-exchange.ts';

function setUp() {
  const tracked = new Set<string>();
  const routes = new Map<string, readonly Gateway[]>();
  const known = new Map<string, Resolution>();
  const exchange = new RouteExchange(
    {
      track: (a) => {
        tracked.add(a);
        return known.get(a) ?? null;
      },
      untrack: (a) => tracked.delete(a),
    },
    { setRoute: (p, g) => routes.set(p, g), removeRoute: (p) => assert.ok(routes.delete(p)) },
    () => {},
  );
  const via = (address: string | null, interfaceIndex = 2): Resolution => ({
    gateways: [{ address, interfaceIndex }],
    metric: 0,
  });
  return {
    exchange,
    tracked,
    routes,
    via,
    known,
    resolve: (a: string, r: Resolution | null) => exchange.resolved(a, r),
  };
}

const route = (prefix: string, ...hops: string[]) => ({
  prefix,
  nextHops: hops.map((address) => ({ address })),
  fromPeers: hops,
});

describe('RouteExchange', () => {
  it('installs a route when its next hop resolves, with the gateway that leads there', () => {
    const { exchange, routes, resolve, via } = setUp();
    exchange.apply({ changed: [route('10.1.0.0/26', '10.0.0.3')], removed: [] });
    assert.equal(routes.size, 0);
    assert.deepEqual(exchange.unreachable(), ['10.1.0.0/26']);
    resolve('10.0.0.3', via('10.0.0.0'));
    assert.deepEqual(routes.get('10.1.0.0/26'), [{ address: '10.0.0.0', interfaceIndex: 2 }]);
    resolve('10.0.0.3', null);
    assert.equal(routes.size, 0);
  });

  it('a next hop on the link is the gateway; equal gateways are one', () => {
    const { exchange, routes, resolve, via } = setUp();
    exchange.apply({ changed: [route('10.1.0.0/26', '10.0.0.3', '10.0.0.5', '10.0.0.7')], removed: [] });
    resolve('10.0.0.3', via(null, 4));
    resolve('10.0.0.5', via('10.0.0.0'));
    resolve('10.0.0.7', via('10.0.0.0'));
    assert.deepEqual(routes.get('10.1.0.0/26'), [
      { address: '10.0.0.3', interfaceIndex: 4 },
      { address: '10.0.0.0', interfaceIndex: 2 },
    ]);
  });

  it('lets go of next hops that nobody uses', () => {
    const { exchange, tracked, resolve, via } = setUp();
    exchange.track('10.0.0.3');
    exchange.apply({ changed: [route('a/1', '10.0.0.3'), route('b/1', '10.0.0.3')], removed: [] });
    resolve('10.0.0.3', via(null));
    exchange.apply({ changed: [route('a/1', '10.0.0.5')], removed: ['b/1'] });
    assert.deepEqual([...tracked], ['10.0.0.3', '10.0.0.5']);
    exchange.untrack('10.0.0.3');
    exchange.apply({ changed: [], removed: ['a/1', 'unknown/1'] });
    assert.equal(tracked.size, 0);
  });

  it('tells the speaker at once what is known of a next hop, and of changes', () => {
    const { exchange, known, resolve, via } = setUp();
    const heard: [string, boolean][] = [];
    exchange.onChange((address, state) => heard.push([address, state.reachable]));
    known.set('10.0.0.3', via(null));
    exchange.apply({ changed: [route('a/1', '10.0.0.3')], removed: [] });
    exchange.track('10.0.0.3');
    exchange.track('10.0.0.5');
    resolve('10.0.0.3', null);
    assert.deepEqual(heard, [
      ['10.0.0.3', true],
      ['10.0.0.5', false],
      ['10.0.0.3', false],
    ]);
  });
});
