// The agent of each host: its files, its start inside the host's namespace, its state.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { ApiClient } from '#agent/api/client.ts';
import type { Health } from '#agent/api/types.ts';
import { BrindleError, errorText } from '#base/errors.ts';
import type { PlannedHost } from './plan.ts';
import { isAlive, type LabProcess, startDaemon, until } from './processes.ts';
import type { LabState } from './state.ts';

/** Where things are that the lab starts: this same program, and the CNI executable beside it. */
export function programs(): {
  readonly command: readonly string[];
  /** Where `brindle` is. */
  readonly commandDirectory: string;
  readonly cniDirectory: string;
  readonly cniExecutable: string;
} {
  const here = import.meta.dirname;
  const inBundle = existsSync(join(here, 'brindle.js'));
  const root = inBundle ? join(here, '..') : join(here, '../..');
  // Whoever runs from the source (tests) wants agents of that source; a benchmark wants what is shipped.
  const bundled = inBundle || process.env['BRINDLE_SOURCE'] === '0';
  const brindle = join(root, 'bin/brindle');
  return {
    command: bundled ? [brindle] : ['/usr/bin/env', 'BRINDLE_SOURCE=1', brindle],
    commandDirectory: join(root, 'bin'),
    cniDirectory: join(root, 'dist'),
    cniExecutable: join(root, 'dist/brindle-cni'),
  };
}

export function socketOf(state: LabState, host: string): string {
  return state.path(host, 'run', 'brindle.sock');
}

export function conflistOf(state: LabState, host: string): string {
  return state.path(host, 'cni', '10-brindle.conflist');
}

/** With these in the environment, `brindle` and the CNI executable work on this host. */
export function hostVariables(state: LabState, host: string): Record<string, string> {
  return {
    CNI_PATH: programs().cniDirectory,
    BRINDLE_CNI_CONF: conflistOf(state, host),
    BRINDLE_SOCKET: socketOf(state, host),
    BRINDLE_CONFIG: configOf(state, host),
  };
}

function configOf(state: LabState, host: string): string {
  return state.path(host, 'brindle.yaml');
}

/** Writes the agent's configuration and the CNI network configuration of a host. */
export function writeHostFiles(state: LabState, host: PlannedHost): void {
  const name = host.spec.name;
  state.makeDirectory(name, 'run');
  state.makeDirectory(name, 'state');
  state.makeDirectory(name, 'containers');
  const config = {
    hostName: name,
    store: { embedded: { path: state.path('store.db') } },
    runDirectory: state.path(name, 'run'),
    stateDirectory: state.path(name, 'state'),
    logLevel: 'info',
  };
  writeFileSync(configOf(state, name), stringify(config));
  const conflist = {
    cniVersion: '1.0.0',
    cniVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
    name: 'brindle',
    plugins: [{ type: 'brindle-cni', socket: socketOf(state, name), capabilities: { labels: true } }],
  };
  state.makeDirectory(name, 'cni');
  writeFileSync(conflistOf(state, name), `${JSON.stringify(conflist, null, 2)}\n`);
}

export function startAgent(state: LabState, host: PlannedHost): LabProcess {
  const name = host.spec.name;
  return startDaemon(state, {
    name: agentName(name),
    namespace: host.namespace,
    command: [...programs().command, 'agent', '--config', configOf(state, name)],
    log: state.path(name, 'agent.log'),
  });
}

export function agentName(host: string): string {
  return `agent ${host}`;
}

/** The host's agent as last started; null when none ever was. It may be dead. */
export function agentOf(state: LabState, host: string): LabProcess | null {
  let found: LabProcess | null = null;
  for (const entry of state.manifest()) {
    if (entry.kind === 'process' && entry.name === agentName(host)) found = entry;
  }
  return found;
}

/** The API of a host's agent. */
export function agentApi(state: LabState, host: string): ApiClient {
  return new ApiClient(socketOf(state, host));
}

/** Waits until the agent says that it is ready. Throws `unavailable` when it died, `timeout` after `limit` ms. */
export async function waitAgent(state: LabState, host: string, limit: number): Promise<void> {
  const agent = agentOf(state, host);
  const api = agentApi(state, host);
  let last = 'it does not answer';
  const done = await until(limit, async () => {
    if (agent && !isAlive(agent)) {
      throw new BrindleError('unavailable', `the agent of ${host} ended while starting${lastWords(state, host)}`);
    }
    try {
      const { status, text } = await api.call('/v1/health');
      if (status === 200) return true;
      last = notReady(text);
    } catch (error) {
      last = errorText(error);
    }
    return null;
  });
  if (done) return;
  throw new BrindleError(
    'timeout',
    `the agent of ${host} is not ready after ${limit / 1000} s: ${last}${lastWords(state, host)}`,
  );
}

function notReady(text: string): string {
  try {
    const { conditions } = JSON.parse(text) as Health;
    const broken = conditions.filter((condition) => !condition.ok);
    return broken.map((condition) => `${condition.name}: ${condition.message}`).join('; ');
  } catch {
    return text;
  }
}

/** The end of the agent's log: by the time the message is read, the file may be gone with the lab. */
function lastWords(state: LabState, host: string): string {
  const file = state.path(host, 'agent.log');
  const lines = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').slice(-8) : [];
  return lines.length > 0 ? `; the end of ${file}:\n  ${lines.join('\n  ')}` : '';
}

export type AgentState = 'ready' | 'not ready' | 'dead' | 'none';

export async function agentState(state: LabState, host: string): Promise<AgentState> {
  const agent = agentOf(state, host);
  if (!agent) return 'none';
  if (!isAlive(agent)) return 'dead';
  try {
    return (await agentApi(state, host).call('/v1/health')).status === 200 ? 'ready' : 'not ready';
  } catch {
    return 'not ready';
  }
}
