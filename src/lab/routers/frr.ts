// FRR (bgpd and zebra) as a router of the lab: one configuration for both, `vtysh` to ask and to change. Same
// behaviour as the BIRD of `bird.ts`. The daemons give up root for their own user, so their directory is that user's.
import { execFile, execFileSync } from 'node:child_process';
import { chownSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { BrindleError } from '#base/errors.ts';
import type { PlannedNeighbor, PlannedRouter } from '../plan.ts';
import { startDaemon } from '../processes.ts';
import type { LabState } from '../state.ts';
import { findProgram, type RouterDriver, type RouterRoute, type RouterSession } from './driver.ts';

export function frrConfig(router: PlannedRouter): string {
  return [
    `! Router ${router.spec.name} of a Brindle lab. Generated; written anew when the lab grows.`,
    `hostname ${router.spec.name}`,
    'ip prefix-list not-wires-4 seq 5 deny 172.30.0.0/16 le 32',
    'ip prefix-list not-wires-4 seq 10 permit any',
    'ipv6 prefix-list not-wires-6 seq 5 deny fd00:172:30::/48 le 128',
    'ipv6 prefix-list not-wires-6 seq 10 permit any',
    `router bgp ${router.spec.asNumber}`,
    ` bgp router-id ${router.loopback4}`,
    ' no bgp default ipv4-unicast',
    ' no bgp ebgp-requires-policy',
    ' bgp bestpath as-path multipath-relax',
    ' timers bgp 30 90',
    ' address-family ipv4 unicast',
    '  redistribute connected',
    '  maximum-paths 16',
    ' exit-address-family',
    ' address-family ipv6 unicast',
    '  redistribute connected',
    '  maximum-paths 16',
    ' exit-address-family',
    'exit',
    frrNeighbors(router, router.neighbors),
  ].join('\n');
}

/** Only these neighbours: what a running router is told when the lab grows, for global lines would reset its sessions. */
export function frrNeighbors(router: PlannedRouter, neighbors: readonly PlannedNeighbor[]): string {
  const internal = (n: PlannedNeighbor): boolean => n.asNumber === router.spec.asNumber;
  const lines = neighbors.flatMap((n) => [
    ` neighbor ${n.address} remote-as ${n.asNumber}`,
    ` neighbor ${n.address} description ${n.role} ${n.node}`,
    ` neighbor ${n.address} timers connect 3`,
    ` neighbor ${n.address} advertisement-interval 0`,
    ` address-family ipv${n.family} unicast`,
    `  neighbor ${n.address} activate`,
    // A host has its default route here; only another router must know the wires as well.
    ...(n.role === 'host' ? [`  neighbor ${n.address} prefix-list not-wires-${n.family} out`] : []),
    ...(internal(n) && n.role === 'host' ? [`  neighbor ${n.address} route-reflector-client`] : []),
    ...(internal(n) ? [`  neighbor ${n.address} next-hop-self force`] : []),
    ' exit-address-family',
  ]);
  return [`router bgp ${router.spec.asNumber}`, ...lines, 'exit', ''].join('\n');
}

const UNKNOWN = 'not configured';

interface FrrSummary {
  readonly [family: string]: { readonly peers?: Record<string, { readonly state?: string }> } | undefined;
}

/** Reads `show bgp summary json`. */
export function parseFrrSummary(text: string, neighbors: readonly PlannedNeighbor[]): RouterSession[] {
  const summary = JSON.parse(text) as FrrSummary;
  return neighbors.map(({ node, family, address }) => {
    const info = summary[`ipv${family}Unicast`]?.peers?.[address]?.state ?? UNKNOWN;
    return { node, family, established: info === 'Established', info };
  });
}

interface FrrTable {
  readonly routes?: Record<
    string,
    readonly { readonly bestpath?: boolean; readonly peerId?: string; readonly nexthops?: readonly { ip: string }[] }[]
  >;
}

/** Reads `show bgp ipv4|ipv6 unicast json`; the router's own routes are left out. */
export function parseFrrRoutes(text: string, neighbors: readonly PlannedNeighbor[]): RouterRoute[] {
  const nodeOf = new Map(neighbors.map((neighbor) => [neighbor.address, neighbor.node]));
  return Object.entries((JSON.parse(text) as FrrTable).routes ?? {}).flatMap(([prefix, paths]) => {
    const learned = paths.filter((path) => nodeOf.has(path.peerId ?? ''));
    learned.sort((a, b) => Number(b.bestpath ?? false) - Number(a.bestpath ?? false));
    if (learned.length === 0) return [];
    return [
      {
        prefix,
        from: learned.map((path) => nodeOf.get(path.peerId!)!),
        nextHops: learned.flatMap((path) => (path.nexthops ?? []).slice(0, 1).map((hop) => hop.ip)),
      },
    ];
  });
}

async function vtysh(state: LabState, router: PlannedRouter, args: readonly string[]): Promise<string> {
  try {
    const vty = ['--vty_socket', state.path(router.spec.name)];
    const { stdout } = await promisify(execFile)(findProgram('vtysh') ?? 'vtysh', [...vty, ...args], {
      maxBuffer: 64 << 20,
    });
    return stdout;
  } catch (error) {
    throw new BrindleError('unavailable', `${router.spec.name}: FRR does not answer`, {
      remedy: `its logs are in ${state.path(router.spec.name)}`,
      cause: error,
    });
  }
}

function frrUser(): { uid: number; gid: number } {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith('frr:'));
  const [, , uid, gid] = line?.split(':') ?? [];
  return { uid: Number(uid ?? 0), gid: Number(gid ?? 0) };
}

