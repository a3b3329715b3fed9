// The evaluator's rung: every scenario of test/scenarios, every step, every expectation.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseResource } from '#model/registry.ts';
import { Problems } from '#model/problems.ts';
import { loadScenarios } from '../../test/support/scenarios.ts';
import { evaluate } from './evaluate/evaluate.ts';
import { parseFlow } from './evaluate/flow.ts';
import { buildWorld } from './world/world.ts';

for (const scenario of loadScenarios()) {
  describe(`${scenario.file}: ${scenario.name}`, () => {
    for (const step of scenario.steps) {
      it(step.name, () => {
        const world = buildWorld(step.resources.map((resource) => parseResource(resource)));
        assert.ok(step.expectations.length > 0, 'the step expects nothing');
        for (const expected of step.expectations) {
          const problems = new Problems();
          const flow = parseFlow(expected.flow, 'flow', problems);
          assert.ok(flow, JSON.stringify(problems.list));
          const result = evaluate(world, flow);
          const shown = (): string =>
            `${JSON.stringify(expected.flow)}\n${[result.egress, result.ingress]
              .flatMap((side) => side?.trace ?? [])
              .map(
                (t) =>
                  `  ${t.direction} ${t.policy ?? t.profile ?? t.tier} ${t.rule ?? ''} ${t.action} ${t.matched} ${t.reason}`,
              )
              .join('\n')}`;
          assert.equal(result.verdict, expected.verdict, shown());
          for (const side of ['egress', 'ingress'] as const) {
            if (expected[side] !== undefined)
              assert.equal(result[side]?.verdict ?? null, expected[side], `${side} of ${shown()}`);
          }
          // The verdict is decided without a trace; the trace must end in the same decision.
          for (const side of [result.egress, result.ingress]) {
            const last = side?.trace.at(-1);
            if (side) assert.equal(last?.action, side.verdict === 'allow' ? 'Allow' : 'Deny', shown());
            if (side) assert.equal(last?.matched, true, shown());
          }
        }
      });
    }
  });
}
