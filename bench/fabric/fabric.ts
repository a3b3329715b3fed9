// How fast a fabric converges, in the lab with 3, 10 and 50 hosts below one BIRD router:
//   full mesh       from the start of all agents at once until every session of every agent is established
//   known block     from CNI ADD's answer until the other hosts reach the container; its block was announced before
//   new block       the same, where the ADD had to lease and announce a block of its own (pools of single addresses)
// The two latter are the time of the last of the asking hosts, each sending an echo request every millisecond.
// All hosts share this machine's cores, so this is an upper bound for a real fabric.
// Usage: node bench/fabric/fabric.ts [--hosts 3,10,50] [--samples 100] [--output bench/results/fabric.json]
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import type { AgentStatus } from '#agent/api/types.ts';
import { agentApi } from '#lab/hosts.ts';
import { namespacePath } from '#lab/kernel.ts';
import { down, Lab } from '#lab/lab.ts';
import { PingStream } from '#lab/probe.ts';
import { until } from '#lab/processes.ts';
import { defaultTopology, type Topology } from '#lab/topology.ts';

// The agents are those that are shipped, from `make build`, and not the source.
process.env['BRINDLE_SOURCE'] = '0';
const NAME = `bench-${process.pid.toString(36)}`;
const REACH_LIMIT_MS = 60_000;
const MESH_LIMIT_MS = 300_000;
/** Hosts that ask for a new container at once; more would measure the asking. */
const ASKING = 8;

interface Distribution {
  readonly samples: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

interface Run {
  readonly hosts: number;
  readonly sessions: number;
  /** Milliseconds, all of them. */
  readonly fullMesh: number;
  readonly knownBlock: Distribution;
  readonly newBlock: Distribution;
}

const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: '3,10,50' },
    samples: { type: 'string', default: '100' },
    output: { type: 'string', default: `${import.meta.dirname}/../results/fabric.json` },
  },
});

function distribution(values: readonly number[]): Distribution {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    round(sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)]!);
  return { samples: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

/** Waits for the sessions of one agent after the other: whose sessions stand is not asked again. */
async function waitMesh(lab: Lab): Promise<number> {
  let sessions = 0;
  for (const host of lab.plan.hosts) {
    const api = agentApi(lab.state, host.spec.name);
    const wanted = lab.plan.hosts.length - 1 + 2 * host.interfaces.length;
    const done = await until(MESH_LIMIT_MS, async () => {
      const { bgp } = await api.json<AgentStatus>('/v1/status');
      return bgp.established === wanted ? true : null;
    });
    if (!done) throw new Error(`${host.spec.name} has not all of its ${wanted} sessions`);
    sessions += wanted;
  }
  return sessions;
}

/** Milliseconds from ADD's answer until the last of the asking hosts has an answer. */
async function addAndReach(lab: Lab, index: number): Promise<number> {
  const { hosts } = lab.plan;
  const home = hosts[index % hosts.length]!;
  const others = hosts.filter((host) => host !== home);
  const step = Math.max(1, Math.floor(others.length / ASKING));
  const asking = others.filter((_, i) => i % step === 0).slice(0, ASKING);
  const { container } = await lab.run(home.spec.name, { name: `c${index}` });
  const streams = asking.map((host) => new PingStream(namespacePath(host.namespace), container.addresses[0]!, 1));
  const timer = AbortSignal.timeout(REACH_LIMIT_MS);
  const late = Promise.withResolvers<never>();
  timer.addEventListener('abort', () => late.reject(new Error(`c${index} is not reachable`)));
  try {
    return Math.max(...(await Promise.race([Promise.all(streams.map((stream) => stream.first())), late.promise])));
  } finally {
    await Promise.all(streams.map((stream) => stream.stop(0)));
  }
}

async function reachTimes(lab: Lab, first: number, samples: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < samples; i++) times.push(await addAndReach(lab, first + i));
  return times;
}

async function measure(hosts: number, samples: number): Promise<Run> {
  const plain = defaultTopology({ hosts, router: 'bird' });
  let started = 0;
  const up = async (topology: Topology): Promise<{ lab: Lab; sessions: number; fullMesh: number }> => {
    const lab = await Lab.up({
      name: NAME,
      topology,
      progress: (step) => {
        // The agents are started right after the store has been filled.
        if (step === 'store') started = performance.now();
      },
    });
    const sessions = await waitMesh(lab);
    return { lab, sessions, fullMesh: performance.now() - started };
  };
  try {
    const { lab, sessions, fullMesh } = await up(plain);
    await reachTimes(lab, 0, hosts); // each host leases its block
    const knownBlock = distribution(await reachTimes(lab, hosts, samples));
    await down(NAME);

    const pools = plain.pools.map((pool) => ({ ...pool, blockSize: pool.cidr.includes(':') ? 128 : 32 }));
    const single = await up({ ...plain, pools });
    const newBlock = distribution(await reachTimes(single.lab, 0, samples));
    return { hosts, sessions, fullMesh: round(fullMesh), knownBlock, newBlock };
  } finally {
    await down(NAME);
  }
}

const runs: Run[] = [];
const samples = Number(values.samples);
console.log('hosts  sessions  full mesh      known block p50 / p99      new block p50 / p99');
for (const hosts of values.hosts.split(',').map(Number)) {
  const run = await measure(hosts, samples);
  runs.push(run);
  const pair = ({ p50, p99 }: Distribution): string => `${p50.toFixed(1)} / ${p99.toFixed(1)} ms`;
  console.log(
    `${String(hosts).padStart(5)}  ${String(run.sessions).padStart(8)}  ${run.fullMesh.toFixed(0).padStart(6)} ms` +
      `  ${pair(run.knownBlock).padStart(24)}  ${pair(run.newBlock).padStart(23)}`,
  );
}
const result = {
  benchmark: 'fabric',
  date: new Date().toISOString(),
  machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, kernel: release(), node: process.version },
  unit: 'milliseconds',
  runs,
};
mkdirSync(dirname(values.output), { recursive: true });
writeFileSync(values.output, `${JSON.stringify(result, null, 2)}\n`);
