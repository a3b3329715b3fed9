// What becomes of a path on its way to a group of peers: whether it goes at all, and with which attributes.
// In: a path, the properties all peers of the group share. Out: an attribute id, or the reason there is none.
// RFC 4271 5.1, 9.1.3, 9.2; 1997; 4456; 7947 (route server); 8212 (by the policy); 8326; 8950; 9494 section 4.6.
import type { IpAddress } from '#net/address.ts';
import { encodeAttributes, encodeNextHop, makeAttributes } from '#bgp/wire/attributes.ts';
import type { AddressFamily, CodecSession, PathAttributes } from '#bgp/wire/types.ts';
import type { PolicyDecision, RoutePolicy, RouteView } from '#bgp/filter/policy.ts';
import {
  type AttributeTable,
  COMMUNITY_GRACEFUL_SHUTDOWN,
  COMMUNITY_LLGR_STALE,
  DEFAULT_LOCAL_PREF,
  FLAG_LLGR_STALE,
  FLAG_NO_ADVERTISE,
  FLAG_NO_EXPORT,
  FLAG_NO_EXPORT_SUBCONFED,
  NO_ATTRIBUTES,
} from './attribute-table.ts';
import { applyChanges, prepend, withCommunity } from './changes.ts';
import { PATH_LLGR_STALE, type PathTable } from './path-table.ts';
import { LOCAL_PEER, type NextHopRule, type PeerTable, type RibPeer } from './peers.ts';
import { PREFIX_SUPPRESSED, type PrefixTable } from './prefix-table.ts';
import type { WireForm } from './update-encoder.ts';

/** Why a path is not exported; 0 when it is. */
export const EXPORT_OK = 0;
export const EXPORT_NO_PATH = 1;
export const EXPORT_SPLIT_HORIZON = 2;
export const EXPORT_INTERNAL = 3;
export const EXPORT_NO_ADVERTISE = 4;
export const EXPORT_NO_EXPORT = 5;
export const EXPORT_STALE = 6;
export const EXPORT_SUPPRESSED = 7;
export const EXPORT_POLICY = 8;
export const EXPORT_NEXT_HOP = 9;
export const EXPORT_TOO_LONG = 10;

/** Texts of the reasons, by number. */
export const EXPORT_TEXT: readonly string[] = [
  'exported',
  'no usable path',
  'learned from this peer (split horizon)',
  'learned from an internal peer, and neither end is a route reflector client',
  'community NO_ADVERTISE',
  'community NO_EXPORT or NO_EXPORT_SUBCONFED',
  'long-lived stale, and the peer does not understand that',
  'suppressed by an aggregate',
  'rejected by the export policy',
  'no next hop of a family that the peer understands',
  'the attributes do not fit into a message',
];

/** What all peers of one update group have in common. */
export interface GroupProperties {
  readonly family: AddressFamily;
  readonly policy: RoutePolicy;
  readonly codec: CodecSession;
  readonly routeReflectorClient: boolean;
  /** Null: our own. */
  readonly clusterId: number | null;
  readonly routeServerClient: boolean;
  readonly nextHop: NextHopRule;
  readonly localAddress: Readonly<Record<AddressFamily, IpAddress | null>>;
  readonly localLinkLocal: IpAddress | null;
  readonly longLivedStale: boolean;
  readonly gracefulShutdown: boolean;
  readonly addPath: boolean;
  readonly addPathLimit: number;
}

/** Properties of the group that a peer with a session belongs to. */
export function groupProperties(peer: RibPeer, family: AddressFamily): GroupProperties | null {
  const { session, config } = peer;
  const agreed = session?.codec.families[family];
  if (!session || !agreed) return null;
  return {
    family,
    policy: config.exportPolicy,
    codec: session.codec,
    routeReflectorClient: !session.codec.external && (config.routeReflectorClient ?? false),
    clusterId: session.codec.external ? null : (config.clusterId ?? null),
    routeServerClient: session.codec.external && (config.routeServerClient ?? false),
    nextHop: config.nextHop ?? 'auto',
    localAddress: session.localAddress,
    localLinkLocal: session.localLinkLocal,
    longLivedStale: session.longLivedStale[family],
    gracefulShutdown: session.gracefulShutdown ?? false,
    addPath: agreed.addPathSend,
    addPathLimit: config.addPathLimit ?? 0,
  };
}

