// Real packets between network namespaces (traffic.c does the sending), in rounds: many probes at once, each expected to be
// answered or not. In: ends and flows. Out: what became of each.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const SOURCE = resolve(import.meta.dirname, 'traffic.c');
const TCP = 6;
const UDP = 17;
/** Source ports and identifiers begin here, each used once, so that no packet belongs to a connection of an earlier probe. */
const FIRST_ID = 30_000;
const LAST_ID = 65_000;
/** What should be answered may take this long on a loaded machine, in ms. */
const PATIENCE = 20_000;
/** What should not be is waited for this long after all others were answered, in ms. */
const SILENCE = 150;

export interface Probe {
  /** Path of the namespace. */
  readonly from: string;
  readonly to: string;
  /** null: as the routes say. */
  readonly source: string | null;
  readonly destination: string;
  readonly protocol: number;
  readonly port: number | null;
  readonly sourcePort: number | null;
  readonly icmp: { readonly type: number; readonly code: number | null } | null;
  readonly expected: 'open' | 'silent';
}

export class Traffic {
  readonly #process: ChildProcess;
  readonly #namespaces = new Map<string, number>();
  readonly #listeners = new Set<string>();
  readonly #waiting = new Map<string, (word: string) => void>();
  #nextId = FIRST_ID;
  #syncs = 0;
  #trouble = '';

  private constructor(child: ChildProcess) {
    this.#process = child;
    child.stderr!.on('data', (chunk: Buffer) => {
      this.#trouble += chunk.toString();
    });
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const [id = '', word = ''] = line.split(' ');
      this.#waiting.get(id)?.(word);
    });
    child.once('exit', () => {
      for (const told of this.#waiting.values()) told('ended');
    });
  }

  /** Compiles the program into the directory and starts it. */
  static start(directory: string): Traffic {
    const program = join(directory, 'traffic');
    const { status, stderr } = spawnSync('cc', ['-O2', '-o', program, SOURCE], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`cc traffic.c: ${stderr}`);
    return new Traffic(spawn(program, { stdio: ['pipe', 'pipe', 'pipe'] }));
  }

  /** Sends all probes at once; returns what became of each: `open`, `closed`, `unreachable`, `silent`, or `busy` (not sent). */
  async round(probes: readonly Probe[]): Promise<string[]> {
    for (const { to, protocol, port } of probes) this.#listen(to, protocol, port ?? 0);
    await this.#sync();
    // What should stay silent goes first, so that it has had the most time when the others are answered.
    const order = [...probes.keys()].sort((a, b) => rank(probes[a]!) - rank(probes[b]!));
    const results: string[] = probes.map(() => 'silent');
    const ids: string[] = [];
    let open = probes.filter(({ expected }) => expected === 'open').length;
    const answered = Promise.withResolvers<void>();
    if (open === 0) answered.resolve();
    for (const i of order) {
      const probe = probes[i]!;
      const id = this.#id();
      ids.push(id);
      this.#waiting.set(id, (word) => {
        if (results[i] === 'silent' && probe.expected === 'open' && --open === 0) answered.resolve();
        results[i] = word;
      });
      const { source, destination, protocol, port, sourcePort, icmp } = probe;
      const ports = `${sourcePort ?? id} ${port ?? 0} ${icmp?.type ?? 8} ${icmp?.code ?? 0}`;
      this.#say(`probe ${id} ${this.#index(probe.from)} ${protocol} ${source ?? '-'} ${destination} ${ports}`);
    }
    const patience = setTimeout(() => answered.resolve(), PATIENCE);
    await answered.promise;
    clearTimeout(patience);
    await this.#sync();
    if (probes.some(({ expected }) => expected === 'silent')) await sleep(SILENCE);
    await this.#sync();
    for (const id of ids) {
      this.#waiting.delete(id);
      this.#say(`drop ${id}`);
    }
    if (this.#trouble !== '') throw new Error(this.#trouble);
    return results;
  }

  /** A TCP connection to an echo server that stays open. Throws when there is no answer in time. */
  async connect(from: string, to: string, destination: string, port: number): Promise<Connection> {
    this.#listen(to, TCP, port);
    await this.#sync();
    const id = this.#id();
    const words: string[] = [];
    let told = (): void => {};
    this.#waiting.set(id, (word) => {
      words.push(word);
      told();
    });
    const next = async (limit: number): Promise<string | null> => {
      if (words.length === 0) {
        const { promise, resolve } = Promise.withResolvers<void>();
        told = resolve;
        const timer = setTimeout(resolve, limit);
        await promise;
        clearTimeout(timer);
      }
      return words.shift() ?? null;
    };
    this.#say(`connect ${id} ${this.#index(from)} - ${destination} ${id} ${port}`);
    const word = await next(PATIENCE);
    if (word !== 'open') throw new Error(`${from} to ${destination} port ${port}: ${word ?? 'no answer'}`);
    return {
      echo: async (limit = PATIENCE) => {
        this.#say(`say ${id}`);
        return (await next(limit)) === 'echo';
      },
      send: () => this.#say(`say ${id}`),
      answered: async (limit) => (await next(limit)) === 'echo',
      close: () => this.#say(`drop ${id}`),
    };
  }

  stop(): void {
    this.#process.stdin!.end();
    this.#process.kill('SIGKILL');
  }

  /** A namespace that has gone; another may come under its path. */
  forget(path: string): void {
    this.#namespaces.delete(path);
  }

  #listen(path: string, protocol: number, port: number): void {
    const number = protocol === TCP || protocol === UDP ? port : 0;
    const order = `listen ${this.#index(path)} ${protocol} ${number}`;
    if (this.#listeners.has(order)) return;
    this.#listeners.add(order);
    this.#say(order);
  }

  #index(path: string): number {
    const known = this.#namespaces.get(path);
    if (known !== undefined) return known;
    const index = this.#indexes++;
    this.#namespaces.set(path, index);
    this.#say(`ns ${index} ${path}`);
    return index;
  }

  #indexes = 0;

  #id(): string {
    const id = this.#nextId;
    this.#nextId = id === LAST_ID ? FIRST_ID : id + 1;
    return String(id);
  }

  async #sync(): Promise<void> {
    const name = `s${this.#syncs++}`;
    await new Promise<void>((done) => {
      this.#waiting.set(name, () => done());
      this.#say(`sync ${name}`);
      if (this.#process.exitCode !== null) done();
    });
    this.#waiting.delete(name);
  }

  #say(line: string): void {
    this.#process.stdin!.write(`${line}\n`);
  }
}

export interface Connection {
  /** Sends an octet; whether it came back within `limit` ms. */
  echo(limit?: number): Promise<boolean>;
  send(): void;
  /** Whether an octet comes back within `limit` ms. */
  answered(limit: number): Promise<boolean>;
  close(): void;
}

function rank({ expected }: Probe): number {
  return expected === 'silent' ? 0 : 1;
}
