// What becomes of a received path: refused for a loop or by policy, or accepted with these attributes.
// In: a peer and the attributes it sent. Out: an attribute id, or the reason there is none.
// RFC 4271 9.1.2 (AS loops), 6.3 (first AS); 4456 section 8; 8212 (by the policy); 8326 section 4.
import { makeAttributes } from '#bgp/wire/attributes.ts';
import type { AddressFamily } from '#bgp/wire/types.ts';
import type { PolicyDecision, RouteView } from '#bgp/filter/policy.ts';
import {
  type AttributeTable,
  FLAG_CLUSTER_LOOP,
  FLAG_GRACEFUL_SHUTDOWN,
  FLAG_OWN_ORIGINATOR,
  NO_ATTRIBUTES,
} from './attribute-table.ts';
import { applyChanges } from './changes.ts';
import {
  REJECT_AS_LOOP,
  REJECT_CLUSTER_LOOP,
  REJECT_FIRST_AS,
  REJECT_NONE,
  REJECT_NO_POLICY,
  REJECT_ORIGINATOR,
  REJECT_POLICY,
} from './path-table.ts';
import type { RibPeer } from './peers.ts';
import type { PrefixTable } from './prefix-table.ts';

const CACHE_ENTRIES = 16384;

export class Importer {
  /** Why the last `import` gave nothing. */
  reject = REJECT_NONE;
  /** Which rule decided last; null when the policy was not asked. */
  decision: PolicyDecision | null = null;
  readonly #family: AddressFamily;
  readonly #prefixes: PrefixTable;
  readonly #attributes: AttributeTable;
  readonly #view: RouteView;
  readonly #cache = new Map<number, number>();
  readonly #decisions = new Map<PolicyDecision, number>();
  #generation = -1;

  constructor(family: AddressFamily, prefixes: PrefixTable, attributes: AttributeTable) {
    this.#family = family;
    this.#prefixes = prefixes;
    this.#attributes = attributes;
    this.#view = {
      family,
      word0: 0,
      word1: 0,
      word2: 0,
      word3: 0,
      bits: 0,
      attributes: makeAttributes({}),
      attributesId: 0,
      generation: 0,
      fromPeer: true,
      externalPeer: false,
      interfaceName: '',
    };
  }

  /** A reason that holds for every prefix with these attributes; REJECT_NONE when there is none. */
  check(peer: RibPeer, received: number): number {
    const loop = this.loops(peer, received);
    if (loop !== REJECT_NONE) return loop;
    return peer.config.importPolicy.constant?.accept === false ? REJECT_NO_POLICY : REJECT_NONE;
  }

  /** As `check`, without the policy. */
  loops(peer: RibPeer, received: number): number {
    const table = this.#attributes;
    const codec = peer.session!.codec;
    const { config } = peer;
    const flags = table.flags[received]!;
    if (table.countAs(received, codec.localAs) > (config.allowOwnAs ?? 0)) return REJECT_AS_LOOP;
    if (codec.external) {
      const enforce = config.enforceFirstAs ?? true;
      if (enforce && table.neighbourAs[received] !== codec.peerAs) return REJECT_FIRST_AS;
    } else {
      if ((flags & FLAG_OWN_ORIGINATOR) !== 0) return REJECT_ORIGINATOR;
      if ((flags & FLAG_CLUSTER_LOOP) !== 0) return REJECT_CLUSTER_LOOP;
      const { clusterId } = config;
      if (clusterId !== undefined && table.clusterLength[received] !== 0) {
        if (table.decoded(received).clusterList.includes(clusterId)) return REJECT_CLUSTER_LOOP;
      }
    }
    return REJECT_NONE;
  }

  /** The attributes after import of a path that passed `check`; NO_ATTRIBUTES when the policy rejects it. */
  import(peer: RibPeer, received: number, prefix: number): number {
    const policy = peer.config.importPolicy;
    const decision = policy.constant ?? this.#ask(peer, received, prefix);
    this.decision = decision;
    if (!decision.accept) {
      this.reject = policy.constant ? REJECT_NO_POLICY : REJECT_POLICY;
      return NO_ATTRIBUTES;
    }
    this.reject = REJECT_NONE;
    const shutdown = this.#shutdown(peer, received);
    if (!decision.changes && !shutdown) return received;
    if (this.#generation !== this.#attributes.generation) {
      this.#generation = this.#attributes.generation;
      this.#cache.clear();
    }
    const key = (received * 1024 + this.#number(decision)) * 2 + (shutdown ? 1 : 0);
    const known = this.#cache.get(key);
    if (known !== undefined) return known;
    let attributes = applyChanges(this.#attributes.decoded(received), decision.changes);
    if (shutdown) attributes = { ...attributes, localPref: 0 };
    const id = this.#attributes.intern(attributes, this.#family, this.#attributes.zone[received]);
    if (this.#cache.size >= CACHE_ENTRIES) this.#cache.clear();
    this.#cache.set(key, id);
    return id;
  }

  #shutdown(peer: RibPeer, received: number): boolean {
    if ((this.#attributes.flags[received]! & FLAG_GRACEFUL_SHUTDOWN) === 0) return false;
    return peer.config.honourGracefulShutdown ?? peer.external;
  }

  #ask(peer: RibPeer, received: number, prefix: number): PolicyDecision {
    const view = this.#view;
    const prefixes = this.#prefixes;
    view.word0 = prefixes.word(prefix, 0);
    view.word1 = prefixes.word(prefix, 1);
    view.word2 = prefixes.word(prefix, 2);
    view.word3 = prefixes.word(prefix, 3);
    view.bits = prefixes.bits[prefix]!;
    view.attributes = this.#attributes.decoded(received);
    view.attributesId = received;
    view.generation = this.#attributes.generation;
    view.externalPeer = peer.external;
    view.interfaceName = peer.config.interfaceName ?? '';
    return peer.config.importPolicy.evaluate(view);
  }

  #number(decision: PolicyDecision): number {
    let number = this.#decisions.get(decision);
    if (number === undefined) {
      if (this.#decisions.size >= 1023) {
        this.#decisions.clear();
        this.#cache.clear();
      }
      number = this.#decisions.size;
      this.#decisions.set(decision, number);
    }
    return number;
  }
}
