// Translation on the way out: what a container of a natOutgoing pool sends to the outside gets an address of its host.
//
// The chain stands behind all filters of the hook, so policy sees the container's own address in both directions: the kernel gives
// answers their destination back before routing. A connection is decided by its first packet, so the counter counts connections,
// and a change of the pools leaves those that run as they are.
import type { Family, Statement } from '#nft/objects.ts';
import { type LabelledRule, labelledRule, type RenderedChain, renderedChain } from './chain.ts';
import type { RenderOptions } from './options.ts';

export const NAT_CHAIN = 'nat-outgoing';

/** NF_IP_PRI_NAT_SRC: where source NAT is done. */
const SOURCE_NAT = 100;

/** The kernel sets of one family. */
export interface NatSets {
  readonly family: Family;
  readonly masqueraded: string;
  readonly direct: string;
}

export function renderNat(sets: readonly NatSets[], options: RenderOptions): RenderedChain {
  const rules = sets.map((s) => rule(s, options.natAddresses[s.family]));
  return renderedChain(NAT_CHAIN, rules, { type: 'nat', hook: 'postrouting', priority: SOURCE_NAT });
}

function rule({ family, masqueraded, direct }: NatSets, address: string | null): LabelledRule {
  const translation: Statement = address === null ? { type: 'masquerade' } : { type: 'source-nat', family, address };
  return labelledRule({ type: 'base', name: 'nat-outgoing' }, [
    { type: 'family', family },
    { type: 'set', family, side: 'source', set: masqueraded },
    { type: 'set', family, side: 'destination', set: direct, not: true },
    { type: 'counter' },
    translation,
  ]);
}
