// The cover of a set of CIDRs: its largest members, those that no other member contains. Interval sets of the kernel refuse elements
// that overlap; CIDRs either nest or are apart, so the cover says the same and never overlaps. Kept up member by member.
import { Prefix } from '#net/prefix.ts';
import { PrefixTrie } from '#net/prefix-trie.ts';
import type { Family } from '#nft/objects.ts';

/** Canonical element text: a host prefix without its length. */
export function elementText(prefix: Prefix): string {
  return prefix.isHost() ? prefix.address.toString() : prefix.toString();
}

export interface CoverChange {
  readonly added: readonly Prefix[];
  readonly removed: readonly Prefix[];
}

export class Cover {
  readonly #members = new PrefixTrie<true>();

  /** Adding a member twice is the same as once. */
  add(prefix: Prefix): CoverChange {
    if (this.#members.matchPrefix(prefix)) {
      this.#members.set(prefix, true);
      return { added: [], removed: [] };
    }
    const removed = this.#tops(prefix);
    this.#members.set(prefix, true);
    return { added: [prefix], removed };
  }

  /** Removing what is no member changes nothing. */
  remove(prefix: Prefix): CoverChange {
    if (!this.#members.delete(prefix) || this.#members.matchPrefix(prefix)) return { added: [], removed: [] };
    return { added: this.#tops(prefix), removed: [prefix] };
  }

  /** The largest members at or below `prefix`. Relies on a prefix coming before those it contains. */
  #tops(prefix: Prefix): Prefix[] {
    const out: Prefix[] = [];
    for (const { prefix: member } of this.#members.covered(prefix)) {
      if (!out.at(-1)?.covers(member)) out.push(member);
    }
    return out;
  }
}

/** The cover of the CIDRs of one family, sorted, as element text. */
export function coverOf(cidrs: readonly string[], family: Family): string[] {
  const sorted = cidrs
    .map((cidr) => Prefix.parseOrHost(cidr))
    .filter((p) => p.family === family)
    .sort((a, b) => a.compare(b));
  const out: Prefix[] = [];
  for (const prefix of sorted) if (!out.at(-1)?.covers(prefix)) out.push(prefix);
  return out.map((p) => (p.length === 0 ? p.toString() : elementText(p)));
}
