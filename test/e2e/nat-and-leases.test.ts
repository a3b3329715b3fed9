// A fabric whose pools hide behind their hosts, and a host that hands its blocks back.
// Needs root, bird2, iproute2, nftables, and what `make build` makes.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { hostVariables } from '#lab/hosts.ts';
import { down, Lab } from '#lab/lab.ts';
import { spawnIn, until } from '#lab/processes.ts';
import { applyToStore, readStore } from '#lab/store.ts';
import { defaultTopology } from '#lab/topology.ts';
import { readBlocks } from './fabric-support.ts';
import { BRINDLE, differenceAfter, machineState, uniqueLab } from './support.ts';

const PORT = 8088;
/** A web server that tells each caller the address it sees. */
const MIRROR = `require('node:http').createServer((q, s) => s.end(q.socket.remoteAddress.replace(/^::ffff:/, '')))
  .listen(${PORT}, '::', () => console.log('ready'))`;

/** Prints the answer, or why there is none. */
const CLIENT = `fetch(process.argv[1], { signal: AbortSignal.timeout(3000) })
  .then((r) => r.text()).then((text) => console.log(text), (e) => console.log(String(e.cause ?? e)))`;

async function output(namespace: string, command: readonly string[], env?: Record<string, string>): Promise<string> {
  const child = spawnIn(namespace, command, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env } });
  const chunks: Buffer[] = [];
  child.stdout!.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(child, 'close');
  return Buffer.concat(chunks).toString().trim();
}

function seenFrom(namespace: string, address: string): Promise<string> {
  const host = address.includes(':') ? `[${address}]` : address;
  return output(namespace, [process.execPath, '-e', CLIENT, `http://${host}:${PORT}/`]);
}

describe('NAT for the way out and leases, in a lab', () => {
  it('gives what leaves the pools the address of the host, and blocks back when drained', async (test) => {
    const name = uniqueLab();
    const before = machineState(name);
    test.after(() => down(name));
    const lab = await Lab.up({ name, topology: defaultTopology({ hosts: 2, router: 'bird' }) });
    const [router] = lab.plan.routers;
    const [uplink] = lab.host('h1').interfaces;
    const mirrors: ChildProcess[] = [];
    const outside = [uplink!.peer.ipv4, uplink!.peer.ipv6];
    const { container } = await lab.run('h1', { name: 'shop' });
    const { container: web } = await lab.run('h2', { name: 'web' });
    for (const namespace of [router!.namespace, web.namespace]) {
      const mirror = spawnIn(namespace, [process.execPath, '-e', MIRROR], { stdio: ['ignore', 'pipe', 'inherit'] });
      test.after(() => mirror.kill('SIGKILL'));
      mirrors.push(mirror);
      await once(mirror.stdout!, 'data');
    }

    const sees = async (addresses: readonly string[], expected: readonly string[]) => {
      let seen: string[] = [];
      await until(20_000, async () => {
        seen = await Promise.all(addresses.map((address) => seenFrom(container.namespace, address)));
        return seen.join() === expected.join() ? true : null;
      });
      assert.deepEqual(seen, expected);
    };
    await sees([...outside, ...web.addresses], [...container.addresses, ...container.addresses]);
    const pools = (await readStore(lab.state)).filter(({ kind }) => kind === 'IPPool');
    await applyToStore(
      lab.state,
      pools.map(({ apiVersion, kind, metadata, spec }) => ({
        ...{ apiVersion, kind, metadata: { name: metadata.name } },
        spec: { ...(spec as object), natOutgoing: true },
      })),
    );
    await sees(outside, [uplink!.ipv4.address, uplink!.ipv6.address]);
    await sees(web.addresses, container.addresses);

    const drain = () => output(lab.host('h1').namespace, [...BRINDLE, 'ipam', 'drain'], hostVariables(lab.state, 'h1'));
    const own = async () => (await readBlocks(lab)).filter(({ host }) => host === 'h1').map(({ cidr }) => cidr);
    const blocks = await own();
    assert.equal(blocks.length, 2);
    const answer = (await drain()).split('\n');
    assert.equal(answer.shift(), 'No block is free to be handed back.');
    assert.deepEqual(answer.sort(), blocks.map((cidr) => `kept ${cidr}: 1 in use`).sort());
    await lab.remove(container);
    await until(20_000, async () => {
      await drain();
      return (await own()).length === 0 ? true : null;
    });
    assert.deepEqual(await own(), []);
    for (const process of mirrors) process.kill('SIGKILL');
    await down(name);
    assert.equal(await differenceAfter(before, name), null);
  });
});
