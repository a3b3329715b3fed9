import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BrindleError } from '#base/errors.ts';
import type { AbstractRule, DesiredEndpoint, DesiredPolicy, DesiredUpdate } from '#model/desired.ts';
import { FORWARD_PATH, INPUT_PATH, OUTPUT_PATH, type Packet } from '#nft/evaluate.ts';
import { FakeNftables } from '#nft/fake.ts';
import type { Hook } from '#nft/objects.ts';
import { Dataplane } from './dataplane.ts';

const TABLE = 'brindle';
const ALLOW: AbstractRule = { action: 'allow', index: 0, source: {}, destination: {} };
const PROFILE = policy('Profile/kns.default', { ingress: [ALLOW], egress: [ALLOW] });
const IN_SYNC: DesiredUpdate = { type: 'in-sync' };

function policy(id: string, parts: Partial<DesiredPolicy> = {}): DesiredUpdate {
  return { type: 'policy', policy: { id, tier: 'default', ingress: [], egress: [], ...parts } };
}

function endpoint(n: number, parts: Partial<DesiredEndpoint> = {}): DesiredUpdate {
  return {
    type: 'endpoint',
    endpoint: {
      id: `default/pod${n}`,
      kind: 'workload',
      interfaceName: `cali${n}`,
      addresses: [`10.65.0.${n}`, `fd65::${n}`],
      tiers: [],
      profiles: ['Profile/kns.default'],
      ...parts,
    },
  };
}

function ingress(...policies: string[]): Partial<DesiredEndpoint> {
  return { tiers: [{ name: 'default', defaultAction: 'deny', ingress: policies, egress: [] }] };
}

function set(id: string, ...members: string[]): DesiredUpdate {
  return { type: 'set', set: { id, type: 'net', members: new Set(members) } };
}

function rule(parts: Partial<AbstractRule>): AbstractRule {
  return { action: 'allow', index: 0, source: {}, destination: {}, ...parts };
}

async function started(driver = new FakeNftables()): Promise<{ dataplane: Dataplane; driver: FakeNftables }> {
  const dataplane = new Dataplane({ driver });
  await dataplane.start();
  return { dataplane, driver };
}

const WEB: Packet = {
  family: 4,
  source: '10.65.0.1',
  destination: '10.65.0.2',
  protocol: 6,
  sourcePort: 40_000,
  destinationPort: 80,
  inInterface: 'cali1',
  outInterface: 'cali2',
};

function verdict(driver: FakeNftables, parts: Partial<Packet> = {}, path: readonly Hook[] = FORWARD_PATH): string {
  return driver.send(TABLE, path, { ...WEB, ...parts }).verdict;
}

