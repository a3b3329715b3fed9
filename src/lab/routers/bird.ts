// Real BIRD 2 as a router of the lab. It takes every route of its hosts, forwards by them (kernel protocol, ECMP),
// passes them on to its other neighbours, and helps a host through an agent's absence (graceful restart, RFC 4724).
// The pure half (configuration, reading of what `birdc` prints) comes first, the driver last.
import { execFile } from 'node:child_process';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { BrindleError } from '#base/errors.ts';
import type { PlannedNeighbor, PlannedRouter } from '../plan.ts';
import { startDaemon } from '../processes.ts';
import type { LabState } from '../state.ts';
import { findProgram, type RouterDriver, type RouterRoute, type RouterSession } from './driver.ts';

/** BIRD symbols take letters, digits and underscores. */
export function birdName(neighbor: PlannedNeighbor): string {
  return `${neighbor.node.replaceAll('-', '_')}_ipv${neighbor.family}`;
}

export function birdConfig(router: PlannedRouter): string {
  const neighbor = (n: PlannedNeighbor): string[] => {
    const internal = n.asNumber === router.spec.asNumber;
    return [
      `protocol bgp ${birdName(n)} {`,
      `  description "${n.role} ${n.node}";`,
      `  local ${n.localAddress} as ${router.spec.asNumber};`,
      `  neighbor ${n.address} as ${n.asNumber};`,
      '  direct;',
      '  hold time 90;',
      '  connect delay time 1;',
      '  connect retry time 3;',
      '  error wait time 1, 8;',
      '  graceful restart on;',
      ...(internal && n.role === 'host' ? ['  rr client;'] : []),
      `  ipv${n.family} {`,
      '    import all;',
      // A host has its default route here; another router must know the wires as well.
      `    export ${n.role === 'host' ? 'where source = RTS_BGP' : 'all'};`,
      ...(internal ? ['    next hop self;'] : []),
      '  };',
      '}',
      '',
    ];
  };
  const kernel = (family: 4 | 6): string =>
    `protocol kernel { ipv${family} { import none; export where source = RTS_BGP; }; merge paths on; }`;
  return [
    `# Router ${router.spec.name} of a Brindle lab. Generated; written anew when the lab grows.`,
    `router id ${router.loopback4};`,
    'log stderr all;',
    '',
    'protocol device { scan time 60; }',
    // Other routers must be told of the wires here; hosts need not.
    ...(router.neighbors.some((n) => n.role === 'router') ? ['protocol direct { ipv4; ipv6; }'] : []),
    kernel(4),
    kernel(6),
    '',
    ...router.neighbors.flatMap(neighbor),
  ].join('\n');
}

/** Reads `birdc show protocols`: name, proto, table, state, since (a time, or a date and a time), info. */
export function parseBirdProtocols(text: string, neighbors: readonly PlannedNeighbor[]): RouterSession[] {
  const byName = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^(\S+)\s+BGP\s+\S+\s+\S+\s+\S+(?:\s+\d\d:\d\d:\d\d\S*)?\s*(.*)$/.exec(line);
    if (match) byName.set(match[1]!, match[2]!.trim());
  }
  return neighbors.map((neighbor) => {
    const info = byName.get(birdName(neighbor)) ?? 'not configured';
    return { node: neighbor.node, family: neighbor.family, established: info.startsWith('Established'), info };
  });
}

/** Reads `birdc show route`. Further paths of one prefix come on lines that start with a space. */
export function parseBirdRoutes(text: string, neighbors: readonly PlannedNeighbor[]): RouterRoute[] {
  const nodeOf = new Map(neighbors.map((neighbor) => [birdName(neighbor), neighbor.node]));
  const routes: { prefix: string; from: string[]; nextHops: string[] }[] = [];
  for (const line of text.split('\n')) {
    const path = /^(\S*)\s+unicast \[(\S+) /.exec(line);
    if (path) {
      if (path[1]) routes.push({ prefix: path[1], from: [], nextHops: [] });
      routes.at(-1)?.from.push(nodeOf.get(path[2]!) ?? path[2]!);
    }
    const hop = /^\s+via (\S+) on /.exec(line);
    if (hop) routes.at(-1)?.nextHops.push(hop[1]!);
  }
  return routes;
}

function socketOf(state: LabState, router: PlannedRouter): string {
  return state.path(router.spec.name, 'bird.ctl');
}

async function birdc(state: LabState, router: PlannedRouter, command: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(
      findProgram('birdc') ?? 'birdc',
      ['-s', socketOf(state, router), ...command.split(' ')],
      { maxBuffer: 64 << 20 },
    );
    return stdout;
  } catch (error) {
    throw new BrindleError('unavailable', `${router.spec.name}: BIRD does not answer "${command}"`, {
      remedy: `its log is ${state.path(router.spec.name, 'bird.log')}`,
      cause: error,
    });
  }
}

function writeConfig(state: LabState, router: PlannedRouter): string {
  const file = `${state.makeDirectory(router.spec.name)}/bird.conf`;
  writeFileSync(file, birdConfig(router));
  return file;
}

export const birdDriver: RouterDriver = {
  kind: 'bird',
  check() {
    if (findProgram('bird') && findProgram('birdc')) return;
    throw new BrindleError('unavailable', 'BIRD is not installed on this machine', {
      remedy: 'apt-get install bird2, or --router brindle',
    });
  },
  version() {
    const bird = findProgram('bird');
    // It answers on standard error.
    const text = bird ? execFileSync('sh', ['-c', '"$0" --version 2>&1', bird], { encoding: 'utf8' }) : '';
    return `BIRD ${/(\d+\.\S+)/.exec(text)?.[1] ?? ''}`.trim();
  },
  start(state, router) {
    const config = writeConfig(state, router);
    startDaemon(state, {
      name: router.spec.name,
      namespace: router.namespace,
      command: [findProgram('bird') ?? 'bird', '-f', '-c', config, '-s', socketOf(state, router)],
      log: state.path(router.spec.name, 'bird.log'),
    });
  },
  async reconfigure(state, router) {
    writeConfig(state, router);
    await birdc(state, router, 'configure');
  },
  sessions: async (state, router) => parseBirdProtocols(await birdc(state, router, 'show protocols'), router.neighbors),
  routes: async (state, router) =>
    parseBirdRoutes(await birdc(state, router, 'show route where source = RTS_BGP'), router.neighbors),
  showCommand: (state, router) => ['birdc', '-s', socketOf(state, router), 'show', 'route'],
};
