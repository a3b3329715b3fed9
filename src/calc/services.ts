// The resources that say where services are. Worked out only when a rule asks, because most clusters have none that does.
// In: Service, EndpointSlice, Endpoints and Pod resources. Out: all services, when any of them has changed.
import type { EndpointSlice, Endpoints, Pod, Service } from '#model/kubernetes-objects.ts';
import type { Resource } from '#model/resource.ts';
import { convertServices, type ServiceData } from '#policy/convert/services.ts';

/** Store keys of the kinds. */
export const SERVICE_KINDS: ReadonlySet<string> = new Set([
  'Service',
  'EndpointSlice.discovery.k8s.io',
  'Endpoints',
  'Pod',
]);

export class Services {
  readonly #resources = new Map<string, Map<string, Resource>>([...SERVICE_KINDS].map((kind) => [kind, new Map()]));
  #changed = true;

  put(kind: string, id: string, resource: Resource): void {
    this.#resources.get(kind)?.set(id, resource);
    this.#changed = true;
  }

  remove(kind: string, id: string): void {
    if (this.#resources.get(kind)?.delete(id)) this.#changed = true;
  }

  /** All services by `namespace/name`; null when nothing has changed since the last call. */
  takeChanged(): ReadonlyMap<string, ServiceData> | null {
    if (!this.#changed) return null;
    this.#changed = false;
    // The store keys the maps by kind, so each holds its own type.
    const of = (kind: string): unknown => [...this.#resources.get(kind)!.values()];
    return convertServices({
      services: of('Service') as Service[],
      slices: of('EndpointSlice.discovery.k8s.io') as EndpointSlice[],
      endpoints: of('Endpoints') as Endpoints[],
      pods: of('Pod') as Pod[],
    });
  }
}
