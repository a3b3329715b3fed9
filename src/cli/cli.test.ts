// The command line as a person meets it: real processes on a store of their own.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { until } from '#datastore/compliance/suite.ts';
import { complete } from './commands/completion.ts';
import { labelFilter } from './label-filter.ts';
import { parseRequests } from './resource-arguments.ts';

const MAIN = new URL('./main.ts', import.meta.url).pathname;
const dir = mkdtempSync(join(tmpdir(), `brindle-cli-${process.pid}-`));
const environment = { ...process.env, BRINDLE_STORE: join(dir, 'store.db'), NO_COLOR: '1' };
after(() => rmSync(dir, { recursive: true, force: true }));

interface Answer {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

function brindle(words: readonly string[], input = '', env: NodeJS.ProcessEnv = environment): Promise<Answer> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [MAIN, ...words], { env }, (error, out, err) => {
      resolve({ status: error ? Number(error.code) : 0, out, err });
    });
    child.stdin?.end(input);
  });
}

const MANIFEST = `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: default, labels: {site: a}}
spec: {cidr: 10.244.0.0/16, ipipMode: Always}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: w1, namespace: prod, labels: {app: web}}
spec: {node: h1, interfaceName: cali0, ipNetworks: [10.244.0.1/32]}
`;

describe('brindle', () => {
  before(async () => {
    writeFileSync(join(dir, 'all.yaml'), MANIFEST);
    const first = await brindle(['get', 'ippools']);
    assert.deepEqual([first.status, first.out], [1, '']);
    assert.match(first.err, /there is no store .*begin with brindle apply/);
    const applied = await brindle(['apply', '-f', dir]);
    assert.equal(
      applied.err,
      `warning: IPPool/default (${dir}/all.yaml, line 2): spec.ipipMode: Always has no effect: Brindle routes without tunnels\n`,
    );
    assert.equal(
      applied.out,
      'ippool.projectcalico.org/default created\nworkloadendpoint.projectcalico.org/w1 created\n',
    );
  });

  it('shows resources as table, YAML, JSON and names', async () => {
    const [table, yaml, json, names, elsewhere, missing] = await Promise.all([
      brindle(['get', 'pool', '-o', 'wide', '--show-labels']),
      brindle(['get', 'ippool', 'default', '-o', 'yaml']),
      brindle(['get', 'pools,wep', '-A', '-o', 'json', '-l', 'app']),
      brindle(['get', 'all', '-A', '-o', 'name']),
      brindle(['get', 'wep']),
      brindle(['get', 'ippool', 'x', 'default', 'y']),
    ]);
    assert.match(table.out, /^NAME +CIDR .* EXPORTED +AGE +LABELS\ndefault +10\.244\.0\.0\/16 .* site=a\n$/);
    assert.match(yaml.out, /^apiVersion: projectcalico\.org\/v3\nkind: IPPool\nmetadata:\n {2}name: default\n/);
    assert.deepEqual(
      (JSON.parse(json.out) as { items: { kind: string }[] }).items.map((r) => r.kind),
      ['WorkloadEndpoint'],
    );
    assert.equal(names.out, 'ippool.projectcalico.org/default\nworkloadendpoint.projectcalico.org/w1\n');
    assert.equal(
      elsewhere.err,
      'No workloadendpoints found in namespace default. There is 1 in other namespaces: add -A.\n',
    );
    assert.deepEqual([missing.status, missing.out, missing.err], [1, '', 'error: ippool "x", ippool "y" not found\n']);
    const changed = await brindle(['diff', '-f', '-'], yaml.out.replace('natOutgoing: false', 'natOutgoing: true'));
    assert.equal(changed.status, 1);
    assert.match(
      changed.out,
      /^--- stored ippool\.projectcalico\.org\/default\n\+\+\+ new [^]*\n-  natOutgoing: false\n\+  natOutgoing: true\n/,
    );
    const again = await brindle(['apply', '-f', '-'], yaml.out);
    assert.equal(again.out, 'ippool.projectcalico.org/default unchanged\n');
  });

  it('refuses with the reason, the place and the remedy, and changes nothing', async () => {
    const pool = (name: string, spec: string) =>
      `apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: ${name}}\nspec: ${spec}\n---\n`;
    const [overlap, field, verb, kind, option, noFile] = await Promise.all([
      brindle(['apply', '-f', '-'], pool('ok', '{cidr: 10.9.0.0/16}') + pool('bad', '{cidr: 10.244.8.0/24}')),
      brindle(['apply', '-f', '-'], pool('bad', '{cidr: 10.9.0.1/16, natOutgoin: true}')),
      brindle(['gte', 'pools']),
      brindle(['get', 'ippol']),
      brindle(['get', 'ippool', '--watc']),
      brindle(['apply', '-f', join(dir, 'none.yaml')]),
    ]);
    for (const answer of [overlap, field, verb, kind, option, noFile])
      assert.deepEqual([answer.status, answer.out], [1, '']);
    assert.match(
      overlap.err,
      /^error: IPPool\/bad \(standard input, line 6\) is invalid: spec\.cidr: .*overlaps 10\.244\.0\.0\/16 of IPPool\/default/,
    );
    assert.match(
      field.err,
      /spec\.cidr: .*host bits set; write 10\.9\.0\.0\/16\n {2}spec\.natOutgoin: is an unknown field; did you mean natOutgoing\?/,
    );
    assert.match(verb.err, /unknown command 'gte'\n\(Did you mean get\?\)/);
    assert.match(kind.err, /there is no kind "ippol" \(did you mean/);
    assert.match(option.err, /unknown option '--watc'\n\(Did you mean --watch\?\)/);
    assert.match(noFile.err, /there is no file/);
    assert.equal((await brindle(['get', 'pools', '-o', 'name'])).out, 'ippool.projectcalico.org/default\n');
  });

  it('watches, labels and deletes', async () => {
    const watching = spawn(process.execPath, [MAIN, 'get', 'nodes', '--watch'], {
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let seen = '';
    watching.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()));
    const node =
      'apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: h1}\nspec: {bgp: {ipv4Address: 10.0.0.1/24}}\n';
    assert.equal((await brindle(['create', '-f', '-'], node)).status, 0);
    await until(() => seen.includes('added'), 'the new node is shown');
    assert.equal((await brindle(['label', 'node', 'h1', 'rack=a'])).out, 'node.projectcalico.org/h1 labeled\n');
    await until(() => seen.includes('modified'), 'the change is shown');
    const refused = await brindle(['label', 'node/h1', 'rack=b']);
    assert.match(refused.err, /has rack=a already \(add --overwrite/);
    assert.match(
      (await brindle(['describe', 'node', 'h1'])).out,
      /^Name: +h1\nKind: +Node \(projectcalico\.org\/v3\)\nLabels: +rack=a\n[^]*ipv4Address: 10\.0\.0\.1\/24/,
    );
    assert.equal((await brindle(['delete', 'node', '-l', 'rack=a'])).out, 'node.projectcalico.org/h1 deleted\n');
    await until(() => seen.includes('deleted'), 'the deletion is shown');
    watching.kill();
    const lines = seen.trimEnd().split('\n');
    assert.match(lines[0]!, /^EVENT +NAME +IPV4/);
    assert.deepEqual(
      lines.slice(1).map((line) => line.split(/ +/).slice(0, 2).join(' ')),
      ['added h1', 'modified h1', 'deleted h1'],
    );
    assert.deepEqual((await brindle(['delete', 'node', 'h1'])).err, 'error: node "h1" not found\n');
    assert.equal((await brindle(['delete', 'node', 'h1', '--ignore-not-found'])).status, 0);
  });

  it('finds its store in the configuration', async () => {
    const config = join(dir, 'brindle.conf');
    writeFileSync(config, `hostName: h1\nstore:\n  embedded:\n    path: ${join(dir, 'store.db')}\n`);
    const { BRINDLE_STORE: _, ...bare } = environment;
    assert.match((await brindle(['get', 'pools', '-o', 'name', '--config', config], '', bare)).out, /default/);
    assert.match(
      (await brindle(['get', 'pools', '-o', 'name'], '', { ...bare, BRINDLE_CONFIG: config })).out,
      /default/,
    );
    writeFileSync(config, 'hostname: h1\n');
    assert.match(
      (await brindle(['get', 'pools', '--config', config], '', bare)).err,
      /hostname: is an unknown field; did you mean hostName\?/,
    );
  });
});

describe('-l', () => {
  it('takes the syntax of Kubernetes and of Calico', () => {
    const labels = { app: 'web', 'example.com/tier': 'front' };
    for (const [text, expected] of [
      ['app=web', true],
      ['app==web,example.com/tier!=back', true],
      ['app!=web', false],
      ['app in (db, web)', true],
      ['app notin (db,web)', false],
      ['missing notin (a)', true],
      ['app', true],
      ['!app', false],
      ['!missing,app in (web)', true],
      ["app == 'web' && !has(missing)", true],
      ['all()', true],
      ['constructor', false],
    ] as const) {
      assert.equal(labelFilter(text)(labels), expected, text);
    }
    assert.throws(() => labelFilter('app = = web'), /is not a label selector/);
  });
});

describe('words', () => {
  it('name kinds and resources', () => {
    const text = (words: string[]) =>
      parseRequests(words)
        .map((r) => `${r.kind.kind}:${r.names.join('+')}`)
        .join(' ');
    assert.equal(text(['pool', 'a', 'b']), 'IPPool:a+b');
    assert.equal(text(['pool,peers']), 'IPPool: BGPPeer:');
    assert.equal(text(['pool/a', 'peer/b', 'ippool/c']), 'IPPool:a+c BGPPeer:b');
    for (const words of [[], ['pool,peer', 'a'], ['pool/'], ['pool/a', 'b'], ['all', 'x']])
      assert.throws(() => parseRequests(words));
  });
  it('are completed', async () => {
    assert.deepEqual(await complete(['ge'], ['get', 'apply']), ['get']);
    assert.ok((await complete(['get', ''], [])).includes('ippools'));
    assert.deepEqual(await complete(['get', '-o', 'ippool'], []), ['ippools']);
    assert.deepEqual(await complete(['apply', 'x'], []), []);
  });
});
