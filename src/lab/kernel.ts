// What the lab needs of the kernel: named network namespaces, wires between them, addresses, routes, sysctls.
import { execFileSync } from 'node:child_process';
import { BrindleError } from '#base/errors.ts';
import { createNamedNetns, deleteNamedNetns, listNamedNetns, namedNetnsPath, withNetns } from '#sys/netns.ts';
import { writeSysctl } from '#sys/proc.ts';

export interface End {
  readonly namespace: string;
  readonly interface: string;
}

export interface Gateway {
  readonly via: string;
  readonly interface: string;
}

export interface FabricKernel {
  namespaces(): string[];
  /** Made for routing: forwarding on, loopback up. `mark` stays in the kernel with it (see `markOf`). */
  createNamespace(name: string, mark: string): void;
  /** No error when it is absent. */
  deleteNamespace(name: string): unknown;
  /** The mark of a namespace; null when it has none. */
  markOf(namespace: string): string | null;
  /** A veth pair, one end in each namespace, both up. */
  connect(a: End, b: End): void;
  /** A bridge that is up, for the lab without routers. */
  addBridge(bridge: End): void;
  enslave(port: End, bridge: string): void;
  addAddress(end: End, address: string, length: number): void;
  /** Several gateways share the traffic. */
  addDefaultRoute(namespace: string, gateways: readonly Gateway[]): void;
}

export function namespacePath(name: string): string {
  return namedNetnsPath(name);
}

function ip(args: readonly string[], input?: string): string {
  try {
    return execFileSync('ip', args, { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'pipe'] });
  } catch (error) {
    const text = (error as { stderr?: string }).stderr?.trim() || (error as Error).message;
    throw new BrindleError('kernel', `ip ${args.join(' ')}: ${text}`, { cause: error });
  }
}

/** A router's: it forwards, takes no part in duplicate address detection, and spreads flows over equal paths. */
const SYSCTLS: readonly (readonly [string, number])[] = [
  ['ipv4/ip_forward', 1],
  ['ipv6/conf/all/forwarding', 1],
  ['ipv6/conf/default/forwarding', 1],
  ['ipv6/conf/all/accept_dad', 0],
  ['ipv6/conf/default/accept_dad', 0],
  ['ipv4/conf/all/rp_filter', 0],
  ['ipv4/conf/default/rp_filter', 0],
  ['ipv4/fib_multipath_hash_policy', 1],
  ['ipv6/fib_multipath_hash_policy', 1],
];

export const ipCommandKernel: FabricKernel = {
  namespaces: listNamedNetns,
  createNamespace: (name, mark) => {
    withNetns(createNamedNetns(name), () => {
      for (const [sysctl, value] of SYSCTLS) writeSysctl(sysctl.split('/'), value);
    });
    ip(['-n', name, 'link', 'set', 'lo', 'up', 'alias', mark]);
  },
  deleteNamespace: deleteNamedNetns,
  markOf: (namespace) => /alias (.*)/.exec(ip(['-n', namespace, 'link', 'show', 'lo']))?.[1]?.trim() ?? null,
  connect: (a, b) => {
    ip([
      '-n',
      a.namespace,
      'link',
      'add',
      a.interface,
      'type',
      'veth',
      'peer',
      'name',
      b.interface,
      'netns',
      b.namespace,
    ]);
    for (const end of [a, b]) ip(['-n', end.namespace, 'link', 'set', end.interface, 'up']);
  },
  addBridge: (bridge) => {
    ip(['-n', bridge.namespace, 'link', 'add', bridge.interface, 'up', 'type', 'bridge']);
  },
  enslave: (port, bridge) => {
    ip(['-n', port.namespace, 'link', 'set', port.interface, 'master', bridge]);
  },
  addAddress: (end, address, length) => {
    const nodad = address.includes(':') ? ['nodad'] : [];
    ip(['-n', end.namespace, 'addr', 'add', `${address}/${length}`, 'dev', end.interface, ...nodad]);
  },
  addDefaultRoute: (namespace, gateways) => {
    const family = gateways[0]?.via.includes(':') ? 'inet6' : 'inet';
    const hops = gateways.flatMap((gateway) => ['nexthop', 'via', gateway.via, 'dev', gateway.interface]);
    ip(['-n', namespace, '-f', family, 'route', 'add', 'default', ...hops]);
  },
};
