import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { chooseFabric, DEFAULT_FABRIC, type Fabric } from './fabric.ts';
import type { BgpHost } from './hosts.ts';

const ZONE = DEFAULT_FABRIC.topologyLabel;

function host(name: string, zone: string | null = null, more: Partial<BgpHost> = {}): BgpHost {
  const labels = zone === null ? {} : { [ZONE]: zone };
  return {
    name,
    labels,
    ipv4: `10.0.0.${name.slice(1)}`,
    ipv6: null,
    asNumber: 64512,
    clusterId: null,
    port: 179,
    ...more,
  };
}

const hosts = (count: number, zones = 1): BgpHost[] =>
  Array.from({ length: count }, (_, i) => host(`h${100 + i}`, zones === 1 ? null : `z${i % zones}`));

/** Name pairs with whether the first reflects for the second. */
function links(fabric: Fabric, all: readonly BgpHost[]): Map<string, boolean> {
  return new Map(
    all.flatMap(({ name }) => fabric.linksOf(name).map(({ other, isClient }) => [`${name} ${other.name}`, isClient])),
  );
}

/** Whether a route of every host comes to every other over iBGP (RFC 4456), without the hosts in `dead`. */
function reachesAll(fabric: Fabric, all: readonly BgpHost[], dead: readonly string[] = []): boolean {
  const alive = all.filter(({ name }) => !dead.includes(name));
  const edges = [...links(fabric, alive)].filter(([pair]) => pair.split(' ').every((name) => !dead.includes(name)));
  for (const origin of alive) {
    // A reflector passes on what comes from a client to all, and what comes from another to its clients.
    const known = new Map<string, boolean>([[origin.name, true]]); // to whom -> may be passed on to non-clients
    for (let grew = true; grew; ) {
      grew = false;
      for (const [pair, toClient] of edges) {
        const [from = '', to = ''] = pair.split(' ');
        const passesOn = known.get(from);
        if (passesOn === undefined || !(from === origin.name || passesOn || toClient)) continue;
        const fromClient = links(fabric, alive).get(`${to} ${from}`) === true;
        if (known.get(to) === true || (known.has(to) && !fromClient)) continue;
        known.set(to, fromClient);
        grew = true;
      }
    }
    if (known.size < alive.length) return false;
  }
  return true;
}

describe('chooseFabric', () => {
  it('is a mesh up to the limit, and reflectors above', () => {
    const few = hosts(4);
    const mesh = chooseFabric(few, { ...DEFAULT_FABRIC, meshLimit: 4 });
    assert.equal(mesh.mode, 'mesh');
    assert.deepEqual(
      mesh.linksOf('h100').map(({ other }) => other.name),
      ['h101', 'h102', 'h103'],
    );
    const fabric = chooseFabric(hosts(5), { ...DEFAULT_FABRIC, meshLimit: 4 });
    assert.equal(fabric.reflectors.length, 2);
    assert.equal(chooseFabric(few, { ...DEFAULT_FABRIC, mode: 'Reflectors' }).mode, 'reflectors');
    assert.equal(chooseFabric(hosts(5), { ...DEFAULT_FABRIC, meshLimit: 4, mode: 'Mesh' }).mode, 'mesh');
  });

  it('both ends agree on every session, and any reflector may fail', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 3, max: 14 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 2, max: 3 }),
        (count, zones, perZone) => {
          const all = hosts(count, zones);
          const fabric = chooseFabric(all, { ...DEFAULT_FABRIC, mode: 'Reflectors', reflectorsPerZone: perZone });
          const pairs = links(fabric, all);
          for (const pair of pairs.keys()) assert.ok(pairs.has(pair.split(' ').reverse().join(' ')), pair);
          assert.ok(reachesAll(fabric, all));
          for (const reflector of fabric.reflectors) assert.ok(reachesAll(fabric, all, [reflector]), reflector);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('one host more changes at most one reflector', () => {
    for (let count = 10; count < 60; count++) {
      const spec = { ...DEFAULT_FABRIC, mode: 'Reflectors' as const };
      const before = chooseFabric(hosts(count), spec).reflectors;
      const after = chooseFabric(hosts(count + 1), spec).reflectors;
      assert.ok(after.filter((name) => !before.includes(name)).length <= 1);
    }
  });

  it('a zone without enough hosts for reflectors is served by others', () => {
    const all = [host('h1', 'a'), host('h2', 'b'), host('h3', 'b'), host('h4', 'b'), host('h5', 'c'), host('h6', 'c')];
    const fabric = chooseFabric(all, { ...DEFAULT_FABRIC, mode: 'Reflectors', reflectorSelector: `${ZONE} == 'b'` });
    assert.ok(fabric.reflectors.every((name) => ['h2', 'h3', 'h4'].includes(name)));
    assert.equal(fabric.linksOf('h1').length, 2);
    assert.ok(reachesAll(fabric, all));
  });

  it('stays a mesh, and says why, where reflectors cannot be', () => {
    const spec = { ...DEFAULT_FABRIC, mode: 'Reflectors' as const };
    const mixed = chooseFabric([host('h1'), host('h2', null, { asNumber: 65000 })], spec);
    assert.equal(mixed.mode, 'mesh');
    assert.match(mixed.problem!, /AS numbers/);
    assert.match(chooseFabric(hosts(3), { ...spec, reflectorSelector: "x == 'y'" }).problem!, /reflectorSelector/);
    const families = [host('h1', null, { ipv6: null }), host('h2', null, { ipv4: null, ipv6: 'fd00::2' })];
    assert.match(chooseFabric(families, spec).problem!, /ipv4 and ipv6/);
  });
});
