// Aggregates: routes of our own that exist while a more specific route contributes to them.
// In: every change of a best path. Out: routes originated and taken back, and the mark on prefixes that are hidden
// behind their aggregate.
// RFC 4271 9.2.2.2 (ATOMIC_AGGREGATE, AGGREGATOR).
import type { Prefix } from '#net/prefix.ts';
import { makeAttributes } from '#bgp/wire/attributes.ts';
import type { PathAttributes } from '#bgp/wire/types.ts';
import type { FamilyRib } from './family-rib.ts';
import { LOCAL_PEER } from './peers.ts';
import { PREFIX_LOCAL, PREFIX_PRESENT, PREFIX_SUPPRESSED } from './prefix-table.ts';

/** Path identifier of aggregates among our own routes. */
export const AGGREGATE_SOURCE = 0xffffffff;

export interface AggregateConfig {
  readonly prefix: Prefix;
  /** Which routes bring it to life: our own, or any. Default `local`. */
  readonly contributors?: 'local' | 'any';
  /** The routes that contribute are not exported. Default false. */
  readonly suppress?: boolean;
  /** Besides ATOMIC_AGGREGATE and AGGREGATOR. */
  readonly attributes?: Partial<PathAttributes>;
}

interface Aggregate {
  readonly config: AggregateConfig;
  readonly words: readonly number[];
  /** The flag that a contributor's row has. */
  readonly needs: number;
  contributors: number;
}

export class Aggregates {
  readonly #rib: FamilyRib;
  readonly #originate: (prefix: Prefix, attributes: PathAttributes) => void;
  readonly #withdraw: (prefix: Prefix) => void;
  readonly #aggregates = new Map<string, Aggregate>();

  constructor(
    rib: FamilyRib,
    originate: (prefix: Prefix, attributes: PathAttributes) => void,
    withdraw: (prefix: Prefix) => void,
  ) {
    this.#rib = rib;
    this.#originate = originate;
    this.#withdraw = withdraw;
  }

  /** Configured aggregates with the number of routes that contribute to each; above 0 the aggregate is there. */
  list(): { prefix: Prefix; contributors: number }[] {
    return [...this.#aggregates.values()].map((a) => ({ prefix: a.config.prefix, contributors: a.contributors }));
  }

  /** Replaces the whole set. `aggregator`: our AS and router id, for AGGREGATOR. */
  set(configs: readonly AggregateConfig[], aggregator: { asn: number; address: number }): void {
    const wanted = new Map(configs.map((config) => [config.prefix.toString(), config]));
    for (const [key, aggregate] of this.#aggregates) {
      if (!wanted.has(key) && aggregate.contributors > 0) this.#withdraw(aggregate.config.prefix);
    }
    this.#aggregates.clear();
    for (const [key, config] of wanted) {
      this.#aggregates.set(key, {
        config: { ...config, attributes: { atomicAggregate: true, aggregator, ...config.attributes } },
        words: wordsOf(config.prefix),
        needs: config.contributors === 'any' ? PREFIX_PRESENT : PREFIX_LOCAL,
        contributors: 0,
      });
    }
    this.#rib.onBest = this.#aggregates.size > 0 ? (row) => this.changed(row) : null;
    this.#recount();
  }

  /** The best path of a prefix changed. */
  changed(row: number): void {
    const { prefixes } = this.#rib;
    const before = prefixes.flags[row]! & (PREFIX_PRESENT | PREFIX_LOCAL);
    const now = this.#state(row);
    if (before === now) return;
    prefixes.flags[row] = (prefixes.flags[row]! & ~(PREFIX_PRESENT | PREFIX_LOCAL)) | now;
    for (const aggregate of this.#aggregates.values()) {
      const did = (before & aggregate.needs) !== 0;
      const does = (now & aggregate.needs) !== 0;
      if (did === does || !this.#covers(aggregate, row)) continue;
      aggregate.contributors += does ? 1 : -1;
      if (aggregate.contributors === (does ? 1 : 0)) this.#toggle(aggregate);
    }
    this.#hide(row);
  }

  #state(row: number): number {
    const { prefixes, paths } = this.#rib;
    const best = prefixes.best[row]!;
    if (best === 0) return 0;
    const own = paths.peer[best] === LOCAL_PEER && paths.pathIdOf(best) !== AGGREGATE_SOURCE;
    return own ? PREFIX_PRESENT | PREFIX_LOCAL : PREFIX_PRESENT;
  }

  /** Counts everything from the start. */
  #recount(): void {
    const { prefixes } = this.#rib;
    const aggregates = [...this.#aggregates.values()];
    const limit = prefixes.limit;
    for (let row = 1; row < limit; row++) {
      if (prefixes.flags[row] === 0) continue;
      const now = this.#state(row);
      prefixes.flags[row] = (prefixes.flags[row]! & ~(PREFIX_PRESENT | PREFIX_LOCAL)) | now;
      for (const aggregate of aggregates) {
        if ((now & aggregate.needs) !== 0 && this.#covers(aggregate, row)) aggregate.contributors++;
      }
      this.#hide(row);
    }
    for (const aggregate of aggregates) {
      this.#toggle(aggregate);
    }
  }

  #toggle(aggregate: Aggregate): void {
    const { prefix, attributes } = aggregate.config;
    if (aggregate.contributors > 0) this.#originate(prefix, makeAttributes(attributes ?? {}));
    else this.#withdraw(prefix);
  }

  /** Marks a row as hidden, or not, and has it exported anew if that changed. */
  #hide(row: number): void {
    const { prefixes } = this.#rib;
    const flags = prefixes.flags[row]!;
    let hidden = false;
    for (const aggregate of this.#aggregates.values()) {
      if (aggregate.config.suppress && (flags & aggregate.needs) !== 0 && this.#covers(aggregate, row)) hidden = true;
    }
    if (hidden === ((flags & PREFIX_SUPPRESSED) !== 0)) return;
    prefixes.flags[row] = hidden ? flags | PREFIX_SUPPRESSED : flags & ~PREFIX_SUPPRESSED;
    this.#rib.touch(row);
  }

  /** The row's prefix lies inside the aggregate and is longer. */
  #covers(aggregate: Aggregate, row: number): boolean {
    const { prefixes } = this.#rib;
    const { length } = aggregate.config.prefix;
    if (prefixes.bits[row]! <= length) return false;
    for (let i = 0, rest = length; rest > 0; i++, rest -= 32) {
      const mask = rest >= 32 ? -1 : -1 << (32 - rest);
      if (((prefixes.word(row, i) ^ aggregate.words[i]!) & mask) !== 0) return false;
    }
    return true;
  }
}

function wordsOf(prefix: Prefix): number[] {
  const { bytes } = prefix.address;
  const words: number[] = [];
  for (let i = 0; i < bytes.length; i += 4) {
    words.push((bytes[i]! << 24) | (bytes[i + 1]! << 16) | (bytes[i + 2]! << 8) | bytes[i + 3]!);
  }
  return words;
}
