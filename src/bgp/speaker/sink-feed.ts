// Best learned routes on their way to the routing table, in batches.
// In: the RIB's queue of prefixes whose route changed. Out: SinkBatch. What the sink was last told of a prefix is kept
// as a hash by row, so that a change of no consequence (a MED, a community) does not reach the kernel.
import { FLAG_BLACKHOLE } from '#bgp/rib/attribute-table.ts';
import { LOCAL_PEER } from '#bgp/rib/peers.ts';
import type { Rib } from '#bgp/rib/rib.ts';
import type { FamilyRib } from '#bgp/rib/family-rib.ts';
import { ADDRESS_FAMILIES, type AddressFamily } from '#bgp/wire/types.ts';
import type { RouteSink, SinkNextHop, SinkRoute } from './api.ts';

/** Prefixes in one batch. */
const BATCH = 512;

export class SinkFeed {
  readonly #rib: Rib;
  readonly #sink: RouteSink;
  readonly #nameOf: (ribPeer: number) => string | null;
  readonly #interfaceOf: (zone: number) => string | null;
  /** By prefix row: a hash of what the sink was told, 0 for nothing. */
  readonly #told: Record<AddressFamily, Uint32Array> = { ipv4: new Uint32Array(64), ipv6: new Uint32Array(64) };
  #paths: number[] = [];
  #convergePending = false;

  constructor(
    rib: Rib,
    sink: RouteSink,
    nameOf: (ribPeer: number) => string | null,
    interfaceOf: (zone: number) => string | null,
  ) {
    this.#rib = rib;
    this.#sink = sink;
    this.#nameOf = nameOf;
    this.#interfaceOf = interfaceOf;
    for (const family of ADDRESS_FAMILIES) rib.collectRoutes(family);
  }

  /** The sink may sweep what it was not told, once it has been told all there is now. */
  converged(): void {
    this.#convergePending = true;
  }

  /**
   * One batch of each family. True when there is more. `settled`: the RIB has no work left and no next hop
   * waits for an answer; before that the sink must not sweep, as routes are still to come.
   */
  step(settled: boolean): boolean {
    let more = false;
    for (const family of ADDRESS_FAMILIES) if (this.#stepFamily(this.#rib.families[family])) more = true;
    if (!more && settled && this.#convergePending) {
      this.#convergePending = false;
      for (const family of ADDRESS_FAMILIES) this.#sink.converged(family);
    }
    return more;
  }

  #stepFamily(rib: FamilyRib): boolean {
    const queue = rib.routeQueue;
    if (!queue || queue.length === 0) return false;
    const changed: SinkRoute[] = [];
    const removed: string[] = [];
    for (let i = 0; i < BATCH; i++) {
      const row = queue.shift();
      if (row === 0) break;
      this.#route(rib, row, changed, removed);
    }
    if (changed.length > 0 || removed.length > 0) this.#sink.apply({ changed, removed });
    return queue.length > 0;
  }

  #route(rib: FamilyRib, row: number, changed: SinkRoute[], removed: string[]): void {
    let told = this.#told[rib.family];
    if (row >= told.length) {
      const wider = new Uint32Array(Math.max(row + 1, told.length * 2));
      wider.set(told);
      this.#told[rib.family] = told = wider;
    }
    const best = rib.prefixes.best[row]!;
    if (best === 0 || rib.paths.peer[best] === LOCAL_PEER) {
      if (told[row] !== 0) removed.push(rib.prefixes.prefix(row).toString());
      told[row] = 0;
      return;
    }
    const hash = this.#gather(rib, row, best);
    if (told[row] === hash) return;
    told[row] = hash;
    changed.push(this.#describe(rib, row));
  }

  /** Fills `#paths` with those that share the load, and hashes what the kernel would see of them. */
  #gather(rib: FamilyRib, row: number, best: number): number {
    const paths = this.#paths;
    rib.decision.multipath(row, paths);
    const { nextHop, flags } = this.#rib.attributes;
    let hash = (flags[rib.paths.attributes[best]!]! & FLAG_BLACKHOLE) === 0 ? 1 : 3;
    for (const path of paths) {
      hash = Math.imul(hash ^ nextHop[rib.paths.attributes[path]!]!, 0x01000193);
      hash = Math.imul(hash ^ rib.paths.peer[path]!, 0x01000193);
      hash ^= hash >>> 15;
    }
    return hash >>> 0 || 1;
  }

  #describe(rib: FamilyRib, row: number): SinkRoute {
    const { attributes, nextHops: table } = this.#rib;
    const nextHops: SinkNextHop[] = [];
    const fromPeers: string[] = [];
    const best = rib.prefixes.best[row]!;
    const blackhole = (attributes.flags[rib.paths.attributes[best]!]! & FLAG_BLACKHOLE) !== 0;
    for (const path of this.#paths) {
      fromPeers.push(this.#nameOf(rib.paths.peer[path]!) ?? '');
      const hop = table.get(attributes.nextHop[rib.paths.attributes[path]!]!);
      if (blackhole || !hop.address) continue;
      const scope = hop.linkLocal && hop.zone !== 0 ? this.#interfaceOf(hop.zone) : null;
      const address = scope === null ? hop.address : hop.linkLocal!;
      nextHops.push({ address: address.toString(), ...(scope !== null && { interface: scope }) });
    }
    return { prefix: rib.prefixes.prefix(row).toString(), nextHops, fromPeers };
  }
}
