// The decision about one flow: whether it is allowed, and why. In: a World and a Flow. Out: a verdict and, for each side that is an
// endpoint of ours, its own verdict and trace. Pure; written from the semantics alone and independent of what renders them for the
// kernel, so that each can check the other.
// Rules (Calico): docs/reference/policy.md. For each direction: tiers in order; in a tier its policies in order; in a policy its
// rules in order. Allow and Deny decide, Pass goes to the next tier, Log goes on. A tier with a policy here that did not decide does its default
// action; one whose policies are all staged passes. After the last tier the profiles; after them Deny. A missing profile denies.
// Host endpoints: failsafe ports first; then untracked, then (inwards) pre-DNAT policies, whose tiers end in Pass and whose Allow
// is final for the host endpoint; then normal policies for the host's own traffic, or applyOnForward ones for what it forwards, which is
// allowed where there are none.
import type { Direction } from '../policy.ts';
import type { Endpoint, Stage } from '../world/endpoint.ts';
import type { Packet } from '../world/matcher.ts';
import type { RuleList } from '../world/rule-list.ts';
import { frontendKey, type World } from '../world/world.ts';
import { isFailsafe } from './failsafe.ts';
import type { Flow } from './flow.ts';
import { type Party, type Route, routeOf } from './route.ts';
import { describePacket, explainMatch, explainMismatch, type TraceStep } from './trace.ts';

export type Verdict = 'allow' | 'deny';

export interface Side {
  readonly verdict: Verdict;
  /** Worked out each time it is read and not kept: it has a step for every rule that was asked. */
  readonly trace: readonly TraceStep[];
}

export interface FlowResult {
  readonly verdict: Verdict;
  /** null: the source is no endpoint of ours. */
  readonly egress: Side | null;
  /** null: the destination is no endpoint of ours. */
  readonly ingress: Side | null;
}

/**
 * Both directions are always decided. A flow to a service's own address is decided as kube-proxy sends it on, to the service's
 * backends, and is allowed only when it is for every one of them. Throws `invalid-argument` when the flow names somebody the world
 * does not know.
 */
export function evaluate(world: World, flow: Flow): FlowResult {
  const frontend = 'ip' in flow.to ? world.frontends.get(frontendKey(flow.to.ip, flow.protocol, flow.port)) : undefined;
  if (!frontend || frontend.backends.length === 0) return decide(world, flow, null);
  const via = `sent on by service ${frontend.service}`;
  const results = frontend.backends.map(({ address, port }) =>
    decide(world, { ...flow, to: { ip: address }, port }, `${via} to ${address} port ${port}`),
  );
  return results.find(({ verdict }) => verdict === 'deny') ?? results[0]!;
}

/** `via`: how the packet came to be addressed so, when the sender did not; null when it did. */
function decide(world: World, flow: Flow, via: string | null): FlowResult {
  const route = routeOf(world, flow);
  if ('reason' in route) {
    const impossible = (direction: Direction, endpoint: Endpoint | null): Side | null =>
      endpoint && {
        verdict: 'deny',
        trace: [{ ...blank(direction, endpoint), action: 'Deny', matched: true, reason: route.reason }],
      };
    return {
      verdict: 'deny',
      egress: impossible('egress', route.source),
      ingress: impossible('ingress', route.destination),
    };
  }
  const side = (direction: Direction, { endpoint }: Party): Side | null => {
    if (!endpoint) return null;
    const verdict = decideSide(world, route, direction, via, null);
    return {
      verdict,
      get trace(): readonly TraceStep[] {
        const trace: TraceStep[] = via === null ? [] : [{ ...blank(direction, endpoint), reason: via }];
        decideSide(world, route, direction, via, trace);
        return trace;
      },
    };
  };
  const egress = side('egress', route.source);
  const ingress = side('ingress', route.destination);
  const denied = egress?.verdict === 'deny' || ingress?.verdict === 'deny';
  return { verdict: denied ? 'deny' : 'allow', egress, ingress };
}

function blank(direction: Direction, endpoint: Endpoint): TraceStep {
  return {
    direction,
    endpoint: endpoint.data.id,
    tier: null,
    policy: null,
    profile: null,
    rule: null,
    action: null,
    matched: false,
    reason: '',
  };
}

