// The CNI executable and the verbs against the real kernel: the C program and its Node twin, an agent of verbs, IPAM
// and wiring (test/support/cni-agent.ts), called as libcni calls. Needs root, iproute2, busybox, iptables; a C
// compiler for the C program.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createNamedNetns, deleteNamedNetns } from '#sys/netns.ts';
import { CniRunner, type NetworkList, PluginError } from '../support/cni-runner.ts';
import { addAddresses, type TestNetns, testNetns, uniqueName, until } from '../support/netns.ts';

const root = resolve(import.meta.dirname, '../..');
const work = mkdtempSync(join(tmpdir(), 'brindle-cni-'));
const PLUGINS = { C: join(work, 'c'), 'the Node twin': join(work, 'twin') } as const;
/** Three packets: under heavy load the kernel may put a new interface into service after the first. */
const PING = ['busybox', 'ping', '-c3', '-i0.2', '-W5'] as const;

/** An agent in a namespace of its own, with a directory for its state. */
class TestAgent {
  readonly host: TestNetns = testNetns('h');
  readonly directory: string = mkdtempSync(join(work, 'agent-'));
  readonly #pools: readonly string[];
  #process: ChildProcess | null = null;
  #output = '';

  constructor(...pools: string[]) {
    this.#pools = pools;
    const LOOPBACK = 1;
    addAddresses(this.host, LOOPBACK, ['192.0.2.1/32', '2001:db8::1/128']); // to be the source of pings
  }

  get socket(): string {
    return join(this.directory, 'sock');
  }

