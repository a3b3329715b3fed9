// Which addresses are translated on the way out, and where to they are not: the pools, and the hosts if they are excluded.
// In: IPPool and Node resources. Out: DesiredPools, when they have changed. A disabled pool is a pool all the same.
import type { DesiredPools } from '#model/desired.ts';
import type { IPPool } from '#model/ip-pool.ts';
import { Prefix } from '#net/prefix.ts';

/** What is reached untranslated: the pools only, or the hosts' own addresses too. */
export type NatExclusions = 'IPPoolsOnly' | 'IPPoolsAndHostIPs';

const NOTHING: DesiredPools = { masqueraded: [], direct: [] };

export class OutgoingNat {
  readonly #exclusions: NatExclusions;
  readonly #pools = new Map<string, { readonly cidr: Prefix; readonly nat: boolean }>();
  /** Host -> its addresses as host CIDRs. */
  readonly #hosts = new Map<string, readonly string[]>();
  #dirty = false;
  #told = JSON.stringify(NOTHING);

  constructor(exclusions: NatExclusions) {
    this.#exclusions = exclusions;
  }

  /** Throws `invalid-argument` when the CIDR is none; the pool is then not one. */
  setPool(id: string, { spec }: IPPool): void {
    this.removePool(id);
    this.#pools.set(id, { cidr: Prefix.parse(spec.cidr), nat: spec.natOutgoing });
  }

  removePool(id: string): void {
    this.#pools.delete(id);
    this.#dirty = true;
  }

  /** `nets` as host CIDRs. */
  setHost(id: string, nets: readonly string[]): void {
    if (this.#exclusions === 'IPPoolsOnly') return;
    this.#hosts.set(id, nets);
    this.#dirty = true;
  }

  removeHost(id: string): void {
    this.#dirty ||= this.#hosts.delete(id);
  }

  /** Null when they are as at the last call. */
  takeChanged(): DesiredPools | null {
    if (!this.#dirty) return null;
    this.#dirty = false;
    const pools = this.#desired();
    const text = JSON.stringify(pools);
    if (text === this.#told) return null;
    this.#told = text;
    return pools;
  }

  #desired(): DesiredPools {
    const pools = [...this.#pools.values()];
    const sorted = (cidrs: readonly string[]) => [...new Set(cidrs)].sort();
    const masqueraded = sorted(pools.filter(({ nat }) => nat).map(({ cidr }) => cidr.toString()));
    if (masqueraded.length === 0) return NOTHING;
    const direct = sorted([...pools.map(({ cidr }) => cidr.toString()), ...[...this.#hosts.values()].flat()]);
    return { masqueraded, direct };
  }
}
