// Which hosts peer with which: a full mesh, or route reflectors that the hosts choose among themselves. Pure.
// In: the hosts, BGPFabric. Out: for one host, the others it has a session with, and which of them are its clients.
//
// Every host works this out alone from the same resources, so the choice must depend on nothing else. Reflectors are the
// hosts of a zone with the highest rendezvous weights: one host more or less changes at most one reflector of its zone.
// Reflectors mesh with each other; other hosts are clients of their zone's reflectors (RFC 4456). Every reflector is a
// cluster of its own: with one cluster id for two of them, a client that has lost one session would lose routes.
import type { BGPFabricSpec } from '#model/bgp-fabric.ts';
import { parseSelector } from '#policy/selector/selector.ts';
import type { BgpHost } from './hosts.ts';

export const DEFAULT_FABRIC: BGPFabricSpec = {
  mode: 'Auto',
  meshLimit: 100,
  topologyLabel: 'topology.kubernetes.io/zone',
  reflectorsPerZone: 2,
  reflectorSelector: 'all()',
};

export interface FabricLink {
  readonly other: BgpHost;
  /** We reflect for the other. */
  readonly isClient: boolean;
}

export interface Fabric {
  readonly mode: 'mesh' | 'reflectors';
  /** Names, sorted; empty in a mesh. */
  readonly reflectors: readonly string[];
  /** Sessions of one host, in the order of names. Empty for a host that is no part of the fabric. */
  linksOf(name: string): FabricLink[];
  /** Why reflectors were asked for and there are none; null otherwise. */
  readonly problem: string | null;
}

/** `hosts`: those that take part, sorted by name. */
export function chooseFabric(hosts: readonly BgpHost[], spec: BGPFabricSpec = DEFAULT_FABRIC): Fabric {
  const wanted = spec.mode === 'Reflectors' || (spec.mode === 'Auto' && hosts.length > spec.meshLimit);
  if (!wanted) return mesh(hosts, null);
  if (new Set(hosts.map((host) => host.asNumber)).size > 1) {
    return mesh(hosts, 'the hosts have several AS numbers, and reflectors work within one: they stay a full mesh');
  }
  const selector = parseSelector(spec.reflectorSelector);
  // A reflector must reach every host, so it needs an address of each family that some host has.
  const families = (['ipv4', 'ipv6'] as const).filter((family) => hosts.some((host) => host[family] !== null));
  const candidates = hosts.filter(
    (host) => selector.matches(host.labels) && families.every((family) => host[family] !== null),
  );
  if (candidates.length === 0) {
    const what = `no host matches reflectorSelector ${spec.reflectorSelector} and has ${families.join(' and ')}`;
    return mesh(hosts, `${what}: they stay a full mesh`);
  }
  const zoneOf = (host: BgpHost): string => host.labels[spec.topologyLabel] ?? '';
  const servers = new Map<string, readonly BgpHost[]>();
  for (const zone of new Set(hosts.map(zoneOf))) {
    const ranked = candidates.toSorted(
      (a, b) => weight(zone, b.name) - weight(zone, a.name) || (a.name < b.name ? -1 : 1),
    );
    // A zone with too few of its own is served from others as well.
    const own = ranked.filter((host) => zoneOf(host) === zone);
    const others = ranked.filter((host) => zoneOf(host) !== zone);
    servers.set(zone, [...own, ...others].slice(0, spec.reflectorsPerZone));
  }
  const reflectors = new Set([...servers.values()].flat().map((host) => host.name));
  return {
    mode: 'reflectors',
    reflectors: [...reflectors].sort(),
    problem: null,
    linksOf(name) {
      const self = hosts.find((host) => host.name === name);
      if (!self) return [];
      const others = hosts.filter((host) => host !== self);
      if (!reflectors.has(name)) {
        const own = servers.get(zoneOf(self))!;
        return others.filter((other) => own.includes(other)).map((other) => ({ other, isClient: false }));
      }
      return others.flatMap((other): FabricLink[] => {
        if (reflectors.has(other.name)) return [{ other, isClient: false }];
        return servers.get(zoneOf(other))!.includes(self) ? [{ other, isClient: true }] : [];
      });
    },
  };
}

function mesh(hosts: readonly BgpHost[], problem: string | null): Fabric {
  return {
    mode: 'mesh',
    reflectors: [],
    problem,
    linksOf: (name) =>
      hosts.some((host) => host.name === name)
        ? hosts.filter((host) => host.name !== name).map((other) => ({ other, isClient: false }))
        : [],
  };
}

/** Rendezvous weight, 0 to 2^32 - 1: FNV-1a, then MurmurHash3's finalizer, without which like names get like weights. */
function weight(zone: string, name: string): number {
  const text = `${zone}\n${name}`;
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
