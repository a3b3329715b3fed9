// Docker's driver with the real dockerd (Debian's docker.io): an agent and a dockerd in a network namespace of their own,
// containers from busybox. Needs root, docker.io, busybox-static, iproute2.
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  addAddresses,
  type CommandResult,
  connectNetns,
  type TestNetns,
  testNetns,
  uniqueName,
  until,
} from '../support/netns.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const PATIENCE = 60_000;

interface Daemon {
  readonly process: ChildProcess;
  readonly log: string;
}

/** A machine: a namespace, an agent, a dockerd. The driver is called by a name of its own. */
class Machine {
  readonly driver: string = uniqueName('bt');
  readonly directory: string = mkdtempSync(join(tmpdir(), 'brindle-docker-'));
  readonly host: TestNetns = testNetns('d');
  readonly outside: TestNetns = testNetns('o');
  readonly #config: string = join(this.directory, 'brindle.yaml');
  #agent: Daemon | null = null;
  #dockerd: Daemon | null = null;
  #starts = 0;

  constructor() {
    connectNetns(this.host, this.outside, {
      a: 'up0',
      b: 'eth0',
      aAddresses: ['192.0.2.1/24', '2001:db8::1/64'],
      bAddresses: ['192.0.2.2/24', '2001:db8::2/64'],
    });
    addAddresses(this.host, 1, ['198.51.100.1/32']);
    mkdirSync('/run/docker/plugins', { recursive: true });
    const store = join(this.directory, 'store.db');
    writeFileSync(
      this.#config,
      [
        'hostName: h1',
        `store: {embedded: {path: ${store}}}`,
        `runDirectory: ${this.directory}/run`,
        `stateDirectory: ${this.directory}/state`,
        `docker: {pluginSocket: ${this.pluginSocket}, engineSocket: ${this.engineSocket}}`,
      ].join('\n'),
    );
  }

  get pluginSocket(): string {
    return `/run/docker/plugins/${this.driver}.sock`;
  }

  get engineSocket(): string {
    return join(this.directory, 'docker.sock');
  }

  async prepare(): Promise<void> {
    await this.host.run('ip', 'route', 'add', 'default', 'via', '192.0.2.2');
    await this.host.run('ip', '-6', 'route', 'add', 'default', 'via', '2001:db8::2');
    await this.outside.run('ip', 'route', 'add', '10.244.0.0/16', 'via', '192.0.2.1');
  }

