// BGP benchmarks against Debian's BIRD, FRR and GoBGP: every speaker gets the same load in namespaces of its own, one
// after the other in one run, and the ratio to BIRD is printed. Needs root, gcc, bird2, frr, gobgpd.
// Usage: node bench/bgp/run.ts [--only brindle,bird] [--loads pass-100k,fan-out] [--repeat N] [--no-save]
// The load generator is one C process (load.c); its own processor time is printed, so that one sees it is not the limit.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { parseArgs } from 'node:util';
import { type BenchPeer, type Dut, DUTS, type Setup } from './duts.ts';
import { announcementsOf, announcements, withdrawals, withdrawalsOf } from './load.ts';

const ADDRESS = '10.66.255.1';
const LIMIT_SECONDS = 150;

interface Workload {
  readonly name: string;
  readonly title: string;
  readonly family: 4 | 6;
  readonly prefixes: number;
  /** Speakers left out, as they would take minutes. */
  readonly without?: readonly string[];
  readonly build: (dir: string) => { peers: readonly BenchPeer[]; lines: readonly string[] };
}

function peerAddress(index: number): string {
  return `10.66.${1 + Math.floor(index / 200)}.${1 + (index % 200)}`;
}

function fileOf(dir: string, name: string, octets: Uint8Array): string {
  const path = join(dir, name);
  writeFileSync(path, octets);
  return path;
}

/** One external peer announces, `receivers` others are told. */
function passThrough(family: 4 | 6, prefixes: number, sets: number, receivers: number): Workload['build'] {
  return (dir) => {
    const kind = family === 4 ? 'ipv4' : 'ipv6';
    const nextHop = family === 4 ? peerAddress(0) : 'fd00:66::1:1';
    const announce = fileOf(dir, 'announce', announcements(kind, prefixes, sets, 65001, nextHop));
    const withdraw = fileOf(dir, 'withdraw', withdrawals(kind, prefixes));
    const peers: BenchPeer[] = [{ address: peerAddress(0), asNumber: 65001, client: false }];
    const lines = [`peer ${peerAddress(0)} 65001 1 0 ${announce} ${withdraw}`];
    for (let i = 1; i <= receivers; i++) {
      peers.push({ address: peerAddress(i), asNumber: 65002, client: false });
      lines.push(`peer ${peerAddress(i)} 65002 ${i + 1} ${prefixes} - -`);
    }
    return { peers, lines };
  };
}

/** A route reflector: every client announces a few prefixes and is told everybody else's. */
function reflector(clients: number, each: number): Workload['build'] {
  return (dir) => {
    const peers: BenchPeer[] = [];
    const lines: string[] = [];
    for (let i = 0; i < clients; i++) {
      const address = peerAddress(i);
      const announce = fileOf(dir, `announce${i}`, announcementsOf(i * each, each, address));
      const withdraw = fileOf(dir, `withdraw${i}`, withdrawalsOf(i * each, each));
      peers.push({ address, asNumber: 64512, client: true });
      lines.push(`peer ${address} 64512 ${i + 1} ${(clients - 1) * each} ${announce} ${withdraw}`);
    }
    return { peers, lines };
  };
}

const WORKLOADS: readonly Workload[] = [
  {
    name: 'pass-100k',
    title: 'pass-through, 100 000 prefixes',
    family: 4,
    prefixes: 100_000,
    build: passThrough(4, 100_000, 1000, 1),
  },
  {
    name: 'pass-500k',
    title: 'pass-through, 500 000 prefixes',
    family: 4,
    prefixes: 500_000,
    without: ['gobgp'],
    build: passThrough(4, 500_000, 1000, 1),
  },
  {
    name: 'pass-500k-v6',
    title: 'pass-through, 500 000 IPv6 prefixes',
    family: 6,
    prefixes: 500_000,
    without: ['gobgp'],
    build: passThrough(6, 500_000, 1000, 1),
  },
  {
    name: 'fan-out',
    title: 'fan-out, 10 000 prefixes to 200 receivers',
    family: 4,
    prefixes: 10_000,
    without: ['gobgp'],
    build: passThrough(4, 10_000, 100, 200),
  },
  {
    name: 'reflector',
    title: 'reflector, 1 000 clients with 4 prefixes each',
    family: 4,
    prefixes: 4000,
    without: ['gobgp'],
    build: reflector(1000, 4),
  },
];

