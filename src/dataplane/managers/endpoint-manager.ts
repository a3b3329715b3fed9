// Desired workload endpoints to wanted endpoint chains and dispatch entries.
// Two endpoints with one interface: the smaller id has it, whatever came first, and the other one is reported.
import { errorText } from '#base/errors.ts';
import type { DesiredEndpoint } from '#model/desired.ts';
import type { Reconciler } from '../reconciler.ts';
import { DISPATCH_FROM, DISPATCH_TO } from '../render/base.ts';
import { policiesOf, type PolicyShapes, renderClosedEndpoint, renderEndpoint } from '../render/endpoint.ts';
import { type Direction, endpointChainName, isInterfaceName } from '../render/names.ts';
import type { RenderOptions } from '../render/options.ts';
import type { StatusBoard } from '../status.ts';

const DISPATCH: Record<Direction, string> = { egress: DISPATCH_FROM.name, ingress: DISPATCH_TO.name };
const DIRECTIONS: readonly Direction[] = ['egress', 'ingress'];

export class EndpointManager {
  readonly #reconciler: Reconciler;
  readonly #options: RenderOptions;
  readonly #status: StatusBoard;
  readonly #shapes: PolicyShapes;
  readonly #endpoints = new Map<string, DesiredEndpoint>();
  /** Interface -> ids of the endpoints that claim it. */
  readonly #claims = new Map<string, Set<string>>();
  /** Interface -> names of its chains. */
  readonly #chains = new Map<string, readonly string[]>();
  /** Policy id -> endpoints whose chains name it. */
  readonly #users = new Map<string, Set<string>>();
  /** Interfaces to look at again. */
  readonly #dirty = new Set<string>();
  readonly #refused = new Map<string, string>();

  constructor(reconciler: Reconciler, options: RenderOptions, status: StatusBoard, shapes: PolicyShapes) {
    this.#reconciler = reconciler;
    this.#options = options;
    this.#status = status;
    this.#shapes = shapes;
  }

  update(endpoint: DesiredEndpoint): void {
    this.#forget(endpoint.id);
    this.#endpoints.set(endpoint.id, endpoint);
    this.#refused.delete(endpoint.id);
    add(this.#claims, endpoint.interfaceName, endpoint.id);
    for (const policy of policiesOf(endpoint)) add(this.#users, policy, endpoint.id);
    this.#status.waiting(`endpoint:${endpoint.id}`);
    this.#dirty.add(endpoint.interfaceName);
  }

  remove(id: string): void {
    this.#forget(id);
    this.#refused.delete(id);
    this.#status.remove(`endpoint:${id}`);
  }

  /** The kernel refused its chains: it is closed until it is sent anew. */
  refuse(id: string, reason: string): void {
    const endpoint = this.#endpoints.get(id);
    if (!endpoint) return;
    this.#refused.set(id, reason);
    this.#dirty.add(endpoint.interfaceName);
  }

  isRefused(id: string): boolean {
    return this.#refused.has(id);
  }

  policiesChanged(policies: ReadonlySet<string>): void {
    for (const policy of policies) {
      for (const id of this.#users.get(policy) ?? []) this.#dirty.add(this.#endpoints.get(id)!.interfaceName);
    }
  }

  /** As `PolicyManager.render`: before the first complete state an endpoint waits for the policies it names. */
  render(complete: boolean): void {
    for (const name of [...this.#dirty]) {
      const [id, ...others] = [...(this.#claims.get(name) ?? [])].sort();
      for (const other of others)
        this.#status.failed(`endpoint:${other}`, `interface ${name} belongs to endpoint ${id}`);
      if (id === undefined) {
        this.#dirty.delete(name);
        this.#withdraw(name, []);
        continue;
      }
      const endpoint = this.#endpoints.get(id)!;
      if (!complete && [...policiesOf(endpoint)].some((policy) => !this.#shapes(policy))) continue;
      this.#dirty.delete(name);
      this.#renderEndpoint(endpoint);
    }
  }

  #renderEndpoint(endpoint: DesiredEndpoint): void {
    const owner = `endpoint:${endpoint.id}`;
    const name = endpoint.interfaceName;
    if (!isInterfaceName(name)) {
      this.#status.failed(owner, `"${name}" is not the name of an interface`);
      this.#withdraw(name, []);
      return;
    }
    const closedBecause = this.#refused.get(endpoint.id) ?? null;
    if (closedBecause === null) this.#status.rendered(owner);
    const kept: string[] = [];
    for (const direction of DIRECTIONS) {
      for (const chain of this.#chainsOf(endpoint, direction, closedBecause)) {
        this.#reconciler.wantChain(owner, chain);
        kept.push(chain.name);
      }
      const chain = endpointChainName(name, direction);
      this.#reconciler.wantVerdict(owner, DISPATCH[direction], name, { type: 'goto', chain });
    }
    this.#dropChains(name, kept);
    this.#chains.set(name, kept);
  }

  #chainsOf(endpoint: DesiredEndpoint, direction: Direction, closedBecause: string | null) {
    if (closedBecause !== null) {
      this.#status.failed(`endpoint:${endpoint.id}`, closedBecause);
      return [renderClosedEndpoint(endpoint, direction, closedBecause)];
    }
    try {
      return renderEndpoint(endpoint, direction, this.#shapes, this.#options);
    } catch (error) {
      this.#status.failed(`endpoint:${endpoint.id}`, errorText(error));
      return [renderClosedEndpoint(endpoint, direction, errorText(error))];
    }
  }

  #withdraw(name: string, kept: readonly string[]): void {
    for (const direction of DIRECTIONS) this.#reconciler.dropVerdict(DISPATCH[direction], name);
    this.#dropChains(name, kept);
    this.#chains.delete(name);
  }

  #dropChains(name: string, kept: readonly string[]): void {
    for (const chain of this.#chains.get(name) ?? []) if (!kept.includes(chain)) this.#reconciler.dropChain(chain);
  }

  #forget(id: string): void {
    const known = this.#endpoints.get(id);
    if (!known) return;
    this.#endpoints.delete(id);
    remove(this.#claims, known.interfaceName, id);
    for (const policy of policiesOf(known)) remove(this.#users, policy, id);
    this.#dirty.add(known.interfaceName);
  }
}

function add(map: Map<string, Set<string>>, key: string, value: string): void {
  const set = map.get(key);
  if (set) set.add(value);
  else map.set(key, new Set([value]));
}

function remove(map: Map<string, Set<string>>, key: string, value: string): void {
  const set = map.get(key);
  set?.delete(value);
  if (set?.size === 0) map.delete(key);
}