/** One walk over what applies to one side; writes its steps to `trace` when there is one. */
class Walk {
  readonly world: World;
  readonly packet: Packet;
  readonly direction: Direction;
  readonly trace: TraceStep[] | null;

  constructor(world: World, packet: Packet, direction: Direction, trace: TraceStep[] | null) {
    this.world = world;
    this.packet = packet;
    this.direction = direction;
    this.trace = trace;
  }

  note(endpoint: Endpoint, step: Partial<TraceStep>): void {
    this.trace?.push({ ...blank(this.direction, endpoint), ...step });
  }

  /** Notes a decision that no rule made. */
  decide(endpoint: Endpoint, verdict: Verdict, reason: string): Verdict {
    if (this.trace) this.note(endpoint, { action: verdict === 'allow' ? 'Allow' : 'Deny', matched: true, reason });
    return verdict;
  }

  /** What the rules say; null when none decided. */
  rules(
    endpoint: Endpoint,
    list: RuleList,
    origin: Pick<TraceStep, 'tier' | 'policy' | 'profile'>,
  ): Verdict | 'pass' | null {
    if (!this.trace) return (list.decide(this.packet)?.action as Verdict | 'pass' | undefined) ?? null;
    for (const matcher of list.matchers) {
      const { rule } = matcher;
      const mismatch = matcher.mismatch(this.packet);
      this.note(endpoint, {
        ...origin,
        rule: rule.index,
        action: SHOWN[rule.action],
        matched: mismatch === null,
        reason: mismatch === null ? explainMatch(rule) : explainMismatch(rule, mismatch, this.packet),
      });
      if (mismatch === null && rule.action !== 'log') return rule.action;
    }
    return null;
  }

  /** Through the tiers. `pass`: the last tier passed, or none applies. `applies`: whether a tier had a say. */
  tiers(endpoint: Endpoint, stage: Stage): { verdict: Verdict | 'pass'; applies: boolean } {
    let applies = false;
    for (const { tier, policies } of endpoint.applied(this.direction, stage)) {
      let enforced = false;
      let outcome: Verdict | 'pass' | null = null;
      for (const { data, rules } of policies) {
        const origin = { tier: tier.name, policy: data.id, profile: null };
        if (data.staged) {
          if (this.trace) this.note(endpoint, { ...origin, reason: 'staged: counted, not enforced' });
          continue;
        }
        enforced = true;
        const list = rules[this.direction];
        outcome = list && this.rules(endpoint, list, origin);
        if (outcome !== null) break;
      }
      applies ||= enforced;
      if (outcome === 'allow' || outcome === 'deny') return { verdict: outcome, applies };
      if (outcome === 'pass') continue;
      const end = this.#endOfTier(tier, enforced, stage);
      if (this.trace) {
        this.note(endpoint, {
          tier: tier.name,
          action: end.action === 'deny' ? 'Deny' : 'Pass',
          matched: true,
          reason: end.reason,
        });
      }
      if (end.action === 'deny') return { verdict: 'deny', applies };
    }
    return { verdict: 'pass', applies };
  }

