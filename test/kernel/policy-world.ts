// A small host in network namespaces for tests of the policy dataplane: a `host` that routes, workloads on veths named cali*, and an
// `outside` behind an uplink. Traffic is made by Node child processes that live in the namespaces and take orders over IPC-like lines.
import { type ChildProcess, execFileSync, spawn, type StdioOptions } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Libnftables } from '#sys/libnftables.ts';
import { createNamedNetns, deleteNamedNetns, namedNetnsPath, withNetns } from '#sys/netns.ts';
import type { NftDriver } from '#nft/driver.ts';
import { LibnftablesDriver } from '#nft/libnftables-driver.ts';
import { NetlinkNftDriver } from '#nft/netlink/netlink-driver.ts';

let counter = 0;

export const HOST_IPV4 = '192.0.2.1';
export const HOST_IPV6 = 'fd02::1';
export const OUTSIDE_IPV4 = '192.0.2.2';
export const OUTSIDE_IPV6 = 'fd02::2';

export interface Workload {
  readonly name: string;
  readonly interfaceName: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly agent: TrafficAgent;
}

export class PolicyWorld {
  readonly #prefix: string;
  readonly #namespaces: string[] = [];
  readonly workloads: Workload[] = [];
  readonly host: string;
  readonly outside: string;
  hostAgent!: TrafficAgent;
  outsideAgent!: TrafficAgent;

  private constructor(prefix: string) {
    this.#prefix = prefix;
    this.host = `${prefix}h`;
    this.outside = `${prefix}o`;
  }

  static async create(): Promise<PolicyWorld> {
    const world = new PolicyWorld(`bp${process.pid.toString(36)}${(counter++).toString(36)}`);
    world.#namespace(world.host);
    world.run('sysctl', [
      '-qw',
      'net.ipv4.ip_forward=1',
      'net.ipv6.conf.all.forwarding=1',
      'net.ipv4.conf.all.rp_filter=0',
    ]);
    world.#addOutside();
    world.hostAgent = await TrafficAgent.start(world.host);
    world.outsideAgent = await TrafficAgent.start(world.outside);
    return world;
  }

  /** A router behind the uplink. Without a default route the host would not answer ARP for 169.254.1.1. */
  #addOutside(): void {
    this.#namespace(this.outside);
    const ip = (inNs: string, ...args: string[]) => execFileSync('ip', ['-n', inNs, ...args]);
    ip(this.host, 'link', 'add', 'uplink', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', this.outside);
    for (const [ns, device, number] of [
      [this.host, 'uplink', 1],
      [this.outside, 'eth0', 2],
    ] as const) {
      ip(ns, 'link', 'set', device, 'up');
      ip(ns, 'addr', 'add', `192.0.2.${number}/24`, 'dev', device);
      ip(ns, 'addr', 'add', `fd02::${number}/64`, 'dev', device, 'nodad');
    }
    ip(this.host, 'route', 'add', 'default', 'via', OUTSIDE_IPV4);
    ip(this.host, '-6', 'route', 'add', 'default', 'via', OUTSIDE_IPV6);
    ip(this.outside, 'route', 'add', '10.65.0.0/16', 'via', HOST_IPV4);
    ip(this.outside, '-6', 'route', 'add', 'fd65::/64', 'via', HOST_IPV6);
  }

  /** A container with `10.65.0.N/32` and `fd65::N/128`; its interface is `caliN`, or `name`. */
  async addWorkload(interfaceName?: string): Promise<Workload> {
    const number = this.workloads.length + 2;
    const ns = `${this.#prefix}w${number}`;
    const host = interfaceName ?? `cali${number}`;
    const ipv4 = `10.65.0.${number}`;
    const ipv6 = `fd65::${number.toString(16)}`;
    this.#namespace(ns);
    const ip = (inNs: string, ...args: string[]) => execFileSync('ip', ['-n', inNs, ...args]);
    ip(this.host, 'link', 'add', host, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', ns);
    this.run('sysctl', ['-qw', `net.ipv4.conf.${host}.proxy_arp=1`, `net.ipv4.conf.${host}.rp_filter=1`]);
    this.run('sysctl', ['-qw', `net.ipv6.conf.${host}.accept_dad=0`, `net.ipv4.neigh.${host}.proxy_delay=0`]);
    execFileSync('ip', ['netns', 'exec', ns, 'sysctl', '-qw', 'net.ipv6.conf.eth0.accept_dad=0']);
    ip(this.host, 'link', 'set', host, 'address', 'ee:ee:ee:ee:ee:ee', 'up');
    ip(ns, 'link', 'set', 'eth0', 'up');
    ip(ns, 'link', 'set', 'lo', 'up');
    ip(ns, 'addr', 'add', `${ipv4}/32`, 'dev', 'eth0');
    ip(ns, 'addr', 'add', `${ipv6}/128`, 'dev', 'eth0', 'nodad');
    ip(ns, 'route', 'add', '169.254.1.1', 'dev', 'eth0', 'scope', 'link');
    ip(ns, 'route', 'add', 'default', 'via', '169.254.1.1');
    ip(ns, '-6', 'route', 'add', 'default', 'via', 'fe80::ecee:eeff:feee:eeee', 'dev', 'eth0');
    ip(this.host, 'route', 'add', `${ipv4}/32`, 'dev', host, 'scope', 'link');
    ip(this.host, '-6', 'route', 'add', `${ipv6}/128`, 'dev', host);
    const workload = { name: ns, interfaceName: host, ipv4, ipv6, agent: await TrafficAgent.start(ns) };
    this.workloads.push(workload);
    return workload;
  }

  /** Drivers whose sockets live in the host's namespace. */
  driver(): NftDriver {
    return NetlinkNftDriver.open({ netns: namedNetnsPath(this.host) });
  }

  libnftablesDriver(): NftDriver {
    return withNetns(namedNetnsPath(this.host), () => new LibnftablesDriver(Libnftables.open()));
  }

  /** Runs a command in the host's namespace and returns what it prints. */
  run(command: string, args: readonly string[]): string {
    return this.exec(this.host, command, args);
  }

  exec(namespace: string, command: string, args: readonly string[]): string {
    const stdio: StdioOptions = ['ignore', 'pipe', 'pipe'];
    return execFileSync('ip', ['netns', 'exec', namespace, command, ...args], { encoding: 'utf8', stdio });
  }

  async destroy(): Promise<void> {
    this.hostAgent?.stop();
    this.outsideAgent?.stop();
    for (const workload of this.workloads) workload.agent.stop();
    for (const name of this.#namespaces.toReversed()) deleteNamedNetns(name);
  }

  #namespace(name: string): void {
    createNamedNetns(name);
    this.#namespaces.push(name);
    execFileSync('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  }
}

/** A process inside a namespace that listens and connects on demand. */
export class TrafficAgent {
  readonly #process: ChildProcess;
  readonly #pending = new Map<number, (answer: string) => void>();
  #next = 1;

  private constructor(child: ChildProcess) {
    this.#process = child;
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const [id, ...rest] = line.split(' ');
      this.#pending.get(Number(id))?.(rest.join(' '));
      this.#pending.delete(Number(id));
    });
  }

  static async start(namespace: string): Promise<TrafficAgent> {
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, '-e', PROGRAM], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const agent = new TrafficAgent(child);
    await agent.ask('hello');
    return agent;
  }

