// The network configuration of a call, as libcni derives it from the list: parsed, checked, and reduced to what ADD needs.
// Pure. CNI 1.1.0 "Section 1" and "Section 3", CONVENTIONS.md. Error codes: 6 undecodable, 7 invalid, 1 version, 2 a key or
// capability that we do not serve (never silently ignored: somebody counts on it).
import { labelKeyFault, labelValueFault } from '#model/formats.ts';
import { type Family, IpAddress } from '#net/address.ts';
import { formatMac, parseMac } from '#net/mac.ts';
import type { CniEnvironment, Verb } from './environment.ts';
import { CniCode, CniError } from './errors.ts';

export const SUPPORTED_VERSIONS = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export const CURRENT_VERSION = '1.1.0';
export type CniVersion = (typeof SUPPORTED_VERSIONS)[number];

type Json = Record<string, unknown>;

export interface CniConfig {
  readonly cniVersion: CniVersion;
  /** Of the network. */
  readonly name: string;
  /** Bytes; null = the agent's choice. */
  readonly mtu: number | null;
  readonly families: readonly Family[] | null;
  readonly pools: Readonly<Partial<Record<Family, readonly string[]>>>;
  readonly requested: readonly IpAddress[];
  /** `aa:bb:cc:dd:ee:ff`; null = ours. */
  readonly mac: string | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly dns: Json | null;
  /** In the configuration's version; null when there is none. */
  readonly prevResult: Json | null;
  /** GC: null when the key is absent, which must not be read as "none is valid". */
  readonly validAttachments: readonly { readonly containerId: string; readonly ifname: string }[] | null;
}

const KEYS = new Set([
  ...['cniVersion', 'cniVersions', 'name', 'type', 'capabilities', 'runtimeConfig', 'args', 'prevResult', 'dns'],
  ...['ipam', 'ipMasq', 'mtu', 'socket'],
]);
/** Harmless to a routed network: informs other plugins, or is served elsewhere. */
const IGNORED_CAPABILITIES = new Set(['aliases', 'cgroupPath', 'deviceID']);
const ANNOTATIONS = 'io.kubernetes.cri.pod-annotations';
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
const MAX_NAME = 128;
const MTU = { min: 1280, max: 65_535 };

/** The version to answer in, also when the rest of the configuration is wrong. */
export function answerVersion(octets: Uint8Array): string {
  try {
    const version = (JSON.parse(Buffer.from(octets).toString('utf8')) as Json | null)?.['cniVersion'];
    return typeof version === 'string' && /^[0-9.]{1,15}$/.test(version) ? version : CURRENT_VERSION;
  } catch {
    return CURRENT_VERSION;
  }
}

/** Throws CniError. */
export function parseConfig(octets: Uint8Array, environment: CniEnvironment): CniConfig {
  const config = decode(octets);
  const name = config['name'];
  if (typeof name !== 'string' || !NAME.test(name) || name.length > MAX_NAME) {
    throw invalid('name', name, 'letters, digits, "_", "." and "-", a letter or digit first');
  }
  const cniVersion = version(config['cniVersion'], environment.verb);
  for (const [key, value] of Object.entries(config)) {
    if (!KEYS.has(key) && !key.startsWith('cni.dev/')) throw unsupported(key, value);
  }
  if (config['ipMasq'] === true) {
    throw unsupported('ipMasq', true, 'set natOutgoing in the IPPool: it is for every container of the pool');
  }
  const runtime = object(config['runtimeConfig'], 'runtimeConfig');
  const annotations = strings(runtime[ANNOTATIONS], `runtimeConfig["${ANNOTATIONS}"]`);
  checkCapabilities(runtime);
  const args = object(object(config['args'], 'args')['cni'], 'args.cni');
  const ipam = parseIpam(object(config['ipam'], 'ipam'));
  return {
    cniVersion,
    name,
    mtu: parseMtu(config['mtu']),
    families: ipam.families,
    pools: { ...ipam.pools, ...annotatedPools(annotations) },
    requested: requestedAddresses(runtime, args, environment, annotations),
    mac: requestedMac(runtime, args, environment, annotations),
    labels: { ...argumentLabels(args['labels']), ...checkLabels(runtime['labels'], 'runtimeConfig.labels') },
    dns: dnsOf(config['dns'], runtime['dns']),
    prevResult: config['prevResult'] === undefined ? null : object(config['prevResult'], 'prevResult'),
    validAttachments: environment.verb === 'GC' ? attachments(config) : null,
  };
}

