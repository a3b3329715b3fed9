// Fabrics that change, with real speakers on a simulated network: each host hears of the change at a moment of its own,
// and no host may lose a route to any other on the way.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { RouteSink, SinkBatch } from '#bgp/speaker/api.ts';
import { routes, summary } from '#bgp/speaker/queries.ts';
import type { Speaker } from '#bgp/speaker/speaker.ts';
import { OUR_AS, peerConfig, speakerConfig, World } from '#bgp/speaker/testing.ts';
import { parseResource } from '#model/registry.ts';
import type { Resource } from '#model/resource.ts';
import { type BgpResources, bgpResources } from './hosts.ts';
import { type BgpPlan, bgpPlanFor } from './plan.ts';
import { GIVE_UP_MS, Transition } from './transition.ts';

const blockOf = (index: number): string => `10.244.${index}.0/26`;

const RESTART = { enabled: true, restartTime: 120 };

class Losses implements RouteSink {
  readonly have = new Set<string>();
  readonly lost: string[] = [];

  apply({ changed, removed }: SinkBatch): void {
    for (const { prefix } of changed) this.have.add(prefix);
    for (const prefix of removed) if (this.have.delete(prefix)) this.lost.push(prefix);
  }

  converged(): void {}
}

/** A host as its agent runs it, with the clock of the world. */
class Host {
  readonly speaker: Speaker;
  readonly sink = new Losses();
  readonly transition = new Transition();
  readonly #world: World;
  readonly #index: number;
  plan: BgpPlan | null = null;

  constructor(world: World, index: number) {
    this.#world = world;
    this.#index = index;
    this.speaker = world.speaker(`10.0.0.${index}`, { sink: this.sink });
  }

  get name(): string {
    return `h${this.#index}`;
  }

