// The calls of libnetwork's remote protocol (Docker 1.9 to 28), parsed and checked. In: a body. Out: a typed request, or an
// error that names the field, and, for what is not supported, the option that people know it by. Pure.
import { BrindleError } from '#base/errors.ts';
import { type Family, IpAddress } from '#net/address.ts';
import { formatMac, parseMac } from '#net/mac.ts';
import { Prefix } from '#net/prefix.ts';
import type { KnownNetwork } from './dependencies.ts';

type Body = Readonly<Record<string, unknown>>;

export interface RequestPool {
  readonly family: Family;
  /** The CIDR asked for by `--subnet`; null: any. */
  readonly pool: string | null;
}
export interface RequestAddress extends RequestPool {
  /** Null: any. */
  readonly address: IpAddress | null;
  readonly isGateway: boolean;
}
export interface ReleaseAddress {
  readonly address: IpAddress;
}
export interface CreateNetwork {
  readonly network: KnownNetwork;
}
export interface EndpointReference {
  readonly networkId: string;
  readonly endpointId: string;
}
export interface CreateEndpoint extends EndpointReference {
  readonly addresses: readonly IpAddress[];
  readonly mac: string | null;
}
export interface Join extends EndpointReference {
  /** Path of the container's namespace, or whatever Docker calls it. */
  readonly sandbox: string;
}

const GENERIC = 'com.docker.network.generic';
const MTU = ['mtu', 'com.docker.network.driver.mtu'];
const MTU_RANGE = { min: 68, max: 65_535 };
const ID = /^[A-Za-z0-9_.-]{1,128}$/;
const POOL_ID = 'brindle';

/** A pool id says all that there is to know, so there is nothing to remember. */
export function poolIdOf(family: Family, pool: string | null): string {
  return pool === null ? `${POOL_ID}/${family}` : `${POOL_ID}/${family}/${pool}`;
}

function poolOfId(id: string): RequestPool {
  const match = /^brindle\/([46])(?:\/(.+))?$/.exec(id);
  if (!match) throw bad('PoolID', `"${id}" is not a pool of Brindle`);
  const pool = match[2] === undefined ? null : cidr('PoolID', match[2]).toString();
  return { family: match[1] === '4' ? 4 : 6, pool };
}

export function parseRequestPool(body: Body): RequestPool {
  const family: Family = flag(body, 'V6') ? 6 : 4;
  const text = optionalText(body, 'Pool');
  const sub = optionalText(body, 'SubPool');
  if (sub !== '') throw unsupported('--ip-range', 'make an IPPool of that range and name it by --subnet');
  const options = Object.keys(map(body, 'Options'));
  if (options.length > 0) throw unsupported(`--ipam-opt ${options.join(', ')}`, 'leave it out');
  if (text === '') return { family, pool: null };
  const pool = cidr('Pool', text);
  if (pool.family !== family) throw bad('Pool', `${pool} is not an IPv${family} subnet`);
  return { family, pool: pool.toString() };
}

export function parseRequestAddress(body: Body): RequestAddress {
  const pool = poolOfId(requiredText(body, 'PoolID'));
  const text = optionalText(body, 'Address');
  const address = text === '' ? null : addressOf('Address', text);
  if (address && address.family !== pool.family) throw bad('Address', `${address} is not an IPv${pool.family} address`);
  const isGateway = map(body, 'Options')['RequestAddressType'] === 'com.docker.network.gateway';
  return { ...pool, address, isGateway };
}

export function parseReleaseAddress(body: Body): ReleaseAddress {
  return { address: addressOf('Address', requiredText(body, 'Address')) };
}

export function parseCreateNetwork(body: Body): CreateNetwork {
  const id = idOf(body, 'NetworkID');
  const options = map(body, 'Options');
  if (isTrue(options['com.docker.network.internal'])) {
    throw unsupported('--internal', 'write a policy that denies what leaves the network');
  }
  const generic = map(options, GENERIC);
  const unknown = Object.keys(generic).filter((key) => !MTU.includes(key));
  if (unknown.length > 0) throw unsupported(`-o ${unknown.join(', ')}`, 'the options of a network are: -o mtu=BYTES');
  const data = [...list(body, 'IPv4Data'), ...list(body, 'IPv6Data')];
  if (data.length === 0) throw bad('IPv4Data', 'the network has no addresses');
  for (const item of data) {
    const names = Object.keys(map(item, 'AuxAddresses'));
    if (names.length > 0) {
      throw unsupported(`--aux-address ${names.join(', ')}`, 'write an IPReservation for addresses to be left alone');
    }
    const gateway = optionalText(item, 'Gateway');
    if (gateway !== '' && !/^(0\.0\.0\.0|::|169\.254\.1\.1)(\/|$)/.test(gateway)) {
      const remedy = 'create the network with --ipam-driver brindle, and without --gateway';
      throw unsupported(`the gateway ${gateway}`, remedy);
    }
  }
  return { network: { id, mtu: mtuOf(generic) } };
}

