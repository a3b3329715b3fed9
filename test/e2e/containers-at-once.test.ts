// 200 containers at once on one host with 20 of the calls killed midway, against the whole agent: afterwards IPAM,
// interfaces, routes, endpoints and nftables agree. Then the agent is killed and started again: the same. Needs root,
// iproute2, nftables, a C compiler.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { EmbeddedStore } from '#datastore/embedded/store.ts';
import { inspect } from '#ipam/inspect.ts';
import type { IPBlock } from '#model/ip-block.ts';
import type { IPPool } from '#model/ip-pool.ts';
import { parseResource } from '#model/registry.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { createNamedNetns, deleteNamedNetns } from '#sys/netns.ts';
import { CniRunner } from '../support/cni-runner.ts';
import { testNetns, uniqueName, until } from '../support/netns.ts';

const root = resolve(import.meta.dirname, '../..');
const CONTAINERS = 200;
const EVERY_KILLED = 10;

describe('200 containers at once, 20 calls killed midway, on the whole agent', () => {
  const work = mkdtempSync(join(tmpdir(), 'brindle-burst-'));
  const host = testNetns('b');
  const made: string[] = [];
  const storePath = join(work, 'store.db');
  const socket = join(work, 'run', 'brindle.sock');
  let agent: ChildProcess | null = null;
  let output = '';

  async function startAgent(): Promise<void> {
    output = '';
    const command = [join(root, 'bin/brindle'), 'agent', '--config', join(work, 'brindle.yaml')];
    agent = spawn('nsenter', [`--net=${host.path}`, '--', ...command], {
      env: { ...process.env, BRINDLE_SOURCE: '1' },
    });
    for (const stream of [agent.stdout, agent.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    const child = agent;
    await until('the agent is in sync', () => output.includes('in sync') || child.exitCode !== null, 60_000);
    assert.equal(child.exitCode, null, output);
  }

  async function killAgent(): Promise<void> {
    const child = agent;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((done) => child.once('exit', done));
    child.kill('SIGKILL');
    await ended;
  }

  before(async () => {
    mkdirSync(join(work, 'bin'));
    const source = join(root, 'src/cni/brindle-cni.c');
    assert.equal(spawnSync('cc', ['-O2', '-o', join(work, 'bin/brindle-cni'), source]).status, 0);
    const store = await EmbeddedStore.open({ path: storePath });
    for (const [name, cidr] of [
      ['v4', '10.93.0.0/20'],
      ['v6', 'fd93::/100'],
    ] as const) {
      const pool = { apiVersion: 'projectcalico.org/v3', kind: 'IPPool', metadata: { name }, spec: { cidr } };
      await store.create(parseResource(pool));
    }
    // This host has no way out, so it has no address of its own to find.
    const node = { apiVersion: 'projectcalico.org/v3', kind: 'Node', metadata: { name: 'burst' }, spec: {} };
    await store.create(parseResource(node));
    await store.close();
    const config = {
      hostName: 'burst',
      store: { embedded: { path: storePath } },
      runDirectory: join(work, 'run'),
      stateDirectory: join(work, 'state'),
    };
    writeFileSync(join(work, 'brindle.yaml'), JSON.stringify(config)); // JSON is YAML
    await startAgent();
  });

  after(async () => {
    await killAgent();
    host.close();
    for (const name of made) deleteNamedNetns(name);
    rmSync(work, { recursive: true, force: true });
  });

  /** What each of the five places says: host side interface names, or addresses. */
  async function look() {
    const store = await EmbeddedStore.open({ path: storePath });
    const list = async <T>(kind: string): Promise<T[]> => [...(await store.list(kind)).resources] as T[];
    const endpoints = await list<WorkloadEndpoint>('WorkloadEndpoint');
    const blocks = await list<IPBlock>('IPBlock');
    const [pools, nodes] = [await list<IPPool>('IPPool'), (await store.list('Node')).resources];
    await store.close();
    const links = (await host.run('ip', '-o', 'link')).split('\n');
    const ruleset = await host.run('nft', 'list', 'table', 'inet', 'brindle');
    return {
      endpoints: endpoints.map(({ spec }) => spec.interfaceName).sort(),
      interfaces: links
        .filter((line) => / group default/.test(line))
        .flatMap((line) => line.match(/cali[0-9a-f]{11}/)?.[0] ?? [])
        .sort(),
      dispatched: [...new Set(ruleset.match(/(?<=")cali[0-9a-f]{11}(?=" : )/g))].sort(),
      routes: (await host.run('ip', '-4', 'route'))
        .split('\n')
        .filter((line) => line.includes('cali'))
        .map((line) => line.split(' ')[0]!)
        .sort(),
      assigned: blocks
        .flatMap(({ spec }) => Object.keys(spec.assigned))
        .filter((a) => !a.includes(':'))
        .sort(),
      inconsistencies: inspect({ pools, blocks, nodes, endpoints }),
    };
  }

  async function assertAgrees(running: ReadonlyMap<string, string[]>): Promise<void> {
    // The store follows a moment later.
    await until(
      'the store has followed',
      async () => {
        const { endpoints, inconsistencies } = await look();
        return endpoints.length === running.size && inconsistencies.length === 0;
      },
      30_000,
    ).catch(async (error: Error) => {
      const { endpoints, inconsistencies } = await look();
      assert.fail(
        `${error.message}: ${endpoints.length} of ${running.size}, ${JSON.stringify(inconsistencies.slice(0, 3))}`,
      );
    });
    const seen = await look();
    const v4 = [...running.values()].map(([address]) => address!).sort();
    assert.equal(new Set([...running.values()].flat()).size, running.size * 2, 'an address twice');
    assert.deepEqual(seen.routes, v4);
    assert.deepEqual(seen.assigned, v4);
    assert.deepEqual(seen.interfaces, seen.endpoints);
    assert.deepEqual(seen.dispatched, seen.endpoints);
  }

  it('agrees afterwards, after half are gone, and after the agent was killed', async () => {
    const containers = Array.from({ length: CONTAINERS }, () => {
      const containerId = uniqueName('bt-n');
      made.push(containerId);
      return { containerId, netns: createNamedNetns(containerId) };
    });
    let started = 0;
    const options = {
      list: { cniVersion: '1.0.0', name: 'burst', plugins: [{ type: 'brindle-cni' }] },
      path: [join(work, 'bin')],
      cacheDirectory: join(work, 'cache'),
      environment: { BRINDLE_SOCKET: socket },
      namespace: host.path,
    };
    const deadly = new CniRunner({
      ...options,
      onStart: (pid) => {
        // At a moment that is somewhere between the start and the answer.
        if (started++ % EVERY_KILLED === 3) setTimeout(() => process.kill(pid, 'SIGKILL'), (started % 7) * 5);
      },
    });
    const runner = new CniRunner(options);
    const results = await Promise.allSettled(containers.map((container) => deadly.add(container)));
    const running = new Map<string, string[]>();
    for (const [i, result] of results.entries()) {
      const container = containers[i]!;
      if (result.status === 'fulfilled') {
        const { ips } = result.value as { ips: { address: string }[] };
        running.set(
          container.containerId,
          ips.map(({ address }) => address.replace(/\/.*/, '')),
        );
      } else {
        assert.match(String(result.reason), /SIGKILL/);
        await runner.del(container); // as a runtime does after a failed ADD
      }
    }
    assert.ok(running.size >= CONTAINERS - CONTAINERS / EVERY_KILLED);
    await assertAgrees(running);

    const leaving = containers.slice(0, CONTAINERS / 2);
    await Promise.all(leaving.map((container) => runner.del(container)));
    for (const { containerId } of leaving) running.delete(containerId);
    await assertAgrees(running);

    await killAgent();
    const another = containers[0]!;
    await runner.del(containers.at(-1)!); // without an agent: kept for its next start
    running.delete(containers.at(-1)!.containerId);
    await startAgent();
    const { ips } = (await runner.add(another)) as { ips: { address: string }[] };
    running.set(
      another.containerId,
      ips.map(({ address }) => address.replace(/\/.*/, '')),
    );
    await assertAgrees(running);
  });
});
