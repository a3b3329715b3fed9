// The kernel's rung: the scenarios of test/scenarios, and a sample of generated worlds, with real packets between containers that
// the CNI executable attaches to a real agent. TCP connects, UDP is echoed, SCTP and other protocols are raw packets that arrive or
// do not. Traffic of hosts themselves is in policy-dataplane.test.ts. Needs root, nftables, iproute2, a C compiler.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { isBrindleError } from '#base/errors.ts';
import { parseResource } from '#model/registry.ts';
import { Problems } from '#model/problems.ts';
import { evaluate } from '#policy/evaluate/evaluate.ts';
import { parseFlow } from '#policy/evaluate/flow.ts';
import { buildWorld } from '#policy/world/world.ts';
import { PolicyHost } from '../support/policy-host.ts';
import { randomFlow, randomWorld } from '../support/random-worlds.ts';
import { type Expectation, loadScenarios, type RawResource, type Scenario } from '../support/scenarios.ts';

const WORLDS = 10;
const FLOWS = 40;

function whyNot({ not, steps }: Scenario): string | false {
  if (not['kernel']) return not['kernel'];
  const kinds = new Set(steps.flatMap(({ resources }) => resources.map(({ kind }) => kind)));
  if (kinds.has('HostEndpoint')) return 'traffic of hosts is tried in policy-dataplane.test.ts';
  if (kinds.has('WorkloadEndpoint')) return 'endpoints come from the CNI executable here';
  return false;
}

describe('policy with real packets', { timeout: 600_000 }, () => {
  let host!: PolicyHost;
  let compared = 0;

  before(async () => {
    host = await PolicyHost.start();
  });
  after(() => host?.close());

  async function agrees(resources: readonly RawResource[], expectations: readonly Expectation[]): Promise<void> {
    await host.become(resources);
    const verdicts = await host.try(
      expectations.map(({ flow }) => flow),
      expectations.map(({ verdict }) => verdict),
    );
    const wrong: string[] = [];
    for (const [i, verdict] of verdicts.entries()) {
      if (verdict === null) continue;
      compared++;
      if (verdict !== expectations[i]!.verdict) wrong.push(`${verdict}: ${JSON.stringify(expectations[i]!.flow)}`);
    }
    assert.deepEqual(wrong, []);
  }

  for (const scenario of loadScenarios()) {
    it(`${scenario.file}: ${scenario.name}`, { skip: whyNot(scenario) }, async (test) => {
      for (const { name, resources, expectations } of scenario.steps) {
        await test.test(name, () => agrees(resources, expectations));
      }
    });
  }

  it('has tried most flows of the scenarios', () => {
    assert.ok(compared > 9000, `${compared} flows`);
  });

  it(`agrees with the evaluator in ${WORLDS} generated worlds`, async () => {
    const before = compared;
    const seed = Date.now() & 0x7fffffff;
    const worlds = fc.sample(randomWorld, { numRuns: WORLDS, seed });
    const flows = fc.sample(randomFlow, { numRuns: WORLDS * FLOWS, seed });
    for (const [n, drawn] of worlds.entries()) {
      const raw = drawn.filter((resource) => {
        // The CNI call does not tell the service account of the container itself.
        if ((resource['spec'] as { serviceAccountSelector?: string } | undefined)?.serviceAccountSelector) return false;
        try {
          parseResource(resource);
          return true;
        } catch (error) {
          assert.ok(isBrindleError(error, 'invalid-resource'), String(error));
          return false;
        }
      });
      const world = buildWorld(raw.map((resource) => parseResource(resource)));
      const pods = new Set(
        raw.filter((r) => r.kind === 'Pod').map((r) => `${r.metadata.namespace}/${r.metadata.name}`),
      );
      const expectations = flows
        .slice(n * FLOWS, (n + 1) * FLOWS)
        .filter(({ from, to }) => [from, to].every((end) => !('pod' in end) || pods.has(end.pod)))
        .map((flow) => ({ flow, verdict: evaluate(world, parseFlow(flow, 'flow', new Problems())!).verdict }));
      await agrees(raw, expectations).catch((error: Error) => {
        error.message = `world ${n} of seed ${seed}: ${error.message}\n${JSON.stringify(raw)}`;
        throw error;
      });
    }
    assert.ok(compared - before > WORLDS * 5, `${compared - before} flows`);
  });
});
