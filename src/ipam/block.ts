// One leased block: which of its addresses are taken, by whom, and in which order the free ones come back.
// Pure; at most 4096 addresses. Freed addresses queue up behind the never used ones, so that an address rests as long
// as possible before another container gets it (calico.md 1.2, reuse order), and at least for the cooldown.
import type { IpAddress } from '#net/address.ts';
import type { Prefix } from '#net/prefix.ts';

interface Free {
  readonly ordinal: number;
  /** Milliseconds since the Unix epoch; 0 = never used. */
  readonly since: number;
}

/** Since when a held-back address is free: it is not, until `thaw`. */
const HELD = Number.POSITIVE_INFINITY;

export class AddressBlock {
  readonly cidr: Prefix;
  readonly pool: string;
  /** No new address comes from here: the lease is being handed back, or another host has taken it. */
  closed = false;
  #owners = new Map<number, string>();
  /** Longest idle first. */
  #free: Free[];

  constructor(cidr: Prefix, pool: string) {
    this.cidr = cidr;
    this.pool = pool;
    this.#free = Array.from({ length: Number(cidr.size) }, (_, ordinal) => ({ ordinal, since: 0 }));
  }

  get size(): number {
    return Number(this.cidr.size);
  }

  get used(): number {
    return this.#owners.size;
  }

  get isEmpty(): boolean {
    return this.#owners.size === 0 && this.#free.every((entry) => entry.since !== HELD);
  }

  /** How many addresses could be taken at `now`, reservations aside. */
  available(now: number, cooldown: number): number {
    if (this.closed) return 0;
    let count = 0;
    for (const { since } of this.#free) if (since === 0 || since + cooldown <= now) count++;
    return count;
  }

  owner(address: IpAddress): string | undefined {
    return this.#owners.get(this.#ordinalOf(address));
  }

  *owners(): Generator<{ address: IpAddress; owner: string }> {
    for (const [ordinal, owner] of this.#owners) yield { address: this.cidr.first.plus(ordinal), owner };
  }

  /** Addresses that were freed after `since`, with the time. */
  *resting(since: number): Generator<{ address: IpAddress; at: number }> {
    for (const entry of this.#free) {
      if (entry.since > since && entry.since !== HELD) {
        yield { address: this.cidr.first.plus(entry.ordinal), at: entry.since };
      }
    }
  }

  /** Takes the longest idle address; null when none is free, or none that `allowed` lets through. Times in ms. */
  take(owner: string, now: number, cooldown: number, allowed?: (address: IpAddress) => boolean): IpAddress | null {
    if (this.closed) return null;
    for (let i = 0; i < this.#free.length; i++) {
      const { ordinal, since } = this.#free[i]!;
      if (since !== 0 && since + cooldown > now) continue;
      const address = this.cidr.first.plus(ordinal);
      if (allowed && !allowed(address)) continue;
      this.#free.splice(i, 1);
      this.#owners.set(ordinal, owner);
      return address;
    }
    return null;
  }

  /** Takes one address by name, cooldown or not; false when it has an owner or is held back. */
  claim(address: IpAddress, owner: string): boolean {
    const ordinal = this.#ordinalOf(address);
    const at = this.#free.findIndex((entry) => entry.ordinal === ordinal);
    if (at < 0 || this.#free[at]!.since === HELD) return false;
    this.#free.splice(at, 1);
    this.#owners.set(ordinal, owner);
    return true;
  }

  /** Gives an address back as of `at`; `held`: not to be used before `thaw`. False when `owner` does not have it. */
  free(address: IpAddress, owner: string, at: number, held = false): boolean {
    const ordinal = this.#ordinalOf(address);
    if (this.#owners.get(ordinal) !== owner) return false;
    this.#owners.delete(ordinal);
    this.#free.push({ ordinal, since: held ? HELD : at });
    return true;
  }

  /** Ends the holding back of an address. */
  thaw(address: IpAddress, at: number): void {
    const ordinal = this.#ordinalOf(address);
    const index = this.#free.findIndex((entry) => entry.ordinal === ordinal && entry.since === HELD);
    if (index < 0) return;
    this.#free.splice(index, 1);
    this.#free.push({ ordinal, since: at });
  }

  /** Restores what is known of a free address after a restart. */
  rest(address: IpAddress, at: number): void {
    const ordinal = this.#ordinalOf(address);
    const index = this.#free.findIndex((entry) => entry.ordinal === ordinal);
    if (index < 0) return;
    this.#free.splice(index, 1);
    this.#free.push({ ordinal, since: at });
    this.#free.sort((a, b) => a.since - b.since || a.ordinal - b.ordinal);
  }

  #ordinalOf(address: IpAddress): number {
    if (address.family === 4) return address.toUint32() - this.cidr.first.toUint32();
    return Number(address.toBigInt() - this.cidr.first.toBigInt());
  }
}
