// Make before break: when the fabric changes (mesh to reflectors, other reflectors), a session that it no longer has
// stays until what came by it comes by others. Pure; time and routes are arguments.
// In: each plan as it is worked out; what the speaker knows, from time to time. Out: the configuration to put in force.
//
// Each host decides alone, so it can be done with a session while the other end is not. That is why a session that is
// to go is closed without a NOTIFICATION (`removal: silent`): the other end keeps our routes as for a restart (RFC 4724)
// until it is done, too. Order of events for one session:
//   1. the plan lacks it: it stays as it was, with the sessions that take its place beside it
//   2. those are established, and every prefix learned by it is learned by one that stays, for SETTLED_MS without break
//   3. it goes
// A host that is no reflector any more reflects until then; one that has become another's equal is still served as a
// client for DEMOTION_MS, since only the other end knows when it has all routes from elsewhere.
import type { PathView, PeerConfig, PeerSummary, SpeakerConfig } from '#bgp/speaker/api.ts';
import type { BgpPlan } from './plan.ts';

/** How long routes must have been covered without break. */
export const SETTLED_MS = 3000;
/** How long a session of the new plan that does not come up holds the old ones. */
export const GIVE_UP_MS = 60_000;
/** How long a client that has become a reflector is reflected to. */
export const DEMOTION_MS = 120_000;

interface Retiring {
  readonly peer: PeerConfig;
  readonly since: number;
  /** Since when all its routes have been covered; null: they are not. */
  coveredSince: number | null;
}

/** What the speaker knows: all sessions, and all accepted paths. */
export interface Observation {
  readonly summaries: readonly PeerSummary[];
  readonly paths: readonly PathView[];
}

export class Transition {
  /** Sessions of the fabric in force, by name. */
  #current = new Map<string, PeerConfig>();
  readonly #retiring = new Map<string, Retiring>();
  /** Until when a session keeps its flag of client. */
  readonly #demoted = new Map<string, number>();

  /** Whether `observe` should be called now and then. */
  get isUnderWay(): boolean {
    return this.#retiring.size > 0 || this.#demoted.size > 0;
  }

  /** Names of the sessions that wait to go. */
  get retiring(): readonly string[] {
    return [...this.#retiring.keys()];
  }

  /** A new plan, or the last one again: the configuration to put in force. `now` in ms of a monotonic clock. */
  next(plan: BgpPlan, now: number): SpeakerConfig | null {
    const { config, fabric } = plan;
    if (!config) return null;
    const wanted = new Map(config.peers.flatMap((p) => (fabric.sessions.has(p.name) ? [[p.name, p] as const] : [])));
    for (const [name, peer] of this.#current) {
      if (!wanted.has(name) && !this.#retiring.has(name))
        this.#retiring.set(name, { peer: { ...peer, removal: 'silent' }, since: now, coveredSince: null });
    }
    const addresses = new Set(config.peers.map((peer) => peer.address));
    for (const [name, { peer, since }] of this.#retiring) {
      // Without a fabric there is nothing to wait for; and another session with that address comes in its place.
      const isGone = !fabric.possible.has(name) && now - since >= GIVE_UP_MS;
      if (fabric.mode === 'off' || wanted.has(name) || addresses.has(peer.address) || isGone)
        this.#retiring.delete(name);
    }
    for (const [name, peer] of wanted) {
      const before = this.#current.get(name);
      const wasClient = before?.routeReflectorClient === true;
      if (peer.routeReflectorClient || (before && !wasClient)) this.#demoted.delete(name);
      else if (wasClient && !this.#demoted.has(name)) this.#demoted.set(name, now + DEMOTION_MS);
      if ((this.#demoted.get(name) ?? Infinity) <= now) this.#demoted.delete(name);
    }
    for (const name of this.#demoted.keys()) if (!wanted.has(name)) this.#demoted.delete(name);
    const peers = config.peers.map((peer) =>
      this.#demoted.has(peer.name) ? { ...peer, routeReflectorClient: true } : peer,
    );
    this.#current = new Map(peers.flatMap((p) => (wanted.has(p.name) ? [[p.name, p] as const] : [])));
    return { ...config, peers: [...peers, ...[...this.#retiring.values()].map(({ peer }) => peer)] };
  }

  /** True when something may go now: `next` leaves it out. */
  observe({ summaries, paths }: Observation, plan: BgpPlan, now: number): boolean {
    const up = new Set(
      summaries.flatMap((peer) =>
        peer.state === 'established' && peer.families.every((family) => family.endOfRibReceived) ? [peer.name] : [],
      ),
    );
    const staying = new Set<string>();
    const learned = new Map<string, string[]>();
    for (const path of paths) {
      if (path.peer === null || path.rejected !== undefined) continue;
      if (this.#retiring.has(path.peer)) learned.set(path.peer, [...(learned.get(path.peer) ?? []), path.prefix]);
      else if (!path.stale) staying.add(path.prefix);
    }
    const missing = [...plan.fabric.sessions].some((name) => !up.has(name));
    let changed = false;
    for (const [name, entry] of this.#retiring) {
      // The host itself is gone, and its routes with it.
      const isGone = !plan.fabric.possible.has(name);
      const isCovered = isGone || (learned.get(name) ?? []).every((prefix) => staying.has(prefix));
      const isWaiting = missing && now - entry.since < GIVE_UP_MS;
      if (!isCovered || isWaiting) entry.coveredSince = null;
      else {
        entry.coveredSince ??= now;
        if (now - entry.coveredSince >= SETTLED_MS) {
          this.#retiring.delete(name);
          changed = true;
        }
      }
    }
    for (const due of this.#demoted.values()) if (due <= now) changed = true;
    return changed;
  }
}
