// Answers about the speaker: summaries, tables, explanations, metrics. Reads the RIB's columns; changes nothing.
// In: a speaker and a question. Out: plain data of api.ts, the same for the HTTP API and the command line.
//
// Trap: a table may have half a million rows. Answers are bounded by `limit`, and rows are looked at only until then.
import { BrindleError } from '#base/errors.ts';
import { EXPORT_OK, EXPORT_SPLIT_HORIZON, EXPORT_TEXT } from '#bgp/rib/export.ts';
import type { FamilyRib } from '#bgp/rib/family-rib.ts';
import { STEP_TEXT } from '#bgp/rib/decision.ts';
import { PATH_LIVE, PATH_LLGR_STALE, REJECT_TEXT } from '#bgp/rib/path-table.ts';
import { LOCAL_PEER } from '#bgp/rib/peers.ts';
import { NO_PREFIX } from '#bgp/rib/prefix-table.ts';
import { CAPABILITIES, type Capabilities } from '#bgp/wire/capabilities.ts';
import { ADDRESS_FAMILIES, type AddressFamily, type PathAttributes } from '#bgp/wire/types.ts';
import { Prefix } from '#net/prefix.ts';
import type {
  ExplainView,
  PathView,
  PeerDetail,
  PeerFamilySummary,
  PeerSummary,
  RoutesAnswer,
  RoutesQuery,
  RouteView,
  SpeakerStatus,
} from './api.ts';
import type { Entry } from './entry.ts';
import { DEFAULT_HOLD_TIME, routerIdText } from './identity.ts';
import { communityText } from './local-routes.ts';
import type { Speaker } from './speaker.ts';

const DEFAULT_LIMIT = 1000;
const ORIGINS = ['igp', 'egp', 'incomplete'] as const;

export function status(speaker: Speaker): SpeakerStatus {
  const { config, rib } = speaker;
  const count = (of: (rib: FamilyRib) => number): Record<AddressFamily, number> => ({
    ipv4: of(rib.families.ipv4),
    ipv6: of(rib.families.ipv6),
  });
  let established = 0;
  for (const { peer } of speaker.entries.values()) if (peer.session) established++;
  return {
    routerId: config?.routerId ?? '0.0.0.0',
    asNumber: config?.asNumber ?? 0,
    uptime: speaker.clock.wall() - speaker.startedAt,
    peers: { configured: speaker.entries.size, established },
    prefixes: count((r) => r.routes),
    paths: count((r) => r.paths.count),
    attributeSets: rib.attributes.size,
    updateGroups: ADDRESS_FAMILIES.reduce((sum, family) => sum + rib.families[family].groups.length, 0),
    unknownConnections: speaker.unknownConnections,
    converged: speaker.converged,
    listening: speaker.listening,
  };
}

export function summary(speaker: Speaker): PeerSummary[] {
  return [...speaker.entries.values()].map((entry) => peerSummary(speaker, entry));
}

function peerSummary(speaker: Speaker, entry: Entry): PeerSummary {
  const { peer, config } = entry;
  return {
    name: peer.name,
    address: config.address,
    asNumber: config.asNumber ?? peer.session?.open.asNumber ?? 0,
    localAs: config.localAs ?? speaker.config?.asNumber ?? 0,
    dynamic: entry.range !== null,
    state: peer.state,
    since: Math.round(speaker.clock.monotonic() - peer.since),
    families: (peer.session?.negotiated.families ?? config.families).map((family) => familySummary(entry, family)),
    lastReset: peer.lastReset,
    lastError: peer.lastError,
    flaps: peer.flaps,
    ...(config.description !== undefined && { description: config.description }),
  };
}

function familySummary(entry: Entry, family: AddressFamily): PeerFamilySummary {
  const table = entry.rib.families[family];
  return {
    family,
    received: table.received,
    accepted: table.accepted,
    sent: table.member?.group.advertisedTo(entry.rib.id) ?? 0,
    stale: table.stale,
    policyMissing: entry.config.import === 'none' || entry.config.export === 'none',
    endOfRibReceived: entry.received.includes(family),
    endOfRibSent: table.member?.endOfRib === 'sent',
  };
}

