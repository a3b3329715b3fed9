// The routing information base of one speaker: both families, all peers, all update groups. Pure: no I/O; the caller
// hands in messages, sessions and time, and takes octets out.
// In: UPDATE messages as framed, sessions coming and going, local routes, next-hop states, policies.
// Out: octets per peer, routes for the routing table, counters, tables page by page.
// RFC 4271 9; 4456; 4724; 7313; 7606; 7911; 8326; 9494.
//
// Use: `receive` for each message; then, in slices of the event loop, `work` until it says that nothing is left, and
// `pull` for each peer whose socket takes more and for which `hasOutput` holds. Reading makes room for more to be
// evaluated, so go on until neither has anything.
import type { Prefix } from '#net/prefix.ts';
import { decodeAttributes } from '#bgp/wire/attributes.ts';
import { decodeNlri } from '#bgp/wire/nlri.ts';
import {
  ADDRESS_FAMILIES,
  type AddressFamily,
  EMPTY_BYTES,
  type PathAttributes,
  VERDICT_RESET,
  VERDICT_WITHDRAW,
  type Verdict,
  type WireError,
} from '#bgp/wire/types.ts';
import { attributeKey, NLRI_ERROR_SUBCODE, type OctetRange, splitUpdate, UpdateView } from '#bgp/wire/update.ts';
import { type AggregateConfig, AGGREGATE_SOURCE, Aggregates } from './aggregates.ts';
import { AttributeTable, contextOf, FLAG_NO_LLGR, type Identity } from './attribute-table.ts';
import { RowQueue } from './columns.ts';
import type { DecisionOptions } from './decision.ts';
import { Exporter, groupKey, groupProperties } from './export.ts';
import { FamilyRib } from './family-rib.ts';
import { Importer } from './import.ts';
import { AllPathsJob, AllPrefixesJob, JobQueue, PeerPathsJob } from './jobs.ts';
import { NextHopTable } from './next-hop-table.ts';
import { PATH_LLGR_STALE, REJECT_NONE } from './path-table.ts';
import { LOCAL_PEER, type PeerConfig, type PeerFamily, type PeerSession, PeerTable, type RibPeer } from './peers.ts';
import { NO_PREFIX } from './prefix-table.ts';
import {
  DEFAULT_OUTPUT_LIMITS,
  type GroupMember,
  type GroupTables,
  type OutputLimits,
  UpdateGroup,
} from './update-group.ts';

export interface RibOptions extends DecisionOptions {
  readonly identity: Identity;
  /** Milliseconds that never go back; for the age of paths. */
  readonly now: () => number;
  /** Someone resolves next hops and calls `setNextHop`. Default false: every next hop counts as reachable. */
  readonly resolveNextHops?: boolean;
  readonly limits?: OutputLimits;
}

/** What a message brought. */
export interface Received {
  verdict: Verdict;
  /** What was wrong, worst first in effect: with reset, the NOTIFICATION to send. */
  errors: readonly WireError[];
  /** The family whose End-of-RIB the message was. */
  endOfRib: AddressFamily | null;
}

/** What to do with the routes of a peer whose session ended. */
export type PeerLoss = 'remove' | 'retain';

const JOB_ROWS = 2048;
const GENERATE_PREFIXES = 8192;
const NO_ERRORS: readonly WireError[] = [];

export class Rib {
  readonly nextHops: NextHopTable;
  readonly attributes: AttributeTable;
  readonly peers = new PeerTable();
  readonly families: Readonly<Record<AddressFamily, FamilyRib>>;
  readonly #aggregates: Readonly<Record<AddressFamily, Aggregates>>;
  readonly #importers: Readonly<Record<AddressFamily, Importer>>;
  readonly #jobs = new JobQueue();
  readonly #now: () => number;
  readonly #view = new UpdateView();
  readonly #range: OctetRange = { buf: new Uint8Array(0), off: 0, len: 0 };
  readonly #keyScratch = new Uint8Array(65536 + 64);
  readonly #received: Received = { verdict: 0, errors: NO_ERRORS, endOfRib: null };
  readonly #limits: OutputLimits;
  #identity: Identity;
  /** Next hops whose state changed and whose paths have not been visited yet. */
  readonly #changedHops: Record<AddressFamily, Set<number>> = { ipv4: new Set(), ipv6: new Set() };
  #nextGroup = 1;
  #turn = 0;

