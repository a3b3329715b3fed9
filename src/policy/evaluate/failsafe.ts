// Ports of a host that no policy can close, so that nobody locks himself out. Defaults of Calico's FelixConfiguration.
import type { Direction } from '../policy.ts';
import type { Packet } from '../world/matcher.ts';

const TCP = 6;
const UDP = 17;

/** SSH, BGP, etcd, Typha, the Kubernetes API server, etcd for Calico; DHCP. */
export const FAILSAFE_PORTS: Readonly<Record<Direction, ReadonlyMap<number, readonly number[]>>> = {
  ingress: new Map([
    [TCP, [22, 179, 2379, 2380, 5473, 6443, 6666, 6667]],
    [UDP, [68]],
  ]),
  egress: new Map([
    [TCP, [179, 2379, 2380, 5473, 6443, 6666, 6667]],
    [UDP, [53, 67]],
  ]),
};

export function isFailsafe({ protocol, destinationPort }: Packet, direction: Direction): boolean {
  return destinationPort !== null && (FAILSAFE_PORTS[direction].get(protocol)?.includes(destinationPort) ?? false);
}
