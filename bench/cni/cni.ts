// Whole CNI calls, from the start of the executable to its end: ours against Debian's `ptp` + `host-local`, both started by
// the same small C program, in fresh namespaces, turn about in one run. The floors are for IPv4 alone: with IPv6, ptp waits
// a second and more for duplicate address detection, which is shown but would be too easy to win.
//   cni.ts [--calls N] [--burst N] [--verbs-only] [--profile FILE]
// Prints medians and ratios against the floors, writes results/cni.json, and ends with status 1 below a floor.
// --verbs-only leaves policy, BGP and the store out (test/support/cni-agent.ts). Needs root, iproute2, a C compiler,
// containernetworking-plugins.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { EmbeddedStore } from '#datastore/embedded/store.ts';
import { parseResource } from '#model/registry.ts';
import { createNamedNetns, deleteNamedNetns } from '#sys/netns.ts';
import { type TestNetns, testNetns, uniqueName, until } from '../../test/support/netns.ts';

const root = resolve(import.meta.dirname, '../..');
const { values: flags } = parseArgs({
  options: {
    calls: { type: 'string', default: '60' },
    burst: { type: 'string', default: '100' },
    'verbs-only': { type: 'boolean', default: false },
    profile: { type: 'string' },
  },
});
const CALLS = Number(flags.calls);
const BURST = Number(flags.burst);
/** Endpoints that the agent holds when its memory is read. */
const HELD = 200;
const DUAL_CALLS = 5;
const PTP = '/usr/lib/cni/ptp';
const FLOORS = { addMedian: 0.35, delMedian: 1, burst: 0.5, memoryMiB: 120 };

type Verb = 'ADD' | 'DEL';
interface Container {
  readonly id: string;
  readonly netns: string;
}
interface Call {
  readonly side: Side;
  readonly verb: Verb;
  readonly container: Container;
}

/** One of the two contestants: an executable, its configuration and a host namespace. */
class Side {
  readonly name: string;
  readonly executable: string;
  readonly config: string;
  readonly host: TestNetns;
  socket = '/nonexistent';

  constructor(name: string, executable: string, config: object, host: TestNetns) {
    this.name = name;
    this.executable = executable;
    this.host = host;
    this.config = join(work, `${configs++}.json`);
    writeFileSync(this.config, JSON.stringify(config));
  }
}

const work = mkdtempSync(join(tmpdir(), 'brindle-bench-cni-'));
const launcher = join(work, 'launch');
const made: string[] = [];
let configs = 0;
const hosts: TestNetns[] = [];
const agents: ChildProcess[] = [];

function containers(count: number): Container[] {
  return Array.from({ length: count }, () => {
    const id = uniqueName('bb');
    made.push(id);
    return { id, netns: createNamedNetns(id) };
  });
}

/** Runs calls of one side; milliseconds of each, and of all when in parallel. */
function launch(calls: readonly Call[], parallel: boolean): { each: number[]; total: number } {
  const { side } = calls[0]!;
  const output = (i: number): string => join(work, `out-${i}`);
  const input = calls.map(
    ({ verb, container }, i) =>
      `${side.executable} ${side.config} ${verb} ${container.id} ${container.netns} ${output(i)}\n`,
  );
  const args = [`--net=${side.host.path}`, '--', launcher, ...(parallel ? ['parallel'] : [])];
  const env = { ...process.env, CNI_PATH: '/usr/lib/cni', BRINDLE_SOCKET: side.socket };
  const run = spawnSync('nsenter', args, { input: input.join(''), encoding: 'utf8', env });
  const lines = run.stdout.trim().split('\n');
  const each = calls.map((call, i) => {
    const [status, nanoseconds] = (lines[i] ?? '').split(' ').map(Number);
    if (status !== 0) {
      const said = existsSync(output(i)) ? readFileSync(output(i), 'utf8') : '';
      throw new Error(`${side.name} ${call.verb} ${call.container.id}: status ${status}: ${said || run.stderr}`);
    }
    return nanoseconds! / 1e6;
  });
  return { each, total: parallel ? Number(lines.at(-1)!.split(' ')[1]) / 1e6 : each.reduce((a, b) => a + b, 0) };
}

async function startVerbs(side: Side): Promise<void> {
  const directory = join(work, 'verbs');
  mkdirSync(directory);
  side.socket = join(directory, 'sock');
  const args = [join(root, 'test/support/cni-agent.ts'), directory, '10.70.0.0/16', 'fd70::/64'];
  await startProcess(side, process.execPath, ['--disable-warning=ExperimentalWarning', ...args], 'ready\n');
}

