// `brindle ipam`: who has which address, what does not fit together, and leases of hosts that are gone. Works on the
// store; the hosts' own agents tell it within a second.
import type { Command } from 'commander';
import { ApiClient } from '#agent/api/client.ts';
import type { IpamDrain } from '#agent/api/types.ts';
import { BrindleError, isBrindleError } from '#base/errors.ts';
import type { Store } from '#datastore/store.ts';
import { type AddressSpace, findAddress, inspect, poolUsage } from '#ipam/inspect.ts';
import { releaseHost } from '#ipam/leases.ts';
import type { IPBlock } from '#model/ip-block.ts';
import type { IPPool } from '#model/ip-pool.ts';
import type { WorkloadEndpoint } from '#model/workload-endpoint.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { styled } from '../format/style.ts';
import { formatTable } from '../format/table.ts';
import { addStoreOptions, type StoreOptions, withStore } from '../store-access.ts';

interface ShowFlags extends StoreOptions {
  readonly blocks?: boolean;
  readonly ip?: string;
  readonly host?: string;
}

interface CheckFlags extends StoreOptions {
  readonly repair?: boolean;
}

interface ReleaseFlags extends StoreOptions {
  readonly host: string;
  readonly force?: boolean;
}

export function register(program: Command): void {
  const ipam = program.command('ipam').description('Addresses: who has which, and what does not fit together.');
  addStoreOptions(ipam.command('show').description('How full the pools are, or blocks, one host, or one address.'))
    .option('--blocks', 'a line for each block and its host')
    .option('--host <name>', 'the blocks and addresses of one host')
    .option('--ip <address>', 'who has an address')
    .addHelpText('after', '\n  brindle ipam show\n  brindle ipam show --blocks\n  brindle ipam show --ip 10.244.0.7')
    .action((flags: ShowFlags) => withStore(flags, 'existing', (store) => show(store, flags)));
  addStoreOptions(
    ipam.command('check').description('What does not fit together, and why; status 1 when there is something.'),
  )
    .option('--repair', 'also delete leases that nobody uses any more')
    .action((flags: CheckFlags) => withStore(flags, 'existing', (store) => check(store, flags.repair ?? false)));
  addStoreOptions(ipam.command('release').description('Give back the leases of a host that is gone for good.'))
    .requiredOption('--host <name>', 'the host')
    .option('--force', 'also when the host has a Node still')
    .action((flags: ReleaseFlags) => withStore(flags, 'existing', (store) => release(store, flags)));
  ipam
    .command('drain')
    .description('Make the agent of this host hand back every block that no container uses.')
    .option('--socket <path>', "the agent's socket (BRINDLE_SOCKET)")
    .action(async (flags: { readonly socket?: string }) => {
      drained(await new ApiClient(flags.socket).json<IpamDrain>('/v1/ipam/drain', { method: 'POST', timeout: 60_000 }));
    });
  ipam
    .command('rebuild')
    .description('Make the agent of this host write its damaged journal anew; the old file is kept beside it.')
    .option('--socket <path>', "the agent's socket (BRINDLE_SOCKET)")
    .action(async (flags: { readonly socket?: string }) => {
      await new ApiClient(flags.socket).json('/v1/ipam/rebuild', { method: 'POST' });
      print('The journal is written anew from what could be read of it and what the store knows.');
    });
}

