// Who reaches whom: every container (and router) asked for every container, both IP versions, and the answers as a
// table. The asking is bounded in width, since a small server takes only a few new connections at a time.
import { BrindleError } from '#base/errors.ts';
import { namespacePath } from './kernel.ts';
import type { Lab } from './lab.ts';
import { type Outcome, probePing, probeTcp } from './probe.ts';
import type { ContainerFile } from './state.ts';
import { table } from './status.ts';

export interface MatrixOptions {
  /** TCP port; null: ICMP echo. */
  readonly port: number | null;
  /** Milliseconds after which no answer counts as none. */
  readonly limit?: number;
}

export interface Cell {
  readonly from: string;
  readonly to: string;
  readonly ipv4: Outcome | null;
  /** Null when one of the two has no address of that version. */
  readonly ipv6: Outcome | null;
}

export interface Matrix {
  readonly port: number | null;
  readonly from: readonly string[];
  readonly to: readonly string[];
  readonly cells: readonly Cell[];
  readonly milliseconds: number;
}

interface Source {
  readonly name: string;
  readonly namespace: string;
}

const LIMIT_MS = 1000;
/** Questions under way at once, in all and to one container. */
const WIDTH = 512;
const WIDTH_PER_TARGET = 8;

export async function probeMatrix(lab: Lab, options: MatrixOptions): Promise<Matrix> {
  const targets = lab.state.containers();
  if (targets.length === 0) {
    throw new BrindleError('not-found', 'the lab has no containers', {
      remedy: 'start one: brindle lab run h1 web --serve 80',
    });
  }
  const sources: Source[] = [
    ...targets.map((container) => ({ name: nameOf(container), namespace: container.namespace })),
    ...lab.plan.routers.map((router) => ({ name: router.spec.name, namespace: router.namespace })),
  ];
  const start = performance.now();
  const all = gate(WIDTH);
  const limit = options.limit ?? LIMIT_MS;
  const columns = targets.map(async (target) => {
    const one = gate(WIDTH_PER_TARGET);
    const ask = (source: Source, address: string | undefined): Promise<Outcome | null> => {
      if (address === undefined) return Promise.resolve(null);
      const path = namespacePath(source.namespace);
      return one(() =>
        all(() =>
          options.port === null ? probePing(path, address, limit) : probeTcp(path, address, options.port, limit),
        ),
      );
    };
    const [ipv4, ipv6] = [false, true].map((v6) => target.addresses.find((text) => text.includes(':') === v6));
    const others = sources.filter((source) => source.namespace !== target.namespace);
    return Promise.all(
      others.map(async (source): Promise<Cell> => {
        const answers = await Promise.all([ask(source, ipv4), ask(source, ipv6)]);
        return { from: source.name, to: nameOf(target), ipv4: answers[0], ipv6: answers[1] };
      }),
    );
  });
  const cells = (await Promise.all(columns)).flat();
  return {
    port: options.port,
    from: sources.map((source) => source.name),
    to: targets.map(nameOf),
    cells,
    milliseconds: performance.now() - start,
  };
}

export function nameOf(container: Pick<ContainerFile, 'host' | 'name'>): string {
  return `${container.host}/${container.name}`;
}

const WORDS: Record<Outcome, string> = { ok: 'ok', refused: 'closed', silent: 'DENY', unreachable: 'no way' };

/** What a cell says; both IP versions in one word where they agree. */
export function cellText(cell: Cell | undefined): string {
  if (!cell) return '.';
  const words = [cell.ipv4, cell.ipv6].map((outcome) => (outcome ? WORDS[outcome] : null));
  const [v4, v6] = words;
  if (v4 && v6 && v4 !== v6) return `${v4}/${v6}`;
  return v4 ?? v6 ?? '-';
}

export function matrixText(matrix: Matrix): string {
  const byPair = new Map(matrix.cells.map((cell) => [`${cell.from} ${cell.to}`, cell]));
  const rows = matrix.from.map((from) => [from, ...matrix.to.map((to) => cellText(byPair.get(`${from} ${to}`)))]);
  const words = new Set(rows.flatMap((row) => row.slice(1).flatMap((cell) => cell.split('/'))));
  const legend = [
    ['ok', matrix.port === null ? 'answers a ping' : `accepts on TCP port ${matrix.port}`],
    ['DENY', 'the packet was dropped'],
    ['closed', 'reached, but nobody serves that port'],
    ['no way', 'no route to it'],
  ].filter(([word]) => words.has(word!));
  const both = 'IPv4 and IPv6 alike; x/y where they differ';
  return [
    ...table(['FROM \\ TO', ...matrix.to], rows),
    '',
    `${legend.map(([word, meaning]) => `${word}: ${meaning}`).join('; ')} (${both})`,
  ].join('\n');
}

/** Lets at most `width` of the tasks it is given run at once. */
function gate(width: number): <T>(task: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (task) => {
    if (running >= width) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await task();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  };
}
