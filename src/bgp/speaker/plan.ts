// What a change of configuration means for each peer: nothing, a live change, routes evaluated anew, or a new session.
// In: the old and the new configuration. Out: the differences by peer, classified. Pure.
//
// Trap: every member of PeerOptions must be in one of the classes below; the compiler sees to it.
import type { ConfigPlan, PeerChange, PeerConfig, PeerOptions, PeerRangeConfig, SpeakerConfig } from './api.ts';

type Effect = 'live' | 're-evaluate' | 'reset';

/** What a change of each member does to a session that is up. */
const EFFECTS: Readonly<Record<Exclude<keyof PeerOptions, never>, Effect>> = {
  description: 'live',
  passive: 'live', // for the next connection
  maxPrefixes: 'live',
  bfd: 'live',
  removal: 'live',
  keepaliveTime: 'live', // from the next keepalive on
  import: 're-evaluate',
  export: 're-evaluate',
  allowOwnAs: 're-evaluate',
  enforceFirstAs: 're-evaluate',
  nextHop: 're-evaluate',
  nextHopAddress: 're-evaluate',
  localPref: 're-evaluate',
  routeReflectorClient: 're-evaluate',
  routeServerClient: 're-evaluate',
  clusterId: 're-evaluate',
  localAddress: 'reset',
  localAs: 'reset',
  password: 'reset', // a connection keeps the key with which it began
  holdTime: 'reset',
  families: 'reset',
  addPaths: 'reset',
  ttlSecurity: 'reset',
  multihop: 'reset',
  gracefulRestart: 'reset',
  longLived: 'reset',
  interface: 'reset',
  extendedNextHop: 'reset',
};

const OWN_EFFECTS: Readonly<Record<Exclude<keyof PeerConfig, keyof PeerOptions>, Effect>> = {
  name: 'live',
  shutdown: 'reset',
  address: 'reset',
  port: 'live', // for the next dial
  asNumber: 'reset',
};

const RANGE_EFFECTS: Readonly<Record<Exclude<keyof PeerRangeConfig, keyof PeerOptions>, Effect>> = {
  name: 'live',
  prefix: 'reset',
  asNumber: 'reset',
  limit: 'live',
};

/** Members of the speaker whose change ends every session. */
export const SPEAKER_RESETS: readonly (keyof SpeakerConfig)[] = [
  'routerId',
  'asNumber',
  'holdTime',
  'gracefulRestart',
  'hostName',
];

const RANK: Readonly<Record<Effect, number>> = { live: 0, 're-evaluate': 1, reset: 2 };

/** Compares two configurations. `before` null: nothing was configured. */
export function planChange(before: SpeakerConfig | null, after: SpeakerConfig): ConfigPlan {
  const changes: PeerChange[] = [];
  const speakerFields = before
    ? (Object.keys({ ...before, ...after }) as (keyof SpeakerConfig)[]).filter(
        (key) => key !== 'peers' && key !== 'peerRanges' && !same(before[key], after[key]),
      )
    : [];
  const filters = new Set(
    Object.keys({ ...before?.filters, ...after.filters }).filter(
      (name) => !same(before?.filters?.[name], after.filters?.[name]),
    ),
  );
  const all = speakerFields.find((field) => SPEAKER_RESETS.includes(field));
  compare(before?.peers ?? [], after.peers, { ...EFFECTS, ...OWN_EFFECTS }, all, filters, changes);
  compare(before?.peerRanges ?? [], after.peerRanges, { ...EFFECTS, ...RANGE_EFFECTS }, all, filters, changes);
  return { changes, speakerFields };
}

function compare<T extends PeerOptions & { readonly name: string }>(
  before: readonly T[],
  after: readonly T[],
  effects: Readonly<Record<string, Effect>>,
  resetAll: string | undefined,
  filters: ReadonlySet<string>,
  out: PeerChange[],
): void {
  const old = new Map(before.map((p) => [p.name, p]));
  const names = new Set(after.map((p) => p.name));
  for (const peer of before) {
    if (!names.has(peer.name)) out.push({ peer: peer.name, effect: 'removed', fields: [] });
  }
  for (const peer of after) {
    const known = old.get(peer.name);
    if (!known) {
      out.push({ peer: peer.name, effect: 'added', fields: [] });
      continue;
    }
    const fields = differing(known, peer);
    for (const direction of ['import', 'export'] as const) {
      const policy = peer[direction];
      if (typeof policy === 'string' || fields.includes(direction)) continue;
      if (policy.filters.some((name) => filters.has(name))) fields.push(direction);
    }
    let effect: Effect | null = resetAll === undefined ? null : 'reset';
    for (const field of fields) {
      const one = effects[field] ?? 'reset';
      if (effect === null || RANK[one] > RANK[effect]) effect = one;
    }
    if (effect !== null)
      out.push({ peer: peer.name, effect, fields: resetAll === undefined ? fields : [...fields, resetAll] });
  }
}

function differing<T extends object>(a: T, b: T): string[] {
  const keys = Object.keys({ ...a, ...b }) as (keyof T & string)[];
  return keys.filter((key) => !same(a[key], b[key])).sort();
}

/** Equality of plain data; a member that is undefined is one that is absent. */
export function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  for (const key of keys) {
    if (!same((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key])) return false;
  }
  return true;
}
