// `make demo`: a fabric of three hosts and one real router on this machine, shown step by step. Every command it
// prints is what it runs, and can be typed by hand. Cleans up at the end, on Ctrl-C and on failure, and then checks
// that the machine is as it was. Exit status 0 only when all that it shows is as it should be.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { errorText } from '#base/errors.ts';
import { hostVariables } from '#lab/hosts.ts';
import { namespacePath } from '#lab/kernel.ts';
import { down, Lab } from '#lab/lab.ts';
import { PingStream, probeTcp } from '#lab/probe.ts';
import { processesOf, until } from '#lab/processes.ts';
import { routerDriver } from '#lab/routers/drivers.ts';
import { namespaceOf } from '#lab/plan.ts';
import { LabState } from '#lab/state.ts';

const ROOT = resolve(import.meta.dirname, '..');
const LAB = process.env['BRINDLE_LAB_NAME'] ?? 'default';
const WIDTH = 100;
const CONTAINERS = [
  ['h1', 'web', 'role=web'],
  ['h1', 'shop', 'role=customer'],
  ['h2', 'web', 'role=web'],
  ['h2', 'shop', 'role=customer'],
  ['h3', 'web', 'role=web'],
  ['h3', 'guest', 'role=guest'],
] as const;
const POLICY = `apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: web-serves-customers
spec:
  selector: role == 'web'
  types: [Ingress]
  ingress:
    - action: Allow
      protocol: TCP
      source: {selector: role == 'customer'}
      destination: {ports: [80]}
    - action: Deny
`;

const colour = process.stdout.isTTY && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb';
const started = performance.now();
let running: ChildProcess | null = null;
let interrupted = false;

function paint(code: string, text: string): string {
  return colour ? `\x1b[${code}m${text}\x1b[0m` : text;
}

function title(text: string): void {
  console.log(`\n${paint('1', text)}`);
}

/** A paragraph of explanation. */
function say(text: string): void {
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line.length + word.length >= WIDTH) {
      console.log(line);
      line = '';
    }
    line += line === '' ? word : ` ${word}`;
  }
  console.log(line);
}

function paintVerdicts(text: string): string {
  return text
    .replaceAll(/\bDENY\b/g, paint('31', 'DENY'))
    .replaceAll(/\bok\b/g, paint('32', 'ok'))
    .replaceAll(/\bestablished\b/g, paint('32', 'established'));
}

/** Shows the command, runs it, shows what it says. Throws when it fails. */
async function run(shown: string, command: readonly string[], variables: NodeJS.ProcessEnv = {}): Promise<string> {
  if (interrupted) throw new Error('interrupted');
  console.log(paint('36', `  $ ${shown}`));
  const [program = '', ...args] = command;
  const env = { ...process.env, BRINDLE_LAB_NAME: LAB, ...variables };
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  running = child;
  const { promise, resolve: done, reject } = Promise.withResolvers<number | null>();
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
  }
  child.on('error', reject);
  child.on('close', done);
  const status = await promise;
  running = null;
  process.stdout.write(paintVerdicts(text.replaceAll(/^(?=.)/gm, '    ')));
  if (interrupted) throw new Error('interrupted');
  if (status !== 0) throw new Error(`"${shown}" ended with exit status ${status}`);
  return text;
}

/** The `brindle` of this checkout; with `host`, in that host's environment. */
function brindle(args: readonly string[], host?: string): Promise<string> {
  const variables = host === undefined ? {} : hostVariables(new LabState(LAB), host);
  return run(`brindle ${args.join(' ')}`, [`${ROOT}/bin/brindle`, ...args], variables);
}

interface Machine {
  readonly [what: string]: readonly string[];
}

/** What a lab could leave behind. */
function machine(): Machine {
  const lines = (program: string, ...args: string[]): string[] =>
    execFileSync(program, args, { encoding: 'utf8' }).split('\n').filter(Boolean);
  let namespaces: string[] = [];
  try {
    // Only those of this fabric: another lab may come or go beside it.
    const own = new RegExp(`^${namespaceOf(LAB, '')}(h\\d+|tor1)(\\.|$)`);
    namespaces = readdirSync('/run/netns').filter((name) => own.test(name));
  } catch {
    // none were ever made
  }
  return {
    namespaces,
    links: lines('ip', '-brief', 'link').map((line) => line.split(/\s/)[0]!),
    routes: [...lines('ip', 'route'), ...lines('ip', '-6', 'route')],
    'nftables tables': lines('nft', 'list', 'tables'),
    processes: processesOf(LAB).map((process) => String(process.pid)),
  };
}

function differences(before: Machine, after: Machine): string[] {
  return Object.keys(before).flatMap((what) => [
    ...after[what]!.filter((line) => !before[what]!.includes(line)).map((line) => `left over in ${what}: ${line}`),
    ...before[what]!.filter((line) => !after[what]!.includes(line)).map((line) => `gone from ${what}: ${line}`),
  ]);
}

