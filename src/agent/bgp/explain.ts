// Why a route of this host is not announced, where the speaker cannot know: it was never given the route. Pure.
// In: the speaker's answers, the host's blocks. Out: the answers, with the reason that the resources give.
import type { ExplainView } from '#bgp/speaker/api.ts';
import { Prefix } from '#net/prefix.ts';
import type { BgpResources } from './hosts.ts';
import { isAnnounced, type OwnBlock } from './own-routes.ts';

/** What the speaker says of a prefix that it has no path to. */
const UNKNOWN = 'no path to this prefix is known';

export function explainOwn(
  answers: readonly ExplainView[],
  resources: BgpResources,
  blocks: readonly OwnBlock[],
): readonly ExplainView[] {
  return answers.map((answer) => {
    if (answer.advertised || answer.reason !== UNKNOWN) return answer;
    const reason = reasonFor(Prefix.parseOrHost(answer.prefix), resources, blocks);
    return reason === null ? answer : { ...answer, reason };
  });
}

function reasonFor(prefix: Prefix, resources: BgpResources, blocks: readonly OwnBlock[]): string | null {
  const block = blocks.find((candidate) => Prefix.parse(candidate.cidr).covers(prefix));
  if (block) {
    if (!isAnnounced(block, resources)) {
      const which = Prefix.parse(block.cidr).equals(prefix) ? 'this block' : `the block ${block.cidr} around it`;
      return `${which} is of IPPool ${block.pool}, which has disableBGPExport`;
    }
    return `addresses of this host are announced as their block ${block.cidr}, not one by one`;
  }
  const pool = resources.pools.find(({ spec }) => Prefix.parse(spec.cidr).covers(prefix));
  if (pool) return `inside IPPool ${pool.metadata.name}, but no host that we know of has announced it`;
  const aggregate = resources.aggregates.find(({ spec }) => Prefix.parse(spec.cidr).equals(prefix));
  if (aggregate) {
    return `BGPAggregate ${aggregate.metadata.name} is not announced here: this host is not selected, or has no block inside`;
  }
  return null;
}
