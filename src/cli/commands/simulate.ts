// `brindle simulate`: what policies would do to flows, from manifests alone. No agent, no root, no store.
// `brindle lint`: what in them is legal but probably not meant.
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { BrindleError, isBrindleError } from '#base/errors.ts';
import { type Problem, problemText } from '#model/problems.ts';
import { parseProtocol, protocolName } from '#model/port.ts';
import type { Resource } from '#model/resource.ts';
import { evaluate, type FlowResult, type Side } from '#policy/evaluate/evaluate.ts';
import { type Flow, type FlowEnd, parseFlows } from '#policy/evaluate/flow.ts';
import { type Finding, lint } from '#policy/lint/lint.ts';
import { buildWorld, type World } from '#policy/world/world.ts';
import { styled } from '../format/style.ts';
import { formatTable } from '../format/table.ts';
import { lintResources, overlay, readSimulation } from '../simulation.ts';

interface Flags {
  readonly filename?: string[];
  readonly recursive?: boolean;
  readonly flows?: string;
  readonly matrix?: string;
  readonly diff?: string;
  readonly lint?: boolean;
  readonly trace?: boolean;
  readonly output: 'json' | 'table';
}

export function register(program: Command): void {
  addInput(program.command('simulate').description('What policies would do to flows, from manifests alone.'))
    .option('--flows <file>', 'JSON list of flows; - for standard input')
    .option('--matrix <port/protocol>', 'every endpoint to every other, such as 80/TCP or ICMP')
    .option('--diff <file>', 'which flows change their verdict when the file is added')
    .option('--lint', 'what is legal but probably not meant')
    .option('--trace', 'in tables: every step that led to the verdict')
    .addHelpText(
      'after',
      `
A flow: {"id": "web", "from": {"pod": "ns/name"}, "to": {"ip": "10.1.2.3"}, "protocol": "TCP", "port": 80}
with {"pod"}, {"endpoint"} or {"ip"} at each end; sourcePort, icmpType and icmpCode as the protocol has them.

  brindle simulate -f manifests/ --flows flows.json -o json
  brindle simulate -f manifests/ --matrix 80/TCP
  brindle simulate -f manifests/ --matrix 80/TCP --diff new-policy.yaml`,
    )
    .action(simulate);
  addInput(program.command('lint').description('What in policies is legal but probably not meant.')).action(
    (flags: Flags) => printFindings(lintAll(readInput(flags)), flags),
  );
}

function addInput(command: Command): Command {
  return command
    .requiredOption('-f, --filename <paths...>', 'files and folders of manifests, or - for standard input')
    .option('-R, --recursive', 'folders with all that is in them')
    .addOption(new Option('-o, --output <format>', 'what to print').choices(['json', 'table']).default('table'));
}

function readInput(flags: Flags): Resource[] {
  const except = [flags.flows, flags.diff].filter((file) => file !== undefined);
  return readSimulation(flags.filename ?? [], { except, ...(flags.recursive ? { recursive: true } : {}) });
}

function simulate(flags: Flags): void {
  const asked = [flags.flows, flags.matrix].filter((option) => option !== undefined).length;
  if (flags.lint ? asked > 0 || flags.diff !== undefined : asked !== 1) {
    throw new BrindleError('invalid-argument', 'one thing at a time', {
      remedy: 'give --flows or --matrix, with --diff if wanted, or --lint',
    });
  }
  const resources = readInput(flags);
  if (flags.lint) return printFindings(lintAll(resources), flags);
  const world = buildWorld(resources);
  if (flags.diff !== undefined) {
    const after = buildWorld(overlay(resources, readSimulation([flags.diff], {})));
    return printChanges(diff(flags, world, after), flags);
  }
  if (flags.matrix !== undefined) {
    const [protocol, port] = parseMatrix(flags.matrix);
    return printMatrix(world, protocol, port, flags);
  }
  return printResults(world, readFlows(flags.flows ?? ''), flags);
}

function lintAll(resources: readonly Resource[]): Finding[] {
  return [...lintResources(resources), ...lint(buildWorld(resources))];
}

