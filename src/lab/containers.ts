// Containers of the lab: a namespace, attached by the real CNI executable exactly as a runtime would call it, and on
// request a small web server inside. In: host, name, labels. Out: a running container, its CNI result and the time
// the call took.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { BrindleError } from '#base/errors.ts';
import { conflistOf, programs, socketOf } from './hosts.ts';
import { type FabricKernel, namespacePath } from './kernel.ts';
import { containerNamespaceOf, type PlannedHost } from './plan.ts';
import { daemonEnvironment, processesOf, spawnIn, startDaemon, stop, until } from './processes.ts';
import { probeTcp } from './probe.ts';
import { findProgram } from './routers/driver.ts';
import type { ContainerFile, LabState } from './state.ts';
import { isNodeName } from './topology.ts';

const SERVER_START_MS = 5000;

export interface RunOptions {
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Port of a small web server that tells the container's name; null: none. */
  readonly serve?: number | null;
}

export interface RunResult {
  readonly container: ContainerFile;
  /** From the start of the CNI executable to its end, in milliseconds. */
  readonly milliseconds: number;
}

export interface CniAnswer {
  readonly status: number;
  readonly output: string;
  /** From the start of the executable to its end. */
  readonly milliseconds: number;
}

/** Makes and attaches a container. When the CNI call fails nothing of it is left; its error text is in the message. */
export async function runContainer(
  kernel: FabricKernel,
  state: LabState,
  host: PlannedHost,
  options: RunOptions,
): Promise<RunResult> {
  const { name, labels = {}, serve = null } = options;
  const shown = `${host.spec.name}/${name}`;
  if (!isNodeName(name)) {
    throw new BrindleError('invalid-argument', `"${name}" cannot be the name of a container`, {
      remedy: 'use a small letter, then up to 13 small letters, digits or dashes',
    });
  }
  if (serve !== null && !findProgram('busybox')) {
    throw new BrindleError('unavailable', 'busybox is not installed; --serve needs it', {
      remedy: 'apt-get install busybox-static',
    });
  }
  const namespace = containerNamespaceOf(state.name, host.spec.name, name);
  if (state.container(host.spec.name, name) || kernel.namespaces().includes(namespace)) {
    throw new BrindleError('already-exists', `there is a container ${shown} already`);
  }
  const draft = { host: host.spec.name, name, namespace, labels, serve, addresses: [] };
  state.note({ kind: 'namespace', name: namespace });
  state.saveContainer(draft);
  kernel.createNamespace(namespace, `brindle lab ${state.name}: ${shown}`);
  try {
    const answer = await callCni(state, host, 'ADD', draft);
    if (answer.status !== 0) throw cniError(shown, answer.output);
    const container = { ...draft, addresses: addressesIn(answer.output) };
    state.saveContainer(container);
    if (serve !== null) await startServer(state, container, serve);
    return { container, milliseconds: answer.milliseconds };
  } catch (error) {
    await removeContainer(kernel, state, host, draft);
    throw error;
  }
}

/** Detaches and removes a container; returns how long the CNI call took, in milliseconds. */
export async function removeContainer(
  kernel: FabricKernel,
  state: LabState,
  host: PlannedHost,
  container: ContainerFile,
): Promise<number> {
  const answer = await callCni(state, host, 'DEL', container);
  if (answer.status !== 0) throw cniError(`${container.host}/${container.name}`, answer.output);
  await stop(processesOf(state.name, container.namespace), 'SIGKILL', 5000);
  kernel.deleteNamespace(container.namespace);
  rmSync(webDirectory(state, container), { recursive: true, force: true });
  state.forgetContainer(container.host, container.name);
  return answer.milliseconds;
}

/** One call of the CNI executable in the host's namespace, with the configuration that libcni would make of the list. */
export async function callCni(
  state: LabState,
  host: PlannedHost,
  verb: 'ADD' | 'DEL' | 'CHECK',
  container: Pick<ContainerFile, 'name' | 'namespace' | 'labels'>,
): Promise<CniAnswer> {
  const executable = programs().cniExecutable;
  if (!existsSync(executable)) {
    throw new BrindleError('unavailable', `the CNI executable ${executable} is missing`, { remedy: 'run make build' });
  }
  const list = JSON.parse(readFileSync(conflistOf(state, host.spec.name), 'utf8')) as {
    name: string;
    cniVersion: string;
    plugins: Record<string, unknown>[];
  };
  const { capabilities: _, ...plugin } = list.plugins[0]!;
  const config = {
    ...plugin,
    name: list.name,
    cniVersion: list.cniVersion,
    runtimeConfig: { labels: container.labels },
  };
  const start = performance.now();
  const child = spawnIn(host.namespace, [executable], {
    env: {
      ...daemonEnvironment(state.name),
      BRINDLE_SOCKET: socketOf(state, host.spec.name),
      CNI_COMMAND: verb,
      CNI_CONTAINERID: container.name,
      CNI_NETNS: namespacePath(container.namespace),
      CNI_IFNAME: 'eth0',
      CNI_PATH: programs().cniDirectory,
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAME=${container.name}`,
    },
  });
  const { promise, resolve, reject } = Promise.withResolvers<CniAnswer>();
  const out: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => errors.push(chunk));
  let milliseconds = 0;
  child.on('error', reject);
  child.on('exit', () => {
    milliseconds = performance.now() - start;
  });
  child.on('close', (code) => {
    const output = Buffer.concat(out.length > 0 ? out : errors).toString();
    resolve({ status: code ?? 255, output, milliseconds });
  });
  child.stdin?.on('error', () => {}); // it may end without reading: its status tells
  child.stdin?.end(JSON.stringify(config));
  return promise;
}

function cniError(container: string, output: string): BrindleError {
  let reason = output.trim();
  try {
    const { msg, details } = JSON.parse(output) as { msg?: string; details?: string };
    reason = [msg, details].filter(Boolean).join('; ');
  } catch {
    // not JSON: its words as they are
  }
  return new BrindleError('unavailable', `${container} could not be attached: ${reason || 'no reason given'}`);
}

function addressesIn(result: string): string[] {
  const { ips = [] } = JSON.parse(result) as { ips?: { address: string }[] };
  return ips.map((ip) => ip.address.split('/')[0]!).sort((a, b) => Number(a.includes(':')) - Number(b.includes(':')));
}

function webDirectory(state: LabState, container: ContainerFile): string {
  return state.path(container.host, 'containers', `${container.name}.www`);
}

/** A web server on both families that answers with the container's name. */
async function startServer(state: LabState, container: ContainerFile, port: number): Promise<void> {
  const directory = webDirectory(state, container);
  mkdirSync(directory, { recursive: true });
  writeFileSync(`${directory}/index.html`, `${container.host}/${container.name}\n`);
  startDaemon(state, {
    name: `${container.host}/${container.name}`,
    namespace: container.namespace,
    command: [findProgram('busybox') ?? 'busybox', 'httpd', '-f', '-p', String(port), '-h', directory],
    log: '/dev/null',
  });
  const path = namespacePath(container.namespace);
  const listens = async (): Promise<true | null> =>
    (await probeTcp(path, '127.0.0.1', port, SERVER_START_MS)) === 'ok' ? true : null;
  if (await until(SERVER_START_MS, listens)) return;
  throw new BrindleError(
    'timeout',
    `the server of ${container.host}/${container.name} does not listen on port ${port}`,
  );
}
