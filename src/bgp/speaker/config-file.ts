// The standalone speaker's file: YAML in, configuration out. Every key is checked; an unknown one is an error that names
// the nearest known one. Pure: the text is read by the caller.
import { parse } from 'yaml';
import { BrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type {
  AddressFamily,
  FilterSpec,
  GracefulRestartConfig,
  ListenConfig,
  LocalRoute,
  LongLivedConfig,
  MaxPrefixesConfig,
  PeerConfig,
  PeerOptions,
  PeerRangeConfig,
  RoutePolicy,
  SpeakerConfig,
} from './api.ts';
import { checkConfig } from './identity.ts';
import { localAttributes } from './local-routes.ts';
import type { ReplaySource } from './mrt-replay.ts';

export interface SpeakerFile {
  readonly config: SpeakerConfig;
  readonly networks: readonly LocalRoute[];
  /** MRT dumps whose routes are announced too. */
  readonly networksFrom: readonly ReplaySource[];
  /** Whether learned routes go into the kernel. */
  readonly kernelInstall: boolean;
  /** Unix socket of the API; null for none. */
  readonly api: string | null;
}

type Reader<T> = (value: unknown, at: string) => T;
type Table = Readonly<Record<string, Reader<unknown>>>;
type Read<T extends Table> = { -readonly [K in keyof T]?: ReturnType<T[K]> };

function wrong(at: string, what: string, remedy: string): never {
  throw new BrindleError('invalid-argument', `${at}: ${what}`, { field: at, remedy });
}

const show = (value: unknown): string => JSON.stringify(value) ?? 'nothing';

const text: Reader<string> = (value, at) =>
  typeof value === 'string' && value !== '' ? value : wrong(at, `${show(value)} is not text`, 'write a string');
const flag: Reader<boolean> = (value, at) =>
  typeof value === 'boolean' ? value : wrong(at, `${show(value)} is not a truth value`, 'write true or false');
const integer =
  (least: number, most: number): Reader<number> =>
  (value, at) =>
    typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most
      ? value
      : wrong(at, `${show(value)} is not in ${least}..${most}`, `write a whole number from ${least} to ${most}`);
const oneOf =
  <T extends string>(...words: readonly T[]): Reader<T> =>
  (value, at) =>
    words.find((w) => w === value) ?? wrong(at, `${show(value)} is not known`, `write one of ${words.join(', ')}`);
const address: Reader<string> = (value, at) => {
  const parsed = typeof value === 'string' ? IpAddress.tryParse(value) : null;
  return parsed ? parsed.toString() : wrong(at, `${show(value)} is not an IP address`, 'write an IPv4 or IPv6 address');
};
const dottedQuad: Reader<string> = (value, at) => {
  const parsed = typeof value === 'string' ? IpAddress.tryParse(value) : null;
  return parsed?.family === 4 ? parsed.toString() : wrong(at, `${show(value)} is no identifier`, 'write a.b.c.d');
};
const prefix: Reader<string> = (value, at) => {
  if (typeof value !== 'string' || !Prefix.tryParse(value))
    wrong(at, `${show(value)} is not a prefix`, 'write 10.1.0.0/16');
  try {
    return Prefix.parseStrict(value).toString();
  } catch (error) {
    const remedy = error instanceof BrindleError ? error.remedy : undefined;
    return wrong(at, `"${value}" has host bits set`, remedy ?? 'clear the host bits');
  }
};
const listOf =
  <T>(item: Reader<T>): Reader<T[]> =>
  (value, at) =>
    Array.isArray(value)
      ? value.map((entry, i) => item(entry, `${at}[${i}]`))
      : wrong(at, `${show(value)} is not a list`, 'write a list');
/** `1.10` is AS 65546 (RFC 5396). */
const asNumber: Reader<number> = (value, at) => {
  if (typeof value === 'string' && /^\d+\.\d+$/.test(value)) {
    const [high, low] = value.split('.').map(Number);
    return high! * 65536 + low!;
  }
  return integer(1, 0xffffffff)(value, at);
};

function object<T extends Table>(table: T): Reader<Read<T>> {
  return (value, at) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      wrong(at || 'the file', `${show(value)} is not a mapping`, `write keys: ${Object.keys(table).join(', ')}`);
    }
    const out: Record<string, unknown> = {};
    for (const [key, member] of Object.entries(value as Record<string, unknown>)) {
      const path = at === '' ? key : `${at}.${key}`;
      const reader = Object.hasOwn(table, key) ? table[key] : undefined;
      if (!reader) {
        const near = nearest(key, Object.keys(table));
        throw new BrindleError('invalid-argument', `${path}: unknown key "${key}"`, {
          field: path,
          remedy: near === null ? `the keys here are ${Object.keys(table).join(', ')}` : `did you mean "${near}"?`,
        });
      }
      if (member !== null && member !== undefined) out[key] = reader(member, path);
    }
    return out as Read<T>;
  };
}

