// What the lab writes into the store for its agents: the nodes, the pools, the AS number, and a BGP peer for each wire
// between a host and its router. Pure. The kinds are projectcalico.org/v3, so this is also an example of how a real
// fabric is described.
import type { Resource } from '#model/resource.ts';
import type { Plan, PlannedHost } from './plan.ts';
import type { Topology } from './topology.ts';

const API = 'projectcalico.org/v3';

/** Everything for a new lab, in an order in which it can be applied. */
export function labResources(topology: Topology, plan: Plan): Resource[] {
  const pools = topology.pools.map((pool) => ({
    apiVersion: API,
    kind: 'IPPool',
    metadata: { name: pool.name },
    spec: { cidr: pool.cidr, blockSize: pool.blockSize, ipipMode: 'Never', vxlanMode: 'Never', natOutgoing: false },
  }));
  const configuration = {
    apiVersion: API,
    kind: 'BGPConfiguration',
    metadata: { name: 'default' },
    spec: { asNumber: defaultAs(topology), nodeToNodeMeshEnabled: topology.mesh },
  };
  return [...pools, configuration, ...plan.hosts.flatMap((host) => hostResources(topology, host))];
}

/** What one host needs: its Node, and its peers one for each wire and family. */
export function hostResources(topology: Topology, host: PlannedHost): Resource[] {
  const [first] = host.interfaces;
  if (!first) return [];
  const { name, asNumber, rack } = host.spec;
  const node = {
    apiVersion: API,
    kind: 'Node',
    metadata: { name, labels: { rack } },
    spec: {
      bgp: {
        ...(asNumber === defaultAs(topology) ? {} : { asNumber }),
        ipv4Address: `${first.ipv4.address}/${first.ipv4.length}`,
        ipv6Address: `${first.ipv6.address}/${first.ipv6.length}`,
      },
    },
  };
  const asOf = new Map(topology.routers.map((router) => [router.name, router.asNumber]));
  const peers = host.interfaces.flatMap(({ peer }) => {
    const peerAs = asOf.get(peer.node);
    if (peerAs === undefined) return [];
    return ([4, 6] as const).map((family) => ({
      apiVersion: API,
      kind: 'BGPPeer',
      metadata: { name: `${name}-${peer.node}-ipv${family}` },
      spec: {
        node: name,
        peerIP: family === 4 ? peer.ipv4 : peer.ipv6,
        asNumber: peerAs,
        // The session is that of the wire: with several uplinks the node's address belongs to only one of them.
        sourceAddress: 'None',
        // Without a mesh, the hosts of one AS learn of each other only through their router.
        ...(topology.mesh || peerAs === asNumber ? {} : { numAllowedLocalASNumbers: 1 }),
      },
    }));
  });
  return [node, ...peers];
}

function defaultAs(topology: Topology): number {
  return topology.hosts[0]?.asNumber ?? 64512;
}