async function startAgent(side: Side): Promise<void> {
  const directory = join(work, 'agent');
  mkdirSync(join(directory, 'run'), { recursive: true });
  mkdirSync(join(directory, 'state'));
  const path = join(directory, 'store.db');
  const store = await EmbeddedStore.open({ path });
  for (const [name, cidr] of [
    ['v4', '10.70.0.0/16'],
    ['v6', 'fd70::/64'],
  ] as const) {
    const pool = { apiVersion: 'projectcalico.org/v3', kind: 'IPPool', metadata: { name }, spec: { cidr } };
    await store.create(parseResource(pool));
  }
  await store.close();
  const config = join(directory, 'brindle.yaml');
  const settings = {
    hostName: 'bench',
    store: { embedded: { path } },
    runDirectory: join(directory, 'run'),
    stateDirectory: join(directory, 'state'),
    logLevel: 'info',
  };
  writeFileSync(config, JSON.stringify(settings)); // JSON is YAML
  side.socket = join(directory, 'run', 'brindle.sock');
  await startProcess(side, join(root, 'bin/brindle'), ['agent', '--config', config], 'in sync');
}

async function startProcess(side: Side, program: string, args: readonly string[], sign: string): Promise<void> {
  const profile = flags.profile === undefined ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${flags.profile}` };
  let said = '';
  const child = spawn('nsenter', [`--net=${side.host.path}`, '--', program, ...args], {
    cwd: root,
    env: { ...process.env, ...profile },
  });
  const hear = (chunk: Buffer): void => {
    said += chunk.toString();
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  agents.push(child);
  try {
    await until('the agent is ready', () => said.includes(sign) || child.exitCode !== null);
    if (child.exitCode !== null) throw new Error('it has ended');
  } catch (error) {
    throw new Error(`the agent did not start: ${said.slice(-2000)}`, { cause: error });
  }
}

/** Resident memory in MiB: nsenter has become the agent. */
function memory(): number {
  const status = readFileSync(`/proc/${agents[0]!.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
}

function quantile(values: readonly number[], q: number): number {
  return values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))]!;
}

/** Turn about, in rounds, so that what else the machine does falls on both. */
function sequential(sides: readonly Side[], lists: readonly Container[][], verb: Verb, calls: number): number[][] {
  const out: number[][] = sides.map(() => []);
  const ROUND = 5;
  for (let i = 0; i < calls; i += ROUND) {
    for (const [s, side] of sides.entries()) {
      const some = lists[s]!.slice(i, i + ROUND).map((container) => ({ side, verb, container }));
      out[s]!.push(...launch(some, false).each);
    }
  }
  return out;
}

