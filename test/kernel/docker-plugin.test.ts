// Docker's driver on the real kernel: the calls on the plugin socket in the order in which dockerd makes them, to a real
// agent in a namespace, with a stand-in for Docker's API that answers when the test lets it. Needs root, iproute2, busybox.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createServer, request, type Server } from 'node:http';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { addAddresses, type TestNetns, testNetns, until } from '../support/netns.ts';

const MAIN = resolve(import.meta.dirname, '../../src/cli/main.ts');
const NODE = [process.execPath, '--disable-warning=ExperimentalWarning'] as const;
const NET = 'a'.repeat(64);
const PATIENCE = 30_000;

class World implements AsyncDisposable {
  readonly directory: string = mkdtempSync(join(tmpdir(), 'brindle-plugin-'));
  readonly host: TestNetns = testNetns('p');
  readonly container: TestNetns = testNetns('c');
  /** What Docker's API answers. */
  containers: object[] = [];
  questions = 0;
  #agent: ChildProcess | null = null;
  #starts = 0;
  readonly #engine: Server;

  constructor() {
    addAddresses(this.host, 1, ['192.0.2.1/32']);
    this.#engine = createServer((_, response) => {
      this.questions++;
      response.end(JSON.stringify(this.containers));
    }).listen(join(this.directory, 'docker.sock'));
    writeFileSync(
      this.config,
      [
        'hostName: h1',
        `store: {embedded: {path: ${this.directory}/store.db}}`,
        `runDirectory: ${this.directory}/run`,
        `stateDirectory: ${this.directory}/state`,
        `docker: {pluginSocket: ${this.directory}/plugin.sock, engineSocket: ${this.directory}/docker.sock}`,
      ].join('\n'),
    );
    const pool = join(this.directory, 'pool.yaml');
    const spec = '{cidr: 10.244.0.0/16, blockSize: 26}';
    writeFileSync(pool, `{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: p}, spec: ${spec}}`);
    const [program, ...flags] = [...NODE, MAIN, 'apply', '-f', pool];
    execFileSync(program, flags, { env: { ...process.env, BRINDLE_CONFIG: this.config }, stdio: 'pipe' });
  }

  get config(): string {
    return join(this.directory, 'brindle.yaml');
  }

  async start(): Promise<void> {
    const log = join(this.directory, `agent-${this.#starts++}.log`);
    const fd = openSync(log, 'w');
    const args = [`--net=${this.host.path}`, '--', ...NODE, MAIN, 'agent', '-c', this.config];
    this.#agent = spawn('nsenter', args, { stdio: ['ignore', fd, fd] });
    await until('the agent is in sync', () => readFileSync(log, 'utf8').includes('in sync'), PATIENCE);
  }

  async kill(): Promise<void> {
    const agent = this.#agent;
    this.#agent = null;
    if (!agent || agent.exitCode !== null || agent.signalCode !== null) return;
    const ended = new Promise((done) => agent.once('exit', done));
    agent.kill('SIGKILL');
    await ended;
  }

  async call(method: string, body: object): Promise<Record<string, unknown>> {
    const socketPath = join(this.directory, 'plugin.sock');
    return new Promise((done, fail) => {
      const call = request({ socketPath, path: `/${method}`, method: 'POST' }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on('end', () => {
          if (response.statusCode === 200) done(JSON.parse(text) as Record<string, unknown>);
          else fail(new Error(`${method}: ${text}`));
        });
      });
      call.on('error', fail);
      call.end(JSON.stringify(body));
    });
  }

  /** What libnetwork does with the answer of Join. */
  async moveIn(source: string, address: string): Promise<void> {
    const name = this.container.path.split('/').at(-1)!;
    await this.host.run('ip', 'link', 'set', source, 'netns', name);
    const inside = (...args: string[]): Promise<string> => this.container.run('ip', ...args);
    await inside('link', 'set', source, 'name', 'eth0');
    await inside('addr', 'add', address, 'dev', 'eth0');
    await inside('link', 'set', 'eth0', 'up');
    await inside('route', 'add', '169.254.1.1', 'dev', 'eth0');
    await inside('route', 'add', 'default', 'via', '169.254.1.1');
    // The host has no default route here, so it does not answer for the gateway.
    await inside('neigh', 'replace', '169.254.1.1', 'lladdr', 'ee:ee:ee:ee:ee:ee', 'dev', 'eth0');
  }

  async reachesHost(): Promise<boolean> {
    return (await this.container.tryRun('busybox', 'ping', '-c1', '-W1', '192.0.2.1')).status === 0;
  }

  async left(): Promise<string> {
    const links = await this.host.run('ip', '-o', 'link');
    const routes = await this.host.run('ip', 'route');
    return [...links.split('\n'), ...routes.split('\n')].filter((line) => /cali|brin/.test(line)).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    this.#engine.closeAllConnections();
    this.#engine.close();
    this.container.close();
    this.host.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

describe("Docker's driver on the kernel", () => {
  it('keeps a container closed until it is known, through a kill of the agent at every step', async () => {
    await using w = new World();
    await w.start();
    const id = { NetworkID: NET, EndpointID: 'b'.repeat(64) };
    const pool = await w.call('IpamDriver.RequestPool', { AddressSpace: 'BrindleLocal', V6: false });
    const IPv4Data = [{ Pool: pool['Pool'], Gateway: '0.0.0.0/0' }];
    await w.call('NetworkDriver.CreateNetwork', { NetworkID: NET, Options: {}, IPv4Data });
    const { Address } = await w.call('IpamDriver.RequestAddress', { PoolID: pool['PoolID'] });
    await w.kill();
    await w.start();
    await w.call('NetworkDriver.CreateEndpoint', { ...id, Interface: { Address } });
    await w.kill();
    await w.start();
    const joined = await w.call('NetworkDriver.Join', { ...id, SandboxKey: w.container.path });
    const { SrcName } = joined['InterfaceName'] as { SrcName: string };
    await w.kill();
    await w.start();
    // dockerd never had the answer, so it asks again, and gets the same.
    assert.deepEqual(await w.call('NetworkDriver.Join', { ...id, SandboxKey: w.container.path }), joined);
    await w.moveIn(SrcName, String(Address));
    await until('Docker is asked', () => w.questions > 0, PATIENCE);
    assert.equal(await w.reachesHost(), false, 'nobody knows whose it is');
    await w.kill();
    await w.start();
    assert.equal(await w.reachesHost(), false, 'still nobody knows');
    await assert.rejects(w.call('NetworkDriver.Join', { ...id, SandboxKey: w.container.path }), /has joined/);
    w.containers = [
      { Id: 'c0', Names: ['/web'], Labels: {}, NetworkSettings: { Networks: { n: { EndpointID: id.EndpointID } } } },
    ];
    await until('it is open', () => w.reachesHost(), PATIENCE);
    await w.kill();
    const asked = w.questions;
    await w.start();
    await until('it is open after a restart', () => w.reachesHost(), PATIENCE);
    assert.equal(w.questions, asked, 'what is known is not asked again');
    assert.match(await w.host.run('ip', 'route', 'show', String(Address)), /dev cali/);

    await w.call('NetworkDriver.Leave', id);
    await w.call('NetworkDriver.DeleteEndpoint', id);
    await w.call('IpamDriver.ReleaseAddress', { PoolID: pool['PoolID'], Address });
    await w.call('NetworkDriver.DeleteNetwork', { NetworkID: NET });
    assert.equal(await w.left(), '');
    const again = await w.call('IpamDriver.RequestAddress', { PoolID: pool['PoolID'], Address });
    assert.equal(again['Address'], Address, 'the address is free again');
  });
});
