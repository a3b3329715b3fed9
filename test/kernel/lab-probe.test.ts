// The lab's probes against the kernel: two namespaces and a wire. Needs root, nftables.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type { Server } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { machineKernel, namespacePath } from '#lab/kernel.ts';
import { PingStream, probePing, probeTcp } from '#lab/probe.ts';
import { withNetns } from '#sys/netns.ts';
import { listenTcp } from '#sys/tcp.ts';

const [a, b] = [`brindle-probe-a${process.pid}`, `brindle-probe-b${process.pid}`];
const PORT = 8080;
const servers: Server[] = [];

describe('lab: probes', () => {
  before(() => {
    for (const name of [a, b]) machineKernel.createNamespace(name, 'probe test');
    machineKernel.connect({ namespace: a, interface: 'eth0' }, { namespace: b, interface: 'eth0' });
    for (const [namespace, last] of [
      [a, 1],
      [b, 2],
    ] as const) {
      machineKernel.addAddress({ namespace, interface: 'eth0' }, `192.0.2.${last}`, 24);
      machineKernel.addAddress({ namespace, interface: 'eth0' }, `2001:db8::${last}`, 64);
    }
    withNetns(namespacePath(b), () => {
      for (const localAddress of ['0.0.0.0', '::']) servers.push(listenTcp({ localAddress, localPort: PORT }).server);
    });
  });
  after(() => {
    for (const server of servers) server.close();
    for (const name of [a, b]) machineKernel.deleteNamespace(name);
  });

  it('tells an open port, a closed one and a silent one apart, by both IP versions', async () => {
    execFileSync('ip', ['netns', 'exec', b, 'nft', '-f', '-'], {
      input: 'table inet t {\n chain c {\n type filter hook input priority 0;\n tcp dport 81 drop\n }\n}\n',
    });
    for (const address of ['192.0.2.2', '2001:db8::2']) {
      assert.equal(await probeTcp(namespacePath(a), address, PORT, 5000), 'ok');
      assert.equal(await probeTcp(namespacePath(a), address, 82, 5000), 'refused');
      assert.equal(await probeTcp(namespacePath(a), address, 81, 50), 'silent');
    }
    assert.equal(await probeTcp(namespacePath(a), '203.0.113.1', PORT, 5000), 'unreachable');
  });

  it('pings', async () => {
    for (const address of ['192.0.2.2', '2001:db8::2']) {
      assert.equal(await probePing(namespacePath(a), address, 5000), 'ok');
    }
    assert.equal(await probePing(namespacePath(a), '203.0.113.1', 5000), 'unreachable');
    assert.equal(await probePing(namespacePath(a), '192.0.2.77', 50), 'silent');
  });

  it('streams pings and tells which were lost', async () => {
    const stream = new PingStream(namespacePath(a), '192.0.2.2', 2);
    const silent = new PingStream(namespacePath(a), '192.0.2.88', 2);
    assert.ok((await stream.first()) >= 0);
    const report = await stream.stop(5000);
    assert.ok(report.sent > 0);
    assert.deepEqual(report.lost, []);
    const nothing = await silent.stop(0);
    assert.equal(nothing.firstAnswer, null);
    assert.equal(nothing.lost.length, nothing.sent);
  });
});