function decode(octets: Uint8Array): Json {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(octets).toString('utf8'));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CniError(CniCode.decode, `the network configuration is not JSON: ${reason}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CniError(CniCode.decode, `the network configuration is not a JSON object: ${shown(value)}`);
  }
  return value as Json;
}

const SINCE: Partial<Record<Verb, CniVersion>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

function version(value: unknown, verb: Verb): CniVersion {
  const known = SUPPORTED_VERSIONS.find((candidate) => candidate === value);
  if (!known) {
    throw new CniError(
      CniCode.incompatibleVersion,
      value === undefined ? 'the configuration has no cniVersion' : `cniVersion ${shown(value)} is not supported`,
      `supported are ${SUPPORTED_VERSIONS.join(', ')}`,
    );
  }
  const since = SINCE[verb];
  if (since !== undefined && SUPPORTED_VERSIONS.indexOf(known) < SUPPORTED_VERSIONS.indexOf(since)) {
    throw new CniError(CniCode.incompatibleVersion, `${verb} needs a configuration of cniVersion ${since} or later`);
  }
  return known;
}

function checkCapabilities(runtime: Json): void {
  for (const [key, value] of Object.entries(runtime)) {
    if (IGNORED_CAPABILITIES.has(key) || ['ips', 'mac', 'labels', 'dns', ANNOTATIONS].includes(key)) continue;
    if (isEmpty(value)) continue; // offered and not used
    const remedy = ['portMappings', 'bandwidth'].includes(key)
      ? `take ${key} out of our capabilities and chain the plugin that serves it after ours`
      : undefined;
    throw unsupported(`runtimeConfig.${key}`, value, remedy);
  }
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

function parseIpam(ipam: Json): Pick<CniConfig, 'families' | 'pools'> {
  const wanted: Partial<Record<Family, boolean>> = {};
  const pools: Partial<Record<Family, readonly string[]>> = {};
  for (const [key, value] of Object.entries(ipam)) {
    if (key === 'assign_ipv4' || key === 'assign_ipv6') {
      // Calico's files write these as texts.
      if (!['true', 'false', true, false].includes(value as string | boolean)) {
        throw invalid(`ipam.${key}`, value, 'write true or false');
      }
      wanted[key === 'assign_ipv4' ? 4 : 6] = value === true || value === 'true';
    } else if (key === 'ipv4_pools' || key === 'ipv6_pools') {
      if (!Array.isArray(value) || value.length === 0 || value.some((item) => typeof item !== 'string')) {
        throw invalid(`ipam.${key}`, value, 'write a list of pool names or CIDRs');
      }
      pools[key === 'ipv4_pools' ? 4 : 6] = value as string[];
    } else if (key !== 'type') throw unsupported(`ipam.${key}`, value);
    else if (value !== 'brindle') throw unsupported('ipam.type', value, 'leave ipam.type out, or write brindle');
  }
  if (Object.keys(wanted).length === 0) return { families: null, pools };
  const families = ([4, 6] as const).filter((family) => wanted[family] ?? family === 4);
  if (families.length === 0) throw invalid('ipam', ipam, 'assign at least one of assign_ipv4 and assign_ipv6');
  return { families, pools };
}

function annotatedPools(annotations: Readonly<Record<string, string>>): Partial<Record<Family, readonly string[]>> {
  const out: Partial<Record<Family, readonly string[]>> = {};
  for (const family of [4, 6] as const) {
    const list = annotationList(annotations, `cni.projectcalico.org/ipv${family}pools`);
    if (list) out[family] = list;
  }
  return out;
}

/** runtimeConfig.ips, then args.cni.ips, then CNI_ARGS IP, then the annotation (CONVENTIONS.md). */
function requestedAddresses(
  runtime: Json,
  args: Json,
  environment: CniEnvironment,
  annotations: Readonly<Record<string, string>>,
): IpAddress[] {
  const sources: [string, unknown][] = [
    ['runtimeConfig.ips', runtime['ips']],
    ['args.cni.ips', args['ips']],
    ['CNI_ARGS IP', environment.args.ip === null ? undefined : [environment.args.ip]],
    ['cni.projectcalico.org/ipAddrs', annotationList(annotations, 'cni.projectcalico.org/ipAddrs') ?? undefined],
  ];
  const source = sources.find(([, value]) => value !== undefined && !isEmpty(value));
  if (!source) return [];
  const [field, value] = source;
  if (!Array.isArray(value)) throw invalid(field, value, 'write a list of addresses');
  const addresses = value.map((item: unknown) => {
    // Some callers write a prefix length; the address is what they ask for.
    const address = typeof item === 'string' ? IpAddress.tryParse(item.replace(/\/\d{1,3}$/, '')) : null;
    if (!address) throw invalid(field, item, 'write an IPv4 or IPv6 address');
    return address;
  });
  for (const family of [4, 6] as const) {
    if (addresses.filter((address) => address.family === family).length > 1) {
      throw invalid(field, value, `ask for one IPv${family} address at most`);
    }
  }
  return addresses;
}

function requestedMac(
  runtime: Json,
  args: Json,
  environment: CniEnvironment,
  annotations: Readonly<Record<string, string>>,
): string | null {
  const sources: [string, unknown][] = [
    ['runtimeConfig.mac', runtime['mac']],
    ['args.cni.mac', args['mac']],
    ['CNI_ARGS MAC', environment.args.mac],
    ['cni.projectcalico.org/hwAddr', annotations['cni.projectcalico.org/hwAddr']],
  ];
  const source = sources.find(([, value]) => value !== undefined && value !== null && value !== '');
  if (!source) return null;
  const [field, value] = source;
  try {
    const mac = parseMac(String(value));
    if ((mac[0]! & 1) === 0 && mac.some((octet) => octet !== 0)) return formatMac(mac);
  } catch {
    // said below
  }
  throw invalid(field, value, 'write a unicast address such as 02:00:5e:10:00:01');
}

/** CONVENTIONS.md: args.cni.labels is a list of {key, value}. */
function argumentLabels(value: unknown): Record<string, string> {
  if (value === undefined || value === null) return {};
  const pairs: Json = {};
  if (!Array.isArray(value)) throw invalid('args.cni.labels', value, 'write a list of {key, value}');
  for (const item of value) {
    const { key, value: text } = object(item, 'args.cni.labels');
    if (typeof key !== 'string') throw invalid('args.cni.labels', item, 'write a list of {key, value}');
    pairs[key] = text;
  }
  return checkLabels(pairs, 'args.cni.labels');
}

function checkLabels(value: unknown, field: string): Record<string, string> {
  const labels = strings(value, field);
  for (const [key, text] of Object.entries(labels)) {
    const fault = labelKeyFault(key) ?? labelValueFault(text);
    if (fault) throw new CniError(CniCode.badConfig, `${field}: ${fault.reason}`, fault.remedy);
  }
  return labels;
}

function dnsOf(configured: unknown, offered: unknown): Json | null {
  const dns = { ...object(configured, 'dns') };
  const runtime = object(offered, 'runtimeConfig.dns');
  if (runtime['servers'] !== undefined) dns['nameservers'] = runtime['servers'];
  if (runtime['searches'] !== undefined) dns['search'] = runtime['searches'];
  if (runtime['options'] !== undefined) dns['options'] = runtime['options'];
  return Object.keys(dns).length > 0 ? dns : null;
}

function attachments(config: Json): CniConfig['validAttachments'] {
  // libcni sends the second, a historic misspelling, along with the first.
  const value = config['cni.dev/valid-attachments'] ?? config['cni.dev/attachments'];
  if (value === undefined || value === null) return null;
  if (!Array.isArray(value)) throw invalid('cni.dev/valid-attachments', value, 'write a list');
  return value.map((item: unknown) => {
    const { containerID, ifname } = object(item, 'cni.dev/valid-attachments');
    if (typeof containerID !== 'string' || typeof ifname !== 'string') {
      throw invalid('cni.dev/valid-attachments', item, 'write {containerID, ifname}');
    }
    return { containerId: containerID, ifname };
  });
}

function parseMtu(value: unknown): number | null {
  if (value === undefined || value === null || value === 0) return null;
  if (typeof value === 'number' && Number.isInteger(value) && value >= MTU.min && value <= MTU.max) return value;
  throw invalid('mtu', value, `write a whole number from ${MTU.min} to ${MTU.max}, or 0 for the agent's choice`);
}

