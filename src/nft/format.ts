// Objects to nft text. Everything that goes into a command passes one of the checks here, so no name or value from outside can
// end a command or open another. In: objects.ts. Out: text in the syntax of nft(8). Throws `invalid-argument`.
import { BrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type {
  ChainSpec,
  CtState,
  Family,
  KeyType,
  Match,
  Range,
  Rule,
  SetSpec,
  Side,
  Statement,
  Verdict,
} from './objects.ts';

/** NFT_NAME_MAXLEN less the terminating zero; sets are limited to the same by the kernel. */
export const NAME_MAX = 255;
/** NFTNL_UDATA_COMMENT_MAXLEN less the terminating zero. */
export const COMMENT_MAX = 127;
/** IFNAMSIZ less the terminating zero. */
export const INTERFACE_MAX = 15;
/** NF_LOG_PREFIXLEN less the terminating zero. */
export const LOG_PREFIX_MAX = 127;

const PORT_MAX = 65_535;

/** A name of a table, chain, set or map. */
export function identifier(name: string): string {
  if (name.length > NAME_MAX || !/^[A-Za-z_][A-Za-z0-9_./-]*$/.test(name)) {
    throw new BrindleError('invalid-argument', `"${name}" cannot be the name of an nftables object`, {
      remedy: `use a letter, then letters, digits and _ . / -, at most ${NAME_MAX} characters`,
    });
  }
  return name;
}

/** An interface name, quoted; with a trailing `*` a prefix of names. */
export function interfaceName(name: string): string {
  if (name.length > INTERFACE_MAX || !/^[A-Za-z0-9_.:@-]+\*?$/.test(name)) {
    throw new BrindleError('invalid-argument', `"${name}" is not an interface name`, {
      remedy: `use letters, digits and _ . : @ -, at most ${INTERFACE_MAX} characters`,
    });
  }
  return `"${name}"`;
}

/** Free text in quotes. nft has no escapes inside quotes, so what cannot stand there is refused. */
export function quoted(text: string, limit: number): string {
  if (Buffer.byteLength(text) > limit || !/^[\x20\x21\x23-\x5b\x5d-\x7e]*$/.test(text)) {
    throw new BrindleError('invalid-argument', `"${text}" cannot stand in an nftables string`, {
      remedy: `use printable ASCII without quotes and backslashes, at most ${limit} characters`,
    });
  }
  return `"${text}"`;
}

/** An integer of `min` to `max`, in decimal. */
export function integer(value: number, min: number, max: number, what: string): string {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new BrindleError('invalid-argument', `${what} ${value} is not in ${min}..${max}`);
  }
  return String(value);
}

/** A 32-bit mark in hexadecimal. */
export function mark(value: number): string {
  integer(value, 0, 0xffff_ffff, 'mark');
  return `0x${value.toString(16).padStart(8, '0')}`;
}

/** An address or CIDR of the family, in canonical text (a host prefix without its length). */
export function prefix(text: string, family: Family): string {
  const parsed = Prefix.parseOrHost(text);
  if (parsed.family !== family) throw new BrindleError('invalid-argument', `"${text}" is not IPv${family}`);
  return parsed.isHost() ? parsed.address.toString() : parsed.toString();
}

function hostAddress(text: string, family: Family): string {
  const address = IpAddress.parse(text);
  if (address.family !== family) throw new BrindleError('invalid-argument', `"${text}" is not IPv${family}`);
  return address.toString();
}

export function verdict(value: Verdict): string {
  return value.type === 'jump' || value.type === 'goto' ? `${value.type} ${identifier(value.chain)}` : value.type;
}

const KEY_TEXT: Record<KeyType, string> = {
  ipv4: 'ipv4_addr',
  ipv6: 'ipv6_addr',
  protocol: 'inet_proto',
  port: 'inet_service',
  interface: 'ifname',
};

/** The declaration of a set between its braces. */
export function setBody(set: SetSpec): string {
  if (set.key.length === 0) throw new BrindleError('invalid-argument', `set ${set.name} has no key`);
  const type = set.key.map((k) => KEY_TEXT[k]).join(' . ');
  return (
    `{ type ${type}${set.verdicts ? ' : verdict' : ''}; ` +
    `${set.interval ? 'flags interval; ' : ''}${set.comment ? `comment ${quoted(set.comment, COMMENT_MAX)}; ` : ''}}`
  );
}

export function chainBody(chain: ChainSpec): string {
  if (!chain.base) return '';
  const priority = integer(chain.base.priority, -1000, 1000, 'priority');
  return ` { type ${chain.base.type} hook ${chain.base.hook} priority ${priority}; policy accept; }`;
}

/** One element of a set, from canonical text. Throws when it does not fit the key. */
export function element(set: SetSpec, text: string): string {
  const parts = text.split(' . ');
  if (parts.length !== set.key.length) {
    throw new BrindleError('invalid-argument', `element "${text}" of set ${set.name} needs ${set.key.length} fields`);
  }
  return parts.map((part, i) => keyField(set, set.key[i]!, part)).join(' . ');
}

