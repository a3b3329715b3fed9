// `brindle bgp`: what the speaker does and why, asked of an agent's or a standalone speaker's API socket.
// `-o json` prints the API's answers unchanged; their types are in bgp/speaker/api.ts.
import { createWriteStream, renameSync, rmSync, statSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { ApiClient } from '#agent/api/client.ts';
import type {
  ExplainView,
  PathView,
  PeerDetail,
  PeerSummary,
  RoutesAnswer,
  RouteView,
  SpeakerEvent,
  SpeakerStatus,
} from '#bgp/speaker/api.ts';
import { BrindleError, errorText } from '#base/errors.ts';
import { formatAge } from '../format/age.ts';
import { type Style, styled } from '../format/style.ts';
import { formatTable } from '../format/table.ts';
import { toJson } from '../format/yaml.ts';
import { type PlanFlags, showPlan } from './bgp-plan.ts';

interface Flags {
  readonly socket?: string;
  readonly output: 'table' | 'json';
}

export function register(program: Command): void {
  const bgp = program.command('bgp').description('BGP sessions, routes, and why they are as they are');
  const add = (name: string, description: string): Command =>
    bgp
      .command(name)
      .description(description)
      .option('--socket <path>', "the agent's or speaker's API socket (default: BRINDLE_SOCKET)")
      .addOption(new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'));

  add('summary', 'all peers: state, prefixes received, accepted and sent, last reset').action((flags: Flags) =>
    showSummary(flags),
  );
  add('peer <name>', 'one peer: timers, capabilities, counters').action((name: string, flags: Flags) =>
    showPeer(name, flags),
  );
  add('routes', 'best routes, or what one peer sent or is sent')
    .option('--received [peer]', 'as received, before import')
    .option('--accepted [peer]', 'what import accepted')
    .option('--rejected [peer]', 'what import refused, and why')
    .option('--advertised <peer>', 'what the peer is told')
    .option('--family <family>', 'ipv4 or ipv6')
    .option('--within <prefix>', 'only prefixes inside this one')
    .option('--limit <count>', 'most paths printed', '1000')
    .action((flags: RoutesFlags) => showRoutes(flags));
  add('route <prefix>', 'all paths to a prefix, and the step that decided').action((prefix: string, flags: Flags) =>
    showRoute(prefix, flags),
  );
  add('explain <prefix> [to] [peer]', 'why a prefix is, or is not, told to each peer').action(
    (prefix: string, to: string | undefined, peer: string | undefined, flags: Flags) =>
      showExplain(prefix, to === 'to' ? peer : to, flags),
  );
  add(
    'clear <how> [direction] [peer]',
    'clear soft in|soft out|hard [PEER]: refresh routes, or restart sessions',
  ).action((how: string, direction: string | undefined, peer: string | undefined, flags: Flags) =>
    clear(how, direction, peer, flags),
  );
  add('watch', 'events as they happen').action((flags: Flags) => watch(flags));
  add('dump', 'all paths as an MRT file (RFC 6396), for bgpdump and its kin')
    .requiredOption('--mrt <file>', 'where to write it')
    .addOption(
      new Option('--view <view>', 'paths as import left them, as received, or only the best')
        .choices(['accepted', 'received', 'best'])
        .default('accepted'),
    )
    .action((flags: DumpFlags) => dump(flags));
  add('plan', 'what resources, or a speaker file, would do here: sessions and routes that would change')
    .requiredOption('-f, --file <path...>', 'files or folders of resources, - for standard input; or a speaker file')
    .option('--delete', 'what deleting the resources would do')
    .action((flags: Flags & PlanFlags) => showPlan(client(flags), flags));
}

const client = (flags: Flags): ApiClient => new ApiClient(flags.socket);
const print = (text: string): void => void process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);

async function showSummary(flags: Flags): Promise<void> {
  const api = client(flags);
  const peers = await api.json<PeerSummary[]>('/v1/bgp/peers');
  const status = await api.json<SpeakerStatus>('/v1/bgp/status');
  if (flags.output === 'json') {
    print(toJson({ status, peers }));
    return;
  }
  const { ipv4, ipv6 } = status.prefixes;
  print(
    `router id ${status.routerId}, AS ${status.asNumber}, ${ipv4} IPv4 and ${ipv6} IPv6 prefixes, ` +
      `${status.peers.established} of ${status.peers.configured} peers established\n`,
  );
  const rows = peers.map((p) => {
    const sum = (of: 'received' | 'accepted' | 'sent'): string =>
      p.state === 'established' || p.families.some((f) => f.stale > 0)
        ? p.families.map((f) => String(f[of])).join('/')
        : '-';
    const policy = p.families.some((f) => f.policyMissing) ? ' (policy)' : '';
    return [
      p.name,
      p.address,
      String(p.asNumber),
      styled(STATE_STYLE[p.state] ?? 'yellow', p.state),
      formatAge(p.since),
      p.families.map((f) => f.family.slice(2)).join('/'),
      sum('received') + policy,
      sum('accepted'),
      sum('sent'),
      String(p.flaps),
      resetText(p),
    ];
  });
  print(
    formatTable(
      ['PEER', 'ADDRESS', 'AS', 'STATE', 'FOR', 'FAMILY', 'RECEIVED', 'ACCEPTED', 'SENT', 'FLAPS', 'LAST RESET'],
      rows,
    ),
  );
}

const STATE_STYLE: Readonly<Record<string, Style>> = { established: 'green', idle: 'red' };

function resetText(p: Pick<PeerSummary, 'lastReset' | 'lastError'>): string {
  const reset = p.lastReset;
  if (!reset) return p.lastError ?? '-';
  const who = reset.by === 'local' ? 'we' : 'the peer';
  const code = reset.code === null ? '' : ` ${reset.code}/${reset.subcode ?? 0}`;
  return `${who}${code}: ${reset.reason} (${formatAge(Date.now() - reset.at)} ago)`;
}

async function showPeer(name: string, flags: Flags): Promise<void> {
  const p = await client(flags).json<PeerDetail>(`/v1/bgp/peers/${encodeURIComponent(name)}`);
  if (flags.output === 'json') {
    print(toJson(p));
    return;
  }
  const end = (address: string | null, port: number | null): string =>
    address === null
      ? '-'
      : port === null
        ? address
        : address.includes(':')
          ? `[${address}]:${port}`
          : `${address}:${port}`;
  const counts = (m: PeerDetail['messages']['received']): string =>
    `${m.update} updates, ${m.keepalive} keepalives, ${m.open} opens, ${m.notification} notifications, ${m.refresh} refreshes`;
  const lines: [string, string][] = [
    [
      'peer',
      `${p.name}${p.dynamic ? ' (from a range)' : ''}${p.description === undefined ? '' : `: ${p.description}`}`,
    ],
    [
      'address',
      `${end(p.address, p.remotePort)}, AS ${p.asNumber}, router id ${p.routerId ?? '-'}${p.hostName === null ? '' : `, ${p.hostName}`}`,
    ],
    ['local', `${end(p.localAddress, p.localPort)}, AS ${p.localAs}`],
    ['state', `${p.state} for ${formatAge(p.since)}, ${p.flaps} flaps`],
    ['last reset', resetText(p)],
    ...(p.lastError === null ? [] : [['last attempt', p.lastError] as [string, string]]),
    [
      'hold time',
      `${p.holdTime.agreed ?? '-'} s agreed, ${p.holdTime.configured} s configured, keepalive ${p.keepaliveTime === null ? '-' : `${Math.round(p.keepaliveTime)} s`}`,
    ],
    ['hold margin', p.holdMargin === null ? '-' : `${(p.holdMargin / 1000).toFixed(1)} s at the least`],
    [
      'protection',
      `${p.authenticated ? 'TCP-MD5' : 'no TCP-MD5'}, ${p.ttlSecurity === null ? 'no TTL security' : `TTL security ${p.ttlSecurity} hops`}, ${p.bfd === null ? 'no BFD' : `BFD ${p.bfd}`}`,
    ],
    ['we offered', p.capabilities.sent.join(', ') || '-'],
    ['they offered', p.capabilities.received.join(', ') || '-'],
    ['received', counts(p.messages.received)],
    ['sent', counts(p.messages.sent)],
    ['queued', `${p.queuedOctets} octets`],
    [
      'malformed',
      `${p.updateErrors.discarded} attributes discarded, ${p.updateErrors.withdrawn} updates treated as withdrawal`,
    ],
  ];
  if (p.gracefulRestart.helping) lines.push(['graceful restart', 'routes of the last session are kept, stale']);
  print(
    formatTable(
      ['', ''],
      lines.map(([key, value]) => [styled('dim', key), value]),
      { headless: true },
    ),
  );
  const rows = p.families.map((f) => [
    f.family,
    String(f.received),
    String(f.accepted),
    String(f.sent),
    String(f.stale),
    `${f.endOfRibReceived ? 'received' : 'not received'}, ${f.endOfRibSent ? 'sent' : 'not sent'}`,
  ]);
  print(`\n${formatTable(['FAMILY', 'RECEIVED', 'ACCEPTED', 'SENT', 'STALE', 'END-OF-RIB'], rows)}`);
}

interface RoutesFlags extends Flags {
  readonly received?: string | true;
  readonly accepted?: string | true;
  readonly rejected?: string | true;
  readonly advertised?: string;
  readonly family?: string;
  readonly within?: string;
  readonly limit: string;
}

async function showRoutes(flags: RoutesFlags): Promise<void> {
  const views = (['received', 'accepted', 'rejected', 'advertised'] as const).filter((v) => flags[v] !== undefined);
  if (views.length > 1) {
    throw new BrindleError('invalid-argument', `--${views.join(' and --')} exclude each other`, {
      remedy: 'ask for one',
    });
  }
  const [view] = views;
  const peer = view === undefined ? undefined : flags[view];
  const query = new URLSearchParams({ view: view ?? 'best', limit: flags.limit });
  if (typeof peer === 'string') query.set('peer', peer);
  if (flags.family !== undefined) query.set('family', flags.family);
  if (flags.within !== undefined) query.set('within', flags.within);
  const answer = await client(flags).json<RoutesAnswer>(`/v1/bgp/routes?${query}`, { timeout: 60_000 });
  if (flags.output === 'json') {
    print(toJson(answer));
    return;
  }
  print(pathTable(answer.paths, view === 'rejected'));
  if (answer.truncated) print(styled('yellow', `more than ${flags.limit} paths: see --limit and --within`));
}

function pathTable(paths: readonly PathView[], rejected: boolean): string {
  const titles = ['', 'PREFIX', 'NEXT HOP', 'FROM', 'PREF', 'MED', 'AS PATH', 'ORIGIN', 'COMMUNITIES'];
  if (rejected) titles.push('REASON');
  const rows = paths.map((p) => {
    const mark = `${p.best ? '*' : p.multipath ? '=' : ' '}${p.stale ? 's' : ''}${p.accepted ? '' : 'x'}`;
    const communities = [...p.communities, ...p.largeCommunities, ...p.extendedCommunities].join(' ');
    const row = [
      mark,
      p.prefix,
      p.nextHop ?? 'self',
      p.peer ?? 'local',
      p.localPref === null ? '-' : String(p.localPref),
      p.med === null ? '-' : String(p.med),
      p.asPath || '-',
      p.origin,
      communities,
    ];
    if (rejected) row.push(p.rejected ?? '');
    return row;
  });
  return formatTable(titles, rows);
}

async function showRoute(prefix: string, flags: Flags): Promise<void> {
  const view = await client(flags).json<RouteView>(`/v1/bgp/route?prefix=${encodeURIComponent(prefix)}`);
  if (flags.output === 'json') {
    print(toJson(view));
    return;
  }
  if (view.paths.length === 0) {
    print(`no path to ${view.prefix} is known`);
    process.exitCode = 1;
    return;
  }
  const usable = view.paths.filter((p) => p.rejected === undefined).length;
  print(
    `${view.prefix}: ${view.paths.length} paths, ${usable} usable${view.decidedBy === null ? '' : `, decided by ${view.decidedBy}`}`,
  );
  print(
    pathTable(
      view.paths,
      view.paths.some((p) => p.rejected !== undefined),
    ),
  );
}

async function showExplain(prefix: string, peer: string | undefined, flags: Flags): Promise<void> {
  const query = new URLSearchParams({ prefix });
  if (peer !== undefined) query.set('peer', peer);
  const answers = await client(flags).json<ExplainView[]>(`/v1/bgp/explain?${query}`);
  if (flags.output === 'json') {
    print(toJson(answers));
    return;
  }
  const rows = answers.map((a) => [a.peer, a.advertised ? styled('green', 'yes') : styled('red', 'no'), a.reason]);
  print(`${prefix}\n${formatTable(['PEER', 'ADVERTISED', 'WHY'], rows)}`);
}

async function clear(
  how: string,
  direction: string | undefined,
  peer: string | undefined,
  flags: Flags,
): Promise<void> {
  const hard = how === 'hard';
  const mode = hard
    ? 'hard'
    : how === 'soft' && (direction === 'in' || direction === 'out')
      ? `soft-${direction}`
      : null;
  if (mode === null) {
    throw new BrindleError(
      'invalid-argument',
      `"${[how, direction].filter((w) => w !== undefined).join(' ')}" is not a way to clear`,
      {
        remedy: 'write: clear soft in [PEER], clear soft out [PEER], or clear hard [PEER]',
      },
    );
  }
  const target = (hard ? direction : peer) ?? null;
  await client(flags).json('/v1/bgp/clear', { method: 'POST', body: { peer: target, mode } });
  if (flags.output === 'json') print(toJson({ peer: target, mode }));
}

async function watch(flags: Flags): Promise<void> {
  await client(flags).stream('/v1/bgp/watch', (value) => {
    const event = value as SpeakerEvent;
    if (flags.output === 'json') print(JSON.stringify(event));
    else print(`${new Date(event.at).toISOString()} ${eventText(event)}`);
  });
}

function eventText(event: SpeakerEvent): string {
  switch (event.type) {
    case 'peer-state':
      return `${event.peer} ${event.from} -> ${event.to}${event.reason ? `: ${event.reason.reason}` : ''}`;
    case 'end-of-rib':
      return `${event.peer} has sent all its ${event.family} routes`;
    case 'update-error':
      return `${event.peer} sent a malformed UPDATE (${event.verdict}): ${event.reason}`;
    case 'max-prefixes':
      return `${event.peer} sent ${event.count} ${event.family} prefixes, the limit is ${event.limit}`;
    case 'unknown-peer':
      return `${event.address} tried to connect and is no peer`;
    case 'error':
      return `${event.peer === undefined ? '' : `${event.peer} `}${event.message}`;
  }
}

interface DumpFlags extends Flags {
  readonly mrt: string;
  readonly view: string;
}

/** The file appears when it is whole; a device or pipe is written to as it is. */
async function dump(flags: DumpFlags): Promise<void> {
  const found = statSync(flags.mrt, { throwIfNoEntry: false });
  const special = found !== undefined && !found.isFile();
  const path = special ? flags.mrt : `${flags.mrt}.${process.pid}.part`;
  const out = createWriteStream(path);
  try {
    await client(flags).download(`/v1/bgp/dump?view=${flags.view}`, out);
    if (!special) renameSync(path, flags.mrt);
  } catch (error) {
    if (!special) rmSync(path, { force: true });
    if (error instanceof BrindleError) throw error;
    throw new BrindleError('unavailable', `the dump into ${flags.mrt} failed: ${errorText(error)}`, { cause: error });
  }
  if (flags.output === 'json') print(toJson({ file: flags.mrt, octets: out.bytesWritten, view: flags.view }));
  else if (!special) print(`${flags.mrt}: ${out.bytesWritten} octets`);
}
