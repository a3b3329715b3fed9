// The accepts in Docker's chain, with the real iptables in a namespace. Needs root and iptables.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { acceptForwarding, type RunProgram } from '#agent/docker-forward.ts';
import { silentLogger } from '#base/log.ts';
import { testNetns } from '../support/netns.ts';

describe("Docker's FORWARD drop", () => {
  it('is passed by two rules in DOCKER-USER, added once, and only where Docker has its chain', async () => {
    await using host = testNetns('fw');
    const run: RunProgram = async (program, args) =>
      program === 'ip6tables' ? 1 : (await host.tryRun(program, ...args)).status;
    assert.deepEqual(await acceptForwarding(silentLogger, run), []);
    await host.run('iptables', '-N', 'DOCKER-USER');
    await host.run('iptables', '-A', 'DOCKER-USER', '-j', 'RETURN');
    await host.run('iptables', '-P', 'FORWARD', 'DROP');
    await host.run('iptables', '-A', 'FORWARD', '-j', 'DOCKER-USER');
    assert.equal((await acceptForwarding(silentLogger, run)).length, 2);
    assert.deepEqual(await acceptForwarding(silentLogger, run), []);
    const rules = (await host.run('iptables', '-S')).split('\n');
    assert.deepEqual(
      rules.filter((rule) => rule.startsWith('-A')),
      [
        '-A FORWARD -j DOCKER-USER',
        '-A DOCKER-USER -o cali+ -j ACCEPT',
        '-A DOCKER-USER -i cali+ -j ACCEPT',
        '-A DOCKER-USER -j RETURN',
      ],
    );
  });
});
