// What a lab shall look like: routers, hosts, how they are wired, AS numbers, pools. Comes from the command line's
// few options or from a YAML file. Pure: options or text in, a complete and checked `Topology` out; a file with an
// unknown key, a dangling name or a clash is refused with the place and the remedy.
import { parseDocument } from 'yaml';
import { BrindleError } from '#base/errors.ts';
import { Prefix } from '#net/prefix.ts';

export type RouterKind = 'bird' | 'frr' | 'brindle';
export const ROUTER_KINDS: readonly RouterKind[] = ['bird', 'frr', 'brindle'];

export interface RouterSpec {
  readonly name: string;
  readonly kind: RouterKind;
  readonly asNumber: number;
  /** Other routers this one is wired to. A wire is named once, from either end. */
  readonly links: readonly string[];
}

export interface HostSpec {
  readonly name: string;
  readonly asNumber: number;
  readonly rack: string;
  /** Routers the host is wired to, in the order of its interfaces. Several are used together (ECMP). */
  readonly uplinks: readonly string[];
}

export interface PoolSpec {
  readonly name: string;
  readonly cidr: string;
  /** Prefix length of the blocks that hosts lease. */
  readonly blockSize: number;
}

export interface Topology {
  /** Empty: the hosts share one Ethernet (a bridge in a namespace of its own) and peer only with each other. */
  readonly routers: readonly RouterSpec[];
  readonly hosts: readonly HostSpec[];
  readonly pools: readonly PoolSpec[];
  /** Whether all hosts peer with each other. */
  readonly mesh: boolean;
}

const HOST_AS = 64512;
const ROUTER_AS = 65001;
const DEFAULT_POOLS: readonly PoolSpec[] = [
  { name: 'containers-ipv4', cidr: '10.244.0.0/16', blockSize: 26 },
  { name: 'containers-ipv6', cidr: 'fd00:10:244::/112', blockSize: 122 },
];
/** A node's name is also that of the interface towards it, which has room for 15 octets. */
const NAME = /^[a-z][a-z0-9-]{0,13}$/;
export const MAX_HOSTS = 1000;

export function isNodeName(name: string): boolean {
  return NAME.test(name);
}

/** Hosts h1, h2, ... of AS 64512 in a full mesh, all wired to one router `tor1` of AS 65001 (none: to one switch). */
export function defaultTopology(options: { hosts: number; router: RouterKind | 'none' }): Topology {
  if (!Number.isInteger(options.hosts) || options.hosts < 1 || options.hosts > MAX_HOSTS) {
    throw new BrindleError('invalid-argument', `--hosts must be a whole number from 1 to ${MAX_HOSTS}`);
  }
  const routers: RouterSpec[] =
    options.router === 'none' ? [] : [{ name: 'tor1', kind: options.router, asNumber: ROUTER_AS, links: [] }];
  const uplinks = routers.map((router) => router.name);
  const hosts = Array.from({ length: options.hosts }, (_, i) => ({
    name: `h${i + 1}`,
    asNumber: HOST_AS,
    rack: 'rack1',
    uplinks,
  }));
  return { routers, hosts, pools: DEFAULT_POOLS, mesh: true };
}

/** The topology with one more host, wired like `like` (by default the last one). */
export function withHost(topology: Topology, name: string | null, rack: string | null): Topology {
  const like = rack ? topology.hosts.findLast((host) => host.rack === rack) : topology.hosts[topology.hosts.length - 1];
  if (!like) {
    throw new BrindleError('not-found', `no rack "${rack}" in this lab`, {
      remedy: `its racks are ${[...new Set(topology.hosts.map((host) => host.rack))].join(', ')}`,
    });
  }
  const taken = new Set([...topology.hosts, ...topology.routers].map((node) => node.name));
  let next = name;
  for (let i = topology.hosts.length + 1; next === null; i++) if (!taken.has(`h${i}`)) next = `h${i}`;
  checkName(next, 'host');
  if (taken.has(next)) throw new BrindleError('already-exists', `the lab has a ${next} already`);
  return { ...topology, hosts: [...topology.hosts, { ...like, name: next }] };
}

