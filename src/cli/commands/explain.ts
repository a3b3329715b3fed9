// `brindle explain FROM TO PORT/PROTO`: which rule decides a flow, beside what the kernel has counted. Asks the agent for what
// it knows, so that the answer is about what is in force on its host.
import { type Command, Option } from 'commander';
import { ApiClient } from '#agent/api/client.ts';
import type { EndpointStatus, PolicyCounter, PolicyState } from '#agent/api/types.ts';
import { BrindleError } from '#base/errors.ts';
import { Problems } from '#model/problems.ts';
import { parseProtocol, protocolName } from '#model/port.ts';
import type { Resource } from '#model/resource.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { IpAddress } from '#net/address.ts';
import { evaluate } from '#policy/evaluate/evaluate.ts';
import { type Flow, type FlowEnd, parseFlow } from '#policy/evaluate/flow.ts';
import { buildWorld, type World } from '#policy/world/world.ts';
import { type ExplainedStep, type Explanation, explain } from '../policy-explanation.ts';
import { styled } from '../format/style.ts';
import { formatTable } from '../format/table.ts';
import { toJson } from '../format/yaml.ts';

interface Flags {
  readonly socket?: string;
  readonly output: 'table' | 'json';
}

export function register(program: Command): void {
  program
    .command('explain <from> <to> <traffic>')
    .description('which rule lets a flow through or drops it, with the live counters of this host')
    .option('--socket <path>', "the agent's API socket (default: BRINDLE_SOCKET)")
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'))
    .addHelpText(
      'after',
      `
FROM and TO: a pod or endpoint (namespace/name), a container (host/name, or its name alone), or an address.
TRAFFIC: 80/TCP, 53/UDP, ICMP.

  brindle explain default/client default/web 80/TCP
  brindle explain 203.0.113.9 h1/web 443/TCP`,
    )
    .action((from: string, to: string, traffic: string, flags: Flags) => run(from, to, traffic, flags));
}

async function run(from: string, to: string, traffic: string, flags: Flags): Promise<void> {
  const client = new ApiClient(flags.socket);
  const [state, counters, endpoints] = await Promise.all([
    client.json<PolicyState>('/v1/policy/state', { timeout: 30_000 }),
    client.json<readonly PolicyCounter[]>('/v1/policy/counters', { timeout: 30_000 }),
    client.json<readonly EndpointStatus[]>('/v1/endpoints'),
  ]);
  const world = buildWorld(state.resources);
  const flow = flowOf(endOf(from, world, state.resources), endOf(to, world, state.resources), traffic);
  const local = new Map(endpoints.map(({ id }) => [`WorkloadEndpoint/${id}`, id]));
  const explanation = explain(evaluate(world, flow), counters, endpoints, (endpoint) => local.get(endpoint) ?? null);
  if (flags.output === 'json') console.log(toJson({ host: state.host, ...explanation }));
  else print(from, to, traffic, state.host, explanation);
  if (explanation.verdict === 'deny') process.exitCode = 2;
}

function endOf(text: string, world: World, resources: readonly Resource[]): FlowEnd {
  const ip = IpAddress.tryParse(text);
  if (ip) return { ip };
  if (world.endpointsByPod.has(text) || world.hostPods.has(text)) return { pod: text };
  if (world.endpointsByName.has(text)) return { endpoint: text };
  // `host/name` or `name`, as people call a container outside Kubernetes.
  const named = resources.filter((resource): resource is WorkloadEndpoint => {
    if (resource.kind !== 'WorkloadEndpoint') return false;
    const { node, workload } = (resource as WorkloadEndpoint).spec;
    return workload !== undefined && (workload === text || `${node}/${workload}` === text);
  });
  if (named.length === 1) return { endpoint: `${named[0]!.metadata.namespace}/${named[0]!.metadata.name}` };
  if (named.length > 1) {
    throw new BrindleError('invalid-argument', `${named.length} containers are called ${text}`, {
      remedy: `write ${named.map(({ spec }) => `${spec.node}/${spec.workload}`).join(' or ')}`,
    });
  }
  throw new BrindleError('not-found', `there is no endpoint, pod or container ${text}`, {
    remedy: 'brindle get workloadendpoints -A lists those there are; an address will do too',
  });
}

function flowOf(from: FlowEnd, to: FlowEnd, traffic: string): Flow {
  const parts = traffic.split('/');
  const port = parts.find((part) => /^\d+$/.test(part) && parts.length === 2);
  const name = parts.length === 2 ? parts.find((part) => part !== port) : traffic;
  const protocol = name === undefined ? null : parseProtocol(name);
  const problems = new Problems();
  const text = (end: FlowEnd): object => ('ip' in end ? { ip: end.ip.toString() } : end);
  const flow =
    protocol === null
      ? null
      : parseFlow(
          { from: text(from), to: text(to), protocol, ...(port !== undefined && { port: Number(port) }) },
          'flow',
          problems,
        );
  if (flow && !problems.any) return flow;
  throw new BrindleError('invalid-argument', `${traffic} is not a port and a protocol`, {
    remedy: 'write it as 80/TCP, or ICMP alone',
  });
}

function print(from: string, to: string, traffic: string, host: string, explanation: Explanation): void {
  const { verdict, differences } = explanation;
  const word = verdict === 'allow' ? styled('green', 'ALLOWED') : styled('red', 'DENIED');
  console.log(`${from} to ${to}, ${shown(traffic)}: ${word}`);
  for (const which of ['egress', 'ingress'] as const) {
    const side = explanation[which];
    const title = which === 'egress' ? `leaving ${from} (egress)` : `reaching ${to} (ingress)`;
    if (!side) {
      console.log(`\n${title}: no endpoint of ours, nothing to ask`);
      continue;
    }
    console.log(`\n${title}: ${side.verdict}`);
    console.log(
      formatTable(['', 'TIER', 'POLICY', 'RULE', 'ACTION', 'PACKETS', 'NFTABLES', 'WHY'], side.trace.map(row)),
    );
  }
  const isElsewhere = [explanation.egress, explanation.ingress].some((side) =>
    side?.trace.some((s) => s.packets === null),
  );
  if (isElsewhere) console.log(`\nCounters are those of ${host}; ask the agent of the other host for the rest.`);
  if (differences.length > 0) {
    console.log(`\n${styled('yellow', 'The kernel is not as it should be:')}`);
    for (const difference of differences) console.log(`  ${difference}`);
  }
}

function row(step: ExplainedStep): string[] {
  return [
    step.matched ? '>' : '',
    step.tier ?? '',
    step.policy ?? (step.profile === null ? '' : `profile ${step.profile}`),
    step.rule === null ? '' : String(step.rule),
    step.action ?? '',
    step.packets === null ? '' : String(step.packets),
    step.kernel[0] ? `${step.kernel[0].chain} #${step.kernel[0].position}` : '',
    step.reason,
  ];
}

function shown(traffic: string): string {
  const protocol = parseProtocol(traffic);
  return protocol === null ? traffic : protocolName(protocol);
}