function required<T>(value: T | undefined, at: string, remedy: string): T {
  return value === undefined ? wrong(at, 'is missing', remedy) : value;
}

const gracefulRestart: Reader<GracefulRestartConfig> = (value, at) => {
  if (typeof value === 'boolean') return { enabled: value, restartTime: 120 };
  const read = object({ enabled: flag, restartTime: integer(0, 4095) })(value, at);
  return { enabled: read.enabled ?? true, restartTime: read.restartTime ?? 120 };
};
const longLived: Reader<LongLivedConfig> = (value, at) => {
  if (typeof value === 'boolean') return { enabled: value, staleTime: 3600 };
  const read = object({ enabled: flag, staleTime: integer(0, 0xffffff) })(value, at);
  return { enabled: read.enabled ?? true, staleTime: read.staleTime ?? 3600 };
};
const maxPrefixes: Reader<MaxPrefixesConfig> = (value, at) => {
  if (typeof value === 'number') return { limit: integer(1, 1e9)(value, at), action: 'reset', restartSeconds: 60 };
  const read = object({ limit: integer(1, 1e9), action: oneOf('reset', 'warn'), restartSeconds: integer(0, 1e6) })(
    value,
    at,
  );
  return {
    limit: required(read.limit, `${at}.limit`, 'write the most prefixes of a family to accept'),
    action: read.action ?? 'reset',
    restartSeconds: read.restartSeconds ?? 60,
  };
};
const addPaths: Reader<NonNullable<PeerOptions['addPaths']>> = (value, at) =>
  typeof value === 'boolean' ? (value ? 'both' : 'none') : oneOf('none', 'send', 'receive', 'both')(value, at);
const hops: Reader<number> = (value, at) => (value === true ? 1 : integer(1, 255)(value, at));
const policy: Reader<RoutePolicy> = (value, at) => {
  if (value === 'all' || value === 'none' || value === 'local') return value;
  const names = Array.isArray(value) ? listOf(text)(value, at) : [text(value, at)];
  return { filters: names, otherwise: 'all' };
};

const rules = listOf(
  object({
    action: oneOf('Accept', 'Reject'),
    cidr: text,
    matchOperator: oneOf('Equal', 'NotEqual', 'In', 'NotIn'),
    prefixLength: object({ min: integer(0, 128), max: integer(0, 128) }),
    source: oneOf('RemotePeers'),
    interface: text,
    peerType: oneOf('eBGP', 'iBGP'),
    communities: object({ values: listOf(text) }),
    asPathPrefix: listOf(asNumber),
    priority: integer(1, 0x7ffffffe),
    operations: listOf(
      object({
        addCommunity: object({ value: text }),
        prependASPath: object({ prefix: listOf(asNumber) }),
        setPriority: object({ value: integer(1, 0x7ffffffe) }),
      }),
    ),
  }),
);
const filters: Reader<Record<string, FilterSpec>> = (value, at) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return wrong(at, `${show(value)} is not a mapping`, 'write NAME: {importV4: [...], exportV4: [...]}');
  }
  const read = object({ importV4: rules, exportV4: rules, importV6: rules, exportV6: rules });
  // The rules themselves are judged by the filter compiler, which knows what goes with what.
  return Object.fromEntries(
    Object.entries(value).map(([name, spec]) => [name, read(spec, `${at}.${name}`) as FilterSpec]),
  );
};

