// Removes from the kernel exactly what is ours: the nftables table, routes with our protocol number, container interfaces.
// Needs no agent and no journal, so it also works after a crash. Out: a line for each thing removed.
import { Dataplane } from '#dataplane/dataplane.ts';
import { openKernelAccess } from '#dataplane/kernel-access.ts';
import { INTERFACE_PREFIX, ROUTE_PROTOCOL } from '#dataplane/ownership.ts';
import { isKernelError } from '#netlink/errors.ts';
import type { Operation } from '#netlink/types.ts';
import { NetlinkNftDriver } from '#nft/netlink/netlink-driver.ts';

export async function cleanup(options: { readonly dryRun: boolean }): Promise<string[]> {
  const removed: string[] = [];
  const kernel = openKernelAccess();
  const driver = NetlinkNftDriver.open();
  try {
    if (await driver.list('brindle', { terse: true })) {
      removed.push('nftables table inet brindle');
      if (!options.dryRun) await Dataplane.cleanup(driver);
    }
    const { netlink } = kernel.host;
    const operations: Operation[] = [];
    for (const route of netlink.listRoutes({ protocol: ROUTE_PROTOCOL })) {
      removed.push(`route ${route.type === 'unicast' ? '' : `${route.type} `}${route.destination}`);
      operations.push({ op: 'route-delete', route });
    }
    for (const link of netlink.listLinks()) {
      if (!link.name.startsWith(INTERFACE_PREFIX) || link.kind !== 'veth') continue;
      removed.push(`interface ${link.name}`);
      operations.push({ op: 'link-delete', link: link.index });
    }
    if (!options.dryRun) {
      for (const { error } of netlink.execute(operations)) {
        // A route goes with its interface.
        if (error && !isKernelError(error, 'ESRCH') && !isKernelError(error, 'ENODEV')) throw error;
      }
    }
    return removed;
  } finally {
    driver.close();
    kernel.close();
  }
}