  constructor(options: RibOptions) {
    this.#identity = options.identity;
    this.#now = options.now;
    this.#limits = options.limits ?? DEFAULT_OUTPUT_LIMITS;
    this.nextHops = new NextHopTable(!(options.resolveNextHops ?? false));
    this.attributes = new AttributeTable(options.identity, this.nextHops);
    this.families = {
      ipv4: new FamilyRib('ipv4', this.attributes, this.peers),
      ipv6: new FamilyRib('ipv6', this.attributes, this.peers),
    };
    const aggregates = (family: AddressFamily): Aggregates =>
      new Aggregates(
        this.families[family],
        (prefix, attributes) => this.originate(prefix, attributes, AGGREGATE_SOURCE),
        (prefix) => this.withdrawLocal(prefix, AGGREGATE_SOURCE),
      );
    this.#aggregates = { ipv4: aggregates('ipv4'), ipv6: aggregates('ipv6') };
    this.#importers = {
      ipv4: new Importer('ipv4', this.families.ipv4.prefixes, this.attributes),
      ipv6: new Importer('ipv6', this.families.ipv6.prefixes, this.attributes),
    };
    this.configure(options);
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** Another router id, AS or cluster id. The caller resets the sessions, which see the change. */
  setIdentity(identity: Identity): void {
    this.#identity = identity;
    this.attributes.setIdentity(identity);
  }

  /** Options of the decision process. All prefixes are decided anew, in slices. */
  configure(options: DecisionOptions): void {
    for (const family of ADDRESS_FAMILIES) {
      const rib = this.families[family];
      rib.decision.configure(options);
      if (rib.prefixes.count > 0) {
        this.#jobs.add(new AllPrefixesJob(`decide ${family}`, rib, (prefix) => rib.reconsider(prefix)));
      }
    }
  }

  // --- peers and sessions -------------------------------------------------------------------------------------------

  addPeer(config: PeerConfig): RibPeer {
    return this.peers.add(config);
  }

  /** Forgets a peer without a session, with all its paths, at once. */
  removePeer(peer: RibPeer): void {
    if (peer.session) this.peerDown(peer, 'remove');
    for (const family of ADDRESS_FAMILIES) {
      const rib = this.families[family];
      const peerFamily = peer.families[family];
      while (peerFamily.head !== 0) rib.removePath(peerFamily.head, peerFamily);
      this.#jobs.cancel(`sweep ${peer.id} ${family}`);
      this.#jobs.cancel(`import ${peer.id} ${family}`);
      this.#jobs.cancel(`stale ${peer.id} ${family}`);
    }
    this.peers.remove(peer.id);
  }

  /** A session is established. Routes kept from the last one stay, stale, until `sweepStale`. */
  peerUp(peer: RibPeer, session: PeerSession): void {
    if (peer.session) this.peerDown(peer, 'remove');
    this.peers.setSession(peer, session);
    for (const family of ADDRESS_FAMILIES) {
      if (!session.codec.families[family]) {
        if (peer.families[family].retained) this.sweepStale(peer, family);
        continue;
      }
      this.#joinGroup(peer, family, 'nothing');
    }
  }

  /**
   * A session ended. `remove`: its routes go, in slices. `retain`: they stay in use, marked stale (RFC 4724), until
   * `sweepStale`, or `ageStale` and then `sweepStale` (RFC 9494).
   */
  peerDown(peer: RibPeer, loss: PeerLoss | Readonly<Record<AddressFamily, PeerLoss>>): void {
    for (const family of ADDRESS_FAMILIES) {
      this.#leaveGroup(peer, family);
      const how = typeof loss === 'string' ? loss : loss[family];
      const leftOver = peer.families[family].stale > 0;
      this.beginRefresh(peer, family);
      if (how === 'remove') this.sweepStale(peer, family);
      else {
        peer.families[family].retained = true;
        if (leftOver) this.#sweep(peer, family);
      }
    }
    this.peers.setSession(peer, null);
  }

