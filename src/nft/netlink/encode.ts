// A Transaction as one nfnetlink batch: begin, a message or more for each command, end. Pure.
// Out: the builder, and for each message the command it belongs to.
import * as nl from '#netlink/constants.ts';
import { MessageBuilder } from '#netlink/wire.ts';
import type { ChainSpec, CounterValue, MapElement, Rule, SetSpec, Verdict } from '../objects.ts';
import type { Command, Transaction } from '../transaction.ts';
import * as c from './constants.ts';
import { encodeElement, type KeyElement, keyLength, keyType } from './elements.ts';
import {
  ANONYMOUS_MAP_NAME,
  ANONYMOUS_NAME,
  type AnonymousSet,
  anonymousSet,
  writeExpressions,
  writeVerdict,
} from './expressions.ts';

/** An attribute holds 65 535 octets; an element takes at most some 330 (a verdict with the longest chain name). */
const ELEMENTS_A_MESSAGE = 180;

const CREATE = nl.NLM_F_CREATE;
const APPEND = nl.NLM_F_APPEND;

export interface EncodedBatch {
  readonly builder: MessageBuilder;
  /** Message index -> command index; -1 for begin and end. */
  readonly commands: readonly number[];
}

/** What a rule about to be written has counted already, by its chain and comment. */
export type CarriedCounters = (chain: string, comment: string) => CounterValue;

export const COUNT_FROM_ZERO: CounterValue = { packets: 0, bytes: 0 };

export function encodeTransaction(
  transaction: Transaction,
  carried: CarriedCounters = () => COUNT_FROM_ZERO,
): EncodedBatch {
  const encoder = new BatchEncoder(transaction.table, carried);
  for (const [index, command] of transaction.commands.entries()) encoder.command(index, command);
  return encoder.finish();
}

class BatchEncoder {
  readonly #b = new MessageBuilder(16 * 1024);
  readonly #commands: number[] = [];
  readonly #table: string;
  readonly #carried: CarriedCounters;
  #command = -1;
  #setId = 0;

  constructor(table: string, carried: CarriedCounters) {
    this.#table = table;
    this.#carried = carried;
    this.#control(c.NFNL_MSG_BATCH_BEGIN);
  }

