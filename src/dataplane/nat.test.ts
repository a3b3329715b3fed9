import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { DesiredUpdate } from '#model/desired.ts';
import { type Packet, FORWARD_PATH } from '#nft/evaluate.ts';
import { FakeNftables } from '#nft/fake.ts';
import { Dataplane } from './dataplane.ts';
import type { RenderOptions } from './render/options.ts';

const TABLE = 'brindle';

function pools(masqueraded: readonly string[], direct: readonly string[]): DesiredUpdate {
  return { type: 'pools', pools: { masqueraded, direct } };
}

async function started(driver: FakeNftables, render: Partial<RenderOptions> = {}): Promise<Dataplane> {
  const dataplane = new Dataplane({ driver, render });
  await dataplane.start();
  await dataplane.apply([{ type: 'in-sync' }]);
  return dataplane;
}

function translated(driver: FakeNftables, source: string, destination: string, parts: Partial<Packet> = {}) {
  const family = source.includes(':') ? 6 : 4;
  const packet: Packet = { family, source, destination, protocol: 6, inInterface: 'eth1', outInterface: 'eth0' };
  return driver.send(TABLE, FORWARD_PATH, { ...packet, ...parts }).sourceNat;
}

describe('NAT for the way out', () => {
  it('changes nothing while no pool asks for it', async () => {
    const driver = new FakeNftables();
    const dataplane = await started(driver);
    const before = driver.text(TABLE);
    await dataplane.apply([pools([], ['10.1.0.0/16'])]);
    assert.equal(driver.text(TABLE), before);
    assert.doesNotMatch(before!, /nat|postrouting/);
    await dataplane.apply([pools(['10.1.0.0/16'], ['10.1.0.0/16'])]);
    assert.match(driver.text(TABLE)!, /chain nat-outgoing postrouting 100/);
    await dataplane.apply([pools([], [])]);
    assert.equal(driver.text(TABLE), before);
    await dataplane.stop();
  });
  it('translates new connections from such a pool to outside of all pools', async () => {
    const driver = new FakeNftables();
    const dataplane = await started(driver);
    await dataplane.apply([pools(['10.1.0.0/16', 'fd00:1::/32'], ['10.1.0.0/16', '10.2.0.0/16', 'fd00:1::/32'])]);
    assert.equal(translated(driver, '10.1.0.1', '8.8.8.8'), 'masquerade');
    assert.equal(translated(driver, 'fd00:1::1', '2001:db8::1'), 'masquerade');
    assert.equal(translated(driver, '10.1.0.1', '8.8.8.8', { ctState: 'established' }), null);
    assert.equal(translated(driver, '10.1.0.1', '10.1.9.1'), null);
    assert.equal(translated(driver, '10.1.0.1', '10.2.0.1'), null);
    assert.equal(translated(driver, 'fd00:1::1', 'fd00:1::2'), null);
    assert.equal(translated(driver, '10.2.0.1', '8.8.8.8'), null);
    assert.equal(translated(driver, '8.8.8.8', '10.1.0.1'), null);
    const counter = (await dataplane.counters()).filter(
      ({ label }) => label.type === 'base' && label.name === 'nat-outgoing',
    );
    assert.deepEqual(
      counter.map(({ packets }) => packets),
      [1, 1],
    );
    await dataplane.stop();
  });
  it('follows the pools, single addresses too', async () => {
    const driver = new FakeNftables();
    const dataplane = await started(driver);
    await dataplane.apply([pools(['10.1.0.1/32'], ['10.1.0.1/32', '192.0.2.1/32'])]);
    assert.equal(translated(driver, '10.1.0.1', '192.0.2.2'), 'masquerade');
    assert.equal(translated(driver, '10.1.0.1', '192.0.2.1'), null);
    await dataplane.apply([pools(['10.1.0.0/16'], ['10.0.0.0/8', '10.1.0.0/16'])]);
    assert.equal(translated(driver, '10.1.7.7', '192.0.2.1'), 'masquerade');
    assert.equal(translated(driver, '10.1.7.7', '10.9.0.1'), null);
    await dataplane.stop();
  });
  it('takes the address it is told', async () => {
    const driver = new FakeNftables();
    const dataplane = await started(driver, { natAddresses: { 4: '192.0.2.9', 6: null } });
    await dataplane.apply([pools(['10.1.0.0/16', 'fd00::/48'], [])]);
    assert.equal(translated(driver, '10.1.0.1', '8.8.8.8'), '192.0.2.9');
    assert.equal(translated(driver, 'fd00::1', '2001:db8::1'), 'masquerade');
    await dataplane.stop();
  });
  it('is adopted by the next process and removed when nobody asks for it any more', async () => {
    const driver = new FakeNftables();
    const first = await started(driver);
    await first.apply([pools(['10.1.0.0/16'], ['10.1.0.0/16'])]);
    await first.stop();
    const commits = driver.committed.length;
    const second = new Dataplane({ driver });
    await second.start();
    assert.equal(translated(driver, '10.1.0.1', '8.8.8.8'), 'masquerade');
    await second.apply([pools(['10.1.0.0/16'], ['10.1.0.0/16']), { type: 'in-sync' }]);
    assert.equal(driver.committed.length, commits);
    await second.stop();
    const third = await started(driver);
    assert.equal(translated(driver, '10.1.0.1', '8.8.8.8'), null);
    await third.stop();
  });
  it('goes without when the kernel refuses, and says so', async () => {
    const driver = new FakeNftables();
    const dataplane = await started(driver);
    driver.refuse = (command) =>
      command.type === 'add-chain' && command.chain.base?.type === 'nat' ? new Error('no NAT here') : null;
    await dataplane.apply([pools(['10.1.0.0/16'], ['10.1.0.0/16'])]);
    assert.deepEqual(dataplane.status('nat', 'outgoing'), { state: 'failed', reason: 'no NAT here' });
    assert.doesNotMatch(driver.text(TABLE)!, /nat-/);
    driver.refuse = null;
    await dataplane.apply([pools(['10.1.0.0/16'], ['10.1.0.0/16'])]);
    assert.deepEqual(dataplane.status('nat', 'outgoing'), { state: 'applied' });
    assert.equal(translated(driver, '10.1.0.1', '8.8.8.8'), 'masquerade');
    await dataplane.stop();
  });
});
