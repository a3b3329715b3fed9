// What texts and numbers may look like, by the `format` keyword of a schema. A format answers null when the value is
// right, else why not and what to write. Names follow DNS-1123 and Kubernetes' label rules.
import { isBrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import { parseMac } from '#net/mac.ts';
import { Prefix } from '#net/prefix.ts';
import { parseSelector } from '#policy/selector/selector.ts';
import { parsePort, parseProtocol, PROTOCOL_NUMBERS } from './port.ts';

export interface Fault {
  readonly reason: string;
  readonly remedy?: string | undefined;
}

export type Format = (value: string | number) => Fault | null;

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const MAX_NAME = 253;
const MAX_LABEL = 63;
const MAX_AS = 4_294_967_295;

/** A DNS-1123 subdomain: the name of most things. */
export function nameFault(value: string): Fault | null {
  if (value === '') return { reason: 'must not be empty' };
  if (value.length > MAX_NAME) return { reason: `is ${value.length} characters long, at most ${MAX_NAME} are allowed` };
  if (SUBDOMAIN.test(value)) return null;
  const lower = value
    .toLowerCase()
    .replace(/[^a-z0-9.-]+/g, '-')
    .replace(/(^|\.)[-.]+|[-.]+(\.|$)/g, '$1$2');
  return {
    reason: `"${value}" is not a valid name: lower case letters, digits, "-" and "." only, beginning and ending with a letter or digit`,
    remedy: SUBDOMAIN.test(lower) ? `write ${lower}` : undefined,
  };
}

/** A DNS-1123 label: the name of a namespace. */
export function labelNameFault(value: string): Fault | null {
  if (value.length <= MAX_LABEL && LABEL.test(value)) return null;
  return {
    reason: `"${value}" is not a valid name: at most ${MAX_LABEL} lower case letters, digits and "-", beginning and ending with a letter or digit`,
  };
}

/** The key of a label or annotation: an optional DNS prefix and `/`, then at most 63 characters. */
export function labelKeyFault(key: string): Fault | null {
  const slash = key.lastIndexOf('/');
  const name = key.slice(slash + 1);
  if (slash >= 0 && nameFault(key.slice(0, slash))) {
    return { reason: `key "${key}" has a prefix that is not a DNS name`, remedy: 'write it as example.com/name' };
  }
  if (name.length <= MAX_LABEL && QUALIFIED.test(name)) return null;
  return {
    reason: `key "${key}" must be at most ${MAX_LABEL} letters, digits, "-", "_" and ".", beginning and ending with a letter or digit`,
  };
}

/** The value of a label: empty, or as the name part of a key. */
export function labelValueFault(value: string): Fault | null {
  if (value === '' || (value.length <= MAX_LABEL && QUALIFIED.test(value))) return null;
  return {
    reason: `value "${value}" must be at most ${MAX_LABEL} letters, digits, "-", "_" and ".", beginning and ending with a letter or digit`,
  };
}

function thrown(parse: () => unknown): Fault | null {
  try {
    parse();
    return null;
  } catch (error) {
    if (isBrindleError(error)) return { reason: error.message, remedy: error.remedy };
    throw error;
  }
}

/**
 * An AS number as written: 1 to 4294967295, or `1.10` (RFC 5396 asdot+). Null when it is neither.
 */
export function parseAsNumber(value: string | number): number | null {
  if (typeof value === 'number') return Number.isInteger(value) && value >= 0 && value <= MAX_AS ? value : null;
  const match = /^(?:(\d{1,5})\.)?(\d{1,10})$/.exec(value);
  if (!match) return null;
  const high = match[1] === undefined ? 0 : Number(match[1]);
  const low = Number(match[2]);
  if (match[1] !== undefined && (high > 65_535 || low > 65_535)) return null;
  const as = high * 65_536 + low;
  return as <= MAX_AS ? as : null;
}

/** A community as written, `aa:nn` (RFC 1997) or `aa:nn:mm` (RFC 8092), as its numbers; null when it is neither. */
export function parseCommunity(text: string): readonly number[] | null {
  if (!/^\d{1,10}(:\d{1,10}){1,2}$/.test(text)) return null;
  const parts = text.split(':').map(Number);
  const limit = parts.length === 2 ? 65_535 : MAX_AS;
  return parts.every((p) => p <= limit) ? parts : null;
}

/** Milliseconds of a Go-style duration: `90s`, `1m30s`, `300ms`, `0`; null when it is none. */
export function parseDuration(text: string): number | null {
  if (text === '0') return 0;
  if (!/^(\d+(\.\d+)?(h|m|s|ms|us|ns))+$/.test(text)) return null;
  const unit: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1, us: 0.001, ns: 0.000_001 };
  let total = 0;
  for (const [, digits, , name] of text.matchAll(/(\d+(\.\d+)?)(h|ms|us|ns|m|s)/g))
    total += Number(digits) * unit[name!]!;
  return total;
}

