// BGP resources on whole labs: what each says takes effect, and touches only what it names; reflectors that the hosts
// choose among themselves, and that move while packets flow.
// Needs root, bird2, iproute2, nftables, and what `make build` makes.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { ApiClient } from '#agent/api/client.ts';
import type { ResourcePlan } from '#agent/api/types.ts';
import type { ExplainView, PeerDetail, PeerSummary, RoutesAnswer } from '#bgp/speaker/api.ts';
import { socketOf } from '#lab/hosts.ts';
import { namespacePath } from '#lab/kernel.ts';
import { down, Lab } from '#lab/lab.ts';
import { PingStream, probePing } from '#lab/probe.ts';
import { until } from '#lab/processes.ts';
import { applyToStore, readStore, withStore } from '#lab/store.ts';
import { defaultTopology } from '#lab/topology.ts';
import { keyOf, type Resource } from '#model/resource.ts';
import { readBlocks } from './fabric-support.ts';
import { brindle, differenceAfter, machineState, uniqueLab } from './support.ts';

const V3 = 'projectcalico.org/v3';
const OWN = 'brindle.dev/v1';
const LIMIT = 30_000;

function resource(apiVersion: string, kind: string, name: string, spec: object): Resource {
  return { apiVersion, kind, metadata: { name }, spec };
}

async function withLab(
  test: TestContext,
  topology: ReturnType<typeof defaultTopology>,
  body: (lab: Lab) => Promise<void>,
): Promise<void> {
  const name = uniqueLab();
  const before = machineState(name);
  test.after(() => down(name));
  const lab = await Lab.up({ name, topology });
  await body(lab);
  await down(name);
  assert.equal(await differenceAfter(before, name), null);
}

const api = (lab: Lab, host: string): ApiClient => new ApiClient(socketOf(lab.state, host));
const peers = (lab: Lab, host: string): Promise<PeerSummary[]> => api(lab, host).json('/v1/bgp/peers');

/** A resource as one would write it, without the version that it has. */
async function read(lab: Lab, kind: string, name: string): Promise<Resource> {
  const found = (await readStore(lab.state)).find((one) => keyOf(one).kind === kind && one.metadata.name === name);
  assert.ok(found, `${kind}/${name}`);
  const { apiVersion, metadata, spec } = found;
  return { apiVersion, kind, metadata: { name, labels: metadata.labels ?? {} }, spec };
}

/** Retries until the check no longer throws. */
async function eventually(check: () => Promise<void>): Promise<void> {
  let last: unknown = null;
  const done = await until(LIMIT, async () => {
    try {
      await check();
      return true;
    } catch (error) {
      last = error;
      return null;
    }
  });
  if (!done) throw last;
}

async function birdc(lab: Lab, ...command: string[]): Promise<string> {
  const args = ['-s', lab.state.path('tor1', 'bird.ctl'), ...command];
  return (await promisify(execFile)('birdc', args)).stdout;
}

/** What the router has of a host over IPv4: prefix -> the lines that BIRD says of it. */
async function onRouter(lab: Lab, host: string): Promise<Map<string, string>> {
  const text = await birdc(lab, 'show', 'route', 'protocol', `${host}_ipv4`, 'all');
  const routes = new Map<string, string>();
  let prefix = '';
  for (const line of text.split('\n')) {
    const match = /^(\d\S*\/\d+)\s/.exec(line);
    if (match) prefix = match[1]!;
    if (prefix !== '') routes.set(prefix, `${routes.get(prefix) ?? ''}${line}\n`);
  }
  return routes;
}

/** How often each session has come up, by peer; a session that was touched differs. */
async function flaps(lab: Lab, hosts: readonly string[]): Promise<Record<string, string>> {
  const out: Record<string, string> = {};
  for (const host of hosts) {
    for (const peer of await peers(lab, host)) {
      const detail = await api(lab, host).json<PeerDetail>(`/v1/bgp/peers/${peer.name}`);
      out[`${host} ${peer.name}`] = `${peer.state} ${peer.flaps} ${detail.messages.sent.open} opens`;
    }
  }
  return out;
}

/** Since when BIRD has each session. */
async function birdSince(lab: Lab): Promise<string> {
  const text = await birdc(lab, 'show', 'protocols');
  return text
    .split('\n')
    .filter((line) => / BGP /.test(line))
    .join('\n');
}

