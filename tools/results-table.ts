// Writes the "Measured" table of README.md from bench/results, so that no figure is typed by hand. With `--check` it writes
// nothing and fails when the README is not what it would write.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '..');
const README = `${ROOT}/README.md`;
const BEGIN = '<!-- results: written by tools/results-table.ts -->';
const END = '<!-- end of results -->';

interface Cni {
  readonly add: { readonly ratio: number };
  readonly del: { readonly ratio: number };
  readonly burst: { readonly ratio: number };
  readonly memoryMiB: number;
}

interface Bgp {
  readonly results: readonly {
    readonly workload: string;
    readonly speaker: string;
    readonly announceSeconds: number;
    readonly withdrawSeconds: number | null;
    readonly peakMegabytes: number;
  }[];
}

const WORKLOADS: Readonly<Record<string, string>> = {
  'pass-100k': '100 000 routes from one peer to another',
  'pass-500k': '500 000 routes from one peer to another',
  'pass-500k-v6': 'the same, IPv6',
  'fan-out': '10 000 routes to 200 peers',
  reflector: 'a reflector with 1 000 clients, from cold',
};

function read(name: string): unknown {
  const path = `${ROOT}/bench/results/${name}.json`;
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as unknown) : null;
}

function ratio(value: number): string {
  return `${value.toFixed(value < 0.1 ? 3 : 2)}x`;
}

function rows(): string[][] {
  const out: string[][] = [];
  const cni = read('cni') as Cni | null;
  if (cni) {
    const peer = "Debian's ptp + host-local";
    out.push(['CNI ADD, whole process, median', ratio(cni.add.ratio), peer, '`make bench-cni`']);
    out.push(['CNI DEL', ratio(cni.del.ratio), peer, '']);
    out.push(['100 ADDs at once', ratio(cni.burst.ratio), peer, '']);
  }
  const bgp = read('bgp') as Bgp | null;
  for (const [workload, text] of Object.entries(WORKLOADS)) {
    const of = (speaker: string) => bgp?.results.find((r) => r.workload === workload && r.speaker === speaker);
    const [ours, bird, frr] = [of('brindle'), of('bird'), of('frr')];
    if (!ours || !bird?.announceSeconds) continue;
    const announce = ratio(ours.announceSeconds / bird.announceSeconds);
    const withdraw =
      ours.withdrawSeconds && bird.withdrawSeconds
        ? `, withdrawn ${ratio(ours.withdrawSeconds / bird.withdrawSeconds)}`
        : '';
    const memory = frr ? `; memory ${ratio(ours.peakMegabytes / frr.peakMegabytes)} of FRR's` : '';
    out.push([
      `BGP: ${text}`,
      `${announce}${withdraw}${memory}`,
      'BIRD 2',
      out.some((r) => r[3]?.includes('bgp')) ? '' : '`make bench-bgp`',
    ]);
  }
  return out;
}

function section(): string {
  const table = [['what', 'time, as a ratio', 'of', 'script'], ['---', '---', '---', '---'], ...rows()];
  return `${BEGIN}\n${table.map((row) => `| ${row.join(' | ')} |`).join('\n')}\n${END}`;
}

const text = readFileSync(README, 'utf8');
const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
if (begin < 0 || end < begin) throw new Error(`README.md has no ${BEGIN} ... ${END}`);
const wanted = text.slice(0, begin) + section() + text.slice(end + END.length);
if (!process.argv.includes('--check')) writeFileSync(README, wanted);
else if (wanted !== text) {
  console.error('README.md: the results are not those of bench/results; run tools/results-table.ts');
  process.exit(1);
} else console.log('results: as measured');
