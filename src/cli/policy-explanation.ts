// What policy does to one flow, with what the kernel has counted. Pure.
// In: the evaluator's result, the counters of a host. Out: steps with their counters and places in the nftables table, and where
// evaluator and kernel differ.
import type { EndpointStatus, PolicyCounter } from '#agent/api/types.ts';
import type { FlowResult } from '#policy/evaluate/evaluate.ts';
import type { TraceStep } from '#policy/evaluate/trace.ts';

export interface ExplainedStep extends TraceStep {
  /** Where the rule stands in the kernel of the host asked; empty for an endpoint of another host. */
  readonly kernel: readonly { readonly chain: string; readonly position: number }[];
  /** What its kernel rules have counted together; null for an endpoint of another host. */
  readonly packets: number | null;
  readonly bytes: number | null;
}

export interface Explanation {
  readonly verdict: FlowResult['verdict'];
  readonly egress: { readonly verdict: string; readonly trace: readonly ExplainedStep[] } | null;
  readonly ingress: { readonly verdict: string; readonly trace: readonly ExplainedStep[] } | null;
  /** Where the kernel is not as the evaluator thinks; empty when they agree. */
  readonly differences: readonly string[];
}

/** `local`: endpoints of the host that counted, by `keyText` of the WorkloadEndpoint or by pod. */
export function explain(
  result: FlowResult,
  counters: readonly PolicyCounter[],
  endpoints: readonly EndpointStatus[],
  localId: (endpoint: string) => string | null,
): Explanation {
  const differences: string[] = [];
  const side = (which: 'egress' | 'ingress'): Explanation['egress'] => {
    const decided = result[which];
    if (!decided) return null;
    const trace = decided.trace.map((step): ExplainedStep => {
      const id = localId(step.endpoint);
      if (id === null) return { ...step, kernel: [], packets: null, bytes: null };
      const found = counters.filter((counter) => standsFor(counter, step, id));
      if (step.rule !== null && found.length === 0) {
        differences.push(
          `${step.policy ?? `profile ${step.profile}`}, ${which} rule ${step.rule}: the kernel has no such rule`,
        );
      }
      return {
        ...step,
        kernel: found.map(({ chain, position }) => ({ chain, position })),
        packets: sum(found.map((c) => c.packets)),
        bytes: sum(found.map((c) => c.bytes)),
      };
    });
    const id = localId(decided.trace[0]?.endpoint ?? '');
    const status = endpoints.find((endpoint) => endpoint.id === id);
    if (status && status.policy !== 'applied') {
      differences.push(
        `endpoint ${status.id}: its policy is ${status.policy}${status.reason ? `: ${status.reason}` : ''}; it is closed`,
      );
    }
    return { verdict: decided.verdict, trace };
  };
  const egress = side('egress');
  const ingress = side('ingress');
  return { verdict: result.verdict, egress, ingress, differences };
}

function standsFor(counter: PolicyCounter, step: TraceStep, endpoint: string): boolean {
  if (counter.direction !== step.direction) return false;
  if (counter.type === 'policy') {
    const id = step.policy ?? (step.profile === null ? null : `Profile/${step.profile}`);
    return step.rule !== null && counter.policy === id && counter.rule === step.rule;
  }
  if (step.rule !== null || counter.endpoint !== endpoint) return false;
  if (counter.type === 'tier-default') return step.tier !== null && counter.tier === step.tier && step.policy === null;
  return counter.type === 'no-profile' && step.tier === null && step.profile === null && step.action === 'Deny';
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
