// Evaluator against renderer: the scenarios and generated worlds go the whole way to nftables in memory, and every verdict
// has to be the evaluator's. The two share nothing after the conversion of resources.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isBrindleError } from '#base/errors.ts';
import { parseResource } from '#model/registry.ts';
import { Problems } from '#model/problems.ts';
import { type Flow, parseFlow } from '#policy/evaluate/flow.ts';
import { evaluate } from '#policy/evaluate/evaluate.ts';
import { buildWorld } from '#policy/world/world.ts';
import { randomFlow, randomWorld } from '../../test/support/random-worlds.ts';
import { RenderedWorld } from '../../test/support/rendered-world.ts';
import { loadScenarios } from '../../test/support/scenarios.ts';

function flowOf(raw: unknown): Flow {
  const problems = new Problems();
  const flow = parseFlow(raw, 'flow', problems);
  assert.ok(flow, JSON.stringify(problems.list));
  return flow;
}

describe('scenarios, rendered', () => {
  let compared = 0;
  for (const scenario of loadScenarios()) {
    // Traffic of the host itself goes other ways than these tests send it; test/kernel has it.
    if (scenario.steps.some((step) => step.resources.some((r) => r.kind === 'HostEndpoint'))) continue;
    it(`${scenario.file}: ${scenario.name}`, { skip: scenario.not['model'] ?? false }, async () => {
      for (const step of scenario.steps) {
        const world = await RenderedWorld.of(step.resources.map((resource) => parseResource(resource)));
        try {
          assert.deepEqual(world.failures, []);
          const nodes = nodeAddresses(step.resources);
          for (const expected of step.expectations) {
            const ends = [expected.flow.from, expected.flow.to];
            if (ends.some((end) => 'ip' in end && nodes.has(end.ip))) continue;
            const verdict = world.verdict(flowOf(expected.flow));
            if (verdict === null) continue;
            compared++;
            assert.equal(verdict, expected.verdict, `${step.name}: ${JSON.stringify(expected.flow)}`);
          }
        } finally {
          await world.stop();
        }
      }
    });
  }
  it('compares most flows', () => {
    assert.ok(compared > 3000, `${compared} flows`);
  });
});

function nodeAddresses(
  resources: readonly { readonly kind: string; readonly [field: string]: unknown }[],
): Set<string> {
  const text = JSON.stringify(
    resources.filter(({ kind }) => kind === 'Node' || kind === 'Pod').map(({ status, spec }) => [status, spec]),
  );
  const out = new Set<string>();
  for (const [, address] of text.matchAll(/"(?:hostIP|address|ipv[46]Address)":"([^"/]+)/g)) out.add(address!);
  return out;
}

describe('generated worlds', () => {
  it('renderer and evaluator agree on every flow', async () => {
    let compared = 0;
    let allowed = 0;
    let accepted = 0;
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(randomWorld, fc.array(randomFlow, { minLength: 12, maxLength: 12 }), async (raw, flows) => {
        const resources = raw.flatMap((resource) => {
          try {
            return [parseResource(resource)];
          } catch (error) {
            // Rules that contradict themselves are refused; they are not what this test is about.
            assert.ok(isBrindleError(error, 'invalid-resource'), String(error));
            refused++;
            return [];
          }
        });
        accepted += resources.length;
        const present = new Set(
          raw.filter((r) => r.kind === 'Pod').map((r) => `${r.metadata.namespace}/${r.metadata.name}`),
        );
        const world = buildWorld(resources);
        const rendered = await RenderedWorld.of(resources);
        try {
          assert.deepEqual(rendered.failures, []);
          for (const rawFlow of flows) {
            if ([rawFlow.from, rawFlow.to].some((end) => 'pod' in end && !present.has(end.pod))) continue;
            const flow = flowOf(rawFlow);
            const verdict = rendered.verdict(flow);
            if (verdict === null) continue;
            const expected = evaluate(world, flow);
            compared++;
            if (expected.verdict === 'allow') allowed++;
            assert.equal(verdict, expected.verdict, JSON.stringify(rawFlow));
          }
        } finally {
          await rendered.stop();
        }
      }),
      { numRuns: 2000 },
    );
    assert.ok(refused < accepted / 10, `${refused} resources refused, ${accepted} accepted`);
    // Worlds in which everything is denied, or nothing, would prove little.
    assert.ok(
      compared > 5000 && allowed > compared / 10 && allowed < (compared * 9) / 10,
      `${allowed} of ${compared} allowed`,
    );
  });
});
