import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '#base/clock.ts';
import { BrindleError } from '#base/errors.ts';
import { silentLogger } from '#base/log.ts';
import type { Attachment } from '#model/attachment.ts';
import type { ResourceKey } from '#model/resource.ts';
import { IpAddress } from '#net/address.ts';
import type { AddressService, WireRequest } from './dependencies.ts';
import { CniHandler } from './handler.ts';
import type { CniAnswer } from './protocol.ts';

/** Everything around the handler, in memory, with a log of what happened and faults on request. */
class World {
  readonly clock = new ManualClock(1_000_000);
  readonly events: string[] = [];
  readonly interfaces = new Map<string, { netns: string; ifname: string }>();
  readonly active = new Map<string, string>();
  readonly records = new Map<string, { attachment: Attachment; committed: boolean }>();
  readonly used = new Set<string>();
  readonly netns = new Map<string, string>();
  fail: Partial<Record<'assign' | 'durable' | 'wire' | 'activate' | 'commit' | 'release', unknown>> = {};
  /** Awaited by the step of that name. */
  gates: Partial<Record<'wire' | 'activate' | 'unwire', Promise<void>>> = {};
  notReady: string | null = null;
  problem: string | null = null;
  checkProblems: string[] = [];
  handler: CniHandler;

  constructor() {
    this.handler = this.restart();
  }

  /** A new agent with the same kernel and journal. */
  restart(): CniHandler {
    const step = (name: keyof World['fail']): void => {
      this.events.push(name);
      if (this.fail[name] !== undefined) throw this.fail[name];
    };
    const records = this.records;
    const ipam: AddressService = {
      assign: async (request) => {
        step('assign');
        const address = Array.from({ length: 250 }, (_, i) => `10.0.0.${i + 1}`).find((a) => !this.used.has(a))!;
        this.used.add(address);
        const addresses = [IpAddress.parse(address)];
        const attachment = request.attach(addresses);
        records.set(request.handle, { attachment, committed: false });
        const { durable } = this.fail;
        return { addresses, attachment, durable: durable ? Promise.reject(durable) : Promise.resolve() };
      },
      commit: async (handle) => {
        step('commit');
        records.get(handle)!.committed = true;
      },
      release: async (handle, vacated) => {
        const record = records.get(handle);
        if (!record) return false;
        records.delete(handle);
        const free = (): void => record.attachment.addresses.forEach((address) => this.used.delete(address));
        if (vacated) void vacated.then(free);
        else free();
        step('release');
        return true;
      },
      get: (handle) => records.get(handle)?.attachment ?? null,
      *attachments() {
        for (const { attachment, committed } of records.values()) if (committed) yield attachment;
      },
      *unfinished() {
        for (const { attachment, committed } of records.values()) if (!committed) yield attachment;
      },
      look: (alive) => [...ipam.attachments()].filter((attachment) => !alive.has(attachment.handle)),
      problem: null,
      isCorrupt: false,
    };
    Object.defineProperty(ipam, 'problem', { get: () => this.problem });
    this.handler = new CniHandler({
      host: 'h1',
      ipam,
      clock: this.clock,
      log: silentLogger,
      notReady: () => this.notReady,
      namespaces: {
        identify: (path) => this.netns.get(path) ?? (path.startsWith('/run/netns/') ? path : null),
        own: '/run/netns/host',
      },
      endpoints: {
        activate: async (endpoint) => {
          await this.gates.activate;
          step('activate');
          this.active.set(endpoint.metadata.name, (endpoint.spec as { containerID: string }).containerID);
        },
        deactivate: (key: ResourceKey, containerId) => {
          this.events.push('deactivate');
          if (this.active.get(key.name) === containerId) this.active.delete(key.name);
        },
        namespaceLabels: () => ({}),
      },
      wiring: {
        wire: async (request: WireRequest) => {
          await this.gates.wire;
          step('wire');
          const taken = [...this.interfaces.values()].some(
            (i) => i.netns === request.netns && i.ifname === request.ifname,
          );
          if (taken) throw new BrindleError('already-exists', `${request.ifname} exists in the container`);
          this.interfaces.set(request.hostInterface, request);
          return {
            hostMac: 'ee:ee:ee:ee:ee:ee',
            mac: request.mac,
            mtu: 1500,
            gateways: { 4: '169.254.1.1', 6: 'fe80::1' },
          };
        },
        unwire: async ({ hostInterface }) => {
          this.events.push('unwire');
          await this.gates.unwire;
          this.interfaces.delete(hostInterface);
        },
        check: async () => this.checkProblems,
        hostInterfaces: async () => new Set(this.interfaces.keys()),
      },
    });
    return this.handler;
  }