async function main(): Promise<boolean> {
  const compiled = spawnSync('cc', ['-O2', '-o', launcher, join(import.meta.dirname, 'launch.c')], {
    encoding: 'utf8',
  });
  if (compiled.status !== 0) throw new Error(`cc: ${compiled.stderr}`);
  if (!existsSync(PTP)) throw new Error(`${PTP} is missing; apt-get install containernetworking-plugins`);
  hosts.push(testNetns('ours'), testNetns('ptp'));
  for (const host of hosts) {
    host.sysctl(['ipv4', 'ip_forward'], 1);
    host.sysctl(['ipv6', 'conf', 'all', 'forwarding'], 1);
  }
  const common = { cniVersion: '1.0.0', name: 'bench' };
  const ownConfig = { ...common, type: 'brindle-cni' };
  const executable = join(root, 'dist/brindle-cni');
  const ours = new Side('brindle', executable, { ...ownConfig, ipam: { assign_ipv4: true } }, hosts[0]!);
  const oursDual = new Side('brindle', executable, ownConfig, hosts[0]!);
  const hostLocal = { type: 'host-local', dataDir: join(work, 'host-local') };
  const v4 = { ...hostLocal, ranges: [[{ subnet: '10.71.0.0/16' }]], routes: [{ dst: '0.0.0.0/0' }] };
  const dual = {
    ...hostLocal,
    ranges: [...v4.ranges, [{ subnet: 'fd71::/64' }]],
    routes: [...v4.routes, { dst: '::/0' }],
  };
  const theirConfig = { ...common, type: 'ptp', ipMasq: false };
  const theirs = new Side('ptp + host-local', PTP, { ...theirConfig, ipam: v4 }, hosts[1]!);
  const theirsDual = new Side('ptp + host-local', PTP, { ...theirConfig, ipam: dual }, hosts[1]!);
  const sides = [ours, theirs];
  await (flags['verbs-only'] ? startVerbs(ours) : startAgent(ours));
  oursDual.socket = ours.socket;

  const lists = sides.map(() => containers(Math.max(CALLS, BURST)));
  // Both warm: first use of modules, caches and tables.
  for (const [s, side] of sides.entries()) {
    for (const verb of ['ADD', 'DEL'] as const) {
      launch(
        lists[s]!.slice(0, 10).map((container) => ({ side, verb, container })),
        false,
      );
    }
  }
  const add = sequential(sides, lists, 'ADD', CALLS);
  const del = sequential(sides, lists, 'DEL', CALLS);
  const both = [oursDual, theirsDual];
  const addDual = sequential(both, lists, 'ADD', DUAL_CALLS);
  const delDual = sequential(both, lists, 'DEL', DUAL_CALLS);
  const burst = sides.map((): number[] => []);
  for (let round = 0; round < 3; round++) {
    for (const [s, side] of sides.entries()) {
      const calls = (verb: Verb) => lists[s]!.slice(0, BURST).map((container) => ({ side, verb, container }));
      burst[s]!.push(launch(calls('ADD'), true).total);
      launch(calls('DEL'), true);
    }
  }
  const held = [...lists[0]!, ...containers(HELD - lists[0]!.length)];
  launch(
    held.map((container) => ({ side: oursDual, verb: 'ADD', container })),
    true,
  );
  const memoryMiB = memory();

  const median = (values: readonly number[]): number => quantile(values, 0.5);
  const pair = (values: readonly number[][]) => ({
    ours: median(values[0]!),
    oursP99: quantile(values[0]!, 0.99),
    theirs: median(values[1]!),
    theirsP99: quantile(values[1]!, 0.99),
    ratio: median(values[0]!) / median(values[1]!),
  });
  const results = {
    add: pair(add),
    del: pair(del),
    burst: pair(burst),
    dualStack: { add: pair(addDual), del: pair(delDual) },
    memoryMiB,
  };
  const rows: [string, string, number, number | null][] = [
    [`ADD, median of ${CALLS}`, describe(results.add), results.add.ratio, FLOORS.addMedian],
    [`DEL, median of ${CALLS}`, describe(results.del), results.del.ratio, FLOORS.delMedian],
    [`${BURST} ADDs at once, median of 3`, describe(results.burst), results.burst.ratio, FLOORS.burst],
    [`ADD of both families, ${DUAL_CALLS}`, describe(results.dualStack.add), results.dualStack.add.ratio, null],
    [`DEL of both families, ${DUAL_CALLS}`, describe(results.dualStack.del), results.dualStack.del.ratio, null],
    [`agent memory with ${HELD} endpoints`, `${memoryMiB.toFixed(0)} MiB`, memoryMiB, FLOORS.memoryMiB],
  ];
  let isGood = true;
  for (const [what, values, value, floor] of rows) {
    const number = value < 10 ? value.toFixed(3) : value.toFixed(0);
    const verdict = floor === null ? '' : ` (at most ${floor}) ${value <= floor ? 'ok' : 'TOO MUCH'}`;
    isGood &&= floor === null || value <= floor;
    console.log(`${what.padEnd(34)} ${values.padEnd(46)} ${number}${verdict}`);
  }
  if (!flags['verbs-only']) {
    const file = resolve(root, 'bench/results/cni.json');
    mkdirSync(resolve(file, '..'), { recursive: true });
    const machine = { cpus: cpus().length, kernel: release(), node: process.version };
    writeFileSync(
      file,
      `${JSON.stringify({ machine, calls: CALLS, burstSize: BURST, floors: FLOORS, ...results }, null, 2)}\n`,
    );
  }
  return isGood;
}

function describe({
  ours,
  theirs,
  oursP99,
  theirsP99,
}: {
  ours: number;
  theirs: number;
  oursP99: number;
  theirsP99: number;
}): string {
  return `${ours.toFixed(1)} (p99 ${oursP99.toFixed(1)}) against ${theirs.toFixed(1)} (p99 ${theirsP99.toFixed(1)}) ms`;
}

try {
  if (!(await main())) process.exitCode = 1;
} finally {
  for (const agent of agents) {
    const ended = new Promise((done) => agent.once('exit', done));
    agent.kill(flags.profile === undefined ? 'SIGKILL' : 'SIGTERM');
    if (agent.exitCode === null) await ended;
  }
  for (const host of hosts) host.close();
  for (const name of made) deleteNamedNetns(name);
  rmSync(work, { recursive: true, force: true });
}