  /** New configuration: import is done again if its policy or rules changed, export goes on in the right group. */
  configurePeer(peer: RibPeer, config: PeerConfig): void {
    const before = peer.config;
    peer.config = config;
    this.peers.weight[peer.id] = config.weight ?? 0;
    const importChanged =
      before.importPolicy.id !== config.importPolicy.id ||
      before.allowOwnAs !== config.allowOwnAs ||
      before.clusterId !== config.clusterId ||
      before.enforceFirstAs !== config.enforceFirstAs ||
      before.honourGracefulShutdown !== config.honourGracefulShutdown;
    for (const family of ADDRESS_FAMILIES) {
      const rib = this.families[family];
      if (importChanged) this.softIn(peer, family);
      if (
        before.weight !== config.weight ||
        before.routeReflectorClient !== config.routeReflectorClient ||
        before.clusterId !== config.clusterId
      ) {
        const visit = (path: number): void => {
          rib.reconsider(rib.paths.prefix[path]!);
          rib.touch(rib.paths.prefix[path]!);
        };
        this.#jobs.add(new PeerPathsJob(`weigh ${peer.id} ${family}`, rib, peer.id, visit));
      }
      const member = peer.families[family].member;
      const properties = groupProperties(peer, family);
      if (!member || !properties) continue;
      if (member.group.key === groupKey(properties)) continue;
      this.#moveGroup(peer, family);
    }
  }

  // --- refresh, graceful restart ------------------------------------------------------------------------------------

  /** From now on only paths heard again are fresh: BoRR (RFC 7313), or the loss of a session. */
  beginRefresh(peer: RibPeer, family: AddressFamily): void {
    const peerFamily = peer.families[family];
    peerFamily.epoch++;
    peerFamily.stale = peerFamily.received;
  }

  /** Removes, in slices, the paths not heard since `beginRefresh`: EoRR, End-of-RIB after a restart, or a timer. */
  sweepStale(peer: RibPeer, family: AddressFamily): void {
    peer.families[family].retained = false;
    if (peer.families[family].stale > 0) this.#sweep(peer, family);
  }

  /** The restart time is over and the peer has not come back: its stale routes become least preferred (RFC 9494). */
  ageStale(peer: RibPeer, family: AddressFamily): void {
    const rib = this.families[family];
    const visit = (path: number, peerFamily: PeerFamily): void => {
      if (rib.paths.epoch[path] === (peerFamily.epoch & 255)) return;
      const attributes = rib.paths.received[path]!;
      if ((this.attributes.flags[attributes]! & FLAG_NO_LLGR) !== 0) rib.removePath(path, peerFamily);
      else if ((rib.paths.flags[path]! & PATH_LLGR_STALE) === 0) rib.markLongLivedStale(path);
    };
    this.#jobs.add(new PeerPathsJob(`stale ${peer.id} ${family}`, rib, peer.id, visit));
  }

  /** Import is done again from the paths as received. */
  softIn(peer: RibPeer, family: AddressFamily): void {
    const rib = this.families[family];
    const importer = this.#importers[family];
    const visit = (path: number): void => {
      if (!peer.session) return; // loops and first AS are judged by the session's numbers
      const received = rib.paths.received[path]!;
      const check = importer.check(peer, received);
      const attributes = check === REJECT_NONE ? importer.import(peer, received, rib.paths.prefix[path]!) : 0;
      const reject = check === REJECT_NONE ? importer.reject : check;
      if (rib.paths.attributes[path] === attributes && rib.paths.reject[path] === reject) return;
      rib.reimport(path, attributes, reject);
    };
    this.#jobs.add(new PeerPathsJob(`import ${peer.id} ${family}`, rib, peer.id, visit));
  }

