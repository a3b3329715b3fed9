// What the calculation tells the dataplane: plain data, complete objects, no reference to the store's resources.
// The dataplane makes the kernel agree with the set of objects it was last told of.

/** How a rule ends. `log` goes on with the next rule. */
export type RuleAction = 'allow' | 'deny' | 'pass' | 'log';

export type Protocol = 'tcp' | 'udp' | 'icmp' | 'icmpv6' | 'sctp' | 'udplite' | number;

/** Inclusive, 0 to 65535. */
export interface PortRange {
  readonly min: number;
  readonly max: number;
}

export interface IcmpMatch {
  readonly type: number;
  readonly code?: number;
}

/** One side of a rule. All present members must match (AND); members of one list are alternatives (OR). */
export interface AbstractEntity {
  /** CIDRs. */
  readonly nets?: readonly string[];
  readonly notNets?: readonly string[];
  /** Ids of `net` sets, all of which must contain the address. */
  readonly sets?: readonly string[];
  /** Ids of `net` sets, none of which may contain the address. */
  readonly notSets?: readonly string[];
  /** Numeric ranges and `named-port` sets are alternatives of one list: any one may match. */
  readonly ports?: readonly PortRange[];
  readonly portSets?: readonly string[];
  readonly notPorts?: readonly PortRange[];
  readonly notPortSets?: readonly string[];
}

export interface AbstractRule {
  readonly action: RuleAction;
  /** Stable within its policy and direction: `0`, `1`, ... as the user wrote them. Several abstract rules may share one. */
  readonly index: number;
  readonly ipVersion?: 4 | 6;
  readonly protocol?: Protocol;
  readonly notProtocol?: Protocol;
  readonly icmp?: IcmpMatch;
  readonly notIcmp?: IcmpMatch;
  readonly source: AbstractEntity;
  readonly destination: AbstractEntity;
}

/** A policy or profile with at least one local endpoint. `id` is e.g. `NetworkPolicy/ns/name`, `Profile/kns.ns`. */
export interface DesiredPolicy {
  readonly id: string;
  readonly tier: string;
  readonly ingress: readonly AbstractRule[];
  readonly egress: readonly AbstractRule[];
  /** Present when the policy does not act, only counts (staged). */
  readonly staged?: true;
  readonly untracked?: true;
  readonly preDnat?: true;
}

/** `net`: members are CIDRs or addresses of both families. `named-port`: members are `address,protocol,port`. */
export interface DesiredSet {
  readonly id: string;
  readonly type: 'net' | 'named-port';
  readonly members: ReadonlySet<string>;
}

export interface SetDelta {
  readonly id: string;
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** The policies of one tier that select an endpoint, in order, for each direction. */
export interface EndpointTier {
  readonly name: string;
  /** What happens when no rule of the tier matched. */
  readonly defaultAction: 'deny' | 'pass';
  readonly ingress: readonly string[];
  readonly egress: readonly string[];
}

/** Where policies of a host endpoint act besides its own traffic. Each list as `tiers`; the tiers of the first two end in Pass whatever they say. */
export interface HostEndpointTiers {
  /** Before connection tracking: policies with `untracked`. */
  readonly untracked: readonly EndpointTier[];
  /** Before destination NAT, ingress only: policies with `preDnat`. */
  readonly preDnat: readonly EndpointTier[];
  /** Traffic that the host forwards: policies with applyOnForward. What none of them decides is allowed. */
  readonly forward: readonly EndpointTier[];
}

export interface DesiredEndpoint {
  /** `namespace/name` of the WorkloadEndpoint. */
  readonly id: string;
  readonly kind: 'workload' | 'host';
  /** Host side interface; for a host endpoint its interface or `*`. */
  readonly interfaceName: string;
  /** The endpoint's own addresses, both families. */
  readonly addresses: readonly string[];
  /** Tiers that have at least one policy here, in order. A direction with an empty list is not governed by that tier. */
  readonly tiers: readonly EndpointTier[];
  /** Ids of profiles (DesiredPolicy), in order, tried after the tiers. */
  readonly profiles: readonly string[];
  /** Only for a host endpoint; absent: no policy acts there. */
  readonly host?: HostEndpointTiers;
}

/** A local block: its blackhole route answers for addresses that no container has. */
export interface DesiredBlock {
  readonly cidr: string;
}

/**
 * What is translated on the way out: packets from `masqueraded` to anywhere outside of `direct`. CIDRs of both families, sorted.
 * Nothing is translated when `masqueraded` is empty.
 */
export interface DesiredPools {
  /** Pools with natOutgoing. */
  readonly masqueraded: readonly string[];
  /** All pools, also disabled ones, and addresses of hosts if they are to see the container's own address. */
  readonly direct: readonly string[];
}

/** Everything at once, for the first synchronisation and for tests. */
export interface DesiredState {
  readonly sets: ReadonlyMap<string, DesiredSet>;
  readonly policies: ReadonlyMap<string, DesiredPolicy>;
  readonly endpoints: ReadonlyMap<string, DesiredEndpoint>;
  readonly blocks: ReadonlyMap<string, DesiredBlock>;
  readonly pools: DesiredPools;
}

export type DesiredUpdate =
  | { readonly type: 'set'; readonly set: DesiredSet }
  | { readonly type: 'set-delta'; readonly delta: SetDelta }
  | { readonly type: 'set-removed'; readonly id: string }
  | { readonly type: 'policy'; readonly policy: DesiredPolicy }
  | { readonly type: 'policy-removed'; readonly id: string }
  | { readonly type: 'endpoint'; readonly endpoint: DesiredEndpoint }
  | { readonly type: 'endpoint-removed'; readonly id: string }
  | { readonly type: 'block'; readonly block: DesiredBlock }
  | { readonly type: 'block-removed'; readonly cidr: string }
  /** Replaces what was told before; without any, nothing is translated. */
  | { readonly type: 'pools'; readonly pools: DesiredPools }
  /** The first complete state has been sent; only now may stale kernel objects be removed. */
  | { readonly type: 'in-sync' };