/** Equal for peers that are sent the same octets. */
export function groupKey(p: GroupProperties): string {
  const agreed = p.codec.families[p.family]!;
  return [
    p.family,
    p.policy.id,
    p.codec.as4,
    p.codec.maxMessageLength,
    p.codec.external ? `external ${p.codec.localAs}` : 'internal',
    agreed.extendedNextHop,
    p.routeReflectorClient,
    p.clusterId,
    p.routeServerClient,
    p.nextHop,
    p.localAddress.ipv4,
    p.localAddress.ipv6,
    p.localLinkLocal,
    p.longLivedStale,
    p.gracefulShutdown,
    p.addPath ? p.addPathLimit : 'best',
  ].join('|');
}

const CACHE_ENTRIES = 65536;
const WIRE_SLOTS = 512;

export class Exporter {
  readonly properties: GroupProperties;
  /** Why the last `export` gave nothing. */
  reason = EXPORT_OK;
  /** Which rule of the policy decided last; null when it was not asked. */
  decision: PolicyDecision | null = null;
  readonly #prefixes: PrefixTable;
  readonly #paths: PathTable;
  readonly #attributes: AttributeTable;
  readonly #peers: PeerTable;
  readonly #clusterId: () => number;
  readonly #view: RouteView;
  /** (attributes, source, decision) -> exported attributes, or minus the reason. */
  readonly #cache = new Map<number, number>();
  readonly #decisions = new Map<PolicyDecision, number>();
  #lastKey = -1;
  #lastResult = 0;
  #nextId = 0;
  #nextSource = 0;
  #nextResult = 0;
  #wire: ({ id: number; form: WireForm } | undefined)[] = [];
  #generation = -1;

