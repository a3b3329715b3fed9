// What the agent tells of itself: health, status, endpoints, routes, metrics. Reads the parts, changes nothing.
import { type Clock } from '#base/clock.ts';
import { errorText } from '#base/errors.ts';
import type { ResourceProblem } from '#calc/graph.ts';
import type { Dataplane } from '#dataplane/dataplane.ts';
import type { Ipam } from '#ipam/allocator.ts';
import type { AgentConfig } from '#model/agent-config.ts';
import type { AgentView } from './api/server.ts';
import type {
  AgentStatus,
  BlockStatus,
  Condition,
  EndpointStatus,
  Health,
  IpamDrain,
  PolicyCounter,
  PolicyState,
  RouteStatus,
} from './api/types.ts';
import type { Resource } from '#model/resource.ts';
import type { BgpService } from './bgp/service.ts';
import type { EndpointPublisher } from './endpoint-publisher.ts';
import type { LocalEndpoints } from './local-endpoints.ts';
import type { RoutingService } from './routing-service.ts';

export interface AgentReportOptions {
  readonly config: AgentConfig;
  readonly startedAt: number;
  readonly clock: Clock;
  readonly ipam: Ipam;
  readonly endpoints: LocalEndpoints;
  readonly dataplane: Dataplane;
  readonly publisher: EndpointPublisher;
  readonly routing: RoutingService;
  readonly bgp: BgpService;
  readonly problems: () => readonly ResourceProblem[];
  readonly storeTrouble: () => string | null;
  readonly isSynced: () => boolean;
  readonly version: string;
  /** Resolves when all that is known is in force. */
  readonly settled: () => Promise<void>;
  /** Every resource of the store that is known, and the host's own endpoints. */
  readonly resources: () => Iterable<Resource>;
}

interface EndpointSpec {
  readonly containerID?: string;
  readonly interfaceName: string;
  readonly ipNetworks?: readonly string[];
  readonly profiles?: readonly string[];
}

export class AgentReport implements AgentView {
  readonly #parts: AgentReportOptions;

  constructor(parts: AgentReportOptions) {
    this.#parts = parts;
  }

  rebuildIpam(): Promise<void> {
    return this.#parts.ipam.rebuild();
  }

