// A rule's statements as nf_tables expressions, the way nft itself would write them, so that nft prints them well. Pure.
// In: statements (checked by format.ts before), a builder inside the rule's expression list. Anonymous sets of a rule have to exist
// before the rule: `anonymousSets` tells which, in the order in which `writeExpressions` refers to them.
import type { MessageBuilder } from '#netlink/wire.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type { CounterValue, Family, Side, Statement, Verdict } from '../objects.ts';
import * as c from './constants.ts';
import { fieldLength, interfaceOctets, type KeyElement } from './elements.ts';

const ICMP = 1;
const ICMPV6 = 58;

export interface AnonymousSet {
  readonly type: number;
  readonly keyLength: number;
  readonly flags: number;
  readonly elements: readonly { readonly element: KeyElement; readonly verdict?: Verdict }[];
}

/** The anonymous set that a statement looks up; null when it needs none. */
export function anonymousSet(s: Statement): AnonymousSet | null {
  switch (s.type) {
    case 'protocol':
      return s.protocols.length === 1
        ? null
        : plain(
            c.TYPE_PROTOCOL,
            1,
            s.protocols.map((p) => Uint8Array.of(p)),
          );
    case 'icmp-types': {
      const type = s.family === 4 ? c.TYPE_ICMP_TYPE : c.TYPE_ICMPV6_TYPE;
      return plain(
        type,
        1,
        s.icmpTypes.map((t) => Uint8Array.of(t)),
      );
    }
    case 'icmp': {
      if (!s.not || s.icmpCode === undefined) return null;
      const [type, code] =
        s.family === 4 ? [c.TYPE_ICMP_TYPE, c.TYPE_ICMP_CODE] : [c.TYPE_ICMPV6_TYPE, c.TYPE_ICMPV6_CODE];
      return plain((type << c.TYPE_BITS) | code, 8, [Uint8Array.of(s.icmpType, 0, 0, 0, s.icmpCode, 0, 0, 0)]);
    }
    case 'address': {
      if (s.prefixes.length === 1) return null;
      const elements = s.prefixes.flatMap((text) => {
        const prefix = Prefix.parseOrHost(text);
        return interval(prefix.first.bytes, prefix.last.plus(1).bytes);
      });
      const type = s.family === 4 ? c.TYPE_IPV4 : c.TYPE_IPV6;
      return intervals(type, s.family === 4 ? 4 : 16, elements);
    }
    case 'port': {
      if (s.ranges.length === 1) return null;
      const elements = s.ranges.flatMap((r) => interval(u16(r.min), u16((r.max + 1) & 0xffff)));
      return intervals(c.TYPE_SERVICE, 2, elements);
    }
    case 'ct-state-verdicts':
      return {
        type: c.TYPE_CT_STATE,
        keyLength: 4,
        flags: c.SET_ANONYMOUS | c.SET_CONSTANT | c.SET_MAP,
        elements: s.verdicts.map(([state, type]) => ({
          element: { key: u32host(c.CT_STATE_BITS[state]), isEnd: false },
          verdict: { type },
        })),
      };
    default:
      return null;
  }
}

function plain(type: number, keyLength: number, keys: readonly Uint8Array[]): AnonymousSet {
  const elements = keys.map((key) => ({ element: { key, isEnd: false } }));
  return { type, keyLength, flags: c.SET_ANONYMOUS | c.SET_CONSTANT, elements };
}

function intervals(type: number, keyLength: number, elements: readonly KeyElement[]): AnonymousSet {
  const flags = c.SET_ANONYMOUS | c.SET_CONSTANT | c.SET_INTERVAL;
  return { type, keyLength, flags, elements: elements.map((element) => ({ element })) };
}

/** An end of all zeros means that the interval has none: it reaches the last value. */
function interval(start: Uint8Array, behind: Uint8Array): KeyElement[] {
  const first: KeyElement = { key: start, isEnd: false };
  return behind.every((b) => b === 0) ? [first] : [first, { key: behind, isEnd: true }];
}

/** Name of every anonymous set until the kernel gives it a number; the id tells them apart inside a transaction. */
export const ANONYMOUS_NAME = '__set%d';
export const ANONYMOUS_MAP_NAME = '__map%d';

/** Writes the expressions of a rule. `nextSetId` gives the ids of its anonymous sets, in order; its counter starts from `counted`. */
export function writeExpressions(
  b: MessageBuilder,
  statements: readonly Statement[],
  nextSetId: () => number,
  counted: CounterValue,
): void {
  const w = new ExpressionWriter(b, nextSetId, counted);
  for (const s of statements) w.statement(s);
}

