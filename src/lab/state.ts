// The files of a running lab, under /run/brindle/lab/<name>/:
//   manifest.jsonl   one line for each thing outside this directory, written before the thing is made
//   lab.json         the topology as it is now
//   store.db         the store all hosts share
//   <host>/          brindle.yaml, agent.log, run/ (socket), state/ (journal), cni/ (conflist), containers/*.json
//   <router>/        configuration, log, control socket
// `down` needs only the manifest, or nothing when the kernel marks are enough.
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { BrindleError } from '#base/errors.ts';
import { DEFAULT_LAB } from './plan.ts';
import type { Topology } from './topology.ts';

const ROOT = '/run/brindle/lab';
const LAB_NAME = /^[a-z][a-z0-9-]{0,19}$/;

export type ManifestEntry =
  | { readonly kind: 'namespace'; readonly name: string }
  | { readonly kind: 'process'; readonly name: string; readonly pid: number; readonly startTime: string };

export interface LabFile {
  readonly version: 1;
  readonly topology: Topology;
  /** False when the lab was made without agents (`--no-agents`). */
  readonly agents: boolean;
  /** RFC 3339. */
  readonly createdAt: string;
}

export interface ContainerFile {
  readonly host: string;
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Port of its small web server; null when it has none. */
  readonly serve: number | null;
  /** Bare addresses, IPv4 first. Empty until the CNI executable has answered. */
  readonly addresses: readonly string[];
}

export class LabState {
  readonly name: string;
  readonly dir: string;

  constructor(name: string) {
    if (!LAB_NAME.test(name)) {
      throw new BrindleError('invalid-argument', `"${name}" cannot be the name of a lab`, {
        field: '--name',
        remedy: 'use a small letter, then up to 19 small letters, digits or dashes',
      });
    }
    this.name = name;
    this.dir = `${ROOT}/${name}`;
  }

  static names(): string[] {
    return existsSync(ROOT) ? readdirSync(ROOT).sort() : [];
  }

  exists(): boolean {
    return existsSync(this.dir);
  }

  /** Makes the directory. Throws `already-exists` when there is one: the lab is up, or was not taken down. */
  create(): void {
    mkdirSync(ROOT, { recursive: true, mode: 0o755 });
    try {
      mkdirSync(this.dir, { mode: 0o755 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      throw new BrindleError('already-exists', `the lab "${this.name}" is up already`, {
        remedy: `${this.command('status')} shows it, ${this.command('down')} takes it down`,
        cause: error,
      });
    }
  }

  /** Removes the directory, and its parents when nothing else is in them. */
  remove(): void {
    rmSync(this.dir, { recursive: true, force: true });
    for (const dir of [ROOT, '/run/brindle']) {
      try {
        rmdirSync(dir);
      } catch {
        return; // in use by another lab or by the host's own agent
      }
    }
  }

  /** The command line that a person would type for this lab. */
  command(verb: string): string {
    return `brindle lab ${verb}${this.name === DEFAULT_LAB ? '' : ` --name ${this.name}`}`;
  }

  /** Must be called before the thing is made. */
  note(entry: ManifestEntry): void {
    appendFileSync(`${this.dir}/manifest.jsonl`, `${JSON.stringify(entry)}\n`);
  }

  /** A last line cut off by a crash is passed over: its thing was not made. */
  manifest(): ManifestEntry[] {
    const file = `${this.dir}/manifest.jsonl`;
    if (!existsSync(file)) return [];
    return readFileSync(file, 'utf8')
      .split('\n')
      .flatMap((line) => {
        try {
          return [JSON.parse(line) as ManifestEntry];
        } catch {
          return [];
        }
      });
  }

  save(lab: LabFile): void {
    writeAtomic(`${this.dir}/lab.json`, `${JSON.stringify(lab, null, 2)}\n`);
  }

  /** Throws `not-found` when the lab is not up. */
  load(): LabFile {
    const file = `${this.dir}/lab.json`;
    if (!existsSync(file)) {
      const crashed = this.exists();
      throw new BrindleError('not-found', `the lab "${this.name}" is not up`, {
        remedy: crashed
          ? `what is left of it goes away with ${this.command('down')}`
          : `bring it up with ${this.command('up')}`,
      });
    }
    return JSON.parse(readFileSync(file, 'utf8')) as LabFile;
  }

  path(...parts: string[]): string {
    return [this.dir, ...parts].join('/');
  }

  makeDirectory(...parts: string[]): string {
    const dir = this.path(...parts);
    mkdirSync(dir, { recursive: true, mode: 0o755 });
    return dir;
  }

  containers(): ContainerFile[] {
    if (!this.exists()) return [];
    return readdirSync(this.dir)
      .flatMap((host) => {
        const dir = this.path(host, 'containers');
        return existsSync(dir) ? readdirSync(dir).map((file) => `${dir}/${file}`) : [];
      })
      .filter((file) => file.endsWith('.json'))
      .map((file) => JSON.parse(readFileSync(file, 'utf8')) as ContainerFile)
      .sort((a, b) => natural(a.host, b.host) || natural(a.name, b.name));
  }

  container(host: string, name: string): ContainerFile | null {
    const file = this.path(host, 'containers', `${name}.json`);
    return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as ContainerFile) : null;
  }

  saveContainer(container: ContainerFile): void {
    const dir = this.makeDirectory(container.host, 'containers');
    writeAtomic(`${dir}/${container.name}.json`, `${JSON.stringify(container)}\n`);
  }

  forgetContainer(host: string, name: string): void {
    rmSync(this.path(host, 'containers', `${name}.json`), { force: true });
  }
}

/** h2 before h10. */
export function natural(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

export function writeAtomic(file: string, text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}