  async start(): Promise<void> {
    const script = join(root, 'test/support/cni-agent.ts');
    const args = [`--net=${this.host.path}`, '--', process.execPath, '--disable-warning=ExperimentalWarning', script];
    this.#output = '';
    const child = spawn('nsenter', [...args, this.directory, ...this.#pools], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: root,
    });
    child.stdout.on('data', (chunk: Buffer) => {
      this.#output += chunk.toString();
    });
    this.#process = child;
    await until('the agent is ready', () => this.#output.includes('ready\n'));
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((done) => child.once('exit', done));
    child.kill('SIGKILL');
    await ended;
  }

  /** What the agent holds, after two looks at the kernel. */
  async report(): Promise<{ attachments: string[][]; used: number; interfaces: string[] }> {
    this.#output = '';
    this.#process!.kill('SIGUSR2');
    await until('the report', () => this.#output.endsWith('}\n'));
    return JSON.parse(this.#output) as Awaited<ReturnType<TestAgent['report']>>;
  }

  async close(): Promise<void> {
    await this.kill();
    this.host.close();
  }
}

const LIST: NetworkList = {
  cniVersion: '1.0.0',
  cniVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  name: 'test',
  plugins: [{ type: 'brindle-cni', capabilities: { ips: true, mac: true, labels: true } }],
};

function runnerFor(agent: TestAgent, executable: keyof typeof PLUGINS, change: Partial<NetworkList> = {}): CniRunner {
  return new CniRunner({
    list: { ...LIST, ...change },
    path: [PLUGINS[executable]],
    cacheDirectory: join(agent.directory, 'cache'),
    environment: { BRINDLE_SOCKET: agent.socket },
    namespace: agent.host.path,
  });
}

async function refused(call: Promise<unknown>, code: number, pattern: RegExp): Promise<PluginError> {
  const error = await call.then(
    () => assert.fail('it succeeded'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof PluginError, String(error));
  assert.match(error.message, pattern);
  assert.equal(error.code, code, error.message);
  return error;
}

before(() => {
  for (const directory of Object.values(PLUGINS)) mkdirSync(directory);
  const source = join(root, 'src/cni/brindle-cni.c');
  const built = spawnSync('cc', [
    '-O1',
    '-Wall',
    '-Wextra',
    '-Wno-format-truncation',
    '-Werror',
    '-o',
    join(PLUGINS.C, 'brindle-cni'),
    source,
  ]);
  assert.equal(built.status, 0, String(built.stderr));
  const twin = join(PLUGINS['the Node twin'], 'brindle-cni');
  writeFileSync(twin, `#!/bin/sh\ncd ${root} && exec ${process.execPath} ${join(root, 'src/cni/executable.ts')}\n`);
  chmodSync(twin, 0o755);
});

after(() => rmSync(work, { recursive: true, force: true }));

for (const executable of Object.keys(PLUGINS) as (keyof typeof PLUGINS)[]) {
  const file = join(PLUGINS[executable], 'brindle-cni');
  const plain = (env: Record<string, string>, input = '') => spawnSync(file, [], { env, input, encoding: 'utf8' });

  describe(`the executable in ${executable}`, () => {
    it('answers VERSION by itself, and introduces itself to people', () => {
      const answer = plain({ CNI_COMMAND: 'VERSION' });
      assert.deepEqual(JSON.parse(answer.stdout), {
        cniVersion: '1.1.0',
        supportedVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
      });
      const about = plain({});
      assert.deepEqual([about.status, about.stdout], [0, '']);
      assert.match(about.stderr, /CNI plugin/);
    });

    it('says what to do without an agent: 11, 50, and DEL into the spool', () => {
      const socket = join(work, uniqueName('no'), 'deep', 'sock');
      const call = (verb: string, config: string) =>
        plain({ CNI_COMMAND: verb, BRINDLE_SOCKET: socket, CNI_IFNAME: 'e' }, config);
      for (const verb of ['ADD', 'CHECK', 'GC', 'NONSENSE']) {
        const answer = call(verb, '{"cniVersion": "0.4.0", "name": "n"}');
        const { cniVersion, code, msg } = JSON.parse(answer.stdout) as {
          cniVersion: string;
          code: number;
          msg: string;
        };
        assert.deepEqual([answer.status, cniVersion, code], [1, '0.4.0', 11]);
        assert.ok(msg.includes(socket), msg);
      }
      assert.equal((JSON.parse(call('STATUS', '{}').stdout) as { code: number }).code, 50);
      mkdirSync(join(socket, '../..'));
      const del = call('DEL', '{"name":"n"}');
      assert.deepEqual([del.status, del.stdout], [0, '']);
      const [kept = '', ...others] = readdirSync(`${socket}.spool`);
      assert.match(kept, /^\d{19}-\d+\.del$/);
      assert.deepEqual(others, []);
    });

    it('finds its socket in the configuration, in the outermost object only', () => {
      const answer = plain(
        { CNI_COMMAND: 'ADD' },
        JSON.stringify({ runtimeConfig: { socket: '/wrong/1', x: ['"socket": "/wrong/2"'] }, socket: '/right' }),
      );
      assert.match(answer.stdout, / at \/right:/);
    });

    it('refuses an endless configuration', () => {
      const answer = plain({ CNI_COMMAND: 'ADD' }, ' '.repeat((4 << 20) + 1));
      assert.equal((JSON.parse(answer.stdout) as { code: number }).code, 5);
    });
  });

  describe(`a container attached by the executable in ${executable}`, () => {
    const agent = new TestAgent('10.90.0.0/24', 'fd90::/112');
    before(() => agent.start());
    after(() => agent.close());

    it('is reachable over both families, passes CHECK, and leaves nothing', async () => {
      await using container = testNetns('c');
      for (const cniVersion of ['0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
        const runner = runnerFor(agent, executable, { cniVersion, cniVersions: [cniVersion] });
        const attachment = { containerId: uniqueName('c'), netns: container.path };
        const result = (await runner.add(attachment)) as {
          cniVersion: string;
          ips: { address: string; version?: string }[];
        };
        assert.equal(result.cniVersion, cniVersion);
        assert.equal(result.ips[0]?.version, cniVersion < '1' ? '4' : undefined);
        for (const { address } of result.ips) {
          await agent.host.run(...PING, address.replace(/\/.*/, ''));
        }
        if (cniVersion === '0.3.1') await refused(runner.check(attachment), 1, /CHECK/);
        else await runner.check(attachment);
        await refused(runner.add(attachment), 101, /already/);
        if (cniVersion !== '0.3.1') await runner.check(attachment);
        await runner.del(attachment);
        await runner.del(attachment);
        if (cniVersion !== '0.3.1')
          await refused(
            runner.check({ ...attachment }).catch((e: Error) => {
              throw e instanceof PluginError ? e : new PluginError({ code: 7, msg: e.message });
            }),
            7,
            /result/,
          );
      }
      const { attachments, used, interfaces } = await agent.report();
      assert.deepEqual([attachments, used, interfaces], [[], 0, []]);
    });

    it('gets the address and MAC asked for, and clear errors for wrong ones', async () => {
      await using container = testNetns('c');
      const runner = runnerFor(agent, executable);
      const ask = (capabilityArgs: Record<string, unknown>) => ({
        containerId: 'asks',
        netns: container.path,
        capabilityArgs,
      });
      await refused(runner.add(ask({ ips: ['192.0.2.1'] })), 7, /192\.0\.2\.1 .*in no pool/);
      await refused(runner.add(ask({ mac: 'ff:ff:ff:ff:ff:ff' })), 7, /mac/);
      const asked = ask({ ips: ['10.90.0.77'], mac: '02:11:22:33:44:55' });
      const { ips, interfaces } = (await runner.add(asked)) as {
        ips: { address: string }[];
        interfaces: { mac: string }[];
      };
      assert.equal(ips[0]?.address, '10.90.0.77/32');
      assert.match(await container.run('ip', 'link', 'show', 'eth0'), /02:11:22:33:44:55/);
      assert.equal(interfaces[1]?.mac, '02:11:22:33:44:55');
      await runner.del(asked);
    });

    it('refuses a namespace that is gone or is the host, and an interface that exists', async () => {
      await using container = testNetns('c');
      const runner = runnerFor(agent, executable);
      const at = (netns: string) => ({ containerId: 'refused', netns });
      await refused(runner.add(at('/run/netns/nonexistent')), 8, /nonexistent/);
      await refused(runner.add(at(agent.host.path)), 8, /host's own/);
      await refused(runner.add(at(work)), 8, /not a network namespace/);
      await container.run('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other');
      const error = await refused(runner.add(at(container.path)), 101, /eth0 exists/);
      assert.equal(error.cniVersion, '1.1.0');
      await runner.del(at(container.path));
      assert.match(await container.run('ip', 'link', 'show', 'eth0'), /other/);
      assert.deepEqual((await agent.report()).used, 0);
    });

    it('answers STATUS, and GC only with a list', async () => {
      await using one = testNetns('c');
      await using two = testNetns('c');
      const runner = runnerFor(agent, executable);
      await runner.status();
      await runner.add({ containerId: 'one', netns: one.path });
      await runner.add({ containerId: 'two', netns: two.path });
      await runner.gc(null);
      assert.equal((await agent.report()).attachments.length, 2);
      rmSync(join(agent.directory, 'cache'), { recursive: true }); // the runtime forgot all: only GC can help
      mkdirSync(join(agent.directory, 'cache'));
      await runner.gc([{ containerId: 'two' }]);
      assert.deepEqual(
        (await agent.report()).attachments.map(([handle]) => handle),
        ['test/two/eth0'],
      );
      await runner.gc([]);
      assert.deepEqual((await agent.report()).interfaces, []);
    });
  });
}

describe('chained before the reference plugins', () => {
  const REFERENCE = '/usr/lib/cni';
  const missing = ['tuning', 'portmap'].filter((type) => !existsSync(join(REFERENCE, type)));
  const skip = missing.length > 0 ? 'containernetworking-plugins is not installed' : false;

  it('hands its result on, and passes CHECK and DEL with them', { skip }, async () => {
    const agent = new TestAgent('10.94.0.0/24');
    try {
      await agent.start();
      await using container = testNetns('c');
      const own = { type: 'brindle-cni', capabilities: { ips: true } };
      const tuning = { type: 'tuning', sysctl: { 'net.ipv4.conf.eth0.arp_notify': '1' } };
      const portmap = { type: 'portmap', capabilities: { portMappings: true } };
      const runnerOf = (...plugins: NetworkList['plugins']): CniRunner =>
        new CniRunner({
          list: { cniVersion: '1.0.0', name: 'chain', plugins },
          path: [PLUGINS.C, REFERENCE],
          cacheDirectory: join(agent.directory, 'cache'),
          environment: { BRINDLE_SOCKET: agent.socket },
          namespace: agent.host.path,
        });
      const attachment = {
        containerId: uniqueName('c'),
        netns: container.path,
        capabilityArgs: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }], ips: ['10.94.0.9'] },
      };
      const runner = runnerOf(own, tuning, portmap);
      const { ips } = (await runner.add(attachment)) as { ips: { address: string }[] };
      assert.equal(ips[0]?.address, '10.94.0.9/32');
      assert.match(await agent.host.run('iptables-save', '-t', 'nat'), /--dport 8080 .*10\.94\.0\.9:80/);
      await agent.host.run(...PING, '10.94.0.9');
      await runnerOf(own, tuning).check(attachment); // portmap 1.1.1 fails its own CHECK: it looks for IPv4 rules in IPv6
      await runner.del(attachment);
      assert.doesNotMatch(await agent.host.run('iptables-save', '-t', 'nat'), /10\.94\.0\.9/);
      assert.deepEqual((await agent.report()).interfaces, []);
    } finally {
      await agent.close();
    }
  });
});

describe('many containers at once', () => {
  const names: string[] = [];
  const namespaces = (count: number): { containerId: string; netns: string }[] =>
    Array.from({ length: count }, () => {
      const containerId = uniqueName('bt-m');
      names.push(containerId);
      return { containerId, netns: createNamedNetns(containerId) };
    });
  const cleanUp = (): void => {
    for (const name of names.splice(0)) deleteNamedNetns(name);
  };

  /** Attachments, addresses and interfaces are those of `running`, and no address is there twice. */
  async function assertAgrees(agent: TestAgent, running: Map<string, string[]>): Promise<void> {
    const { attachments, used, interfaces } = await agent.report();
    const held = new Map(attachments.map(([handle = '', ...addresses]) => [handle.split('/')[1]!, addresses]));
    assert.deepEqual(held, running);
    const addresses = [...running.values()].flat();
    assert.equal(new Set(addresses).size, addresses.length);
    assert.equal(used, addresses.length);
    assert.equal(interfaces.length, running.size);
    const routes = (await agent.host.run('ip', '-4', 'route')).split('\n').filter((line) => line.includes('cali'));
    assert.equal(routes.length, running.size);
  }

  it('200 at once, 20 of the calls killed midway: all agrees', async () => {
    const agent = new TestAgent('10.91.0.0/22', 'fd91::/112');
    try {
      await agent.start();
      const containers = namespaces(200);
      let started = 0;
      const runner = new CniRunner({
        list: LIST,
        path: [PLUGINS.C],
        cacheDirectory: join(agent.directory, 'cache'),
        environment: { BRINDLE_SOCKET: agent.socket },
        namespace: agent.host.path,
        onStart: (pid) => {
          // At a moment that is somewhere between the start and the answer.
          if (started++ % 10 === 3) setTimeout(() => process.kill(pid, 'SIGKILL'), (started % 7) * 3);
        },
      });
      const results = await Promise.allSettled(containers.map((container) => runner.add(container)));
      const quiet = runnerFor(agent, 'C');
      const running = new Map<string, string[]>();
      for (const [i, result] of results.entries()) {
        const container = containers[i]!;
        if (result.status === 'fulfilled') {
          const { ips } = result.value as { ips: { address: string }[] };
          running.set(
            container.containerId,
            ips.map(({ address }) => address.replace(/\/.*/, '')),
          );
        } else {
          assert.match(String(result.reason), /SIGKILL|EPIPE|ESRCH/);
          await quiet.del(container); // as a runtime does after a failed ADD
        }
      }
      assert.ok(running.size >= 180);
      await assertAgrees(agent, running);
      await Promise.all(containers.slice(0, 100).map((container) => quiet.del(container)));
      for (const { containerId } of containers.slice(0, 100)) running.delete(containerId);
      await assertAgrees(agent, running);
    } finally {
      await agent.close();
      cleanUp();
    }
  });

  it('an agent killed in the middle of it, started again: the retries succeed and all agrees', async () => {
    const agent = new TestAgent('10.92.0.0/24', 'fd92::/112');
    try {
      const containers = namespaces(40);
      const running = new Map<string, string[]>();
      const runner = runnerFor(agent, 'C');
      const add = async (container: { containerId: string; netns: string }): Promise<void> => {
        const { ips } = (await runner.add(container)) as { ips: { address: string }[] };
        running.set(
          container.containerId,
          ips.map(({ address }) => address.replace(/\/.*/, '')),
        );
      };
      for (let round = 0; round < 4; round++) {
        await agent.start();
        const some = containers.slice(round * 10, round * 10 + 10);
        const adds = Promise.allSettled(some.map(add));
        const dels = [...running.keys()].slice(0, 3).map((id) => {
          running.delete(id);
          return runner.del({ containerId: id, netns: `/run/netns/${id}` });
        });
        await new Promise((done) => setTimeout(done, 10 + round * 7)); // the moment does not matter, only that they differ
        await agent.kill();
        const outcomes = await adds;
        await Promise.all(dels); // succeed without an agent too
        await agent.start();
        for (const [i, outcome] of outcomes.entries()) {
          if (outcome.status === 'fulfilled') continue;
          assert.ok(outcome.reason instanceof PluginError && outcome.reason.code === 11, String(outcome.reason));
          await runner.del(some[i]!);
          await add(some[i]!);
        }
        await assertAgrees(agent, running);
        await agent.kill();
      }
      assert.ok(!existsSync(`${agent.socket}.spool`) || readdirSync(`${agent.socket}.spool`).length === 0);
    } finally {
      await agent.close();
      cleanUp();
    }
  });
});
