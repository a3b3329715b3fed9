// The restarted speaker's wait: End-of-RIB goes out, and the sink may sweep, only when the peers that are there have
// sent theirs. Routes themselves are never held back. RFC 4724 section 4.1; the rules are in graceful-restart.ts.
import type { Clock, TimerHandle } from '#base/clock.ts';
import { ADDRESS_FAMILIES } from '#bgp/wire/types.ts';
import type { Entry } from './entry.ts';
import { awaits, DEFERRAL_LIMIT } from './graceful-restart.ts';

export class RestartDeferral {
  readonly #clock: Clock;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #ended: (reason: string) => void;
  #active: boolean;
  #begun = false;
  #timer: TimerHandle | null = null;

  /** `ended` is called once, when the wait is over. Without a restart it is over with the first configuration. */
  constructor(active: boolean, clock: Clock, entries: ReadonlyMap<string, Entry>, ended: (reason: string) => void) {
    this.#active = active;
    this.#clock = clock;
    this.#entries = entries;
    this.#ended = ended;
  }

  /** The wait is on: OPENs carry the R bit. */
  get active(): boolean {
    return this.#active;
  }

  /** The peers are known and being dialled. */
  begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    if (!this.#active) {
      this.#ended('there was nothing to wait for');
      return;
    }
    this.#timer = this.#clock.after(DEFERRAL_LIMIT, () => this.#end('the wait for peers ended by its limit'));
    this.check();
  }

  /** A peer's session has come up while the wait is on. */
  hold(entry: Entry): void {
    if (!this.#active) return;
    for (const family of ADDRESS_FAMILIES) {
      const { member } = entry.rib.families[family];
      if (member?.endOfRib === 'pending') member.endOfRib = 'none';
    }
  }

  /** Something about a peer has changed. */
  check(): void {
    if (!this.#active || !this.#timer) return;
    for (const { peer, config, received, tried, range } of this.#entries.values()) {
      const waits = awaits({
        dialled: range === null && !(config.passive ?? false) && config.shutdown === undefined,
        tried,
        alive: peer.state === 'open-sent' || peer.state === 'open-confirm',
        established: peer.session !== null,
        capabilities: peer.session?.open.capabilities ?? null,
        families: peer.session?.negotiated.families ?? [],
        endOfRib: received,
      });
      if (waits) return;
    }
    this.#end('all peers that are there have sent their End-of-RIB');
  }

  cancel(): void {
    this.#timer?.cancel();
  }

  #end(reason: string): void {
    this.#active = false;
    this.#timer?.cancel();
    for (const entry of this.#entries.values()) {
      for (const family of ADDRESS_FAMILIES) {
        const { member } = entry.rib.families[family];
        if (member?.endOfRib === 'none') member.endOfRib = 'pending';
      }
    }
    this.#ended(reason);
  }
}