interface Phase {
  readonly phase: string;
  readonly seconds: number;
  readonly generatorProcessor?: number;
  readonly error?: string;
}

interface Result {
  readonly workload: string;
  readonly speaker: string;
  readonly announceSeconds: number | null;
  readonly withdrawSeconds: number | null;
  /** Processor seconds of the speaker. */
  readonly announceProcessor: number | null;
  readonly withdrawProcessor: number | null;
  readonly generatorProcessor: number | null;
  readonly peakMegabytes: number | null;
  readonly error?: string;
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: 'pipe' });
}

/** Two namespaces joined by a veth pair; the load's side has an address for every peer. */
class Namespaces {
  readonly dut = `bb${process.pid}d`;
  readonly load = `bb${process.pid}l`;

  constructor(peers: readonly BenchPeer[]) {
    this.remove();
    ip('netns', 'add', this.dut);
    ip('netns', 'add', this.load);
    ip('-n', this.dut, 'link', 'add', 'dut', 'type', 'veth', 'peer', 'name', 'load', 'netns', this.load);
    for (const [ns, link] of [
      [this.dut, 'dut'],
      [this.load, 'load'],
    ] as const) {
      ip('-n', ns, 'link', 'set', 'lo', 'up');
      ip('-n', ns, 'link', 'set', link, 'up');
    }
    ip('-n', this.dut, 'addr', 'add', `${ADDRESS}/16`, 'dev', 'dut');
    ip('-n', this.dut, '-6', 'addr', 'add', 'fd00:66::255:1/64', 'dev', 'dut', 'nodad');
    const batch = peers.map((p) => `addr add ${p.address}/16 dev load`).join('\n');
    execFileSync('ip', ['-n', this.load, '-batch', '-'], { input: `${batch}\n`, stdio: ['pipe', 'pipe', 'pipe'] });
    ip('-n', this.load, '-6', 'addr', 'add', 'fd00:66::1:1/64', 'dev', 'load', 'nodad');
  }

  remove(): void {
    for (const ns of [this.dut, this.load]) {
      try {
        ip('netns', 'del', ns);
      } catch {
        // not there
      }
    }
  }
}

/** Processor seconds used so far by a process and its threads. */
function processorOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function peakOf(pid: number): number {
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1000;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((done) => child.once('close', done));
}

async function phases(lines: Interface, child: ChildProcess, onPhase: (phase: Phase) => void): Promise<void> {
  const next = (): void => void child.stdin?.write('\n');
  for await (const line of lines) {
    const phase = JSON.parse(line) as Phase;
    onPhase(phase);
    if (phase.error === undefined && phase.phase !== 'withdraw') next();
  }
}

