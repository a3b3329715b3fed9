// What the agent's local API answers: the contract between the agent and the CLI, the lab and the web page. Plain JSON.
import type { PeerChange } from '#bgp/speaker/api.ts';

import type { Resource } from '#model/resource.ts';

/** One thing that has to hold for the agent to be ready, or that is worth telling. */
export interface Condition {
  /** `store`, `dataplane`, `ipam`, `bgp`, `routes`. */
  readonly name: string;
  readonly ok: boolean;
  /** What is wrong and what to do; '' when all is well. */
  readonly message: string;
  /** Whether ADD cannot be served while this does not hold. */
  readonly blocking: boolean;
}

/** `GET /v1/health`: status 200 when ready, else 503. */
export interface Health {
  readonly ready: boolean;
  readonly conditions: readonly Condition[];
}

/** `GET /v1/status` */
export interface AgentStatus extends Health {
  readonly host: string;
  readonly version: string;
  readonly pid: number;
  /** Milliseconds since the start. */
  readonly uptime: number;
  /** Resident memory in bytes. */
  readonly memory: number;
  readonly endpoints: number;
  readonly blocks: readonly BlockStatus[];
  readonly bgp: {
    readonly enabled: boolean;
    readonly reason: string | null;
    readonly configured: number;
    readonly established: number;
  };
  readonly routes: { readonly installed: number; readonly failed: number };
  /** Resources that could not be used, with the reason. */
  readonly problems: readonly { readonly key: string; readonly error: string }[];
  /** WorkloadEndpoints not yet written to the store. */
  readonly unpublished: number;
}

export interface BlockStatus {
  readonly cidr: string;
  readonly pool: string;
  readonly used: number;
  readonly size: number;
}

/** `POST /v1/ipam/drain` */
export interface IpamDrain {
  /** CIDRs of the leases that were handed back. */
  readonly released: readonly string[];
  /** Blocks with addresses in use, or with some that rest before they are used again. */
  readonly kept: readonly BlockStatus[];
}

/** `GET /v1/endpoints` */
export interface EndpointStatus {
  /** `namespace/name`. */
  readonly id: string;
  readonly containerId: string;
  readonly interfaceName: string;
  readonly addresses: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly profiles: readonly string[];
  /** Whether its policy is in force in the kernel. */
  readonly policy: 'applied' | 'pending' | 'failed';
  readonly reason?: string;
}

/** `GET /v1/routes` */
export interface RouteStatus {
  readonly prefix: string;
  readonly kind: 'blackhole' | 'static' | 'bgp';
  readonly nextHops: readonly { readonly gateway: string | null; readonly interface: string }[];
  readonly fromPeers: readonly string[];
  readonly state: 'installed' | 'pending' | 'failed' | 'unreachable';
  readonly reason?: string;
}

/** `GET /v1/policy/counters`: the counter of one kernel rule. Several may stand for one rule of a policy: add them. */
export interface PolicyCounter {
  /** `policy`: a rule of a policy or profile; `tier-default`, `no-profile`: the ends of a direction; others: fixed rules. */
  readonly type: string;
  /** `Kind/namespace/name` or `Profile/name`; only of `policy`. */
  readonly policy?: string;
  readonly direction?: 'ingress' | 'egress';
  /** Index of the rule in its list, from 0; only of `policy`. */
  readonly rule?: number;
  /** `namespace/name`; of `tier-default` and `no-profile`. */
  readonly endpoint?: string;
  readonly tier?: string;
  /** Name of a fixed rule, such as `unknown-interface`. */
  readonly name?: string;
  /** Chain of the nftables table and the rule's place in it, from 0. */
  readonly chain: string;
  readonly position: number;
  readonly packets: number;
  readonly bytes: number;
}

/** `GET /v1/policy/state`: what the agent knows and what of it is not in force. */
export interface PolicyState {
  readonly host: string;
  /** Every resource that verdicts depend on, as the agent knows it. */
  readonly resources: readonly Resource[];
  readonly failures: readonly { readonly owner: string; readonly reason: string }[];
}

export interface SessionChange extends PeerChange {
  /** Prefixes accepted from and sent to the peer now: what a reset or removal takes away for a while, or for good. */
  readonly accepted: number;
  readonly sent: number;
  /** The session goes only when what came by it comes by others. */
  readonly afterOthers?: boolean;
}

export interface OwnRouteChange {
  readonly prefix: string;
  readonly effect: 'announced' | 'withdrawn' | 'changed';
  /** `block` or `aggregate`. */
  readonly source: string;
}

/** `POST /v1/bgp/plan` with resources. */
export interface ResourcePlan {
  /** Why no configuration comes of it; what runs then goes on. null: there is one. */
  readonly reason: string | null;
  readonly sessions: readonly SessionChange[];
  readonly unchangedSessions: number;
  /** Members of the speaker itself that would differ. */
  readonly speakerFields: readonly string[];
  readonly ownRoutes: readonly OwnRouteChange[];
  readonly fabric: { readonly before: FabricView; readonly after: FabricView };
  /** What is asked for and cannot be done. */
  readonly newProblems: readonly string[];
}

export interface FabricView {
  readonly mode: 'mesh' | 'reflectors' | 'off';
  readonly reflectors: readonly string[];
}

/** Any answer with a status of 400 or more. */
export interface ApiError {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly field?: string;
    readonly remedy?: string;
  };
}
