// A Brindle speaker as a router of the lab, for machines with neither BIRD nor FRR: `brindle speaker` with its routes
// in the kernel. Same behaviour as the BIRD of `bird.ts`.
import { writeFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { ApiClient } from '#agent/api/client.ts';
import { BrindleError } from '#base/errors.ts';
import type { PeerSummary, RoutesAnswer } from '#bgp/speaker/api.ts';
import { Prefix } from '#net/prefix.ts';
import { programs } from '../hosts.ts';
import type { PlannedNeighbor, PlannedRouter } from '../plan.ts';
import { isAlive, startDaemon, until } from '../processes.ts';
import type { LabState } from '../state.ts';
import type { RouterDriver, RouterRoute } from './driver.ts';

const MOST_ROUTES = 1_000_000;
const RELOAD_MS = 5000;

function peerName(neighbor: PlannedNeighbor): string {
  return `${neighbor.node}-ipv${neighbor.family}`;
}

export function speakerFile(router: PlannedRouter, api: string): string {
  const { asNumber, name } = router.spec;
  const betweenRouters = router.neighbors.some((n) => n.role === 'router');
  const wires = router.interfaces.flatMap(({ ipv4, ipv6 }) => [
    Prefix.parse(`${ipv4.address}/${ipv4.length}`).toString(),
    Prefix.parse(`${ipv6.address}/${ipv6.length}`).toString(),
  ]);
  return stringify({
    routerId: router.loopback4,
    asNumber,
    hostName: name,
    api,
    listen: [{ address: '0.0.0.0' }, { address: '::' }],
    multipath: { maximumPaths: 16, relax: true },
    gracefulRestart: true,
    kernel: { install: true },
    // Other routers must be told of the wires here; hosts have their default route here.
    networks: betweenRouters ? [`${router.loopback4}/32`, `${router.loopback6}/128`, ...wires] : [],
    peers: router.neighbors.map((n) => ({
      name: peerName(n),
      description: `${n.role} ${n.node}`,
      address: n.address,
      localAddress: n.localAddress,
      asNumber: n.asNumber,
      holdTime: 90,
      families: [`ipv${n.family}`],
      import: 'all',
      export: 'all',
      ...(n.asNumber === asNumber
        ? { nextHopSelf: true, ...(n.role === 'host' ? { routeReflectorClient: true } : {}) }
        : {}),
    })),
  });
}

function socketOf(state: LabState, router: PlannedRouter): string {
  return state.path(router.spec.name, 'brindle.sock');
}

function writeConfig(state: LabState, router: PlannedRouter): string {
  const file = `${state.makeDirectory(router.spec.name)}/speaker.yaml`;
  writeFileSync(file, speakerFile(router, socketOf(state, router)));
  return file;
}

function summary(state: LabState, router: PlannedRouter): Promise<PeerSummary[]> {
  return new ApiClient(socketOf(state, router)).json<PeerSummary[]>('/v1/bgp/peers');
}

export const brindleDriver: RouterDriver = {
  kind: 'brindle',
  check() {},
  version: () => 'Brindle speaker',
  start(state, router) {
    startDaemon(state, {
      name: router.spec.name,
      namespace: router.namespace,
      command: [...programs().command, 'speaker', '-f', writeConfig(state, router)],
      log: state.path(router.spec.name, 'speaker.log'),
    });
  },
  async reconfigure(state, router) {
    writeConfig(state, router);
    const running = state.manifest().findLast((entry) => entry.kind === 'process' && entry.name === router.spec.name);
    if (running?.kind !== 'process' || !isAlive(running)) {
      throw new BrindleError('unavailable', `${router.spec.name} is not running`);
    }
    process.kill(running.pid, 'SIGHUP');
    const names = router.neighbors.map(peerName);
    const taken = await until(RELOAD_MS, async () => {
      const known = new Set((await summary(state, router)).map((peer) => peer.name));
      return names.every((name) => known.has(name)) ? true : null;
    });
    if (taken) return;
    throw new BrindleError('timeout', `${router.spec.name} has not taken its new configuration over`, {
      remedy: `its log is ${state.path(router.spec.name, 'speaker.log')}`,
    });
  },
  async sessions(state, router) {
    const peers = new Map((await summary(state, router)).map((peer) => [peer.name, peer]));
    return router.neighbors.map((neighbor) => {
      const info = peers.get(peerName(neighbor))?.state ?? 'not configured';
      return { node: neighbor.node, family: neighbor.family, established: info === 'established', info };
    });
  },
  async routes(state, router) {
    const api = new ApiClient(socketOf(state, router));
    const { paths } = await api.json<RoutesAnswer>(`/v1/bgp/routes?view=accepted&limit=${MOST_ROUTES}`);
    const nodeOf = new Map(router.neighbors.map((neighbor) => [peerName(neighbor), neighbor.node]));
    const byPrefix = new Map<string, { prefix: string; from: string[]; nextHops: string[] }>();
    for (const path of paths.toSorted((a, b) => Number(b.best) - Number(a.best))) {
      const route = byPrefix.get(path.prefix) ?? { prefix: path.prefix, from: [], nextHops: [] };
      byPrefix.set(path.prefix, route);
      route.from.push(nodeOf.get(path.peer ?? '') ?? 'unknown');
      if (path.nextHop !== null) route.nextHops.push(path.nextHop);
    }
    return [...byPrefix.values()] satisfies RouterRoute[];
  },
  showCommand: (state, router) => ['brindle', 'bgp', 'routes', '--socket', socketOf(state, router)],
};