  #start(name: string, command: string, ...args: string[]): Daemon {
    const log = join(this.directory, `${name}-${this.#starts++}.log`);
    const fd = openSync(log, 'w');
    const child = spawn('nsenter', [`--net=${this.host.path}`, '--', command, ...args], { stdio: ['ignore', fd, fd] });
    return { process: child, log };
  }

  async startAgent(): Promise<void> {
    const main = join(ROOT, 'src/cli/main.ts');
    this.#agent = this.#start(
      'agent',
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      main,
      'agent',
      '-c',
      this.#config,
    );
    const { log } = this.#agent;
    await until('the agent is in sync', () => readFileSync(log, 'utf8').includes('in sync'), PATIENCE);
  }

  async startDockerd(liveRestore = true): Promise<void> {
    const at = (name: string): string => join(this.directory, name);
    this.#dockerd = this.#start(
      'dockerd',
      'dockerd',
      ...[
        '--iptables=false',
        '--ip6tables=false',
        '--bridge=none',
        '--storage-driver=vfs',
        `--live-restore=${liveRestore}`,
      ],
      ...['--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('dockerd.pid')],
      ...['--host', `unix://${this.engineSocket}`],
    );
    const { log } = this.#dockerd;
    const answers = async (): Promise<boolean> => (await this.docker('version')).status === 0;
    await until('dockerd answers', answers, PATIENCE).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${readFileSync(log, 'utf8').split('\n').slice(-30).join('\n')}`);
    });
  }

  async stopAgent(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await stop(this.#agent, signal);
    this.#agent = null;
  }

  async stopDockerd(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await stop(this.#dockerd, signal);
    this.#dockerd = null;
  }

  docker(...args: string[]): Promise<CommandResult> {
    return run('/usr/bin/docker', ['-H', `unix://${this.engineSocket}`, ...args]);
  }

  /** Throws what docker says when it fails. */
  async must(...args: string[]): Promise<string> {
    const result = await this.docker(...args);
    assert.equal(result.status, 0, `docker ${args.join(' ')}: ${result.stderr}\n${this.#agentLog()}`);
    return result.stdout.trim();
  }

  #agentLog(): string {
    return this.#agent ? readFileSync(this.#agent.log, 'utf8').split('\n').slice(-15).join('\n') : '';
  }

  brindle(...args: string[]): Promise<CommandResult> {
    const main = join(ROOT, 'src/cli/main.ts');
    return run(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args], {
      BRINDLE_CONFIG: this.#config,
    });
  }

  async apply(manifest: string): Promise<void> {
    const file = join(this.directory, 'manifest.yaml');
    writeFileSync(file, manifest);
    const { status, stderr } = await this.brindle('apply', '-f', file);
    assert.equal(status, 0, stderr);
  }

  async importImage(): Promise<void> {
    const root = join(this.directory, 'rootfs');
    mkdirSync(join(root, 'bin'), { recursive: true });
    execFileSync('cp', ['/bin/busybox', join(root, 'bin/busybox')]);
    for (const name of ['sh', 'ping', 'sleep', 'ip', 'nc']) symlinkSync('busybox', join(root, 'bin', name));
    const tar = join(this.directory, 'image.tar');
    execFileSync('tar', ['-C', root, '-cf', tar, '.']);
    await this.must('import', tar, 'busy');
  }

  async address(container: string, network: string, key = 'IPAddress'): Promise<string> {
    return this.must('inspect', '-f', `{{(index .NetworkSettings.Networks "${network}").${key}}}`, container);
  }

  /** Whether the container reaches the address; asked for a while until it is as expected. */
  async reaches(container: string, address: string, expected: boolean): Promise<void> {
    const what = `${container} ${expected ? 'reaches' : 'does not reach'} ${address}`;
    const ping = async (): Promise<boolean> =>
      (await this.docker('exec', container, 'ping', '-c1', '-W1', address)).status === 0;
    await until(what, async () => (await ping()) === expected, PATIENCE).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.#agentLog()}`);
    });
  }

  async interfaces(): Promise<string[]> {
    const text = await this.host.run('ip', '-o', 'link');
    return [...text.matchAll(/^\d+: ([^:@]+)/gm)].map((match) => match[1]!).filter((name) => /^(cali|brin)/.test(name));
  }

  async close(): Promise<void> {
    if (this.#dockerd) {
      const { stdout } = await this.docker('ps', '-aq');
      const ids = stdout.split('\n').filter((id) => id !== '');
      if (ids.length > 0) await this.docker('rm', '-f', ...ids);
    }
    await this.stopDockerd();
    await this.stopAgent();
    killShims(this.directory);
    this.outside.close();
    this.host.close();
    rmSync(this.pluginSocket, { force: true });
    if (process.env['KEEP']) return;
    try {
      execFileSync('sh', ['-c', `grep -o '${this.directory}[^ ]*' /proc/mounts | sort -r | xargs -r -n1 umount -l`]);
    } finally {
      rmSync(this.directory, { recursive: true, force: true });
    }
  }
}

function run(
  program: string,
  args: readonly string[],
  environment: Record<string, string> = {},
): Promise<CommandResult> {
  return new Promise((done) => {
    execFile(
      program,
      [...args],
      { timeout: 90_000, env: { ...process.env, ...environment } },
      (error, stdout, stderr) => {
        const code = error ? error.code : 0;
        done({ status: typeof code === 'number' ? code : -1, stdout, stderr });
      },
    );
  });
}

/** Containers, and what watches over them, of a dockerd that has ended without them. */
function killShims(directory: string): void {
  const children = (pid: string): string[] =>
    readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .split(' ')
      .filter((text) => text !== '');
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory)) continue;
      for (const each of [...children(pid), pid]) process.kill(Number(each), 'SIGKILL');
    } catch {
      // it has ended
    }
  }
}

async function stop(daemon: Daemon | null, signal: NodeJS.Signals): Promise<void> {
  if (!daemon || daemon.process.exitCode !== null || daemon.process.signalCode !== null) return;
  const ended = new Promise((done) => daemon.process.once('exit', done));
  daemon.process.kill(signal);
  await ended;
}

const policy = (selector: string, from: string): string => `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  selector: ${selector}
  types: [Ingress]
  ingress: [{action: Allow, source: {selector: "${from}"}}]
`;