function writeConfig(state: LabState, router: PlannedRouter): string {
  const directory = state.makeDirectory(router.spec.name);
  const file = `${directory}/frr.conf`;
  writeFileSync(file, frrConfig(router));
  const { uid, gid } = frrUser();
  chownSync(directory, uid, gid);
  return file;
}

/** FRR keeps a directory for each process under /var/tmp and removes it only when it ends by itself. */
export function removeFrrLeftovers(pids: Iterable<number>): void {
  for (const pid of pids) {
    for (const daemon of ['zebra', 'bgpd']) rmSync(`/var/tmp/frr/${daemon}.${pid}`, { recursive: true, force: true });
  }
}

export const frrDriver: RouterDriver = {
  kind: 'frr',
  check() {
    if (findProgram('bgpd') && findProgram('zebra') && findProgram('vtysh')) return;
    throw new BrindleError('unavailable', 'FRR is not installed on this machine', {
      remedy: 'apt-get install frr, or --router brindle',
    });
  },
  version() {
    const text = execFileSync(findProgram('bgpd') ?? 'bgpd', ['--version'], { encoding: 'utf8' });
    return `FRR ${/version (\S+)/.exec(text)?.[1] ?? ''}`.trim();
  },
  start(state, router) {
    const config = writeConfig(state, router);
    const directory = state.path(router.spec.name);
    for (const daemon of ['zebra', 'bgpd']) {
      startDaemon(state, {
        // The state of the router is that of its bgpd.
        name: daemon === 'bgpd' ? router.spec.name : `${router.spec.name} ${daemon}`,
        namespace: router.namespace,
        command: [
          findProgram(daemon) ?? daemon,
          ...['-f', daemon === 'bgpd' ? config : '/dev/null', '-i', `${directory}/${daemon}.pid`],
          ...['-z', `${directory}/zserv.api`, '--vty_socket', directory, '-A', '127.0.0.1'],
        ],
        log: state.path(router.spec.name, `${daemon}.log`),
      });
    }
  },
  async reconfigure(state, router) {
    writeConfig(state, router);
    const known = parseFrrSummary(await vtysh(state, router, ['-c', 'show bgp summary json']), router.neighbors);
    const added = router.neighbors.filter((_, i) => known[i]?.info === UNKNOWN);
    const file = state.path(router.spec.name, 'added.conf');
    writeFileSync(file, frrNeighbors(router, added));
    await vtysh(state, router, ['-f', file]);
  },
  sessions: async (state, router) =>
    parseFrrSummary(await vtysh(state, router, ['-c', 'show bgp summary json']), router.neighbors),
  async routes(state, router) {
    const tables = [4, 6].map(async (family) =>
      parseFrrRoutes(await vtysh(state, router, ['-c', `show bgp ipv${family} unicast json`]), router.neighbors),
    );
    return (await Promise.all(tables)).flat();
  },
  showCommand: (state, router) => ['vtysh', '--vty_socket', state.path(router.spec.name), '-c', 'show bgp all'],
};
