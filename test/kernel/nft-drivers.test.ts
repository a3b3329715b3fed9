// Both drivers against the real kernel: what one writes the other reads, and nft prints the same for both.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { isBrindleError } from '#base/errors.ts';
import type { NftDriver, TableState } from '#nft/driver.ts';
import { LibnftablesDriver } from '#nft/libnftables-driver.ts';
import { NetlinkNftDriver } from '#nft/netlink/netlink-driver.ts';
import type { SetSpec, Statement } from '#nft/objects.ts';
import { makeRule } from '#nft/rule.ts';
import { Transaction } from '#nft/transaction.ts';
import { Libnftables, NftError } from '#sys/libnftables.ts';
import { createNamedNetns, deleteNamedNetns, namedNetnsPath, withNetns } from '#sys/netns.ts';

const HOSTS: SetSpec = { name: 's.hosts-4', key: ['ipv4'] };
const HOSTS6: SetSpec = { name: 's.hosts-6', key: ['ipv6'] };
const NETS: SetSpec = { name: 's.nets-4n', key: ['ipv4'], interval: true };
const NETS6: SetSpec = { name: 's.nets-6n', key: ['ipv6'], interval: true };
const PORTS: SetSpec = { name: 'ports-4', key: ['ipv4', 'protocol', 'port'] };
const PORTS6: SetSpec = { name: 'ports-6', key: ['ipv6', 'protocol', 'port'] };
const MAP: SetSpec = { name: 'dispatch', key: ['interface'], verdicts: true };

const counter: Statement = { type: 'counter' };
const accept: Statement = { type: 'accept' };

/** Every kind of statement. */
const RULES: Statement[][] = [
  [
    { type: 'family', family: 6 },
    { type: 'interface', direction: 'in', name: 'cali*' },
    { type: 'reverse-path-missing' },
    counter,
    { type: 'drop' },
  ],
  [{ type: 'interface', direction: 'out', name: 'eth0', not: true }, counter, { type: 'return' }],
  [
    { type: 'protocol', protocols: [6] },
    { type: 'port', side: 'destination', ranges: [{ min: 80, max: 80 }] },
    counter,
    accept,
  ],
  [
    { type: 'protocol', protocols: [6] },
    { type: 'port', side: 'source', ranges: [{ min: 80, max: 90 }], not: true },
    counter,
    accept,
  ],
  [
    { type: 'protocol', protocols: [17] },
    {
      type: 'port',
      side: 'destination',
      ranges: [
        { min: 1, max: 5 },
        { min: 443, max: 443 },
        { min: 60_000, max: 65_535 },
      ],
    },
    counter,
    accept,
  ],
  [{ type: 'protocol', protocols: [6, 17, 132] }, counter, accept],
  [{ type: 'protocol', protocols: [47], not: true }, counter],
  [
    { type: 'family', family: 4 },
    { type: 'address', family: 4, side: 'source', prefixes: ['10.0.0.0/8'] },
    counter,
    accept,
  ],
  [
    { type: 'family', family: 4 },
    { type: 'address', family: 4, side: 'source', prefixes: ['10.1.2.3'], not: true },
    counter,
    accept,
  ],
  [
    { type: 'family', family: 4 },
    {
      type: 'address',
      family: 4,
      side: 'destination',
      prefixes: ['10.0.0.0/8', '172.16.0.0/12', '192.168.1.1', '240.0.0.0/4'],
    },
    counter,
    accept,
  ],
  [
    { type: 'family', family: 6 },
    { type: 'address', family: 6, side: 'source', prefixes: ['fd00::/9'] },
    counter,
    accept,
  ],
  [
    { type: 'family', family: 6 },
    { type: 'address', family: 6, side: 'destination', prefixes: ['fd00::1', 'fe80::/10'], not: true },
    counter,
    accept,
  ],
  [{ type: 'family', family: 4 }, { type: 'set', family: 4, side: 'source', set: HOSTS.name }, counter, accept],
  [
    { type: 'family', family: 6 },
    { type: 'set', family: 6, side: 'destination', set: NETS6.name, not: true },
    counter,
    accept,
  ],
  [
    { type: 'family', family: 4 },
    { type: 'service-set', family: 4, side: 'destination', set: PORTS.name },
    counter,
    accept,
  ],
  [
    { type: 'family', family: 6 },
    { type: 'service-set', family: 6, side: 'source', set: PORTS6.name, not: true },
    counter,
    accept,
  ],
  [
    { type: 'family', family: 4 },
    { type: 'protocol', protocols: [1] },
    { type: 'icmp', family: 4, icmpType: 8 },
    counter,
    accept,
  ],
  [
    { type: 'family', family: 4 },
    { type: 'protocol', protocols: [1] },
    { type: 'icmp', family: 4, icmpType: 3, icmpCode: 4, not: true },
    counter,
    accept,
  ],
  [{ type: 'family', family: 6 }, { type: 'icmp-types', family: 6, icmpTypes: [133, 135, 136] }, accept],
  [
    {
      type: 'ct-state-verdicts',
      verdicts: [
        ['established', 'accept'],
        ['related', 'accept'],
      ],
    },
  ],
  [{ type: 'ct-state', states: ['invalid'] }, counter, { type: 'drop' }],
  [{ type: 'mark', mask: 0x10000, value: 0x10000 }, { type: 'set-mark', mask: 0x10000, value: 0 }, { type: 'return' }],
  [counter, { type: 'set-mark', mask: 0x10000, value: 0x10000 }, { type: 'return' }],
  [
    counter,
    { type: 'limit', perSecond: 10, burst: 20 },
    { type: 'log', prefix: 'brindle NetworkPolicy/ns/x ingress 3: ' },
  ],
  [{ type: 'interface-verdicts', direction: 'in', map: MAP.name }],
  [{ type: 'jump', chain: 'ingress/NetworkPolicy/ns/some.name' }],
  [counter, { type: 'goto', chain: 'ingress/NetworkPolicy/ns/some.name' }],
];

