// nf_tables' dumps to TableState. Pure. In: messages of NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM. Out: the state of one table.
// The dumps come from the kernel, still every length is checked (netlink/wire.ts throws `protocol`).
import { Attributes, readAttributes } from '#netlink/wire.ts';
import type { ListedChain, ListedRule, ListedSet } from '../driver.ts';
import type { BaseChain, CounterValue, Hook, SetSpec, Verdict } from '../objects.ts';
import * as c from './constants.ts';
import { decodeIntervals, decodeKey, keyFromType, type KeyElement } from './elements.ts';
import { verdictFromCode } from './expressions.ts';

/** Octets of struct nfgenmsg. */
export const GENERIC_HEADER = 4;

export interface MutableChain extends ListedChain {
  readonly rules: ListedRule[];
}

/** Null for a chain of another table. */
export function decodeChain(payload: Uint8Array, table: string): { name: string; chain: MutableChain } | null {
  const attributes = new Attributes(payload, GENERIC_HEADER);
  if (attributes.string(c.CHAIN_TABLE) !== table) return null;
  const hook = attributes.nested(c.CHAIN_HOOK);
  let base: BaseChain | null = null;
  if (hook) {
    const number = hook.u32be(c.HOOK_HOOKNUM);
    const name = Object.entries(c.HOOK_NUMBERS).find(([, n]) => n === number)?.[0] as Hook | undefined;
    const type = attributes.string(c.CHAIN_TYPE) as BaseChain['type'];
    if (name) base = { type, hook: name, priority: (hook.u32be(c.HOOK_PRIORITY) ?? 0) | 0 };
  }
  return { name: attributes.string(c.CHAIN_NAME) ?? '', chain: { base, rules: [] } };
}

/**
 * Null for a rule of another table. Reading all counters decodes every rule there is, so this walks the octets itself instead of
 * making maps of attributes: four times as fast.
 */
export function decodeRule(payload: Uint8Array, table: string): { chain: string; rule: ListedRule } | null {
  let chain = '';
  let comment = '';
  let counter: CounterValue | null = null;
  for (const [type, value] of readAttributes(payload, GENERIC_HEADER)) {
    if (type === c.RULE_TABLE) {
      if (text(value) !== table) return null;
    } else if (type === c.RULE_CHAIN) chain = text(value);
    else if (type === c.RULE_USERDATA) comment = userText(value, c.RULE_UDATA_COMMENT);
    else if (type === c.RULE_EXPRESSIONS) counter = counterOf(value);
  }
  return { chain, rule: { comment, counter } };
}

const COUNTER_NAME = Buffer.from('counter\0');
const NAME_OFFSET = 4;

/** The name is an expression's first attribute. */
function counterOf(expressions: Uint8Array): CounterValue | null {
  for (const [, value] of readAttributes(expressions)) {
    if (value.length < NAME_OFFSET + COUNTER_NAME.length) continue;
    if (!COUNTER_NAME.every((octet, i) => value[NAME_OFFSET + i] === octet)) continue;
    const data = new Attributes(value).nested(c.EXPR_DATA);
    return { packets: u64(data?.bytes(c.COUNTER_PACKETS)), bytes: u64(data?.bytes(c.COUNTER_BYTES)) };
  }
  return null;
}

/** Up to the first zero. All our names are ASCII. */
function text(value: Uint8Array): string {
  const end = value.indexOf(0);
  return Buffer.from(value.buffer, value.byteOffset, end < 0 ? value.length : end).toString('latin1');
}

/** Null for a set of another table, and for an anonymous one. */
export function decodeSet(payload: Uint8Array, table: string): { spec: SetSpec; known: boolean } | null {
  const attributes = new Attributes(payload, GENERIC_HEADER);
  const flags = attributes.u32be(c.SET_FLAGS) ?? 0;
  if (attributes.string(c.SET_TABLE) !== table || flags & c.SET_ANONYMOUS) return null;
  const key = keyFromType(attributes.u32be(c.SET_KEY_TYPE) ?? 0);
  const isMap = (flags & c.SET_MAP) !== 0;
  const known =
    key !== null &&
    (flags & ~(c.SET_INTERVAL | c.SET_MAP)) === 0 &&
    (!isMap || attributes.u32be(c.SET_DATA_TYPE) === c.DATA_TYPE_VERDICT);
  const spec: SetSpec = {
    name: attributes.string(c.SET_NAME) ?? '',
    key: key ?? [],
    ...(flags & c.SET_INTERVAL ? { interval: true } : {}),
    ...(isMap ? { verdicts: true } : {}),
  };
  return { spec, known };
}

interface RawElement extends KeyElement {
  readonly verdict: Verdict | null;
}

/** The elements of one message. */
export function* decodeElements(payload: Uint8Array): Generator<RawElement> {
  const list = new Attributes(payload, GENERIC_HEADER).bytes(c.SET_ELEM_LIST_ELEMENTS);
  if (!list) return;
  for (const [, value] of readAttributes(list)) {
    const element = new Attributes(value);
    const key = element.nested(c.SET_ELEM_KEY)?.bytes(c.DATA_VALUE) ?? new Uint8Array();
    const isEnd = ((element.u32be(c.SET_ELEM_FLAGS) ?? 0) & c.SET_ELEM_INTERVAL_END) !== 0;
    const verdict = element.nested(c.SET_ELEM_DATA)?.nested(c.DATA_VERDICT);
    yield {
      key: Uint8Array.from(key),
      isEnd,
      verdict: verdict ? verdictFromCode(verdict.u32be(c.VERDICT_CODE) ?? 0, verdict.string(c.VERDICT_CHAIN)) : null,
    };
  }
}

export function listedSet(spec: SetSpec, known: boolean, raw: readonly RawElement[]): ListedSet {
  const elements = new Set<string>();
  const verdicts = new Map<string, Verdict>();
  if (!known) return { spec, elements, verdicts, foreign: true };
  let foreign = false;
  if (spec.interval) {
    const cidrs = decodeIntervals(raw);
    foreign = cidrs === null;
    for (const cidr of cidrs ?? []) elements.add(cidr);
  } else {
    for (const element of raw) {
      const text = decodeKey(spec.key, element.key);
      if (!spec.verdicts) elements.add(text);
      else if (element.verdict) verdicts.set(text, element.verdict);
      else foreign = true;
    }
  }
  return { spec, elements, verdicts, foreign };
}

/** A text in user data, which is a row of type, length, value. */
function userText(data: Uint8Array | undefined, type: number): string {
  if (!data) return '';
  for (let at = 0; at + 2 <= data.length; at += 2 + data[at + 1]!) {
    if (data[at] !== type) continue;
    return text(data.subarray(at + 2, at + 2 + data[at + 1]!));
  }
  return '';
}

function u64(bytes: Uint8Array | undefined): number {
  if (!bytes || bytes.length < 8) return 0;
  return Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0));
}
