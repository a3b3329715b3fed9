// The result of ADD, in the version of the configuration (CNI 1.1.0 "Section 5"). Pure. With a prevResult ours is added to
// it; what we do not understand in it goes through unchanged.
import type { IpAddress } from '#net/address.ts';
import { familyBits } from '#net/address.ts';
import type { CniConfig, CniVersion } from './config.ts';
import { CniCode, CniError } from './errors.ts';

type Json = Record<string, unknown>;

export interface AttachedInterface {
  readonly ifname: string;
  readonly netns: string;
  readonly mac: string;
  /** Bytes. */
  readonly mtu: number;
  readonly hostInterface: string;
  readonly hostMac: string;
  readonly addresses: readonly IpAddress[];
  /** The next hop of the default route. */
  readonly gateways: { readonly 4: string; readonly 6: string };
}

const ANYWHERE = { 4: '0.0.0.0/0', 6: '::/0' } as const;

export function buildResult(config: CniConfig, attached: AttachedInterface): Json {
  const { cniVersion, prevResult } = config;
  const before = {
    interfaces: list(prevResult, 'interfaces'),
    ips: list(prevResult, 'ips'),
    routes: list(prevResult, 'routes'),
  };
  const withMtu = cniVersion === '1.1.0' ? { mtu: attached.mtu } : {};
  const interfaces = [
    ...before.interfaces,
    { name: attached.hostInterface, mac: attached.hostMac, ...withMtu, sandbox: '' },
    { name: attached.ifname, mac: attached.mac, ...withMtu, sandbox: attached.netns },
  ];
  const ips = attached.addresses.map((address) => ({
    ...versionField(cniVersion, address),
    address: `${address}/${familyBits(address.family)}`,
    gateway: attached.gateways[address.family],
    interface: interfaces.length - 1,
  }));
  const routes = attached.addresses.map(({ family }) => ({ dst: ANYWHERE[family], gw: attached.gateways[family] }));
  const dns = config.dns ?? prevResult?.['dns'] ?? {};
  return {
    ...prevResult,
    cniVersion,
    interfaces,
    ips: [...before.ips, ...ips],
    routes: [...before.routes, ...routes],
    dns,
  };
}

/** Results before 1.0.0 said of each address which family it has. */
function versionField(version: CniVersion, address: IpAddress): Json {
  return version === '0.3.1' || version === '0.4.0' ? { version: String(address.family) } : {};
}

function list(result: Json | null, key: string): readonly unknown[] {
  const value = result?.[key];
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  throw new CniError(CniCode.badConfig, `prevResult.${key} is not a list`);
}

/** What a prevResult says of one container interface: its addresses without prefix length, null when it is not there. */
export function addressesIn(prevResult: Json, ifname: string, netns: string): string[] | null {
  const interfaces = list(prevResult, 'interfaces') as readonly (Json | null)[];
  const index = interfaces.findIndex((item) => item?.['name'] === ifname && item['sandbox'] === netns);
  if (index < 0) return null;
  const ips = list(prevResult, 'ips') as readonly (Json | null)[];
  return ips
    .filter((item) => item?.['interface'] === index)
    .map((item) => String(item?.['address']).replace(/\/\d+$/, ''));
}
