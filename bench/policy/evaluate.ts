// What one decision of the evaluator costs with many rules: 300 policies of 70 rules in each direction, all of which select both ends.
// Prints the mean of a decision (both sides), and how much faster that is than asking every rule in full, which is what
// writing the trace does. Run: node bench/policy/evaluate.ts
import { parseResource } from '#model/registry.ts';
import { evaluate } from '#policy/evaluate/evaluate.ts';
import type { Flow } from '#policy/evaluate/flow.ts';
import { buildWorld } from '#policy/world/world.ts';

const POLICIES = 300;
const RULES = 70;
const PODS = 50;
const FLOWS = 2000;

const rules = (policy: number, side: 'source' | 'destination'): object[] =>
  Array.from({ length: RULES }, (_, i) => ({
    action: 'Allow',
    protocol: 'TCP',
    [side]: { selector: `app == "peer-${policy}-${i}"` },
    ...(side === 'source' ? { destination: { ports: [80, '8000:8010'] } } : {}),
  }));
const resources = [
  ...Array.from({ length: PODS }, (_, i) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `p${i}`, namespace: 'x', labels: { app: `app-${i}` } },
    status: { podIP: `10.0.0.${i + 1}` },
  })),
  ...Array.from({ length: POLICIES }, (_, i) => ({
    apiVersion: 'projectcalico.org/v3',
    kind: 'NetworkPolicy',
    metadata: { name: `p${i}`, namespace: 'x' },
    spec: { order: i, ingress: rules(i, 'source'), egress: rules(i, 'destination') },
  })),
];

const world = buildWorld(resources.map((resource) => parseResource(resource)));
const flow = (i: number): Flow => ({
  id: null,
  from: { pod: `x/p${i % PODS}` },
  to: { pod: `x/p${(i * 7 + 1) % PODS}` },
  protocol: 6,
  port: 80,
  sourcePort: null,
  icmp: null,
});
/** Milliseconds a call, after a first round that is not counted. */
function mean(count: number, run: (i: number) => void): number {
  for (let i = 0; i < PODS; i++) run(i);
  const start = performance.now();
  for (let i = 0; i < count; i++) run(i);
  return (performance.now() - start) / count;
}

const quick = mean(FLOWS, (i) => void evaluate(world, flow(i)));
const full = mean(20, (i) => {
  const { egress, ingress } = evaluate(world, flow(i));
  void egress?.trace.length;
  void ingress?.trace.length;
});
console.log(`${POLICIES} policies x ${RULES} rules in each direction, both sides decided:`);
console.log(`  a decision            ${quick.toFixed(3)} ms`);
console.log(`  with its whole trace  ${full.toFixed(1)} ms`);
console.log(`  ratio                 ${(full / quick).toFixed(0)}`);
