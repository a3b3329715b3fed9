// The addresses this host is reached by, when its Node resource does not say: those of the interface that the default
// route leaves by. Never a guess among several: none found is said, with what to write.
// In: links, addresses, routes of the host. Out: `address/length` a family, or null.
import type { NetlinkApi } from '#netlink/api.ts';
import type { Family } from '#net/address.ts';

export interface DetectedAddresses {
  readonly ipv4: string | null;
  readonly ipv6: string | null;
}

export function detectAddresses(netlink: NetlinkApi): DetectedAddresses {
  return { ipv4: addressOf(netlink, 4), ipv6: addressOf(netlink, 6) };
}

function addressOf(netlink: NetlinkApi, family: Family): string | null {
  const defaults = netlink
    .listRoutes({ family })
    .filter((route) => route.destination.length === 0 && route.type === 'unicast')
    .sort((a, b) => a.metric - b.metric);
  for (const route of defaults) {
    for (const hop of route.nextHops) {
      if (hop.ifindex === null) continue;
      const addresses = netlink
        .listAddresses({ family, ifindex: hop.ifindex })
        .filter((a) => a.scope === 'global' && !a.deprecated && !a.address.isLinkLocal());
      const [first] = route.source ? addresses.filter((a) => a.address.equals(route.source!)) : addresses;
      if (first) return `${first.address}/${first.prefixLength}`;
    }
  }
  return null;
}
