import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ManualClock } from '#base/clock.ts';
import { isBrindleError } from '#base/errors.ts';
import { silentLogger } from '#base/log.ts';
import type { Attachment } from '#model/attachment.ts';
import type { IPBlock } from '#model/ip-block.ts';
import { type Family, IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { type AddressRequest, Ipam, type IpamOptions } from './allocator.ts';
import { FakeDisk, MemoryStore } from './fakes.ts';
import { releaseHost } from './leases.ts';
import type { Pool } from './pools.ts';

const PATH = '/j';

function pool(name: string, cidr: string, change: Partial<Pool> = {}): Pool {
  const prefix = Prefix.parse(cidr);
  return {
    name,
    cidr: prefix,
    blockSize: prefix.family === 4 ? 30 : 126,
    disabled: false,
    manual: false,
    uses: ['Workload'],
    nodeSelector: 'all()',
    namespaceSelector: null,
    ...change,
  };
}

function request(handle: string, change: Partial<AddressRequest> = {}): AddressRequest {
  return {
    handle,
    attach: (addresses): Attachment => ({
      handle,
      network: 'n',
      containerId: handle,
      ifname: 'eth0',
      netns: '',
      netnsId: null,
      addresses: addresses.map(String),
      hostInterface: `cali${handle}`,
      endpoint: {
        apiVersion: 'projectcalico.org/v3',
        kind: 'WorkloadEndpoint',
        metadata: { name: handle, namespace: 'default' },
        spec: {},
      },
      createdAt: 0,
    }),
    ...change,
  };
}

const matches = (selector: string, labels: Readonly<Record<string, string>>): boolean =>
  selector === 'all()' || selector in labels;

const V4 = pool('v4', '10.0.0.0/28');
const V6 = pool('v6', 'fd00::/124');

async function openHost(
  host: string,
  store: MemoryStore,
  disk = new FakeDisk(),
  pools: readonly Pool[] = [V4, V6],
  change: Partial<IpamOptions> = {},
) {
  const clock = new ManualClock(1000);
  const ipam = await Ipam.open({
    host,
    store,
    clock,
    log: silentLogger,
    files: disk,
    journalPath: PATH,
    matches,
    ...change,
  });
  ipam.setPools(pools, { node: host });
  const add = async (handle: string, change: Partial<AddressRequest> = {}): Promise<string[]> => {
    const { addresses, durable } = await ipam.assign(request(handle, change));
    await durable;
    await ipam.commit(handle);
    return addresses.map(String);
  };
  return { ipam, clock, disk, add };
}

const assignedInStore = (store: MemoryStore): Record<string, string> => {
  const out: Record<string, string> = {};
  for (const resource of store.resources.values()) {
    const { spec } = resource as IPBlock;
    for (const [address, { handle }] of Object.entries(spec.assigned)) out[address] = handle;
  }
  return out;
};

describe('Ipam', () => {
  it('gives one address of each family, with no call to the store while a block has room', async () => {
    const store = new MemoryStore();
    const big = [pool('v4', '10.0.0.0/16', { blockSize: 26 }), pool('v6', 'fd00::/64', { blockSize: 122 })];
    const { ipam, add } = await openHost('h1', store, new FakeDisk(), big);
    const [a, b] = await add('first');
    assert.ok(Prefix.parse('10.0.0.0/16').contains(IpAddress.parse(a!)));
    assert.ok(Prefix.parse('fd00::/64').contains(IpAddress.parse(b!)));
    const calls = store.calls;
    store.down = true;
    for (let i = 0; i < 40; i++) await add(`c${i}`);
    assert.equal(store.calls, calls);
    store.down = false;
    await ipam.flush();
    assert.equal(Object.keys(assignedInStore(store)).length, 82);
    assert.equal(assignedInStore(store)[a!], 'first');
  });

  it('leases the next block before the last is full', async () => {
    const store = new MemoryStore();
    const { ipam, add } = await openHost('h1', store, new FakeDisk(), [pool('v4', '10.0.0.0/24', { blockSize: 28 })]);
    for (let i = 0; i < 13; i++) await add(`c${i}`);
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    assert.equal([...ipam.blocks()].length, 2);
  });

  it('is all or nothing for two families', async () => {
    const store = new MemoryStore();
    const { ipam, add } = await openHost('h1', store, new FakeDisk(), [V4, pool('v6', 'fd00::/126')]);
    for (let i = 0; i < 4; i++) await add(`c${i}`);
    await assert.rejects(add('one more'), (error: Error) => {
      assert.ok(isBrindleError(error, 'exhausted'));
      assert.match(error.message, /IPv6.*v6 \(fd00::\/126\)/);
      return true;
    });
    assert.equal(
      [...ipam.blocks()].filter((b) => b.cidr.family === 4).reduce((sum, b) => sum + b.used, 0),
      4,
    );
    assert.equal((await add('only v4', { families: [4] })).length, 1);
    await ipam.release('c0');
    assert.equal((await add('again')).length, 2);
  });

  it('never gives one address to two hosts, and names a full pool', async () => {
    const store = new MemoryStore();
    let turn = 0;
    store.delay = async () => {
      for (let i = 0; i < turn++ % 5; i++) await Promise.resolve();
    };
    const hosts = await Promise.all(['h1', 'h2', 'h3'].map((host) => openHost(host, store)));
    const results = await Promise.allSettled(
      Array.from({ length: 30 }, (_, i) => hosts[i % 3]!.add(`c${i}`, { families: [4] })),
    );
    const given = results.flatMap((r) => (r.status === 'fulfilled' ? r.value : []));
    assert.equal(new Set(given).size, given.length);
    assert.equal(given.length, 16);
    for (const r of results) if (r.status === 'rejected') assert.ok(isBrindleError(r.reason, 'exhausted'));
    const cidrs = hosts.flatMap((h) => [...h.ipam.blocks()].filter((b) => b.cidr.family === 4).map(String));
    assert.equal(cidrs.length, 4);
  });

  it('serves requested addresses, and says why not', async () => {
    const store = new MemoryStore();
    const { add } = await openHost('h1', store);
    const other = await openHost('h2', store);
    const ask = (text: string): Partial<AddressRequest> => ({ requested: [IpAddress.parse(text)] });
    const [a, b] = await add('a', ask('10.0.0.9'));
    assert.equal(a, '10.0.0.9');
    assert.ok(b);
    await assert.rejects(add('b', ask('10.0.0.9')), /held by a/);
    await assert.rejects(add('b', ask('192.0.2.1')), /in no pool/);
    await assert.rejects(other.add('b', ask('10.0.0.10')), (error: Error) => {
      assert.ok(isBrindleError(error, 'conflict'));
      assert.match(error.message, /leased by host h1/);
      return true;
    });
    await assert.rejects(add('a'), (error: unknown) => isBrindleError(error, 'already-exists'));
  });

  it('chooses pools as selectors, modes and names say', async () => {
    const store = new MemoryStore();
    const pools = [
      pool('a-disabled', '10.1.0.0/28', { disabled: true }),
      pool('b-manual', '10.2.0.0/28', { manual: true }),
      pool('c-other-nodes', '10.3.0.0/28', { nodeSelector: 'gpu' }),
      pool('d-namespace', '10.4.0.0/28', { namespaceSelector: 'team' }),
      pool('e-tunnels', '10.5.0.0/28', { uses: ['Tunnel'] }),
      pool('f-all', '10.6.0.0/28'),
    ];
    const { add } = await openHost('h1', store, new FakeDisk(), pools);
    assert.match((await add('1'))[0]!, /^10\.6\./);
    const fresh = await openHost('h3', store, new FakeDisk(), pools);
    assert.match((await fresh.add('2', { namespaceLabels: { team: 'x' } }))[0]!, /^10\.4\./);
    assert.match((await add('3', { pools: { 4: ['b-manual'] } }))[0]!, /^10\.2\./);
    assert.match((await add('4', { pools: { 4: ['10.3.0.0/28'] } }))[0]!, /^10\.3\./);
    await assert.rejects(add('5', { pools: { 4: ['a-disabled'] } }), /disabled/);
    await assert.rejects(add('5', { pools: { 4: ['nonsense'] } }), /does not exist$/);
    await assert.rejects(add('5', { pools: { 4: ['e-tunnels'] } }), /not for Workload/);
    const none = await openHost('h2', store, new FakeDisk(), pools.slice(0, 3));
    await assert.rejects(none.add('6'), /no IP pool serves this host/);
  });

  it('leaves reserved addresses alone', async () => {
    const { ipam, add } = await openHost('h1', new MemoryStore(), new FakeDisk(), [pool('v4', '10.0.0.0/30')]);
    ipam.setReservations([Prefix.parse('10.0.0.0/31')]);
    assert.deepEqual([await add('a'), await add('b')].flat(), ['10.0.0.2', '10.0.0.3']);
    await assert.rejects(add('c'), (error: unknown) => isBrindleError(error, 'exhausted'));
    assert.deepEqual(await add('c', { requested: [IpAddress.parse('10.0.0.1')] }), ['10.0.0.1']);
  });

  it('keeps an address back until its interface is gone, and rests it for the cooldown', async () => {
    const store = new MemoryStore();
    const disk = new FakeDisk();
    const { ipam, add, clock } = await openHost('h1', store, disk, [pool('v4', '10.0.0.0/32', { blockSize: 32 })], {
      cooldown: 60,
    });
    await add('a');
    const gone = Promise.withResolvers<void>();
    await ipam.release('a', gone.promise);
    clock.advance(100_000);
    await assert.rejects(add('b'), /no free/);
    gone.resolve();
    await gone.promise;
    await assert.rejects(add('b'), /no free/);
    // The rest is remembered over a restart.
    const again = await openHost('h1', store, disk, [pool('v4', '10.0.0.0/32', { blockSize: 32 })], { cooldown: 60 });
    await assert.rejects(again.add('b'), /no free/);
    clock.advance(60_000);
    assert.deepEqual(await add('b'), ['10.0.0.0']);
  });

  it('knows after a restart what it had, and goes on while the store is away', async () => {
    const store = new MemoryStore();
    const disk = new FakeDisk();
    const first = await openHost('h1', store, disk);
    const given = await first.add('a');
    for (let i = 0; i < 4; i++) await first.add(`more${i}`); // a second block of each family
    const cut = await first.ipam.assign(request('cut off'));
    await cut.durable;
    store.down = true;
    const { ipam, add } = await openHost('h1', store, disk.after('kill'));
    await assert.rejects(ipam.verify(), (error: unknown) => isBrindleError(error, 'unavailable'));
    assert.deepEqual(ipam.get('a')?.addresses, given);
    assert.deepEqual(
      [...ipam.blocks()].map((b) => `${b.cidr}`).sort(),
      [...first.ipam.blocks()].map((b) => `${b.cidr}`).sort(),
    );
    assert.deepEqual(
      [...ipam.unfinished()].map((a) => a.handle),
      ['cut off'],
    );
    assert.ok(!(await add('b')).some((address) => [...given, ...cut.addresses.map(String)].includes(address)));
  });

  it('takes up its leases when the journal is gone, and frees what nobody has after two looks', async () => {
    const store = new MemoryStore();
    const first = await openHost('h1', store, new FakeDisk(), [pool('v4', '10.0.0.0/30')]);
    const lives = await first.add('lives');
    await first.add('is gone');
    await first.ipam.flush();
    const { ipam, add, clock } = await openHost('h1', store, new FakeDisk(), [pool('v4', '10.0.0.0/30')]);
    await ipam.verify();
    await add('c');
    await add('d');
    await assert.rejects(add('e'), (error: unknown) => isBrindleError(error, 'exhausted'));
    const alive = new Set([...lives, 'c', 'd']);
    ipam.look(alive, 1000);
    clock.advance(999);
    ipam.look(alive, 1000);
    await assert.rejects(add('e'));
    clock.advance(1);
    ipam.look(alive, 1000);
    assert.equal((await add('e')).length, 1);
    await assert.rejects(add('f'), (error: unknown) => isBrindleError(error, 'exhausted'));
    await ipam.flush();
    assert.equal(assignedInStore(store)[lives[0]!], 'lives');
  });

  it('reports an attachment only when it was missing in two looks in a row', async () => {
    const { ipam, add, clock } = await openHost('h1', new MemoryStore());
    await add('a');
    const addresses = await add('b');
    const look = (...alive: string[]): string[] => ipam.look(new Set(alive), 100).map((a) => a.handle);
    assert.deepEqual(look('a'), []);
    clock.advance(100);
    assert.deepEqual(look('a', addresses[0]!), []); // seen by its address: the count begins anew
    clock.advance(100);
    assert.deepEqual(look('a'), []);
    clock.advance(99);
    assert.deepEqual(look('a'), []);
    clock.advance(1);
    assert.deepEqual(look('a'), ['b']);
  });

  it('notices that another host has its lease, and gives nothing from it', async () => {
    const store = new MemoryStore();
    const disk = new FakeDisk();
    const { ipam, add } = await openHost('h1', store, disk, [V4]);
    const [mine] = await add('a');
    await releaseHost(store, 'h1');
    const thief = await openHost('h2', store, new FakeDisk(), [V4]);
    await thief.add('b', { requested: [IpAddress.parse(mine!)] });
    await ipam.verify();
    assert.deepEqual(
      [...ipam.blocks()].map((b) => b.lost),
      [true],
    );
    assert.equal(ipam.get('a')?.addresses[0], mine);
    const [next] = await add('c');
    assert.ok(![...thief.ipam.blocks()].some((b) => b.cidr.contains(IpAddress.parse(next!))));
  });

  it('takes again a lease that was deleted under it', async () => {
    const store = new MemoryStore();
    const { ipam, add } = await openHost('h1', store, new FakeDisk(), [V4]);
    const [mine] = await add('a');
    await releaseHost(store, 'h1');
    await ipam.verify();
    await ipam.flush();
    assert.equal(assignedInStore(store)[mine!], 'a');
  });

  it('hands back empty blocks, all but one or all', async () => {
    const store = new MemoryStore();
    const { ipam, add } = await openHost('h1', store, new FakeDisk(), [V4]);
    for (let i = 0; i < 12; i++) await add(`c${i}`);
    for (let i = 0; i < 12; i++) await ipam.release(`c${i}`);
    await ipam.handBack(true);
    assert.equal([...ipam.blocks()].length, 1);
    await ipam.handBack(false);
    assert.equal([...ipam.blocks()].length, 0);
    assert.equal(store.resources.size, 0);
    assert.equal((await add('again')).length, 1);
  });

  it('hands back nothing that rests, nothing that another host has by now, and each block once', async () => {
    const store = new MemoryStore();
    const { ipam, add, clock } = await openHost('h1', store, new FakeDisk(), [V4], { cooldown: 60 });
    const [mine] = await add('a');
    const [block] = [...ipam.blocks()].map((b) => b.cidr.toString());
    await ipam.release('a');
    clock.advance(59_000);
    assert.deepEqual(await ipam.handBack(false), []);
    clock.advance(2000);
    await releaseHost(store, 'h1');
    const other = await openHost('h2', store, new FakeDisk(), [V4]);
    await other.add('b', { requested: [IpAddress.parse(mine!)] });
    const both = await Promise.all([ipam.handBack(false), ipam.handBack(false)]);
    assert.deepEqual(both.flat(), [block]);
    await other.ipam.flush();
    assert.equal(assignedInStore(store)[mine!], 'b');
  });

  it('hands nothing out from a damaged journal until it is rebuilt', async () => {
    const store = new MemoryStore();
    const disk = new FakeDisk();
    const { add, ipam } = await openHost('h1', store, disk, [V4]);
    const [lost] = await add('lost');
    const [kept] = await add('kept');
    await ipam.flush();
    const octets = disk.content(PATH)!;
    octets[octets.indexOf(':"lost"') + 3]! ^= 1;
    disk.put(PATH, octets);
    const again = await openHost('h1', store, disk, [V4]);
    assert.match(again.ipam.problem ?? '', /cannot be trusted/);
    await assert.rejects(again.add('c'), (error: unknown) => isBrindleError(error, 'corrupt'));
    assert.deepEqual(again.ipam.look(new Set(), 0), []);
    assert.equal(again.ipam.get('kept')?.addresses[0], kept);
    store.down = true;
    await assert.rejects(again.ipam.rebuild(), (error: unknown) => isBrindleError(error, 'unavailable'));
    await assert.rejects(again.add('c'), (error: unknown) => isBrindleError(error, 'corrupt'));
    store.down = false;
    await again.ipam.rebuild();
    assert.equal(again.ipam.problem, null);
    const later = [await again.add('c'), await again.add('d')].flat();
    assert.ok(!later.includes(lost!) && !later.includes(kept!));
  });
});

describe('several hosts, stopped anywhere', () => {
  type Step = { host: number; what: 'add' | 'del' | 'stop' | 'outage' | 'verify'; which: number; in: number };
  const step: fc.Arbitrary<Step> = fc.record({
    host: fc.nat(2),
    what: fc.constantFrom('add', 'add', 'add', 'del', 'stop', 'outage', 'verify'),
    which: fc.nat(9),
    in: fc.nat(6),
  });

  it('no address twice, none leaked', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.constantFrom('kill', 'power'), async (steps, how) => {
        const store = new MemoryStore();
        const hosts = await Promise.all(['h1', 'h2', 'h3'].map((host) => openHost(host, store)));
        /** What a runtime believes: container -> addresses, of ADDs that were answered. */
        const running = [0, 1, 2].map(() => new Map<string, string[]>());
        const restart = async (n: number): Promise<void> => {
          const disk = hosts[n]!.disk.after(how);
          if (how === 'power') running[n]!.clear();
          hosts[n] = await openHost(`h${n + 1}`, store, disk);
          assert.equal(hosts[n].ipam.problem, null);
          if (how === 'kill') {
            const known = [...hosts[n].ipam.attachments()].map((a) => [a.handle, a.addresses] as const);
            assert.deepEqual(new Map(known), running[n]);
          }
          for (const { handle } of [...hosts[n].ipam.unfinished()]) await hosts[n].ipam.release(handle);
          if (how === 'power') {
            for (const { handle } of [...hosts[n].ipam.attachments()]) await hosts[n].ipam.release(handle);
          }
          await hosts[n].ipam.verify().catch(() => undefined);
        };
        for (const { host: n, what, which, in: inOperations } of steps) {
          const host = hosts[n]!;
          const handle = `h${n + 1}-c${which}`;
          const families: Family[] = which % 2 ? [4] : [4, 6];
          if (what === 'outage') store.down = !store.down;
          else if (what === 'verify') await host.ipam.verify().catch(() => undefined);
          else if (what === 'stop') {
            host.disk.failAt = host.disk.operations + 1 + inOperations;
            const done = await host.add(handle, { families }).catch(() => null);
            if (done && !running[n]!.has(handle)) running[n]!.set(handle, done);
            await restart(n);
          } else if (what === 'add') {
            try {
              const addresses = await host.add(handle, { families });
              assert.ok(!running[n]!.has(handle));
              running[n]!.set(handle, addresses);
            } catch (error) {
              assert.ok(isBrindleError(error), String(error));
              if (running[n]!.has(handle)) assert.equal(error.code, 'already-exists');
              else assert.ok(['exhausted', 'unavailable'].includes(error.code), error.message);
            }
          } else {
            await host.ipam.release(handle);
            running[n]!.delete(handle);
          }
          const all = running.flatMap((map) => [...map.values()].flat());
          assert.equal(new Set(all).size, all.length, 'an address twice');
        }
        store.down = false;
        for (const [n, host] of hosts.entries()) {
          await host.ipam.verify();
          const alive = new Set(running[n]!.keys());
          host.ipam.look(alive, 0);
          for (const { handle } of host.ipam.look(alive, 0)) await host.ipam.release(handle);
          const mine = [...host.ipam.attachments()].map((a) => [a.handle, a.addresses] as const);
          assert.deepEqual(new Map(mine), running[n]);
          await host.ipam.flush();
          const used = [...host.ipam.blocks()].reduce((sum, block) => sum + block.used, 0);
          assert.equal(used, [...running[n]!.values()].flat().length, 'an address leaked');
        }
        const stored = Object.keys(assignedInStore(store)).sort();
        assert.deepEqual(stored, running.flatMap((map) => [...map.values()].flat()).sort());
      }),
      { numRuns: 200 },
    );
  });
});