const OPTIONS = {
  name: text,
  asNumber,
  localAddress: address,
  localAs: asNumber,
  passive: flag,
  password: text,
  holdTime: integer(0, 65535),
  keepaliveTime: integer(1, 21845),
  families: listOf(oneOf<AddressFamily>('ipv4', 'ipv6')),
  import: policy,
  export: policy,
  routeReflectorClient: flag,
  routeServerClient: flag,
  clusterId: dottedQuad,
  addPaths,
  ttlSecurity: ((value, at) => (value === false ? undefined : hops(value, at))) as Reader<number | undefined>,
  multihop: ((value, at) => (value === false ? undefined : value === true ? 255 : hops(value, at))) as Reader<
    number | undefined
  >,
  maxPrefixes,
  allowOwnAs: integer(0, 255),
  nextHop: oneOf('auto', 'self', 'keep'),
  nextHopSelf: flag,
  nextHopAddress: address,
  enforceFirstAs: flag,
  gracefulRestart,
  longLived,
  interface: text,
  extendedNextHop: flag,
  localPref: integer(0, 0xffffffff),
  bfd: flag,
  description: text,
} as const;
const PEER = {
  ...OPTIONS,
  address,
  port: integer(1, 65535),
  shutdown: ((v, at) => (v === true ? true : text(v, at))) as Reader<string | true>,
} as const;
const RANGE = { ...OPTIONS, prefix, limit: integer(1, 1e6) } as const;
const network: Reader<LocalRoute> = (value, at) => {
  if (typeof value === 'string') return { prefix: prefix(value, at), source: 'static' };
  const read = object({
    prefix,
    nextHop: address,
    med: integer(0, 0xffffffff),
    localPref: integer(0, 0xffffffff),
    communities: listOf(text),
    largeCommunities: listOf(text),
  })(value, at);
  const route = {
    ...read,
    prefix: required(read.prefix, `${at}.prefix`, 'write the prefix to announce'),
    source: 'static',
  };
  localAttributes(route, at); // communities are checked here, with their path
  return route;
};
const replaySource: Reader<ReplaySource> = (value, at) => {
  if (typeof value === 'string') return { file: text(value, at), nextHop: 'self' };
  const read = object({ file: text, peer: address, nextHop: oneOf('self', 'keep') })(value, at);
  return {
    file: required(read.file, `${at}.file`, 'write the path of an MRT dump'),
    ...(read.peer !== undefined && { peer: read.peer }),
    nextHop: read.nextHop ?? 'self',
  };
};
const FILE = {
  routerId: dottedQuad,
  asNumber,
  clusterId: dottedQuad,
  holdTime: integer(0, 65535),
  filters,
  listen: listOf(object({ address, port: integer(0, 65535) })),
  bmp: listOf(object({ address, port: integer(1, 65535) })),
  networks: listOf(network),
  networksFrom: ((value, at) =>
    Array.isArray(value) ? listOf(replaySource)(value, at) : [replaySource(value, at)]) as Reader<ReplaySource[]>,
  peers: listOf(object(PEER)),
  peerRanges: listOf(object(RANGE)),
  gracefulRestart,
  multipath: object({ maximumPaths: integer(1, 255), relax: flag }),
  kernel: object({ install: flag }),
  api: text,
  hostName: text,
} as const;

