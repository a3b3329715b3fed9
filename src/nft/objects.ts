// What our nftables table is made of, as plain data: the text formatter, the netlink path and the fake all read the same objects.
// Spec: nft(8); Linux include/uapi/linux/netfilter/nf_tables.h.

export type Family = 4 | 6;

/** Field of a set's key, in order for a concatenation. */
export type KeyType = 'ipv4' | 'ipv6' | 'protocol' | 'port' | 'interface';

/**
 * A named set, or a verdict map when `verdicts`. Elements are canonical text (see format.ts): `10.0.0.1`, `10.0.0.0/8` (interval),
 * `10.0.0.1 . 6 . 80` (protocol by number), an interface name bare.
 */
export interface SetSpec {
  readonly name: string;
  readonly key: readonly KeyType[];
  readonly interval?: true;
  readonly verdicts?: true;
  readonly comment?: string;
}

export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

export interface BaseChain {
  readonly type: 'filter' | 'nat' | 'route';
  readonly hook: Hook;
  readonly priority: number;
}

export interface ChainSpec {
  readonly name: string;
  /** Present on a chain that the kernel enters by itself; its policy is always accept. */
  readonly base?: BaseChain;
}

export type Verdict =
  | { readonly type: 'accept' | 'drop' | 'return' }
  | { readonly type: 'jump' | 'goto'; readonly chain: string };

export type CtState = 'invalid' | 'new' | 'established' | 'related' | 'untracked';

export type Side = 'source' | 'destination';

export interface Range {
  readonly min: number;
  readonly max: number;
}

/** A condition; a rule applies when all of its conditions hold, read from left to right. */
export type Match =
  | { readonly type: 'family'; readonly family: Family }
  /** A name, or a prefix of names when it ends in `*`. */
  | { readonly type: 'interface'; readonly direction: 'in' | 'out'; readonly name: string; readonly not?: true }
  /** Protocol numbers, any of which may match. */
  | { readonly type: 'protocol'; readonly protocols: readonly number[]; readonly not?: true }
  /** CIDRs or addresses of one family that do not overlap. */
  | {
      readonly type: 'address';
      readonly family: Family;
      readonly side: Side;
      readonly prefixes: readonly string[];
      readonly not?: true;
    }
  | { readonly type: 'set'; readonly family: Family; readonly side: Side; readonly set: string; readonly not?: true }
  /** address . protocol . port of one side in a set. */
  | {
      readonly type: 'service-set';
      readonly family: Family;
      readonly side: Side;
      readonly set: string;
      readonly not?: true;
    }
  /** Ranges that do not overlap. Only behind a `protocol` match with ports. */
  | { readonly type: 'port'; readonly side: Side; readonly ranges: readonly Range[]; readonly not?: true }
  | {
      readonly type: 'icmp';
      readonly family: Family;
      readonly icmpType: number;
      readonly icmpCode?: number;
      readonly not?: true;
    }
  /** Any of these types, whatever the code. */
  | { readonly type: 'icmp-types'; readonly family: Family; readonly icmpTypes: readonly number[] }
  | { readonly type: 'ct-state'; readonly states: readonly CtState[] }
  | { readonly type: 'mark'; readonly mask: number; readonly value: number }
  /** The route back to the source does not leave by the interface that the packet came in by. */
  | { readonly type: 'reverse-path-missing' };

export type Statement =
  | Match
  | { readonly type: 'counter' }
  | { readonly type: 'limit'; readonly perSecond: number; readonly burst: number }
  | { readonly type: 'log'; readonly prefix: string }
  /** mark = (mark & ~mask) | value */
  | { readonly type: 'set-mark'; readonly mask: number; readonly value: number }
  | { readonly type: 'notrack' }
  /** Ends the chain. The source becomes the address of the interface that the packet leaves by; the port is drawn at random. */
  | { readonly type: 'masquerade' }
  /** As `masquerade`, with this address. Behind a `family` match. */
  | { readonly type: 'source-nat'; readonly family: Family; readonly address: string }
  | { readonly type: 'ct-state-verdicts'; readonly verdicts: readonly (readonly [CtState, 'accept' | 'drop'])[] }
  /** Looks the interface up in a verdict map; no entry: goes on. */
  | { readonly type: 'interface-verdicts'; readonly direction: 'in' | 'out'; readonly map: string }
  | Verdict;

export interface Rule {
  readonly statements: readonly Statement[];
  /** At most 127 octets. Ends in a digest of the statements, see rule.ts. */
  readonly comment: string;
}

export interface MapElement {
  readonly key: string;
  readonly verdict: Verdict;
}

export interface CounterValue {
  readonly packets: number;
  readonly bytes: number;
}
