// A whole agent in a namespace with etcd as its store: it starts while etcd is away, comes into service when etcd does, and
// answers ADD from its leases and forwards while etcd is gone again.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, describe, it } from 'node:test';
import { CniRunner } from '../support/cni-runner.ts';
import { etcdMember, PATIENCE } from '../support/etcd.ts';
import { testNetns, until } from '../support/netns.ts';

const root = resolve(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), `brindle-etcd-agent-${process.pid}-`));
after(() => rmSync(folder, { recursive: true, force: true }));

const POOL = `apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 10.44.0.0/16}
`;

describe('etcd: the agent', { timeout: 5 * PATIENCE }, () => {
  it('starts, answers ADD and forwards while etcd is away', async () => {
    using host = testNetns('ag');
    using one = testNetns('c1');
    using two = testNetns('c2');
    await using etcd = etcdMember({ netns: host, address: '127.0.0.1' });
    const config = join(folder, 'brindle.yaml');
    const run = join(folder, 'run');
    writeFileSync(
      config,
      JSON.stringify({
        hostName: 'host',
        store: { etcd: { endpoints: ['127.0.0.1:2379'] } },
        runDirectory: run,
        stateDirectory: join(folder, 'state'),
      }),
    );
    writeFileSync(join(folder, 'pool.yaml'), POOL);
    const brindle = ['--disable-warning=ExperimentalWarning', join(root, 'src/cli/main.ts')];
    let log = '';
    const agent = host.start(process.execPath, ...brindle, 'agent', '--config', config);
    agent.stdout?.on('data', (text: Buffer) => (log += text.toString()));
    agent.stderr?.on('data', (text: Buffer) => (log += text.toString()));
    const socket = join(run, 'brindle.sock');
    const status = async (): Promise<string> => {
      const { stdout, stderr } = await host.tryRun(process.execPath, ...brindle, 'status', '--socket', socket);
      return stdout + stderr;
    };
    try {
      let shown = '';
      await until(
        `the agent serves, and names etcd: ${log}`,
        async () => /does not answer/.test((shown = await status())),
        PATIENCE,
      );
      assert.match(shown, /etcd at 127\.0\.0\.1:2379/);

      etcd.start();
      await etcd.serving();
      await host.run(process.execPath, ...brindle, 'apply', '--config', config, '-f', join(folder, 'pool.yaml'));
      const cache = join(folder, 'cache');
      mkdirSync(cache);
      const runner = new CniRunner({
        list: { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'brindle-cni' }] },
        path: [join(root, 'dist')],
        cacheDirectory: cache,
        environment: { BRINDLE_SOCKET: socket },
        namespace: host.path,
      });
      const add = async (containerId: string, netns: string): Promise<string> => {
        const result = (await runner.add({ containerId, netns, ifname: 'eth0' })) as { ips: { address: string }[] };
        return result.ips[0]!.address.split('/')[0]!;
      };
      let first = '';
      await until(
        'ADD is answered',
        async () => {
          first = await add('one', one.path).catch(() => '');
          return first !== '';
        },
        PATIENCE,
      );
      await etcd.kill();
      const second = await add('two', two.path);
      assert.match(second, /^10\.44\./);
      assert.notEqual(second, first);
      await one.run('ping', '-c', '1', '-W', '5', second);
      await until('status tells of etcd', async () => /does not answer/.test(await status()), PATIENCE);

      etcd.start();
      await etcd.serving();
      await until(
        'both endpoints are in the store',
        async () => {
          const keys = await etcd.ctl('get', '--prefix', '--keys-only', '/brindle/WorkloadEndpoint/');
          return keys.split('\n').filter((line) => line !== '').length === 2;
        },
        PATIENCE,
      );
      await until('status is well again', async () => !/does not answer/.test(await status()), PATIENCE);
    } catch (error) {
      console.error(log.slice(-4000));
      throw error;
    } finally {
      agent.kill('SIGKILL');
    }
  });
});
