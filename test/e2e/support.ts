// For the tests of whole labs: names of their own, the command line, and a picture of the machine before and after.
import { execFile, execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const ROOT = resolve(import.meta.dirname, '../..');
let counter = 0;

/** A lab's name that no other test uses at the same time. */
export function uniqueLab(): string {
  counter++;
  return `t${process.pid.toString(36)}-${counter}`;
}

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The program and first arguments of `brindle`, run from its source. */
export const BRINDLE: readonly string[] = [
  process.execPath,
  '--disable-warning=ExperimentalWarning',
  `${ROOT}/src/cli/main.ts`,
];

/** Runs `brindle ...` and returns what it said, whatever its exit status. */
export function brindle(...args: readonly string[]): Promise<CommandResult> {
  const [program = '', ...first] = BRINDLE;
  return new Promise((done) => {
    execFile(program, [...first, ...args], { maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const code = error ? error.code : 0;
      done({ status: typeof code === 'number' ? code : 1, stdout, stderr });
    });
  });
}

/** What a lab could leave behind, each a sorted list of lines. */
export interface MachineState {
  readonly namespaces: readonly string[];
  readonly links: readonly string[];
  readonly routes: readonly string[];
  readonly nftTables: readonly string[];
  readonly processes: readonly string[];
  readonly files: readonly string[];
}

/** The machine's own namespace whole; of named namespaces, processes and files only those of the lab. */
export function machineState(lab: string): MachineState {
  const lines = (program: string, ...args: string[]): string[] =>
    execFileSync(program, args, { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line !== '')
      .sort();
  return {
    namespaces: list('/run/netns').filter((name) => name.startsWith(`brindle-${lab}-`)),
    links: lines('ip', '-brief', 'link').map((line) => line.split(/\s+/)[0]!),
    routes: [...lines('ip', 'route', 'show', 'table', 'all'), ...lines('ip', '-6', 'route', 'show', 'table', 'all')],
    nftTables: lines('nft', 'list', 'tables'),
    processes: list('/proc').filter((pid) => /^\d+$/.test(pid) && environmentOf(pid).includes(`BRINDLE_LAB=${lab}`)),
    files: list('/run/brindle/lab').filter((name) => name === lab),
  };
}

/** Null when the state is that again (other tests may pass by: it is asked for some time), else what differs. */
export async function differenceAfter(before: MachineState, lab: string): Promise<string | null> {
  let difference = '';
  for (let i = 0; i < 100; i++) {
    const after = machineState(lab);
    difference = (Object.keys(before) as (keyof MachineState)[])
      .flatMap((key) => [
        ...after[key].filter((line) => !before[key].includes(line)).map((line) => `+ ${key}: ${line}`),
        ...before[key].filter((line) => !after[key].includes(line)).map((line) => `- ${key}: ${line}`),
      ])
      .join('\n');
    if (difference === '') return null;
    await sleep(50);
  }
  return difference;
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

function environmentOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
  } catch {
    return [];
  }
}
