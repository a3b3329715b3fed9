// `brindle lab`: a whole fabric on this machine. This file is only the command line: options in, text out.
import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { BrindleError } from '#base/errors.ts';
import { hostVariables, programs } from '#lab/hosts.ts';
import { down, Lab, type Progress } from '#lab/lab.ts';
import { DEFAULT_LAB } from '#lab/plan.ts';
import { matrixText, probeMatrix } from '#lab/matrix.ts';
import { spawnIn } from '#lab/processes.ts';
import { routerDriver } from '#lab/routers/drivers.ts';
import { LabState } from '#lab/state.ts';
import { labStatus, statusText } from '#lab/status.ts';
import { defaultTopology, parseTopology, ROUTER_KINDS, type RouterKind, type Topology } from '#lab/topology.ts';

interface Named {
  readonly name: string;
}

export function register(program: Command): void {
  const lab = program
    .command('lab')
    .description('A whole fabric on this machine: hosts, routers and containers, each a network namespace.')
    .enablePositionalOptions();
  const verb = (usage: string, description: string): Command =>
    lab
      .command(usage)
      .description(description)
      .addOption(
        new Option('--name <lab>', 'which lab; several can stand beside each other')
          .env('BRINDLE_LAB_NAME')
          .default(DEFAULT_LAB),
      );

  verb('up', 'build a fabric and wait until its BGP sessions stand')
    .option('--hosts <n>', 'how many hosts', wholeNumber, 3)
    .addOption(
      new Option('--router <kind>', 'what the router runs; none: the hosts share one Ethernet')
        .choices([...ROUTER_KINDS, 'none'])
        .default('bird'),
    )
    .option('-f, --file <topology.yaml>', 'racks, routers and pools from a file')
    .option('--no-agents', 'only namespaces, wires and routers')
    .action(async (options: Named & { hosts: number; router: RouterKind | 'none'; file?: string; agents: boolean }) => {
      await up(options.name, topologyOf(options), options.agents);
    });

  verb('add-host [host]', 'one more host joins; nothing that runs is restarted')
    .option('--rack <rack>', 'the rack it stands in; by default that of the last host')
    .action(async (host: string | undefined, options: Named & { rack?: string }) => {
      const grown = await Lab.open(options.name).addHost({
        ...(host === undefined ? {} : { name: host }),
        ...(options.rack === undefined ? {} : { rack: options.rack }),
        progress: printStep,
      });
      console.log(`${grown.plan.hosts.at(-1)!.spec.name} has joined`);
    });

  verb('restart <host...>', 'start the agents of these hosts again').action(async (hosts: string[], options: Named) => {
    const open = Lab.open(options.name);
    for (const host of hosts) open.host(host);
    await Promise.all(hosts.map((host) => open.restartAgent(host)));
  });

  verb('run <host> <container>', 'start a container and attach it by the CNI executable')
    .option('--label <key=value>', 'a label that policies can select; may be repeated', addLabel, {})
    .option('--serve <port>', 'run a small web server in it', portNumber)
    .action(
      async (host: string, container: string, options: Named & { label: Record<string, string>; serve?: number }) => {
        const { container: made, milliseconds } = await Lab.open(options.name).run(host, {
          name: container,
          labels: options.label,
          serve: options.serve ?? null,
        });
        console.log(
          `${host}/${container} has ${made.addresses.join(' and ')} (CNI ADD: ${milliseconds.toFixed(1)} ms)`,
        );
      },
    );

  verb('rm <container...>', 'detach and remove containers, each named HOST/NAME').action(
    async (containers: string[], options: Named) => {
      const open = Lab.open(options.name);
      const found = containers.map((target) => open.container(target));
      for (const container of found) {
        const milliseconds = await open.remove(container);
        console.log(`${container.host}/${container.name} is gone (CNI DEL: ${milliseconds.toFixed(1)} ms)`);
      }
    },
  );

  verb('matrix', 'who reaches whom, by IPv4 and IPv6')
    .option('--port <port>', 'ask by TCP connections to this port; without it by ping', portNumber)
    .addOption(new Option('-o, --output <format>').choices(['table', 'json']).default('table'))
    .action(async (options: Named & { port?: number; output: string }) => {
      const matrix = await probeMatrix(Lab.open(options.name), { port: options.port ?? null });
      console.log(options.output === 'json' ? JSON.stringify(matrix, null, 2) : matrixText(matrix));
    });

  verb('exec <target> <command...>', 'run a command in a HOST, a ROUTER or a HOST/CONTAINER')
    .passThroughOptions()
    .action(async (target: string, command: string[], options: Named) => {
      const words = command[0] === '--' ? command.slice(1) : command;
      if (words.length === 0) throw new BrindleError('invalid-argument', 'no command to run');
      process.exitCode = await exec(Lab.open(options.name), target, words);
    });

  verb(
    'env <host>',
    "shell variables for a host: of its CNI executable, its agent's socket and its configuration",
  ).action((host: string, options: Named) => {
    const open = Lab.open(options.name);
    open.host(host);
    for (const [key, value] of Object.entries(hostVariables(open.state, host))) console.log(`export ${key}='${value}'`);
  });

  verb('status', 'hosts, agents, routers, BGP sessions and containers')
    .addOption(new Option('-o, --output <format>').choices(['table', 'json']).default('table'))
    .action(async (options: Named & { output: string }) => {
      const status = await labStatus(Lab.open(options.name));
      console.log(options.output === 'json' ? JSON.stringify(status, null, 2) : statusText(status));
    });

  verb('down', 'take the lab down, also after a crash').action(async (options: Named) => {
    const existed = new LabState(options.name).exists();
    const removed = await down(options.name);
    const counts = `${removed.namespaces} namespaces and ${removed.processes} processes removed`;
    console.log(existed || removed.namespaces > 0 ? `lab ${options.name} is down: ${counts}` : 'there is no lab here');
  });
}