function readFlows(file: string): Flow[] {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file === '-' ? 0 : file, 'utf8'));
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new BrindleError(missing ? 'not-found' : 'invalid-argument', `${file}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const { flows, problems } = parseFlows(value);
  if (problems.length > 0) throw flowErrors(file, problems);
  return flows;
}

function flowErrors(file: string, problems: readonly Problem[]): BrindleError {
  const lines = problems.map((problem) => `${file}: ${problemText(problem)}`);
  return new BrindleError('invalid-argument', lines.join('\n'), { field: problems[0]?.field });
}

/** `80/TCP`, `TCP/80` or a protocol alone. */
function parseMatrix(text: string): [protocol: number, port: number | null] {
  const parts = text.split('/');
  const digits = parts.findIndex((part) => /^\d+$/.test(part));
  const port = parts.length === 2 && digits >= 0 ? Number(parts[digits]) : null;
  const protocol = parseProtocol(parts.length === 2 ? parts[digits === 0 ? 1 : 0]! : text);
  const wrongPort = parts.length === 2 && (port === null || port < 1 || port > 65_535);
  if (protocol === null || wrongPort || parts.length > 2) {
    throw new BrindleError('invalid-argument', `--matrix ${text} is not a port and a protocol`, {
      remedy: 'write it as 80/TCP, or ICMP alone',
    });
  }
  return [protocol, port];
}

/** Evaluates every flow, so that all that are wrong are told at once. */
function evaluateAll(world: World, flows: readonly Flow[]): FlowResult[] {
  const problems: Problem[] = [];
  const results = flows.map((flow, i) => {
    try {
      return evaluate(world, flow);
    } catch (error) {
      if (!isBrindleError(error, 'invalid-argument')) throw error;
      const reason = error.message.slice(error.message.indexOf(': ') + 2);
      problems.push({ field: `flows[${i}].${error.field}`, reason, remedy: error.remedy });
      return null;
    }
  });
  if (problems.length > 0) throw flowErrors('flows', problems);
  return results as FlowResult[];
}

/** Who appears in a matrix: every endpoint that has an address, by name. */
function matrixEnds(world: World): { name: string; end: FlowEnd }[] {
  const ends: { name: string; end: FlowEnd }[] = [];
  for (const { data } of world.endpoints.values()) {
    if (data.addresses.length === 0) continue;
    const name = data.namespace ? `${data.namespace}/${data.name}` : data.name;
    ends.push(data.pod === null ? { name, end: { endpoint: name } } : { name: data.pod, end: { pod: data.pod } });
  }
  return ends.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function matrixFlows(world: World, text: string): Flow[] {
  const [protocol, port] = parseMatrix(text);
  const ends = matrixEnds(world);
  return ends.flatMap((from) => ends.map((to) => pairFlow(from.end, to.end, protocol, port)));
}

function pairFlow(from: FlowEnd, to: FlowEnd, protocol: number, port: number | null): Flow {
  const echo = { 1: 8, 58: 128 }[protocol];
  const icmp = echo === undefined ? null : { type: echo, code: 0 };
  return { id: null, from, to, protocol, port, sourcePort: null, icmp };
}

interface Change {
  readonly flow: Flow;
  readonly before: FlowResult | null;
  readonly after: FlowResult | null;
}

function diff(flags: Flags, before: World, after: World): Change[] {
  const flows = flags.flows === undefined ? matrixFlows(after, flags.matrix ?? '') : readFlows(flags.flows);
  // An endpoint that only the added file has is in one of the worlds alone.
  const ask = (world: World, flow: Flow): FlowResult | null => {
    try {
      return evaluate(world, flow);
    } catch (error) {
      if (isBrindleError(error, 'invalid-argument')) return null;
      throw error;
    }
  };
  evaluateAll(after, flows);
  return flows
    .map((flow) => ({ flow, before: ask(before, flow), after: ask(after, flow) }))
    .filter((change) => change.before?.verdict !== change.after?.verdict);
}

function endJson(end: FlowEnd): object {
  return 'ip' in end ? { ip: end.ip.toString() } : end;
}

function endText(end: FlowEnd): string {
  if ('ip' in end) return end.ip.toString();
  return 'pod' in end ? end.pod : end.endpoint;
}

function flowText({ protocol, port, icmp }: Flow): string {
  const parts = [protocolName(protocol)];
  if (port !== null) parts.unshift(String(port));
  return icmp ? `${parts.join('/')} ${icmp.type}/${icmp.code}` : parts.join('/');
}

function verdictText(verdict: string): string {
  return styled(verdict === 'allow' ? 'green' : 'red', verdict);
}

/** The step that decided: of the side that denies, else of the receiving side. */
function decider(result: FlowResult): string {
  const sides = [result.egress, result.ingress].filter((side): side is Side => side !== null);
  const side = sides.find(({ verdict }) => verdict === 'deny') ?? sides.at(-1);
  const step = side?.trace.at(-1);
  if (!step) return 'no endpoint of ours';
  const where = step.policy ?? (step.profile === null ? step.tier && `tier ${step.tier}` : `profile ${step.profile}`);
  const rule = step.rule === null ? '' : ` ${step.direction}[${step.rule}]`;
  return where ? `${where}${rule}` : step.reason;
}

function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** One element at a time: the traces of many flows over many rules are larger than any one text may be. */
function printJsonList(list: readonly object[]): void {
  process.stdout.write('[');
  for (const [i, item] of list.entries()) {
    const lines = JSON.stringify(item, null, 2).split('\n').join('\n  ');
    process.stdout.write(`${i === 0 ? '' : ','}\n  ${lines}`);
  }
  process.stdout.write(list.length > 0 ? '\n]\n' : ']\n');
}

function printResults(world: World, flows: readonly Flow[], flags: Flags): void {
  const results = evaluateAll(world, flows);
  if (flags.output === 'json') {
    return printJsonList(
      results.map(({ verdict, egress, ingress }, i) => ({ id: flows[i]!.id, verdict, egress, ingress })),
    );
  }
  const rows = results.map((result, i) => {
    const flow = flows[i]!;
    return [
      String(flow.id ?? i),
      endText(flow.from),
      endText(flow.to),
      flowText(flow),
      verdictText(result.verdict),
      decider(result),
    ];
  });
  process.stdout.write(`${formatTable(['ID', 'FROM', 'TO', 'FLOW', 'VERDICT', 'DECIDED BY'], rows)}\n`);
  if (!flags.trace) return;
  for (const [i, result] of results.entries()) {
    process.stdout.write(`\n${rows[i]!.slice(0, 5).join(' ')}\n`);
    const steps = [result.egress, result.ingress].flatMap((side) => side?.trace ?? []);
    const lines = steps.map(({ direction, tier, policy, profile, rule, action, matched, reason }) => [
      direction,
      tier ?? (profile === null ? '' : `profile ${profile}`),
      policy === null ? '' : `${policy}${rule === null ? '' : `[${rule}]`}`,
      matched ? verdictStyle(action) : '',
      reason,
    ]);
    process.stdout.write(`${formatTable(['DIRECTION', 'TIER', 'POLICY', 'ACTION', 'WHY'], lines)}\n`);
  }
}

function verdictStyle(action: string | null): string {
  if (action === 'Allow') return styled('green', action);
  return action === 'Deny' ? styled('red', action) : (action ?? '');
}

function printMatrix(world: World, protocol: number, port: number | null, flags: Flags): void {
  const ends = matrixEnds(world);
  const cells = ends.map((from) =>
    ends.map((to) => evaluate(world, pairFlow(from.end, to.end, protocol, port)).verdict),
  );
  if (flags.output === 'json') {
    const list = ends.flatMap((from, row) =>
      ends.map((to, column) => ({ from: from.end, to: to.end, verdict: cells[row]![column]! })),
    );
    return printJson(list);
  }
  const rows = ends.map(({ name }, row) => [name, ...cells[row]!.map(verdictText)]);
  process.stdout.write(`${formatTable(['FROM \\ TO', ...ends.map(({ name }) => name)], rows)}\n`);
}

function printChanges(changes: readonly Change[], flags: Flags): void {
  if (flags.output === 'json') {
    const list = changes.map(({ flow, before, after }) => ({
      id: flow.id,
      from: endJson(flow.from),
      to: endJson(flow.to),
      protocol: protocolName(flow.protocol),
      ...(flow.port === null ? {} : { port: flow.port }),
      before: before?.verdict ?? null,
      after: after?.verdict ?? null,
      egress: after?.egress ?? null,
      ingress: after?.ingress ?? null,
    }));
    return printJson(list);
  }
  if (changes.length === 0) {
    process.stdout.write('no flow changes its verdict\n');
    return;
  }
  const rows = changes.map(({ flow, before, after }) => [
    String(flow.id ?? ''),
    endText(flow.from),
    endText(flow.to),
    flowText(flow),
    before ? verdictText(before.verdict) : '-',
    after ? verdictText(after.verdict) : '-',
    after ? decider(after) : '',
  ]);
  process.stdout.write(`${formatTable(['ID', 'FROM', 'TO', 'FLOW', 'BEFORE', 'AFTER', 'DECIDED BY'], rows)}\n`);
}

function printFindings(findings: readonly Finding[], flags: Flags): void {
  if (flags.output === 'json') return printJson(findings);
  if (findings.length === 0) {
    process.stdout.write('nothing found\n');
    return;
  }
  const rows = findings.map(({ resource, field, kind, message }) => [resource, field, styled('yellow', kind), message]);
  process.stdout.write(`${formatTable(['RESOURCE', 'FIELD', 'FINDING', 'WHY'], rows)}\n`);
}
