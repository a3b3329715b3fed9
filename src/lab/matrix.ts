// Who reaches whom: every container (and router) asked for every container, both IP versions, and the answers as a
// table. The asking is bounded in width, since a small server takes only a few new connections at a time.
import { BrindleError, unreachable } from '#base/errors.ts';
import { formatTable } from '#cli/format/table.ts';
import { namespacePath } from './kernel.ts';
import type { Lab } from './lab.ts';
import { type Outcome, probePing, probeTcp } from './probe.ts';
import type { ContainerFile } from './state.ts';
import { readStore } from './store.ts';
import { Verdicts } from './verdicts.ts';

export interface MatrixOptions {
  /** TCP port; null: ICMP echo. */
  readonly port: number | null;
  /** Milliseconds after which no answer counts as none. */
  readonly limit?: number;
}

/**
 * What a cell says: the answer, held against what the policies in the store say. `DENY`: no answer, and a policy denies
 * it. `LOST`: no answer, though policies allow it. `OPEN`: an answer, though a policy denies it.
 */
export type Word = 'ok' | 'closed' | 'DENY' | 'LOST' | 'OPEN' | 'no way';

export interface Answer {
  readonly outcome: Outcome;
  readonly word: Word;
  /** The rule that denies it, for people; '' when policies allow it. */
  readonly deniedBy: string;
}

export interface Cell {
  readonly from: string;
  readonly to: string;
  /** Null when one of the two has no address of that version. */
  readonly ipv4: Answer | null;
  readonly ipv6: Answer | null;
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
  /** The address it asks from, for the verdict. */
  addressTowards(target: ContainerFile, v6: boolean): string | undefined;
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
    ...targets.map((container) => ({
      name: nameOf(container),
      namespace: container.namespace,
      addressTowards: (_: ContainerFile, v6: boolean) => addressOf(container, v6),
    })),
    ...lab.plan.routers.map((router) => ({
      name: router.spec.name,
      namespace: router.namespace,
      addressTowards: ({ host }: ContainerFile, v6: boolean) => {
        const wire = router.interfaces.find((end) => end.peer.node === host) ?? router.interfaces[0];
        return (v6 ? wire?.ipv6 : wire?.ipv4)?.address;
      },
    })),
  ];
  const verdicts = new Verdicts(await readStore(lab.state));
  const start = performance.now();
  const all = gate(WIDTH);
  const limit = options.limit ?? LIMIT_MS;
  const columns = targets.map(async (target) => {
    const one = gate(WIDTH_PER_TARGET);
    const ask = async (source: Source, v6: boolean): Promise<Answer | null> => {
      const [from, to] = [source.addressTowards(target, v6), addressOf(target, v6)];
      if (from === undefined || to === undefined) return null;
      const path = namespacePath(source.namespace);
      const outcome = await one(() =>
        all(() => (options.port === null ? probePing(path, to, limit) : probeTcp(path, to, options.port, limit))),
      );
      const { allowed, text } = verdicts.of(from, to, options.port);
      return { outcome, word: wordFor(outcome, allowed), deniedBy: text };
    };
    const others = sources.filter((source) => source.namespace !== target.namespace);
    return Promise.all(
      others.map(async (source): Promise<Cell> => {
        const [ipv4, ipv6] = await Promise.all([ask(source, false), ask(source, true)]);
        return { from: source.name, to: nameOf(target), ipv4, ipv6 };
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

function addressOf(container: ContainerFile, v6: boolean): string | undefined {
  return container.addresses.find((address) => address.includes(':') === v6);
}

function wordFor(outcome: Outcome, allowed: boolean): Word {
  switch (outcome) {
    case 'silent':
      return allowed ? 'LOST' : 'DENY';
    case 'unreachable':
      return 'no way';
    case 'refused':
      return allowed ? 'closed' : 'OPEN';
    case 'ok':
      return allowed ? 'ok' : 'OPEN';
    default:
      return unreachable(outcome);
  }
}

/** What a cell says; both IP versions in one word where they agree. */
export function cellText(cell: Cell | undefined): string {
  if (!cell) return '.';
  const words = [...new Set([cell.ipv4, cell.ipv6].flatMap((answer) => (answer ? [answer.word] : [])))];
  return words.length > 0 ? words.join('/') : '-';
}

const MEANINGS: Record<Word, (port: number | null) => string> = {
  ok: (port) => (port === null ? 'answers a ping' : `accepts a connection to TCP port ${port}`),
  DENY: () => 'no answer, because a policy denies it',
  closed: () => 'reached, but nothing serves that port',
  'no way': () => 'no route leads there',
  LOST: () => 'no answer, though no policy denies it',
  OPEN: () => 'an answer, though a policy denies it',
};

export function matrixText(matrix: Matrix): string {
  const byPair = new Map(matrix.cells.map((cell) => [`${cell.from} ${cell.to}`, cell]));
  const rows = matrix.from.map((from) => [from, ...matrix.to.map((to) => cellText(byPair.get(`${from} ${to}`)))]);
  const answers = matrix.cells.flatMap((cell) => [cell.ipv4, cell.ipv6]).filter((answer) => answer !== null);
  const words = (Object.keys(MEANINGS) as Word[]).filter((word) => answers.some((answer) => answer.word === word));
  const lines = [formatTable(['FROM \\ TO', ...matrix.to], rows), ''];
  for (const word of words) lines.push(`${word.padEnd(6)} ${MEANINGS[word](matrix.port)}`);
  lines.push(`Each by IPv4 and by IPv6; IPv4/IPv6 where they differ.`);
  const denials = denialsOf(matrix);
  if (denials.length > 0) lines.push('', 'Denied by', ...denials.map((line) => `  ${line}`));
  return lines.join('\n');
}

/** One line for each rule that denies: the rule, and whom it keeps apart. */
function denialsOf(matrix: Matrix): string[] {
  const byRule = new Map<string, Map<string, Set<string>>>();
  for (const { from, to, ipv4, ipv6 } of matrix.cells) {
    for (const answer of [ipv4, ipv6]) {
      if (answer?.word !== 'DENY') continue;
      const pairs = byRule.get(answer.deniedBy) ?? new Map<string, Set<string>>();
      byRule.set(answer.deniedBy, pairs.set(to, (pairs.get(to) ?? new Set()).add(from)));
    }
  }
  return [...byRule].flatMap(([rule, pairs]) => [
    rule,
    ...[...pairs].map(([to, from]) => `  ${[...from].join(', ')} -> ${to}`),
  ]);
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
