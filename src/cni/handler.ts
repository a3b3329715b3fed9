// The CNI verbs (CNI 1.1.0): ADD, DEL, CHECK, GC, STATUS, VERSION, in the agent. In: a request of the executable. Out: what
// it prints and its exit status. State is the IPAM journal's; here is only what is under way.
//
// ADD: address (memory) -> journal on disk and interface in the kernel, at once -> policy in force -> commit -> answer.
// A failure, or a caller that is gone, undoes all. DEL answers when the release is written; the interface goes after it,
// and its addresses are used again only when it is gone.
import type { Clock } from '#base/clock.ts';
import { errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import { type Attachment, attachmentHandle } from '#model/attachment.ts';
import { keyOf } from '#model/resource.ts';
import { answerVersion, type CniConfig, CURRENT_VERSION, parseConfig, SUPPORTED_VERSIONS } from './config.ts';
import type { AddressService, Endpoints, Namespaces, Wired, Wiring } from './dependencies.ts';
import { type CniEnvironment, parseEnvironment } from './environment.ts';
import { CniCode, CniError, errorAnswer } from './errors.ts';
import { endpointResource, identify, type Identity } from './identity.ts';
import { KeyedLock } from './keyed-lock.ts';
import type { CniAnswer, CniRequest } from './protocol.ts';
import { addressesIn, buildResult } from './result.ts';

export interface CniHandlerOptions {
  /** Name of this host's Node. */
  readonly host: string;
  readonly ipam: AddressService;
  readonly wiring: Wiring;
  readonly endpoints: Endpoints;
  readonly namespaces: Namespaces;
  readonly clock: Clock;
  readonly log: Logger;
  /** Why ADD cannot be served, beyond what IPAM says; null when it can. */
  readonly notReady: () => string | null;
}

const SUCCESS: CniAnswer = { status: 0, output: '' };
/** First and longest wait before an interface that would not go is tried again, in milliseconds. */
const UNWIRE_RETRY = { first: 200, longest: 30_000 };

export class CniHandler {
  #options: CniHandlerOptions;
  #containers = new KeyedLock();
  /** Host side interfaces that are going away, until they are gone. */
  #vacating = new Map<string, Promise<void>>();

  constructor(options: CniHandlerOptions) {
    this.#options = options;
  }

  /** Serves one call; never throws. `gone`: the caller has hung up. `madeAt`: for a DEL from the spool, in epoch ms. */
  async handle(request: CniRequest, gone?: AbortSignal, madeAt?: number): Promise<CniAnswer> {
    try {
      const environment = parseEnvironment(request.environment);
      if (environment.verb === 'VERSION') {
        return answer({ cniVersion: CURRENT_VERSION, supportedVersions: SUPPORTED_VERSIONS });
      }
      return await this.#dispatch(environment, parseConfig(request.config, environment), gone, madeAt);
    } catch (error) {
      const answer = errorAnswer(error, answerVersion(request.config));
      const verb = request.environment.get('CNI_COMMAND');
      this.#options.log.warn(
        { verb, container: request.environment.get('CNI_CONTAINERID'), answer: answer.output },
        'CNI call refused',
      );
      return answer;
    }
  }

  #dispatch(
    environment: CniEnvironment,
    config: CniConfig,
    gone: AbortSignal | undefined,
    madeAt: number | undefined,
  ): Promise<CniAnswer> {
    const { verb, containerId } = environment;
    if (verb === 'STATUS') return Promise.resolve(this.#status());
    if (verb === 'GC') return this.#collect(config);
    return this.#containers.run(containerId, () => {
      if (verb === 'ADD') return this.#add(environment, config, gone);
      return verb === 'DEL' ? this.#del(environment, config, madeAt) : this.#check(environment, config);
    });
  }

  async #add(environment: CniEnvironment, config: CniConfig, gone: AbortSignal | undefined): Promise<CniAnswer> {
    const { host, ipam, wiring, endpoints, clock } = this.#options;
    const { netns, ifname, containerId } = environment;
    const notReady = this.#options.notReady();
    if (notReady !== null) throw new CniError(CniCode.tryAgain, notReady);
    const netnsId = this.#identifyNetns(environment);
    const handle = attachmentHandle(config.name, containerId, ifname);
    const identity = identify(environment, config.name, host);
    await this.#makeWay(handle, identity, netnsId);
    const mac = config.mac ?? identity.mac;
    const { addresses, attachment, durable } = await ipam.assign({
      handle,
      ...(config.families ? { families: config.families } : {}),
      pools: config.pools,
      requested: config.requested,
      namespaceLabels: endpoints.namespaceLabels(identity.namespace),
      attach: (addresses) => ({
        handle,
        network: config.name,
        containerId,
        ifname,
        netns,
        netnsId,
        addresses: addresses.map(String),
        hostInterface: identity.hostInterface,
        mac,
        endpoint: endpointResource(environment, config, identity, host, addresses),
        createdAt: clock.wall(),
      }),
    });
    let wired: Wired | null = null;
    try {
      const { hostInterface } = identity;
      // A DEL may have begun to remove the name while the addresses were being found; from here on it is claimed.
      await this.#vacating.get(hostInterface);
      const made = wiring.wire({ netns, ifname, hostInterface, addresses, mac, mtu: config.mtu });
      const [wiredResult, durableResult] = await Promise.allSettled([made, durable]);
      if (wiredResult.status === 'rejected') throw wiredResult.reason;
      wired = wiredResult.value;
      if (durableResult.status === 'rejected') throw durableResult.reason;
      stopWhenGone(gone);
      if (attachment.endpoint !== null) await endpoints.activate(attachment.endpoint);
      stopWhenGone(gone);
      await ipam.commit(handle);
    } catch (error) {
      await this.#remove(attachment, wired !== null);
      throw error;
    }
    const { hostInterface } = identity;
    return answer(buildResult(config, { ...wired, ifname, netns, hostInterface, addresses }));
  }

  /** Refuses a second ADD of what is attached; clears away what an earlier life of the container left. */
  async #makeWay(handle: string, identity: Identity, netnsId: string): Promise<void> {
    const { ipam, wiring } = this.#options;
    const { hostInterface } = identity;
    const existing = ipam.get(handle);
    if (existing) {
      // Ids come back after a restart of engine or machine, with a new namespace or without the old interface.
      if (existing.netnsId === netnsId && (await wiring.hostInterfaces()).has(existing.hostInterface)) {
        throw new CniError(
          CniCode.exists,
          `container ${existing.containerId} has its interface ${existing.ifname} (${existing.addresses.join(', ')}) already`,
          'call DEL first',
        );
      }
      await this.#remove(existing, true);
      await this.#vacating.get(existing.hostInterface);
    }
    for (const other of [...ipam.attachments()]) {
      // A former sandbox of the same pod: its DEL may still come, and finds nothing then.
      if (other.hostInterface === hostInterface && other.handle !== handle) await this.#remove(other, true);
    }
    await this.#vacating.get(hostInterface);
  }

  #identifyNetns({ netns, netnsOverride }: CniEnvironment): string {
    const { namespaces } = this.#options;
    const id = namespaces.identify(netns);
    if (id === null) throw new CniError(CniCode.badNetns, `CNI_NETNS ${netns} is not a network namespace`);
    if (id === namespaces.own && !netnsOverride) {
      throw new CniError(CniCode.badNetns, `CNI_NETNS ${netns} is the host's own network namespace`);
    }
    return id;
  }

  async #del(environment: CniEnvironment, config: CniConfig, madeAt: number | undefined): Promise<CniAnswer> {
    const { host, ipam } = this.#options;
    const { containerId, ifname, netns } = environment;
    const existing = ipam.get(attachmentHandle(config.name, containerId, ifname));
    if (existing) {
      // A spooled DEL is about the container of then, not about one that came later under its id.
      if (madeAt === undefined || existing.createdAt <= madeAt) await this.#remove(existing, true);
      return SUCCESS;
    }
    // Nothing is known: an ADD that was cut off before its record reached the disk may have left an interface.
    const { hostInterface } = identify(environment, config.name, host);
    const isClaimed = [...ipam.attachments(), ...ipam.unfinished()].some((a) => a.hostInterface === hostInterface);
    if (!isClaimed && !ipam.isCorrupt) void this.#unwire({ hostInterface, netns, ifname });
    return SUCCESS;
  }

  /** Ends an attachment: endpoint, interface (in the background), address. Resolves when the release is written; never throws. */
  async #remove(attachment: Attachment, isWired: boolean): Promise<void> {
    const { endpoints, ipam, log } = this.#options;
    if (attachment.endpoint !== null) endpoints.deactivate(keyOf(attachment.endpoint), attachment.containerId);
    const hasInterface = isWired && attachment.hostInterface !== ''; // Docker's addresses come before their interface
    const vacated = hasInterface ? this.#unwire(attachment) : undefined;
    try {
      await ipam.release(attachment.handle, vacated);
    } catch (error) {
      // Memory has released it, and the next look finds what the disk still says.
      log.warn({ handle: attachment.handle, error: errorText(error) }, 'a release could not be journalled');
    }
  }

  /** Removes an interface, however often it takes. Never rejects. */
  #unwire(which: Pick<Attachment, 'hostInterface' | 'netns' | 'ifname'>): Promise<void> {
    const { hostInterface } = which;
    const gone = this.#unwireUntilGone(which).finally(() => {
      if (this.#vacating.get(hostInterface) === gone) this.#vacating.delete(hostInterface);
    });
    this.#vacating.set(hostInterface, gone);
    return gone;
  }

  async #unwireUntilGone(which: Pick<Attachment, 'hostInterface' | 'netns' | 'ifname'>): Promise<void> {
    const { wiring, clock, log } = this.#options;
    for (let wait = UNWIRE_RETRY.first; ; wait = Math.min(wait * 2, UNWIRE_RETRY.longest)) {
      try {
        await wiring.unwire(which);
        return;
      } catch (error) {
        log.warn(
          { interface: which.hostInterface, error: errorText(error) },
          'an interface cannot be removed; tried again',
        );
        await new Promise<void>((resolve) => clock.after(wait, resolve));
      }
    }
  }

  async #check(environment: CniEnvironment, config: CniConfig): Promise<CniAnswer> {
    const { ipam, wiring } = this.#options;
    const { containerId, ifname, netns } = environment;
    if (!config.prevResult) throw new CniError(CniCode.badConfig, 'CHECK needs the prevResult of the ADD');
    const netnsId = this.#identifyNetns(environment);
    const attachment = ipam.get(attachmentHandle(config.name, containerId, ifname));
    const fail = (reason: string): never => {
      throw new CniError(
        CniCode.degraded,
        `container ${containerId}, ${ifname}: ${reason}`,
        'DEL and ADD make it anew',
      );
    };
    if (!attachment) return fail('this host did not attach it');
    if (attachment.netnsId !== netnsId) fail(`it was attached in another namespace than ${netns}`);
    const promised = addressesIn(config.prevResult, ifname, netns);
    if (!promised) fail('prevResult does not hold the interface');
    const absent = attachment.addresses.filter((address) => !promised?.includes(address));
    if (absent.length > 0) fail(`it has ${absent.join(', ')}, which prevResult does not say`);
    const problems = await wiring.check(attachment);
    if (problems.length > 0) fail(problems.join('; '));
    return SUCCESS;
  }

  #status(): CniAnswer {
    const reason = this.#options.ipam.problem ?? this.#options.notReady();
    if (reason !== null) throw new CniError(CniCode.notAvailable, reason);
    return SUCCESS;
  }

  /** Removes what this network has and the runtime does not know of. An absent list says nothing, so nothing is removed. */
  async #collect(config: CniConfig): Promise<CniAnswer> {
    const { ipam, clock, log } = this.#options;
    if (!config.validAttachments) return SUCCESS;
    const now = clock.wall();
    const valid = new Set(config.validAttachments.map((a) => attachmentHandle(config.name, a.containerId, a.ifname)));
    const stale = [...ipam.attachments()].filter((a) => a.network === config.name && !valid.has(a.handle));
    await Promise.all(
      stale.map((attachment) =>
        this.#containers.run(attachment.containerId, async () => {
          // An ADD that came since, or that the runtime's list could not know yet, is none of this call's business.
          if (ipam.get(attachment.handle) !== attachment || attachment.createdAt >= now) return;
          log.info({ handle: attachment.handle }, 'GC: the runtime does not know this attachment; removed');
          await this.#remove(attachment, true);
        }),
      ),
    );
    return SUCCESS;
  }

  /** At start, before calls are served: ends ADDs that were cut off, and interfaces that nobody has a record of. */
  async recover(): Promise<void> {
    const { ipam, wiring, log } = this.#options;
    if (ipam.isCorrupt) return;
    for (const attachment of [...ipam.unfinished()]) {
      log.info({ handle: attachment.handle }, 'an ADD was cut off; undone');
      await this.#remove(attachment, true);
    }
    const claimed = new Set([...ipam.attachments()].map((attachment) => attachment.hostInterface));
    for (const name of await wiring.hostInterfaces()) {
      if (claimed.has(name) || this.#vacating.has(name)) continue;
      log.info({ interface: name }, 'an interface without an attachment; removed');
      void this.#unwire({ hostInterface: name, netns: '', ifname: '' });
    }
  }

  /** One look at what is there: an attachment whose interface is missing in two looks `apart` ms from each other is ended. */
  async repair(apart: number): Promise<readonly Attachment[]> {
    const { ipam, wiring, log } = this.#options;
    const interfaces = await wiring.hostInterfaces();
    const alive = new Set<string>();
    for (const attachment of ipam.attachments()) {
      if (interfaces.has(attachment.hostInterface)) alive.add(attachment.handle);
    }
    const lost = ipam.look(alive, apart);
    for (const attachment of lost) {
      await this.#containers.run(attachment.containerId, async () => {
        if (ipam.get(attachment.handle) !== attachment) return;
        log.warn({ handle: attachment.handle, addresses: attachment.addresses }, 'the container is gone; released');
        await this.#remove(attachment, true);
      });
    }
    return lost;
  }

  /** Resolves when no interface is going away any more. */
  async settle(): Promise<void> {
    while (this.#vacating.size > 0) await Promise.all(this.#vacating.values());
  }
}

function stopWhenGone(gone: AbortSignal | undefined): void {
  if (gone?.aborted) throw new CniError(CniCode.tryAgain, 'the caller has hung up');
}

function answer(value: unknown): CniAnswer {
  return { status: 0, output: `${JSON.stringify(value)}\n` };
}
