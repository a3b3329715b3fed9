// What the operator may choose about the rendered table.
import { BrindleError } from '#base/errors.ts';

/** Ports of one protocol. */
export interface FailsafePorts {
  readonly protocol: 'tcp' | 'udp';
  /** None: no port. */
  readonly ports: readonly number[];
}

export interface RenderOptions {
  /** Name of our table. */
  readonly table: string;
  /** Interfaces whose name begins with one of these are workloads'; unknown ones are closed. */
  readonly workloadPrefixes: readonly string[];
  /** The bits of the packet mark that are ours: 8 adjacent bits or more. */
  readonly markMask: number;
  /** What happens to a workload's packet to its own host that egress policy allowed. Source: ecosystem rule 2.1.7. */
  readonly endpointToHostAction: 'accept' | 'drop';
  /** Ports of the host that no host endpoint policy closes, inbound by destination port. */
  readonly failsafeInbound: readonly FailsafePorts[];
  readonly failsafeOutbound: readonly FailsafePorts[];
  /** Limit of what `Log` rules write, for each rule; null for no limit. */
  readonly logLimit: { readonly perSecond: number; readonly burst: number } | null;
  /** The address that packets to the outside get, by family; null: that of the interface they leave by. */
  readonly natAddresses: Readonly<Record<4 | 6, string | null>>;
}

export const defaultRenderOptions: RenderOptions = {
  table: 'brindle',
  workloadPrefixes: ['cali'],
  markMask: 0x00ff0000,
  endpointToHostAction: 'accept',
  // SSH, BGP, etcd, Typha, the Kubernetes API server, Calico's etcd; DHCP, DNS. Source: Calico's FelixConfiguration.
  failsafeInbound: [
    { protocol: 'tcp', ports: [22, 179, 2379, 2380, 5473, 6443, 6666, 6667] },
    { protocol: 'udp', ports: [68] },
  ],
  failsafeOutbound: [
    { protocol: 'tcp', ports: [179, 2379, 2380, 5473, 6443, 6666, 6667] },
    { protocol: 'udp', ports: [53, 67] },
  ],
  logLimit: { perSecond: 10, burst: 20 },
  natAddresses: { 4: null, 6: null },
};

export interface MarkBits {
  /** A rule said Pass; cleared again by the tier that sees it. */
  readonly pass: number;
  /** A pre-DNAT policy allowed it: the host endpoint asks nothing more. Cleared by the filter. */
  readonly allowed: number;
}

/** Throws `invalid-argument` when the mask has no room. */
export function markBits(mask: number): MarkBits {
  const pass = (mask & -mask) >>> 0;
  const rest = (mask & ~pass) >>> 0;
  const allowed = (rest & -rest) >>> 0;
  if (!Number.isInteger(mask) || mask < 1 || mask > 0xffff_ffff || allowed === 0) {
    throw new BrindleError('invalid-argument', `mark mask ${mask} is not a 32-bit mask of two bits or more`, {
      remedy: 'give 8 adjacent bits, such as 0x00ff0000',
    });
  }
  return { pass, allowed };
}