/** Parses a topology file. Throws `invalid-argument` naming the file and the field. */
export function parseTopology(text: string, file: string): Topology {
  const document = parseDocument(text, { prettyErrors: true });
  const [first] = document.errors;
  if (first) throw new BrindleError('invalid-argument', `${file}: ${first.message}`);
  const read = new Reader(file);
  const top = read.object(document.toJS() as unknown, '', ['routers', 'racks', 'pools', 'mesh']);
  const routers = read.list(top['routers'] ?? [], 'routers').map((value, i) => parseRouter(read, value, i));
  const racks = read.list(top['racks'], 'racks').map((value, i) => parseRack(read, value, i, routers));
  const hosts = nameHosts(read, racks);
  const pools =
    top['pools'] === undefined
      ? DEFAULT_POOLS
      : read.list(top['pools'], 'pools').map((value, i) => parsePool(read, value, i));
  const oneAs = new Set(hosts.map((host) => host.asNumber)).size === 1;
  const mesh = read.boolean(top['mesh'], 'mesh', oneAs);
  if (mesh && !oneAs) read.fail('mesh', 'a full mesh needs all hosts in one AS', 'write mesh: false');
  checkWiring(read, routers, hosts);
  checkPools(read, pools);
  return { routers, hosts, pools, mesh };
}

function parseRouter(read: Reader, value: unknown, index: number): RouterSpec {
  const at = `routers[${index}]`;
  const fields = read.object(value, at, ['name', 'kind', 'asNumber', 'links']);
  const kind = read.text(fields['kind'], `${at}.kind`, 'bird');
  if (!ROUTER_KINDS.includes(kind as RouterKind)) {
    read.fail(`${at}.kind`, `"${kind}" is no kind of router`, `write one of ${ROUTER_KINDS.join(', ')}`);
  }
  return {
    name: read.name(fields['name'], `${at}.name`),
    kind: kind as RouterKind,
    asNumber: read.asNumber(fields['asNumber'], `${at}.asNumber`, ROUTER_AS + index),
    links: read.list(fields['links'] ?? [], `${at}.links`).map((link, i) => read.name(link, `${at}.links[${i}]`)),
  };
}

interface Rack {
  readonly name: string;
  readonly asNumber: number;
  readonly uplinks: readonly string[];
  /** Names, or how many. */
  readonly hosts: readonly string[] | number;
}

function parseRack(read: Reader, value: unknown, index: number, routers: readonly RouterSpec[]): Rack {
  const at = `racks[${index}]`;
  const fields = read.object(value, at, ['name', 'asNumber', 'routers', 'hosts']);
  const uplinks = read
    .list(fields['routers'] ?? routers.slice(0, 1).map((router) => router.name), `${at}.routers`)
    .map((name, i) => read.name(name, `${at}.routers[${i}]`));
  const hosts = fields['hosts'];
  const named = Array.isArray(hosts)
    ? hosts.map((name, i) => read.name(name, `${at}.hosts[${i}]`))
    : read.count(hosts, `${at}.hosts`);
  return {
    name: read.name(fields['name'] ?? `rack${index + 1}`, `${at}.name`),
    asNumber: read.asNumber(fields['asNumber'], `${at}.asNumber`, HOST_AS),
    uplinks,
    hosts: named,
  };
}

function nameHosts(read: Reader, racks: readonly Rack[]): HostSpec[] {
  const taken = new Set(racks.flatMap((rack) => (typeof rack.hosts === 'number' ? [] : rack.hosts)));
  let next = 1;
  const invent = (): string => {
    while (taken.has(`h${next}`)) next++;
    return `h${next++}`;
  };
  const hosts = racks.flatMap((rack) => {
    const names = typeof rack.hosts === 'number' ? Array.from({ length: rack.hosts }, invent) : rack.hosts;
    return names.map((name) => ({ name, asNumber: rack.asNumber, rack: rack.name, uplinks: rack.uplinks }));
  });
  if (hosts.length === 0) read.fail('racks', 'the lab has no host', 'give a rack `hosts: 3`');
  if (hosts.length > MAX_HOSTS) read.fail('racks', `${hosts.length} hosts are more than ${MAX_HOSTS}`);
  return hosts;
}

function checkWiring(read: Reader, routers: readonly RouterSpec[], hosts: readonly HostSpec[]): void {
  const names = new Set<string>();
  for (const node of [...routers, ...hosts]) {
    if (names.has(node.name)) read.fail('', `two nodes are called ${node.name}`, 'give each a name of its own');
    names.add(node.name);
  }
  const routerNames = new Set(routers.map((router) => router.name));
  const wires = new Set<string>();
  routers.forEach((router, i) =>
    router.links.forEach((to, k) => {
      const at = `routers[${i}].links[${k}]`;
      if (!routerNames.has(to)) read.fail(at, `there is no router "${to}"`, `there are ${[...routerNames].join(', ')}`);
      if (to === router.name) read.fail(at, `${to} cannot be wired to itself`);
      const wire = [router.name, to].sort().join(' ');
      if (wires.has(wire)) read.fail(at, `the wire ${router.name} - ${to} is named twice`, 'name it from one end');
      wires.add(wire);
    }),
  );
  for (const host of hosts) {
    if (routers.length > 0 && host.uplinks.length === 0) read.fail('racks', `${host.name} is wired to no router`);
    for (const uplink of host.uplinks) {
      if (!routerNames.has(uplink)) read.fail('racks', `${host.name}: there is no router "${uplink}"`);
    }
    if (new Set(host.uplinks).size < host.uplinks.length) read.fail('racks', `${host.name}: a router is named twice`);
  }
}

