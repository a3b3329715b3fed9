// Reads the policy scenarios of test/scenarios: one format that every rung runs (evaluator, kernel, lab).
// In: the YAML files. Out: scenarios with their steps; in each step the whole set of resources and every expectation, spelled out.
// No rung is known here. The format is told in test/scenarios/README.md.
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';

const FOLDER = resolve(import.meta.dirname, '../scenarios');

/** A manifest as a person writes it, not parsed yet. */
export interface RawResource {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Record<string, string>;
    readonly annotations?: Record<string, string>;
  };
  readonly [field: string]: unknown;
}

export type End = { readonly pod: string } | { readonly endpoint: string } | { readonly ip: string };

/** As `brindle simulate --flows` reads it. */
export interface RawFlow {
  readonly from: End;
  readonly to: End;
  readonly protocol: string | number;
  readonly port?: number;
  readonly sourcePort?: number;
  readonly icmpType?: number;
  readonly icmpCode?: number;
}

export interface Expectation {
  readonly flow: RawFlow;
  readonly verdict: 'allow' | 'deny';
  /** Only where the scenario says them; null: the side is no endpoint of ours. */
  readonly egress?: 'allow' | 'deny' | null;
  readonly ingress?: 'allow' | 'deny' | null;
}

export interface Step {
  readonly name: string;
  /** Everything that exists at this step. */
  readonly resources: readonly RawResource[];
  readonly expectations: readonly Expectation[];
}

export interface Scenario {
  readonly name: string;
  /** File name, for messages. */
  readonly file: string;
  /** Rungs that cannot run it and why, such as `kernel: needs SCTP sockets`. */
  readonly not: Readonly<Record<string, string>>;
  readonly steps: readonly Step[];
}

interface WrittenTable {
  readonly on: readonly string[];
  readonly table: readonly string[];
}

type WrittenFlow = Expectation & {
  readonly flow: Omit<RawFlow, 'from' | 'to'> & { from: string | End; to: string | End };
};

interface WrittenStep {
  readonly name?: string;
  readonly apply?: readonly RawResource[];
  /** `Kind/namespace/name` or `Kind/name`. */
  readonly remove?: readonly string[];
  readonly expect: readonly (WrittenTable | WrittenFlow)[];
}

interface Written extends WrittenStep {
  readonly scenario: string;
  /** Files of test/scenarios/fixtures, without `.yaml`. */
  readonly fixtures?: readonly string[];
  readonly resources?: readonly RawResource[];
  readonly not?: Record<string, string>;
  readonly steps?: readonly WrittenStep[];
}

export function loadScenarios(folder = FOLDER): Scenario[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.yaml'))
    .sort()
    .flatMap((file) =>
      readAll<Written>(join(folder, file)).map((written) => {
        try {
          return expand(written, file, folder);
        } catch (error) {
          throw new Error(`${file}, scenario ${written.scenario}: ${String(error)}`, { cause: error });
        }
      }),
    );
}

function readAll<T>(path: string): T[] {
  const documents = parseAllDocuments(readFileSync(path, 'utf8'), { uniqueKeys: true });
  return documents.map((document) => {
    if (document.errors[0]) throw new Error(`${path}: ${document.errors[0].message}`);
    return document.toJS() as T;
  });
}

function keyOf({ kind, metadata }: RawResource): string {
  return metadata.namespace ? `${kind}/${metadata.namespace}/${metadata.name}` : `${kind}/${metadata.name}`;
}

function expand(written: Written, file: string, folder: string): Scenario {
  const state = new Map<string, RawResource>();
  const put = (resources: readonly RawResource[] = []): void => {
    for (const resource of resources) state.set(keyOf(resource), resource);
  };
  for (const fixture of written.fixtures ?? []) put(readAll<RawResource>(join(folder, 'fixtures', `${fixture}.yaml`)));
  put(written.resources);
  const steps = written.steps ?? [written];
  return {
    name: written.scenario,
    file,
    not: written.not ?? {},
    steps: steps.map(({ name, apply, remove, expect }, i) => {
      put(apply);
      for (const key of remove ?? []) if (!state.delete(key)) throw new Error(`there is no ${key} to remove`);
      const resources = [...state.values()];
      return {
        name: name ?? `step ${i + 1}`,
        resources,
        expectations: expect.flatMap((e) => expectations(e, resources)),
      };
    }),
  };
}

function expectations(written: WrittenTable | WrittenFlow, resources: readonly RawResource[]): Expectation[] {
  if ('flow' in written) {
    const { flow } = written;
    return [{ ...written, flow: { ...flow, from: readEnd(flow.from), to: readEnd(flow.to) } }];
  }
  const pods = resources.filter(({ kind }) => kind === 'Pod').map((pod) => keyOf(pod).slice('Pod/'.length));
  const lines = written.table.map((line) => {
    const match = /^(\S+) -> (\S+): (allow|deny)$/.exec(line);
    if (!match) throw new Error(`"${line}" is not "FROM -> TO: allow|deny"`);
    return { from: match[1]!, to: match[2]!, verdict: match[3] as 'allow' | 'deny' };
  });
  const out: Expectation[] = [];
  for (const on of written.on) {
    const [protocol = '', port] = on.split('/');
    for (const from of pods) {
      for (const to of pods) {
        // The suites of Kubernetes leave loopback out, because implementations differ.
        if (from === to) continue;
        const line = lines.findLast((candidate) => covers(candidate.from, from) && covers(candidate.to, to));
        if (!line) continue;
        const flow = { from: { pod: from }, to: { pod: to }, protocol, ...(port ? { port: Number(port) } : {}) };
        out.push({ flow, verdict: line.verdict });
      }
    }
  }
  return out;
}

/** `*` is everybody, `ns/*` a namespace, `ns/name` one pod. */
function covers(pattern: string, pod: string): boolean {
  return pattern === '*' || pattern === pod || (pattern.endsWith('/*') && pod.startsWith(pattern.slice(0, -1)));
}

/** `ns/name` is a pod, `ip:ADDRESS` and `endpoint:NAME` what they say. */
function readEnd(end: string | End): End {
  if (typeof end !== 'string') return end;
  if (end.startsWith('ip:')) return { ip: end.slice(3) };
  if (end.startsWith('endpoint:')) return { endpoint: end.slice(9) };
  return { pod: end };
}
