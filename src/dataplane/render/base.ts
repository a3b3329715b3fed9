// The fixed part of the table: hooks, anti-spoofing, conntrack, dispatch.
//
// Each direction of policy has a base chain of its own. In nftables `accept` ends only the base chain it is met in, so a policy can
// say Allow with a plain `accept`: the packet goes on to the next base chain of the hook. No marks, no checks after each policy.
//
//   prerouting  spoof check (IPv6 before conntrack; IPv4 there is strict rp_filter, and the same check for new connections below)
//   forward     forward-from: iifname -> egress chain of the source; then forward-to: oifname -> ingress chain of the destination
//   input       workload-to-host: egress chain; then what the operator says about workloads talking to their host
//   output      nothing: a host may always talk to its own workloads
//
// A workload interface that is in no map is dropped, in both directions.
import type { BaseChain, SetSpec, Statement } from '#nft/objects.ts';
import { type LabelledRule, labelledRule, type RenderedChain, renderedChain, steeringRule } from './chain.ts';
import type { RenderOptions } from './options.ts';

/** iifname -> chain `from/...` */
export const DISPATCH_FROM: SetSpec = { name: 'dispatch-from', key: ['interface'], verdicts: true };
/** oifname -> chain `to/...` */
export const DISPATCH_TO: SetSpec = { name: 'dispatch-to', key: ['interface'], verdicts: true };

const RAW = -300;
/** Just before the hosts' own filters (0), egress before ingress. */
const FORWARD_FROM = -10;
const FORWARD_TO = -9;
const INPUT = -10;
const INPUT_AFTER = -9;

/** ICMPv6 that a link needs to work (RFC 4861, RFC 2710, RFC 3810): it never leaves the link. */
export const LINK_ICMPV6 = [130, 131, 132, 133, 135, 136, 143];

export function baseChains(options: RenderOptions): RenderedChain[] {
  const chains = [
    renderedChain('prerouting-spoof', options.workloadPrefixes.map(spoofRule), filter('prerouting', RAW)),
    renderedChain('from-workload', [...conntrack(), spoofedNew(), dispatch('in'), unknown()]),
    renderedChain('to-workload', [...conntrack(), dispatch('out'), unknown()]),
    renderedChain('workload-to-host', [...conntrack(), linkLocal(), spoofedNew(), dispatch('in'), unknown()]),
    renderedChain('forward-from', steer(options, 'in', 'from-workload'), filter('forward', FORWARD_FROM)),
    renderedChain('forward-to', steer(options, 'out', 'to-workload'), filter('forward', FORWARD_TO)),
    renderedChain('input-from', steer(options, 'in', 'workload-to-host'), filter('input', INPUT)),
  ];
  if (options.endpointToHostAction === 'drop') {
    const rules = options.workloadPrefixes.flatMap((prefix) => [
      steeringRule('answers to the host', [
        from(prefix),
        { type: 'ct-state', states: ['established', 'related'] },
        accept,
      ]),
      steeringRule('link', [from(prefix), { type: 'icmp-types', family: 6, icmpTypes: LINK_ICMPV6 }, accept]),
      labelledRule({ type: 'base', name: 'to-host' }, [from(prefix), { type: 'counter' }, { type: 'drop' }]),
    ]);
    chains.push(renderedChain('input-to-host', rules, filter('input', INPUT_AFTER)));
  }
  return chains;
}

const accept: Statement = { type: 'accept' };

function filter(hook: BaseChain['hook'], priority: number): BaseChain {
  return { type: 'filter', hook, priority };
}

function from(prefix: string): Statement {
  return { type: 'interface', direction: 'in', name: `${prefix}*` };
}

function steer(options: RenderOptions, direction: 'in' | 'out', chain: string): LabelledRule[] {
  return options.workloadPrefixes.map((prefix) =>
    steeringRule(`${prefix} interfaces`, [
      { type: 'interface', direction, name: `${prefix}*` },
      { type: 'goto', chain },
    ]),
  );
}

function spoofRule(prefix: string): LabelledRule {
  return labelledRule({ type: 'base', name: 'spoofed' }, [
    { type: 'family', family: 6 },
    from(prefix),
    { type: 'reverse-path-missing' },
    { type: 'counter' },
    { type: 'drop' },
  ]);
}

/** IPv4, and only for packets of no known connection: strict rp_filter has looked at each of them already. */
function spoofedNew(): LabelledRule {
  return labelledRule({ type: 'base', name: 'spoofed' }, [
    { type: 'family', family: 4 },
    { type: 'reverse-path-missing' },
    { type: 'counter' },
    { type: 'drop' },
  ]);
}

function conntrack(): LabelledRule[] {
  return [
    steeringRule('known connections', [
      {
        type: 'ct-state-verdicts',
        verdicts: [
          ['established', 'accept'],
          ['related', 'accept'],
        ],
      },
    ]),
    labelledRule({ type: 'base', name: 'invalid' }, [
      { type: 'ct-state', states: ['invalid'] },
      { type: 'counter' },
      { type: 'drop' },
    ]),
  ];
}

function linkLocal(): LabelledRule {
  return steeringRule('link', [{ type: 'icmp-types', family: 6, icmpTypes: LINK_ICMPV6 }, accept]);
}

function dispatch(direction: 'in' | 'out'): LabelledRule {
  const map = direction === 'in' ? DISPATCH_FROM.name : DISPATCH_TO.name;
  return steeringRule('endpoint', [{ type: 'interface-verdicts', direction, map }]);
}

function unknown(): LabelledRule {
  return labelledRule({ type: 'base', name: 'unknown-interface' }, [{ type: 'counter' }, { type: 'drop' }]);
}