  /** Listens on all addresses, both families; each connection or datagram is answered. */
  listen(protocol: 'tcp' | 'udp', port: number): Promise<string> {
    return this.ask(`listen ${protocol} ${port}`);
  }

  /** One attempt: `open` an answer came, `closed` actively refused, `silent` nothing came within `timeout` ms. */
  async probe(protocol: 'tcp' | 'udp', address: string, port: number, timeout = 300): Promise<string> {
    return this.ask(`probe ${protocol} ${address} ${port} ${timeout}`);
  }

  /** One echo request. */
  async ping(address: string): Promise<string> {
    return this.ask(`ping ${address}`);
  }

  /** Where TCP connections to this namespace came from since the last call, in order. */
  async seen(): Promise<string[]> {
    return (await this.ask('seen')).split(',').filter((address) => address !== '');
  }

  ask(order: string): Promise<string> {
    const id = this.#next++;
    return new Promise((resolve) => {
      this.#pending.set(id, resolve);
      this.#process.stdin!.write(`${id} ${order}\n`);
    });
  }

  stop(): void {
    this.#process.stdin!.end();
    this.#process.kill('SIGKILL');
  }
}

// Runs in the namespaces; answers `ID open|closed|silent`.
const PROGRAM = String.raw`
const net = require('node:net'), dgram = require('node:dgram'), { execFile } = require('node:child_process');
const sources = [];
const answer = (id, text) => process.stdout.write(id + ' ' + text + '\n');
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const [id, verb, ...args] = line.split(' ');
  const run = { hello: () => answer(id, 'ok'), seen: () => answer(id, sources.splice(0).join(',')), listen, probe, ping, stream }[verb];
  run(id, ...args);
});
process.stdin.on('end', () => process.exit());
function listen(id, protocol, port) {
  if (protocol === 'tcp') net.createServer((s) => { sources.push((s.remoteAddress ?? '').replace(/^::ffff:/, '')); s.on('error', () => {}); s.on('data', (d) => s.write(d)); s.write('hi'); }).listen({ port: Number(port), host: '::' }, () => answer(id, 'ok'));
  else for (const type of ['udp4', 'udp6']) {
    const socket = dgram.createSocket({ type, ipv6Only: type === 'udp6' });
    socket.on('message', (m, from) => socket.send(m, from.port, from.address));
    socket.bind(Number(port), () => type === 'udp6' && answer(id, 'ok'));
  }
}
function probe(id, protocol, address, port, timeout, localAddress) {
  let done = false;
  const end = (text, close) => { if (!done) { done = true; clearTimeout(timer); close(); answer(id, text); } };
  let close = () => {};
  const timer = setTimeout(() => end('silent', () => close()), Number(timeout));
  if (protocol === 'tcp') {
    const s = net.connect({ host: address, port: Number(port), localAddress });
    close = () => s.destroy();
    s.on('data', () => end('open', close)); s.on('error', (e) => end(e.code === 'ECONNREFUSED' ? 'closed' : 'silent', close));
  } else {
    const s = dgram.createSocket(address.includes(':') ? 'udp6' : 'udp4');
    close = () => s.close();
    s.on('error', () => end('closed', close)); s.on('message', () => end('open', close));
    s.connect(Number(port), address, (e) => e ? end('silent', close) : s.send('x'));
  }
}
// 100 datagrams a second to an echo service, count of them; answers how many did not come back.
function stream(id, address, port, count) {
  const s = dgram.createSocket('udp4');
  let sent = 0, back = 0;
  s.on('message', () => back++);
  const timer = setInterval(() => {
    if (sent < count) { sent++; s.send(String(sent), Number(port), address); return; }
    if (++sent < Number(count) + 500 && back < count) return;
    clearInterval(timer); s.close(); answer(id, 'lost ' + (count - back));
  }, 10);
}
function ping(id, address) {
  execFile('busybox', ['ping', '-c', '1', '-W', '1', address], (error) => answer(id, error ? 'silent' : 'open'));
}
`;