  learn(resources: BgpResources): void {
    const blocks = [{ cidr: blockOf(this.#index), pool: 'pool' }];
    this.plan = bgpPlanFor({ hostName: this.name, resources, blocks });
    if (!this.plan.config) return;
    this.speaker.setLocalRoutes(this.plan.routes);
    this.#configure();
  }

  look(): void {
    if (!this.plan || !this.transition.isUnderWay) return;
    const observation = {
      summaries: summary(this.speaker),
      paths: routes(this.speaker, { view: 'accepted', limit: 10_000 }).paths,
    };
    if (this.transition.observe(observation, this.plan, this.#world.clock.monotonic())) this.#configure();
  }

  sessions(): string[] {
    return summary(this.speaker).flatMap((peer) => (peer.state === 'established' ? [peer.name] : []));
  }

  #configure(): void {
    const config = this.transition.next(this.plan!, this.#world.clock.monotonic());
    if (config) this.speaker.configure(config);
  }
}

class Fabric {
  readonly world = new World();
  readonly hosts: Host[] = [];
  #labels = new Map<string, Record<string, string>>();
  #spec: object = {};
  #gone = new Set<string>();

  constructor(count: number, spec: object) {
    this.#spec = spec;
    for (let i = 0; i < count; i++) this.add();
    this.change({}, () => 0);
    this.run(20_000);
  }

  add(): Host {
    const host = new Host(this.world, this.hosts.length + 1);
    this.hosts.push(host);
    return host;
  }

  /** Changes the resources; each host hears of it after its own delay, in ms. */
  change(
    change: { spec?: object; labels?: Record<string, Record<string, string>>; gone?: string },
    delay: (index: number) => number,
  ): void {
    if (change.spec) this.#spec = change.spec;
    for (const [name, labels] of Object.entries(change.labels ?? {})) this.#labels.set(name, labels);
    if (change.gone !== undefined) this.#gone.add(change.gone);
    const nodes = this.hosts
      .filter(({ name }) => !this.#gone.has(name))
      .map(({ name }) => ({
        apiVersion: 'projectcalico.org/v3',
        kind: 'Node',
        metadata: { name, labels: this.#labels.get(name) ?? {} },
        spec: { bgp: { ipv4Address: `10.0.0.${name.slice(1)}/24` } },
      }));
    const fabric = { apiVersion: 'brindle.dev/v1', kind: 'BGPFabric', metadata: { name: 'default' }, spec: this.#spec };
    const resources = bgpResources([...nodes, fabric].map((one) => parseResource(one)));
    for (const [i, host] of this.hosts.entries()) this.world.clock.after(delay(i), () => host.learn(resources));
  }

  run(ms: number): void {
    for (let left = ms; left > 0; left -= 1000) {
      this.world.run(1000);
      for (const host of this.hosts) host.look();
    }
  }

  reflectors(): readonly string[] {
    return this.hosts[0]!.plan!.fabric.reflectors;
  }

  /** All hosts but those named know all others, nothing was ever lost, and nothing is left of what was before. */
  assertWhole(except: readonly string[] = []): void {
    const there = this.hosts.filter(({ name }) => !except.includes(name));
    for (const host of there) {
      const wanted = there.filter((other) => other !== host).map(({ name }) => blockOf(Number(name.slice(1))));
      const missing = wanted.filter((prefix) => !host.sink.have.has(prefix));
      assert.deepEqual(missing, [], `${host.name} lacks routes`);
      const lost = host.sink.lost.filter((prefix) => wanted.includes(prefix));
      assert.deepEqual(lost, [], `${host.name} lost routes for a while`);
      assert.deepEqual(host.transition.retiring, [], host.name);
      assert.deepEqual(new Set(host.sessions()), host.plan!.fabric.sessions, host.name);
    }
  }
}

/** Delays in ms that put the hosts in different orders, up to 20 s apart. */
const ORDERS: readonly ((index: number) => number)[] = [
  () => 0,
  (i) => i * 1700,
  (i) => (5 - i) * 1700,
  (i) => ((i * 5 + 3) % 7) * 3000,
  (i) => (i % 2) * 20_000,
];

describe('fabrics that change without loss of a route', () => {
  for (const [n, order] of ORDERS.entries()) {
    it(`from a mesh to reflectors and back, order ${n}`, () => {
      const fabric = new Fabric(6, { mode: 'Mesh' });
      fabric.assertWhole();
      fabric.change({ spec: { meshLimit: 3 } }, order);
      fabric.run(200_000);
      assert.equal(fabric.reflectors().length, 2);
      fabric.assertWhole();
      fabric.change({ spec: { mode: 'Mesh' } }, order);
      fabric.run(200_000);
      fabric.assertWhole();
    });

    it(`a reflector is drained, order ${n}`, () => {
      for (const reflectorsPerZone of [1, 2]) {
        const spec = { meshLimit: 3, reflectorsPerZone, reflectorSelector: '!has(drained)' };
        const fabric = new Fabric(6, spec);
        fabric.assertWhole();
        const [first = ''] = fabric.reflectors();
        fabric.change({ labels: { [first]: { drained: 'yes' } } }, order);
        fabric.run(200_000);
        assert.ok(!fabric.reflectors().includes(first));
        fabric.assertWhole();
      }
    });

    it(`zones are drawn anew, order ${n}`, () => {
      const fabric = new Fabric(6, { meshLimit: 3, topologyLabel: 'rack', reflectorsPerZone: 1 });
      const rack = (i: number): [string, Record<string, string>] => [`h${i + 1}`, { rack: i % 2 ? 'a' : 'b' }];
      fabric.change({ labels: Object.fromEntries([0, 1, 2, 3, 4, 5].map(rack)) }, order);
      fabric.run(200_000);
      fabric.assertWhole();
    });

    it(`one host more makes it reflectors, order ${n}`, () => {
      const fabric = new Fabric(5, { meshLimit: 5 });
      const late = fabric.add();
      fabric.change({}, order);
      fabric.run(200_000);
      assert.equal(fabric.reflectors().length, 2);
      assert.equal(late.sink.have.size, 5);
      fabric.assertWhole();
    });

    it(`a reflector's Node is deleted, order ${n}`, () => {
      const fabric = new Fabric(6, { meshLimit: 3 });
      const [first = ''] = fabric.reflectors();
      fabric.change({ gone: first }, order);
      fabric.run(200_000);
      fabric.assertWhole([first]);
    });
  }

  it('a new reflector that never comes up holds the old sessions for a minute, and no longer', () => {
    const fabric = new Fabric(6, { meshLimit: 3, reflectorSelector: '!has(drained)' });
    const [first = '', second = ''] = fabric.reflectors();
    fabric.change({ labels: { [first]: { drained: 'yes' } } }, () => 0);
    fabric.world.run(1);
    const third = fabric.reflectors().find((name) => name !== second)!;
    const client = fabric.hosts.find(({ name }) => name !== first && !fabric.reflectors().includes(name))!;
    fabric.world.network.cut(`10.0.0.${client.name.slice(1)}`, `10.0.0.${third.slice(1)}`);
    fabric.run(GIVE_UP_MS - 5000);
    assert.deepEqual(client.transition.retiring, [`mesh-${first}`]);
    fabric.run(20_000);
    assert.deepEqual(client.transition.retiring, []);
    assert.deepEqual(client.sink.lost, []);
  });

  it('a session that one end closes first takes no route from the other, until that has them from elsewhere', () => {
    const world = new World();
    const sinks = [new Losses(), new Losses()];
    const speakers = [1, 2].map((i) => world.speaker(`10.0.0.${i}`, { sink: sinks[i - 1]! }));
    for (const removal of ['silent', 'cease'] as const) {
      const peer = (i: number) => peerConfig(`10.0.0.${i}`, { asNumber: OUR_AS, gracefulRestart: RESTART, removal });
      for (const [i, speaker] of speakers.entries()) {
        speaker.setLocalRoutes([{ prefix: blockOf(i + 1) }]);
        speaker.configure(speakerConfig(`10.0.0.${i + 1}`, [peer(2 - i)]));
      }
      world.run(60_000);
      assert.ok(sinks[1]!.have.has(blockOf(1)), removal);
      speakers[0]!.configure(speakerConfig('10.0.0.1', []));
      world.run(60_000);
      assert.deepEqual(sinks[1]!.lost, removal === 'silent' ? [] : [blockOf(1)], removal);
    }
  });

  it('a mesh that is turned off goes at once', () => {
    const transition = new Transition();
    const node = (name: string, octet: number): Resource =>
      parseResource({
        apiVersion: 'projectcalico.org/v3',
        kind: 'Node',
        metadata: { name },
        spec: { bgp: { ipv4Address: `10.0.0.${octet}/24` } },
      });
    const off = { apiVersion: 'projectcalico.org/v3', kind: 'BGPConfiguration', metadata: { name: 'default' } };
    const nodes = [node('h1', 1), node('h2', 2)];
    const plan = (more: readonly Resource[]): BgpPlan =>
      bgpPlanFor({ hostName: 'h1', resources: bgpResources([...nodes, ...more]), blocks: [] });
    assert.equal(transition.next(plan([]), 0)!.peers.length, 1);
    const without = parseResource({ ...off, spec: { nodeToNodeMeshEnabled: false } });
    assert.equal(transition.next(plan([without]), 1)!.peers.length, 0);
    assert.equal(transition.isUnderWay, false);
  });
});
