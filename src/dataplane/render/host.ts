// Host endpoints: the host's own interfaces. Nothing of this stands in the kernel while there is no host endpoint.
//
//   prerouting -300  untracked, ingress     output -300  untracked, egress: before conntrack; Allow is `notrack`
//   prerouting -150  pre-DNAT, ingress      after conntrack, before destination NAT; Allow sets the mark bit `allowed`
//   input, output    normal policies, then profiles, then drop
//   forward          policies with applyOnForward, ingress before the workloads' egress, egress after their ingress; else let go
//
// Failsafe ports come first at every place but the last. Host interfaces are few, so they are told apart by rules, not by a map; the
// endpoint `*` has all that have none of their own. Loopback and the workloads' interfaces are never governed.
// Source: docs/reference/policy.md, host endpoints.
import type { DesiredEndpoint, EndpointTier } from '#model/desired.ts';
import type { BaseChain, Hook, Statement } from '#nft/objects.ts';
import { LINK_ICMPV6 } from './base.ts';
import { type LabelledRule, labelledRule, type RenderedChain, renderedChain, steeringRule } from './chain.ts';
import { type PolicyShapes, renderPlace } from './endpoint.ts';
import { type Direction, hostChainName } from './names.ts';
import { type FailsafePorts, markBits, type RenderOptions } from './options.ts';

type PlaceName = 'untracked-in' | 'untracked-out' | 'prednat' | 'input' | 'output' | 'forward-in' | 'forward-out';

interface PlaceSpec {
  readonly name: PlaceName;
  readonly direction: Direction;
  readonly hook: Hook;
  readonly priority: number;
  readonly tiers: (endpoint: DesiredEndpoint) => readonly EndpointTier[];
  /** Where the host's own traffic ends. */
  readonly isFinal: boolean;
  readonly failsafe: boolean;
  readonly tracked: boolean;
}

const ENDS_IN_PASS = (tiers: readonly EndpointTier[] = []): EndpointTier[] =>
  tiers.map((tier) => ({ ...tier, defaultAction: 'pass' }));
const UNTRACKED = { priority: -300, isFinal: false, failsafe: true, tracked: false } as const;
const FINAL = { isFinal: true, failsafe: true, tracked: true } as const;
const FORWARD = { hook: 'forward', isFinal: false, failsafe: false, tracked: true } as const;

const PLACES: readonly PlaceSpec[] = [
  {
    ...UNTRACKED,
    name: 'untracked-in',
    direction: 'ingress',
    hook: 'prerouting',
    tiers: (e) => ENDS_IN_PASS(e.host?.untracked),
  },
  {
    ...UNTRACKED,
    name: 'untracked-out',
    direction: 'egress',
    hook: 'output',
    tiers: (e) => ENDS_IN_PASS(e.host?.untracked),
  },
  {
    name: 'prednat',
    direction: 'ingress',
    hook: 'prerouting',
    priority: -150,
    tiers: (e) => ENDS_IN_PASS(e.host?.preDnat),
    isFinal: false,
    failsafe: true,
    tracked: true,
  },
  { ...FINAL, name: 'input', direction: 'ingress', hook: 'input', priority: -8, tiers: (e) => e.tiers },
  { ...FINAL, name: 'output', direction: 'egress', hook: 'output', priority: -8, tiers: (e) => e.tiers },
  { ...FORWARD, name: 'forward-in', direction: 'ingress', priority: -12, tiers: (e) => e.host?.forward ?? [] },
  { ...FORWARD, name: 'forward-out', direction: 'egress', priority: -8, tiers: (e) => e.host?.forward ?? [] },
];

const accept: Statement = { type: 'accept' };

/** All chains for these host endpoints, one an interface. */
export function renderHostEndpoints(
  endpoints: readonly DesiredEndpoint[],
  shapes: PolicyShapes,
  options: RenderOptions,
): RenderedChain[] {
  return PLACES.flatMap((place) => renderPlaceOfHost(place, endpoints, shapes, options));
}

/** The chain of a host endpoint that cannot be rendered: everything but failsafe ports is dropped. */
export function closedHostEndpoint(endpoint: DesiredEndpoint): DesiredEndpoint {
  return { ...endpoint, tiers: [], profiles: [], host: { untracked: [], preDnat: [], forward: [] } };
}

