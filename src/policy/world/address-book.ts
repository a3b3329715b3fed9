// Who has an address: endpoints by their own addresses, network sets by their CIDRs, nodes by theirs.
// Answers are kept per address, so that many flows between few addresses cost little.
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type { Selector } from '../selector/selector.ts';
import type { Endpoint } from './endpoint.ts';
import type { Entity } from './entity.ts';
import { NO, type SelectorTable, UNKNOWN, YES } from './selector-table.ts';

export interface AddressOwners {
  readonly address: IpAddress;
  /** Live endpoints with the address: workloads before hosts, then by id. */
  readonly endpoints: readonly Endpoint[];
  /** Endpoints and network sets together: whom a selector is asked of. */
  readonly entities: readonly Entity[];
  /** Names of the nodes with the address. */
  readonly nodes: readonly string[];
  /** By selector number: what `matches` has answered or is sure to answer. */
  readonly answers: Uint8Array;
  /** Whether any of the entities matches the selector with this number; asked once, remembered. */
  matches(number: number, selector: Selector): boolean;
}

class Owners implements AddressOwners {
  readonly address: IpAddress;
  readonly endpoints: readonly Endpoint[];
  readonly entities: readonly Entity[];
  readonly nodes: readonly string[];
  readonly answers: Uint8Array;

  constructor(
    address: IpAddress,
    endpoints: readonly Endpoint[],
    entities: readonly Entity[],
    nodes: readonly string[],
    selectors: SelectorTable,
  ) {
    this.address = address;
    this.endpoints = endpoints;
    this.entities = entities;
    this.nodes = nodes;
    this.answers = selectors.answersFor(entities);
  }

  matches(number: number, selector: Selector): boolean {
    const answer = this.answers[number];
    if (answer !== UNKNOWN) return answer === YES;
    const matched = this.entities.some((entity) => selector.matchesLookup(entity.lookup));
    this.answers[number] = matched ? YES : NO;
    return matched;
  }
}

export class AddressBook {
  readonly #endpoints = new Map<string, Endpoint[]>();
  readonly #nodes = new Map<string, string[]>();
  /** Prefix length -> network -> sets; one map a family. */
  readonly #sets: Record<4 | 6, Map<number, Map<string, Set<Entity>>>> = { 4: new Map(), 6: new Map() };
  readonly #answers = new Map<string, AddressOwners>();
  readonly #selectors: SelectorTable;

  /** `selectors` holds every selector that will be asked. */
  constructor(selectors: SelectorTable) {
    this.#selectors = selectors;
  }

  addEndpoint(address: IpAddress, endpoint: Endpoint): void {
    append(this.#endpoints, address.toString(), endpoint);
  }

  addNode(address: IpAddress, name: string): void {
    append(this.#nodes, address.toString(), name);
  }

  addSet(net: Prefix, set: Entity): void {
    const byLength = this.#sets[net.family];
    let networks = byLength.get(net.length);
    if (!networks) byLength.set(net.length, (networks = new Map()));
    const key = net.address.toString();
    const sets = networks.get(key);
    if (sets) sets.add(set);
    else networks.set(key, new Set([set]));
  }

  /** Every network set, once each. */
  get sets(): ReadonlySet<Entity> {
    const all = new Set<Entity>();
    for (const byLength of Object.values(this.#sets)) {
      for (const networks of byLength.values())
        for (const sets of networks.values()) for (const set of sets) all.add(set);
    }
    return all;
  }

  /** An endpoint whose address nobody knows, asked as if it had one of the family that no CIDR but a catch-all holds. */
  ownersOfUnknown(endpoint: Endpoint, family: 4 | 6): AddressOwners {
    const address = IpAddress.parse(family === 4 ? '0.0.0.0' : '::');
    return new Owners(address, [endpoint], [endpoint.entity], [], this.#selectors);
  }

  /** Everything must have been added before the first question. */
  ownersOf(address: IpAddress): AddressOwners {
    const key = address.toString();
    let owners = this.#answers.get(key);
    if (!owners) {
      const endpoints = (this.#endpoints.get(key) ?? []).toSorted(compareEndpoints);
      const sets = new Set<Entity>();
      for (const [length, networks] of this.#sets[address.family]) {
        const found = networks.get(Prefix.of(address, length).address.toString());
        for (const set of found ?? []) sets.add(set);
      }
      const entities = [...endpoints.map(({ entity }) => entity), ...sets];
      owners = new Owners(address, endpoints, entities, this.#nodes.get(key) ?? [], this.#selectors);
      this.#answers.set(key, owners);
    }
    return owners;
  }
}

/** Adds to the list under a key. */
export function append<V>(map: Map<string, V[]>, key: string, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

function compareEndpoints(a: Endpoint, b: Endpoint): number {
  if (a.data.kind !== b.data.kind) return a.data.kind === 'workload' ? -1 : 1;
  return a.data.id < b.data.id ? -1 : 1;
}
