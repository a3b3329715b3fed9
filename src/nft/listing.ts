// Reads what `nft -j list table` prints into TableState. Spec: libnftables-json(5).
// Only what our own table can hold is understood; a set with anything else is marked foreign, a rule is told by its comment.
import { BrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import type { ListedChain, ListedRule, ListedSet, TableState } from './driver.ts';
import type { BaseChain, CounterValue, KeyType, Verdict } from './objects.ts';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const KEY_TYPES: Record<string, KeyType> = {
  ipv4_addr: 'ipv4',
  ipv6_addr: 'ipv6',
  inet_proto: 'protocol',
  inet_service: 'port',
  ifname: 'interface',
};

/** Throws `kernel` when the text is not a listing. */
export function parseListing(text: string): TableState {
  const chains = new Map<string, ListedChain & { rules: ListedRule[] }>();
  const sets = new Map<string, ListedSet>();
  for (const item of array(field(parse(text), 'nftables'))) {
    const object = record(item);
    if (object['chain'] !== undefined) {
      const chain = record(object['chain']);
      chains.set(string(chain['name']), { base: base(chain), rules: [] });
    } else if (object['rule'] !== undefined) {
      const rule = record(object['rule']);
      chains.get(string(rule['chain']))?.rules.push({
        comment: typeof rule['comment'] === 'string' ? rule['comment'] : '',
        counter: counter(rule['expr']),
      });
    } else if (object['set'] !== undefined) {
      const set = record(object['set']);
      sets.set(string(set['name']), listedSet(set, false));
    } else if (object['map'] !== undefined) {
      const map = record(object['map']);
      sets.set(string(map['name']), listedSet(map, true));
    }
  }
  return { chains, sets };
}

function base(chain: Record<string, Json>): BaseChain | null {
  if (typeof chain['hook'] !== 'string') return null;
  return {
    type: string(chain['type']) as BaseChain['type'],
    hook: chain['hook'] as BaseChain['hook'],
    priority: Number(chain['prio']),
  };
}

function counter(expressions: Json | undefined): CounterValue | null {
  if (!Array.isArray(expressions)) return null;
  for (const expression of expressions) {
    const value = record(expression)['counter'];
    if (value !== undefined && value !== null) {
      const fields = record(value);
      return { packets: Number(fields['packets']), bytes: Number(fields['bytes']) };
    }
  }
  return null;
}

function listedSet(set: Record<string, Json>, isMap: boolean): ListedSet {
  const name = string(set['name']);
  const types = Array.isArray(set['type']) ? set['type'] : [set['type'] ?? null];
  const flags = Array.isArray(set['flags']) ? set['flags'] : [];
  const key = types.map((t) => (typeof t === 'string' ? KEY_TYPES[t] : undefined));
  const known = key.filter((k) => k !== undefined);
  const elements = new Set<string>();
  const verdicts = new Map<string, Verdict>();
  let foreign = known.length !== key.length || (isMap && set['map'] !== 'verdict');
  for (const item of array(set['elem'] ?? [])) {
    const pair = isMap && Array.isArray(item) ? item : [item];
    const element = elementText(pair[0] ?? null);
    const verdict = isMap ? verdictOf(pair[1] ?? null) : null;
    if (element === null || (isMap && !verdict)) foreign = true;
    else if (verdict) verdicts.set(element, verdict);
    else elements.add(element);
  }
  return {
    spec: {
      name,
      key: known,
      ...(flags.includes('interval') ? { interval: true } : {}),
      ...(isMap ? { verdicts: true } : {}),
    },
    elements,
    verdicts,
    foreign,
  };
}

/** Canonical text of an element; null when it is of a form that we do not write. */
function elementText(value: Json): string | null {
  if (typeof value === 'string') return IpAddress.tryParse(value)?.toString() ?? value;
  if (typeof value === 'number') return String(value);
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return null;
  if (value['elem'] !== undefined) return elementText(record(value['elem'])['val'] ?? null);
  if (value['prefix'] !== undefined) {
    const prefix = record(value['prefix']);
    const address = typeof prefix['addr'] === 'string' ? IpAddress.tryParse(prefix['addr']) : null;
    return address ? `${address}/${Number(prefix['len'])}` : null;
  }
  if (value['concat'] !== undefined) {
    const parts = array(value['concat']).map(elementText);
    return parts.includes(null) ? null : parts.join(' . ');
  }
  return null;
}

function verdictOf(value: Json): Verdict | null {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return null;
  for (const type of ['accept', 'drop', 'return'] as const) if (value[type] !== undefined) return { type };
  for (const type of ['jump', 'goto'] as const) {
    if (value[type] !== undefined) return { type, chain: string(record(value[type])['target']) };
  }
  return null;
}

function parse(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch (cause) {
    throw new BrindleError('kernel', 'the nftables listing is not JSON', { cause });
  }
}

function field(value: Json, name: string): Json {
  return record(value)[name] ?? null;
}

function record(value: Json | undefined): Record<string, Json> {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new BrindleError('kernel', 'unexpected form in the nftables listing: wanted an object');
  }
  return value;
}

function array(value: Json): Json[] {
  if (!Array.isArray(value)) throw new BrindleError('kernel', 'unexpected form in the nftables listing: wanted a list');
  return value;
}

function string(value: Json | undefined): string {
  if (typeof value !== 'string') {
    throw new BrindleError('kernel', 'unexpected form in the nftables listing: wanted a string');
  }
  return value;
}