/** Fails the demo when the matrix is not what its text promises. */
function expect(matrix: string, words: Readonly<Record<string, boolean>>): void {
  for (const [word, there] of Object.entries(words)) {
    const found = new RegExp(`^\\S+ .*\\b${word}\\b`, 'm').test(matrix);
    if (found !== there) throw new Error(`the matrix above should ${there ? '' : 'not '}say ${word}`);
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

async function show(policyFile: string): Promise<void> {
  title('A fabric');
  say(`Each host becomes a network namespace with a Brindle agent of its own, wired to a router that runs real BIRD.
    No bridge, no overlay: every wire is routed, by IPv4 and IPv6.`);
  await brindle(['lab', 'up', '--hosts', '3', '--router', 'bird']);

  title('Containers');
  say(`Two on each host. Each is attached by the CNI executable, as Kubernetes or podman would do it, and serves a page
    on port 80. Labels are what policies select by.`);
  const adds: number[] = [];
  for (const [host, name, label] of CONTAINERS) {
    const text = await brindle(['lab', 'run', host, name, '--label', label, '--serve', '80']);
    adds.push(Number(/CNI ADD: ([\d.]+) ms/.exec(text)?.[1]));
  }

  title('BGP sessions');
  say('The router has one session with each host for each IP version. The hosts also peer with each other:');
  await brindle(['lab', 'status']);
  console.log();
  say('The same from the side of h1 (the variables tell brindle which agent to ask):');
  console.log(paint('36', '  $ eval "$(brindle lab env h1)"'));
  await brindle(['bgp', 'summary'], 'h1');

  title("The router's own table");
  say(`BIRD tells what it learned: for each host exactly one prefix of each IP version, the block its containers have
    their addresses from, however many they are.`);
  const lab = Lab.open(LAB);
  const [router] = lab.plan.routers;
  if (!router) throw new Error('the lab has no router');
  const showTable = routerDriver(router).showCommand(lab.state, router);
  await run(showTable.join(' '), showTable);

  title('Who reaches whom');
  say('Every container, and the router, connects to every container:');
  const open = await brindle(['lab', 'matrix', '--port', '80']);
  expect(open, { ok: true, DENY: false, LOST: false, OPEN: false });

  title('A policy');
  say('Only customers may use the web servers. Nothing else is open to them, not even from each other:');
  console.log(paint('36', `  $ cat ${policyFile}`));
  process.stdout.write(POLICY.replaceAll(/^(?=.)/gm, '    '));
  const [guest, web] = [lab.container('h3/guest'), lab.container('h1/web')];
  await brindle(['apply', '-f', policyFile], 'h1');
  const applied = performance.now();
  const address = web.addresses[0]!;
  const denied = await until(10_000, async () =>
    (await probeTcp(namespacePath(guest.namespace), address, 80, 40)) === 'silent' ? performance.now() : null,
  );
  if (denied === null) throw new Error('the policy is not in force after 10 s');

  title('Who reaches whom now');
  const closed = await brindle(['lab', 'matrix', '--port', '80']);
  expect(closed, { ok: true, DENY: true, LOST: false, OPEN: false });

  title('What it cost');
  say('Measured just now, on this machine:');
  const { added, reachable } = await measureNewContainer(lab);
  const first = adds.filter((_, i) => i % 2 === 0);
  const further = [...adds.filter((_, i) => i % 2 === 1), added];
  const rows = [
    [
      'CNI ADD of the first container of a host, which also leases the block (median)',
      `${median(first).toFixed(1)} ms`,
    ],
    ['CNI ADD of a further one, whole process (median)', `${median(further).toFixed(1)} ms`],
    ["from ADD's answer to the first ping that another host gets answered", `${reachable.toFixed(1)} ms`],
    [
      'from the end of `brindle apply` to the first connection denied on another host',
      `under ${Math.max(1, denied - applied - 40).toFixed(0)} ms`,
    ],
  ];
  const width = Math.max(...rows.map(([what]) => what!.length));
  for (const [what, cost] of rows) console.log(`    ${what!.padEnd(width)}  ${cost}`);
}

/** One more container on h2: what its ADD took, and when h3 first reached it after that. */
async function measureNewContainer(lab: Lab): Promise<{ added: number; reachable: number }> {
  const { container, milliseconds } = await lab.run('h2', { name: 'seventh', labels: { role: 'guest' } });
  const stream = new PingStream(namespacePath(lab.host('h3').namespace), container.addresses[0]!, 1);
  const timeout = AbortSignal.timeout(10_000);
  const failed = new Promise<never>((_, fail) => {
    timeout.addEventListener('abort', () => fail(new Error('the seventh container is not reachable after 10 s')));
  });
  const reachable = await Promise.race([stream.first(), failed]);
  await stream.stop(0);
  return { added: milliseconds, reachable };
}

async function main(): Promise<number> {
  if (new LabState(LAB).exists()) {
    console.error('a lab is up here already; take it down first: brindle lab down');
    return 1;
  }
  const before = machine();
  const directory = mkdtempSync(join(tmpdir(), 'brindle-demo-'));
  const policyFile = join(directory, 'policy.yaml');
  writeFileSync(policyFile, POLICY);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      interrupted = true;
      running?.kill('SIGTERM');
    });
  }
  let failure: unknown = null;
  try {
    await show(policyFile);
  } catch (error) {
    failure = error;
  }
  title('The end');
  if (interrupted) console.log('Interrupted.');
  else if (failure !== null) console.log(paint('31', `The demo failed: ${errorText(failure)}`));
  console.log(paint('36', '  $ brindle lab down'));
  const removed = await down(LAB);
  console.log(`    ${removed.namespaces} namespaces and ${removed.processes} processes removed`);
  rmSync(directory, { recursive: true });
  const left =
    (await until(5000, () => (differences(before, machine()).length === 0 ? [] : null))) ??
    differences(before, machine());
  for (const line of left) console.log(paint('31', `  ${line}`));
  if (left.length > 0) return 1;
  console.log('    Namespaces, links, routes, nftables and processes are as before.');
  if (interrupted) return 130;
  if (failure !== null) return 1;
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(
    `\nThat was all of it, in ${seconds} seconds. Next: brindle lab up, and play with it; brindle lab --help.`,
  );
  return 0;
}

process.exitCode = await main();
