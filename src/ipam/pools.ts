// Which pools a request may draw from. Pure. Semantics: calico.md 1.2 (nodeSelector and namespaceSelector must both
// match, allowedUses, assignmentMode, disabled); pools that are asked for by name or CIDR need no selector and may be
// Manual, but never disabled.
import { BrindleError } from '#base/errors.ts';
import type { IPPool } from '#model/ip-pool.ts';
import type { Family } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';

export type PoolUse = 'Workload' | 'Tunnel' | 'LoadBalancer';
type Labels = Readonly<Record<string, string>>;
/** Does a selector (Calico's grammar) match labels? */
export type SelectorMatch = (selector: string, labels: Labels) => boolean;

export interface Pool {
  readonly name: string;
  readonly cidr: Prefix;
  readonly blockSize: number;
  readonly disabled: boolean;
  readonly manual: boolean;
  readonly uses: readonly PoolUse[];
  readonly nodeSelector: string;
  /** null: every namespace, and workloads that have none. */
  readonly namespaceSelector: string | null;
}

export function poolFromResource({ metadata, spec }: IPPool): Pool {
  return {
    name: metadata.name,
    cidr: Prefix.parse(spec.cidr),
    blockSize: spec.blockSize,
    disabled: spec.disabled,
    manual: spec.assignmentMode === 'Manual',
    uses: spec.allowedUses,
    nodeSelector: spec.nodeSelector,
    namespaceSelector: spec.namespaceSelector ?? null,
  };
}

export interface PoolQuery {
  readonly family: Family;
  readonly use: PoolUse;
  readonly nodeLabels: Labels;
  readonly namespaceLabels: Labels;
  /** Names or CIDRs; null = every pool that the selectors let through. */
  readonly asked: readonly string[] | null;
}

/** In the order asked for, else by name. Throws `invalid-argument` when a pool asked for is unknown or cannot be used. */
export function usablePools(pools: readonly Pool[], query: PoolQuery, matches: SelectorMatch): Pool[] {
  const { family, use } = query;
  if (query.asked === null) {
    return pools
      .filter(
        (pool) =>
          pool.cidr.family === family &&
          !pool.disabled &&
          !pool.manual &&
          pool.uses.includes(use) &&
          matches(pool.nodeSelector, query.nodeLabels) &&
          (pool.namespaceSelector === null || matches(pool.namespaceSelector, query.namespaceLabels)),
      )
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }
  return query.asked.map((text) => {
    const pool = pools.find((p) => p.name === text || p.cidr.toString() === text);
    const refuse = (reason: string, remedy: string): BrindleError =>
      new BrindleError('invalid-argument', `pool ${text} ${reason}`, { remedy });
    if (!pool) throw refuse('does not exist', `there are: ${pools.map((p) => p.name).join(', ') || 'none'}`);
    if (pool.cidr.family !== family) throw refuse(`is not an IPv${family} pool`, 'name it under the other family');
    if (pool.disabled) throw refuse('is disabled', 'enable it or name another');
    if (!pool.uses.includes(use)) throw refuse(`is not for ${use}`, 'see its allowedUses');
    return pool;
  });
}
