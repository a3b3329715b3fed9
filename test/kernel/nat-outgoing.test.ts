// NAT for the way out on the real kernel: what address the other side of a connection sees.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Dataplane } from '#dataplane/dataplane.ts';
import type { AbstractRule, DesiredUpdate } from '#model/desired.ts';
import {
  HOST_IPV4,
  HOST_IPV6,
  OUTSIDE_IPV4,
  OUTSIDE_IPV6,
  PolicyWorld,
  type TrafficAgent,
  type Workload,
} from './policy-world.ts';

const PATIENT = 10_000;
const POOLS = ['10.65.0.0/16', 'fd65::/64'];
const ALLOW: AbstractRule = { action: 'allow', index: 0, source: {}, destination: {} };
const PROFILE: DesiredUpdate = {
  type: 'policy',
  policy: { id: 'Profile/kns.default', tier: '', ingress: [ALLOW], egress: [ALLOW] },
};
const POLICY = 'GlobalNetworkPolicy/from-pool';

function endpoint(workload: Workload, egress: readonly string[] = []): DesiredUpdate {
  return {
    type: 'endpoint',
    endpoint: {
      id: `default/${workload.name}`,
      kind: 'workload',
      interfaceName: workload.interfaceName,
      addresses: [workload.ipv4, workload.ipv6],
      tiers: egress.length > 0 ? [{ name: 'default', defaultAction: 'deny', ingress: [], egress }] : [],
      profiles: ['Profile/kns.default'],
    },
  };
}

function pools(masqueraded: readonly string[], direct: readonly string[]): DesiredUpdate {
  return { type: 'pools', pools: { masqueraded, direct } };
}

describe('NAT for the way out on the kernel', () => {
  let world: PolicyWorld;
  let dataplane: Dataplane;
  let a: Workload;
  let b: Workload;

  before(async () => {
    world = await PolicyWorld.create();
    a = await world.addWorkload();
    b = await world.addWorkload();
    for (const agent of [a.agent, b.agent, world.outsideAgent, world.hostAgent]) await agent.listen('tcp', 80);
    dataplane = new Dataplane({ driver: world.driver() });
    await dataplane.start();
    await dataplane.apply([PROFILE, endpoint(a), endpoint(b), { type: 'in-sync' }]);
  });

  after(async () => {
    await dataplane?.stop();
    await world?.destroy();
  });

  /** What `server` sees as the source of a connection to each address. */
  const sources = async (from: TrafficAgent, server: TrafficAgent, ...addresses: string[]) => {
    await server.seen();
    for (const address of addresses) assert.equal(await from.probe('tcp', address, 80, PATIENT), 'open', address);
    return server.seen();
  };
  const outside = (from: Workload) => sources(from.agent, world.outsideAgent, OUTSIDE_IPV4, OUTSIDE_IPV6);

  it('is not there without a pool that asks for it', async () => {
    assert.deepEqual(await outside(a), [a.ipv4, a.ipv6]);
    assert.doesNotMatch(world.run('nft', ['list', 'table', 'inet', 'brindle']), /type nat/);
  });

  it("gives the host's address to what leaves the pools, IPv4 and IPv6, and to nothing else", async () => {
    await dataplane.apply([pools(POOLS, POOLS)]);
    assert.equal(dataplane.status('nat', 'outgoing')?.state, 'applied');
    assert.deepEqual(await outside(a), [HOST_IPV4, HOST_IPV6]);
    assert.equal(await a.agent.ping(OUTSIDE_IPV4), 'open');
    assert.equal(await a.agent.ping(OUTSIDE_IPV6), 'open');
    assert.deepEqual(await sources(a.agent, b.agent, b.ipv4, b.ipv6), [a.ipv4, a.ipv6]);
    assert.deepEqual(await sources(a.agent, world.hostAgent, HOST_IPV4, HOST_IPV6), [a.ipv4, a.ipv6]);
    assert.deepEqual(await sources(world.outsideAgent, a.agent, a.ipv4, a.ipv6), [OUTSIDE_IPV4, OUTSIDE_IPV6]);
    assert.deepEqual(await sources(world.hostAgent, a.agent, a.ipv4), [HOST_IPV4]);
  });

  it('keeps the source towards other pools and excluded hosts', async () => {
    await dataplane.apply([pools(POOLS, [...POOLS, '192.0.2.0/25', `${OUTSIDE_IPV6}/128`])]);
    assert.deepEqual(await outside(a), [a.ipv4, a.ipv6]);
    await dataplane.apply([pools([`${b.ipv4}/32`], POOLS)]);
    assert.deepEqual(await outside(a), [a.ipv4, a.ipv6]);
    assert.deepEqual(await outside(b), [HOST_IPV4, b.ipv6]);
  });

  it("leaves policy the container's own address, in both directions", async () => {
    const rule: AbstractRule = { action: 'allow', index: 0, source: { nets: POOLS }, destination: {} };
    await dataplane.apply([
      pools(POOLS, POOLS),
      { type: 'policy', policy: { id: POLICY, tier: 'default', ingress: [], egress: [rule] } },
      endpoint(a, [POLICY]),
    ]);
    assert.deepEqual(await outside(a), [HOST_IPV4, HOST_IPV6]);
    const denied: AbstractRule = { ...rule, action: 'deny' };
    await dataplane.apply([
      {
        type: 'policy',
        policy: { id: POLICY, tier: 'default', ingress: [], egress: [denied, { ...ALLOW, index: 1 }] },
      },
    ]);
    assert.equal(await a.agent.probe('tcp', OUTSIDE_IPV4, 80), 'silent');
    await dataplane.apply([endpoint(a)]);
  });

  it('survives a restart of the agent, and takes a configured address', async () => {
    await dataplane.stop();
    world.run('ip', ['addr', 'add', '192.0.2.77/32', 'dev', 'lo']);
    world.run('ip', ['-6', 'addr', 'add', 'fd02::77/128', 'dev', 'lo', 'nodad']);
    world.exec(world.outside, 'ip', ['route', 'add', '192.0.2.77', 'via', HOST_IPV4]);
    world.exec(world.outside, 'ip', ['-6', 'route', 'add', 'fd02::77', 'via', HOST_IPV6]);
    const render = { natAddresses: { 4: '192.0.2.77', 6: 'fd02::77' } };
    dataplane = new Dataplane({ driver: world.driver(), render });
    await dataplane.start();
    assert.deepEqual(await outside(a), [HOST_IPV4, HOST_IPV6]);
    await dataplane.apply([PROFILE, endpoint(a), endpoint(b), pools(POOLS, POOLS), { type: 'in-sync' }]);
    assert.deepEqual(await outside(a), ['192.0.2.77', 'fd02::77']);
    await dataplane.apply([pools([], [])]);
    assert.deepEqual(await outside(a), [a.ipv4, a.ipv6]);
    assert.doesNotMatch(world.run('nft', ['list', 'table', 'inet', 'brindle']), /type nat|nat-/);
  });
});
