// Leases of blocks: taken by creating an IPBlock object (compare-and-swap: the store lets one host succeed), handed back
// by deleting it. No state here but the store's.
import { BrindleError, isBrindleError } from '#base/errors.ts';
import type { Store } from '#datastore/store.ts';
import { IP_BLOCK_API, type IPBlock } from '#model/ip-block.ts';
import type { ResourceKey } from '#model/resource.ts';
import { Prefix } from '#net/prefix.ts';
import { PrefixTrie } from '#net/prefix-trie.ts';
import { blockName, candidateBlocks } from './candidates.ts';
import type { Pool } from './pools.ts';

export function blockKey(cidr: Prefix): ResourceKey {
  return { kind: 'IPBlock', namespace: '', name: blockName(cidr) };
}

export async function listBlocks(store: Store): Promise<readonly IPBlock[]> {
  return (await store.list('IPBlock')).resources as readonly IPBlock[];
}

/**
 * A block of the pool that `host` does not hold yet; null when the pool has none left. One that the store already calls
 * ours (its journal was lost, or the agent died between the two) comes first. Throws `unavailable`.
 */
export async function takeLease(
  store: Store,
  host: string,
  pool: Pool,
  held: (cidr: Prefix) => boolean,
): Promise<IPBlock | null> {
  const taken = new PrefixTrie<string>();
  for (const block of await listBlocks(store)) {
    const cidr = Prefix.parse(block.spec.cidr);
    if (!pool.cidr.covers(cidr)) continue;
    if (block.spec.host === host && !held(cidr)) return block;
    taken.set(cidr, block.spec.host);
  }
  for (const cidr of candidateBlocks(pool.cidr, pool.blockSize, host)) {
    // A block of another size is left from a pool of the same addresses that was made anew.
    if (taken.matchPrefix(cidr) || !taken.covered(cidr).next().done) continue;
    const made = await createLease(store, host, pool, cidr);
    if (made) return made;
  }
  return null;
}

/** The one block that holds an address asked for by name. Throws `conflict` when another host has it. */
export async function takeLeaseOf(store: Store, host: string, pool: Pool, cidr: Prefix): Promise<IPBlock> {
  for (;;) {
    for (const block of await listBlocks(store)) {
      const other = Prefix.parse(block.spec.cidr);
      if (!other.overlaps(cidr)) continue;
      if (block.spec.host === host && other.equals(cidr)) return block;
      throw new BrindleError('conflict', `block ${other} is leased by host ${block.spec.host}`, {
        remedy: 'ask for an address of a block of this host, or run the container there',
      });
    }
    const made = await createLease(store, host, pool, cidr);
    if (made) return made;
  }
}

/** null when somebody else was quicker. */
export async function createLease(
  store: Store,
  host: string,
  pool: { readonly name: string },
  cidr: Prefix,
): Promise<IPBlock | null> {
  try {
    const lease: IPBlock = {
      apiVersion: IP_BLOCK_API,
      kind: 'IPBlock',
      metadata: { name: blockName(cidr) },
      spec: { cidr: cidr.toString(), host, pool: pool.name, assigned: {} },
    };
    return (await store.create(lease)) as IPBlock;
  } catch (error) {
    if (isBrindleError(error, 'already-exists')) return null;
    throw error;
  }
}

/** Deletes every lease of a host that is gone for good; the CIDRs. Its containers must be gone too. */
export async function releaseHost(store: Store, host: string): Promise<string[]> {
  const released: string[] = [];
  for (const { spec } of await listBlocks(store)) {
    if (spec.host === host && (await deleteLease(store, host, Prefix.parse(spec.cidr)))) released.push(spec.cidr);
  }
  return released;
}

/** Deletes a lease if it is the host's still; false when it is not, so that nobody loses what he leased meanwhile. */
export async function deleteLease(store: Store, host: string, cidr: Prefix): Promise<boolean> {
  const key = blockKey(cidr);
  for (;;) {
    const block = (await store.get(key)) as IPBlock | null;
    if (block?.spec.host !== host) return false;
    const { resourceVersion } = block.metadata;
    try {
      await store.delete(key, resourceVersion === undefined ? {} : { resourceVersion });
      return true;
    } catch (error) {
      if (isBrindleError(error, 'not-found')) return false;
      if (!isBrindleError(error, 'conflict')) throw error;
    }
  }
}
