// What `brindle lab status` tells: gathered as plain data, and as text for people.
import { formatTable } from '#cli/format/table.ts';
import { type AgentState, agentOf, agentState } from './hosts.ts';
import type { Lab } from './lab.ts';
import type { RouterSession } from './routers/driver.ts';
import { routerDriver } from './routers/drivers.ts';
import type { ContainerFile } from './state.ts';

export interface LabStatus {
  readonly name: string;
  readonly directory: string;
  readonly hosts: readonly {
    readonly name: string;
    readonly rack: string;
    readonly addresses: readonly string[];
    readonly uplinks: readonly string[];
    readonly agent: AgentState;
    readonly pid: number | null;
    readonly containers: number;
  }[];
  readonly routers: readonly {
    readonly name: string;
    readonly software: string;
    readonly asNumber: number;
    readonly running: boolean;
    readonly sessions: readonly RouterSession[];
  }[];
  readonly containers: readonly ContainerFile[];
}

export async function labStatus(lab: Lab): Promise<LabStatus> {
  const containers = lab.state.containers();
  const hosts = lab.plan.hosts.map(async (host) => ({
    name: host.spec.name,
    rack: host.spec.rack,
    addresses: host.interfaces.slice(0, 1).flatMap((end) => [end.ipv4.address, end.ipv6.address]),
    uplinks: host.interfaces.map((end) => end.peer.node),
    agent: await agentState(lab.state, host.spec.name),
    pid: agentOf(lab.state, host.spec.name)?.pid ?? null,
    containers: containers.filter((container) => container.host === host.spec.name).length,
  }));
  const routers = lab.plan.routers.map(async (router) => ({
    name: router.spec.name,
    software: routerDriver(router).version(),
    asNumber: router.spec.asNumber,
    running: lab.processOf(router.spec.name) !== null,
    sessions: await lab.routerSessions(router),
  }));
  return {
    name: lab.state.name,
    directory: lab.state.dir,
    hosts: await Promise.all(hosts),
    routers: await Promise.all(routers),
    containers,
  };
}

export function statusText(status: LabStatus): string {
  const hosts = status.hosts.map((host) => [
    host.name,
    host.rack,
    host.addresses.join(' '),
    host.uplinks.join(' '),
    host.pid !== null && host.agent !== 'dead' ? `${host.agent} (pid ${host.pid})` : host.agent,
    String(host.containers),
  ]);
  const routers = status.routers.map((router) => {
    const established = router.sessions.filter((session) => session.established).length;
    return [
      router.name,
      router.running ? router.software : `${router.software}, not running`,
      String(router.asNumber),
      `${established} of ${router.sessions.length} established`,
    ];
  });
  const broken = status.routers.flatMap((router) =>
    router.sessions
      .filter((session) => !session.established)
      .map((session) => `  ${router.name} - ${session.node} IPv${session.family}: ${session.info}`),
  );
  const containers = status.containers.map((container) => [
    `${container.host}/${container.name}`,
    container.addresses.join(' '),
    Object.entries(container.labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(' '),
    container.serve === null ? '' : String(container.serve),
  ]);
  const parts = [
    `Lab ${status.name} in ${status.directory}`,
    '',
    formatTable(['HOST', 'RACK', 'ADDRESSES', 'UPLINKS', 'AGENT', 'CONTAINERS'], hosts),
  ];
  if (routers.length > 0) parts.push('', formatTable(['ROUTER', 'SOFTWARE', 'AS', 'BGP SESSIONS'], routers), ...broken);
  if (containers.length > 0) {
    parts.push('', formatTable(['CONTAINER', 'ADDRESSES', 'LABELS', 'SERVES PORT'], containers));
  }
  return parts.join('\n');
}
