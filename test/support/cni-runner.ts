// Calls CNI plugins as libcni does (github.com/containernetworking/cni, libcni/api.go): derives each plugin's
// configuration from the list, chains results, keeps them in a cache for DEL and CHECK, passes on only the
// capabilities that a plugin declares, picks the version, and reads errors from standard output.
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

type Json = Record<string, unknown>;

export interface NetworkList {
  readonly cniVersion: string;
  readonly cniVersions?: readonly string[];
  readonly name: string;
  readonly disableCheck?: boolean;
  readonly disableGC?: boolean;
  readonly plugins: readonly (Json & {
    readonly type: string;
    readonly capabilities?: Readonly<Record<string, boolean>>;
  })[];
}

export interface Attachment {
  readonly containerId: string;
  readonly netns: string;
  readonly ifname?: string;
  /** CNI_ARGS. */
  readonly args?: string;
  readonly capabilityArgs?: Json;
}

export interface RunnerOptions {
  readonly list: NetworkList;
  /** CNI_PATH. */
  readonly path: readonly string[];
  readonly cacheDirectory: string;
  /** The versions that this runtime speaks; the highest that the list names too is taken. */
  readonly versions?: readonly string[];
  /** More environment for the plugins, as the runtime's own environment would give. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Path of the network namespace to run the plugins in; absent: this one. */
  readonly namespace?: string;
  /** Called with the process id of each plugin that was started. */
  readonly onStart?: (pid: number, type: string) => void;
}

/** What a plugin answered with an exit status other than 0. */
export class PluginError extends Error {
  readonly code: number;
  readonly details: string | undefined;
  readonly cniVersion: string | undefined;

  constructor(answer: { code?: number; msg?: string; details?: string; cniVersion?: string }) {
    super(answer.msg ?? 'the plugin failed without a word');
    this.code = answer.code ?? 999;
    this.details = answer.details;
    this.cniVersion = answer.cniVersion;
  }
}

/** Milliseconds and times libcni waits for an executable that is being written (ETXTBSY). */
const BUSY = { tries: 5, pause: 1000 };

export class CniRunner {
  #options: RunnerOptions;
  readonly cniVersion: string;

  constructor(options: RunnerOptions) {
    this.#options = options;
    const { list, versions = ['1.1.0', '1.0.0', '0.4.0', '0.3.1'] } = options;
    const offered = list.cniVersions ?? [list.cniVersion];
    this.cniVersion = versions.find((version) => offered.includes(version)) ?? list.cniVersion;
    mkdirSync(options.cacheDirectory, { recursive: true });
  }

