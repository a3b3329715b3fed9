import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import type { AbstractRule, DesiredEndpoint, DesiredPolicy, DesiredUpdate, EndpointTier } from '#model/desired.ts';
import { type Evaluation, FORWARD_PATH, INPUT_PATH, OUTPUT_PATH, type Packet } from '#nft/evaluate.ts';
import { FakeNftables } from '#nft/fake.ts';
import { Dataplane } from './dataplane.ts';

const TABLE = 'brindle';

function rule(action: AbstractRule['action'], port?: number): AbstractRule {
  const destination = port === undefined ? {} : { ports: [{ min: port, max: port }] };
  return { action, index: 0, protocol: 'tcp', source: {}, destination };
}

function policy(id: string, parts: Partial<DesiredPolicy>): DesiredUpdate {
  return { type: 'policy', policy: { id, tier: 'default', ingress: [], egress: [], ...parts } };
}

function tier(ingress: string[], egress: string[] = []): EndpointTier[] {
  return [{ name: 'default', defaultAction: 'deny', ingress, egress }];
}

function host(interfaceName: string, parts: Partial<DesiredEndpoint>): DesiredUpdate {
  const id = `host/${interfaceName}`;
  return {
    type: 'endpoint',
    endpoint: { id, kind: 'host', interfaceName, addresses: [], tiers: [], profiles: [], ...parts },
  };
}

describe('host endpoints', () => {
  let driver: FakeNftables;
  let dataplane: Dataplane;

  beforeEach(async () => {
    driver = new FakeNftables();
    dataplane = new Dataplane({ driver });
    await dataplane.start();
    await dataplane.apply([{ type: 'in-sync' }]);
  });

  const packet = (port: number, parts: Partial<Packet> = {}): Packet => ({
    family: 4,
    source: '192.0.2.9',
    destination: '192.0.2.1',
    protocol: 6,
    sourcePort: 40_000,
    destinationPort: port,
    ...parts,
  });
  const into = (port: number, parts: Partial<Packet> = {}): Evaluation =>
    driver.send(TABLE, INPUT_PATH, packet(port, { inInterface: 'eth0', ...parts }));
  const out = (port: number, name = 'eth0'): string =>
    driver.send(TABLE, OUTPUT_PATH, packet(port, { outInterface: name })).verdict;
  const through = (port: number, inInterface: string, outInterface: string): string =>
    driver.send(TABLE, FORWARD_PATH, packet(port, { inInterface, outInterface })).verdict;

  it('leave no trace while there are none', async () => {
    const before = driver.text(TABLE);
    assert.equal(before?.includes('host-'), false);
    await dataplane.apply([host('eth0', {})]);
    await dataplane.apply([{ type: 'endpoint-removed', id: 'host/eth0' }]);
    assert.equal(driver.text(TABLE), before);
  });

  it('drop all but failsafe ports and answers when no policy allows', async () => {
    await dataplane.apply([host('eth0', {})]);
    assert.equal(into(80).verdict, 'drop');
    assert.equal(into(22).verdict, 'accept');
    assert.equal(into(80, { ctState: 'established' }).verdict, 'accept');
    assert.equal(into(80, { inInterface: 'lo' }).verdict, 'accept');
    assert.equal(into(80, { inInterface: 'eth1' }).verdict, 'accept');
    assert.equal(out(80), 'drop');
    assert.equal(out(179), 'accept');
    assert.equal(out(80, 'cali1'), 'accept');
    assert.equal(through(80, 'eth0', 'eth1'), 'accept');
  });

  it('are governed by their policies, `*` where there is no endpoint of the interface', async () => {
    await dataplane.apply([
      host('eth0', { tiers: tier(['GlobalNetworkPolicy/web'], ['GlobalNetworkPolicy/web']) }),
      host('*', {}),
      policy('GlobalNetworkPolicy/web', { ingress: [rule('allow', 80)], egress: [rule('allow', 443)] }),
    ]);
    assert.equal(into(80).verdict, 'accept');
    assert.equal(into(81).verdict, 'drop');
    assert.equal(out(443), 'accept');
    assert.equal(out(80), 'drop');
    assert.equal(into(80, { inInterface: 'eth1' }).verdict, 'drop');
  });

  it('govern what is forwarded only by policies for it', async () => {
    const forward = tier(['GlobalNetworkPolicy/in'], ['GlobalNetworkPolicy/out']);
    await dataplane.apply([
      host('eth0', { host: { untracked: [], preDnat: [], forward } }),
      policy('GlobalNetworkPolicy/in', { ingress: [rule('allow', 80)] }),
      policy('GlobalNetworkPolicy/out', { egress: [rule('pass', 80)] }),
    ]);
    assert.equal(through(80, 'eth0', 'eth1'), 'accept');
    assert.equal(through(81, 'eth0', 'eth1'), 'drop');
    assert.equal(through(80, 'eth1', 'eth0'), 'accept');
    assert.equal(through(81, 'eth1', 'eth0'), 'drop');
    assert.equal(through(81, 'eth1', 'eth2'), 'accept');
  });

  it('take the word of untracked and pre-DNAT policies as final', async () => {
    await dataplane.apply([
      host('eth0', {
        host: {
          untracked: tier(['GlobalNetworkPolicy/raw']),
          preDnat: tier(['GlobalNetworkPolicy/pre']),
          forward: tier(['GlobalNetworkPolicy/none']),
        },
      }),
      policy('GlobalNetworkPolicy/raw', {
        untracked: true,
        ingress: [rule('allow', 9000), rule('deny', 9001), rule('deny', 22)],
      }),
      policy('GlobalNetworkPolicy/pre', { preDnat: true, ingress: [rule('allow', 9002), rule('deny', 9003)] }),
      policy('GlobalNetworkPolicy/none', { ingress: [rule('deny', 1)] }),
    ]);
    assert.deepEqual([into(9000).verdict, into(9000).tracked], ['accept', false]);
    assert.equal(into(9001).verdict, 'drop');
    assert.equal(into(22).verdict, 'accept');
    assert.deepEqual([into(9002).verdict, into(9002).mark], ['accept', 0]);
    assert.equal(into(9003).verdict, 'drop');
    assert.equal(into(9004).verdict, 'drop');
    assert.equal(through(9002, 'eth0', 'eth1'), 'accept');
    assert.equal(through(9004, 'eth0', 'eth1'), 'drop');
  });

  it('are reported when two claim one interface', async () => {
    await dataplane.apply([
      host('eth0', {}),
      {
        type: 'endpoint',
        endpoint: { id: 'a', kind: 'host', interfaceName: 'eth0', addresses: [], tiers: [], profiles: [] },
      },
    ]);
    assert.equal(dataplane.status('endpoint', 'a')?.state, 'applied');
    assert.equal(dataplane.status('endpoint', 'host/eth0')?.state, 'failed');
  });
});