  async drainIpam(): Promise<IpamDrain> {
    const released = await this.#parts.ipam.handBack(false);
    return { released, kept: this.#blocks() };
  }

  #blocks(): BlockStatus[] {
    return [...this.#parts.ipam.blocks()].map((b) => ({
      cidr: b.cidr.toString(),
      pool: b.pool,
      used: b.used,
      size: b.size,
    }));
  }

  health(): Health {
    const conditions = this.#conditions();
    return { ready: conditions.every((c) => c.ok || !c.blocking), conditions };
  }

  async status(): Promise<AgentStatus> {
    const { config, clock, startedAt, endpoints, bgp, routing, publisher, problems, version } = this.#parts;
    const routes = routing.routes();
    const peers = bgp.plan.config ? await bgp.speaker.summary() : [];
    return {
      ...this.health(),
      host: config.hostName,
      version,
      pid: process.pid,
      uptime: Math.round(clock.monotonic() - startedAt),
      memory: process.memoryUsage.rss(),
      endpoints: endpoints.size,
      blocks: this.#blocks(),
      bgp: {
        enabled: bgp.plan.config !== null,
        reason: bgp.plan.reason ?? bgp.error,
        configured: peers.length,
        established: peers.filter((p) => p.state === 'established').length,
      },
      routes: {
        installed: routes.filter((r) => r.state === 'installed').length,
        failed: routes.filter((r) => r.state === 'failed').length,
      },
      problems: [...problems(), ...bgp.plan.problems.map((error) => ({ key: 'BGP', error }))],
      unpublished: publisher.status.pending,
    };
  }

  endpoints(): readonly EndpointStatus[] {
    const { endpoints, dataplane } = this.#parts;
    return [...endpoints.values()].map((endpoint): EndpointStatus => {
      const spec = endpoint.spec as EndpointSpec;
      const id = `${endpoint.metadata.namespace}/${endpoint.metadata.name}`;
      const status = dataplane.status('endpoint', id);
      return {
        id,
        containerId: spec.containerID ?? '',
        interfaceName: spec.interfaceName,
        addresses: (spec.ipNetworks ?? []).map((net) => net.replace(/\/(32|128)$/, '')),
        labels: endpoint.metadata.labels ?? {},
        profiles: spec.profiles ?? [],
        policy: status?.state ?? 'pending',
        ...(status?.state === 'failed' && { reason: status.reason }),
      };
    });
  }

  routes(): readonly RouteStatus[] {
    return this.#parts.routing.routes();
  }

  async policyCounters(): Promise<readonly PolicyCounter[]> {
    const counters = await this.#parts.dataplane.counters();
    return counters.map(({ label, chain, position, packets, bytes }) => {
      const place = { chain, position, packets, bytes };
      switch (label.type) {
        case 'policy': {
          const { type, policy, direction, index } = label;
          return { type, policy, direction, rule: index, ...place };
        }
        case 'fail-closed':
          return { type: label.type, name: label.of, direction: label.direction, ...place };
        default:
          return { ...label, ...place };
      }
    });
  }

  async policyState(): Promise<PolicyState> {
    const { config, dataplane, resources, settled } = this.#parts;
    const known = [...resources()];
    await settled().catch(() => undefined); // what is not in force stands among the failures
    return { host: config.hostName, resources: known, failures: dataplane.failures() };
  }

  async metrics(): Promise<string> {
    const { endpoints, ipam, publisher, routing, bgp } = this.#parts;
    const routes = routing.routes();
    const blocks = [...ipam.blocks()];
    const lines = [
      gauge('brindle_ready', 'Whether ADD can be served', [['', this.health().ready ? 1 : 0]]),
      gauge('brindle_endpoints', 'Workload endpoints on this host', [['', endpoints.size]]),
      gauge(
        'brindle_block_addresses_used',
        'Addresses in use, by block',
        blocks.map((b) => [`{block="${b.cidr}",pool="${b.pool}"}`, b.used]),
      ),
      gauge(
        'brindle_block_addresses',
        'Addresses, by block',
        blocks.map((b) => [`{block="${b.cidr}",pool="${b.pool}"}`, b.size]),
      ),
      gauge(
        'brindle_routes',
        'Routes of this host by state',
        (['installed', 'pending', 'failed', 'unreachable'] as const).map((state) => [
          `{state="${state}"}`,
          routes.filter((r) => r.state === state).length,
        ]),
      ),
      gauge('brindle_endpoints_unpublished', 'WorkloadEndpoints not yet written to the store', [
        ['', publisher.status.pending],
      ]),
      gauge('brindle_resident_memory_bytes', 'Resident memory of the agent', [['', process.memoryUsage.rss()]]),
    ];
    return lines.join('') + (bgp.plan.config ? await bgp.speaker.metrics() : '');
  }

  #conditions(): Condition[] {
    const { ipam, dataplane, isSynced, storeTrouble, bgp, publisher } = this.#parts;
    const synced = isSynced();
    const failures = dataplane.failures();
    const trouble = storeTrouble();
    return [
      condition('sync', true, synced ? null : 'the first state of the store is not in force yet'),
      condition('store', !synced, trouble === null ? null : `${trouble}; running on what is known`),
      condition('ipam', true, ipam.problem),
      condition(
        'policy',
        false,
        failures[0] ? `${failures.length} objects not in force: ${failures[0].owner}: ${failures[0].reason}` : null,
      ),
      condition('bgp', false, bgp.plan.reason ?? (bgp.error === null ? null : errorText(bgp.error))),
      condition('publication', false, publisher.status.lastError),
    ];
  }
}

function condition(name: string, blocking: boolean, message: string | null): Condition {
  return { name, ok: message === null, message: message ?? '', blocking };
}

function gauge(name: string, help: string, samples: readonly (readonly [string, number])[]): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${samples.map(([labels, value]) => `${name}${labels} ${value}\n`).join('')}`;
}
