// Docker's network and IPAM driver (libnetwork's remote protocol), without its transport. In: calls of dockerd, parsed.
// Out: their answers. State is the IPAM journal's (addresses and what they are bound to) and the network file's; here is
// only what is under way.
//
//   RequestAddress   address on disk, bound to nobody
//   CreateEndpoint   bound to the endpoint, on disk
//   Join             interface made and routed; closed, because the dataplane drops what it has no endpoint for
//   (then)           Docker moves the interface; name and labels are looked up (lookup.ts); policy; open
//   Leave            endpoint, routes and interface go
//   DeleteEndpoint   bound to nobody again
//   ReleaseAddress   address free, once the interface is gone
//
// Traps: dockerd repeats a call whose connection broke, so each is answered alike when it comes again. An address that is
// bound is never freed by ReleaseAddress, which names no endpoint and may come late. RequiresRequestReplay is false: our
// journal outlives dockerd, and a replay could not be told from a second container that asks for the same address.
import type { Clock, TimerHandle } from '#base/clock.ts';
import { BrindleError, errorText } from '#base/errors.ts';
import type { Attachment } from '#model/attachment.ts';
import { keyOf } from '#model/resource.ts';
import { type Family, IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type { DockerDependencies, KnownNetwork } from './dependencies.ts';
import { endpointMac, endpointResource, hostInterfaceOf, temporaryInterfaceOf } from './identity.ts';
import { Lookup } from './lookup.ts';
import {
  type CreateEndpoint,
  type CreateNetwork,
  type EndpointReference,
  type Join,
  poolIdOf,
  type ReleaseAddress,
  type RequestAddress,
  type RequestPool,
} from './requests.ts';

/** What DHCP-less containers have as their IPv4 gateway; the same for all. */
const GATEWAY: Record<Family, string> = { 4: '169.254.1.1', 6: 'fe80::ecee:eeff:feee:eeee' };
const ALL: Record<Family, string> = { 4: '0.0.0.0/0', 6: '::/0' };
/** The name that containers' interfaces get, with a number behind it. */
const INTERFACE = 'eth';
const UNBOUND = '';
const UNWIRE_RETRY_MS = 500;

export class DockerDriver {
  readonly #options: DockerDependencies;
  readonly #lookup: Lookup;
  /** Host side interfaces that are going away, until they are gone; and what waits for an address of theirs. */
  readonly #vacating = new Map<string, Promise<void>>();
  /** Address -> its interface is gone. Kept from DeleteEndpoint to ReleaseAddress. */
  readonly #vacated = new Map<string, Promise<void>>();
  readonly #retries = new Set<TimerHandle>();
  #counter = 0;

  constructor(options: DockerDependencies) {
    this.#options = options;
    this.#lookup = new Lookup({
      engine: options.engine,
      clock: options.clock,
      log: options.log,
      onFound: (endpointId, container, network) => this.#found(endpointId, container, network),
    });
  }

  /** Takes up what the journal holds. To be called once, before calls are served. */
  start(): void {
    for (const endpointId of new Set(this.#bound().map((a) => a.docker.endpointId))) {
      const [first, ...rest] = this.#attachmentsOf(endpointId);
      if (!first || this.#options.wiring.half(first.hostInterface, temporaryInterfaceOf(endpointId)) === 'absent')
        continue;
      const addresses = [first, ...rest].flatMap((a) => a.addresses).map((text) => IpAddress.parse(text));
      this.#options.routes.hold(endpointId, first.hostInterface, addresses);
      if (first.endpoint === null) this.#lookup.add(endpointId, first.docker.networkId);
    }
  }

  stop(): void {
    this.#lookup.stop();
    for (const timer of this.#retries) timer.cancel();
  }

  /** The repair has ended these attachments: their interfaces were gone. */
  forget(lost: readonly Attachment[]): void {
    for (const { docker } of lost) {
      if (!docker || docker.endpointId === UNBOUND) continue;
      this.#lookup.remove(docker.endpointId);
      this.#options.routes.drop(docker.endpointId);
    }
  }

  /** Endpoints whose container is not known yet, and that are therefore closed. */
  get waiting(): number {
    return this.#lookup.size;
  }

  requestPool({ family, pool }: RequestPool): object {
    const served = this.#options.pools().filter((known) => known.family === family && !known.disabled);
    if (pool !== null && !served.some((known) => known.cidr === pool)) {
      throw new BrindleError('invalid-argument', `subnet ${pool} is not an IPPool of Brindle that is enabled`, {
        field: 'Pool',
        remedy: `leave --subnet out, or name one of ${served.map((known) => known.cidr).join(', ') || 'the IPPools, of which there is none'}`,
      });
    }
    if (served.length === 0) {
      throw new BrindleError('exhausted', `there is no IPv${family} IPPool`, {
        remedy: family === 6 ? 'create one, or leave --ipv6 out' : 'create one with brindle apply',
      });
    }
    // With a gateway in Data, Docker does not take an address for one.
    return {
      PoolID: poolIdOf(family, pool),
      Pool: pool ?? ALL[family],
      Data: { 'com.docker.network.gateway': ALL[family] },
    };
  }

  async requestAddress(request: RequestAddress): Promise<object> {
    const { addresses: service, endpoints, clock } = this.#options;
    const { family, pool, address, isGateway } = request;
    if (isGateway) {
      if (address === null) return { Address: `${GATEWAY[family]}/${family === 4 ? 32 : 128}` };
      throw new BrindleError('unsupported', `--gateway ${address} is not supported`, {
        remedy: `leave it out: the gateway of every container is ${GATEWAY[family]}, its host`,
      });
    }
    if (address !== null && pool !== null && !Prefix.parse(pool).contains(address)) {
      throw new BrindleError('invalid-argument', `address ${address} is not in the network's subnet ${pool}`, {
        field: 'Address',
      });
    }
    const handle = `docker/${clock.wall().toString(36)}-${process.pid.toString(36)}-${(this.#counter++).toString(36)}`;
    const { addresses, durable } = await service.assign({
      handle,
      families: [family],
      ...(pool !== null && { pools: { [family]: [pool] } }),
      ...(address !== null && { requested: [address] }),
      namespaceLabels: endpoints.namespaceLabels('default'),
      attach: (taken) => ({
        handle,
        network: 'docker',
        containerId: '',
        ifname: '',
        netns: '',
        netnsId: null,
        addresses: taken.map(String),
        hostInterface: '',
        endpoint: null,
        docker: { networkId: '', endpointId: UNBOUND },
        createdAt: clock.wall(),
      }),
    });
    try {
      await durable;
      await service.commit(handle);
    } catch (error) {
      await service.release(handle);
      throw error;
    }
    return { Address: `${addresses[0]!}/${family === 4 ? 32 : 128}` };
  }

  async releaseAddress({ address }: ReleaseAddress): Promise<object> {
    const { addresses: service, log } = this.#options;
    const text = address.toString();
    const held = this.#held(text);
    if (!held) return {};
    if (held.docker.endpointId !== UNBOUND) {
      log.warn({ address: text, endpoint: held.docker.endpointId }, 'release of an address that is in use; not done');
      return {};
    }
    const vacated = this.#vacated.get(text);
    this.#vacated.delete(text);
    await service.release(held.handle, vacated);
    return {};
  }

  createNetwork(request: CreateNetwork): object {
    const known = this.#options.networks.get(request.network.id);
    if (known && JSON.stringify(known) !== JSON.stringify(request.network)) {
      throw new BrindleError('already-exists', `network ${request.network.id} exists with other options`);
    }
    if (!known) this.#options.networks.put(request.network);
    return {};
  }

  async deleteNetwork(networkId: string): Promise<object> {
    const left = new Set(
      this.#bound()
        .filter((a) => a.docker.networkId === networkId)
        .map((a) => a.docker.endpointId),
    );
    for (const endpointId of left) await this.deleteEndpoint({ networkId, endpointId });
    this.#options.networks.delete(networkId);
    return {};
  }

  async createEndpoint(request: CreateEndpoint): Promise<object> {
    const { networkId, endpointId } = request;
    this.#network(networkId);
    if (request.addresses.length === 0) {
      throw new BrindleError('invalid-argument', `endpoint ${endpointId} has no address`, { field: 'Interface' });
    }
    const mac = request.mac ?? endpointMac(endpointId);
    const answer = { Interface: request.mac === null ? { MacAddress: mac } : {} };
    const wanted = request.addresses.map(String);
    const earlier = this.#attachmentsOf(endpointId).flatMap((a) => a.addresses);
    if (earlier.length > 0) {
      if (earlier.length === wanted.length && earlier.every((text) => wanted.includes(text))) return answer;
      throw new BrindleError('already-exists', `endpoint ${endpointId} exists with ${earlier.join(', ')}`, {
        remedy: 'delete it first',
      });
    }
    const free = wanted.map((text) => {
      const held = this.#held(text);
      if (!held) {
        throw new BrindleError('not-found', `address ${text} was not given out by Brindle's IPAM driver`, {
          field: 'Interface',
          remedy: 'create the network with --ipam-driver brindle',
        });
      }
      if (held.docker.endpointId === UNBOUND) return held;
      throw new BrindleError('already-exists', `address ${text} belongs to endpoint ${held.docker.endpointId}`);
    });
    const hostInterface = hostInterfaceOf(endpointId);
    const bind = free.map((a) => ({ ...a, hostInterface, mac, docker: { networkId, endpointId } }));
    try {
      await Promise.all(bind.map((a) => this.#options.addresses.amend(a)));
    } catch (error) {
      await Promise.allSettled(free.map((a) => this.#options.addresses.amend(a)));
      throw error;
    }
    return answer;
  }

  async join({ networkId, endpointId, sandbox }: Join): Promise<object> {
    const { wiring, routes, addresses: service } = this.#options;
    const network = this.#network(networkId);
    const attachments = this.#attachmentsOf(endpointId);
    const [first] = attachments;
    if (!first || first.docker.networkId !== networkId) {
      throw new BrindleError('not-found', `network ${networkId} has no endpoint ${endpointId}`, {
        remedy: 'CreateEndpoint comes before Join',
      });
    }
    const { hostInterface } = first;
    const temporary = temporaryInterfaceOf(endpointId);
    await this.#vacating.get(hostInterface);
    const addresses = attachments.flatMap((a) => a.addresses).map((text) => IpAddress.parse(text));
    addresses.sort((a, b) => a.compare(b));
    const half = wiring.half(hostInterface, temporary);
    if (half === 'moved') {
      throw new BrindleError('already-exists', `endpoint ${endpointId} has joined a container already`, {
        remedy: 'Leave comes first',
      });
    }
    if (half === 'absent') {
      wiring.wire({ hostInterface, temporary, addresses, mac: first.mac ?? endpointMac(endpointId), mtu: network.mtu });
    }
    routes.hold(endpointId, hostInterface, addresses);
    const unknown = { endpoint: null, containerId: '', ifname: INTERFACE };
    try {
      await Promise.all(attachments.map((a) => service.amend({ ...a, ...unknown, netns: sandbox })));
    } catch (error) {
      await this.#detach(endpointId);
      throw error;
    }
    this.#lookup.add(endpointId, networkId);
    const families = new Set(addresses.map((address) => address.family));
    return {
      InterfaceName: { SrcName: temporary, DstPrefix: INTERFACE },
      ...(families.has(4) && {
        Gateway: GATEWAY[4],
        StaticRoutes: [{ Destination: `${GATEWAY[4]}/32`, RouteType: 1 }],
      }),
      ...(families.has(6) && { GatewayIPv6: GATEWAY[6] }),
      DisableGatewayService: true,
    };
  }

  async leave({ endpointId }: EndpointReference): Promise<object> {
    await this.#detach(endpointId);
    return {};
  }

  async deleteEndpoint({ endpointId }: EndpointReference): Promise<object> {
    const vacated = this.#detach(endpointId);
    const attachments = this.#attachmentsOf(endpointId);
    const unbound = { hostInterface: '', containerId: '', netns: '', endpoint: null };
    const docker = { networkId: '', endpointId: UNBOUND };
    for (const text of attachments.flatMap((a) => a.addresses)) this.#vacated.set(text, vacated);
    await Promise.all(attachments.map((a) => this.#options.addresses.amend({ ...a, ...unbound, docker })));
    return {};
  }

  /** Ends what Join began: lookup, endpoint, routes, interface. Resolves when the interface is gone. */
  #detach(endpointId: string): Promise<void> {
    const { endpoints, routes } = this.#options;
    this.#lookup.remove(endpointId);
    routes.drop(endpointId);
    const [first] = this.#attachmentsOf(endpointId);
    if (!first) return Promise.resolve();
    if (first.endpoint !== null) endpoints.deactivate(keyOf(first.endpoint), first.containerId);
    const { hostInterface } = first;
    const under = this.#vacating.get(hostInterface);
    if (under) return under;
    const gone = this.#unwire(hostInterface).finally(() => this.#vacating.delete(hostInterface));
    this.#vacating.set(hostInterface, gone);
    return gone;
  }

  async #unwire(hostInterface: string): Promise<void> {
    const { wiring, clock, log } = this.#options;
    for (;;) {
      try {
        await wiring.unwire(hostInterface);
        return;
      } catch (error) {
        log.warn({ interface: hostInterface, error: errorText(error) }, 'an interface cannot be removed; tried again');
        await new Promise<void>((resolve) => pause(clock, UNWIRE_RETRY_MS, this.#retries, resolve));
      }
    }
  }

  /** The container of an endpoint is known: from here on it has its labels and its policy. */
  async #found(endpointId: string, container: Parameters<typeof endpointResource>[0], network: string): Promise<void> {
    const { addresses: service, endpoints, host } = this.#options;
    const attachments = this.#attachmentsOf(endpointId);
    const [first] = attachments;
    if (!first) return;
    const addresses = attachments.flatMap((a) => a.addresses);
    const endpoint = endpointResource(container, {
      host,
      network,
      endpointId,
      addresses,
      hostInterface: first.hostInterface,
      ...(first.mac !== undefined && { mac: first.mac }),
    });
    await Promise.all(attachments.map((a) => service.amend({ ...a, containerId: container.id, endpoint })));
    // It may have left meanwhile; what has left must not be opened.
    if (!this.#lookup.has(endpointId)) return;
    this.#options.routes.drop(endpointId);
    await endpoints.activate(endpoint);
  }

  #network(networkId: string): KnownNetwork {
    const network = this.#options.networks.get(networkId);
    if (network) return network;
    throw new BrindleError('not-found', `network ${networkId} is not known to this host's agent`, {
      remedy: 'docker network rm it, and create it again',
    });
  }

  #bound(): Bound[] {
    return this.#all().filter((attachment) => attachment.docker.endpointId !== UNBOUND);
  }

  #attachmentsOf(endpointId: string): Bound[] {
    return this.#all().filter((attachment) => attachment.docker.endpointId === endpointId);
  }

  #held(address: string): Bound | null {
    return this.#all().find((attachment) => attachment.addresses.includes(address)) ?? null;
  }

  #all(): Bound[] {
    return [...this.#options.addresses.attachments()].filter((a): a is Bound => a.docker !== undefined);
  }
}

type Bound = Attachment & { readonly docker: NonNullable<Attachment['docker']> };

function pause(clock: Clock, milliseconds: number, timers: Set<TimerHandle>, done: () => void): void {
  const timer = clock.after(milliseconds, () => {
    timers.delete(timer);
    done();
  });
  timers.add(timer);
}