const NAT_RULES: Statement[][] = [
  [
    { type: 'family', family: 4 },
    { type: 'set', family: 4, side: 'source', set: NETS.name },
    { type: 'set', family: 4, side: 'destination', set: NETS.name, not: true },
    counter,
    { type: 'masquerade' },
  ],
  [
    { type: 'family', family: 4 },
    { type: 'source-nat', family: 4, address: '192.0.2.1' },
  ],
  [{ type: 'family', family: 6 }, counter, { type: 'source-nat', family: 6, address: '2001:db8::1' }],
];

function everything(table: string): Transaction {
  const tx = new Transaction(table).addTable();
  for (const set of [HOSTS, HOSTS6, NETS, NETS6, PORTS, PORTS6, MAP]) tx.addSet(set);
  tx.addElements(HOSTS, ['10.0.0.1', '10.0.0.2']).addElements(HOSTS6, ['fd00::1']);
  tx.addElements(NETS, ['10.0.0.0/8', '11.0.0.0/8', '192.168.0.1', '255.255.255.0/24']);
  tx.addElements(NETS6, ['fd00::/8', 'fe80::1', 'ff00::/8']);
  tx.addElements(PORTS, ['10.0.0.1 . 6 . 80', '10.0.0.1 . 17 . 53']).addElements(PORTS6, ['fd00::1 . 132 . 9']);
  tx.addChain({ name: 'ingress/NetworkPolicy/ns/some.name' });
  tx.addChain({ name: 'from/cali1' });
  tx.addChain({ name: 'forward', base: { type: 'filter', hook: 'forward', priority: -10 } });
  tx.addChain({ name: 'out', base: { type: 'nat', hook: 'postrouting', priority: 100 } });
  for (const [i, statements] of NAT_RULES.entries()) tx.addRule('out', makeRule(`nat ${i}`, statements));
  tx.addChain({ name: 'raw', base: { type: 'filter', hook: 'prerouting', priority: -300 } });
  for (const [i, statements] of RULES.entries()) tx.addRule('forward', makeRule(`rule ${i}`, statements));
  tx.addRule('raw', makeRule('untracked', [{ type: 'interface', direction: 'in', name: 'eth1' }, { type: 'notrack' }]));
  tx.addRule('from/cali1', makeRule('x'.repeat(300), [counter, { type: 'drop' }]));
  tx.addMapElements(MAP, [{ key: 'cali1', verdict: { type: 'goto', chain: 'from/cali1' } }]);
  return tx;
}

