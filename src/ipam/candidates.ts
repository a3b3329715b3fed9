// The order in which a host tries the blocks of a pool: pseudo-random, seeded by host and pool, so that hosts that start
// at once seldom want the same block (calico.md 1.2, affinity). Pure.
import { createHash } from 'node:crypto';
import { Prefix } from '#net/prefix.ts';

/** Every block of the pool once. The count is a power of two, so an odd stride visits all. */
export function* candidateBlocks(pool: Prefix, blockSize: number, host: string): Generator<Prefix> {
  const count = 1n << BigInt(blockSize - pool.length);
  const seed = createHash('sha256').update(`${host}\n${pool}`).digest();
  const start = seed.readBigUInt64BE(0) % count;
  const stride = (seed.readBigUInt64BE(8) % count) | 1n;
  for (let i = 0n; i < count; i++) yield pool.subnet(blockSize, (start + i * stride) % count);
}

/** The object name of a block: `10-244-0-64-26`, `fd00-10---40-122`. */
export function blockName(cidr: Prefix): string {
  return cidr.toString().replace(/[.:/]/g, '-');
}