export function peerDetail(speaker: Speaker, name: string): PeerDetail {
  const entry = speaker.entry(name);
  const { peer, config } = entry;
  const { session } = peer;
  const holdTime = session?.negotiated.holdTime ?? null;
  const third = holdTime === null || holdTime === 0 ? null : holdTime / 3;
  const graceful = session?.open.capabilities.gracefulRestart;
  return {
    ...peerSummary(speaker, entry),
    routerId: session ? routerIdText(session.open.routerId) : null,
    hostName: session?.open.capabilities.hostName ?? null,
    localAddress: session?.connection.localAddress ?? config.localAddress ?? null,
    localPort: session?.connection.localPort ?? null,
    remotePort: session?.connection.remotePort ?? null,
    holdTime: { configured: config.holdTime ?? speaker.config?.holdTime ?? DEFAULT_HOLD_TIME, agreed: holdTime },
    keepaliveTime: third === null ? null : Math.min(config.keepaliveTime ?? third, third),
    capabilities: {
      sent: entry.offered ? capabilityTexts(entry.offered) : [],
      received: session ? capabilityTexts(session.open.capabilities) : [],
    },
    messages: { received: { ...peer.received }, sent: { ...peer.sent } },
    queuedOctets: peer.queuedOctets,
    holdMargin: peer.holdMargin === null ? null : Math.round(peer.holdMargin),
    gracefulRestart: {
      peerRestartTime: graceful ? graceful.time : null,
      restarting: !speaker.converged,
      helping: entry.retained.length > 0,
    },
    updateErrors: { discarded: entry.discarded, withdrawn: entry.withdrawn },
    bfd: config.bfd ? (entry.bfd?.up ? 'up' : 'down') : null,
    authenticated: config.password !== undefined,
    ttlSecurity: config.ttlSecurity ?? null,
  };
}

function capabilityTexts(capabilities: Capabilities): string[] {
  const texts: string[] = [];
  for (const [code, codec] of CAPABILITIES)
    if (codec.encode(capabilities).length > 0) texts.push(describe(code, capabilities));
  for (const { code } of capabilities.unknown) texts.push(`capability ${code}`);
  return texts;
}

function describe(code: number, c: Capabilities): string {
  const name = CAPABILITIES.get(code)!.name;
  if (code === 1) return `${name} ${(c.families ?? []).join(' ')}`;
  if (code === 64 && c.gracefulRestart) {
    const { restarting, notification, time, families } = c.gracefulRestart;
    const flags = `${restarting ? ' restarting' : ''}${notification ? ' notification' : ''}`;
    return `${name} ${time} s${flags}${families.map((f) => ` ${f.family}${f.forwarding ? ' (forwarding)' : ''}`).join('')}`;
  }
  if (code === 69) {
    return `${name}${c.addPath.map((f) => ` ${f.family} ${f.send && f.receive ? 'both' : f.send ? 'send' : 'receive'}`).join('')}`;
  }
  return name;
}

// ---------------------------------------------------------------- tables

export function routes(speaker: Speaker, query: RoutesQuery): RoutesAnswer {
  const limit = query.limit ?? DEFAULT_LIMIT;
  const within = query.within === undefined ? null : Prefix.parse(query.within);
  const entry = query.peer === undefined ? null : speaker.entry(query.peer);
  if (query.view === 'advertised' && !entry) {
    throw new BrindleError('invalid-argument', 'advertised routes are those of one peer', {
      field: 'peer',
      remedy: 'name the peer',
    });
  }
  const paths: PathView[] = [];
  for (const family of ADDRESS_FAMILIES) {
    if (query.family !== undefined && query.family !== family) continue;
    if (within && within.family !== (family === 'ipv4' ? 4 : 6)) continue;
    const rib = speaker.rib.families[family];
    for (let row = 1; row < rib.prefixes.limit; row++) {
      if (rib.prefixes.flags[row] === 0) continue;
      if (within && !within.covers(rib.prefixes.prefix(row))) continue;
      const found =
        query.view === 'advertised'
          ? advertisedPaths(speaker, rib, row, entry!)
          : pathsOf(speaker, rib, row, query, entry);
      for (const path of found) {
        if (paths.length === limit) return { paths: sorted(paths), truncated: true };
        paths.push(path);
      }
    }
  }
  return { paths: sorted(paths), truncated: false };
}

