// What in the kernel is ours, in one place: the marks by which our objects are known after a crash, and by which
// nobody else's are touched. docs/reference lists them for operators.

/**
 * rtm_protocol of every route we write. Not one of the registered numbers (BIRD 12, Calico 80, FRR's BGP 186), so
 * that another routing daemon on the host and we never take each other's routes for our own.
 */
export const ROUTE_PROTOCOL = 155;

/** Host side interfaces of workloads begin with this. */
export const INTERFACE_PREFIX = 'cali';

/** MAC address of every host side interface. */
export const HOST_MAC = 'ee:ee:ee:ee:ee:ee';

/** The link-local address that belongs to HOST_MAC (RFC 4291 appendix A): every container's IPv6 gateway. */
export const HOST_LINK_LOCAL = 'fe80::ecee:eeff:feee:eeee';

/** Every container's IPv4 gateway. No interface has it; the host side answers for it by proxy ARP. */
export const GATEWAY_V4 = '169.254.1.1';

/** First of the link groups of host side interfaces that are out of service and wait to be deleted. */
export const DOOMED_GROUP = 0x0ca11d00;
export const DOOMED_GROUPS = 256;

/** Whether a link of this group waits to be deleted. */
export function isDoomed(group: number): boolean {
  return group >= DOOMED_GROUP && group < DOOMED_GROUP + DOOMED_GROUPS;
}
