// The helper's side of graceful restart for the speaker's peers: keeps, ages and sweeps the routes of peers that are
// away. In: sessions ending and coming back, End-of-RIB. Out: orders to the RIB.
// RFC 4724 section 4.2, 9494 section 4.2. The rules themselves are in graceful-restart.ts.
import type { Clock } from '#base/clock.ts';
import type { DownCause } from '#bgp/fsm/neighbour.ts';
import type { Rib } from '#bgp/rib/rib.ts';
import type { Notification } from '#bgp/wire/notification.ts';
import { ADDRESS_FAMILIES, type AddressFamily } from '#bgp/wire/types.ts';
import type { Entry } from './entry.ts';
import { keepsAfterReturn, longLivedTime, retains, STALE_PATH_LIMIT } from './graceful-restart.ts';
import type { Session } from './peer.ts';

/** Timers of the system take at most 2^31 - 1 ms, about 24 days. */
const LONGEST_TIMER = 0x7fffffff;

export class RestartHelper {
  readonly #rib: Rib;
  readonly #clock: Clock;
  /** The RIB has work. */
  readonly #schedule: () => void;

  constructor(rib: Rib, clock: Clock, schedule: () => void) {
    this.#rib = rib;
    this.#clock = clock;
    this.#schedule = schedule;
  }

  /** A session ended: its routes go, or stay for the restart time the peer asked for. */
  lost(entry: Entry, session: Session, cause: DownCause, notification: Notification | null): void {
    const { offered } = entry;
    const theirs = session.open.capabilities;
    const retained = ADDRESS_FAMILIES.filter(
      (family) =>
        offered !== null &&
        session.negotiated.families.includes(family) &&
        retains(offered, theirs, family, cause, notification),
    );
    this.#rib.peerDown(entry.rib, {
      ipv4: retained.includes('ipv4') ? 'retain' : 'remove',
      ipv6: retained.includes('ipv6') ? 'retain' : 'remove',
    });
    entry.retained = retained;
    this.#clear(entry);
    if (retained.length === 0 || !offered) return;
    const seconds = theirs.gracefulRestart?.time ?? 0;
    entry.staleTimer = this.#clock.after(seconds * 1000, () => {
      this.#away(entry, (family) => longLivedTime(offered, theirs, family));
    });
  }

  /** The peer is back: what it did not keep goes at once, the rest at its End-of-RIB or the limit. */
  returned(entry: Entry, session: Session): void {
    this.#clear(entry);
    const keep = entry.retained.filter((family) => keepsAfterReturn(session.open.capabilities, family));
    for (const family of entry.retained) if (!keep.includes(family)) this.#rib.sweepStale(entry.rib, family);
    entry.retained = keep;
    if (keep.length > 0) entry.staleTimer = this.#clock.after(STALE_PATH_LIMIT, () => this.#sweep(entry));
  }

  endOfRib(entry: Entry, family: AddressFamily): void {
    if (!entry.retained.includes(family)) return;
    entry.retained = entry.retained.filter((f) => f !== family);
    this.#rib.sweepStale(entry.rib, family);
    if (entry.retained.length === 0) this.#clear(entry);
  }

  /** The restart time is over and the peer is not back. */
  #away(entry: Entry, longLived: (family: AddressFamily) => number): void {
    entry.staleTimer = null;
    let longest = 0;
    const kept: AddressFamily[] = [];
    for (const family of entry.retained) {
      const seconds = longLived(family);
      longest = Math.max(longest, seconds);
      if (seconds > 0) {
        kept.push(family);
        this.#rib.ageStale(entry.rib, family);
      } else this.#rib.sweepStale(entry.rib, family);
    }
    entry.retained = kept;
    if (longest > 0) {
      entry.staleTimer = this.#clock.after(Math.min(longest * 1000, LONGEST_TIMER), () => this.#sweep(entry));
    }
    this.#schedule();
  }

  #sweep(entry: Entry): void {
    entry.staleTimer = null;
    for (const family of entry.retained) this.#rib.sweepStale(entry.rib, family);
    entry.retained = [];
    this.#schedule();
  }

  #clear(entry: Entry): void {
    entry.staleTimer?.cancel();
    entry.staleTimer = null;
  }
}
