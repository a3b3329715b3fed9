import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseAgentConfig } from './agent-config.ts';

describe('parseAgentConfig', () => {
  it('is complete without a file', () => {
    assert.deepEqual(parseAgentConfig(null, 'f', 'Host1.example.com'), {
      hostName: 'host1.example.com',
      store: { embedded: { path: '/var/lib/brindle/store.db' } },
      runDirectory: '/run/brindle',
      stateDirectory: '/var/lib/brindle',
      logLevel: 'info',
      nat: { exclusions: 'IPPoolsOnly' },
      ipam: { cooldownSeconds: 0 },
    });
  });
  it('takes what the file says', () => {
    const config = parseAgentConfig(
      { hostName: 'h1', store: { embedded: { path: '/x' } }, logLevel: 'debug', metrics: {} },
      'f',
      'm',
    );
    assert.equal(config.hostName, 'h1');
    assert.deepEqual(config.store, { embedded: { path: '/x' } });
    assert.deepEqual(config.metrics, { listen: '127.0.0.1', port: 9095 });
  });
  it('takes what is said of NAT and of addresses', () => {
    const { nat, ipam } = parseAgentConfig(
      { nat: { exclusions: 'IPPoolsAndHostIPs', ipv6Address: '2001:db8::1' }, ipam: { maxBlocks: 4 } },
      'f',
      'm',
    );
    assert.deepEqual(nat, { exclusions: 'IPPoolsAndHostIPs', ipv6Address: '2001:db8::1' });
    assert.deepEqual(ipam, { cooldownSeconds: 0, maxBlocks: 4 });
    assert.throws(
      () => parseAgentConfig({ nat: { ipv4Address: '::1' }, ipam: { cooldownSeconds: 1201 } }, 'f', 'm'),
      /nat\.ipv4Address[^]*ipam\.cooldownSeconds/,
    );
  });
  it('names everything that is wrong', () => {
    assert.throws(
      () =>
        parseAgentConfig(
          { hostname: 'h', store: { embeded: {} }, logLevel: 'verbose', runDirectory: 'run' },
          '/etc/b.yaml',
          'm',
        ),
      (e: Error) =>
        /the configuration \/etc\/b\.yaml is invalid/.test(e.message) &&
        /hostname: is an unknown field; did you mean hostName/.test(e.message) &&
        /store\.embeded: is an unknown field; did you mean embedded/.test(e.message) &&
        /logLevel: "verbose" is not one of/.test(e.message) &&
        /runDirectory: "run" is not an absolute path/.test(e.message),
    );
    assert.throws(() => parseAgentConfig({ store: {} }, 'f', 'm'), /exactly one driver/);
    assert.throws(() => parseAgentConfig({}, 'f', 'my_host'), /hostName: is required.*write my-host/);
    assert.throws(() => parseAgentConfig([], 'f', 'm'), /must be a set of fields/);
  });
});
