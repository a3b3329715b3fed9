// What every kind of policy is turned into before anything is decided or rendered: one form, with selectors parsed and complete,
// defaults in, CIDRs masked. The evaluator and the calculation both read it; policy/convert writes it.
// In a list, alternatives are OR; members of an entity are AND. An empty list or null is no condition at all.
import type { PortMatch } from '#model/port.ts';
import type { Prefix } from '#net/prefix.ts';
import type { Selector } from './selector/selector.ts';

export type Direction = 'ingress' | 'egress';

/** How a rule ends. `log` goes on with the next rule, `pass` with the next tier. */
export type Action = 'allow' | 'deny' | 'pass' | 'log';

/** Both families may be mixed here; an address is only ever compared with CIDRs of its own family. */
export interface EntityMatch {
  readonly nets: readonly Prefix[];
  readonly notNets: readonly Prefix[];
  /** One endpoint or network set that has the address must match. Holds namespace, service accounts and, if anything else is here, notSelector. */
  readonly selector: Selector | null;
  /** No endpoint or network set that has the address may match; an address of nobody passes. */
  readonly notSelector: Selector | null;
  /** Ranges, and names of ports that an endpoint with the address (and matching `selector`) must serve. */
  readonly ports: readonly PortMatch[];
  readonly notPorts: readonly PortMatch[];
  /** An endpoint of the service; with `ports`, also at its port and protocol. */
  readonly service: { readonly namespace: string; readonly name: string; readonly ports: boolean } | null;
  /** An address of a node with these labels (plain names, no prefix). */
  readonly nodes: Selector | null;
}

export interface IcmpType {
  readonly type: number;
  /** null: any. */
  readonly code: number | null;
}

export interface PolicyRule {
  readonly action: Action;
  /** As the user wrote them: 0, 1, ... Neighbours may share one, when one written rule became several. */
  readonly index: number;
  /** The user's name for the rule; '' when there is none. */
  readonly name: string;
  /** Set also when all CIDRs are of one family. */
  readonly ipVersion: 4 | 6 | null;
  /** IANA number. Null together with named ports: the protocol that the endpoint declares for the name. */
  readonly protocol: number | null;
  readonly notProtocol: number | null;
  /** Only in rules of protocol 1 or 58. */
  readonly icmp: IcmpType | null;
  /** Packets of other protocols pass. */
  readonly notIcmp: IcmpType | null;
  readonly source: EntityMatch;
  readonly destination: EntityMatch;
}

export interface Policy {
  /** `Kind/namespace/name`, as `keyText` says it. */
  readonly id: string;
  /** For ties of order and for people: `KubernetesNetworkPolicy` and `KubernetesClusterNetworkPolicy` for those two. */
  readonly kind: string;
  /** '' when global. */
  readonly namespace: string;
  readonly name: string;
  readonly tier: string;
  /** null: last. */
  readonly order: number | null;
  /** Complete: with namespace, namespaceSelector and serviceAccountSelector. */
  readonly selector: Selector;
  /** null: the policy does not govern this direction. */
  readonly ingress: readonly PolicyRule[] | null;
  readonly egress: readonly PolicyRule[] | null;
  /** Counted, never enforced. */
  readonly staged: boolean;
  readonly applyOnForward: boolean;
  readonly untracked: boolean;
  readonly preDnat: boolean;
}

/** Rules for where no tier decided, and labels handed down. The id is the profile's name. */
export interface ProfileData {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ingress: readonly PolicyRule[];
  readonly egress: readonly PolicyRule[];
}

export const ANY: EntityMatch = {
  nets: [],
  notNets: [],
  selector: null,
  notSelector: null,
  ports: [],
  notPorts: [],
  service: null,
  nodes: null,
};

/** A rule that matches everything. */
export function plainRule(action: Action, index: number): PolicyRule {
  return {
    action,
    index,
    name: '',
    ipVersion: null,
    protocol: null,
    notProtocol: null,
    icmp: null,
    notIcmp: null,
    source: ANY,
    destination: ANY,
  };
}
