// What the store says of addresses: who has which, how full pools and blocks are, and what does not fit together. Pure:
// resources in, plain data out. Hosts are the authority for their blocks; what is said here is what they last told.
import type { IPBlock } from '#model/ip-block.ts';
import type { IPPool } from '#model/ip-pool.ts';
import type { Resource } from '#model/resource.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { PrefixTrie } from '#net/prefix-trie.ts';

export interface AddressSpace {
  readonly pools: readonly IPPool[];
  readonly blocks: readonly IPBlock[];
  readonly nodes: readonly Resource[];
  readonly endpoints: readonly WorkloadEndpoint[];
}

export interface PoolUsage {
  readonly name: string;
  readonly cidr: string;
  readonly blockSize: number;
  readonly blocks: number;
  readonly hosts: number;
  readonly used: number;
  /** Addresses in all; beyond 2^53 for most IPv6 pools. */
  readonly size: bigint;
  readonly disabled: boolean;
}

/** By name of the pool. */
export function poolUsage(space: AddressSpace): PoolUsage[] {
  const usage = space.pools.map((pool): PoolUsage => {
    const cidr = Prefix.parse(pool.spec.cidr);
    const blocks = space.blocks.filter((block) => cidr.covers(Prefix.parse(block.spec.cidr)));
    return {
      name: pool.metadata.name,
      cidr: pool.spec.cidr,
      blockSize: pool.spec.blockSize,
      blocks: blocks.length,
      hosts: new Set(blocks.map((block) => block.spec.host)).size,
      used: blocks.reduce((sum, block) => sum + Object.keys(block.spec.assigned).length, 0),
      size: cidr.size,
      disabled: pool.spec.disabled,
    };
  });
  return usage.sort((a, b) => (a.name < b.name ? -1 : 1));
}

export interface AddressFinding {
  readonly address: string;
  readonly pool: string | null;
  readonly block: string | null;
  readonly host: string | null;
  readonly handle: string | null;
  /** `namespace/name` of the WorkloadEndpoint; null when nobody has the address. */
  readonly endpoint: string | null;
}

export function findAddress(space: AddressSpace, address: IpAddress): AddressFinding {
  const pool = space.pools.find(({ spec }) => Prefix.parse(spec.cidr).contains(address));
  const block = space.blocks.find(({ spec }) => Prefix.parse(spec.cidr).contains(address));
  const holder = block?.spec.assigned[address.toString()];
  const endpoint = space.endpoints.find((candidate) => addressesOf(candidate).includes(address.toString()));
  return {
    address: address.toString(),
    pool: pool?.metadata.name ?? null,
    block: block?.spec.cidr ?? null,
    host: endpoint?.spec.node ?? block?.spec.host ?? null,
    handle: holder?.handle ?? null,
    endpoint: holder?.endpoint ?? (endpoint ? nameOf(endpoint) : null),
  };
}

export interface Inconsistency {
  /** What it is about: a block, an address, a host. */
  readonly subject: string;
  readonly problem: string;
  readonly cause: string;
  /** What `check --repair` does about it; null when it does nothing, and `cause` says who will. */
  readonly repair: { readonly action: string; readonly deleteBlock: string } | null;
}

/** Everything that does not fit together, blocks first. An address that was given or freed this moment may show up for a second. */
export function inspect(space: AddressSpace): Inconsistency[] {
  return [...inspectBlocks(space), ...inspectAddresses(space)];
}