  /** Sends everything again: a ROUTE-REFRESH from the peer (RFC 2918), or `clear soft out`. */
  softOut(peer: RibPeer, family: AddressFamily): void {
    const member = peer.families[family].member;
    if (member) member.group.resend(member);
  }

  // --- messages -----------------------------------------------------------------------------------------------------

  /**
   * Takes in one UPDATE, header included. The result is reused by the next call. On reset nothing of the message was
   * applied and the session is to be closed with `errors[0]`.
   */
  receive(peer: RibPeer, buf: Uint8Array, off: number, len: number): Received {
    const result = this.#received;
    result.errors = NO_ERRORS;
    result.endOfRib = null;
    const session = peer.session!;
    const { codec } = session;
    const view = this.#view;
    result.verdict = splitUpdate(buf, off, len, codec, view);
    if (result.verdict !== 0) {
      const data = buf.slice(view.dataOff, view.dataOff + view.dataLen);
      const { verdict, reason, subcode } = view;
      result.errors = [{ verdict, code: 3, subcode, data, reason }];
      if (result.verdict === VERDICT_RESET) return result;
    }
    if (view.endOfRib) {
      result.endOfRib = view.endOfRib;
      return result;
    }
    // All prefixes are read before any is applied. Of a message with one range of them, that range is read only once.
    const ranges =
      Math.sign(view.withdrawnLen) +
      Math.sign(view.nlriLen) +
      Math.sign(view.unreachNlriLen) +
      Math.sign(view.reachNlriLen);
    if (ranges > 1 && !this.#readable(view, codec.families)) return this.#badPrefix(result);
    let plain = 0;
    let reach = 0;
    if (result.verdict < VERDICT_WITHDRAW) {
      if (view.nlriLen > 0) plain = this.#judge(session, 'nlri', 'ipv4', result);
      if (view.reachNlriLen > 0) reach = this.#judge(session, 'reach', view.reachFamily!, result);
      if ((result.verdict as Verdict) === VERDICT_RESET) return result;
      if (!view.hasReachable && view.hasAttributes && !this.#judgeAlone(session, result)) return result;
    }
    let ok = true;
    if (view.withdrawnLen > 0) ok = this.#withdraw(peer, 'ipv4', buf, view.withdrawnOff, view.withdrawnLen);
    if (view.unreachNlriLen > 0) {
      ok = this.#withdraw(peer, view.unreachFamily!, buf, view.unreachNlriOff, view.unreachNlriLen);
    }
    if (view.nlriLen > 0) ok = this.#take(peer, 'ipv4', plain, buf, view.nlriOff, view.nlriLen);
    if (view.reachNlriLen > 0) {
      ok = this.#take(peer, view.reachFamily!, reach, buf, view.reachNlriOff, view.reachNlriLen);
    }
    return ok ? result : this.#badPrefix(result);
  }

  #badPrefix(result: Received): Received {
    const reason = 'a prefix is malformed';
    result.verdict = VERDICT_RESET;
    result.errors = [{ verdict: VERDICT_RESET, code: 3, subcode: NLRI_ERROR_SUBCODE, data: EMPTY_BYTES, reason }];
    return result;
  }

  #readable(view: UpdateView, families: PeerSession['codec']['families']): boolean {
    const v4 = families.ipv4?.addPathReceive ?? false;
    const ok = (family: AddressFamily, off: number, len: number): boolean =>
      len === 0 || validNlri(family, view.buf, off, len, families[family]?.addPathReceive ?? false);
    return (
      (view.withdrawnLen === 0 || validNlri('ipv4', view.buf, view.withdrawnOff, view.withdrawnLen, v4)) &&
      (view.nlriLen === 0 || validNlri('ipv4', view.buf, view.nlriOff, view.nlriLen, v4)) &&
      (view.unreachFamily === null || ok(view.unreachFamily, view.unreachNlriOff, view.unreachNlriLen)) &&
      (view.reachFamily === null || ok(view.reachFamily, view.reachNlriOff, view.reachNlriLen))
    );
  }

