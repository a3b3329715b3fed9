// Next hops by small integers, with what the host's routing says of each: reachable or not, and the IGP metric.
// In: addresses from path attributes, and verdicts of whoever resolves them. Out: ids for the attribute table.
// RFC 4271 9.1.2.1 (resolvability), 5.1.3.
import type { IpAddress } from '#net/address.ts';
import { grown, nextCapacity } from './columns.ts';

export interface NextHop {
  readonly id: number;
  /** Null for a route of our own, whose next hop each session fills in. */
  readonly address: IpAddress | null;
  /** The link-local address that came with a global one, or the only one. */
  readonly linkLocal: IpAddress | null;
  /** Interface index that gives a link-local address its meaning; 0 when there is none. */
  readonly zone: number;
}

/** Id of "no next hop": always reachable at metric 0. */
export const NO_NEXT_HOP = 0;

export class NextHopTable {
  /** 1 when routes over it may be used. */
  reachable = new Uint8Array(64);
  /** IGP metric towards it, lower is nearer. */
  metric = new Uint32Array(64);
  readonly #entries: NextHop[] = [{ id: NO_NEXT_HOP, address: null, linkLocal: null, zone: 0 }];
  readonly #ids = new Map<string, number>();
  readonly #assumeReachable: boolean;
  #announced = 1;

  /** `assumeReachable`: nobody resolves next hops, so every one counts as reachable at metric 0. */
  constructor(assumeReachable: boolean) {
    this.#assumeReachable = assumeReachable;
    this.reachable[NO_NEXT_HOP] = 1;
  }

  get count(): number {
    return this.#entries.length;
  }

  get(id: number): NextHop {
    return this.#entries[id]!;
  }

  intern(address: IpAddress | null, linkLocal: IpAddress | null, zone: number): number {
    if (!address) return NO_NEXT_HOP;
    const scope = linkLocal ? zone : 0;
    const key = linkLocal ? `${address} ${linkLocal}%${scope}` : address.toString();
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const id = this.#entries.length;
    if (id >= this.metric.length) {
      const capacity = nextCapacity(this.metric.length, id + 1);
      this.reachable = grown(this.reachable, capacity);
      this.metric = grown(this.metric, capacity);
    }
    this.reachable[id] = this.#assumeReachable ? 1 : 0;
    this.#entries.push({ id, address, linkLocal, zone: scope });
    this.#ids.set(key, id);
    return id;
  }

  /** The id of a known next hop; null when no route uses it. */
  find(address: IpAddress, linkLocal: IpAddress | null = null, zone = 0): number | null {
    const key = linkLocal ? `${address} ${linkLocal}%${zone}` : address.toString();
    return this.#ids.get(key) ?? null;
  }

  /** Next hops that appeared since the last call, for whoever resolves them. */
  takeNew(): NextHop[] {
    const fresh = this.#entries.slice(this.#announced);
    this.#announced = this.#entries.length;
    return fresh;
  }

  /** False when nothing changed. */
  set(id: number, reachable: boolean, metric: number): boolean {
    const bit = reachable ? 1 : 0;
    if (this.reachable[id] === bit && this.metric[id] === metric) return false;
    this.reachable[id] = bit;
    this.metric[id] = metric;
    return true;
  }
}
