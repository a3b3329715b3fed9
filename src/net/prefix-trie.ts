// A binary trie over prefixes of both families, for longest-prefix match and walks by containment.
// All operations are O(prefix length).
import type { Family, IpAddress } from './address.ts';
import { familyBits } from './address.ts';
import { Prefix } from './prefix.ts';

interface Node<V> {
  zero: Node<V> | null;
  one: Node<V> | null;
  entry: { prefix: Prefix; value: V } | null;
}

function emptyNode<V>(): Node<V> {
  return { zero: null, one: null, entry: null };
}

export class PrefixTrie<V> {
  #roots: Record<Family, Node<V>> = { 4: emptyNode(), 6: emptyNode() };
  #size = 0;

  get size(): number {
    return this.#size;
  }

  set(prefix: Prefix, value: V): void {
    let node = this.#roots[prefix.family];
    for (let i = 0; i < prefix.length; i++) {
      if (prefix.address.bit(i)) node = node.one ??= emptyNode();
      else node = node.zero ??= emptyNode();
    }
    if (!node.entry) this.#size++;
    node.entry = { prefix, value };
  }

  get(prefix: Prefix): V | undefined {
    let node: Node<V> | null = this.#roots[prefix.family];
    for (let i = 0; node && i < prefix.length; i++) node = prefix.address.bit(i) ? node.one : node.zero;
    return node?.entry?.value;
  }

  /** Removes a prefix; false when it was not there. */
  delete(prefix: Prefix): boolean {
    const path: Node<V>[] = [this.#roots[prefix.family]];
    for (let i = 0; i < prefix.length; i++) {
      const parent = path[i]!;
      const next = prefix.address.bit(i) ? parent.one : parent.zero;
      if (!next) return false;
      path.push(next);
    }
    const leaf = path[prefix.length]!;
    if (!leaf.entry) return false;
    leaf.entry = null;
    this.#size--;
    for (let i = prefix.length; i > 0; i--) {
      const node = path[i]!;
      if (node.entry || node.zero || node.one) break;
      if (prefix.address.bit(i - 1)) path[i - 1]!.one = null;
      else path[i - 1]!.zero = null;
    }
    return true;
  }

  /** The longest prefix that contains the address; null when none does. */
  match(address: IpAddress): { prefix: Prefix; value: V } | null {
    return this.matchPrefix(Prefix.host(address));
  }

  /** The longest prefix that covers the given one (itself included); null when none does. */
  matchPrefix(prefix: Prefix): { prefix: Prefix; value: V } | null {
    let best: { prefix: Prefix; value: V } | null = null;
    let node: Node<V> | null = this.#roots[prefix.family];
    for (let i = 0; node; i++) {
      if (node.entry) best = node.entry;
      if (i >= prefix.length || i >= familyBits(prefix.family)) break;
      node = prefix.address.bit(i) ? node.one : node.zero;
    }
    return best;
  }

  /** Every entry at or below `prefix`, in order of address. */
  *covered(prefix: Prefix): Generator<{ prefix: Prefix; value: V }> {
    let node: Node<V> | null = this.#roots[prefix.family];
    for (let i = 0; node && i < prefix.length; i++) node = prefix.address.bit(i) ? node.one : node.zero;
    if (node) yield* walk(node);
  }

  *entries(): Generator<{ prefix: Prefix; value: V }> {
    yield* walk(this.#roots[4]);
    yield* walk(this.#roots[6]);
  }
}

function* walk<V>(node: Node<V>): Generator<{ prefix: Prefix; value: V }> {
  if (node.entry) yield node.entry;
  if (node.zero) yield* walk(node.zero);
  if (node.one) yield* walk(node.one);
}
