// Processes of a lab: started inside a namespace, living on after the command that started them, each carrying
// BRINDLE_LAB=<name> in its environment. That mark is how they are found again when the manifest is lost, and how
// a process of somebody else in one of our namespaces is told apart and left alone.
import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { BrindleError } from '#base/errors.ts';
import { withNetns } from '#sys/netns.ts';
import { namespacePath } from './kernel.ts';
import type { LabState } from './state.ts';

export interface LabProcess {
  readonly pid: number;
  /** Ticks since boot at which it started: with the pid, unique until the next boot. */
  readonly startTime: string;
}

/** `spawn` in a namespace. A child is born where the thread that makes it stands, so this costs no helper program. */
export function spawnIn(namespace: string, command: readonly string[], options: SpawnOptions): ChildProcess {
  const [program = '', ...rest] = command;
  return withNetns(namespacePath(namespace), () => spawn(program, rest, options));
}

/** Starts a daemon in a namespace, output into `log`. It belongs to no terminal and outlives the caller. */
export function startDaemon(
  state: LabState,
  options: { name: string; namespace: string; command: readonly string[]; log: string; cwd?: string },
): LabProcess {
  const log = openSync(options.log, 'a');
  try {
    const child = spawnIn(options.namespace, options.command, {
      cwd: options.cwd ?? state.dir,
      detached: true,
      stdio: ['ignore', log, log],
      env: daemonEnvironment(state.name),
    });
    child.on('error', () => {}); // reported below: without a pid it did not start
    child.unref();
    if (child.pid === undefined) {
      throw new BrindleError('unavailable', `${options.name}: ${options.command[0]} could not be started`);
    }
    const started = { pid: child.pid, startTime: startTimeOf(child.pid) ?? '' };
    state.note({ kind: 'process', name: options.name, ...started });
    return started;
  } finally {
    closeSync(log);
  }
}

export function daemonEnvironment(lab: string): NodeJS.ProcessEnv {
  const { PATH, HOME, LANG, BRINDLE_NODE_OPTIONS } = process.env;
  return {
    PATH: PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin',
    ...(HOME === undefined ? {} : { HOME }),
    ...(LANG === undefined ? {} : { LANG }),
    ...(BRINDLE_NODE_OPTIONS === undefined ? {} : { BRINDLE_NODE_OPTIONS }),
    BRINDLE_LAB: lab,
  };
}

/** Null when there is no such process, or only its zombie. */
function startTimeOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}

export function isAlive(process: LabProcess): boolean {
  return startTimeOf(process.pid) === process.startTime;
}

/** Every process that carries the lab's mark (and is in the namespace, when one is named), except this one and its ancestors. */
export function processesOf(lab: string, namespace?: string): LabProcess[] {
  const ours = ancestors();
  const inode = namespace === undefined ? null : inodeOf(namespacePath(namespace));
  return readdirSync('/proc').flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || ours.has(pid)) return [];
    try {
      if (!readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`BRINDLE_LAB=${lab}`)) return [];
      if (namespace !== undefined && inodeOf(`/proc/${pid}/ns/net`) !== inode) return [];
    } catch {
      return []; // it ended meanwhile
    }
    const startTime = startTimeOf(pid);
    return startTime === null ? [] : [{ pid, startTime }];
  });
}

function inodeOf(path: string): number | null {
  return statSync(path, { throwIfNoEntry: false })?.ino ?? null;
}

function ancestors(): Set<number> {
  const seen = new Set<number>();
  for (let pid = process.pid; pid > 0 && !seen.has(pid); ) {
    seen.add(pid);
    const stat = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : '';
    pid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0);
  }
  return seen;
}

/** Sends the signal to each, then SIGKILL to those still there after `grace` ms, and waits for all to be gone. */
export async function stop(processes: readonly LabProcess[], signal: NodeJS.Signals, grace: number): Promise<void> {
  const send = (which: readonly LabProcess[], what: NodeJS.Signals): void => {
    for (const { pid } of which) {
      try {
        process.kill(pid, what);
      } catch {
        // it is gone
      }
    }
  };
  send(processes.filter(isAlive), signal);
  const left = await waitGone(processes, grace);
  if (left.length === 0) return;
  send(left, 'SIGKILL');
  const stuck = await waitGone(left, 10_000);
  if (stuck.length > 0) {
    throw new BrindleError('timeout', `processes ${stuck.map((p) => p.pid).join(', ')} do not end`);
  }
}

async function waitGone(processes: readonly LabProcess[], limit: number): Promise<LabProcess[]> {
  const end = performance.now() + limit;
  for (let pause = 1; ; pause = Math.min(pause * 2, 50)) {
    const left = processes.filter(isAlive);
    if (left.length === 0 || performance.now() >= end) return left;
    await sleep(pause);
  }
}

/** Runs `check` until it gives something, at first every 5 ms, later every 100 ms; null when `limit` ms are over. */
export async function until<T>(limit: number, check: () => Promise<T | null> | T | null): Promise<T | null> {
  const end = performance.now() + limit;
  for (let pause = 5; ; pause = Math.min(pause * 1.5, 100)) {
    const value = await check();
    if (value !== null) return value;
    if (performance.now() + pause > end) return null;
    await sleep(pause);
  }
}
