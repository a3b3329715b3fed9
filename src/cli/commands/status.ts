// `brindle status`: one host on one screen. Exit status 1 when something is wrong; `--wait` waits until it is ready.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { ApiClient } from '#agent/api/client.ts';
import type { AgentStatus } from '#agent/api/types.ts';
import { BrindleError, isBrindleError } from '#base/errors.ts';
import type { PeerSummary } from '#bgp/speaker/api.ts';
import { formatAge } from '../format/age.ts';
import { styled } from '../format/style.ts';
import { formatTable } from '../format/table.ts';
import { toJson } from '../format/yaml.ts';

interface Flags {
  readonly socket?: string;
  readonly output: 'table' | 'json';
  readonly wait?: string;
}

const POLL = 200;

export function register(program: Command): void {
  program
    .command('status')
    .description('the state of this host, on one screen; exit status 1 when something is wrong')
    .option('--socket <path>', "the agent's API socket (default: BRINDLE_SOCKET)")
    .option('--wait <seconds>', 'wait for it to be ready')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'))
    .action((flags: Flags) => run(flags));
}

async function run(flags: Flags): Promise<void> {
  const client = new ApiClient(flags.socket);
  const status = await ask(client, flags.wait === undefined ? 0 : seconds(flags.wait));
  if (flags.output === 'json') console.log(toJson(status));
  else print(status, status.bgp.enabled ? await client.json<readonly PeerSummary[]>('/v1/bgp/peers') : []);
  if (!status.conditions.every((condition) => condition.ok)) process.exitCode = 1;
}

async function ask(client: ApiClient, wait: number): Promise<AgentStatus> {
  const end = performance.now() + wait;
  for (;;) {
    try {
      const status = await client.json<AgentStatus>('/v1/status');
      if (status.ready || performance.now() >= end) return status;
    } catch (error) {
      if (!isBrindleError(error, 'unavailable') || performance.now() >= end) throw error;
    }
    await sleep(POLL);
  }
}

function seconds(text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value >= 0) return value * 1000;
  throw new BrindleError('invalid-argument', `--wait ${text} is not a number of seconds`);
}

function print(status: AgentStatus, peers: readonly PeerSummary[]): void {
  const { host, version, pid, uptime, memory, endpoints, blocks, routes, problems, unpublished } = status;
  const word = status.ready ? styled('green', 'ready') : styled('red', 'not ready');
  console.log(
    `${host}: ${word}, brindle ${version}, pid ${pid}, up ${formatAge(uptime)}, ${Math.round(memory / 1e6)} MB\n`,
  );
  console.log(
    formatTable(
      ['', 'PART', 'STATE'],
      status.conditions.map((c) => [c.ok ? 'ok' : '!!', c.name, c.message]),
    ),
  );
  console.log(`\ncontainers: ${endpoints}${unpublished > 0 ? ` (${unpublished} not yet in the store)` : ''}`);
  if (blocks.length > 0) {
    console.log(
      formatTable(
        ['BLOCK', 'POOL', 'USED'],
        blocks.map((b) => [b.cidr, b.pool, `${b.used} of ${b.size}`]),
      ),
    );
  }
  console.log(
    `\nroutes: ${routes.installed} installed${routes.failed > 0 ? `, ${routes.failed} refused by the kernel` : ''}`,
  );
  if (!status.bgp.enabled) console.log(`BGP: off, ${status.bgp.reason}`);
  else {
    console.log(`BGP: ${status.bgp.established} of ${status.bgp.configured} sessions established`);
    const rows = peers.map((p) => [
      p.name,
      p.address,
      String(p.asNumber),
      p.state,
      formatAge(p.since),
      p.lastReset?.reason ?? '',
    ]);
    if (rows.length > 0) console.log(formatTable(['PEER', 'ADDRESS', 'AS', 'STATE', 'FOR', 'LAST RESET'], rows));
  }
  if (problems.length > 0) {
    console.log(`\n${styled('yellow', 'resources that could not be used:')}`);
    for (const { key, error } of problems) console.log(`  ${key}: ${error}`);
  }
}
