// The policy dataplane on the real kernel: namespaces, veths named cali*, real packets.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Dataplane } from '#dataplane/dataplane.ts';
import type { AbstractRule, DesiredEndpoint, DesiredPolicy, DesiredUpdate } from '#model/desired.ts';
import { PolicyWorld, type Workload } from './policy-world.ts';

const ANY: Pick<AbstractRule, 'source' | 'destination'> = { source: {}, destination: {} };
const ALLOW_ALL: AbstractRule = { action: 'allow', index: 0, ...ANY };

function profile(id = 'Profile/kns.default'): DesiredUpdate {
  return { type: 'policy', policy: { id, tier: '', ingress: [ALLOW_ALL], egress: [ALLOW_ALL] } };
}

function endpoint(workload: Workload, parts: Partial<DesiredEndpoint> = {}): DesiredUpdate {
  return {
    type: 'endpoint',
    endpoint: {
      id: `default/${workload.name}`,
      kind: 'workload',
      interfaceName: workload.interfaceName,
      addresses: [workload.ipv4, workload.ipv6],
      tiers: [],
      profiles: ['Profile/kns.default'],
      ...parts,
    },
  };
}

function policy(id: string, parts: Partial<DesiredPolicy>): DesiredUpdate {
  return { type: 'policy', policy: { id, tier: 'default', ingress: [], egress: [], ...parts } };
}

describe('policy dataplane on the kernel', () => {
  let world: PolicyWorld;
  let dataplane: Dataplane;
  let a: Workload;
  let b: Workload;

  before(async () => {
    world = await PolicyWorld.create();
    a = await world.addWorkload();
    b = await world.addWorkload();
    for (const workload of [a, b]) {
      await workload.agent.listen('tcp', 80);
      await workload.agent.listen('udp', 53);
    }
    await world.hostAgent.listen('tcp', 8080);
    dataplane = new Dataplane({ driver: world.driver() });
    await dataplane.start();
  });

  after(async () => {
    await dataplane?.stop();
    await world?.destroy();
  });

  const open = async (from: Workload, to: Workload, port = 80) => [
    await from.agent.probe('tcp', to.ipv4, port),
    await from.agent.probe('tcp', to.ipv6, port),
  ];

  it('drops interfaces that it does not know, in every direction', async () => {
    assert.deepEqual(await open(a, b), ['silent', 'silent']);
    assert.equal(await a.agent.ping(b.ipv4), 'silent');
    await dataplane.apply([profile(), endpoint(b), { type: 'in-sync' }]);
    assert.deepEqual(await open(a, b), ['silent', 'silent']);
    assert.deepEqual(await open(b, a), ['silent', 'silent']);
    assert.equal(await b.agent.ping('10.65.0.77'), 'silent');
  });

  it('lets a profile allow', async () => {
    await dataplane.apply([endpoint(a)]);
    assert.deepEqual(await open(a, b), ['open', 'open']);
    assert.equal(await a.agent.ping(b.ipv6), 'open');
    assert.equal(await a.agent.probe('udp', b.ipv4, 53), 'open');
    assert.deepEqual(dataplane.status('endpoint', `default/${a.name}`), { state: 'applied' });
  });

  it('allows by set and port, and denies at the end of the tier', async () => {
    const tiers = [
      { name: 'default', defaultAction: 'deny', ingress: ['NetworkPolicy/default/web'], egress: [] },
    ] as const;
    await dataplane.apply([
      endpoint(b, { tiers }),
      policy('NetworkPolicy/default/web', {
        ingress: [
          {
            action: 'allow',
            index: 0,
            protocol: 'tcp',
            source: { sets: ['s:one'] },
            destination: { ports: [{ min: 80, max: 80 }] },
          },
        ],
      }),
      { type: 'set', set: { id: 's:one', type: 'net', members: new Set([a.ipv4, `${a.ipv6}/128`]) } },
    ]);
    assert.deepEqual(await open(a, b), ['open', 'open']);
    assert.equal(await a.agent.probe('udp', b.ipv4, 53), 'silent');
    await dataplane.apply([{ type: 'set-delta', delta: { id: 's:one', added: [], removed: [a.ipv4] } }]);
    assert.deepEqual(await open(a, b), ['silent', 'open']);
    await dataplane.apply([{ type: 'set-delta', delta: { id: 's:one', added: ['10.64.0.0/10'], removed: [] } }]);
    assert.deepEqual(await open(a, b), ['open', 'open']);
  });
});
