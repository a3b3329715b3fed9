// What the operator may choose about the rendered table.
import { BrindleError } from '#base/errors.ts';

export interface RenderOptions {
  /** Name of our table. */
  readonly table: string;
  /** Interfaces whose name begins with one of these are workloads'; unknown ones are closed. */
  readonly workloadPrefixes: readonly string[];
  /** The bits of the packet mark that are ours: 8 adjacent bits or more. */
  readonly markMask: number;
  /** What happens to a workload's packet to its own host that egress policy allowed. Source: ecosystem rule 2.1.7. */
  readonly endpointToHostAction: 'accept' | 'drop';
  /** Limit of what `Log` rules write, for each rule; null for no limit. */
  readonly logLimit: { readonly perSecond: number; readonly burst: number } | null;
}

export const defaultRenderOptions: RenderOptions = {
  table: 'brindle',
  workloadPrefixes: ['cali'],
  markMask: 0x00ff0000,
  endpointToHostAction: 'accept',
  logLimit: { perSecond: 10, burst: 20 },
};

export interface MarkBits {
  /** A rule said Pass; cleared again by the tier that sees it. */
  readonly pass: number;
}

/** Throws `invalid-argument` when the mask has no room. */
export function markBits(mask: number): MarkBits {
  const pass = (mask & -mask) >>> 0;
  if (!Number.isInteger(mask) || mask < 1 || mask > 0xffff_ffff) {
    throw new BrindleError('invalid-argument', `mark mask ${mask} is not a 32-bit mask`, {
      remedy: 'give 8 adjacent bits, such as 0x00ff0000',
    });
  }
  return { pass };
}