describe('dataplane', () => {
  it('closes what it does not know, and opens by profile', async () => {
    const { dataplane, driver } = await started();
    assert.equal(verdict(driver), 'drop');
    assert.equal(verdict(driver, { inInterface: 'eth0' }), 'drop');
    assert.equal(verdict(driver, { inInterface: 'eth0', outInterface: 'eth1' }), 'accept');
    await dataplane.apply([endpoint(1), PROFILE, IN_SYNC]);
    assert.equal(verdict(driver), 'drop');
    await dataplane.apply([endpoint(2)]);
    assert.equal(verdict(driver), 'accept');
    assert.equal(verdict(driver, { reversePathMissing: true }), 'drop');
    assert.equal(verdict(driver, { ctState: 'invalid' }), 'drop');
    assert.equal(verdict(driver, {}, INPUT_PATH), 'accept');
    assert.equal(verdict(driver, { inInterface: '' }, OUTPUT_PATH), 'accept');
  });

  it('joins calls of one turn in one transaction, and writes only what changed', async () => {
    const { dataplane, driver } = await started();
    const before = driver.committed.length;
    await Promise.all([dataplane.apply([PROFILE]), dataplane.apply([endpoint(1)]), dataplane.apply([IN_SYNC])]);
    assert.equal(driver.committed.length, before + 1);
    await dataplane.apply([endpoint(2)]);
    assert.deepEqual(
      driver.committed
        .at(-1)!
        .split('\n')
        .map((line) => line.replace(/ comment .*/, '')),
      [
        'add chain inet brindle from/cali2',
        'add chain inet brindle to/cali2',
        'add rule inet brindle from/cali2 jump egress/Profile/kns.default',
        'add rule inet brindle from/cali2 counter drop',
        'add rule inet brindle to/cali2 jump ingress/Profile/kns.default',
        'add rule inet brindle to/cali2 counter drop',
        'add element inet brindle dispatch-from { "cali2" : goto from/cali2 }',
        'add element inet brindle dispatch-to { "cali2" : goto to/cali2 }',
      ],
    );
    await dataplane.apply([endpoint(2)]);
    assert.equal(driver.committed.length, before + 2);
  });

  it('does Pass, tier defaults, and staged policies', async () => {
    const { dataplane, driver } = await started();
    const tcp = (action: AbstractRule['action']) => [rule({ action, protocol: 'tcp' })];
    const tiers = (first: 'deny' | 'pass') => ({
      tiers: [
        { name: 'a', defaultAction: first, ingress: ['GlobalNetworkPolicy/a'], egress: [] },
        { name: 'b', defaultAction: 'deny' as const, ingress: ['GlobalNetworkPolicy/b'], egress: [] },
      ],
    });
    await dataplane.apply([
      PROFILE,
      endpoint(1),
      endpoint(2, tiers('deny')),
      policy('GlobalNetworkPolicy/a', { ingress: tcp('pass') }),
      policy('GlobalNetworkPolicy/b', { ingress: tcp('allow') }),
      IN_SYNC,
    ]);
    assert.equal(verdict(driver), 'accept');
    assert.equal(verdict(driver, { mark: 0x00010000, protocol: 17 }), 'drop');
    assert.equal(driver.send(TABLE, FORWARD_PATH, { ...WEB, mark: 0x4000 }).mark, 0x4000);
    await dataplane.apply([endpoint(2, tiers('pass')), policy('GlobalNetworkPolicy/b', { ingress: tcp('deny') })]);
    assert.equal(verdict(driver), 'drop');
    assert.equal(verdict(driver, { protocol: 17 }), 'drop');
    await dataplane.apply([policy('GlobalNetworkPolicy/b', { ingress: tcp('deny'), staged: true })]);
    assert.equal(verdict(driver), 'accept');
    const staged = (await dataplane.counters()).find((c) => c.label.type === 'policy' && c.label.policy.endsWith('/b'));
    assert.equal(staged?.packets, 1);
  });

  it('keeps sets right when members nest and when networks come and go', async () => {
    const { dataplane, driver } = await started();
    const from = policy('NetworkPolicy/default/p', { ingress: [rule({ source: { sets: ['s:x'] } })] });
    await dataplane.apply([
      PROFILE,
      endpoint(1),
      endpoint(2, ingress('NetworkPolicy/default/p')),
      from,
      set('s:x'),
      IN_SYNC,
    ]);
    const change = (added: string[], removed: string[] = []) =>
      dataplane.apply([{ type: 'set-delta', delta: { id: 's:x', added, removed } }]);
    assert.equal(verdict(driver), 'drop');
    await change(['10.65.0.1/32']);
    assert.equal(verdict(driver), 'accept');
    await change(['10.0.0.0/8', '10.65.0.0/16', '10.65.0.0/24']);
    assert.equal(verdict(driver, { source: '10.1.1.1' }), 'accept');
    await change([], ['10.0.0.0/8']);
    assert.equal(verdict(driver, { source: '10.1.1.1' }), 'drop');
    assert.equal(verdict(driver), 'accept');
    await change([], ['10.65.0.0/16', '10.65.0.0/24']);
    assert.equal(verdict(driver), 'accept');
    await change([], ['10.65.0.1/32']);
    assert.equal(verdict(driver), 'drop');
  });

  it('closes and reports one object that the kernel refuses, and puts the others in force', async () => {
    const { dataplane, driver } = await started();
    await dataplane.apply([PROFILE, endpoint(1), endpoint(2), IN_SYNC]);
    driver.refuse = (command) =>
      command.type === 'add-rule' && command.rule.comment.startsWith('NetworkPolicy/default/bad ingress 0')
        ? new BrindleError('kernel', 'too odd')
        : null;
    await dataplane.apply([
      endpoint(2, ingress('NetworkPolicy/default/bad', 'NetworkPolicy/default/good')),
      endpoint(3, ingress('NetworkPolicy/default/good')),
      policy('NetworkPolicy/default/bad', { ingress: [ALLOW] }),
      policy('NetworkPolicy/default/good', { ingress: [ALLOW] }),
    ]);
    assert.deepEqual(dataplane.status('policy', 'NetworkPolicy/default/bad'), { state: 'failed', reason: 'too odd' });
    assert.deepEqual(dataplane.status('policy', 'NetworkPolicy/default/good'), { state: 'applied' });
    assert.equal(verdict(driver), 'drop');
    assert.equal(verdict(driver, { outInterface: 'cali3' }), 'accept');
    await dataplane.apply([policy('NetworkPolicy/default/bad', { ingress: [rule({ index: 1 })] })]);
    assert.equal(verdict(driver), 'accept');
  });

  it('closes what uses a set with a bad member or none at all', async () => {
    const { dataplane, driver } = await started();
    const p = policy('NetworkPolicy/default/p', { ingress: [rule({ source: { notSets: ['s:x'] } })] });
    await dataplane.apply([PROFILE, endpoint(1), endpoint(2, ingress('NetworkPolicy/default/p')), p, IN_SYNC]);
    assert.equal(verdict(driver), 'drop');
    await dataplane.apply([set('s:x', '10.9.9.9')]);
    assert.equal(verdict(driver), 'accept');
    await dataplane.apply([set('s:x', '10.9.9.9', 'not an address')]);
    assert.equal(verdict(driver), 'drop');
    assert.equal(dataplane.status('set', 's:x')?.state, 'failed');
    await dataplane.apply([set('s:x', '10.9.9.8')]);
    assert.equal(verdict(driver), 'accept');
    assert.deepEqual(dataplane.status('set', 's:x'), { state: 'applied' });
  });

  it('adopts what a former process left, touches nothing before in-sync, sweeps after it', async () => {
    const driver = new FakeNftables();
    const first = (await started(driver)).dataplane;
    const world = [PROFILE, set('s:x', '10.65.0.1'), endpoint(1), endpoint(2, ingress('NetworkPolicy/default/p'))];
    const p = policy('NetworkPolicy/default/p', { ingress: [rule({ source: { sets: ['s:x'] } })] });
    await first.apply([...world, p, endpoint(9), IN_SYNC]);
    const text = driver.text(TABLE);
    const commits = driver.committed.length;
    const second = (await started(driver)).dataplane;
    assert.equal(driver.committed.length, commits);
    for (const update of [endpoint(2, ingress('NetworkPolicy/default/p')), p, ...world]) {
      await second.apply([update]);
      assert.equal(driver.text(TABLE), text);
    }
    assert.equal(driver.committed.length, commits);
    await second.apply([IN_SYNC]);
    assert.equal(driver.committed.length, commits + 1);
    assert.equal(verdict(driver), 'accept');
    assert.equal(driver.text(TABLE)!.includes('cali9'), false);
  });

  it('starts over when somebody removed the table behind its back', async () => {
    const { dataplane, driver } = await started();
    await dataplane.apply([PROFILE, endpoint(1), endpoint(2), IN_SYNC]);
    const text = driver.text(TABLE);
    driver.removeTable(TABLE);
    await dataplane.apply([endpoint(3)]);
    await dataplane.apply([{ type: 'endpoint-removed', id: 'default/pod3' }]);
    assert.equal(driver.text(TABLE), text);
  });

  it('gives the same table for any order of events, joined or not', async () => {
    const names = ['a', 'b', 'c'].map((n) => `NetworkPolicy/default/${n}`);
    const history = fc.array(
      fc.oneof(
        fc
          .record({ n: fc.integer({ min: 1, max: 3 }), uses: fc.subarray(names) })
          .map(({ n, uses }) => endpoint(n, ingress(...uses))),
        fc.integer({ min: 1, max: 3 }).map((n): DesiredUpdate => ({ type: 'endpoint-removed', id: `default/pod${n}` })),
        fc
          .record({
            id: fc.constantFrom(...names),
            action: fc.constantFrom<AbstractRule['action']>('allow', 'deny', 'pass'),
            staged: fc.boolean(),
          })
          .map(({ id, action, staged }) =>
            policy(id, {
              ingress: [rule({ action, source: { sets: ['s:x'] } })],
              ...(staged ? { staged: true } : {}),
            }),
          ),
        fc.constantFrom(...names).map((id): DesiredUpdate => ({ type: 'policy-removed', id })),
        fc
          .subarray(['10.65.0.1', '10.65.0.0/16', '10.0.0.0/8', '10.65.0.2', 'fd00::/8', 'fd65::1'])
          .map((members) => set('s:x', ...members)),
      ),
      { maxLength: 25 },
    );
    await fc.assert(
      fc.asyncProperty(history, fc.array(fc.boolean()), async (updates, waits) => {
        const straight = await started();
        await straight.dataplane.apply([PROFILE, IN_SYNC]);
        const joined: Promise<void>[] = [];
        for (const [i, update] of updates.entries()) {
          const done = straight.dataplane.apply([update]);
          if (waits[i]) await done;
          else joined.push(done);
        }
        await Promise.all(joined);
        const last = new Map<string, DesiredUpdate>();
        for (const update of updates) last.set(keyOf(update), update);
        const direct = await started();
        await direct.dataplane.apply([IN_SYNC, ...[...last.values()].reverse(), PROFILE]);
        await straight.dataplane.apply([]);
        assert.equal(straight.driver.text(TABLE), direct.driver.text(TABLE));
      }),
      { numRuns: 60 },
    );
  });
});

function keyOf(update: DesiredUpdate): string {
  switch (update.type) {
    case 'endpoint':
      return `endpoint ${update.endpoint.id}`;
    case 'endpoint-removed':
      return `endpoint ${update.id}`;
    case 'policy':
      return `policy ${update.policy.id}`;
    case 'policy-removed':
      return `policy ${update.id}`;
    default:
      return update.type;
  }
}
