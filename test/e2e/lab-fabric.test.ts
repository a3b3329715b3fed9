// Whole fabrics with their agents: what the router learns, who reaches whom, a policy, a host that joins, an agent that
// is killed while packets flow; and other shapes: two racks below a spine, FRR, one Ethernet without a router.
// Needs root, bird2, frr, iproute2, nftables, busybox, and what `make build` makes.
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { readBlocks } from './fabric-support.ts';
import { Prefix } from '#net/prefix.ts';
import { KernelNetlink } from '#netlink/kernel.ts';
import { callCni } from '#lab/containers.ts';
import { agentOf } from '#lab/hosts.ts';
import { namespacePath } from '#lab/kernel.ts';
import { down, Lab } from '#lab/lab.ts';
import { type Matrix, probeMatrix } from '#lab/matrix.ts';
import { PingStream } from '#lab/probe.ts';
import { stop, until } from '#lab/processes.ts';
import type { RouterRoute } from '#lab/routers/driver.ts';
import { routerDriver } from '#lab/routers/drivers.ts';
import { applyToStore, withStore } from '#lab/store.ts';
import { defaultTopology, parseTopology, type Topology } from '#lab/topology.ts';
import { differenceAfter, machineState, uniqueLab } from './support.ts';

const POLICY = {
  apiVersion: 'projectcalico.org/v3',
  kind: 'GlobalNetworkPolicy',
  metadata: { name: 'web-serves-customers' },
  spec: {
    selector: "role == 'web'",
    types: ['Ingress'],
    ingress: [
      {
        action: 'Allow',
        protocol: 'TCP',
        source: { selector: "role == 'customer'" },
        destination: { ports: [80] },
      },
    ],
  },
};

/** Brings a lab up, two containers on each host, and checks afterwards that nothing is left of it. */
async function withFabric(test: TestContext, topology: Topology, body: (lab: Lab) => Promise<void>): Promise<void> {
  const name = uniqueLab();
  const before = machineState(name);
  test.after(() => down(name));
  const lab = await Lab.up({ name, topology });
  await runTwo(
    lab,
    topology.hosts.map((host) => host.name),
  );
  await body(lab);
  await down(name);
  assert.equal(await differenceAfter(before, name), null);
}

async function runTwo(lab: Lab, hosts: readonly string[]): Promise<void> {
  await Promise.all(
    hosts.flatMap((host) => [
      lab.run(host, { name: 'web', labels: { role: 'web' }, serve: 80 }),
      lab.run(host, { name: 'shop', labels: { role: 'customer' }, serve: 80 }),
    ]),
  );
}

/** Pairs that do not have this word by both IP versions. */
function others(matrix: Matrix, word: string): string[] {
  return matrix.cells
    .filter(({ ipv4, ipv6 }) => ipv4?.word !== word || ipv6?.word !== word)
    .map(({ from, to, ipv4, ipv6 }) => `${from} -> ${to}: ${ipv4?.word}/${ipv6?.word}`);
}

/** Waits until all reach all: the routes of blocks just leased are still on their way. */
async function allReach(lab: Lab, port: number | null): Promise<void> {
  let matrix: Matrix | null = null;
  await until(20_000, async () => {
    matrix = await probeMatrix(lab, { port });
    return others(matrix, 'ok').length === 0 ? true : null;
  });
  assert.deepEqual(matrix && others(matrix, 'ok'), []);
}

async function routesOf(lab: Lab, router: string): Promise<RouterRoute[]> {
  const planned = lab.plan.routers.find((candidate) => candidate.spec.name === router)!;
  return routerDriver(planned).routes(lab.state, planned);
}

/** Exactly the blocks of each host, each from that host alone. */
async function assertAggregates(lab: Lab, router: string): Promise<void> {
  const blocks = await readBlocks(lab);
  const routes = await routesOf(lab, router);
  assert.deepEqual(
    routes.map(({ prefix, from }) => `${prefix} from ${from.join(' ')}`).sort(),
    blocks.map(({ cidr, host }) => `${cidr} from ${host}`).sort(),
  );
  assert.equal(blocks.length, 2 * lab.plan.hosts.length);
}

