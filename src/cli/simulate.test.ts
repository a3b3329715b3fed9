// `brindle simulate` and `lint` as a person runs them.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

const MAIN = new URL('main.ts', import.meta.url).pathname;

function brindle(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
  });
  return { status, stdout, stderr };
}

const pod = (namespace: string, name: string, ip: string): string =>
  `{ apiVersion: v1, kind: Pod, metadata: { name: ${name}, namespace: ${namespace}, labels: { app: ${name} } }, spec: { containers: [{ name: c, image: i, ports: [{ containerPort: 80, name: web }] }] }, status: { podIP: ${ip} } }`;

describe('simulate', () => {
  let folder = '';
  const at = (name: string): string => join(folder, name);
  before(() => {
    folder = mkdtempSync(join(tmpdir(), `brindle-simulate-${process.pid}-`));
    mkdirSync(at('set'));
    writeFileSync(
      at('set/pods.yaml'),
      `apiVersion: v1\nkind: List\nitems:\n  - ${pod('x', 'a', '10.0.0.1')}\n  - ${pod('x', 'b', '10.0.0.2')}\n`,
    );
    writeFileSync(
      at('set/more.json'),
      JSON.stringify({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd' }, spec: {} }),
    );
    writeFileSync(
      at('deny.yaml'),
      '---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: deny, namespace: x }\nspec: { podSelector: { matchLabels: { app: a } } }\n---\n',
    );
    writeFileSync(
      at('set/flows.json'),
      JSON.stringify([
        { id: 'one', from: { pod: 'x/b' }, to: { pod: 'x/a' }, protocol: 'TCP', port: 80 },
        { id: 2, from: { ip: '10.0.0.2' }, to: { ip: '203.0.113.1' }, protocol: 'UDP', port: 53 },
        { from: { ip: '203.0.113.1' }, to: { ip: '203.0.113.2' }, protocol: 47 },
      ]),
    );
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it('answers flows in their order, with both sides and the trace', () => {
    const { status, stdout, stderr } = brindle(
      'simulate',
      '-f',
      at('set'),
      at('deny.yaml'),
      '--flows',
      at('set/flows.json'),
      '-o',
      'json',
    );
    assert.equal(status, 0, stderr);
    assert.match(stderr, /1 Deployment left out/);
    const [one, two, three] = JSON.parse(stdout);
    assert.deepEqual([one.id, one.verdict, one.egress.verdict, one.ingress.verdict], ['one', 'deny', 'allow', 'deny']);
    assert.deepEqual([two.id, two.verdict, two.egress.verdict, two.ingress], [2, 'allow', 'allow', null]);
    assert.deepEqual(three, { id: null, verdict: 'allow', egress: null, ingress: null });
    assert.deepEqual(one.ingress.trace.at(-1), {
      direction: 'ingress',
      endpoint: 'Pod/x/a',
      tier: 'default',
      policy: null,
      profile: null,
      rule: null,
      action: 'Deny',
      matched: true,
      reason: 'end of the tier: no rule decided, its default action',
    });
  });
  it('prints tables, matrices and what a file would change', () => {
    const flows = brindle(
      'simulate',
      '-f',
      at('set'),
      '-f',
      at('deny.yaml'),
      '--flows',
      at('set/flows.json'),
      '--trace',
    );
    assert.match(flows.stdout, /^one +x\/b +x\/a +80\/TCP +deny +tier default$/m);
    assert.match(flows.stdout, /no endpoint of ours/);
    assert.match(flows.stdout, /end of the tier/);
    const matrix = brindle('simulate', '-f', at('set'), '-f', at('deny.yaml'), '--matrix', '80/TCP');
    assert.match(matrix.stdout, /^x\/b +deny +allow$/m, matrix.stderr);
    const changed = brindle('simulate', '-f', at('set'), '--matrix', '80/TCP', '--diff', at('deny.yaml'), '-o', 'json');
    const [only, ...none] = JSON.parse(changed.stdout);
    assert.deepEqual([only.from, only.to, only.before, only.after], [{ pod: 'x/b' }, { pod: 'x/a' }, 'allow', 'deny']);
    assert.equal(none.length, 0);
  });
  it('refuses a set as a whole, with every error, its resource and its field', () => {
    writeFileSync(
      at('bad.yaml'),
      [
        '{ apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: { name: p, namespace: x }, spec: { selector: "a = b", ingress: [{ action: Allow, protocol: TCP, destination: { ports: [0] } }] } }',
        '{ apiVersion: networking.k8s.io/v1, kind: NetworkPolcy, metadata: { name: q, namespace: x }, spec: {} }',
        '{ apiVersion: v1, kind: Pod, metadata: { name: a, namespace: x }, status: { podIP: 10.0.0.99 } }',
        '{ apiVersion: extensions/v1beta1, kind: NetworkPolicy, metadata: { name: old, namespace: x }, spec: {} }',
      ].join('\n---\n'),
    );
    writeFileSync(at('broken.yaml'), 'a: [b');
    const { status, stdout, stderr } = brindle(
      'simulate',
      '-f',
      at('set'),
      at('bad.yaml'),
      at('broken.yaml'),
      '--matrix',
      '80/TCP',
    );
    assert.notEqual(status, 0);
    assert.equal(stdout, '');
    assert.match(
      stderr,
      /NetworkPolicy\/x\/p .*is invalid:\n.*spec\.selector: .*position 3.*\n.*spec\.ingress\[0\]\.destination\.ports\[0\]/,
    );
    assert.match(stderr, /NetworkPolcy\/x\/q .*did you mean NetworkPolicy\?/);
    assert.match(stderr, /broken\.yaml/);
    assert.match(stderr, /NetworkPolicy\/x\/old .*apiVersion: NetworkPolicy is not known as extensions\/v1beta1/);
    const twice = brindle('simulate', '-f', at('set'), at('bad.yaml'), '--matrix', '80/TCP');
    assert.doesNotMatch(twice.stderr, /defined differently/, 'invalid resources come first');
    writeFileSync(at('twice.yaml'), pod('x', 'a', '10.0.0.99'));
    const differently = brindle('simulate', '-f', at('set'), at('twice.yaml'), '--matrix', '80/TCP');
    assert.notEqual(differently.status, 0);
    assert.match(differently.stderr, /Pod\/x\/a .*metadata\.name: is defined differently/);
  });
  it('refuses flows with every error', () => {
    writeFileSync(
      at('flows.json'),
      '[{"from": {"pod": "x/a"}, "to": {"pods": "x/b"}, "protocol": "TPC", "prot": 80}, {"from": {"ip": "1.2.3"}}]',
    );
    const bad = brindle('simulate', '-f', at('set'), '--flows', at('flows.json'));
    assert.notEqual(bad.status, 0);
    for (const field of ['flows[0].prot:', 'flows[0].to:', 'flows[0].protocol:', 'flows[1].from.ip:', 'flows[1].to:']) {
      assert.ok(bad.stderr.includes(field), `${field} is not in ${bad.stderr}`);
    }
    writeFileSync(at('flows.json'), '[{"from": {"pod": "x/aa"}, "to": {"pod": "x/b"}, "protocol": 6, "port": 80}]');
    const unknown = brindle('simulate', '-f', at('set'), '--flows', at('flows.json'));
    assert.notEqual(unknown.status, 0);
    assert.match(unknown.stderr, /flows\[0\]\.from\.pod: there is no pod x\/aa; did you mean x\/a\?/);
  });
  it('lints', () => {
    writeFileSync(
      at('lint.yaml'),
      '{ apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: { name: p, namespace: x }, spec: { selector: "app == \'nobody\'", ingress: [{ action: Allow }, { action: Deny, source: { selector: "app == \'a\'" } }] } }',
    );
    const { status, stdout } = brindle('lint', '-f', at('set'), at('lint.yaml'), '-o', 'json');
    assert.equal(status, 0);
    assert.deepEqual(
      JSON.parse(stdout).map((f: { kind: string; field: string }) => `${f.kind} ${f.field}`),
      ['selects-nothing spec', 'shadowed spec.ingress[1]'],
    );
  });
});
