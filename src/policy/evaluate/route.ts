// Who talks to whom, with which addresses. In: a flow and the world. Out: the packet and both parties.
// Rules: an address that a live endpoint has is that endpoint; with two families, the first address of the source whose family the
// destination has.
import { BrindleError } from '#base/errors.ts';
import { nearest } from '#model/nearest.ts';
import type { IpAddress } from '#net/address.ts';
import type { AddressOwners } from '../world/address-book.ts';
import type { Endpoint } from '../world/endpoint.ts';
import type { Packet } from '../world/matcher.ts';
import type { World } from '../world/world.ts';
import type { Flow, FlowEnd } from './flow.ts';

export interface Party {
  /** null: no endpoint of ours. */
  readonly endpoint: Endpoint | null;
  /** The hosts it is on; more than one only where two claim the address. Empty when not known. */
  readonly nodes: readonly string[];
}

export interface Route {
  readonly packet: Packet;
  readonly source: Party;
  readonly destination: Party;
}

/** There is no such packet, because a party has no address, or none of the other's family. */
export interface NoRoute {
  readonly reason: string;
  readonly source: Endpoint | null;
  readonly destination: Endpoint | null;
}

interface End {
  readonly endpoint: Endpoint | null;
  readonly addresses: readonly IpAddress[];
  readonly name: string;
}

/** Throws `invalid-argument` with the field when the flow names somebody the world does not know. */
export function routeOf(world: World, flow: Flow): Route | NoRoute {
  const from = findEnd(world, flow.from, 'from');
  const to = findEnd(world, flow.to, 'to');
  const family = commonFamily(from, to);
  if (!family) {
    const without = [from, to].find((end) => end.addresses.length === 0 && !isUnknownHost(end));
    const reason = without ? `${without.name} has no address` : `${from.name} and ${to.name} share no address family`;
    return { reason, source: from.endpoint, destination: to.endpoint };
  }
  const source = ownersOf(world, from, family);
  const destination = ownersOf(world, to, family);
  const { protocol, port, sourcePort, icmp } = flow;
  return {
    packet: {
      family,
      protocol,
      sourcePort,
      destinationPort: port,
      icmp,
      source,
      destination,
    },
    source: party(from.endpoint, source),
    destination: party(to.endpoint, destination),
  };
}

/** A host endpoint of which nothing says the address: it has one all the same. */
function isUnknownHost({ endpoint, addresses }: End): boolean {
  return addresses.length === 0 && endpoint?.data.kind === 'host';
}

function commonFamily(from: End, to: End): 4 | 6 | null {
  if (isUnknownHost(from)) return isUnknownHost(to) ? 4 : (to.addresses[0]?.family ?? null);
  const found = from.addresses.find(
    ({ family }) => isUnknownHost(to) || to.addresses.some((other) => other.family === family),
  );
  return found?.family ?? null;
}

function ownersOf(world: World, end: End, family: 4 | 6): AddressOwners {
  const address = end.addresses.find((candidate) => candidate.family === family);
  return address ? world.addresses.ownersOf(address) : world.addresses.ownersOfUnknown(end.endpoint!, family);
}

function party(named: Endpoint | null, owners: AddressOwners): Party {
  const endpoint = named ?? owners.endpoints[0] ?? null;
  const node = endpoint?.data.node;
  return { endpoint, nodes: node ? [node] : owners.nodes };
}

function findEnd(world: World, end: FlowEnd, field: string): End {
  if ('ip' in end) return { endpoint: null, addresses: [end.ip], name: end.ip.toString() };
  const [kind, name] = 'pod' in end ? (['pod', end.pod] as const) : (['endpoint', end.endpoint] as const);
  if (kind === 'pod') {
    const addresses = world.hostPods.get(name);
    if (addresses) return { endpoint: null, addresses, name };
  }
  const index = kind === 'pod' ? world.endpointsByPod : world.endpointsByName;
  const found = index.get(name) ?? [];
  // A pod can have ended and another of its name begun: the one with an address is meant.
  const [endpoint, second] = found.length > 1 ? found.filter(({ data }) => data.addresses.length > 0) : found;
  if (!endpoint) {
    const near = nearest(name, index.keys());
    throw new BrindleError('invalid-argument', `${field}.${kind}: there is no ${kind} ${name}`, {
      field: `${field}.${kind}`,
      remedy: near ? `did you mean ${near}?` : undefined,
    });
  }
  if (second) {
    throw new BrindleError('invalid-argument', `${field}.${kind}: more than one endpoint is called ${name}`, {
      field: `${field}.${kind}`,
      remedy: 'write namespace/name',
    });
  }
  return { endpoint, addresses: endpoint.data.addresses, name };
}