  async add(attachment: Attachment): Promise<Json> {
    let result: Json | null = null;
    for (const plugin of this.#options.list.plugins) {
      const output = await this.#call('ADD', plugin, attachment, result);
      result = JSON.parse(output) as Json;
    }
    const kept = { ...attachment, result };
    writeFileSync(this.#cacheFile(attachment), JSON.stringify(kept));
    return result ?? {};
  }

  async check(attachment: Attachment): Promise<void> {
    if (this.#options.list.disableCheck) return;
    const { result } = this.#cached(attachment) ?? {};
    if (!result) throw new Error('CHECK needs the result of an ADD');
    for (const plugin of this.#options.list.plugins) {
      const output = await this.#call('CHECK', plugin, attachment, result);
      if (output !== '') throw new Error(`CHECK printed ${output}`);
    }
  }

  async del(attachment: Attachment): Promise<void> {
    const { result = null } = this.#cached(attachment) ?? {};
    for (const plugin of this.#options.list.plugins.toReversed()) {
      const output = await this.#call('DEL', plugin, attachment, result);
      if (output !== '') throw new Error(`DEL printed ${output}`);
    }
    rmSync(this.#cacheFile(attachment), { force: true });
  }

  async status(): Promise<void> {
    for (const plugin of this.#options.list.plugins) await this.#call('STATUS', plugin, null, null);
  }

  /** As libcni: a real DEL for each stale attachment of its own cache, then GC. `valid` null: the key is left out. */
  async gc(valid: readonly { containerId: string; ifname?: string }[] | null): Promise<void> {
    if (this.#options.list.disableGC) return;
    const isValid = (attachment: Attachment): boolean =>
      valid === null ||
      valid.some(
        (v) => v.containerId === attachment.containerId && (v.ifname ?? 'eth0') === (attachment.ifname ?? 'eth0'),
      );
    for (const file of readdirSync(this.#options.cacheDirectory)) {
      const kept = JSON.parse(readFileSync(join(this.#options.cacheDirectory, file), 'utf8')) as Attachment;
      if (!isValid(kept)) await this.del(kept).catch(() => undefined);
    }
    const list = valid?.map((v) => ({ containerID: v.containerId, ifname: v.ifname ?? 'eth0' }));
    const keys = list ? { 'cni.dev/valid-attachments': list, 'cni.dev/attachments': list } : {};
    for (const plugin of this.#options.list.plugins) await this.#call('GC', plugin, null, null, keys);
  }

  async version(type: string): Promise<Json> {
    const plugin = this.#options.list.plugins.find((p) => p.type === type)!;
    return JSON.parse(await this.#call('VERSION', plugin, null, null)) as Json;
  }

  #cacheFile({ containerId, ifname }: Attachment): string {
    return join(this.#options.cacheDirectory, `${this.#options.list.name}-${containerId}-${ifname ?? 'eth0'}`);
  }

  #cached(attachment: Attachment): { result: Json } | null {
    try {
      return JSON.parse(readFileSync(this.#cacheFile(attachment), 'utf8')) as { result: Json };
    } catch {
      return null;
    }
  }

  async #call(
    verb: string,
    plugin: NetworkList['plugins'][number],
    attachment: Attachment | null,
    prevResult: Json | null,
    more: Json = {},
  ): Promise<string> {
    const { capabilities, ...own } = plugin;
    const offered = Object.entries(attachment?.capabilityArgs ?? {}).filter(([name]) => capabilities?.[name]);
    const config = {
      ...own,
      cniVersion: this.cniVersion,
      name: this.#options.list.name,
      ...(offered.length > 0 ? { runtimeConfig: Object.fromEntries(offered) } : {}),
      ...(prevResult ? { prevResult } : {}),
      ...more,
    };
    const environment: Record<string, string> = {
      PATH: process.env['PATH'] ?? '',
      ...this.#options.environment,
      CNI_COMMAND: verb,
      CNI_PATH: this.#options.path.join(':'),
      ...(attachment
        ? {
            CNI_CONTAINERID: attachment.containerId,
            CNI_NETNS: attachment.netns,
            CNI_IFNAME: attachment.ifname ?? 'eth0',
            CNI_ARGS: attachment.args ?? '',
          }
        : {}),
    };
    const file = this.#find(plugin.type);
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#exec(file, plugin.type, environment, JSON.stringify(sorted(config)));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ETXTBSY' || attempt > BUSY.tries) throw error;
        await new Promise((resolve) => setTimeout(resolve, BUSY.pause));
      }
    }
  }

  #find(type: string): string {
    for (const directory of this.#options.path) {
      const file = join(directory, type);
      try {
        accessSync(file, constants.X_OK);
        return file;
      } catch {
        // the next one
      }
    }
    throw new Error(`no plugin ${type} in ${this.#options.path.join(':')}`);
  }

  #exec(file: string, type: string, env: Record<string, string>, input: string): Promise<string> {
    const { namespace } = this.#options;
    const [command, ...args] = namespace === undefined ? [file] : ['nsenter', `--net=${namespace}`, '--', file];
    const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    if (child.pid !== undefined) this.#options.onStart?.(child.pid, type);
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status, signal) => {
        const text = Buffer.concat(out).toString();
        if (status === 0) return resolve(text);
        if (signal) return reject(new PluginError({ msg: `killed by ${signal}` }));
        try {
          return reject(new PluginError(JSON.parse(text) as { code: number; msg: string }));
        } catch {
          return reject(new PluginError({ msg: `${text}${Buffer.concat(err).toString()}` || `exit status ${status}` }));
        }
      });
    });
  }
}

/** Go writes the keys of a map in order. */
function sorted(value: Json): Json {
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