/** `address`, `address:port` or `[address]:port` as in BGPPeer.spec.peerIP; null when it is neither. Port null = default. */
export function parseAddressPort(text: string): { address: IpAddress; port: number | null } | null {
  const bare = IpAddress.tryParse(text);
  if (bare) return { address: bare, port: null };
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const address = match ? IpAddress.tryParse(match[1] ?? match[2] ?? '') : null;
  const port = Number(match?.[3]);
  if (!address || (match?.[1] !== undefined && address.family !== 6) || port < 1 || port > 65_535) return null;
  return { address, port };
}

function text(check: (value: string) => Fault | null): Format {
  return (value) => check(String(value));
}

function ofFamily(
  family: 4 | 6,
  check: (value: string) => { family: number } | null,
  what: string,
  example: string,
): Format {
  return text((value) =>
    check(value)?.family === family
      ? null
      : { reason: `"${value}" is not an IPv${family} ${what}`, remedy: `write it as ${example}` },
  );
}

const MAX_SELECTOR = 1024;
const MAX_MD5_KEY = 80;

export const FORMATS: Readonly<Record<string, Format>> = {
  name: text(nameFault),
  'label-name': text(labelNameFault),
  ip: text((value) =>
    IpAddress.isValid(value)
      ? null
      : {
          reason: `"${value}" is not an IP address`,
          remedy: 'write it as 10.1.2.3 or fd00::1, without a prefix length',
        },
  ),
  ipv4: ofFamily(4, (v) => IpAddress.tryParse(v), 'address', '10.1.2.3'),
  ipv6: ofFamily(6, (v) => IpAddress.tryParse(v), 'address', 'fd00::1'),
  /** An address or a CIDR, host bits allowed: an interface address. */
  'ip-or-cidr': text((value) => thrown(() => Prefix.parseOrHost(value))),
  'ipv4-or-cidr': ofFamily(
    4,
    (v) => (v.includes('/') ? Prefix.tryParse(v) : IpAddress.tryParse(v)),
    'address',
    '10.0.0.1/24',
  ),
  'ipv6-or-cidr': ofFamily(
    6,
    (v) => (v.includes('/') ? Prefix.tryParse(v) : IpAddress.tryParse(v)),
    'address',
    'fd00::1/64',
  ),
  /** A CIDR; host bits are masked away by who uses it. */
  cidr: text((value) => thrown(() => Prefix.parse(value))),
  /** A CIDR with no host bits set. */
  'strict-cidr': text((value) => thrown(() => Prefix.parseStrict(value))),
  /** A CIDR with no host bits set, or a bare address. */
  net: text((value) => thrown(() => (value.includes('/') ? Prefix.parseStrict(value) : IpAddress.parse(value)))),
  'address-port': text((value) =>
    parseAddressPort(value)
      ? null
      : {
          reason: `"${value}" is not an address with an optional port`,
          remedy: 'write 10.0.0.1, 10.0.0.1:1790 or [fd00::1]:1790',
        },
  ),
  'absolute-path': text((value) =>
    value.startsWith('/') && !value.includes('\0')
      ? null
      : { reason: `"${value}" is not an absolute path`, remedy: 'write a path that begins with /' },
  ),
  mac: text((value) => thrown(() => parseMac(value))),
  'as-number': (value) => {
    const as = parseAsNumber(value);
    if (as === null)
      return { reason: `"${value}" is not an AS number`, remedy: 'write 1 to 4294967295, or dotted in quotes: "1.10"' };
    return as === 0 ? { reason: 'AS 0 is reserved (RFC 7607)', remedy: 'write 1 to 4294967295' } : null;
  },
  community: text((value) =>
    parseCommunity(value)
      ? null
      : {
          reason: `"${value}" is not a community`,
          remedy: 'write aa:nn (each to 65535) or aa:nn:mm (each to 4294967295)',
        },
  ),
  duration: text((value) =>
    parseDuration(value) === null
      ? { reason: `"${value}" is not a duration`, remedy: 'write a number with a unit: 300ms, 90s, 2m' }
      : null,
  ),
  'interface-name': text((value) =>
    /^[^\s/:]{1,15}$/.test(value) && value !== '.' && value !== '..'
      ? null
      : { reason: `"${value}" is not an interface name`, remedy: 'use 1 to 15 characters without blanks, "/" and ":"' },
  ),
  selector: text((value) =>
    value.length > MAX_SELECTOR
      ? { reason: `is ${value.length} characters long, at most ${MAX_SELECTOR} are allowed` }
      : thrown(() => parseSelector(value)),
  ),
  /** A TCP-MD5 key (RFC 2385): what the kernel takes. */
  'tcp-md5-key': text((value) => {
    const octets = new TextEncoder().encode(value).length;
    return octets >= 1 && octets <= MAX_MD5_KEY ? null : { reason: `must have 1 to ${MAX_MD5_KEY} octets` };
  }),
  port: (value) =>
    parsePort(value)
      ? null
      : {
          reason: `"${value}" is not a port`,
          remedy: 'write a number from 1 to 65535, a range such as "8000:8080", or the name of a port',
        },
  protocol: (value) =>
    parseProtocol(value) === null
      ? {
          reason: `"${value}" is not a protocol`,
          remedy: `write ${Object.keys(PROTOCOL_NUMBERS).join(', ')} or a number from 1 to 255`,
        }
      : null,
};