describe('Docker', { skip: existsSync('/usr/sbin/dockerd') ? false : 'docker.io is not installed' }, () => {
  let machine: Machine;
  const net = 'fabric';

  before(async () => {
    machine = new Machine();
    await machine.prepare();
    await machine.startAgent();
    await machine.apply(`
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: containers}
spec: {cidr: 10.244.0.0/16, blockSize: 26}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: containers6}
spec: {cidr: "fd00:10:244::/48", blockSize: 122}
`);
    await machine.startDockerd();
    await machine.importImage();
  });

  after(() => machine.close());

  const runContainer = (name: string, ...more: string[]): Promise<string> =>
    machine.must('run', '-d', '--name', name, '--network', net, ...more, 'busy', '/bin/sleep', '100000');

  it('gives a container its /32, with the link-local gateway', async () => {
    await machine.must('network', 'create', '-d', machine.driver, '--ipam-driver', machine.driver, net);
    await runContainer('ca', '--label', 'app=client');
    await runContainer('cb', '--label', 'app=web');
    const a = await machine.address('ca', net);
    assert.match(a, /^10\.244\./);
    assert.match(await machine.must('exec', 'ca', 'ip', 'addr', 'show', 'eth0'), new RegExp(`inet ${a}/32`));
    const routes = await machine.must('exec', 'ca', 'ip', 'route');
    assert.match(routes, /default via 169\.254\.1\.1 dev eth0/);
    assert.match(await machine.host.run('ip', 'route', 'show', a), new RegExp(`${a} dev cali`));
    assert.deepEqual(
      (await machine.interfaces()).filter((name) => name.startsWith('brin')),
      [],
    );
  });

  it('lets containers of a network, the host and the outside reach each other', async () => {
    const [a, b] = [await machine.address('ca', net), await machine.address('cb', net)];
    await machine.reaches('ca', b, true);
    await machine.reaches('cb', a, true);
    await machine.reaches('ca', '198.51.100.1', true);
    await machine.reaches('ca', '192.0.2.2', true);
    assert.equal((await machine.outside.tryRun('busybox', 'ping', '-c3', '-W5', b)).status, 0);
  });

  it('shows containers by the name that people know, with their labels', async () => {
    const { stdout } = await machine.brindle('get', 'workloadendpoints', '-A', '-o', 'yaml');
    assert.match(stdout, /workload: ca\n/);
    assert.match(stdout, /app: client/);
    assert.match(stdout, /name: h1-docker-cb-fabric\n/);
  });

  it('applies policy by the labels of containers', async () => {
    await runContainer('cc', '--label', 'app=other');
    const b = await machine.address('cb', net);
    await machine.apply(policy("app == 'web'", "app == 'client'"));
    await machine.reaches('cc', b, false);
    await machine.reaches('ca', b, true);
  });

  it('keeps containers over a restart of the agent, also a hard one', async () => {
    const b = await machine.address('cb', net);
    await machine.stopAgent('SIGKILL');
    assert.equal((await machine.docker('exec', 'ca', 'ping', '-c3', '-W5', b)).status, 0, 'without an agent');
    await machine.startAgent();
    await machine.reaches('ca', b, true);
    await machine.reaches('cc', b, false);
    await runContainer('cd', '--label', 'app=client');
    await machine.reaches('cd', b, true);
    assert.notEqual(await machine.address('cd', net), b);
    await machine.must('rm', '-f', 'cd');
  });

  it('keeps containers over a restart of dockerd with live-restore, and lets go of them after it', async () => {
    const b = await machine.address('cb', net);
    await machine.stopDockerd();
    await machine.startDockerd();
    assert.equal(await machine.address('cb', net), b);
    await machine.reaches('ca', b, true);
    await machine.must('rm', '-f', 'cc');
    await until('two interfaces are left', async () => (await machine.interfaces()).length === 2, PATIENCE);
  });

  it('honours --ip, and refuses an address that is taken', async () => {
    const narrow = 'narrow';
    await machine.must(
      ...['network', 'create', '-d', machine.driver, '--ipam-driver', machine.driver],
      ...['--subnet', '10.244.0.0/16', narrow],
    );
    const with_ = ['run', '-d', '--network', narrow, '--ip', '10.244.77.7'];
    await machine.must(...with_, '--name', 'ce', 'busy', '/bin/sleep', '100000');
    assert.equal(await machine.address('ce', narrow), '10.244.77.7');
    const second = await machine.docker(...with_, '--name', 'cf', 'busy', '/bin/sleep', '100000');
    assert.notEqual(second.status, 0);
    assert.match(second.stderr, /10\.244\.77\.7 cannot be had|10\.244\.77\.7 is held/);
    await machine.must('rm', '-f', 'ce', 'cf');
    await machine.must('network', 'rm', narrow);
  });

  it('gives IPv6 addresses with --ipv6', async () => {
    const both = 'both';
    await machine.must('network', 'create', '--ipv6', '-d', machine.driver, '--ipam-driver', machine.driver, both);
    await machine.must('run', '-d', '--name', 'cg', '--network', both, 'busy', '/bin/sleep', '100000');
    await machine.must('run', '-d', '--name', 'ch', '--network', both, 'busy', '/bin/sleep', '100000');
    const h = await machine.address('ch', both, 'GlobalIPv6Address');
    assert.match(h, /^fd00:10:244:/);
    await machine.reaches('cg', h, true);
    await machine.reaches('cg', '2001:db8::1', true);
    await machine.must('rm', '-f', 'cg', 'ch');
    await machine.must('network', 'rm', both);
  });

  it('refuses by name what it does not support', async () => {
    const refused = async (pattern: RegExp, ...args: string[]): Promise<void> => {
      const result = await machine.docker(...args);
      assert.notEqual(result.status, 0, args.join(' '));
      assert.match(result.stderr, pattern);
    };
    const create = ['network', 'create', '-d', machine.driver];
    const ours = [...create, '--ipam-driver', machine.driver];
    const subnet = ['--subnet', '10.244.0.0/16'];
    await refused(/--internal is not supported/, ...ours, '--internal', 'x');
    await refused(/--gateway 10\.244\.0\.1 is not supported/, ...ours, ...subnet, '--gateway', '10.244.0.1', 'x');
    await refused(/--ip-range is not supported/, ...ours, ...subnet, '--ip-range', '10.244.1.0/24', 'x');
    await refused(/--aux-address .* is not supported/, ...ours, ...subnet, '--aux-address', 'r=10.244.9.9', 'x');
    await refused(/-o colour is not supported/, ...ours, '-o', 'colour=red', 'x');
    await refused(/--ipam-driver brindle/, ...create, '--subnet', '10.99.0.0/16', 'x');
    await refused(/subnet 10\.99\.0\.0\/16 is not an IPPool/, ...ours, '--subnet', '10.99.0.0/16', 'x');
    await refused(
      /publishing ports/,
      'run',
      '--rm',
      '-p',
      '8080:80',
      '--network',
      net,
      'busy',
      '/bin/sh',
      '-c',
      'true',
    );
  });

  it('ends and starts containers with a dockerd that stops, without live-restore', async () => {
    await machine.stopDockerd();
    await machine.startDockerd(false);
    await runContainer('ci', '--restart', 'always', '--stop-timeout', '1');
    await machine.stopDockerd();
    await machine.startDockerd(false);
    const running = async (): Promise<boolean> =>
      (await machine.docker('inspect', '-f', '{{.State.Running}}', 'ci')).stdout.trim() === 'true';
    await until('the container runs again', running, PATIENCE);
    await machine.reaches('ci', '192.0.2.2', true);
    await machine.must('rm', '-f', 'ci');
  });

  it('serves ten containers at once', async () => {
    const names = Array.from({ length: 10 }, (_, i) => `many${i}`);
    await Promise.all(names.map((name) => runContainer(name)));
    const addresses = await Promise.all(names.map((name) => machine.address(name, net)));
    assert.equal(new Set(addresses).size, names.length);
    for (const [i, address] of addresses.entries())
      await machine.reaches(names[(i + 1) % names.length]!, address, true);
    await machine.must('rm', '-f', ...names);
  });

  it('leaves nothing', async () => {
    await machine.must('rm', '-f', 'ca', 'cb');
    const { stdout: left } = await machine.docker('ps', '-aq');
    for (const id of left.split('\n').filter((line) => line !== '')) await machine.must('rm', '-f', id);
    await machine.must('network', 'rm', net);
    await until('no interface is left', async () => (await machine.interfaces()).length === 0, PATIENCE);
    await until(
      'no endpoint is left',
      async () =>
        !/orchestrator: docker/.test((await machine.brindle('get', 'workloadendpoints', '-A', '-o', 'yaml')).stdout),
      PATIENCE,
    );
    assert.doesNotMatch(await machine.host.run('ip', 'route'), /cali/);
    const file = readFileSync(join(machine.directory, 'state/docker-networks.json'), 'utf8');
    assert.deepEqual(JSON.parse(file), { version: 1, networks: [] });
    const { stdout } = await machine.brindle('ipam', 'show', '--ip', '10.244.77.7');
    assert.doesNotMatch(stdout, /docker\//);
  });
});