function renderPlaceOfHost(
  place: PlaceSpec,
  endpoints: readonly DesiredEndpoint[],
  shapes: PolicyShapes,
  options: RenderOptions,
): RenderedChain[] {
  const governed = endpoints.filter((e) => place.isFinal || place.tiers(e).some((t) => t[place.direction].length > 0));
  if (governed.length === 0) return [];
  const base: BaseChain = { type: 'filter', hook: place.hook, priority: place.priority };
  const own = endpoints.filter((e) => e.interfaceName !== '*');
  const rules: LabelledRule[] = [...exempt(place, options), ...beforePolicy(place, options)];
  for (const { interfaceName } of own) {
    const match: Statement = { type: 'interface', direction: wire(place), name: interfaceName };
    const isGoverned = governed.some((e) => e.interfaceName === interfaceName);
    const end: Statement = isGoverned
      ? { type: 'goto', chain: hostChainName(place.name, interfaceName) }
      : { type: 'return' };
    rules.push(steeringRule(`endpoint ${interfaceName}`, [match, end]));
  }
  if (governed.some((e) => e.interfaceName === '*')) {
    rules.push(steeringRule('endpoint *', [{ type: 'goto', chain: hostChainName(place.name, '*') }]));
  }
  const chains = governed.flatMap((endpoint) =>
    renderPlace(
      {
        endpoint: endpoint.id,
        direction: place.direction,
        chain: hostChainName(place.name, endpoint.interfaceName),
        tiers: place.tiers(endpoint),
        profiles: place.isFinal ? endpoint.profiles : null,
      },
      shapes,
      options,
    ),
  );
  return [renderedChain(`host-${place.name}`, rules, base), ...chains];
}

function wire(place: PlaceSpec): 'in' | 'out' {
  return place.direction === 'ingress' ? 'in' : 'out';
}

/** Interfaces that no host endpoint governs. */
function exempt(place: PlaceSpec, options: RenderOptions): LabelledRule[] {
  return ['lo', ...options.workloadPrefixes.map((prefix) => `${prefix}*`)].map((name) =>
    steeringRule('not a host interface', [{ type: 'interface', direction: wire(place), name }, { type: 'return' }]),
  );
}

function beforePolicy(place: PlaceSpec, options: RenderOptions): LabelledRule[] {
  const rules: LabelledRule[] = [];
  if (place.tracked) {
    const known = [['established', 'accept'] as const, ['related', 'accept'] as const];
    rules.push(steeringRule('known connections', [{ type: 'ct-state-verdicts', verdicts: known }]));
  }
  if (place.isFinal || place.hook === 'forward') {
    const { allowed } = markBits(options.markMask);
    rules.push(steeringRule('allowed untracked', [{ type: 'ct-state', states: ['untracked'] }, accept]));
    const cleared: Statement = { type: 'set-mark', mask: allowed, value: 0 };
    rules.push(steeringRule('allowed before NAT', [{ type: 'mark', mask: allowed, value: allowed }, cleared, accept]));
  } else rules.push(steeringRule('link', [{ type: 'icmp-types', family: 6, icmpTypes: LINK_ICMPV6 }, accept]));
  if (place.direction === 'ingress' && place.tracked && place.name !== 'prednat') {
    const invalid: Statement[] = [{ type: 'ct-state', states: ['invalid'] }, { type: 'counter' }, { type: 'drop' }];
    rules.push(labelledRule({ type: 'base', name: 'invalid' }, invalid));
  }
  if (place.failsafe) {
    const [there, back] = [options.failsafeInbound, options.failsafeOutbound];
    const own = place.direction === 'ingress' ? there : back;
    rules.push(...failsafe(own, 'destination'));
    // Without connection tracking the answers have to be let through as well.
    if (!place.tracked) rules.push(...failsafe(place.direction === 'ingress' ? back : there, 'source'));
  }
  return rules;
}

function failsafe(list: readonly FailsafePorts[], side: 'source' | 'destination'): LabelledRule[] {
  return list
    .filter(({ ports }) => ports.length > 0)
    .map(({ protocol, ports }) =>
      labelledRule({ type: 'base', name: 'failsafe' }, [
        { type: 'protocol', protocols: [protocol === 'tcp' ? 6 : 17] },
        { type: 'port', side, ranges: [...ports].sort((a, b) => a - b).map((port) => ({ min: port, max: port })) },
        { type: 'counter' },
        accept,
      ]),
    );
}
