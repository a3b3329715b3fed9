// A rendered chain: what the kernel gets, and what each rule is counted as.
import type { BaseChain, Rule, Statement } from '#nft/objects.ts';
import { makeRule } from '#nft/rule.ts';
import type { Direction } from './names.ts';

/** What the counter of a rule counts. */
export type RuleLabel =
  | { readonly type: 'policy'; readonly policy: string; readonly direction: Direction; readonly index: number }
  /** The end of a tier that denies. */
  | { readonly type: 'tier-default'; readonly endpoint: string; readonly direction: Direction; readonly tier: string }
  /** No profile allowed it: the end of every direction. */
  | { readonly type: 'no-profile'; readonly endpoint: string; readonly direction: Direction }
  /** Closed because a part is missing or was refused by the kernel. */
  | { readonly type: 'fail-closed'; readonly of: string; readonly direction: Direction; readonly reason: string }
  | { readonly type: 'base'; readonly name: BaseCounter };

export type BaseCounter = 'spoofed' | 'invalid' | 'unknown-interface' | 'to-host' | 'failsafe' | 'nat-outgoing';

export interface LabelledRule {
  readonly rule: Rule;
  /** Null for rules that only steer: jumps and marks. */
  readonly label: RuleLabel | null;
}

export interface RenderedChain {
  readonly name: string;
  readonly base: BaseChain | null;
  readonly rules: readonly LabelledRule[];
  /** Equal for equal content; what the kernel has is compared by it. */
  readonly signature: string;
}

export function renderedChain(
  name: string,
  rules: readonly LabelledRule[],
  base: BaseChain | null = null,
): RenderedChain {
  return {
    name,
    base,
    rules,
    signature: chainSignature(
      base,
      rules.map((r) => r.rule.comment),
    ),
  };
}

export function chainSignature(base: BaseChain | null, comments: readonly string[]): string {
  return `${base ? `${base.type} ${base.hook} ${base.priority}` : ''}\n${comments.join('\n')}`;
}

export function labelledRule(label: RuleLabel, statements: readonly Statement[]): LabelledRule {
  return { rule: makeRule(labelText(label), statements), label };
}

/** A rule that only steers; `note` says where to. */
export function steeringRule(note: string, statements: readonly Statement[]): LabelledRule {
  return { rule: makeRule(note, statements), label: null };
}

export function labelText(label: RuleLabel): string {
  switch (label.type) {
    case 'policy':
      return `${label.policy} ${label.direction} ${label.index}`;
    case 'tier-default':
      return `${label.endpoint} ${label.direction} tier ${label.tier} default`;
    case 'no-profile':
      return `${label.endpoint} ${label.direction} no profile allows`;
    case 'fail-closed':
      return `${label.of} ${label.direction} closed: ${label.reason}`;
    case 'base':
      return label.name;
  }
}
