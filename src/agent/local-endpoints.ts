// The host's own endpoints. The host decides which exist and with which addresses; the store decides their labels once
// it has them, so that a label set there by a person or a controller counts.
// In: attach and detach from the container runtime, the store's objects. Out: endpoints to the calculation, writes to the store.
import { keyOf, keyText, type Resource, type ResourceKey } from '#model/resource.ts';

interface EndpointSpec {
  readonly node?: string;
  readonly containerID?: string;
}

export interface LocalEndpointsOptions {
  readonly hostName: string;
  /** Told of each endpoint to calculate with, and of those that have gone. */
  readonly onChange: (key: ResourceKey, resource: Resource | null) => void;
  /** Told of what the store should hold. */
  readonly publish: (key: ResourceKey, resource: Resource | null) => void;
}

export class LocalEndpoints {
  readonly #options: LocalEndpointsOptions;
  readonly #endpoints = new Map<string, Resource>();

  constructor(options: LocalEndpointsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#endpoints.size;
  }

  values(): Iterable<Resource> {
    return this.#endpoints.values();
  }

  get(key: ResourceKey): Resource | undefined {
    return this.#endpoints.get(keyText(key));
  }

  attach(resource: Resource): void {
    const key = keyOf(resource);
    this.#endpoints.set(keyText(key), resource);
    this.#options.onChange(key, resource);
    this.#options.publish(key, resource);
  }

  /** Only when the endpoint is still the given container's: a later container may have taken the name. */
  detach(key: ResourceKey, containerId?: string): boolean {
    const text = keyText(key);
    const endpoint = this.#endpoints.get(text);
    if (!endpoint) return false;
    if (containerId !== undefined && (endpoint.spec as EndpointSpec).containerID !== containerId) return false;
    this.#endpoints.delete(text);
    this.#options.onChange(key, null);
    this.#options.publish(key, null);
    return true;
  }

  /** Whether a resource of the store is for this class to judge and not for the calculation. */
  owns(resource: Resource): boolean {
    return resource.kind === 'WorkloadEndpoint' && (resource.spec as EndpointSpec).node === this.#options.hostName;
  }

  /** The store's object of one of our endpoints has appeared or changed. */
  storePut(stored: Resource): void {
    const key = keyOf(stored);
    const mine = this.#endpoints.get(keyText(key));
    if (!mine) {
      this.#options.publish(key, null); // left over from a container that is gone
      return;
    }
    if ((stored.spec as EndpointSpec).containerID !== (mine.spec as EndpointSpec).containerID) {
      this.#options.publish(key, mine); // of a former container of the same name
      return;
    }
    const labels = stored.metadata.labels ?? {};
    if (sameLabels(labels, mine.metadata.labels ?? {})) return;
    const merged = { ...mine, metadata: { ...mine.metadata, labels } };
    this.#endpoints.set(keyText(key), merged);
    this.#options.onChange(key, merged);
  }

  /** The store's object has been deleted: by us after a detach, or by somebody while the container lives. */
  storeDeleted(key: ResourceKey): void {
    const mine = this.#endpoints.get(keyText(key));
    if (mine) this.#options.publish(key, mine);
  }

  /** After a list of the store: whatever is ours and missing there is written. */
  storeListed(stored: ReadonlySet<string>): void {
    for (const [text, endpoint] of this.#endpoints) {
      if (!stored.has(text)) this.#options.publish(keyOf(endpoint), endpoint);
    }
  }
}

function sameLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