async function read(store: Store): Promise<AddressSpace> {
  const list = async <T>(kind: string): Promise<readonly T[]> => (await store.list(kind)).resources as readonly T[];
  const [pools, blocks, nodes, endpoints] = await Promise.all([
    list<IPPool>('IPPool'),
    list<IPBlock>('IPBlock'),
    store.list('Node'),
    list<WorkloadEndpoint>('WorkloadEndpoint'),
  ]);
  return { pools, blocks, nodes: nodes.resources, endpoints };
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function show(store: Store, flags: ShowFlags): Promise<void> {
  const space = await read(store);
  if (flags.ip !== undefined) showAddress(space, IpAddress.parse(flags.ip));
  else if (flags.host !== undefined) showHost(space, flags.host);
  else if (flags.blocks) showBlocks(space.blocks);
  else showPools(space);
}

function showPools(space: AddressSpace): void {
  const usage = poolUsage(space);
  if (usage.length === 0) {
    print('There is no IP pool. Create one: brindle apply -f pool.yaml');
    return;
  }
  const rows = usage.map((pool) => [
    pool.name,
    pool.cidr,
    `/${pool.blockSize}`,
    `${pool.blocks}`,
    `${pool.hosts}`,
    `${pool.used}`,
    pool.size > 1n << 40n ? `2^${pool.size.toString(2).length - 1}` : `${pool.size}`,
    pool.disabled ? 'disabled' : '',
  ]);
  print(formatTable(['POOL', 'CIDR', 'BLOCK', 'LEASED', 'HOSTS', 'USED', 'OF', ''], rows, { right: [3, 4, 5, 6] }));
}

function sorted(blocks: readonly IPBlock[]): IPBlock[] {
  return blocks.toSorted((a, b) => Prefix.parse(a.spec.cidr).compare(Prefix.parse(b.spec.cidr)));
}

function showBlocks(blocks: readonly IPBlock[]): void {
  const rows = sorted(blocks).map(({ spec }) => {
    const { size } = Prefix.parse(spec.cidr);
    const used = Object.keys(spec.assigned).length;
    return [spec.cidr, spec.host, spec.pool, `${used}`, `${size - BigInt(used)}`];
  });
  print(
    rows.length > 0
      ? formatTable(['BLOCK', 'HOST', 'POOL', 'USED', 'FREE'], rows, { right: [3, 4] })
      : 'No block is leased.',
  );
}

function showHost(space: AddressSpace, host: string): void {
  const blocks = space.blocks.filter(({ spec }) => spec.host === host);
  if (blocks.length === 0 && !space.nodes.some(({ metadata }) => metadata.name === host)) {
    throw new BrindleError('not-found', `there is no host ${host}`, { remedy: 'brindle get nodes lists them' });
  }
  showBlocks(blocks);
  const rows = sorted(blocks).flatMap(({ spec }) =>
    Object.entries(spec.assigned)
      .toSorted(([a], [b]) => IpAddress.parse(a).compare(IpAddress.parse(b)))
      .map(([address, { handle, endpoint }]) => [address, endpoint ?? '', handle]),
  );
  if (rows.length > 0) print(`\n${formatTable(['ADDRESS', 'ENDPOINT', 'ATTACHMENT'], rows)}`);
}

function showAddress(space: AddressSpace, address: IpAddress): void {
  const { pool, block, host, handle, endpoint } = findAddress(space, address);
  const rows: [string, string][] = [
    ['address', address.toString()],
    ['held by', endpoint ?? (handle === null ? 'nobody' : 'an attachment without an endpoint')],
    ['attachment', handle ?? ''],
    ['host', host ?? ''],
    ['block', block ?? (pool === null ? '' : 'not leased')],
    ['pool', pool ?? 'none'],
  ];
  for (const [title, text] of rows) if (text !== '') print(`${styled('dim', title.padEnd(12))}${text}`);
}

async function check(store: Store, repair: boolean): Promise<void> {
  const found = inspect(await read(store));
  for (const { subject, problem, cause, repair: mend } of found) {
    print(`${styled('yellow', subject)} ${problem}`);
    print(`  why: ${cause}`);
    if (!mend) continue;
    if (!repair) {
      print(`  --repair would ${mend.action}`);
      continue;
    }
    try {
      await store.delete({ kind: 'IPBlock', namespace: '', name: mend.deleteBlock });
      print(`  done: ${mend.action}`);
    } catch (error) {
      if (!isBrindleError(error, 'not-found')) throw error; // somebody else was quicker
    }
  }
  print(found.length === 0 ? 'Addresses, blocks, pools and endpoints agree.' : `${found.length} found`);
  if (found.length > 0) process.exitCode = 1;
}

function drained({ released, kept }: IpamDrain): void {
  print(released.length === 0 ? 'No block is free to be handed back.' : `handed back ${released.join(', ')}`);
  for (const { cidr, used } of kept) {
    print(`kept ${cidr}: ${used === 0 ? 'addresses rest before they are used again' : `${used} in use`}`);
  }
}

async function release(store: Store, flags: ReleaseFlags): Promise<void> {
  const { host } = flags;
  if (!flags.force && (await store.get({ kind: 'Node', namespace: '', name: host }))) {
    throw new BrindleError('conflict', `host ${host} has a Node; its agent may hand out addresses at this moment`, {
      remedy: `delete it first (brindle delete node ${host}), or add --force when the machine is gone for good`,
    });
  }
  const released = await releaseHost(store, host);
  print(released.length === 0 ? `Host ${host} has no lease.` : `released ${released.join(', ')}`);
}