describe('lab: fabrics', () => {
  it('three hosts and BIRD: aggregates, reachability, policy, a fourth host', (test) =>
    withFabric(test, defaultTopology({ hosts: 3, router: 'bird' }), async (lab) => {
      await allReach(lab, null);
      await allReach(lab, 80);
      await assertAggregates(lab, 'tor1');

      await applyToStore(lab.state, [POLICY]);
      const expected = (from: string, to: string): string =>
        to.endsWith('/web') && !from.endsWith('/shop') ? 'DENY' : 'ok';
      let wrong: string[] = [];
      await until(10_000, async () => {
        const { cells } = await probeMatrix(lab, { port: 80, limit: 500 });
        wrong = cells
          .filter(({ from, to, ipv4, ipv6 }) => [ipv4, ipv6].some((answer) => answer?.word !== expected(from, to)))
          .map(({ from, to, ipv4, ipv6 }) => `${from} -> ${to}: ${ipv4?.word}/${ipv6?.word}`);
        const denied = cells.filter((cell) => cell.ipv4?.word === 'DENY');
        assert.ok(denied.every((cell) => cell.ipv4?.deniedBy.includes('web-serves-customers')));
        return wrong.length === 0 ? true : null;
      });
      assert.deepEqual(wrong, []);
      await withStore(lab.state, (store) =>
        store.delete({ kind: POLICY.kind, namespace: '', name: POLICY.metadata.name }),
      );
      await allReach(lab, 80);

      const agents = lab.plan.hosts.map((host) => agentOf(lab.state, host.spec.name));
      const grown = await lab.addHost();
      await runTwo(grown, ['h4']);
      await allReach(grown, 80);
      await assertAggregates(grown, 'tor1');
      assert.deepEqual(
        lab.plan.hosts.map((host) => agentOf(lab.state, host.spec.name)),
        agents,
      );
    }));

  it('an agent killed while packets flow: none is lost, no route goes, all is adopted', (test) =>
    withFabric(test, defaultTopology({ hosts: 3, router: 'bird' }), async (lab) => {
      await allReach(lab, 80);
      const [h1, h3] = [lab.container('h1/web'), lab.container('h3/web')];
      const withdrawn: string[] = [];
      const watchers = ['tor1', 'h2', 'h3'].map((node) => {
        const namespace = [...lab.plan.routers, ...lab.plan.hosts].find((other) => other.spec.name === node)!.namespace;
        const netlink = new KernelNetlink({ netns: namespacePath(namespace) });
        netlink.subscribe({
          topics: ['route'],
          onEvents: (events) => {
            for (const event of events) {
              if (event.type === 'route-removed') withdrawn.push(`${node}: ${event.route.destination}`);
            }
          },
        });
        return netlink;
      });
      test.after(() => watchers.forEach((netlink) => netlink.close()));
      const before = await routesOf(lab, 'tor1');
      const streams = [
        new PingStream(namespacePath(h3.namespace), h1.addresses[0]!, 10),
        new PingStream(namespacePath(h3.namespace), h1.addresses[1]!, 10),
        new PingStream(namespacePath(h1.namespace), h3.addresses[0]!, 10),
      ];
      await Promise.all(streams.map((stream) => stream.first()));
      await stop([agentOf(lab.state, 'h1')!], 'SIGKILL', 5000);
      // Long enough for the router and the other hosts to see the session go.
      const noticed = await until(10_000, async () => {
        const sessions = await lab.routerSessions(lab.plan.routers[0]!);
        return sessions.some((session) => session.node === 'h1' && !session.established) ? true : null;
      });
      assert.ok(noticed, 'the router did not notice');
      assert.deepEqual(await routesOf(lab, 'tor1'), before);
      await lab.restartAgent('h1');
      await lab.waitSessions();
      const { container } = await lab.run('h1', { name: 'late', serve: 80 });
      await allReach(lab, 80);
      for (const stream of streams) {
        const { sent, lost } = await stream.stop(2000);
        assert.ok(sent > 10);
        assert.deepEqual(lost, [], `of ${sent}`);
      }
      assert.deepEqual(withdrawn, []);
      await assertAggregates(lab, 'tor1');
      const addresses = lab.state.containers().flatMap((item) => item.addresses);
      assert.equal(new Set(addresses).size, addresses.length);
      // Those made before the kill are still the agent's: it detaches them.
      await lab.remove(h1);
      await lab.remove(container);
      const left = new KernelNetlink({ netns: namespacePath(lab.host('h1').namespace) });
      test.after(() => left.close());
      const gone = await until(5000, () =>
        left.listLinks().filter((link) => link.name.startsWith('cali')).length === 1 ? true : null,
      );
      assert.ok(gone, 'interfaces of removed containers are left');
    }));

  it('two racks with AS numbers of their own, two ToRs, a spine, hosts with two uplinks', (test) =>
    withFabric(
      test,
      parseTopology(
        `
routers:
  - { name: spine1, asNumber: 65000 }
  - { name: tor1, asNumber: 65001, links: [spine1] }
  - { name: tor2, asNumber: 65002, links: [spine1] }
racks:
  - { name: left, asNumber: 64601, routers: [tor1, tor2], hosts: 2 }
  - { name: right, asNumber: 64602, routers: [tor2], hosts: [db1] }
`,
        'two-racks.yaml',
      ),
      async (lab) => {
        await allReach(lab, 80);
        const blocks = await readBlocks(lab);
        const spine = await routesOf(lab, 'spine1');
        for (const { cidr, host } of blocks) {
          const route = spine.find(({ prefix }) => prefix === cidr);
          assert.deepEqual(route?.from.toSorted(), host === 'db1' ? ['tor2'] : ['tor1', 'tor2'], cidr);
        }
        // A host with two uplinks uses both for what lies behind both.
        const netlink = new KernelNetlink({ netns: namespacePath(lab.host('h1').namespace) });
        test.after(() => netlink.close());
        const far = blocks.filter((block) => block.host === 'h2').map((block) => Prefix.parse(block.cidr));
        for (const prefix of far) {
          const route = netlink.listRoutes({ family: prefix.family }).find((item) => item.destination.equals(prefix));
          assert.equal(route?.nextHops.length, 2, prefix.toString());
        }
      },
    ));

  for (const router of ['frr', 'brindle'] as const) {
    it(`${router} as the router`, (test) =>
      withFabric(test, defaultTopology({ hosts: 2, router }), async (lab) => {
        await allReach(lab, 80);
        await assertAggregates(lab, 'tor1');
        const grown = await lab.addHost();
        await runTwo(grown, ['h3']);
        await allReach(grown, 80);
        await assertAggregates(grown, 'tor1');
      }));
  }

  it('no router: the hosts peer on one Ethernet', (test) =>
    withFabric(test, defaultTopology({ hosts: 2, router: 'none' }), (lab) => allReach(lab, 80)));

  it('CNI: a second ADD of a container is refused and changes nothing', (test) =>
    withFabric(test, defaultTopology({ hosts: 1, router: 'bird' }), async (lab) => {
      const container = lab.container('h1/web');
      const answer = await callCni(lab.state, lab.host('h1'), 'ADD', container);
      assert.notEqual(answer.status, 0, answer.output);
      await allReach(lab, 80);
    }));
});