describe('BGP resources', () => {
  it('filters, communities, aggregates, export and groups take effect and touch only what they name', (test) =>
    withLab(test, defaultTopology({ hosts: 2, router: 'bird' }), async (lab) => {
      await Promise.all(['h1', 'h2'].map((host) => lab.run(host, { name: 'web' })));
      const block = (await readBlocks(lab)).find(({ cidr, host }) => host === 'h1' && cidr.includes('.'))!.cidr;
      await eventually(async () => assert.ok((await onRouter(lab, 'h1')).has(block)));
      const before = await flaps(lab, ['h1', 'h2']);
      const routerBefore = await birdSince(lab);
      const peer = await read(lab, 'BGPPeer', 'h1-tor1-ipv4');

      // Beforehand, the plan says what would happen, and nothing does.
      const folder = mkdtempSync(join(tmpdir(), 'brindle-plan-'));
      test.after(() => rmSync(folder, { recursive: true }));
      const filter = resource(V3, 'BGPFilter', 'no-blocks', { exportV4: [{ action: 'Reject' }] });
      const filtered = { ...peer, spec: { ...(peer.spec as object), filters: ['no-blocks'] } };
      const file = join(folder, 'change.json');
      writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: [filter, filtered] }));
      const said = await brindle('bgp', 'plan', '--socket', socketOf(lab.state, 'h1'), '-f', file, '-o', 'json');
      assert.equal(said.status, 0, said.stderr);
      const plan = JSON.parse(said.stdout) as ResourcePlan;
      assert.deepEqual(
        plan.sessions.map(({ peer: name, effect, fields }) => [name, effect, fields]),
        [['h1-tor1-ipv4', 're-evaluate', ['export', 'import']]],
      );
      assert.deepEqual(plan.ownRoutes, []);
      const table = await brindle('bgp', 'plan', '--socket', socketOf(lab.state, 'h1'), '-f', file);
      assert.match(table.stdout, /h1-tor1-ipv4 +re-evaluate/);
      assert.ok((await onRouter(lab, 'h1')).has(block));

      // A filter takes the routes away, and its removal brings them back.
      await applyToStore(lab.state, [filter, filtered]);
      await eventually(async () => assert.equal((await onRouter(lab, 'h1')).size, 0));
      const [why] = await api(lab, 'h1').json<ExplainView[]>(`/v1/bgp/explain?prefix=${block}&peer=h1-tor1-ipv4`);
      assert.match(why!.reason, /filter no-blocks, exportV4\[0\]/);
      await applyToStore(lab.state, [peer]);
      await eventually(async () => assert.ok((await onRouter(lab, 'h1')).has(block)));

      // Communities by name, and an aggregate in place of what is inside, for the router and not for the other host.
      await applyToStore(lab.state, [
        resource(V3, 'BGPConfiguration', 'default', {
          asNumber: 64512,
          communities: [{ name: 'ours', value: '65000:7' }],
          prefixAdvertisements: [{ cidr: '10.244.0.0/16', communities: ['ours', '65000:1:2'] }],
        }),
        resource(OWN, 'BGPAggregate', 'all', { cidr: '10.244.0.0/16', communities: ['65000:99'] }),
      ]);
      await eventually(async () => {
        const routes = await onRouter(lab, 'h1');
        assert.deepEqual([...routes.keys()], ['10.244.0.0/16']);
        const text = routes.get('10.244.0.0/16')!;
        assert.match(text, /\(65000,7\)/);
        assert.match(text, /\(65000,99\)/);
        assert.match(text, /\(65000, 1, 2\)/);
      });
      const heard = await api(lab, 'h2').json<RoutesAnswer>('/v1/bgp/routes?view=received&peer=mesh-h1&family=ipv4');
      assert.deepEqual(
        heard.paths.filter((path) => path.prefix.startsWith('10.244.')).map((path) => path.prefix),
        [block],
      );
      const routes = await api(lab, 'h1').json<{ prefix: string; kind: string }[]>('/v1/routes');
      assert.equal(routes.find(({ prefix }) => prefix === '10.244.0.0/16')?.kind, 'blackhole');
      await withStore(lab.state, (store) => store.delete({ kind: 'BGPAggregate', namespace: '', name: 'all' }));
      await eventually(async () => assert.deepEqual([...(await onRouter(lab, 'h1')).keys()], [block]));

      // A pool that is not exported, and why.
      const pool = await read(lab, 'IPPool', 'containers-ipv4');
      await applyToStore(lab.state, [{ ...pool, spec: { ...(pool.spec as object), disableBGPExport: true } }]);
      await eventually(async () => assert.equal((await onRouter(lab, 'h1')).size, 0));
      const [hidden] = await api(lab, 'h1').json<ExplainView[]>(`/v1/bgp/explain?prefix=${block}`);
      assert.match(hidden!.reason, /containers-ipv4, which has disableBGPExport/);
      await applyToStore(lab.state, [pool]);
      await eventually(async () => assert.ok((await onRouter(lab, 'h1')).has(block)));
      const [inside] = await api(lab, 'h1').json<ExplainView[]>(`/v1/bgp/explain?prefix=${block.split('/')[0]}/32`);
      assert.match(inside!.reason, /announced as their block/);

      // One more peer, that nobody answers for: no other session knows of it.
      await applyToStore(lab.state, [
        resource(V3, 'BGPPeer', 'stranger', { node: 'h1', peerIP: '172.30.99.9', asNumber: 65009 }),
      ]);
      await eventually(async () => assert.ok((await peers(lab, 'h1')).some(({ name }) => name === 'stranger')));
      await withStore(lab.state, (store) => store.delete({ kind: 'BGPPeer', namespace: '', name: 'stranger' }));
      await eventually(async () => assert.ok(!(await peers(lab, 'h1')).some(({ name }) => name === 'stranger')));

      assert.deepEqual(await flaps(lab, ['h1', 'h2']), before);
      assert.equal(await birdSince(lab), routerBefore);

      // A hold time resets the session that it is for, and no other.
      await applyToStore(lab.state, [
        resource(OWN, 'BGPPeerGroup', 'slow', { peers: ['h1-tor1-ipv4'], session: { holdTime: '30s' } }),
      ]);
      await eventually(async () => {
        const detail = await api(lab, 'h1').json<PeerDetail>('/v1/bgp/peers/h1-tor1-ipv4');
        assert.equal(detail.state, 'established');
        assert.equal(detail.holdTime.agreed, 30);
      });
      const after = await flaps(lab, ['h1', 'h2']);
      assert.deepEqual(
        Object.keys(after).filter((name) => after[name] !== before[name]),
        ['h1 h1-tor1-ipv4'],
      );
    }));

  it('six hosts above a limit of three: a reflector is drained, an agent restarts, and no packet is lost', (test) =>
    withLab(test, defaultTopology({ hosts: 6, router: 'none' }), async (lab) => {
      const names = lab.plan.hosts.map((host) => host.spec.name);
      const containers = (await Promise.all(names.map((host) => lab.run(host, { name: 'c' })))).map((r) => r.container);
      const pairs = names.flatMap((_, i) =>
        [1, 2].map((step) => [containers[i]!, containers[(i + step) % 6]!] as const),
      );
      const targets = pairs.flatMap(([from, to]) =>
        to.addresses.map((address) => [namespacePath(from.namespace), address] as const),
      );
      await eventually(async () => {
        for (const [from, to] of targets) assert.equal(await probePing(from, to, 1000), 'ok', `${from} to ${to}`);
      });
      const streams = targets.map(([from, to]) => new PingStream(from, to, 20));
      test.after(() => Promise.all(streams.map((stream) => stream.stop(0))));
      const sessionsOf = async (host: string): Promise<string[]> =>
        (await peers(lab, host)).map((peer) => {
          assert.equal(peer.state, 'established', `${host} ${peer.name}`);
          return peer.name.replace('mesh-', '');
        });
      assert.equal((await sessionsOf('h1')).length, 5);

      /** Hosts with sessions to all others, once every other host has exactly those. */
      const settled = async (): Promise<string[]> => {
        let reflectors: string[] = [];
        await eventually(async () => {
          const all = new Map<string, string[]>();
          for (const name of names) all.set(name, await sessionsOf(name));
          reflectors = names.filter((name) => all.get(name)!.length === 5);
          assert.equal(reflectors.length, 2);
          for (const name of names) {
            if (!reflectors.includes(name)) assert.deepEqual(all.get(name)!.toSorted(), reflectors);
          }
        });
        return reflectors;
      };
      const spec = { meshLimit: 3, reflectorSelector: '!has(drained)' };
      await applyToStore(lab.state, [resource(OWN, 'BGPFabric', 'default', spec)]);
      const reflectors = await settled();

      const [first = ''] = reflectors;
      const node = await read(lab, 'Node', first);
      const labels = { ...node.metadata.labels, drained: 'yes' };
      await applyToStore(lab.state, [{ ...node, metadata: { ...node.metadata, labels } }]);
      let now: string[] = [];
      await eventually(async () => {
        now = await settled();
        assert.ok(!now.includes(first), 'the drained host still reflects');
      });

      await lab.restartAgent(now[0]!);
      await settled();
      for (const stream of streams) {
        const { sent, lost } = await stream.stop(2000);
        assert.ok(sent > 100);
        assert.deepEqual(lost, [], `of ${sent}`);
      }
    }));
});