async function measure(dut: Dut, workload: Workload, loader: string): Promise<Result> {
  const dir = mkdtempSync(join(tmpdir(), 'brindle-bench-'));
  const { peers, lines } = workload.build(dir);
  const namespaces = new Namespaces(peers);
  const setup: Setup = {
    dir,
    address: ADDRESS,
    asNumber: workload.name === 'reflector' ? 64512 : 65000,
    family: workload.family,
    peers,
  };
  const config = fileOf(
    dir,
    'load.conf',
    Buffer.from(`${[`target ${ADDRESS} 179 ${workload.family} ${workload.prefixes}`, ...lines].join('\n')}\n`),
  );
  const [program, ...args] = dut.command(setup);
  const speaker = spawn('ip', ['netns', 'exec', namespaces.dut, program!, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  for (const stream of [speaker.stdout, speaker.stderr])
    stream.on('data', (d: Buffer) => (log = (log + d.toString()).slice(-4000)));
  const load = spawn('ip', ['netns', 'exec', namespaces.load, loader, config, String(LIMIT_SECONDS)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  load.stdin.on('error', () => {}); // it may have ended
  load.stderr.on('data', (d: Buffer) => (log = (log + d.toString()).slice(-4000)));
  const seen: Partial<Record<string, Phase & { processor: number }>> = {};
  let before = 0;
  let peak: number | null = null;
  try {
    await phases(createInterface({ input: load.stdout }), load, (phase) => {
      const used = processorOf(speaker.pid!);
      seen[phase.phase] = { ...phase, processor: used - before };
      before = used;
      peak = peakOf(speaker.pid!);
    });
  } catch (error) {
    log += String(error);
  } finally {
    speaker.kill('SIGKILL');
    load.kill('SIGKILL');
    await Promise.all([ended(speaker), ended(load)]);
    namespaces.remove();
    rmSync(dir, { recursive: true, force: true });
  }
  const { announce, withdraw } = seen;
  const failed = !announce || announce.error !== undefined || !withdraw || withdraw.error !== undefined;
  return {
    workload: workload.name,
    speaker: dut.name,
    announceSeconds: announce?.seconds ?? null,
    withdrawSeconds: withdraw?.seconds ?? null,
    announceProcessor: announce?.processor ?? null,
    withdrawProcessor: withdraw?.processor ?? null,
    generatorProcessor: announce?.generatorProcessor ?? null,
    peakMegabytes: peak,
    ...(failed && { error: log.trim().split('\n').slice(-5).join(' | ') || JSON.stringify(announce) || 'no answer' }),
  };
}

function compile(): string {
  const out = join(mkdtempSync(join(tmpdir(), 'brindle-load-')), 'load');
  execFileSync('gcc', ['-O2', '-Wall', '-o', out, join(import.meta.dirname, 'load.c')], { stdio: 'inherit' });
  return out;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

/** The run with the median announcement time stands for several. */
function typical(results: readonly Result[]): Result {
  const good = results.filter((r) => r.error === undefined);
  if (good.length === 0) return results[0]!;
  const middle = median(good.map((r) => r.announceSeconds!));
  return good.find((r) => r.announceSeconds === middle)!;
}

function report(workload: Workload, results: readonly Result[]): void {
  const base = results.find((r) => r.speaker === 'bird' && r.error === undefined);
  const ratio = (mine: number | null, theirs: number | null | undefined): string =>
    mine === null || !theirs ? '' : ` (${(mine / theirs).toFixed(2)}x)`;
  const cell = (value: number | null, theirs: number | null | undefined, digits = 3): string =>
    `${value === null ? '-' : value.toFixed(digits)}${ratio(value, theirs)}`.padEnd(18);
  console.log(`\n${workload.title}  (ratios to BIRD; seconds, processor seconds, MB)`);
  console.log(
    `${''.padEnd(10)}${['announce', 'processor', 'withdraw', 'processor', 'peak memory'].map((t) => t.padEnd(18)).join('')}generator`,
  );
  for (const r of results) {
    console.log(
      r.speaker.padEnd(10) +
        cell(r.announceSeconds, base?.announceSeconds) +
        cell(r.announceProcessor, base?.announceProcessor, 2) +
        cell(r.withdrawSeconds, base?.withdrawSeconds) +
        cell(r.withdrawProcessor, base?.withdrawProcessor, 2) +
        cell(r.peakMegabytes, base?.peakMegabytes, 0) +
        (r.generatorProcessor?.toFixed(2) ?? '-') +
        (r.error === undefined ? '' : `  ${r.error}`),
    );
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      loads: { type: 'string' },
      repeat: { type: 'string' },
      'no-save': { type: 'boolean' },
    },
  });
  const only = values.only?.split(',');
  const loads = values.loads?.split(',');
  const repeat = Number(values.repeat ?? 1);
  const loader = compile();
  const all: Result[] = [];
  for (const workload of WORKLOADS) {
    if (loads && !loads.includes(workload.name)) continue;
    const results: Result[] = [];
    for (const dut of DUTS) {
      if (only ? !only.includes(dut.name) : workload.without?.includes(dut.name)) continue;
      const [program] = dut.command({ dir: tmpdir(), address: ADDRESS, asNumber: 1, family: 4, peers: [] });
      if (!existsSync(program!)) {
        console.log(`${dut.name}: ${program} is not installed`);
        continue;
      }
      const runs: Result[] = [];
      for (let i = 0; i < repeat; i++) runs.push(await measure(dut, workload, loader));
      results.push(typical(runs));
    }
    report(workload, results);
    all.push(...results);
  }
  rmSync(resolve(loader, '..'), { recursive: true, force: true });
  if (values['no-save']) return;
  const out = join(import.meta.dirname, '../results');
  mkdirSync(out, { recursive: true });
  const machine = {
    processor: cpus()[0]?.model ?? '',
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    loadAverage: loadavg(),
  };
  writeFileSync(
    join(out, 'bgp.json'),
    `${JSON.stringify({ when: new Date().toISOString(), machine, results: all }, null, 2)}\n`,
  );
}

await main();