export function parseEndpointReference(body: Body): EndpointReference {
  return { networkId: idOf(body, 'NetworkID'), endpointId: idOf(body, 'EndpointID') };
}

export function parseCreateEndpoint(body: Body): CreateEndpoint {
  const reference = parseEndpointReference(body);
  const options = map(body, 'Options');
  if (list(options, 'com.docker.network.portmap').length > 0) {
    throw unsupported('publishing ports (-p)', "leave it out: the container's own address is reachable");
  }
  for (const key of ['ParentEndpoints', 'ChildEndpoints']) {
    const links = options[key] ?? map(options, GENERIC)[key];
    if (Array.isArray(links) && links.length > 0) throw unsupported('--link', 'use names of containers, or a policy');
  }
  const face = map(body, 'Interface');
  const addresses = ['Address', 'AddressIPv6'].flatMap((field) => {
    const text = optionalText(face, field, `Interface.${field}`);
    return text === '' ? [] : [addressOf(`Interface.${field}`, text)];
  });
  const mac = optionalText(face, 'MacAddress', 'Interface.MacAddress');
  return { ...reference, addresses, mac: mac === '' ? null : formatMac(parseMac(mac)) };
}

export function parseJoin(body: Body): Join {
  return { ...parseEndpointReference(body), sandbox: requiredText(body, 'SandboxKey') };
}

export function parseNetworkId(body: Body): string {
  return idOf(body, 'NetworkID');
}

function mtuOf(generic: Body): number | null {
  for (const key of MTU) {
    const value = generic[key];
    if (value === undefined) continue;
    const mtu = Number(value);
    if (Number.isInteger(mtu) && mtu >= MTU_RANGE.min && mtu <= MTU_RANGE.max) return mtu;
    throw bad(`-o ${key}`, `${JSON.stringify(value)} is not an MTU`, `write ${MTU_RANGE.min} to ${MTU_RANGE.max}`);
  }
  return null;
}

function bad(field: string, reason: string, remedy?: string): BrindleError {
  return new BrindleError('invalid-argument', `${field}: ${reason}`, { field, remedy });
}

function unsupported(what: string, remedy: string): BrindleError {
  return new BrindleError('unsupported', `${what} is not supported by Brindle`, { remedy });
}

function optionalText(body: Body, field: string, shown = field): string {
  const value = body[field] ?? '';
  if (typeof value !== 'string') throw bad(shown, `${JSON.stringify(value).slice(0, 80)} is not a text`);
  return value;
}

function requiredText(body: Body, field: string): string {
  const value = optionalText(body, field);
  if (value === '') throw bad(field, 'is required');
  return value;
}

function idOf(body: Body, field: string): string {
  const id = requiredText(body, field);
  if (!ID.test(id)) throw bad(field, `"${id.slice(0, 80)}" is not an id`);
  return id;
}

function flag(body: Body, field: string): boolean {
  const value = body[field] ?? false;
  if (typeof value !== 'boolean') throw bad(field, `${JSON.stringify(value).slice(0, 80)} is not true or false`);
  return value;
}

function isTrue(value: unknown): boolean {
  return value === true || value === 'true';
}

function map(body: Body, field: string): Body {
  const value = body[field] ?? {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(field, 'is not an object');
  return value as Body;
}

function list(body: Body, field: string): Body[] {
  const value = body[field] ?? [];
  if (!Array.isArray(value)) throw bad(field, 'is not a list');
  return value.map((item: unknown) => {
    if (typeof item !== 'object' || item === null) throw bad(field, 'holds what is not an object');
    return item as Body;
  });
}

function addressOf(field: string, text: string): IpAddress {
  const address = IpAddress.tryParse(text.split('/', 1)[0] ?? '');
  if (!address) throw bad(field, `"${text.slice(0, 80)}" is not an IP address`);
  return address;
}

function cidr(field: string, text: string): Prefix {
  const prefix = Prefix.tryParse(text);
  if (!prefix) throw bad(field, `"${text.slice(0, 80)}" is not a CIDR`);
  return prefix;
}