  #endOfTier(
    tier: { defaultAction: 'deny' | 'pass'; missing: boolean },
    enforced: boolean,
    stage: Stage,
  ): { action: 'deny' | 'pass'; reason: string } {
    if (!enforced) return { action: 'pass', reason: 'end of the tier: all its policies here are staged' };
    if (stage === 'untracked' || stage === 'pre-dnat') {
      return { action: 'pass', reason: `end of the tier: ${stage} policies decide only what their rules match` };
    }
    const missing = tier.missing ? ' (there is no such Tier)' : '';
    return { action: tier.defaultAction, reason: `end of the tier: no rule decided, its default action${missing}` };
  }

  /** The profiles in order, then Deny. */
  profiles(endpoint: Endpoint): Verdict {
    for (const name of endpoint.data.profiles) {
      const profile = this.world.profiles.get(name);
      if (!profile) {
        if (this.trace) {
          const reason = 'there is no such Profile, which denies everything';
          this.note(endpoint, { profile: name, action: 'Deny', matched: true, reason });
        }
        return 'deny';
      }
      const outcome = this.rules(endpoint, profile.rules[this.direction], { tier: null, policy: null, profile: name });
      if (outcome === 'allow' || outcome === 'deny') return outcome;
    }
    return this.decide(endpoint, 'deny', 'no tier and no profile allowed it');
  }

  /** A workload's own policies, or those of a host endpoint for the host's own traffic. */
  normal(endpoint: Endpoint): Verdict {
    const { verdict } = this.tiers(endpoint, 'normal');
    return verdict === 'pass' ? this.profiles(endpoint) : verdict;
  }

  /** What comes before the filter at a host endpoint. null: not decided. */
  early(endpoint: Endpoint, forwarded: boolean): Verdict | null {
    // Outwards, packets that are forwarded never meet the untracked policies of the interface they leave by.
    const stages: Stage[] = this.direction === 'ingress' ? ['untracked', 'pre-dnat'] : ['untracked'];
    if (forwarded && this.direction === 'egress') return null;
    for (const stage of stages) {
      const { verdict } = this.tiers(endpoint, stage);
      if (verdict !== 'pass') return verdict;
    }
    return null;
  }

  /** A host endpoint for the host's own traffic. */
  host(endpoint: Endpoint): Verdict {
    if (isFailsafe(this.packet, this.direction)) {
      return this.decide(endpoint, 'allow', `failsafe port: ${describePacket(this.packet)}`);
    }
    return this.early(endpoint, false) ?? this.normal(endpoint);
  }

  /** A host endpoint for traffic that the host forwards to or from a workload. */
  forwarded(endpoint: Endpoint): Verdict {
    const early = isFailsafe(this.packet, this.direction) ? null : this.early(endpoint, true);
    if (early !== null) return early;
    const { verdict, applies } = this.tiers(endpoint, 'forward');
    if (verdict === 'pass' && !applies) {
      return this.decide(endpoint, 'allow', 'forwarded traffic, and no applyOnForward policy applies');
    }
    return verdict === 'pass' ? this.decide(endpoint, 'allow', 'forwarded traffic, and every tier passed') : verdict;
  }
}

function isSameAddress({ source, destination }: Packet): boolean {
  return source.address.equals(destination.address) && !source.address.isUnspecified();
}

const SHOWN = { allow: 'Allow', deny: 'Deny', pass: 'Pass', log: 'Log' } as const;

function decideSide(
  world: World,
  route: Route,
  direction: Direction,
  via: string | null,
  trace: TraceStep[] | null,
): Verdict {
  const { source, destination, packet } = route;
  const walk = new Walk(world, packet, direction, trace);
  const [own, other] = direction === 'egress' ? [source, destination] : [destination, source];
  const endpoint = own.endpoint!;
  const sameNode = own.nodes.some((node) => other.nodes.includes(node));
  // Only by its own address: through a service back to itself an endpoint is under its policies.
  if (via === null && (endpoint === other.endpoint || isSameAddress(packet))) {
    return walk.decide(endpoint, 'allow', 'an endpoint always reaches itself');
  }
  if (endpoint.data.kind === 'host') {
    if (sameNode && other.endpoint?.data.kind === 'workload') {
      return walk.decide(endpoint, 'allow', 'host endpoint policy does not apply between a host and its own workloads');
    }
    if (sameNode) return walk.decide(endpoint, 'allow', 'a host always reaches itself');
    return walk.host(endpoint);
  }
  const otherIsHost = other.endpoint?.data.kind !== 'workload';
  if (direction === 'ingress' && sameNode && otherIsHost) {
    return walk.decide(endpoint, 'allow', "traffic from the pod's own node is always allowed");
  }
  const gate = sameNode ? undefined : world.gates.get(own.nodes[0] ?? '');
  // Inwards the host comes first, outwards last; the side is denied where either denies.
  if (direction === 'ingress' && gate && walk.forwarded(gate) === 'deny') return 'deny';
  const verdict = walk.normal(endpoint);
  if (direction === 'egress' && gate && verdict === 'allow') return walk.forwarded(gate);
  return verdict;
}