  constructor(
    properties: GroupProperties,
    prefixes: PrefixTable,
    paths: PathTable,
    attributes: AttributeTable,
    peers: PeerTable,
    clusterId: () => number,
  ) {
    this.properties = properties;
    this.#prefixes = prefixes;
    this.#paths = paths;
    this.#attributes = attributes;
    this.#peers = peers;
    this.#clusterId = clusterId;
    this.#view = {
      family: properties.family,
      word0: 0,
      word1: 0,
      word2: 0,
      word3: 0,
      bits: 0,
      attributes: makeAttributes({}),
      attributesId: 0,
      generation: 0,
      fromPeer: false,
      externalPeer: properties.codec.external,
      interfaceName: '',
    };
  }

  /**
   * As `export`, for the many paths in a row that have the same attributes and source: where the policy does not look
   * at prefixes, one answer serves for all of them.
   */
  exportNext(path: number): number {
    const paths = this.#paths;
    const id = paths.attributes[path]!;
    if (
      id === this.#nextId &&
      paths.peer[path] === this.#nextSource &&
      (paths.flags[path]! & PATH_LLGR_STALE) === 0 &&
      (this.#prefixes.flags[paths.prefix[path]!]! & PREFIX_SUPPRESSED) === 0 &&
      this.#generation === this.#attributes.generation
    ) {
      return this.#nextResult;
    }
    const result = this.export(path);
    const plain = this.properties.policy.constant !== undefined && this.reason !== EXPORT_SUPPRESSED;
    this.#nextId = plain && (paths.flags[path]! & PATH_LLGR_STALE) === 0 ? id : 0;
    this.#nextSource = paths.peer[path]!;
    this.#nextResult = result;
    return result;
  }

  /** Attributes under which a path goes to the group; NO_ATTRIBUTES when it does not, with `reason` set. */
  export(path: number): number {
    this.decision = null;
    const paths = this.#paths;
    const id = paths.attributes[path]!;
    const prefix = paths.prefix[path]!;
    const source = paths.peer[path]!;
    const stale = (paths.flags[path]! & PATH_LLGR_STALE) !== 0;
    if ((this.#prefixes.flags[prefix]! & PREFIX_SUPPRESSED) !== 0) return this.#refuse(EXPORT_SUPPRESSED);
    const constant = this.properties.policy.constant;
    const decision = constant ?? this.#ask(path, id, source);
    if (this.#generation !== this.#attributes.generation) this.#forget();
    const key = ((id * 65536 + source) * 2 + (stale ? 1 : 0)) * 1024 + (constant ? 0 : this.#decisionNumber(decision));
    if (key !== this.#lastKey) {
      let known = this.#cache.get(key);
      if (known === undefined) {
        known = this.#work(id, source, stale, decision);
        if (this.#cache.size >= CACHE_ENTRIES) this.#cache.clear();
        this.#cache.set(key, known);
      }
      this.#lastKey = key;
      this.#lastResult = known;
    }
    this.decision = decision;
    if (this.#lastResult <= 0) return this.#refuse(-this.#lastResult);
    this.reason = EXPORT_OK;
    return this.#lastResult;
  }

  /** The octets the group gets for an attribute set that `export` returned. */
  wireForm(id: number): WireForm {
    if (this.#generation !== this.#attributes.generation) this.#forget();
    const slot = id & (WIRE_SLOTS - 1);
    const cached = this.#wire[slot];
    if (cached?.id === id) return cached.form;
    const attributes = this.#attributes.decoded(id);
    const plain = this.properties.family === 'ipv4' && attributes.nextHop?.family === 4;
    const form: WireForm = {
      octets: encodeAttributes(attributes, this.properties.codec, plain ? 'attribute' : 'none'),
      nextHop: plain ? null : encodeNextHop(attributes),
    };
    this.#wire[slot] = { id, form };
    return form;
  }

  #refuse(reason: number): number {
    this.reason = reason;
    return NO_ATTRIBUTES;
  }

  #ask(path: number, id: number, source: number): PolicyDecision {
    const view = this.#view;
    const prefix = this.#paths.prefix[path]!;
    const prefixes = this.#prefixes;
    view.word0 = prefixes.word(prefix, 0);
    view.word1 = prefixes.word(prefix, 1);
    view.word2 = prefixes.word(prefix, 2);
    view.word3 = prefixes.word(prefix, 3);
    view.bits = prefixes.bits[prefix]!;
    view.attributes = this.#attributes.decoded(id);
    view.attributesId = id;
    view.generation = this.#attributes.generation;
    view.fromPeer = source !== LOCAL_PEER;
    view.interfaceName = this.#peers.get(source)?.config.interfaceName ?? '';
    return this.properties.policy.evaluate(view);
  }

  #decisionNumber(decision: PolicyDecision): number {
    let number = this.#decisions.get(decision);
    if (number === undefined) {
      number = this.#decisions.size + 1;
      if (number > 1023) {
        this.#decisions.clear();
        this.#cache.clear();
        this.#lastKey = -1;
        number = 1;
      }
      this.#decisions.set(decision, number);
    }
    return number;
  }

  #forget(): void {
    this.#generation = this.#attributes.generation;
    this.#nextId = 0;
    this.#cache.clear();
    this.#lastKey = -1;
    this.#wire = [];
  }

  #work(id: number, source: number, stale: boolean, decision: PolicyDecision): number {
    const { codec, routeReflectorClient, longLivedStale } = this.properties;
    const flags = this.#attributes.flags[id]!;
    const from = this.#peers.get(source);
    const internalSource = source !== LOCAL_PEER && this.#peers.rank[source] === 2;
    if (internalSource && !codec.external && !routeReflectorClient && !from?.config.routeReflectorClient) {
      return -EXPORT_INTERNAL;
    }
    if ((flags & FLAG_NO_ADVERTISE) !== 0) return -EXPORT_NO_ADVERTISE;
    if (codec.external && (flags & (FLAG_NO_EXPORT | FLAG_NO_EXPORT_SUBCONFED)) !== 0) return -EXPORT_NO_EXPORT;
    if ((stale || (flags & FLAG_LLGR_STALE) !== 0) && !longLivedStale) return -EXPORT_STALE;
    if (!decision.accept) return -EXPORT_POLICY;
    let attributes = this.#attributes.decoded(id);
    if (source !== LOCAL_PEER && codec.external && !this.properties.routeServerClient && attributes.med !== null) {
      attributes = { ...attributes, med: null }; // before the policy, which may set one for the neighbour
    }
    attributes = applyChanges(attributes, decision.changes);
    if (stale) attributes = withCommunity(attributes, COMMUNITY_LLGR_STALE);
    const next = this.#nextHop(attributes);
    if (!next) return -EXPORT_NEXT_HOP;
    attributes = codec.external
      ? this.#toExternal({ ...attributes, ...next })
      : this.#toInternal({ ...attributes, ...next }, internalSource ? source : null);
    const exported = this.#attributes.intern(attributes, this.properties.family);
    const form = this.wireForm(exported);
    const multiprotocol = form.nextHop ? 9 + form.nextHop.length : 0;
    if (23 + multiprotocol + form.octets.length + 21 > codec.maxMessageLength) return -EXPORT_TOO_LONG;
    return exported;
  }

  #toExternal(attributes: PathAttributes): PathAttributes {
    const { codec, routeServerClient, gracefulShutdown } = this.properties;
    const out = {
      ...attributes,
      asPath: routeServerClient ? attributes.asPath : prepend(attributes.asPath, [codec.localAs]),
      localPref: null,
      originatorId: null,
      clusterList: [],
    };
    return gracefulShutdown ? withCommunity(out, COMMUNITY_GRACEFUL_SHUTDOWN) : out;
  }

  /** `reflected`: the internal peer the path came from, null when it is not being reflected. */
  #toInternal(attributes: PathAttributes, reflected: number | null): PathAttributes {
    const localPref = this.properties.gracefulShutdown ? 0 : (attributes.localPref ?? DEFAULT_LOCAL_PREF);
    const out = { ...attributes, localPref };
    if (reflected === null) {
      return this.properties.gracefulShutdown ? withCommunity(out, COMMUNITY_GRACEFUL_SHUTDOWN) : out;
    }
    // Both clusters the route passes between, so that either finds it again (RFC 4456 section 7).
    const to = this.properties.clusterId ?? this.#clusterId();
    const from = this.#peers.get(reflected)?.config.clusterId ?? this.#clusterId();
    return {
      ...out,
      originatorId: attributes.originatorId ?? this.#peers.routerId[reflected]!,
      clusterList: [...(from === to ? [to] : [to, from]), ...attributes.clusterList],
    };
  }

  /** The next hop the group is told of; null when there is none that it understands. */
  #nextHop(attributes: PathAttributes): Pick<PathAttributes, 'nextHop' | 'linkLocalNextHop'> | null {
    const { codec, family, nextHop: rule, localAddress, localLinkLocal, routeServerClient } = this.properties;
    const wideAllowed = family === 'ipv6' || codec.families.ipv4!.extendedNextHop;
    const known = attributes.nextHop;
    const foreign = known && !(known.family === 6 && known.isLinkLocal()); // a link-local one means nothing elsewhere
    const keep = rule === 'keep' || routeServerClient || (rule === 'auto' && !codec.external);
    if (keep && foreign && (known.family === 4 ? family === 'ipv4' : wideAllowed)) {
      return { nextHop: known, linkLocalNextHop: null };
    }
    if (family === 'ipv4' && localAddress.ipv4) return { nextHop: localAddress.ipv4, linkLocalNextHop: null };
    const own = wideAllowed ? (localAddress.ipv6 ?? localLinkLocal) : null;
    return own ? { nextHop: own, linkLocalNextHop: localLinkLocal } : null;
  }
}
