// Desired host endpoints to wanted chains. They are few, so all of them are rendered together whenever one of them, or the shape of a
// policy they name, changes. Two endpoints with one interface: the smaller id has it, and the other one is reported.
import { errorText } from '#base/errors.ts';
import type { DesiredEndpoint } from '#model/desired.ts';
import type { Reconciler } from '../reconciler.ts';
import { policiesOf, type PolicyShapes } from '../render/endpoint.ts';
import { closedHostEndpoint, renderHostEndpoints } from '../render/host.ts';
import { isInterfaceName } from '../render/names.ts';
import type { RenderOptions } from '../render/options.ts';
import type { StatusBoard } from '../status.ts';

/** All chains have one owner: a refused one cannot be told from the others of its place. */
export const HOST_OWNER = 'host-endpoints';

export class HostEndpointManager {
  readonly #reconciler: Reconciler;
  readonly #options: RenderOptions;
  readonly #status: StatusBoard;
  readonly #shapes: PolicyShapes;
  readonly #endpoints = new Map<string, DesiredEndpoint>();
  #chains: readonly string[] = [];
  #dirty = false;
  #refused: string | null = null;

  constructor(reconciler: Reconciler, options: RenderOptions, status: StatusBoard, shapes: PolicyShapes) {
    this.#reconciler = reconciler;
    this.#options = options;
    this.#status = status;
    this.#shapes = shapes;
  }

  has(id: string): boolean {
    return this.#endpoints.has(id);
  }

  update(endpoint: DesiredEndpoint): void {
    this.#endpoints.set(endpoint.id, endpoint);
    this.#status.waiting(`endpoint:${endpoint.id}`);
    this.#refused = null;
    this.#dirty = true;
  }

  remove(id: string): void {
    if (!this.#endpoints.delete(id)) return;
    this.#status.remove(`endpoint:${id}`);
    this.#refused = null;
    this.#dirty = true;
  }

  /** The kernel refused the chains: every host endpoint is closed but for failsafe ports until one is sent anew. False: it was already. */
  refuse(reason: string): boolean {
    if (this.#refused !== null) return false;
    this.#refused = reason;
    this.#dirty = true;
    return true;
  }

  policiesChanged(policies: ReadonlySet<string>): void {
    for (const endpoint of this.#endpoints.values()) {
      for (const policy of policiesOf(endpoint)) this.#dirty ||= policies.has(policy);
    }
  }

  /** As `EndpointManager.render`. */
  render(complete: boolean): void {
    if (!this.#dirty) return;
    const governed = this.#governed();
    const waits = (e: DesiredEndpoint) => [...policiesOf(e)].some((policy) => !this.#shapes(policy));
    if (!complete && governed.some(waits)) return;
    this.#dirty = false;
    const chains = this.#rendered(governed);
    for (const chain of chains) this.#reconciler.wantChain(HOST_OWNER, chain);
    const names = chains.map((chain) => chain.name);
    for (const name of this.#chains) if (!names.includes(name)) this.#reconciler.dropChain(name);
    this.#chains = names;
  }

  #rendered(governed: readonly DesiredEndpoint[]) {
    let reason = this.#refused;
    if (reason === null) {
      try {
        const chains = renderHostEndpoints(governed, this.#shapes, this.#options);
        for (const { id } of governed) this.#status.rendered(`endpoint:${id}`);
        return chains;
      } catch (error) {
        reason = errorText(error);
      }
    }
    for (const { id } of governed) this.#status.failed(`endpoint:${id}`, reason);
    return renderHostEndpoints(governed.map(closedHostEndpoint), this.#shapes, this.#options);
  }

  /** One endpoint an interface, in order of the interfaces' names. */
  #governed(): DesiredEndpoint[] {
    const byInterface = new Map<string, DesiredEndpoint>();
    for (const endpoint of [...this.#endpoints.values()].sort((a, b) => (a.id < b.id ? -1 : 1))) {
      const { id, interfaceName: name } = endpoint;
      const owner = byInterface.get(name);
      if (name !== '*' && !isInterfaceName(name)) {
        this.#status.failed(`endpoint:${id}`, `"${name}" is not the name of an interface`);
      } else if (owner) this.#status.failed(`endpoint:${id}`, `interface ${name} belongs to endpoint ${owner.id}`);
      else byInterface.set(name, endpoint);
    }
    return [...byInterface.values()].sort((a, b) => (a.interfaceName < b.interfaceName ? -1 : 1));
  }
}