function sorted(paths: PathView[]): PathView[] {
  const keys = new Map(paths.map((p) => [p.prefix, Prefix.parse(p.prefix)]));
  return paths.sort((a, b) => keys.get(a.prefix)!.compare(keys.get(b.prefix)!) || Number(b.best) - Number(a.best));
}

function pathsOf(speaker: Speaker, rib: FamilyRib, row: number, query: RoutesQuery, entry: Entry | null): PathView[] {
  const found: PathView[] = [];
  const best = rib.prefixes.best[row]!;
  for (let path = rib.prefixes.head[row]!; path !== 0; path = rib.paths.next[path]!) {
    if ((rib.paths.flags[path]! & PATH_LIVE) === 0) continue;
    if (entry && rib.paths.peer[path] !== entry.rib.id) continue;
    const accepted = rib.paths.attributes[path] !== 0;
    if (query.view === 'best' && path !== best) continue;
    if (query.view === 'accepted' && !accepted) continue;
    if (query.view === 'rejected' && accepted) continue;
    if (query.view !== 'best' && rib.paths.peer[path] === LOCAL_PEER) continue;
    found.push(pathView(speaker, rib, row, path, query.view === 'received'));
  }
  return found;
}

function advertisedPaths(speaker: Speaker, rib: FamilyRib, row: number, entry: Entry): PathView[] {
  const { member } = entry.rib.families[rib.family];
  if (!member) return [];
  const found: PathView[] = [];
  const { group } = member;
  const add = (key: number, path: number): void => {
    const id = group.advertisedAttributes(key, entry.rib.id);
    if (id === 0) return;
    found.push({ ...pathView(speaker, rib, row, path, false), ...attributeView(speaker.rib.attributes.decoded(id)) });
  };
  if (!group.addPath) {
    const best = rib.prefixes.best[row]!;
    if (best !== 0) add(row, best);
  } else for (let path = rib.prefixes.head[row]!; path !== 0; path = rib.paths.next[path]!) add(path, path);
  return found;
}

export function route(speaker: Speaker, text: string): RouteView {
  const prefix = Prefix.parseOrHost(text);
  const rib = speaker.rib.families[prefix.family === 4 ? 'ipv4' : 'ipv6'];
  const row = rib.lookup(prefix);
  if (row === NO_PREFIX) return { prefix: prefix.toString(), paths: [], decidedBy: null };
  const paths: PathView[] = [];
  let usable = 0;
  for (let path = rib.prefixes.head[row]!; path !== 0; path = rib.paths.next[path]!) {
    if ((rib.paths.flags[path]! & PATH_LIVE) === 0) continue;
    if (rib.decision.usable(path)) usable++;
    paths.push(pathView(speaker, rib, row, path, false));
  }
  return {
    prefix: prefix.toString(),
    paths: paths.sort((a, b) => Number(b.best) - Number(a.best) || Number(b.multipath) - Number(a.multipath)),
    decidedBy: usable > 1 ? (STEP_TEXT[rib.prefixes.step[row]!] ?? null) : null,
  };
}

function pathView(speaker: Speaker, rib: FamilyRib, row: number, path: number, asReceived: boolean): PathView {
  const { paths, prefixes } = rib;
  const { attributes: table } = speaker.rib;
  const accepted = paths.attributes[path] !== 0;
  const id = accepted && !asReceived ? paths.attributes[path]! : paths.received[path]!;
  const multipath: number[] = [];
  rib.decision.multipath(row, multipath);
  const reject = paths.reject[path]!;
  const unreachable = accepted && !rib.decision.usable(path);
  const rejected = reject !== 0 ? REJECT_TEXT[reject]! : unreachable ? 'the next hop cannot be reached' : undefined;
  const from = paths.peer[path]!;
  return {
    prefix: rib.prefixes.prefix(row).toString(),
    peer: from === LOCAL_PEER ? null : (speaker.rib.peers.get(from)?.config.name ?? null),
    pathId: paths.pathIdOf(path),
    best: prefixes.best[row] === path,
    multipath: multipath.includes(path),
    accepted,
    ...(rejected !== undefined && { rejected }),
    stale: isStale(rib, path),
    ...attributeView(table.decoded(id)),
    age: Math.max(0, Math.round(speaker.clock.monotonic() - paths.since[path]! * 1000)),
  };
}