function topologyOf(options: { hosts: number; router: RouterKind | 'none'; file?: string }): Topology {
  if (options.file === undefined) return defaultTopology({ hosts: options.hosts, router: options.router });
  let text: string;
  try {
    text = readFileSync(options.file === '-' ? 0 : options.file, 'utf8');
  } catch (error) {
    throw new BrindleError('not-found', `${options.file} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
  return parseTopology(text, options.file);
}

async function up(name: string, topology: Topology, agents: boolean): Promise<void> {
  // A half-built lab is not left behind by Ctrl-C.
  const abort = new AbortController();
  const interrupted = (): void =>
    abort.abort(new BrindleError('unavailable', 'interrupted; nothing is left of the lab'));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, interrupted);
  const lab = await Lab.up({ name, topology, agents, progress: printStep, signal: abort.signal });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, interrupted);
  const routers = lab.plan.routers.map((router) => `${router.spec.name} (${routerDriver(router).version()})`);
  const between = routers.length > 0 ? `below ${routers.join(', ')}` : 'on one Ethernet';
  console.log(`lab ${name} is up: ${lab.plan.hosts.length} hosts ${between}`);
}

const printStep: Progress = (step, milliseconds) => {
  console.log(`  ${step.padEnd(34)} ${milliseconds.toFixed(0).padStart(6)} ms`);
};

function wholeNumber(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('a whole number is wanted');
  return Number(text);
}

function portNumber(text: string): number {
  const port = wholeNumber(text);
  if (port < 1 || port > 65535) throw new InvalidArgumentError('a port is a number from 1 to 65535');
  return port;
}

function addLabel(text: string, sofar: Record<string, string>): Record<string, string> {
  const match = /^([^=]+)=(.*)$/.exec(text);
  if (!match) throw new InvalidArgumentError('write key=value');
  return { ...sofar, [match[1]!]: match[2]! };
}

/** The namespace that a person means by HOST, ROUTER or HOST/CONTAINER. Throws `not-found`. */
function namespaceOfTarget(lab: Lab, target: string): string {
  const [node = '', container] = target.split('/', 2);
  if (container === undefined) {
    const router = lab.plan.routers.find((candidate) => candidate.spec.name === node);
    if (router) return router.namespace;
    if (node === lab.plan.switch?.bridge) return lab.plan.switch.namespace;
    return lab.host(node).namespace;
  }
  lab.host(node);
  return lab.container(target).namespace;
}

/** Runs a command with this terminal and returns its exit code (130 when a signal ended it). */
async function exec(lab: Lab, target: string, command: readonly string[]): Promise<number> {
  const namespace = namespaceOfTarget(lab, target);
  const [node = ''] = target.split('/', 1);
  const isHost = lab.plan.hosts.some((host) => host.spec.name === node);
  const child = spawnIn(namespace, command, {
    stdio: 'inherit',
    env: {
      ...process.env,
      ...(isHost ? hostVariables(lab.state, node) : {}),
      PATH: `${programs().commandDirectory}:${process.env['PATH'] ?? ''}`,
      BRINDLE_LAB: lab.state.name,
      BRINDLE_LAB_NAME: lab.state.name,
    },
  });
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.on('error', reject);
  child.on('exit', (code) => resolve(code ?? 130));
  return promise;
}