  finish(): EncodedBatch {
    this.#command = -1;
    this.#control(c.NFNL_MSG_BATCH_END);
    return { builder: this.#b, commands: this.#commands };
  }

  command(index: number, command: Command): void {
    this.#command = index;
    switch (command.type) {
      case 'add-table':
        return this.#message(c.MSG_NEWTABLE, CREATE, () => this.#b.attributeU32be(c.TABLE_FLAGS, 0));
      case 'delete-table':
        return this.#message(c.MSG_DELTABLE, 0, () => {});
      case 'add-chain':
        return this.#addChain(command.chain);
      case 'delete-chain':
        return this.#message(c.MSG_DELCHAIN, 0, () => this.#b.attributeString(c.CHAIN_NAME, command.name));
      case 'flush-chain':
        return this.#message(c.MSG_DELRULE, 0, () => this.#b.attributeString(c.RULE_CHAIN, command.name));
      case 'add-rule':
        return this.#addRule(command.chain, command.rule);
      case 'add-set':
        return this.#addSet(command.set);
      case 'delete-set':
        return this.#message(c.MSG_DELSET, 0, () => this.#b.attributeString(c.SET_NAME, command.set.name));
      case 'flush-set':
        return this.#message(c.MSG_DELSETELEM, 0, () => this.#b.attributeString(c.SET_ELEM_LIST_SET, command.set.name));
      case 'add-elements':
        return this.#elements(c.MSG_NEWSETELEM, command.set, keys(command.set, command.elements));
      case 'delete-elements':
      case 'delete-map-elements':
        return this.#elements(c.MSG_DELSETELEM, command.set, keys(command.set, command.elements));
      case 'add-map-elements':
        return this.#elements(c.MSG_NEWSETELEM, command.set, mapKeys(command.set, command.elements));
    }
  }

  #addChain(chain: ChainSpec): void {
    this.#message(c.MSG_NEWCHAIN, CREATE, () => {
      this.#b.attributeString(c.CHAIN_NAME, chain.name);
      const base = chain.base;
      if (!base) return;
      this.#b.nest(c.CHAIN_HOOK, () => {
        this.#b.attributeU32be(c.HOOK_HOOKNUM, c.HOOK_NUMBERS[base.hook]);
        this.#b.attributeU32be(c.HOOK_PRIORITY, base.priority >>> 0);
      });
      this.#b.attributeU32be(c.CHAIN_POLICY, c.NF_ACCEPT).attributeString(c.CHAIN_TYPE, base.type);
    });
  }

  #addRule(chain: string, rule: Rule): void {
    const ids: number[] = [];
    for (const statement of rule.statements) {
      const set = anonymousSet(statement);
      if (set) ids.push(this.#addAnonymous(set));
    }
    let used = 0;
    this.#message(c.MSG_NEWRULE, CREATE | APPEND, () => {
      this.#b.attributeString(c.RULE_CHAIN, chain);
      const counted = this.#carried(chain, rule.comment);
      this.#b.nest(c.RULE_EXPRESSIONS, () => writeExpressions(this.#b, rule.statements, () => ids[used++]!, counted));
      if (rule.comment !== '') {
        const text = Buffer.from(`${rule.comment}\0`);
        this.#b.attribute(c.RULE_USERDATA, Buffer.concat([Uint8Array.of(c.RULE_UDATA_COMMENT, text.length), text]));
      }
    });
  }

  #addSet(set: SetSpec): void {
    this.#message(c.MSG_NEWSET, CREATE, () => {
      this.#b.attributeString(c.SET_NAME, set.name);
      this.#b.attributeU32be(c.SET_FLAGS, (set.interval ? c.SET_INTERVAL : 0) | (set.verdicts ? c.SET_MAP : 0));
      this.#b.attributeU32be(c.SET_KEY_TYPE, keyType(set.key)).attributeU32be(c.SET_KEY_LEN, keyLength(set.key));
      if (set.verdicts) this.#verdictData();
      this.#b.attributeU32be(c.SET_ID, ++this.#setId);
      this.#b.attribute(c.SET_USERDATA, setUserData(set));
    });
  }

  #addAnonymous(set: AnonymousSet): number {
    const id = ++this.#setId;
    const name = set.flags & c.SET_MAP ? ANONYMOUS_MAP_NAME : ANONYMOUS_NAME;
    this.#message(c.MSG_NEWSET, CREATE, () => {
      this.#b.attributeString(c.SET_NAME, name).attributeU32be(c.SET_FLAGS, set.flags);
      this.#b.attributeU32be(c.SET_KEY_TYPE, set.type).attributeU32be(c.SET_KEY_LEN, set.keyLength);
      if (set.flags & c.SET_MAP) this.#verdictData();
      this.#b.attributeU32be(c.SET_ID, id);
    });
    for (let from = 0; from < set.elements.length; from += ELEMENTS_A_MESSAGE) {
      this.#message(c.MSG_NEWSETELEM, CREATE, () => {
        this.#b.attributeString(c.SET_ELEM_LIST_SET, name).attributeU32be(c.SET_ELEM_LIST_SET_ID, id);
        this.#list(set.elements.slice(from, from + ELEMENTS_A_MESSAGE));
      });
    }
    return id;
  }

  #verdictData(): void {
    this.#b.attributeU32be(c.SET_DATA_TYPE, c.DATA_TYPE_VERDICT).attributeU32be(c.SET_DATA_LEN, 0);
  }

  #elements(type: number, set: SetSpec, elements: readonly ListedElement[]): void {
    for (let from = 0, to = 0; from < elements.length; from = to) {
      to = Math.min(from + ELEMENTS_A_MESSAGE, elements.length);
      // An interval's two ends stay together.
      while (elements[to]?.element.isEnd) to++;
      this.#message(type, type === c.MSG_NEWSETELEM ? CREATE : 0, () => {
        this.#b.attributeString(c.SET_ELEM_LIST_SET, set.name);
        this.#list(elements.slice(from, to));
      });
    }
  }

  #list(elements: readonly ListedElement[]): void {
    this.#b.nest(c.SET_ELEM_LIST_ELEMENTS, () => {
      for (const { element, verdict } of elements) {
        this.#b.nest(c.LIST_ELEM, () => {
          if (element.isEnd) this.#b.attributeU32be(c.SET_ELEM_FLAGS, c.SET_ELEM_INTERVAL_END);
          this.#b.nest(c.SET_ELEM_KEY, () => this.#b.attribute(c.DATA_VALUE, element.key));
          if (verdict) this.#b.nest(c.SET_ELEM_DATA, () => writeVerdict(this.#b, verdict));
        });
      }
    });
  }

  /** All our kinds of object name their table in attribute 1. */
  #message(type: number, flags: number, fill: () => void): void {
    this.#commands.push(this.#command);
    this.#b.begin((c.NFNL_SUBSYS_NFTABLES << 8) | type, flags);
    this.#b.u8(c.NFPROTO_INET).u8(0).u16(0).attributeString(c.TABLE_NAME, this.#table);
    fill();
    this.#b.end();
  }

  #control(type: number): void {
    this.#commands.push(-1);
    // The resource id names the subsystem, in network order.
    this.#b.begin(type, 0).u8(c.NFPROTO_UNSPEC).u8(0).u8(0).u8(c.NFNL_SUBSYS_NFTABLES).end();
  }
}

interface ListedElement {
  readonly element: KeyElement;
  readonly verdict?: Verdict;
}

function keys(set: SetSpec, elements: readonly string[]): ListedElement[] {
  return elements.flatMap((text) => encodeElement(set, text).map((element) => ({ element })));
}

function mapKeys(set: SetSpec, elements: readonly MapElement[]): ListedElement[] {
  return elements.flatMap(({ key, verdict }) => encodeElement(set, key).map((element) => ({ element, verdict })));
}

function setUserData(set: SetSpec): Uint8Array {
  const isInterface = set.key.length === 1 && set.key[0] === 'interface';
  const order = set.key.length > 1 ? 0 : isInterface ? c.BYTEORDER_HOST : c.BYTEORDER_BIG;
  const data = [c.SET_UDATA_KEY_BYTEORDER, 4, order, 0, 0, 0];
  if (set.comment) {
    const text = Buffer.from(`${set.comment}\0`);
    data.push(c.SET_UDATA_COMMENT, text.length, ...text);
  }
  return Uint8Array.from(data);
}
