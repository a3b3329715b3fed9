// RTM_*RULE: policy routing rules that choose a table. Pure. Spec: rtnetlink(7), linux/fib_rules.h.
import type { Family } from '#net/address.ts';
import type { Prefix } from '#net/prefix.ts';
import { AF_INET, AF_INET6 } from '#sys/constants.ts';
import { checkInterfaceName } from '#sys/sockopt.ts';
import * as c from '../constants.ts';
import type { NewRule, Rule } from '../types.ts';
import { Attributes, fixedHeader, type MessageBuilder, type NetlinkMessage } from '../wire.ts';
import { readPrefix } from './ip.ts';

const FIB_RULE_HDR = 12;
const NO_SUPPRESSION = 0xffffffff;

function header(out: MessageBuilder, rule: NewRule): void {
  out
    .u8(rule.family === 4 ? AF_INET : AF_INET6)
    .u8(rule.destination?.length ?? 0)
    .u8(rule.source?.length ?? 0)
    .u8(0);
  out
    .u8(rule.table < 256 ? rule.table : 0)
    .u8(0)
    .u8(0)
    .u8(c.FR_ACT_TO_TBL);
  out.u32(rule.invert ? c.FIB_RULE_INVERT : 0);
}

export function encodeRule(out: MessageBuilder, rule: NewRule, remove: boolean): void {
  if (remove) out.begin(c.RTM_DELRULE, 0);
  else out.begin(c.RTM_NEWRULE, c.NLM_F_CREATE | c.NLM_F_EXCL);
  header(out, rule);
  out.attributeU32(c.FRA_PRIORITY, rule.priority).attributeU32(c.FRA_TABLE, rule.table);
  if (rule.source) out.attribute(c.FRA_SRC, rule.source.address.bytes);
  if (rule.destination) out.attribute(c.FRA_DST, rule.destination.address.bytes);
  if (rule.inputInterface) out.attributeString(c.FRA_IIFNAME, checkInterfaceName(rule.inputInterface));
  if (rule.outputInterface) out.attributeString(c.FRA_OIFNAME, checkInterfaceName(rule.outputInterface));
  if (rule.mark !== undefined && rule.mark !== null) {
    out.attributeU32(c.FRA_FWMARK, rule.mark);
    if (rule.markMask !== undefined && rule.markMask !== null) out.attributeU32(c.FRA_FWMASK, rule.markMask);
  }
  if (rule.suppressPrefixLength !== undefined && rule.suppressPrefixLength !== null) {
    out.attributeU32(c.FRA_SUPPRESS_PREFIXLEN, rule.suppressPrefixLength);
  }
  if (rule.protocol !== undefined) out.attributeU8(c.FRA_PROTOCOL, rule.protocol);
  out.end();
}

export function encodeRuleDump(out: MessageBuilder, family: Family): void {
  out
    .begin(c.RTM_GETRULE, 0)
    .u8(family === 4 ? AF_INET : AF_INET6)
    .u8(0)
    .u16(0)
    .u32(0)
    .u32(0)
    .end();
}

/** null for another family, and for rules that do something other than choosing a table. */
export function decodeRule(message: NetlinkMessage): Rule | null {
  const head = fixedHeader(message.payload, FIB_RULE_HDR, 'a rule message');
  const domain = head.getUint8(0);
  if ((domain !== AF_INET && domain !== AF_INET6) || head.getUint8(7) !== c.FR_ACT_TO_TBL) return null;
  const attributes = new Attributes(message.payload, FIB_RULE_HDR);
  const prefix = (type: number, length: number): Prefix | null => {
    const bytes = attributes.bytes(type);
    return bytes ? readPrefix(bytes, length, domain === AF_INET ? 4 : 6) : null;
  };
  const mark = attributes.u32(c.FRA_FWMARK) ?? null;
  const mask = attributes.u32(c.FRA_FWMASK) ?? null;
  const suppress = attributes.u32(c.FRA_SUPPRESS_PREFIXLEN) ?? NO_SUPPRESSION;
  return {
    family: domain === AF_INET ? 4 : 6,
    priority: attributes.u32(c.FRA_PRIORITY) ?? 0,
    source: prefix(c.FRA_SRC, head.getUint8(2)),
    destination: prefix(c.FRA_DST, head.getUint8(1)),
    inputInterface: attributes.string(c.FRA_IIFNAME) ?? null,
    outputInterface: attributes.string(c.FRA_OIFNAME) ?? null,
    mark,
    markMask: mark === null || mask === 0xffffffff ? null : mask,
    invert: (head.getUint32(8, true) & c.FIB_RULE_INVERT) !== 0,
    table: attributes.u32(c.FRA_TABLE) ?? head.getUint8(4),
    suppressPrefixLength: suppress === NO_SUPPRESSION ? null : suppress,
    protocol: attributes.u8(c.FRA_PROTOCOL) ?? 0,
  };
}