function keyField(set: SetSpec, type: KeyType, text: string): string {
  switch (type) {
    case 'ipv4':
    case 'ipv6': {
      const family = type === 'ipv4' ? 4 : 6;
      if (set.interval) return prefix(text, family);
      return hostAddress(text, family);
    }
    case 'protocol':
      return integer(Number(text), 0, 255, 'protocol');
    case 'port':
      return integer(Number(text), 0, PORT_MAX, 'port');
    case 'interface':
      return interfaceName(text);
  }
}

/** A rule as nft writes it, with its comment. */
export function rule(value: Rule): string {
  const body = statements(value.statements);
  return value.comment === '' ? body : `${body} comment ${quoted(value.comment, COMMENT_MAX)}`;
}

export function statements(values: readonly Statement[]): string {
  if (values.length === 0) throw new BrindleError('invalid-argument', 'a rule needs a statement');
  return values.map(statement).join(' ');
}

function statement(s: Statement): string {
  switch (s.type) {
    case 'counter':
      return 'counter';
    case 'limit':
      return (
        `limit rate ${integer(s.perSecond, 1, 1_000_000, 'rate')}/second ` +
        `burst ${integer(s.burst, 1, 1_000_000, 'burst')} packets`
      );
    case 'log':
      return `log prefix ${quoted(s.prefix, LOG_PREFIX_MAX)} level info`;
    case 'set-mark': {
      const keep = (~s.mask & 0xffff_ffff) >>> 0;
      if ((s.value & keep) !== 0) throw new BrindleError('invalid-argument', 'mark value outside its mask');
      return s.value === 0
        ? `meta mark set meta mark & ${mark(keep)}`
        : `meta mark set meta mark & ${mark(keep)} | ${mark(s.value)}`;
    }
    case 'notrack':
      return 'notrack';
    case 'masquerade':
      return 'masquerade fully-random';
    case 'source-nat':
      return `snat ${s.family === 4 ? 'ip' : 'ip6'} to ${hostAddress(s.address, s.family)} fully-random`;
    case 'ct-state-verdicts':
      return `ct state vmap { ${s.verdicts.map(([state, v]) => `${state} : ${v}`).join(', ')} }`;
    case 'interface-verdicts':
      return `${s.direction === 'in' ? 'iifname' : 'oifname'} vmap @${identifier(s.map)}`;
    case 'accept':
    case 'drop':
    case 'return':
    case 'jump':
    case 'goto':
      return verdict(s);
    default:
      return match(s);
  }
}

function match(m: Match): string {
  switch (m.type) {
    case 'family':
      return `meta nfproto ipv${m.family}`;
    case 'interface':
      return `${m.direction === 'in' ? 'iifname' : 'oifname'} ${m.not ? '!= ' : ''}${interfaceName(m.name)}`;
    case 'protocol':
      return `meta l4proto ${oneOf(
        m.protocols.map((p) => integer(p, 0, 255, 'protocol')),
        m.not,
      )}`;
    case 'address':
      return `${address(m.family, m.side)} ${oneOf(
        m.prefixes.map((p) => prefix(p, m.family)),
        m.not,
      )}`;
    case 'set':
      return `${address(m.family, m.side)} ${m.not ? '!= ' : ''}@${identifier(m.set)}`;
    case 'service-set':
      return (
        `${address(m.family, m.side)} . meta l4proto . th ${m.side === 'source' ? 'sport' : 'dport'} ` +
        `${m.not ? '!= ' : ''}@${identifier(m.set)}`
      );
    case 'port':
      return `th ${m.side === 'source' ? 'sport' : 'dport'} ${oneOf(m.ranges.map(portRange), m.not)}`;
    case 'icmp': {
      const name = m.family === 4 ? 'icmp' : 'icmpv6';
      const type = integer(m.icmpType, 0, 255, 'ICMP type');
      if (m.icmpCode === undefined) return `${name} type ${m.not ? '!= ' : ''}${type}`;
      const code = integer(m.icmpCode, 0, 255, 'ICMP code');
      return `${name} type . ${name} code ${m.not ? '!= ' : ''}{ ${type} . ${code} }`;
    }
    case 'icmp-types':
      return `${m.family === 4 ? 'icmp' : 'icmpv6'} type ${oneOf(
        m.icmpTypes.map((t) => integer(t, 0, 255, 'ICMP type')),
        undefined,
      )}`;
    case 'ct-state':
      return `ct state ${ctStates(m.states)}`;
    case 'mark':
      return `meta mark & ${mark(m.mask)} == ${mark(m.value)}`;
    case 'reverse-path-missing':
      return 'fib saddr . iif oif missing';
  }
}

function ctStates(states: readonly CtState[]): string {
  if (states.length === 0) throw new BrindleError('invalid-argument', 'ct state needs a state');
  return states.join(',');
}

function address(family: Family, side: Side): string {
  return `${family === 4 ? 'ip' : 'ip6'} ${side === 'source' ? 'saddr' : 'daddr'}`;
}

function oneOf(values: readonly string[], not: true | undefined): string {
  if (values.length === 0) throw new BrindleError('invalid-argument', 'a match needs a value');
  const operator = not ? '!= ' : '';
  return values.length === 1 ? `${operator}${values[0]}` : `${operator}{ ${values.join(', ')} }`;
}

function portRange(range: Range): string {
  const min = integer(range.min, 0, PORT_MAX, 'port');
  const max = integer(range.max, range.min, PORT_MAX, 'port');
  return min === max ? min : `${min}-${max}`;
}
