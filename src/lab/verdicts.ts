// What the policies in the lab's store say of a flow, so that the matrix can name the rule behind an answer that did
// not come. In: resources, and flows between addresses. Out: a verdict and its reason. Pure.
import { IpAddress } from '#net/address.ts';
import type { Resource } from '#model/resource.ts';
import { evaluate, type Side } from '#policy/evaluate/evaluate.ts';
import type { TraceStep } from '#policy/evaluate/trace.ts';
import { buildWorld, type World } from '#policy/world/world.ts';

export interface Reason {
  readonly allowed: boolean;
  /** Who denied, for people; '' when it is allowed. */
  readonly text: string;
}

const TCP = 6;
const ICMP = { 4: { protocol: 1, type: 8 }, 6: { protocol: 58, type: 128 } } as const;

export class Verdicts {
  readonly #world: World;

  constructor(resources: Iterable<Resource>) {
    this.#world = buildWorld(resources);
  }

  /** A TCP connection to `port`; null: an ICMP echo request. */
  of(from: string, to: string, port: number | null): Reason {
    const target = IpAddress.parse(to);
    const icmp = ICMP[target.family];
    const result = evaluate(this.#world, {
      id: null,
      from: { ip: IpAddress.parse(from) },
      to: { ip: target },
      protocol: port === null ? icmp.protocol : TCP,
      port,
      sourcePort: null,
      icmp: port === null ? { type: icmp.type, code: 0 } : null,
    });
    if (result.verdict === 'allow') return { allowed: true, text: '' };
    const texts = (['egress', 'ingress'] as const).flatMap((direction) => {
      const side = result[direction];
      return side?.verdict === 'deny' ? [denialText(direction, side)] : [];
    });
    return { allowed: false, text: texts.join(', and ') };
  }
}

function denialText(direction: 'ingress' | 'egress', side: Side): string {
  const step = side.trace.findLast(({ action, matched }) => action === 'Deny' && matched);
  const where = direction === 'ingress' ? 'at the receiver' : 'at the sender';
  if (!step) return `denied ${where}`;
  if (step.policy !== null && step.rule !== null) {
    return `${policyName(step)}, ${direction} rule ${step.rule + 1} (Deny), ${where}`;
  }
  if (step.profile !== null) return `profile ${step.profile}, ${where}`;
  const asked = new Set(
    side.trace.filter(({ tier, policy }) => tier === step.tier && policy !== null).map((other) => policyName(other)),
  );
  if (asked.size > 0) {
    return `${[...asked].join(', ')}: no ${direction} rule allows it, ${where}`;
  }
  return `${step.reason}, ${where}`;
}

/** `Kind/name` or `Kind/namespace/name`, as the store has it. */
function policyName(step: TraceStep): string {
  const [kind, ...name] = (step.policy ?? '').split('/');
  return `${kind} ${name.join('/')}`;
}