function parsePool(read: Reader, value: unknown, index: number): PoolSpec {
  const at = `pools[${index}]`;
  const fields = read.object(value, at, ['name', 'cidr', 'blockSize']);
  const cidr = read.text(fields['cidr'], `${at}.cidr`);
  let prefix: Prefix;
  try {
    prefix = Prefix.parseStrict(cidr);
  } catch (error) {
    return read.fail(`${at}.cidr`, (error as Error).message, error instanceof BrindleError ? error.remedy : undefined);
  }
  const [normal, shortest, longest] = prefix.family === 4 ? [26, 20, 32] : [122, 116, 128];
  const blockSize = read.integer(fields['blockSize'], `${at}.blockSize`, shortest, longest, normal);
  if (blockSize < prefix.length) read.fail(`${at}.blockSize`, `a block /${blockSize} is larger than the pool ${cidr}`);
  return { name: read.text(fields['name'], `${at}.name`, `pool-${index + 1}`), cidr, blockSize };
}

function checkPools(read: Reader, pools: readonly PoolSpec[]): void {
  pools.forEach((pool, i) => {
    for (const other of pools.slice(0, i)) {
      if (other.name === pool.name) read.fail(`pools[${i}].name`, `two pools are called ${pool.name}`);
      if (Prefix.parse(other.cidr).overlaps(Prefix.parse(pool.cidr))) {
        read.fail(`pools[${i}].cidr`, `${pool.cidr} overlaps ${other.cidr}`);
      }
    }
  });
}

function checkName(name: string, what: string): void {
  if (NAME.test(name)) return;
  throw new BrindleError('invalid-argument', `"${name}" cannot be the name of a ${what}`, {
    remedy: 'use a small letter and then up to 13 small letters, digits or dashes',
  });
}

/** Reads plain YAML values; every refusal names the file and the field. */
class Reader {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  fail(field: string, reason: string, remedy?: string): never {
    const where = field ? `${this.#file}: ${field}` : this.#file;
    throw new BrindleError('invalid-argument', `${where}: ${reason}`, { field, remedy });
  }

  object(value: unknown, at: string, known: readonly string[]): Record<string, unknown> {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return this.fail(at, 'must be a mapping', `with the keys ${known.join(', ')}`);
    }
    for (const key of Object.keys(value)) {
      if (!known.includes(key)) {
        this.fail(at ? `${at}.${key}` : key, 'is not known here', `the keys here are ${known.join(', ')}`);
      }
    }
    return value as Record<string, unknown>;
  }

  list(value: unknown, at: string): unknown[] {
    return Array.isArray(value) ? (value as unknown[]) : this.fail(at, 'must be a list');
  }

  text(value: unknown, at: string, fallback?: string): string {
    if (value === undefined && fallback !== undefined) return fallback;
    return typeof value === 'string' && value !== '' ? value : this.fail(at, 'must be a text');
  }

  name(value: unknown, at: string): string {
    const name = this.text(value, at);
    if (!NAME.test(name)) {
      this.fail(at, `"${name}" cannot be a name`, 'a small letter, then up to 13 small letters, digits or dashes');
    }
    return name;
  }

  integer(value: unknown, at: string, min: number, max: number, fallback?: number): number {
    if (value === undefined && fallback !== undefined) return fallback;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    return this.fail(at, `must be a whole number from ${min} to ${max}`);
  }

  count(value: unknown, at: string): number {
    return this.integer(value, at, 1, MAX_HOSTS);
  }

  asNumber(value: unknown, at: string, fallback: number): number {
    return this.integer(value, at, 1, 4294967294, fallback);
  }

  boolean(value: unknown, at: string, fallback: boolean): boolean {
    if (value === undefined) return fallback;
    return typeof value === 'boolean' ? value : this.fail(at, 'must be true or false');
  }
}
