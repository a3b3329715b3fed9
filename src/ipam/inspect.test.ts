import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { IPBlock } from '#model/ip-block.ts';
import { parseResource } from '#model/registry.ts';
import type { Resource } from '#model/resource.ts';
import type { IPPool } from '#model/ip-pool.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { blockName } from './candidates.ts';
import { type AddressSpace, findAddress, inspect, poolUsage } from './inspect.ts';

const make = (apiVersion: string, kind: string, name: string, spec: object): Resource =>
  parseResource({ apiVersion, kind, metadata: { name }, spec });
const pool = (name: string, cidr: string) => make('projectcalico.org/v3', 'IPPool', name, { cidr }) as IPPool;
const node = (name: string) => make('projectcalico.org/v3', 'Node', name, {});
const block = (cidr: string, host: string, ...addresses: string[]) => {
  const assigned = Object.fromEntries(addresses.map((a) => [a, { handle: `net/${a}/eth0`, endpoint: `default/${a}` }]));
  return make('brindle.dev/v1', 'IPBlock', blockName(Prefix.parse(cidr)), {
    cidr,
    host,
    pool: 'p',
    assigned,
  }) as IPBlock;
};
const endpoint = (name: string, host: string, ...ipNetworks: string[]) =>
  make('projectcalico.org/v3', 'WorkloadEndpoint', name, {
    node: host,
    ipNetworks,
    interfaceName: 'cali1',
  }) as WorkloadEndpoint;

const SOUND: AddressSpace = {
  pools: [pool('p', '10.0.0.0/16'), pool('six', 'fd00::/64')],
  nodes: [node('h1'), node('h2')],
  blocks: [block('10.0.0.0/26', 'h1', '10.0.0.1', '10.0.0.2'), block('10.0.1.0/26', 'h2')],
  endpoints: [endpoint('a', 'h1', '10.0.0.1/32'), endpoint('b', 'h1', '10.0.0.2')],
};

const problems = (change: Partial<AddressSpace>): string[] =>
  inspect({ ...SOUND, ...change }).map(
    ({ subject, problem, repair }) => `${subject} ${problem}${repair ? ' [repair]' : ''}`,
  );

describe('inspection of the address space', () => {
  it('finds nothing in a sound one', () => {
    assert.deepEqual(problems({}), []);
    assert.deepEqual(
      poolUsage(SOUND).map(({ name, blocks, hosts, used }) => [name, blocks, hosts, used]),
      [
        ['p', 2, 2, 2],
        ['six', 0, 0, 0],
      ],
    );
  });

  it('says who has an address', () => {
    const of = (text: string) => findAddress(SOUND, IpAddress.parse(text));
    assert.deepEqual(of('10.0.0.1'), {
      address: '10.0.0.1',
      pool: 'p',
      block: '10.0.0.0/26',
      host: 'h1',
      handle: 'net/10.0.0.1/eth0',
      endpoint: 'default/10.0.0.1',
    });
    assert.deepEqual([of('10.0.0.9').endpoint, of('10.0.0.9').host], [null, 'h1']);
    assert.deepEqual([of('10.0.9.9').block, of('10.0.9.9').pool], [null, 'p']);
    assert.equal(of('192.0.2.1').pool, null);
  });

  it('names blocks of lost hosts, lost pools and overlaps, and mends only what is empty', () => {
    const { blocks } = SOUND;
    assert.deepEqual(problems({ nodes: [node('h2')] }), ['block 10.0.0.0/26 is leased by host h1, which has no Node']);
    assert.deepEqual(problems({ nodes: [node('h1')] }), [
      'block 10.0.1.0/26 is leased by host h2, which has no Node [repair]',
    ]);
    assert.deepEqual(problems({ blocks: [...blocks, block('10.0.9.0/26', 'h1'), block('172.16.0.0/26', 'h2')] }), [
      'block 172.16.0.0/26 lies in no pool [repair]',
    ]);
    assert.deepEqual(problems({ blocks: [...blocks, block('10.0.1.0/28', 'h1')] }), [
      'block 10.0.1.0/28 overlaps block 10.0.1.0/26 of host h2 [repair]',
    ]);
  });

  it('names leaked, doubled, unmarked and stray addresses, and leaves them to their hosts', () => {
    const { endpoints } = SOUND;
    assert.deepEqual(problems({ endpoints: endpoints.slice(1) }), [
      'address 10.0.0.1 is taken by net/10.0.0.1/eth0, which has no WorkloadEndpoint',
    ]);
    assert.deepEqual(problems({ endpoints: [...endpoints, endpoint('c', 'h1', '10.0.0.1/32')] }), [
      'address 10.0.0.1 is held by default/a and default/c',
    ]);
    assert.deepEqual(problems({ endpoints: [...endpoints, endpoint('c', 'h1', '10.0.0.9/32')] }), [
      'address 10.0.0.9 of default/c is not marked as taken in block 10.0.0.0/26',
    ]);
    assert.deepEqual(problems({ endpoints: [...endpoints, endpoint('c', 'h1', '10.0.1.9/32', '10.0.7.7/32')] }), [
      'address 10.0.1.9 of default/c on host h1 is in a block of host h2',
      'address 10.0.7.7 of default/c on host h1 is in no block',
    ]);
    // Addresses that are none of ours (asked for by hand, outside of every pool) are nobody's business.
    assert.deepEqual(problems({ endpoints: [...endpoints, endpoint('c', 'h1', '192.0.2.1/32')] }), []);
  });
});
