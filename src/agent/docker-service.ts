// Docker's driver as a part of the agent: its socket, and what it needs, made from the agent's own parts.
// In: the configuration, the agent's parts. Out: a driver that dockerd finds by the name of its socket.
import { join } from 'node:path';
import type { Clock, TimerHandle } from '#base/clock.ts';
import type { Logger } from '#base/log.ts';
import type { Endpoints, KnownPool } from '#docker/dependencies.ts';
import { DockerDriver } from '#docker/driver.ts';
import { DockerEngine } from '#docker/engine.ts';
import { NetworkFile } from '#docker/networks.ts';
import { pluginListener } from '#docker/server.ts';
import type { Ipam } from '#ipam/allocator.ts';
import type { AgentConfig } from '#model/agent-config.ts';
import type { Attachment } from '#model/attachment.ts';
import type { ContainerWiring } from './container-wiring.ts';
import type { RoutingService } from './routing-service.ts';
import { acceptForwarding } from './docker-forward.ts';
import { SocketServer } from './socket-server.ts';

/** dockerd makes its chains while it starts, some time after it has asked for its drivers; in ms. */
const ENGINE_START = 3_000;

export interface DockerServiceOptions {
  readonly config: AgentConfig;
  readonly docker: NonNullable<AgentConfig['docker']>;
  readonly ipam: Ipam;
  readonly wiring: ContainerWiring;
  readonly routing: RoutingService;
  readonly endpoints: Endpoints;
  readonly pools: () => readonly KnownPool[];
  /** Resolves when calls can be served; throws `unavailable`. */
  readonly untilReady: () => Promise<void>;
  readonly clock: Clock;
  readonly log: Logger;
}

export class DockerService {
  readonly #driver: DockerDriver;
  readonly #server: SocketServer;
  readonly #options: DockerServiceOptions;
  #timer: TimerHandle | null = null;

  /** Throws `corrupt` when the list of networks does not read back. */
  constructor(options: DockerServiceOptions) {
    this.#options = options;
    const { config, docker, ipam, wiring, routing, endpoints, pools, clock, log } = options;
    this.#driver = new DockerDriver({
      host: config.hostName,
      addresses: ipam,
      wiring: {
        wire: (request) => wiring.wireHalf(request),
        unwire: (hostInterface) => wiring.unwire({ hostInterface }),
        half: (hostInterface, temporary) => wiring.half(hostInterface, temporary),
      },
      routes: {
        hold: (endpointId, hostInterface, addresses) =>
          routing.setEndpoint(`docker/${endpointId}`, hostInterface, addresses.map(String)),
        drop: (endpointId) => routing.removeEndpoint(`docker/${endpointId}`),
      },
      endpoints,
      pools,
      networks: new NetworkFile(join(config.stateDirectory, 'docker-networks.json')),
      engine: new DockerEngine(docker.engineSocket),
      clock,
      log,
    });
    this.#server = new SocketServer({
      path: docker.pluginSocket,
      onCni: (socket) => socket.destroy(),
      onHttp: pluginListener({
        driver: this.#driver,
        log,
        untilReady: options.untilReady,
        onActivate: () => this.#engineStarted(),
      }),
      log,
    });
  }

  /** To be called once the journal's endpoints are adopted. */
  async start(): Promise<void> {
    this.#driver.start();
    await this.#server.listen();
    await this.#acceptForwarding();
  }

  /** One look at what others may have changed: the attachments that the repair has ended, Docker's firewall. */
  async repair(lost: readonly Attachment[]): Promise<void> {
    this.#driver.forget(lost);
    await this.#acceptForwarding();
  }

  #engineStarted(): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(ENGINE_START, () => void this.#acceptForwarding());
  }

  async #acceptForwarding(): Promise<void> {
    if (this.#options.docker.acceptForwarding) await acceptForwarding(this.#options.log);
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    await this.#server.close();
    this.#driver.stop();
  }
}