function isStale(rib: FamilyRib, path: number): boolean {
  const { epoch } = rib.peerFamily(rib.paths.peer[path]!);
  return rib.paths.epoch[path] !== (epoch & 255) || (rib.paths.flags[path]! & PATH_LLGR_STALE) !== 0;
}

type AttributeView = Pick<
  PathView,
  | 'nextHop'
  | 'origin'
  | 'asPath'
  | 'med'
  | 'localPref'
  | 'communities'
  | 'largeCommunities'
  | 'extendedCommunities'
  | 'originatorId'
  | 'clusterList'
>;

function attributeView(a: PathAttributes): AttributeView {
  const hex = (value: number): string => value.toString(16).padStart(8, '0');
  return {
    nextHop: a.nextHop?.toString() ?? null,
    origin: ORIGINS[a.origin],
    asPath: asPathText(a),
    med: a.med,
    localPref: a.localPref,
    communities: a.communities.map(communityText),
    largeCommunities: a.largeCommunities.map((c) => c.join(':')),
    extendedCommunities: a.extendedCommunities.map(([high, low]) => `0x${hex(high)}${hex(low)}`),
    originatorId: a.originatorId === null ? null : routerIdText(a.originatorId),
    clusterList: a.clusterList.map(routerIdText),
  };
}

/** `65001 65002 {65003,65004}`; confederation segments in parentheses. */
export function asPathText(a: Pick<PathAttributes, 'asPath'>): string {
  return a.asPath
    .map((s) => {
      if (s.type === 'sequence') return s.asns.join(' ');
      if (s.type === 'set') return `{${s.asns.join(',')}}`;
      return s.type === 'confed-sequence' ? `(${s.asns.join(' ')})` : `[${s.asns.join(',')}]`;
    })
    .join(' ');
}

/** Why a prefix is, or is not, told to a peer; to every peer when none is named. */
export function explain(speaker: Speaker, text: string, peerName?: string): ExplainView[] {
  const prefix = Prefix.parseOrHost(text);
  const family = prefix.family === 4 ? 'ipv4' : 'ipv6';
  const rib = speaker.rib.families[family];
  const row = rib.lookup(prefix);
  const entries = peerName === undefined ? [...speaker.entries.values()] : [speaker.entry(peerName)];
  return entries.map((entry) => {
    const answer = (advertised: boolean, reason: string): ExplainView => ({
      prefix: prefix.toString(),
      peer: entry.peer.name,
      advertised,
      reason,
    });
    const best = row === NO_PREFIX ? 0 : rib.prefixes.best[row]!;
    if (best === 0) {
      const paths = row === NO_PREFIX ? [] : route(speaker, text).paths;
      if (paths.length === 0) return answer(false, 'no path to this prefix is known');
      return answer(
        false,
        `no usable path: ${paths.map((p) => `${p.peer ?? 'local'}: ${p.rejected ?? 'unusable'}`).join('; ')}`,
      );
    }
    if (!entry.peer.session) return answer(false, `the session is ${entry.peer.state}, not established`);
    const { member } = entry.rib.families[family];
    if (!member) return answer(false, `the session does not carry ${family}`);
    if (rib.paths.peer[best] === entry.rib.id) return answer(false, EXPORT_TEXT[EXPORT_SPLIT_HORIZON]!);
    const { exporter } = member.group;
    exporter.export(best);
    const rule = exporter.decision?.rule;
    const why = `${EXPORT_TEXT[exporter.reason]!}${rule === undefined ? '' : ` (${rule})`}`;
    return answer(exporter.reason === EXPORT_OK, why);
  });
}
