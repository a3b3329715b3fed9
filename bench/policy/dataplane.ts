// What one change costs in the policy dataplane with a whole host's policy in force: straight over netlink against the same through
// libnftables, turn about in one run, in a namespace of its own.
//   dataplane.ts [--endpoints N] [--changes N]
// Prints medians in milliseconds and ratios, writes results/policy-dataplane.json. Needs root and libnftables.
import { mkdirSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Dataplane } from '#dataplane/dataplane.ts';
import type { AbstractRule, DesiredUpdate } from '#model/desired.ts';
import { LibnftablesDriver } from '#nft/libnftables-driver.ts';
import { NetlinkNftDriver } from '#nft/netlink/netlink-driver.ts';
import { Libnftables } from '#sys/libnftables.ts';
import { createNamedNetns, deleteNamedNetns, namedNetnsPath, withNetns } from '#sys/netns.ts';

const { values: flags } = parseArgs({
  options: { endpoints: { type: 'string', default: '1000' }, changes: { type: 'string', default: '30' } },
});
const ENDPOINTS = Number(flags.endpoints);
const CHANGES = Number(flags.changes);
const MEMBERS_A_SET = 10;

const ALLOW: AbstractRule = { action: 'allow', index: 0, source: {}, destination: {} };

function policy(n: number, port: number): DesiredUpdate {
  const rule = (index: number, protocol: 'tcp' | 'udp'): AbstractRule => ({
    ...{ action: 'allow', index, protocol, source: { sets: [`s:${n}`] } },
    destination: { ports: [{ min: port, max: port }] },
  });
  const id = `NetworkPolicy/bench/p${n}`;
  return { type: 'policy', policy: { id, tier: 'default', ingress: [rule(0, 'tcp'), rule(1, 'udp')], egress: [] } };
}

function endpoint(n: number): DesiredUpdate {
  const ingress = [`NetworkPolicy/bench/p${n % ENDPOINTS}`];
  return {
    type: 'endpoint',
    endpoint: {
      id: `bench/e${n}`,
      kind: 'workload',
      interfaceName: `cali${n}`,
      addresses: [],
      tiers: [{ name: 'default', defaultAction: 'deny', ingress, egress: [] }],
      profiles: ['Profile/kns.bench'],
    },
  };
}

function* everything(): Generator<DesiredUpdate> {
  yield { type: 'policy', policy: { id: 'Profile/kns.bench', tier: '', ingress: [ALLOW], egress: [ALLOW] } };
  for (let n = 0; n < ENDPOINTS; n++) {
    const members = Array.from({ length: MEMBERS_A_SET }, (_, i) => `10.${n >> 8}.${n & 255}.${i}`);
    yield { type: 'set', set: { id: `s:${n}`, type: 'net', members: new Set(members) } };
    yield policy(n, 80);
    yield endpoint(n);
  }
  yield { type: 'in-sync' };
}

const CASES: Record<string, (i: number) => DesiredUpdate> = {
  'endpoint added': (i) => endpoint(ENDPOINTS + i),
  'endpoint removed': (i) => ({ type: 'endpoint-removed', id: `bench/e${ENDPOINTS + i}` }),
  'set member added': (i) => ({ type: 'set-delta', delta: { id: 's:5', added: [`10.250.0.${i}`], removed: [] } }),
  'policy changed': (i) => policy(i, 81),
};

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

const namespace = `bb${process.pid.toString(36)}`;
createNamedNetns(namespace);
try {
  const path = namedNetnsPath(namespace);
  const sides = [
    { name: 'netlink', driver: NetlinkNftDriver.open({ netns: path }) },
    { name: 'libnftables', driver: withNetns(path, () => new LibnftablesDriver(Libnftables.open())) },
  ].map(({ name, driver }) => ({
    name,
    dataplane: new Dataplane({ driver, render: { table: name } }),
    times: new Map<string, number[]>(),
  }));
  for (const side of sides) {
    await side.dataplane.start();
    side.times.set('cold start', [await timed(() => side.dataplane.apply([...everything()]))]);
  }
  for (const [name, change] of Object.entries(CASES)) {
    for (let i = 0; i < CHANGES; i++) {
      for (const { dataplane, times } of sides) {
        const list = times.get(name) ?? [];
        list.push(await timed(() => dataplane.apply([change(i)])));
        times.set(name, list);
      }
    }
  }
  for (const { dataplane, times } of sides) times.set('all counters read', [await timed(() => dataplane.counters())]);
  for (const { dataplane } of sides) await dataplane.stop();

  const [netlink, library] = sides;
  const results = [...netlink!.times].map(([name, values]) => {
    const [ours, theirs] = [median(values), median(library!.times.get(name) ?? [])];
    return { name, netlinkMs: ours, libnftablesMs: theirs, ratio: ours / theirs };
  });
  console.log(
    `${ENDPOINTS} endpoints, ${ENDPOINTS} policies with a set each, kernel ${release()}; medians of ${CHANGES}`,
  );
  for (const { name, netlinkMs, libnftablesMs, ratio } of results) {
    console.log(
      `${name.padEnd(18)} netlink ${netlinkMs.toFixed(2).padStart(8)} ms   ` +
        `libnftables ${libnftablesMs.toFixed(2).padStart(8)} ms   ratio ${ratio.toFixed(3)}`,
    );
  }
  const directory = resolve(import.meta.dirname, '../results');
  mkdirSync(directory, { recursive: true });
  const record = { date: new Date().toISOString(), kernel: release(), endpoints: ENDPOINTS, changes: CHANGES, results };
  writeFileSync(`${directory}/policy-dataplane.json`, `${JSON.stringify(record, null, 2)}\n`);
} finally {
  deleteNamedNetns(namespace);
}
