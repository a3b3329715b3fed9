// Real etcd members for tests (Debian's etcd-server and etcd-client): in temporary folders, on ports of their own or in
// namespaces, gone at the end also when the test fails.
//
//   await using etcd = await startEtcd();     // one member on 127.0.0.1
//   await etcd.ctl('put', 'a', 'b');
import { type ChildProcess, execFile, type ExecFileException, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CommandResult, type TestNetns, until } from './netns.ts';

export interface MemberOptions {
  readonly name?: string;
  /** Where it runs; absent: beside the test, on 127.0.0.1. */
  readonly netns?: TestNetns;
  /** The address it listens on in `netns`. */
  readonly address?: string;
  /** `name=peer URL,...` of all members; absent: a cluster of one. */
  readonly initialCluster?: string;
  readonly folder?: string;
  /** For etcdctl and for clients: http or https. */
  readonly scheme?: 'http' | 'https';
  readonly arguments?: readonly string[];
  /** What etcdctl needs besides the endpoint. */
  readonly ctlArguments?: readonly string[];
}

/** A stopped machine would wait in vain; a busy one needs time. */
export const PATIENCE = 60_000;

const alive = new Set<EtcdMember>();
let guarded = false;

export function hasEtcd(): boolean {
  return ['/usr/bin/etcd', '/usr/sbin/etcd', '/usr/local/bin/etcd'].some((path) => existsSync(path));
}

export class EtcdMember implements AsyncDisposable {
  readonly options: MemberOptions;
  readonly endpoint: string;
  readonly #client: string;
  readonly #peer: string;
  readonly #folder: string;
  #child: ChildProcess | null = null;
  #log = '';

  constructor(options: MemberOptions, client: string, peer: string) {
    this.options = options;
    this.#client = client;
    this.#peer = peer;
    this.#folder = options.folder ?? mkdtempSync(join(tmpdir(), 'brindle-etcd-'));
    this.endpoint = client;
    guard();
    alive.add(this);
  }

  /** What the member has printed. */
  get log(): string {
    return this.#log;
  }

  /** Starts the process; also again, with what it has stored. Does not wait until it serves. */
  start(): void {
    const { name = 'one', netns, initialCluster } = this.options;
    const args = [
      ...['--name', name, '--data-dir', join(this.#folder, 'data')],
      ...['--listen-client-urls', this.#client, '--advertise-client-urls', this.#client],
      ...['--listen-peer-urls', this.#peer, '--initial-advertise-peer-urls', this.#peer],
      ...['--initial-cluster', initialCluster ?? `${name}=${this.#peer}`],
      ...['--logger', 'zap', '--log-level', 'error', '--snapshot-count', '5000'],
      ...(this.options.arguments ?? []),
    ];
    const child = netns ? netns.start('etcd', ...args) : spawn('etcd', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (text: Buffer) => {
        this.#log = (this.#log + text.toString()).slice(-20_000);
      });
    }
    this.#child = child;
  }

  /** Waits until it answers as a member with a leader. */
  async serving(): Promise<void> {
    await until(
      `etcd at ${this.endpoint} serves: ${this.#log}`,
      async () => (await this.tryCtl('endpoint', 'health')).status === 0,
      PATIENCE,
    );
  }

  /** kill -9, and waits until it is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }

  /** Stops it in its tracks (SIGSTOP) or lets it go on. */
  freeze(frozen: boolean): void {
    this.#child?.kill(frozen ? 'SIGSTOP' : 'SIGCONT');
  }

  async ctl(...args: string[]): Promise<string> {
    const result = await this.tryCtl(...args);
    if (result.status === 0) return result.stdout;
    throw new Error(`etcdctl ${args.join(' ')}: status ${result.status}\n${result.stderr}${result.stdout}`);
  }

  tryCtl(...args: string[]): Promise<CommandResult> {
    const all = [
      '--endpoints',
      this.endpoint,
      '--command-timeout',
      '20s',
      ...(this.options.ctlArguments ?? []),
      ...args,
    ];
    const { netns } = this.options;
    if (netns) return netns.tryRun('env', 'ETCDCTL_API=3', 'etcdctl', ...all);
    return new Promise((resolve) => {
      execFile(
        'etcdctl',
        all,
        { env: { ...process.env, ETCDCTL_API: '3' }, timeout: PATIENCE, maxBuffer: 1 << 26 },
        (error: ExecFileException | null, stdout, stderr) => {
          resolve({ status: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr });
        },
      );
    });
  }

  /** Forgets all history, also that of deleted keys. */
  async compact(): Promise<void> {
    const status = JSON.parse(await this.ctl('endpoint', 'status', '--write-out', 'json')) as {
      Status: { header: { revision: number } };
    }[];
    await this.ctl('compact', '--physical', String(status[0]!.Status.header.revision));
  }

  async close(): Promise<void> {
    alive.delete(this);
    await this.kill();
    if (this.options.folder === undefined) rmSync(this.#folder, { recursive: true, force: true });
  }

  killNow(): void {
    this.#child?.kill('SIGKILL');
    if (this.options.folder === undefined) rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** One member beside the test, serving. */
export async function startEtcd(options: MemberOptions = {}): Promise<EtcdMember> {
  const scheme = options.scheme ?? 'http';
  for (let left = 3; ; left--) {
    const [client, peer] = [await freePort(), await freePort()];
    const member = new EtcdMember(options, `${scheme}://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`);
    member.start();
    try {
      await member.serving();
      return member;
    } catch (error) {
      const { log } = member;
      await member.close();
      if (left === 1 || !log.includes('address already in use')) throw error;
    }
  }
}

/** A member in a namespace, at its address, not started. */
export function etcdMember(options: MemberOptions & { netns: TestNetns; address: string }): EtcdMember {
  return new EtcdMember(
    options,
    `${options.scheme ?? 'http'}://${options.address}:2379`,
    `http://${options.address}:2380`,
  );
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

function guard(): void {
  if (guarded) return;
  guarded = true;
  process.once('exit', () => {
    for (const member of alive) member.killNow();
  });
}