/** Reads the file. Throws `invalid-argument` with the path of the key at fault. */
export function parseSpeakerFile(source: string): SpeakerFile {
  let raw: unknown;
  try {
    raw = parse(source);
  } catch (error) {
    throw new BrindleError('invalid-argument', `the file is not YAML: ${error instanceof Error ? error.message : ''}`);
  }
  const file = object(FILE)(raw, '');
  const ownAs = required(file.asNumber, 'asNumber', 'write the AS number of this speaker');
  const listen: ListenConfig[] = (file.listen ?? []).map((entry, i) => ({
    address: required(entry.address, `listen[${i}].address`, 'write the address to listen on'),
    port: entry.port ?? 179,
  }));
  const config: SpeakerConfig = {
    routerId: required(file.routerId, 'routerId', 'write a dotted quad that no other speaker has'),
    asNumber: ownAs,
    ...(file.clusterId !== undefined && { clusterId: file.clusterId }),
    ...(file.holdTime !== undefined && { holdTime: file.holdTime }),
    ...(file.gracefulRestart && { gracefulRestart: file.gracefulRestart }),
    ...(file.multipath && {
      multipath: { maximumPaths: file.multipath.maximumPaths ?? 16, relax: file.multipath.relax ?? false },
    }),
    ...(file.hostName !== undefined && { hostName: file.hostName }),
    ...(file.bmp && {
      bmp: file.bmp.map((station, i) => ({
        address: required(station.address, `bmp[${i}].address`, 'write the address of the monitoring station'),
        port: required(station.port, `bmp[${i}].port`, 'write the port of the monitoring station'),
      })),
    }),
    ...(file.filters && { filters: file.filters }),
    listen,
    peers: (file.peers ?? []).map((peer, i) => readPeer(peer, `peers[${i}]`, ownAs)),
    peerRanges: (file.peerRanges ?? []).map((range, i) => readRange(range, `peerRanges[${i}]`, ownAs)),
  };
  checkConfig(config);
  return {
    config,
    networks: file.networks ?? [],
    networksFrom: file.networksFrom ?? [],
    kernelInstall: file.kernel?.install ?? false,
    api: file.api ?? null,
  };
}

function readPeer(read: Read<typeof PEER>, at: string, ownAs: number): PeerConfig {
  const { address: peerAddress, port, shutdown, name, ...rest } = read;
  const found = required(peerAddress, `${at}.address`, 'write the address of the peer');
  const peerAs = required(rest.asNumber, `${at}.asNumber`, 'write the AS number of the peer');
  return {
    ...options(rest, at, peerAs === (rest.localAs ?? ownAs)),
    name: name ?? found,
    address: found,
    asNumber: peerAs,
    ...(port !== undefined && { port }),
    ...(shutdown !== undefined && { shutdown }),
  };
}

function readRange(read: Read<typeof RANGE>, at: string, ownAs: number): PeerRangeConfig {
  const { prefix: range, limit, name, ...rest } = read;
  const found = required(range, `${at}.prefix`, 'write the prefix from which peers may come');
  return {
    ...options(rest, at, rest.asNumber === (rest.localAs ?? ownAs)),
    name: name ?? found,
    prefix: found,
    ...(rest.asNumber !== undefined && { asNumber: rest.asNumber }),
    ...(limit !== undefined && { limit }),
  };
}

/** Import and export default to `all` inside the AS and to `none` outside (RFC 8212). */
function options(read: Omit<Read<typeof OPTIONS>, 'name'>, at: string, internal: boolean): PeerOptions {
  const { nextHopSelf, ttlSecurity, multihop, asNumber: _asNumber, ...rest } = read;
  if (nextHopSelf === true && rest.nextHop !== undefined && rest.nextHop !== 'self') {
    wrong(`${at}.nextHopSelf`, `contradicts nextHop: ${rest.nextHop}`, 'leave one of them out');
  }
  return {
    ...rest,
    families: rest.families ?? ['ipv4'],
    import: rest.import ?? (internal ? 'all' : 'none'),
    export: rest.export ?? (internal ? 'all' : 'none'),
    ...(nextHopSelf === true && { nextHop: 'self' as const }),
    ...(ttlSecurity !== undefined && { ttlSecurity }),
    ...(multihop !== undefined && { multihop }),
  };
}

/** The known key closest to a mistyped one; null when none is close. */
export function nearest(key: string, known: readonly string[]): string | null {
  let best: string | null = null;
  let least = Math.max(2, Math.floor(key.length / 2)) + 1;
  for (const candidate of known) {
    const distance = editDistance(key.toLowerCase(), candidate.toLowerCase());
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}
