// Hosts that were deleted: what they had in the store goes, their leases and their endpoints. Every agent looks, at times of its own;
// whoever is first does it, and what one deletes is checked against its version, so that two do no harm.
//
// A host whose Node is gone may live on: deleted by mistake, or cut off from the store with its containers. An agent that lives
// writes its Node anew within a minute (Agent); one that is cut off goes on announcing its blocks. So a host has departed when its
// Node was deleted before our eyes and for GRACE it was missing and no peer announced a block of the host. (A host may live without
// ever having had a Node.) If it comes back all the same, it finds its leases gone, keeps the addresses of running containers and
// gives no new ones (ipam/allocator.ts, `verify`).
import type { Clock } from '#base/clock.ts';
import { isBrindleError } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { Store } from '#datastore/store.ts';
import { releaseHost } from '#ipam/leases.ts';
import { keyOf, type Resource } from '#model/resource.ts';

/** Milliseconds; some times what a living agent needs to write its Node anew. */
const GRACE = 180_000;

export interface DepartedHostsOptions {
  /** This host, which has not departed. */
  readonly host: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  /** What is known of the store, as fresh as the watch. */
  readonly resources: () => Iterable<Resource>;
  /** Whether a peer announces this very prefix. */
  readonly isAnnounced: (cidr: string) => boolean;
}

interface Host {
  hasNode: boolean;
  readonly blocks: string[];
  readonly endpoints: Resource[];
}

export class DepartedHosts {
  readonly #options: DepartedHostsOptions;
  /** Host whose Node was deleted -> since when it looks departed, monotonic ms; null: not looked at yet, or it shows itself. */
  readonly #deleted = new Map<string, number | null>();

  constructor(options: DepartedHostsOptions) {
    this.#options = options;
  }

  /** A Node was deleted. */
  nodeDeleted(name: string): void {
    if (name !== this.#options.host) this.#deleted.set(name, null);
  }

  /** One look, to be made now and then. The hosts that were cleared away. Throws `unavailable`; the next look goes on. */
  async look(): Promise<string[]> {
    if (this.#deleted.size === 0) return [];
    const { store, clock, log, isAnnounced } = this.#options;
    const hosts = this.#hosts();
    const cleared: string[] = [];
    for (const [name, before] of [...this.#deleted]) {
      const host = hosts.get(name);
      if (!host || host.hasNode) {
        this.#deleted.delete(name);
        continue;
      }
      const since = host.blocks.some(isAnnounced) ? null : (before ?? clock.monotonic());
      this.#deleted.set(name, since);
      if (since === null || clock.monotonic() - since < GRACE) continue;
      if (await store.get({ kind: 'Node', namespace: '', name })) continue; // the watch is behind
      for (const endpoint of host.endpoints) await this.#delete(endpoint);
      const released = await releaseHost(store, name);
      this.#deleted.delete(name);
      log.warn({ host: name, released, endpoints: host.endpoints.length }, 'a deleted host was cleared away');
      cleared.push(name);
    }
    return cleared;
  }

  #hosts(): Map<string, Host> {
    const hosts = new Map<string, Host>();
    const of = (name: string): Host => {
      const known = hosts.get(name) ?? { hasNode: false, blocks: [], endpoints: [] };
      hosts.set(name, known);
      return known;
    };
    for (const resource of this.#options.resources()) {
      const { kind } = keyOf(resource);
      if (kind === 'Node') of(resource.metadata.name).hasNode = true;
      else if (kind === 'IPBlock') {
        const { host, cidr } = resource.spec as { host: string; cidr: string };
        of(host).blocks.push(cidr);
      } else if (kind === 'WorkloadEndpoint') of((resource.spec as { node: string }).node).endpoints.push(resource);
    }
    return hosts;
  }

  async #delete(resource: Resource): Promise<void> {
    const { resourceVersion } = resource.metadata;
    try {
      await this.#options.store.delete(keyOf(resource), resourceVersion === undefined ? {} : { resourceVersion });
    } catch (error) {
      // Somebody else was quicker, or it is another's by now.
      if (!isBrindleError(error, 'not-found') && !isBrindleError(error, 'conflict')) throw error;
    }
  }
}