  /** Attributes without a reachable prefix: any error in them resets the session (RFC 7606 5.2). False when it does. */
  #judgeAlone(session: PeerSession, result: Received): boolean {
    const { buf, attrOff, attrLen } = this.#view;
    const { verdict, errors } = decodeAttributes(buf, attrOff, attrLen, session.codec, false);
    if (errors.length > 0) result.errors = [...result.errors, ...errors].sort((a, b) => b.verdict - a.verdict);
    if (verdict < VERDICT_WITHDRAW) return true;
    result.verdict = VERDICT_RESET;
    return false;
  }

  /** The id of the message's attributes; 0 when the routes are to be treated as withdrawn. */
  #judge(session: PeerSession, which: 'nlri' | 'reach', family: AddressFamily, result: Received): number {
    const range = this.#range;
    attributeKey(this.#view, which, this.#keyScratch, range);
    const known = this.attributes.lookup(range.buf, range.off, range.len, contextOf(session.codec), session.zone);
    if (known > 0) return known;
    const judged = this.attributes.receive(range.buf, range.off, range.len, session.codec, family, session.zone);
    if (judged.result.errors.length > 0) {
      result.errors = [...result.errors, ...judged.result.errors].sort((a, b) => b.verdict - a.verdict);
      if (judged.result.verdict > result.verdict) result.verdict = judged.result.verdict;
    }
    return Math.max(0, judged.id);
  }

  /** Applies a range of reachable prefixes. `received` 0: they are treated as withdrawn. False: a syntax error. */
  #take(peer: RibPeer, family: AddressFamily, received: number, buf: Uint8Array, off: number, len: number): boolean {
    if (received === 0) return this.#withdraw(peer, family, buf, off, len);
    const rib = this.families[family];
    const importer = this.#importers[family];
    const peerFamily = peer.families[family];
    const nlri = rib.scratch;
    nlri.count = 0;
    if (!decodeNlri(family, buf, off, len, peer.session!.codec.families[family]!.addPathReceive, nlri)) return false;
    peerFamily.updates++;
    const now = this.#seconds();
    const check = importer.check(peer, received);
    const constant = peer.config.importPolicy.constant !== undefined;
    const shared = check === REJECT_NONE && constant ? importer.import(peer, received, NO_PREFIX) : 0;
    this.attributes.acquire(received); // prefixes may replace the last other reference while the loop runs
    for (let i = 0; i < nlri.count; i++) {
      const prefix = rib.prefixes.insert(nlri, i);
      let attributes = shared;
      let reject = check;
      if (check === REJECT_NONE && !constant) {
        attributes = importer.import(peer, received, prefix);
        reject = importer.reject;
      }
      rib.announce(peer.id, peerFamily, prefix, nlri.pathId[i]!, received, attributes, reject, now);
    }
    this.attributes.release(received);
    return true;
  }

  #withdraw(peer: RibPeer, family: AddressFamily, buf: Uint8Array, off: number, len: number): boolean {
    const rib = this.families[family];
    const peerFamily = peer.families[family];
    const nlri = rib.scratch;
    nlri.count = 0;
    if (!decodeNlri(family, buf, off, len, peer.session!.codec.families[family]!.addPathReceive, nlri)) return false;
    peerFamily.withdrawals++;
    for (let i = 0; i < nlri.count; i++) {
      const prefix = rib.prefixes.find(nlri, i);
      if (prefix !== NO_PREFIX) rib.withdraw(peer.id, peerFamily, prefix, nlri.pathId[i]!);
    }
    return true;
  }

  // --- local routes -------------------------------------------------------------------------------------------------

  /** Originates a route. `source` tells several of one prefix apart. A next hop of null is this speaker. */
  originate(prefix: Prefix, attributes: PathAttributes, source = 0): void {
    const family = prefix.family === 4 ? 'ipv4' : 'ipv6';
    const rib = this.families[family];
    const id = this.attributes.intern(attributes, family);
    const row = rib.prefixes.insertPrefix(prefix, rib.single);
    rib.announce(LOCAL_PEER, rib.local, row, source, id, id, REJECT_NONE, this.#seconds());
  }

  /** Takes an originated route back. False when there was none. */
  withdrawLocal(prefix: Prefix, source = 0): boolean {
    const rib = this.families[prefix.family === 4 ? 'ipv4' : 'ipv6'];
    const row = rib.lookup(prefix);
    return row !== NO_PREFIX && rib.withdraw(LOCAL_PEER, rib.local, row, source);
  }

  /** The whole set of aggregates. A change counts the contributors of all anew, at once. */
  setAggregates(aggregates: readonly AggregateConfig[]): void {
    const { localAs, routerId } = this.#identity;
    for (const family of ADDRESS_FAMILIES) {
      const own = aggregates.filter((a) => a.prefix.family === (family === 'ipv4' ? 4 : 6));
      this.#aggregates[family].set(own, { asn: localAs, address: routerId });
    }
  }

  /** Configured aggregates with the number of routes that contribute; above 0 the aggregate exists. */
  aggregates(family: AddressFamily): { prefix: Prefix; contributors: number }[] {
    return this.#aggregates[family].list();
  }

  /** The path has not been heard since the session was lost, or since the refresh began. */
  isStale(family: AddressFamily, path: number): boolean {
    const rib = this.families[family];
    const peer = rib.paths.peer[path]!;
    if (peer === LOCAL_PEER) return false;
    return rib.paths.epoch[path] !== (rib.peerFamily(peer).epoch & 255);
  }

  /** Which rule of the import policy a path meets now, for people; null for our own routes and loops. */
  importRule(family: AddressFamily, path: number): string | null {
    const rib = this.families[family];
    const peer = this.peers.get(rib.paths.peer[path]!);
    if (!peer?.session) return null;
    const importer = this.#importers[family];
    const received = rib.paths.received[path]!;
    if (importer.loops(peer, received) !== REJECT_NONE) return null;
    importer.import(peer, received, rib.paths.prefix[path]!);
    return importer.decision?.rule ?? null;
  }

  // --- next hops ----------------------------------------------------------------------------------------------------

  /** What the host's routing says of a next hop. Only prefixes with paths over it are decided anew, in slices. */
  setNextHop(id: number, reachable: boolean, metric: number): void {
    if (!this.nextHops.set(id, reachable, metric)) return;
    for (const family of ADDRESS_FAMILIES) {
      if (this.families[family].paths.count === 0) continue;
      const waiting = this.#changedHops[family];
      waiting.add(id);
      if (waiting.size === 1 && !this.#jobs.has(`next hops ${family}`)) this.#visitHops(family);
    }
  }

  /** One pass over all paths for all next hops that have changed; those that change meanwhile get the next pass. */
  #visitHops(family: AddressFamily): void {
    const rib = this.families[family];
    const changed = this.#changedHops[family];
    this.#changedHops[family] = new Set();
    const visit = (path: number): void => {
      const attributes = rib.paths.attributes[path]!;
      if (attributes !== 0 && changed.has(this.attributes.nextHop[attributes]!)) {
        rib.reconsider(rib.paths.prefix[path]!);
      }
    };
    const done = (): void => {
      if (this.#changedHops[family].size > 0) this.#visitHops(family);
    };
    this.#jobs.add(new AllPathsJob(`next hops ${family}`, rib, visit, done));
  }

  // --- output -------------------------------------------------------------------------------------------------------

  /** One slice of whatever is to be done besides sending: about a millisecond. False when nothing is left. */
  work(): boolean {
    let more = this.#jobs.step(JOB_ROWS);
    if (this.#generate(GENERATE_PREFIXES) > 0) more = true;
    for (const family of ADDRESS_FAMILIES) {
      const rib = this.families[family];
      if (!more && rib.reclaimable > 0 && rib.reclaim(JOB_ROWS) > 0) more = true;
    }
    if (!more) this.attributes.sweep();
    return more || this.#jobs.length > 0;
  }

  /** Evaluates up to about `limit` prefixes over all groups, which take turns at being the first. */
  #generate(limit: number): number {
    const { ipv4, ipv6 } = this.families;
    const count = ipv4.groups.length + ipv6.groups.length;
    let done = 0;
    for (let i = 0; i < count && done < limit; i++) {
      const at = this.#turn++ % count;
      const group = ipv4.groups[at] ?? ipv6.groups[at - ipv4.groups.length]!;
      done += group.generate(limit - done);
    }
    return done;
  }

  /** Evaluates and encodes up to `prefixes` changes of a group. Returns how many it did. */
  pump(group: UpdateGroup, prefixes: number): number {
    return group.generate(prefixes);
  }

  /** Appends what the peer is to be sent next, about `maxOctets`. False when there is nothing now. */
  pull(peer: RibPeer, maxOctets: number, out: Uint8Array[]): boolean {
    let any = false;
    for (const family of ADDRESS_FAMILIES) {
      const member = peer.families[family].member;
      if (member?.group.pull(member, maxOctets, out)) any = true;
    }
    return any;
  }

  /** The peer has something to be sent, as far as evaluated. */
  hasOutput(peer: RibPeer): boolean {
    return ADDRESS_FAMILIES.some((family) => {
      const member = peer.families[family].member;
      return member?.group.hasOutput(member) ?? false;
    });
  }

  /** Starts to collect prefixes whose route changed, in the family's `routeQueue`, for the routing table. */
  collectRoutes(family: AddressFamily): void {
    this.families[family].routeQueue ??= new RowQueue();
  }

  // --- groups -------------------------------------------------------------------------------------------------------

  #joinGroup(peer: RibPeer, family: AddressFamily, told: 'nothing' | 'unknown'): GroupMember | null {
    const properties = groupProperties(peer, family);
    if (!properties) return null;
    const rib = this.families[family];
    const key = groupKey(properties);
    let group = rib.groups.find((g) => g.key === key);
    if (!group) {
      const { prefixes, paths, decision } = rib;
      const clusterId = (): number => this.#identity.clusterId;
      const exporter = new Exporter(properties, prefixes, paths, this.attributes, this.peers, clusterId);
      const tables: GroupTables = { prefixes, paths, attributes: this.attributes, decision, limits: this.#limits };
      group = new UpdateGroup(this.#nextGroup++, key, exporter, tables);
      rib.addGroup(group);
    }
    const member = group.join(peer.id, told);
    peer.families[family].member = member;
    return member;
  }

  #leaveGroup(peer: RibPeer, family: AddressFamily): void {
    const member = peer.families[family].member;
    if (!member) return;
    peer.families[family].member = null;
    member.group.leave(member);
    if (member.group.members.length === 0) this.families[family].removeGroup(member.group);
  }

  #moveGroup(peer: RibPeer, family: AddressFamily): void {
    const before = peer.families[family].member;
    if (!before) return;
    const member = this.#joinGroup(peer, family, 'unknown');
    if (member) member.endOfRib = before.endOfRib;
    before.group.leave(before);
    if (before.group.members.length === 0) this.families[family].removeGroup(before.group);
  }

  #sweep(peer: RibPeer, family: AddressFamily): void {
    const rib = this.families[family];
    const visit = (path: number, peerFamily: PeerFamily): void => {
      // While routes are retained only what was stale before goes: the peer restarted twice (RFC 4724 section 4.2).
      const age = (peerFamily.epoch - rib.paths.epoch[path]!) & 255;
      if (age >= (peerFamily.retained ? 2 : 1)) rib.removePath(path, peerFamily);
    };
    this.#jobs.add(new PeerPathsJob(`sweep ${peer.id} ${family}`, rib, peer.id, visit));
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

/** True when a range holds well-formed prefixes. */
function validNlri(family: AddressFamily, buf: Uint8Array, off: number, len: number, addPath: boolean): boolean {
  const most = family === 'ipv4' ? 32 : 128;
  const end = off + len;
  let p = off;
  while (p < end) {
    if (addPath) p += 4;
    if (p >= end) return false;
    const bits = buf[p]!;
    if (bits > most) return false;
    p += 1 + ((bits + 7) >> 3);
  }
  return p === end;
}
