// Network namespaces for tests: uniquely named, gone at the end also when the test fails or the process is interrupted.
//
//   await using host = testNetns('host');      // or: const host = testNetns('host'); try { ... } finally { host.close(); }
//   connectNetns(host, other, { a: 'eth1', b: 'eth0' });
//   await host.run('ping', '-c1', '10.0.0.2');
import { type ChildProcess, execFile, type ExecFileException, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { IpAddress } from '#net/address.ts';
import { type NetlinkApi, executeAll } from '#netlink/api.ts';
import { openNetlink } from '#netlink/kernel.ts';
import { closeFd } from '#sys/ffi.ts';
import { createNamedNetns, deleteNamedNetns, openNetns, withNetns } from '#sys/netns.ts';
import { writeSysctl } from '#sys/proc.ts';

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TestNetns extends Disposable, AsyncDisposable {
  readonly name: string;
  readonly path: string;
  /** An open descriptor of the namespace. */
  readonly fd: number;
  /** rtnetlink inside; made at its first use. */
  readonly netlink: NetlinkApi;
  /** Runs a synchronous function inside. */
  inside<T>(fn: () => T): T;
  /** Runs a command inside; throws when its status is not 0. Returns what it printed. */
  run(command: string, ...args: string[]): Promise<string>;
  /** As `run`, with the status as a result. */
  tryRun(command: string, ...args: string[]): Promise<CommandResult>;
  /** Starts a command that is killed with the namespace. */
  start(command: string, ...args: string[]): ChildProcess;
  sysctl(name: readonly string[], value: string | number): void;
  close(): void;
}

let counter = 0;
const alive = new Set<TestNetns>();
let guarded = false;

/** A name that no other test and no other run uses: at most 12 characters with a 2-letter prefix. */
export function uniqueName(prefix: string): string {
  return `${prefix}${process.pid.toString(36)}${(counter++).toString(36)}`;
}

/** Makes a namespace with its loopback interface up. */
export function testNetns(label = 'ns'): TestNetns {
  guard();
  const name = uniqueName(`bt-${label}-`);
  const path = createNamedNetns(name);
  const fd = openNetns(path);
  let netlink: NetlinkApi | null = null;
  const children = new Set<ChildProcess>();
  const wrap = (command: string, args: string[]): string[] => [`--net=${path}`, '--', command, ...args];
  const namespace: TestNetns = {
    name,
    path,
    fd,
    get netlink() {
      netlink ??= openNetlink({ netns: path });
      return netlink;
    },
    inside: (fn) => withNetns(fd, fn),
    async run(command, ...args) {
      const result = await namespace.tryRun(command, ...args);
      if (result.status === 0) return result.stdout;
      throw new Error(
        `${command} ${args.join(' ')} in ${name}: status ${result.status}\n${result.stderr}${result.stdout}`,
      );
    },
    tryRun: (command, ...args) =>
      new Promise((resolve) => {
        const done = (error: ExecFileException | null, stdout: string, stderr: string): void => {
          const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
          resolve({ status, stdout, stderr: error && status === -1 ? `${error.message}\n${stderr}` : stderr });
        };
        const child = execFile('nsenter', wrap(command, args), { timeout: 60_000, maxBuffer: 1 << 26 }, done);
        children.add(child);
        child.once('exit', () => children.delete(child));
      }),
    start(command, ...args) {
      const child = spawn('nsenter', wrap(command, args), { stdio: ['ignore', 'pipe', 'pipe'] });
      children.add(child);
      child.once('exit', () => children.delete(child));
      return child;
    },
    sysctl: (sysctl, value) => withNetns(fd, () => writeSysctl(sysctl, value)),
    close() {
      if (!alive.delete(namespace)) return;
      for (const child of children) child.kill('SIGKILL');
      netlink?.close();
      closeFd(fd);
      deleteNamedNetns(name);
      rmSync(`/etc/netns/${name}`, { recursive: true, force: true });
    },
    [Symbol.dispose]: () => namespace.close(),
    [Symbol.asyncDispose]: async () => namespace.close(),
  };
  alive.add(namespace);
  executeAll(namespace.netlink, [{ op: 'link-set', link: 'lo', settings: { up: true } }]);
  return namespace;
}

export interface VethEnds {
  /** Interface names. */
  readonly a: string;
  readonly b: string;
  /** Addresses as `10.0.0.1/24`. */
  readonly aAddresses?: readonly string[];
  readonly bAddresses?: readonly string[];
}

/** Joins two namespaces by a veth pair, both ends up, IPv6 usable at once. Returns the two interface indexes. */
export function connectNetns(a: TestNetns, b: TestNetns, ends: VethEnds): { a: number; b: number } {
  const [, found] = executeAll(a.netlink, [
    { op: 'veth-add', veth: { name: ends.a, peer: { name: ends.b, netnsFd: b.fd } } },
    { op: 'link-get', link: ends.a },
  ]);
  const indexes = { a: found!.link!.index, b: found!.link!.peerIndex! };
  for (const [end, name] of [
    [a, ends.a],
    [b, ends.b],
  ] as const) {
    end.sysctl(['ipv6', 'conf', name, 'accept_dad'], 0);
    executeAll(end.netlink, [{ op: 'link-set', link: name, settings: { up: true } }]);
  }
  addAddresses(a, indexes.a, ends.aAddresses ?? []);
  addAddresses(b, indexes.b, ends.bAddresses ?? []);
  return indexes;
}

/** Adds `address/length` texts to an interface, without duplicate address detection. */
export function addAddresses(namespace: TestNetns, ifindex: number, addresses: readonly string[]): void {
  const operations = addresses.map((text) => {
    const [address = '', length = ''] = text.split('/');
    const value = { ifindex, address: IpAddress.parse(address), prefixLength: Number(length), noDad: true };
    return { op: 'address-add', address: value } as const;
  });
  executeAll(namespace.netlink, operations);
}

/** Closes what is left when the process is told to end in the middle of a test. */
function guard(): void {
  if (guarded) return;
  guarded = true;
  const closeAll = (): void => {
    for (const namespace of alive) namespace.close();
  };
  process.once('exit', closeAll);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      closeAll();
      process.kill(process.pid, signal);
    });
  }
}

/** Waits until `condition` holds, looking every few milliseconds; throws after `timeoutMs` with `what`. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
