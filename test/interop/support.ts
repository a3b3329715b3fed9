// Peers for the interop tests: our speaker, BIRD, FRR's bgpd and GoBGP, each in a namespace of its own, and waiting for
// conditions. Needs root and the Debian packages bird2, frr, gobgpd. Everything made here goes with its owner.
import { type ChildProcess, execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { ApiClient } from '#agent/api/client.ts';
import type { ExplainView, PeerDetail, PeerSummary, RoutesAnswer, RouteView, SpeakerStatus } from '#bgp/speaker/api.ts';
import { connectNetns, type TestNetns, testNetns } from '../support/netns.ts';

const exec = promisify(execFile);
const ROOT = resolve(import.meta.dirname, '../..');

/** Polls until `check` gives something other than false, null or undefined. The error says what was seen last. */
export async function until<T>(
  what: string,
  check: () => Promise<T | false | null | undefined> | T | false | null | undefined,
  seconds = 20,
): Promise<T> {
  const end = performance.now() + seconds * 1000;
  let last: unknown;
  for (;;) {
    try {
      const value = await check();
      if (value !== false && value !== null && value !== undefined) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${what}; last: ${String(last)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** A stage for one test: two or more namespaces on one link each to the first. Closes all. */
export class Stage implements AsyncDisposable {
  readonly us: TestNetns;
  readonly directory: string;
  readonly #others: TestNetns[] = [];
  readonly #processes: Stoppable[] = [];

  constructor() {
    this.us = testNetns('us');
    this.directory = mkdtempSync(join(tmpdir(), 'brindle-interop-'));
    chmodSync(this.directory, 0o755);
  }

  /** A namespace linked to ours: we are 10.9.N.1 and fd09:N::1, it is .2 and ::2. Interfaces `ethN` and `eth0`. */
  neighbour(): { namespace: TestNetns; ours: string; theirs: string; ours6: string; theirs6: string } {
    const n = this.#others.length + 1;
    const namespace = testNetns(`p${n}`);
    this.#others.push(namespace);
    connectNetns(this.us, namespace, {
      a: `eth${n}`,
      b: 'eth0',
      aAddresses: [`10.9.${n}.1/24`, `fd09:${n}::1/64`],
      bAddresses: [`10.9.${n}.2/24`, `fd09:${n}::2/64`],
    });
    return { namespace, ours: `10.9.${n}.1`, theirs: `10.9.${n}.2`, ours6: `fd09:${n}::1`, theirs6: `fd09:${n}::2` };
  }

  async speaker(yaml: string): Promise<OurSpeaker> {
    const speaker = new OurSpeaker(this, yaml);
    this.#processes.push(speaker);
    await speaker.start();
    return speaker;
  }

  async bird(namespace: TestNetns, config: string): Promise<Bird> {
    const bird = new Bird(this, namespace, config, `bird${this.#processes.length}`);
    this.#processes.push(bird);
    await bird.start();
    return bird;
  }

  async frr(namespace: TestNetns, config: string): Promise<Frr> {
    const frr = new Frr(this, namespace, config, `frr${this.#processes.length}`);
    this.#processes.push(frr);
    await frr.start();
    return frr;
  }

  async gobgp(namespace: TestNetns, config: string): Promise<GoBgp> {
    const gobgp = new GoBgp(this, namespace, config, `gobgp${this.#processes.length}`);
    this.#processes.push(gobgp);
    await gobgp.start();
    return gobgp;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#processes) process.kill('SIGKILL');
    for (const namespace of [this.us, ...this.#others]) namespace.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

interface Stoppable {
  kill(signal: NodeJS.Signals): void;
}

/** Starts a command in a namespace; its output is kept for error messages. */
class Daemon {
  output = '';
  child: ChildProcess | null = null;

  /** `nsenter` replaces itself by the command, so a signal to the child reaches it. */
  run(namespace: TestNetns, command: string, ...args: string[]): void {
    const child = namespace.start(command, ...args);
    const keep = (chunk: Buffer): void => {
      this.output = (this.output + chunk.toString()).slice(-20_000);
    };
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    this.child = child;
  }

  async ended(): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise((done) => child.once('exit', done));
  }
}

export class OurSpeaker {
  readonly api: ApiClient;
  readonly #stage: Stage;
  readonly #file: string;
  readonly #socket: string;
  readonly #daemon = new Daemon();

  constructor(stage: Stage, yaml: string) {
    this.#stage = stage;
    this.#file = join(stage.directory, 'speaker.yaml');
    this.#socket = join(stage.directory, 'speaker.sock');
    this.api = new ApiClient(this.#socket);
    this.#write(yaml);
  }

  get output(): string {
    return this.#daemon.output;
  }

  #write(yaml: string): void {
    writeFileSync(this.#file, `${yaml}\napi: ${this.#socket}\n`);
  }

  async start(): Promise<void> {
    rmSync(this.#socket, { force: true });
    const main = join(ROOT, 'src/cli/main.ts');
    this.#daemon.run(this.#stage.us, process.execPath, main, 'speaker', '-f', this.#file);
    await until(`the speaker answers; it said: ${this.output}`, () => this.status());
  }

  kill(signal: NodeJS.Signals): void {
    this.#daemon.child?.kill(signal);
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    this.kill(signal);
    await this.#daemon.ended();
  }

  /** A changed file, taken up while it runs. */
  reload(yaml: string): void {
    this.#write(yaml);
    this.kill('SIGHUP');
  }

  status(): Promise<SpeakerStatus> {
    return this.api.json('/v1/bgp/status');
  }

  peers(): Promise<PeerSummary[]> {
    return this.api.json('/v1/bgp/peers');
  }

  peer(name: string): Promise<PeerDetail> {
    return this.api.json(`/v1/bgp/peers/${name}`);
  }

  route(prefix: string): Promise<RouteView> {
    return this.api.json(`/v1/bgp/route?prefix=${encodeURIComponent(prefix)}`);
  }

  explain(prefix: string, peer: string): Promise<ExplainView[]> {
    return this.api.json(`/v1/bgp/explain?prefix=${encodeURIComponent(prefix)}&peer=${peer}`);
  }

  async routes(query = 'view=best'): Promise<RoutesAnswer['paths']> {
    return (await this.api.json<RoutesAnswer>(`/v1/bgp/routes?${query}`)).paths;
  }

  /** Sorted prefixes of a view. */
  async prefixes(query = 'view=best'): Promise<string[]> {
    return [...new Set((await this.routes(query)).map((p) => p.prefix))].toSorted();
  }

  established(name: string, seconds = 20): Promise<PeerDetail> {
    return until(
      `session ${name} is established`,
      async () => {
        const peer = await this.peer(name);
        return peer.state === 'established' && peer;
      },
      seconds,
    );
  }
}

export interface BirdRoute {
  readonly prefix: string;
  readonly protocol: string;
  readonly best: boolean;
  /** `BGP.as_path` and the like, without `BGP.`. */
  readonly attributes: Readonly<Record<string, string>>;
}

export class Bird {
  readonly #stage: Stage;
  readonly #namespace: TestNetns;
  readonly #base: string;
  readonly #daemon = new Daemon();

  constructor(stage: Stage, namespace: TestNetns, config: string, name: string) {
    this.#stage = stage;
    this.#namespace = namespace;
    this.#base = join(this.#stage.directory, name);
    writeFileSync(`${this.#base}.conf`, `log stderr all;\nprotocol device {}\n${config}\n`);
  }

  get output(): string {
    return this.#daemon.output;
  }

  async start(): Promise<void> {
    const base = this.#base;
    rmSync(`${base}.ctl`, { force: true });
    this.#daemon.run(
      this.#namespace,
      'bird',
      '-f',
      '-R',
      '-c',
      `${base}.conf`,
      '-s',
      `${base}.ctl`,
      '-P',
      `${base}.pid`,
    );
    await until(`BIRD answers; it said: ${this.output}`, async () =>
      (await this.birdc('show status')).includes('BIRD'),
    );
  }

  kill(signal: NodeJS.Signals): void {
    this.#daemon.child?.kill(signal);
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    this.kill(signal);
    await this.#daemon.ended();
  }

  async birdc(command: string): Promise<string> {
    const { stdout } = await exec(
      'birdc',
      ['-r', '-s', `${this.#base}.ctl`, ...command.split(' ')].filter((w) => w !== '-r'),
    );
    return stdout;
  }

  /** The routes of one protocol, or all. */
  async routes(protocol?: string): Promise<BirdRoute[]> {
    return parseBirdRoutes(await this.birdc(`show route all${protocol === undefined ? '' : ` protocol ${protocol}`}`));
  }

  async prefixes(protocol: string): Promise<string[]> {
    return [...new Set((await this.routes(protocol)).map((r) => r.prefix))].toSorted();
  }

  async isUp(protocol: string): Promise<boolean> {
    return (await this.birdc(`show protocols ${protocol}`)).includes('Established');
  }
}

/** Reads `show route all`. */
export function parseBirdRoutes(text: string): BirdRoute[] {
  const routes: { prefix: string; protocol: string; best: boolean; attributes: Record<string, string> }[] = [];
  let prefix = '';
  for (const line of text.split('\n')) {
    const head = /^(\S*\/\d+)?\s+(?:unicast|blackhole|unreachable|recursive).*\[(\S+) [^\]]*\](\s+\*)?/.exec(line);
    if (head) {
      prefix = head[1] ?? prefix;
      routes.push({ prefix, protocol: head[2]!, best: head[3] !== undefined, attributes: {} });
      continue;
    }
    const attribute = /^\tBGP\.([a-z_ ]+):\s*(.*)$/.exec(line);
    const last = routes.at(-1);
    if (attribute && last) last.attributes[attribute[1]!] = attribute[2]!.trim();
  }
  return routes;
}

export class Frr {
  readonly #namespace: TestNetns;
  readonly #base: string;
  readonly #daemon = new Daemon();

  constructor(stage: Stage, namespace: TestNetns, config: string, name: string) {
    this.#namespace = namespace;
    this.#base = join(stage.directory, name);
    writeFileSync(`${this.#base}.conf`, `${config}\n`);
  }

  get output(): string {
    return this.#daemon.output;
  }

  async start(): Promise<void> {
    const base = this.#base;
    await exec('mkdir', ['-p', base]);
    const args = ['-Z', '-S', '-n', '-f', `${base}.conf`, '-i', `${base}.pid`, '--vty_socket', base, '-P', '0'];
    this.#daemon.run(this.#namespace, '/usr/lib/frr/bgpd', ...args);
    await until(`bgpd answers; it said: ${this.output}`, async () =>
      (await this.vtysh('show version')).includes('FRR'),
    );
  }

  kill(signal: NodeJS.Signals): void {
    this.#daemon.child?.kill(signal);
  }

  async vtysh(command: string): Promise<string> {
    const { stdout } = await exec('vtysh', ['--vty_socket', this.#base, '-d', 'bgpd', '-c', command]);
    return stdout;
  }

  async json(command: string): Promise<Record<string, never>> {
    return JSON.parse(await this.vtysh(`${command} json`)) as Record<string, never>;
  }

  /** The paths of each prefix, as `show bgp ... json` has them. */
  async routes(family: 'ipv4' | 'ipv6'): Promise<Record<string, FrrPath[]>> {
    const answer = (await this.json(`show bgp ${family} unicast`)) as unknown as { routes?: Record<string, FrrPath[]> };
    return answer.routes ?? {};
  }
}

export interface FrrPath {
  readonly valid?: boolean;
  readonly bestpath?: boolean;
  readonly path?: string;
  readonly peerId?: string;
  readonly nexthops?: readonly { readonly ip: string; readonly scope?: string }[];
}

export class GoBgp {
  readonly #namespace: TestNetns;
  readonly #base: string;
  readonly #daemon = new Daemon();

  constructor(stage: Stage, namespace: TestNetns, config: string, name: string) {
    this.#namespace = namespace;
    this.#base = join(stage.directory, name);
    writeFileSync(`${this.#base}.toml`, `${config}\n`);
  }

  get output(): string {
    return this.#daemon.output;
  }

  async start(): Promise<void> {
    this.#daemon.run(this.#namespace, 'gobgpd', '-f', `${this.#base}.toml`, '--log-level', 'warn');
    await until(`gobgpd answers; it said: ${this.output}`, async () => (await this.gobgp('global')).includes('AS'));
  }

  kill(signal: NodeJS.Signals): void {
    this.#daemon.child?.kill(signal);
  }

  async gobgp(...args: string[]): Promise<string> {
    return this.#namespace.run('gobgp', ...args);
  }

  /** Prefixes of the global table. */
  async prefixes(family: 'ipv4' | 'ipv6'): Promise<string[]> {
    const text = await this.gobgp('global', 'rib', '-a', family, '-j');
    return Object.keys(JSON.parse(text) as object).toSorted();
  }
}

/** What a process printed into a file. */
export function contents(path: string): string {
  return readFileSync(path, 'utf8');
}
