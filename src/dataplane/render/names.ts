// Names of our objects in the kernel: legible, within nft's alphabet, and one name for one id (what must be altered gets a digest).
import { hash } from 'node:crypto';
import { INTERFACE_MAX, NAME_MAX } from '#nft/format.ts';
import type { Family } from '#nft/objects.ts';

/** As in policy: ingress is to the endpoint, egress from it. */
export type Direction = 'ingress' | 'egress';

/** `hosts`: a hash of addresses. `nets`: an interval set of CIDRs that do not overlap. `ports`: a hash of address . protocol . port. */
export type SetKind = 'hosts' | 'nets' | 'ports';

const DIGEST_LENGTH = 10;
/** Room left for the parts around an id. */
const ID_MAX = NAME_MAX - 32;

export function policyChainName(id: string, direction: Direction): string {
  return `${direction}/${safe(id)}`;
}

/** `from/cali...` for egress, `to/cali...` for ingress: as the packet goes, seen from the host. */
export function endpointChainName(interfaceName: string, direction: Direction): string {
  return `${direction === 'egress' ? 'from' : 'to'}/${safe(interfaceName)}`;
}

/** A tier that needs a chain of its own, reached from `chain`. */
export function tierChainName(chain: string, tier: string): string {
  return `${chain}/${safe(tier)}`;
}

/** A host endpoint's chain for one place in the packet's way; `*` is every interface without an endpoint of its own. */
export function hostChainName(place: string, interfaceName: string): string {
  return interfaceName === '*' ? `host-${place}-others` : `host-${place}/${safe(interfaceName)}`;
}

export function setName(id: string, family: Family, kind: SetKind): string {
  const suffix = kind === 'nets' ? 'n' : '';
  const name = safe(id);
  return `${/^[A-Za-z_]/.test(name) ? name : `s.${name}`}-${family}${suffix}`;
}

function safe(id: string): string {
  const plain = id.replace(/[^A-Za-z0-9_./-]/g, '.');
  if (plain === id && id.length <= ID_MAX) return id;
  return `${plain.slice(0, ID_MAX - DIGEST_LENGTH - 1)}.${hash('sha1', id).slice(0, DIGEST_LENGTH)}`;
}

/** A name that the kernel and nft take as an interface; a host endpoint's `*` is not one. */
export function isInterfaceName(name: string): boolean {
  return name.length <= INTERFACE_MAX && /^[A-Za-z0-9_.:@-]+$/.test(name);
}