class ExpressionWriter {
  readonly #b: MessageBuilder;
  readonly #nextSetId: () => number;
  readonly #counted: CounterValue;
  /** The protocol that the rule has made sure of. */
  #protocol: number | null = null;

  constructor(b: MessageBuilder, nextSetId: () => number, counted: CounterValue) {
    this.#b = b;
    this.#nextSetId = nextSetId;
    this.#counted = counted;
  }

  statement(s: Statement): void {
    switch (s.type) {
      case 'family':
        this.#meta(c.META_NFPROTO);
        return this.#compare(c.CMP_EQ, Uint8Array.of(s.family === 4 ? c.NFPROTO_IPV4 : c.NFPROTO_IPV6));
      case 'interface': {
        this.#meta(s.direction === 'in' ? c.META_IIFNAME : c.META_OIFNAME);
        const isPrefix = s.name.endsWith('*');
        const value = isPrefix ? Buffer.from(s.name.slice(0, -1)) : interfaceOctets(s.name);
        return this.#compare(s.not ? c.CMP_NEQ : c.CMP_EQ, value);
      }
      case 'protocol':
        this.#meta(c.META_L4PROTO);
        if (s.protocols.length > 1) return this.#lookupAnonymous(s.not ?? false);
        if (!s.not) this.#protocol = s.protocols[0]!;
        return this.#compare(s.not ? c.CMP_NEQ : c.CMP_EQ, Uint8Array.of(s.protocols[0]!));
      case 'address':
        return this.#address(s.family, s.side, s.prefixes, s.not ?? false);
      case 'set':
        this.#loadAddress(s.family, s.side, c.REG_1);
        return this.#lookup(s.set, null, s.not ?? false);
      case 'service-set': {
        const addressLength = fieldLength(s.family === 4 ? 'ipv4' : 'ipv6');
        const next = c.REG32_00 + addressLength / 4;
        this.#loadAddress(s.family, s.side, c.REG_1);
        this.#meta(c.META_L4PROTO, next);
        this.#payload(c.PAYLOAD_TRANSPORT, s.side === 'source' ? 0 : 2, 2, next + 1);
        return this.#lookup(s.set, null, s.not ?? false);
      }
      case 'port': {
        this.#payload(c.PAYLOAD_TRANSPORT, s.side === 'source' ? 0 : 2, 2);
        const range = s.ranges[0]!;
        if (s.ranges.length > 1) return this.#lookupAnonymous(s.not ?? false);
        if (range.min === range.max) return this.#compare(s.not ? c.CMP_NEQ : c.CMP_EQ, u16(range.min));
        return this.#range(u16(range.min), u16(range.max), s.not ?? false);
      }
      case 'icmp':
        this.#icmpProtocol(s.family);
        if (s.icmpCode === undefined) {
          this.#payload(c.PAYLOAD_TRANSPORT, 0, 1);
          return this.#compare(s.not ? c.CMP_NEQ : c.CMP_EQ, Uint8Array.of(s.icmpType));
        }
        if (s.not) {
          this.#payload(c.PAYLOAD_TRANSPORT, 0, 1);
          this.#payload(c.PAYLOAD_TRANSPORT, 1, 1, c.REG32_00 + 1);
          return this.#lookupAnonymous(true);
        }
        this.#payload(c.PAYLOAD_TRANSPORT, 0, 2);
        return this.#compare(c.CMP_EQ, Uint8Array.of(s.icmpType, s.icmpCode));
      case 'icmp-types':
        this.#icmpProtocol(s.family);
        this.#payload(c.PAYLOAD_TRANSPORT, 0, 1);
        return this.#lookupAnonymous(false);
      case 'ct-state': {
        const bits = s.states.reduce((sum, state) => sum | c.CT_STATE_BITS[state], 0);
        this.#ctState();
        this.#bitwise(u32host(bits), u32host(0));
        return this.#compare(c.CMP_NEQ, u32host(0));
      }
      case 'ct-state-verdicts':
        this.#ctState();
        return this.#lookup(ANONYMOUS_MAP_NAME, this.#nextSetId(), false, true);
      case 'mark':
        this.#meta(c.META_MARK);
        this.#bitwise(u32host(s.mask), u32host(0));
        return this.#compare(c.CMP_EQ, u32host(s.value));
      case 'reverse-path-missing':
        this.#expression('fib', () => {
          this.#b.attributeU32be(c.FIB_DREG, c.REG_1);
          this.#b.attributeU32be(c.FIB_RESULT, c.FIB_RESULT_OIF);
          this.#b.attributeU32be(c.FIB_FLAGS, c.FIB_SADDR | c.FIB_IIF | c.FIB_PRESENT);
        });
        return this.#compare(c.CMP_EQ, u32host(0));
      case 'counter':
        return this.#expression('counter', () => {
          this.#b.attributeU64be(c.COUNTER_BYTES, BigInt(this.#counted.bytes));
          this.#b.attributeU64be(c.COUNTER_PACKETS, BigInt(this.#counted.packets));
        });
      case 'limit':
        return this.#expression('limit', () => {
          this.#b.attributeU64be(c.LIMIT_RATE, BigInt(s.perSecond)).attributeU64be(c.LIMIT_UNIT, 1n);
          this.#b
            .attributeU32be(c.LIMIT_BURST, s.burst)
            .attributeU32be(c.LIMIT_TYPE, 0)
            .attributeU32be(c.LIMIT_FLAGS, 0);
        });
      case 'log':
        return this.#expression('log', () => {
          this.#b.attributeString(c.LOG_PREFIX, s.prefix).attributeU32be(c.LOG_LEVEL, c.LOG_LEVEL_INFO);
        });
      case 'set-mark':
        this.#meta(c.META_MARK);
        this.#bitwise(u32host((~s.mask & 0xffff_ffff) >>> 0), u32host(s.value));
        return this.#expression('meta', () => {
          this.#b.attributeU32be(c.META_KEY, c.META_MARK).attributeU32be(c.META_SREG, c.REG_1);
        });
      case 'notrack':
        return this.#expression('notrack', null);
      case 'masquerade':
        return this.#expression('masq', () => {
          this.#b.attributeU32be(c.MASQ_FLAGS, c.NAT_RANGE_RANDOM_FULLY);
        });
      case 'source-nat':
        this.#expression('immediate', () => {
          this.#b.attributeU32be(c.IMMEDIATE_DREG, c.REG_1);
          this.#b.nest(c.IMMEDIATE_DATA, () => this.#b.attribute(c.DATA_VALUE, IpAddress.parse(s.address).bytes));
        });
        return this.#expression('nat', () => {
          this.#b.attributeU32be(c.NAT_TYPE, c.NAT_SNAT);
          this.#b.attributeU32be(c.NAT_FAMILY, s.family === 4 ? c.NFPROTO_IPV4 : c.NFPROTO_IPV6);
          this.#b.attributeU32be(c.NAT_REG_ADDR_MIN, c.REG_1).attributeU32be(c.NAT_FLAGS, c.NAT_RANGE_RANDOM_FULLY);
        });
      case 'interface-verdicts':
        this.#meta(s.direction === 'in' ? c.META_IIFNAME : c.META_OIFNAME);
        return this.#lookup(s.map, null, false, true);
      case 'accept':
      case 'drop':
      case 'return':
      case 'jump':
      case 'goto':
        return this.#expression('immediate', () => {
          this.#b.attributeU32be(c.IMMEDIATE_DREG, c.REG_VERDICT);
          this.#b.nest(c.IMMEDIATE_DATA, () => writeVerdict(this.#b, s));
        });
    }
  }

  #address(family: Family, side: Side, prefixes: readonly string[], not: boolean): void {
    this.#loadAddress(family, side, c.REG_1);
    if (prefixes.length > 1) return this.#lookupAnonymous(not);
    const prefix = Prefix.parseOrHost(prefixes[0]!);
    if (!prefix.isHost()) {
      this.#bitwise(maskOf(family, prefix.length), new Uint8Array(prefix.address.bytes.length));
    }
    this.#compare(not ? c.CMP_NEQ : c.CMP_EQ, prefix.address.bytes);
  }

  #loadAddress(family: Family, side: Side, register: number): void {
    const offset = family === 4 ? (side === 'source' ? 12 : 16) : side === 'source' ? 8 : 24;
    this.#payload(c.PAYLOAD_NETWORK, offset, family === 4 ? 4 : 16, register);
  }

  #icmpProtocol(family: Family): void {
    const protocol = family === 4 ? ICMP : ICMPV6;
    if (this.#protocol === protocol) return;
    this.statement({ type: 'protocol', protocols: [protocol] });
  }

  #meta(key: number, register = c.REG_1): void {
    this.#expression('meta', () => {
      this.#b.attributeU32be(c.META_KEY, key).attributeU32be(c.META_DREG, register);
    });
  }

  #ctState(): void {
    this.#expression('ct', () => {
      this.#b.attributeU32be(c.CT_KEY, c.CT_STATE).attributeU32be(c.CT_DREG, c.REG_1);
    });
  }

  #payload(base: number, offset: number, length: number, register = c.REG_1): void {
    this.#expression('payload', () => {
      this.#b.attributeU32be(c.PAYLOAD_DREG, register).attributeU32be(c.PAYLOAD_BASE, base);
      this.#b.attributeU32be(c.PAYLOAD_OFFSET, offset).attributeU32be(c.PAYLOAD_LEN, length);
    });
  }

  #compare(operator: number, value: Uint8Array): void {
    this.#expression('cmp', () => {
      this.#b.attributeU32be(c.CMP_SREG, c.REG_1).attributeU32be(c.CMP_OP, operator);
      this.#b.nest(c.CMP_DATA, () => this.#b.attribute(c.DATA_VALUE, value));
    });
  }

  #range(from: Uint8Array, to: Uint8Array, not: boolean): void {
    this.#expression('range', () => {
      this.#b.attributeU32be(c.RANGE_SREG, c.REG_1).attributeU32be(c.RANGE_OP, not ? c.CMP_NEQ : c.CMP_EQ);
      this.#b.nest(c.RANGE_FROM_DATA, () => this.#b.attribute(c.DATA_VALUE, from));
      this.#b.nest(c.RANGE_TO_DATA, () => this.#b.attribute(c.DATA_VALUE, to));
    });
  }

  #bitwise(mask: Uint8Array, xor: Uint8Array): void {
    this.#expression('bitwise', () => {
      this.#b.attributeU32be(c.BITWISE_SREG, c.REG_1).attributeU32be(c.BITWISE_DREG, c.REG_1);
      this.#b.attributeU32be(c.BITWISE_LEN, mask.length);
      this.#b.nest(c.BITWISE_MASK, () => this.#b.attribute(c.DATA_VALUE, mask));
      this.#b.nest(c.BITWISE_XOR, () => this.#b.attribute(c.DATA_VALUE, xor));
    });
  }

  #lookupAnonymous(not: boolean): void {
    this.#lookup(ANONYMOUS_NAME, this.#nextSetId(), not);
  }

  #lookup(set: string, id: number | null, not: boolean, verdict = false): void {
    this.#expression('lookup', () => {
      this.#b.attributeU32be(c.LOOKUP_SREG, c.REG_1);
      if (verdict) this.#b.attributeU32be(c.LOOKUP_DREG, c.REG_VERDICT);
      this.#b.attributeString(c.LOOKUP_SET, set);
      if (id !== null) this.#b.attributeU32be(c.LOOKUP_SET_ID, id);
      if (not) this.#b.attributeU32be(c.LOOKUP_FLAGS, c.LOOKUP_INVERT);
    });
  }

  #expression(name: string, fill: (() => void) | null): void {
    this.#b.nest(c.LIST_ELEM, () => {
      this.#b.attributeString(c.EXPR_NAME, name);
      if (fill) this.#b.nest(c.EXPR_DATA, fill);
    });
  }
}

