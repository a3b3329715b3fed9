// A policy to its two chains, shared by all endpoints that it selects.
//   Allow  accept: ends this direction      Deny  drop
//   Pass   sets the pass bit and returns; the endpoint's tier chain looks at the bit and clears it
//   Log    writes and goes on               no match: falls off the end, back to the endpoint's list
// An untracked policy allows by `notrack`, a pre-DNAT one by a mark bit: the chains of the filter let both pass.
// A staged policy only counts: the first rule that matches returns.
import type { AbstractRule, DesiredPolicy } from '#model/desired.ts';
import { LOG_PREFIX_MAX } from '#nft/format.ts';
import type { Statement } from '#nft/objects.ts';
import { type LabelledRule, labelledRule, type RenderedChain, renderedChain } from './chain.ts';
import { type Direction, policyChainName } from './names.ts';
import { type MarkBits, markBits, type RenderOptions } from './options.ts';
import { ruleMatches, type SetKinds } from './rule.ts';

/** What endpoint chains need to know of a policy. They are rendered anew only when it changes. */
export interface PolicyShape {
  readonly staged: boolean;
  readonly ingress: DirectionShape;
  readonly egress: DirectionShape;
}

export interface DirectionShape {
  /** No chain: nothing can match. */
  readonly empty: boolean;
  /** Some rule says Pass. */
  readonly passes: boolean;
}

/** Throws `invalid-argument` or `not-found` when a rule cannot be rendered. */
export function renderPolicy(
  policy: DesiredPolicy,
  direction: Direction,
  kinds: SetKinds,
  options: RenderOptions,
): RenderedChain {
  const marks = markBits(options.markMask);
  const rules = policy[direction].flatMap((rule) => renderRule(policy, direction, rule, kinds, options, marks));
  return renderedChain(policyChainName(policy.id, direction), rules);
}

/** The chain of a policy that cannot be in force as written: whatever reaches it is dropped. */
export function renderClosedPolicy(id: string, direction: Direction, reason: string): RenderedChain {
  const rule = labelledRule({ type: 'fail-closed', of: id, direction, reason }, [
    { type: 'counter' },
    { type: 'drop' },
  ]);
  return renderedChain(policyChainName(id, direction), [rule]);
}

export function shapeOf(policy: DesiredPolicy): PolicyShape {
  const shape = (rules: readonly AbstractRule[]): DirectionShape => ({
    empty: rules.length === 0,
    passes: !policy.staged && rules.some((r) => r.action === 'pass'),
  });
  return { staged: policy.staged ?? false, ingress: shape(policy.ingress), egress: shape(policy.egress) };
}

export function sameShape(a: PolicyShape | null, b: PolicyShape | null): boolean {
  if (!a || !b) return a === b;
  const same = (x: DirectionShape, y: DirectionShape) => x.empty === y.empty && x.passes === y.passes;
  return a.staged === b.staged && same(a.ingress, b.ingress) && same(a.egress, b.egress);
}

function renderRule(
  policy: DesiredPolicy,
  direction: Direction,
  rule: AbstractRule,
  kinds: SetKinds,
  options: RenderOptions,
  marks: MarkBits,
): LabelledRule[] {
  const label = { type: 'policy', policy: policy.id, direction, index: rule.index } as const;
  const end = policy.staged ? stagedEnd(rule) : ending(policy, direction, rule, options, marks);
  return ruleMatches(rule, kinds).map((matches) => labelledRule(label, [...matches, { type: 'counter' }, ...end]));
}

function ending(
  policy: DesiredPolicy,
  direction: Direction,
  rule: AbstractRule,
  options: RenderOptions,
  marks: MarkBits,
): Statement[] {
  switch (rule.action) {
    case 'allow':
      if (policy.untracked) return [{ type: 'notrack' }, { type: 'accept' }];
      if (policy.preDnat) return [{ type: 'set-mark', mask: marks.allowed, value: marks.allowed }, { type: 'accept' }];
      return [{ type: 'accept' }];
    case 'deny':
      return [{ type: 'drop' }];
    case 'pass':
      return [{ type: 'set-mark', mask: marks.pass, value: marks.pass }, { type: 'return' }];
    case 'log':
      return [
        ...(options.logLimit ? [{ type: 'limit', ...options.logLimit } as const] : []),
        { type: 'log', prefix: logPrefix(policy.id, direction, rule.index) },
      ];
  }
}

function stagedEnd(rule: AbstractRule): Statement[] {
  return rule.action === 'log' ? [] : [{ type: 'return' }];
}

/** `brindle NetworkPolicy/ns/name ingress 3: `, the id cut in front where it is too long. */
function logPrefix(id: string, direction: Direction, index: number): string {
  const tail = ` ${direction} ${index}: `;
  const head = 'brindle ';
  const safe = id.replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, '?');
  const room = LOG_PREFIX_MAX - head.length - tail.length;
  return `${head}${safe.length > room ? safe.slice(safe.length - room) : safe}${tail}`;
}