function annotationList(annotations: Readonly<Record<string, string>>, key: string): string[] | null {
  const text = annotations[key];
  if (text === undefined || text === '') return null;
  let value: unknown = null;
  try {
    value = JSON.parse(text);
  } catch {
    // said below
  }
  if (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string')) {
    return value;
  }
  throw invalid(`annotation ${key}`, text, 'write a JSON list of texts, such as ["10.1.2.3"]');
}

/** An object or nothing; anything else is an error. */
function object(value: unknown, field: string): Json {
  if (value === undefined || value === null) return {};
  if (typeof value === 'object' && !Array.isArray(value)) return value as Json;
  throw invalid(field, value, 'write an object');
}

function strings(value: unknown, field: string): Record<string, string> {
  const map = object(value, field);
  for (const [key, text] of Object.entries(map)) {
    if (typeof text !== 'string') throw invalid(`${field}["${key}"]`, text, 'write a text');
  }
  return map as Record<string, string>;
}

function invalid(field: string, value: unknown, remedy: string): CniError {
  const what = value === undefined ? 'is missing' : `is ${shown(value)}`;
  return new CniError(CniCode.badConfig, `network configuration: ${field} ${what}`, remedy);
}

function unsupported(field: string, value: unknown, remedy?: string): CniError {
  const text = `network configuration: ${field} is not supported (value ${shown(value)})`;
  return new CniError(CniCode.unsupportedField, text, remedy ?? 'leave it out');
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}