export function writeVerdict(b: MessageBuilder, verdict: Verdict): void {
  b.nest(c.DATA_VERDICT, () => {
    b.attributeU32be(c.VERDICT_CODE, VERDICT_CODES[verdict.type]);
    if ('chain' in verdict) b.attributeString(c.VERDICT_CHAIN, verdict.chain);
  });
}

const VERDICT_CODES: Record<Verdict['type'], number> = {
  accept: c.NF_ACCEPT,
  drop: c.NF_DROP,
  return: c.NFT_RETURN,
  jump: c.NFT_JUMP,
  goto: c.NFT_GOTO,
};

export function verdictFromCode(code: number, chain: string | undefined): Verdict | null {
  for (const [type, number] of Object.entries(VERDICT_CODES)) {
    if (number !== code) continue;
    if (type === 'jump' || type === 'goto') return chain === undefined ? null : { type, chain };
    return { type: type as 'accept' | 'drop' | 'return' };
  }
  return null;
}

function maskOf(family: Family, length: number): Uint8Array {
  const ones = IpAddress.fromBigInt(family, (1n << BigInt(family === 4 ? 32 : 128)) - 1n);
  return Prefix.of(ones, length).address.bytes;
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 255);
}

/** Registers that the kernel fills with numbers of its own are in host order (little-endian, see netlink/wire.ts). */
function u32host(value: number): Uint8Array {
  return Uint8Array.of(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24);
}