  call(
    verb: string,
    id: string,
    change: { env?: Record<string, string>; config?: object; gone?: AbortSignal; madeAt?: number } = {},
  ) {
    const environment = new Map(
      Object.entries({
        CNI_COMMAND: verb,
        CNI_CONTAINERID: id,
        CNI_NETNS: `/run/netns/${id}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: '/x',
        ...change.env,
      }),
    );
    const config = Buffer.from(
      JSON.stringify({ cniVersion: '1.1.0', name: 'net', type: 'brindle-cni', ...change.config }),
    );
    return this.handler.handle({ environment, config }, change.gone, change.madeAt);
  }

  async settled(): Promise<void> {
    await this.handler.settle();
    await Promise.resolve();
  }

  /** Nothing of anything is left. */
  assertClean(): void {
    assert.deepEqual([this.interfaces.size, this.active.size, this.records.size, this.used.size], [0, 0, 0, 0]);
  }
}

const POD = (namespace: string, name: string) => ({
  CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}`,
});

function ok(answer: CniAnswer): string {
  assert.equal(answer.status, 0, answer.output);
  return answer.output;
}

function error(answer: CniAnswer): { cniVersion: string; code: number; msg: string; details?: string } {
  assert.equal(answer.status, 1);
  return JSON.parse(answer.output);
}

describe('ADD and DEL', () => {
  it('answers after the policy is in force, in this order', async () => {
    const world = new World();
    const result = JSON.parse(ok(await world.call('ADD', 'a')));
    assert.deepEqual(world.events, ['assign', 'wire', 'activate', 'commit']);
    assert.equal(result.ips[0].address, '10.0.0.1/32');
    assert.equal(result.interfaces[1].sandbox, '/run/netns/a');
    assert.equal(ok(await world.call('DEL', 'a')), '');
    await world.settled();
    world.assertClean();
  });

  it('succeeds in DEL for what was never seen, again, and without a namespace', async () => {
    const world = new World();
    ok(await world.call('DEL', 'never'));
    ok(await world.call('ADD', 'a'));
    ok(await world.call('DEL', 'a', { env: { CNI_NETNS: '' } }));
    ok(await world.call('DEL', 'a', { env: { CNI_NETNS: '' } }));
    await world.settled();
    world.assertClean();
  });

  it('undoes all when any step fails', async () => {
    for (const step of ['assign', 'durable', 'wire', 'activate', 'commit'] as const) {
      const world = new World();
      world.fail[step] = new BrindleError('unavailable', `${step} broke`, { remedy: 'mend it' });
      const answer = error(await world.call('ADD', 'a'));
      assert.deepEqual([answer.code, answer.msg, answer.details], [11, `${step} broke`, 'mend it']);
      await world.settled();
      world.assertClean();
      assert.equal(world.events.includes('unwire'), ['durable', 'activate', 'commit'].includes(step));
      world.fail = {};
      ok(await world.call('ADD', 'a'));
    }
  });

  it('undoes an ADD whose caller has hung up', async () => {
    const world = new World();
    const gate = Promise.withResolvers<void>();
    world.gates.activate = gate.promise;
    const gone = new AbortController();
    const call = world.call('ADD', 'a', { gone: gone.signal });
    gone.abort();
    gate.resolve();
    assert.equal(error(await call).code, 11);
    await world.settled();
    world.assertClean();
  });

  it('refuses a duplicate ADD and changes nothing', async () => {
    const world = new World();
    ok(await world.call('ADD', 'a'));
    const before = [[...world.interfaces], [...world.records], [...world.active]];
    const { code, msg } = error(await world.call('ADD', 'a'));
    assert.equal(code, 101);
    assert.match(msg, /eth0 \(10\.0\.0\.1\)/);
    assert.deepEqual([[...world.interfaces], [...world.records], [...world.active]], before);
  });

  it('refuses an interface that exists in the container and leaves it there', async () => {
    const world = new World();
    ok(await world.call('ADD', 'a'));
    const other = { env: { CNI_NETNS: '/run/netns/a' } };
    assert.equal(error(await world.call('ADD', 'b', other)).code, 101);
    assert.equal(world.interfaces.size, 1);
    assert.equal(world.used.size, 1);
  });

  it('takes an id that came back with another namespace, or whose interface is gone', async () => {
    const world = new World();
    ok(await world.call('ADD', 'a'));
    world.netns.set('/run/netns/a', 'another'); // the machine was started anew
    ok(await world.call('ADD', 'a'));
    world.interfaces.clear();
    ok(await world.call('ADD', 'a'));
    await world.settled();
    assert.deepEqual([world.interfaces.size, world.records.size, world.used.size], [1, 1, 1]);
  });

  it('replaces a former sandbox of the same pod, whose late DEL then harms nothing', async () => {
    const world = new World();
    ok(await world.call('ADD', 'old', { env: POD('ns', 'web') }));
    ok(await world.call('ADD', 'new', { env: POD('ns', 'web') }));
    await world.settled();
    assert.equal(world.records.size, 1);
    ok(await world.call('DEL', 'old', { env: POD('ns', 'web') }));
    await world.settled();
    assert.equal(world.interfaces.size, 1);
    assert.deepEqual([...world.active.values()], ['new']);
    ok(await world.call('DEL', 'new', { env: POD('ns', 'web') }));
    await world.settled();
    world.assertClean();
  });

  it('answers DEL before the interface is gone, and does not use its name or address before', async () => {
    const world = new World();
    ok(await world.call('ADD', 'a'));
    const gate = Promise.withResolvers<void>();
    world.gates.unwire = gate.promise;
    ok(await world.call('DEL', 'a'));
    assert.equal(world.interfaces.size, 1);
    assert.match(ok(await world.call('ADD', 'b')), /10\.0\.0\.2/);
    let isDone = false;
    const again = world.call('ADD', 'a').then((answer) => {
      isDone = true;
      return answer;
    });
    for (let i = 0; i < 50; i++) await Promise.resolve();
    assert.equal(isDone, false);
    gate.resolve();
    ok(await again);
  });

  it('serialises the calls of one container and lets others pass', async () => {
    const world = new World();
    const gate = Promise.withResolvers<void>();
    world.gates.wire = gate.promise;
    const slow = world.call('ADD', 'a');
    const after = world.call('DEL', 'a');
    for (let i = 0; i < 20; i++) await Promise.resolve();
    world.gates.wire = Promise.resolve();
    ok(await world.call('ADD', 'b'));
    assert.ok(!world.events.includes('deactivate'));
    gate.resolve();
    ok(await slow);
    ok(await after);
    await world.settled();
    assert.deepEqual([...world.active.values()], ['b']);
  });

  it('removes the interface of an ADD that left no record', async () => {
    const world = new World();
    ok(await world.call('ADD', 'a'));
    world.records.clear();
    ok(await world.call('DEL', 'a'));
    await world.settled();
    assert.equal(world.interfaces.size, 0);
  });

  it('succeeds in DEL when the journal cannot be written', async () => {
    const world = new World();
    ok(await world.call('ADD', 'a'));
    world.fail.release = new BrindleError('unavailable', 'no space left on device');
    ok(await world.call('DEL', 'a'));
  });

  it('lets a spooled DEL pass by a container that came later under its id', async () => {
    const world = new World();
    ok(await world.call('ADD', 'a'));
    const { createdAt } = [...world.records.values()][0]!.attachment;
    ok(await world.call('DEL', 'a', { madeAt: createdAt - 1 }));
    assert.equal(world.records.size, 1);
    ok(await world.call('DEL', 'a', { madeAt: createdAt + 1 }));
    assert.equal(world.records.size, 0);
  });

  it('tries again to remove an interface that would not go', async () => {
    const world = new World();
    ok(await world.call('ADD', 'a'));
    let tries = 0;
    world.gates = {
      get unwire(): Promise<void> {
        return tries++ < 3 ? Promise.reject(new BrindleError('kernel', 'EBUSY')) : Promise.resolve();
      },
    };
    ok(await world.call('DEL', 'a'));
    for (let i = 0; i < 10; i++) {
      for (let j = 0; j < 10; j++) await Promise.resolve();
      world.clock.advance(5_000);
    }
    await world.settled();
    assert.equal(tries, 4);
    world.assertClean();
  });
});

describe('errors of the environment around a call', () => {
  it('answers in the version of the configuration', async () => {
    const world = new World();
    assert.equal(
      error(await world.call('ADD', 'a', { config: { cniVersion: '0.4.0', nonsense: 1 } })).cniVersion,
      '0.4.0',
    );
    assert.equal(error(await world.call('ADD', 'a', { config: { cniVersion: '9.9.9' } })).code, 1);
  });

  it('refuses a namespace that is none, and the host’s own', async () => {
    const world = new World();
    assert.equal(error(await world.call('ADD', 'a', { env: { CNI_NETNS: '/nonexistent' } })).code, 8);
    const own = { CNI_NETNS: '/run/netns/host' };
    assert.equal(error(await world.call('ADD', 'a', { env: own })).code, 8);
    ok(await world.call('ADD', 'a', { env: { ...own, CNI_NETNS_OVERRIDE: 'true' } }));
  });

  it('says not ready: 11 to ADD, 50 to STATUS', async () => {
    const world = new World();
    ok(await world.call('STATUS', 'a'));
    world.notReady = 'the first snapshot is not in';
    assert.equal(error(await world.call('ADD', 'a')).code, 11);
    assert.deepEqual(
      [error(await world.call('STATUS', 'a')).code, error(await world.call('STATUS', 'a')).msg],
      [50, world.notReady],
    );
    world.notReady = null;
    world.problem = 'the journal is damaged';
    assert.equal(error(await world.call('STATUS', 'a')).code, 50);
  });

  it('maps what the layers below throw', async () => {
    const cases = [
      ['exhausted', 100],
      ['invalid-argument', 7],
      ['conflict', 101],
      ['corrupt', 50],
      ['kernel', 102],
      ['internal', 999],
    ] as const;
    for (const [code, expected] of cases) {
      const world = new World();
      world.fail.assign = new BrindleError(code, 'x');
      assert.equal(error(await world.call('ADD', 'a')).code, expected);
    }
    const world = new World();
    world.fail.wire = new BrindleError('not-found', 'gone', { field: 'CNI_NETNS' });
    assert.equal(error(await world.call('ADD', 'a')).code, 8);
    world.fail.wire = new TypeError('a bug');
    assert.equal(error(await world.call('ADD', 'a')).code, 999);
  });
});

describe('CHECK', () => {
  it('is content with what ADD made, and names what is wrong', async () => {
    const world = new World();
    const prevResult = JSON.parse(ok(await world.call('ADD', 'a')));
    assert.equal(ok(await world.call('CHECK', 'a', { config: { prevResult } })), '');
    assert.equal(error(await world.call('CHECK', 'a')).code, 7);
    const fails = async (pattern: RegExp, change: Parameters<World['call']>[2], id = 'a'): Promise<void> => {
      const { code, msg } = error(await world.call('CHECK', id, change));
      assert.equal(code, 103);
      assert.match(msg, pattern);
    };
    await fails(/did not attach/, { config: { prevResult } }, 'b');
    await fails(/10\.0\.0\.1/, { config: { prevResult: { ...prevResult, ips: [] } } });
    await fails(/does not hold/, { config: { prevResult: {} } });
    world.checkProblems = ['the route is missing', 'proxy_arp is 0'];
    await fails(/route is missing; proxy_arp/, { config: { prevResult } });
    world.netns.set('/run/netns/a', 'another');
    await fails(/another namespace/, { config: { prevResult } });
  });
});

describe('GC', () => {
  const list = (...ids: string[]) => ({
    'cni.dev/valid-attachments': ids.map((containerID) => ({ containerID, ifname: 'eth0' })),
  });

  it('removes what the runtime does not know, of its own network only, and nothing without a list', async () => {
    const world = new World();
    for (const id of ['a', 'b']) ok(await world.call('ADD', id));
    ok(await world.call('ADD', 'c', { config: { name: 'other' } }));
    world.clock.advance(1);
    ok(await world.call('GC', ''));
    assert.equal(world.records.size, 3);
    ok(await world.call('GC', '', { config: list('b') }));
    await world.settled();
    assert.deepEqual([...world.records.keys()], ['net/b/eth0', 'other/c/eth0']);
  });

  it('leaves an ADD alone that is under way or came at the same time', async () => {
    const world = new World();
    const gate = Promise.withResolvers<void>();
    world.gates.wire = gate.promise;
    const call = world.call('ADD', 'a');
    for (let i = 0; i < 20; i++) await Promise.resolve();
    ok(await world.call('GC', '', { config: list() }));
    gate.resolve();
    ok(await call);
    ok(await world.call('GC', '', { config: list() }));
    assert.equal(world.records.size, 1);
  });
});

describe('recovery', () => {
  it('undoes an ADD that was cut off, and removes interfaces without a record', async () => {
    const world = new World();
    ok(await world.call('ADD', 'lives'));
    ok(await world.call('ADD', 'cut'));
    world.records.get('net/cut/eth0')!.committed = false;
    world.interfaces.set('caliorphan', { netns: '', ifname: '' });
    world.active.clear();
    await world.restart().recover();
    await world.settled();
    assert.deepEqual([...world.records.keys()], ['net/lives/eth0']);
    assert.equal(world.interfaces.size, 1);
    assert.equal(world.used.size, 1);
    ok(await world.call('ADD', 'cut'));
  });

  it('ends attachments whose interface is gone', async () => {
    const world = new World();
    for (const id of ['a', 'b']) ok(await world.call('ADD', id));
    world.interfaces.delete([...world.interfaces.keys()][0]!);
    const lost = await world.handler.repair(0);
    assert.deepEqual(
      lost.map((attachment) => attachment.containerId),
      ['a'],
    );
    await world.settled();
    assert.deepEqual([world.records.size, world.active.size, world.used.size], [1, 1, 1]);
  });
});