function* inspectBlocks(space: AddressSpace): Generator<Inconsistency> {
  const nodes = new Set(space.nodes.map((node) => node.metadata.name));
  const seen = new PrefixTrie<IPBlock>();
  for (const block of space.blocks) {
    const { cidr: text, host, assigned } = block.spec;
    const cidr = Prefix.parse(text);
    const used = Object.keys(assigned).length;
    const drop = (action: string) => ({ action, deleteBlock: block.metadata.name });
    const inside = space.endpoints.filter(({ spec }) => spec.node === host).flatMap(addressesOf);
    const isAlive = inside.some((address) => cidr.contains(IpAddress.parse(address)));
    const overlap = seen.matchPrefix(cidr)?.value ?? seen.covered(cidr).next().value?.value;
    seen.set(cidr, block);
    if (overlap) {
      yield {
        subject: `block ${text}`,
        problem: `overlaps block ${overlap.spec.cidr} of host ${overlap.spec.host}`,
        cause: 'a pool of these addresses was made anew with another block size while containers ran',
        repair: used === 0 && !isAlive ? drop('delete the lease, which is empty') : null,
      };
    }
    if (!nodes.has(host)) {
      yield {
        subject: `block ${text}`,
        problem: `is leased by host ${host}, which has no Node`,
        cause: 'the host was removed and did not hand its leases back',
        repair: isAlive ? null : drop(`delete the lease with the addresses in it (${used})`),
      };
    } else if (!space.pools.some(({ spec }) => Prefix.parse(spec.cidr).covers(cidr))) {
      yield {
        subject: `block ${text}`,
        problem: 'lies in no pool',
        cause: `its pool ${block.spec.pool} was deleted; containers of host ${host} keep their addresses until they end`,
        repair: used === 0 && !isAlive ? drop('delete the lease, which is empty') : null,
      };
    }
  }
}

function* inspectAddresses(space: AddressSpace): Generator<Inconsistency> {
  const byAddress = new Map<string, WorkloadEndpoint[]>();
  for (const endpoint of space.endpoints) {
    for (const address of addressesOf(endpoint)) {
      const list = byAddress.get(address) ?? [];
      list.push(endpoint);
      byAddress.set(address, list);
    }
  }
  for (const [address, endpoints] of byAddress) {
    if (endpoints.length > 1) {
      yield {
        subject: `address ${address}`,
        problem: `is held by ${endpoints.map(nameOf).join(' and ')}`,
        cause: 'an endpoint was written by hand, or a host kept an address after its lease had gone to another',
        repair: null,
      };
    }
  }
  const blocks = new PrefixTrie<IPBlock>();
  for (const block of space.blocks) blocks.set(Prefix.parse(block.spec.cidr), block);
  for (const block of space.blocks) {
    for (const [address, { handle }] of Object.entries(block.spec.assigned)) {
      if (byAddress.has(address)) continue;
      yield {
        subject: `address ${address}`,
        problem: `is taken by ${handle}, which has no WorkloadEndpoint`,
        cause: `the container ended unnoticed, or its start is under way; the agent of ${block.spec.host} frees it after two looks`,
        repair: null,
      };
    }
  }
  for (const [address, endpoints] of byAddress) {
    const block = blocks.match(IpAddress.parse(address))?.value;
    for (const endpoint of endpoints) {
      if (!space.pools.some(({ spec }) => Prefix.parse(spec.cidr).contains(IpAddress.parse(address)))) continue;
      if (!block || block.spec.host !== endpoint.spec.node) {
        yield {
          subject: `address ${address}`,
          problem: `of ${nameOf(endpoint)} on host ${endpoint.spec.node} is in ${block ? `a block of host ${block.spec.host}` : 'no block'}`,
          cause:
            'the lease was taken from a host whose containers went on; restart the container to give it a new address',
          repair: null,
        };
      } else if (!(address in block.spec.assigned)) {
        yield {
          subject: `address ${address}`,
          problem: `of ${nameOf(endpoint)} is not marked as taken in block ${block.spec.cidr}`,
          cause: `the agent of ${block.spec.host} has not told the store yet`,
          repair: null,
        };
      }
    }
  }
}

function addressesOf({ spec }: WorkloadEndpoint): string[] {
  return spec.ipNetworks.map((text) => text.replace(/\/\d+$/, ''));
}

function nameOf({ metadata }: WorkloadEndpoint): string {
  return `${metadata.namespace ?? 'default'}/${metadata.name}`;
}