describe('nftables drivers', () => {
  const namespace = `bn${process.pid.toString(36)}`;
  let netlink: NetlinkNftDriver;
  let library: LibnftablesDriver;

  before(() => {
    createNamedNetns(namespace);
    netlink = NetlinkNftDriver.open({ netns: namedNetnsPath(namespace) });
    library = withNetns(namedNetnsPath(namespace), () => new LibnftablesDriver(Libnftables.open()));
  });

  after(() => {
    netlink?.close();
    library?.close();
    deleteNamedNetns(namespace);
  });

  const print = (table: string) =>
    execFileSync('ip', ['netns', 'exec', namespace, 'nft', '-s', 'list', 'table', 'inet', table], {
      encoding: 'utf8',
    }).replace(`inet ${table} `, 'inet TABLE ');
  const shape = (state: TableState | null) => ({
    chains: [...state!.chains].sort(([a], [b]) => (a < b ? -1 : 1)),
    sets: [...state!.sets]
      .map(
        ([name, set]) => [name, { ...set, elements: [...set.elements].sort(), verdicts: [...set.verdicts] }] as const,
      )
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  });

  it('write the same table', async () => {
    assert.equal(await netlink.commit(everything('a')), null);
    assert.equal(await library.commit(everything('b')), null);
    assert.equal(print('a'), print('b'));
  });

  it('read the same state', async () => {
    assert.deepEqual(shape(await netlink.list('a')), shape(await library.list('a')));
    assert.deepEqual(shape(await netlink.list('b')), shape(await netlink.list('a')));
    assert.equal(await netlink.list('nothing'), null);
    assert.equal(await library.list('nothing'), null);
    const terse = await netlink.list('a', { terse: true });
    assert.equal(terse?.chains.get('forward')?.rules.length, RULES.length);
  });

  it('change and remove what is there, for both the same', async () => {
    for (const [driver, table] of [
      [netlink, 'a'],
      [library, 'b'],
    ] as const) {
      const tx = new Transaction(table);
      tx.deleteElements(NETS, ['10.0.0.0/8', '255.255.255.0/24']).addElements(NETS, ['10.1.0.0/16', '10.0.0.0/16']);
      tx.deleteElements(PORTS, ['10.0.0.1 . 17 . 53']).flushSet(HOSTS6);
      tx.deleteMapElements(MAP, ['cali1']).addChain({ name: 'from/cali2' });
      tx.addMapElements(MAP, [{ key: 'cali2', verdict: { type: 'goto', chain: 'from/cali2' } }]);
      tx.flushChain('from/cali1').deleteChain('from/cali1').flushChain('raw');
      assert.equal(await driver.commit(tx), null);
    }
    assert.equal(print('a'), print('b'));
    assert.deepEqual([...(await netlink.list('a'))!.sets.get(NETS.name)!.elements].sort(), [
      '10.0.0.0/16',
      '10.1.0.0/16',
      '11.0.0.0/8',
      '192.168.0.1',
    ]);
  });

  it('tell which command was refused, and have done nothing then', async () => {
    const before = print('a');
    for (const driver of [netlink, library] as NftDriver[]) {
      const tx = new Transaction('a')
        .addChain({ name: 'new' })
        .addRule('absent', makeRule('x', [accept]))
        .deleteChain('forward');
      const failure = await driver.commit(tx);
      assert.equal(failure?.command, 1);
      assert.ok(isBrindleError(failure?.error, 'kernel'));
      assert.match(failure.error.message, /absent/);
      const busy = await driver.commit(new Transaction('a').addChain({ name: 'new' }).deleteSet(MAP));
      assert.equal(busy?.command, 1);
      const overlap = await driver.commit(new Transaction('a').addElements(NETS, ['11.0.0.0/9']));
      assert.equal(overlap?.command, 0);
    }
    assert.equal(print('a'), before);
  });

  it('carry a large batch', async () => {
    const elements = Array.from({ length: 20_000 }, (_, i) => `10.9.${i >> 8}.${i & 255}`);
    const tx = new Transaction('a').addElements(HOSTS, elements);
    for (let i = 0; i < 1000; i++) tx.addChain({ name: `c${i}` });
    assert.equal(await netlink.commit(tx), null);
    assert.equal((await netlink.list('a'))?.sets.get(HOSTS.name)?.elements.size, 20_002);
    assert.equal(await netlink.commit(new Transaction('a').deleteTable()), null);
    assert.equal(await netlink.list('a'), null);
  });

  it('count generations, and parse errors of libnftables with their position', async () => {
    const before = await netlink.generation();
    await netlink.commit(new Transaction('g').addTable().deleteTable());
    assert.equal(await netlink.generation(), before + 1);
    const raw = withNetns(namedNetnsPath(namespace), () => Libnftables.open());
    assert.throws(
      () => raw.run('add table inet ok\nadd rule inet ok nochain accept'),
      (error) =>
        error instanceof NftError && error.position?.line === 2 && error.command === 'add rule inet ok nochain accept',
    );
    assert.throws(
      () => raw.run('add tabl inet x'),
      (error) => error instanceof NftError && error.position?.line === 1,
    );
    raw.close();
  });
});
