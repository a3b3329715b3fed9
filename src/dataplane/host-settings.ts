// The host-wide kernel parameters that routing for containers needs, set once at the start of the agent. In: which IP
// versions are in use. Out: the list of what was changed, for the log.
//
// Traps:
// - Strict reverse path filtering on our interfaces is void while `all` says loose (2): the kernel takes the maximum. The
//   loose setting is then moved from `all` to each interface that is there, which changes nothing for them.
// - The kernel keeps at most gc_thresh3 neighbours (1024 by default) for all its namespaces together, and drops packets
//   beyond that. A rack, or a lab of 50 hosts on one machine, has more. The limit can be set in the first namespace only.
// - IPv6 forwarding makes an interface ignore router advertisements unless accept_ra is 2; a host that got its default
//   route by one would lose it.
import type { Family } from '#net/address.ts';
import type { SysctlName } from '#sys/proc.ts';
import type { Namespace } from './kernel-access.ts';
import { INTERFACE_PREFIX } from './ownership.ts';

/** Neighbours from which the kernel tidies up a little, tidies up hard, and refuses. */
const NEIGHBOUR_LIMITS = { gc_thresh1: 4096, gc_thresh2: 8192, gc_thresh3: 16384 };

/** Raises the limits of the neighbour tables where they are lower. Returns what has to change. */
function neighbourLimits(host: Namespace, families: readonly Family[]): (readonly [SysctlName, string])[] {
  const changes: (readonly [SysctlName, string])[] = [];
  for (const family of families) {
    for (const [parameter, least] of Object.entries(NEIGHBOUR_LIMITS).reverse()) {
      const name = [`ipv${family}`, 'neigh', 'default', parameter];
      const now = host.readSysctl(name);
      if (now !== null && Number(now) < least) changes.push([name, `${least}`]);
    }
  }
  return changes;
}

/** Raises the neighbour limits alone, for who runs agents in other namespaces. As `prepareHost`. */
export function raiseNeighbourLimits(host: Namespace): string[] {
  const changes = neighbourLimits(host, [4, 6]);
  host.setSysctls(changes);
  return changes.map(show);
}

const show = ([name, value]: readonly [SysctlName, string]): string => `${name.join('.')} = ${value}`;

/** Idempotent. Throws SystemError where /proc/sys is read-only. Returns `name = value` texts. */
export function prepareHost(host: Namespace, families: readonly Family[]): string[] {
  const changes = neighbourLimits(host, families);
  const want = (name: SysctlName, value: string): void => {
    const now = host.readSysctl(name);
    if (now !== null && now !== value) changes.push([name, value]);
  };
  const others = host.netlink
    .listLinks()
    .map((link) => link.name)
    .filter((name) => !name.startsWith(INTERFACE_PREFIX));
  if (families.includes(4)) {
    want(['ipv4', 'ip_forward'], '1');
    if (host.readSysctl(['ipv4', 'conf', 'all', 'rp_filter']) === '2') {
      for (const name of ['default', ...others]) want(['ipv4', 'conf', name, 'rp_filter'], '2');
      want(['ipv4', 'conf', 'all', 'rp_filter'], '0');
    }
  }
  if (families.includes(6)) {
    const forwarding = ['ipv6', 'conf', 'all', 'forwarding'];
    if (host.readSysctl(forwarding) === '0') {
      for (const name of others) {
        if (host.readSysctl(['ipv6', 'conf', name, 'accept_ra']) === '1') {
          want(['ipv6', 'conf', name, 'accept_ra'], '2');
        }
      }
      want(forwarding, '1');
    }
  }
  host.setSysctls(changes);
  return changes.map(show);
}
