// Each kind by example: what is taken, what it becomes, and what is refused with which words.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InvalidResourceError } from './problems.ts';
import { findKind, parseResource } from './registry.ts';
import type { Resource } from './resource.ts';

function make(kind: string, spec: unknown, name = 'a'): unknown {
  const { apiVersion } = findKind(kind)!;
  return { apiVersion, kind, metadata: { name }, spec };
}

function taken(kind: string, spec: unknown, name?: string): Resource {
  return parseResource(make(kind, spec, name));
}

function refused(kind: string, spec: unknown, expected: RegExp, name?: string): void {
  assert.throws(
    () => taken(kind, spec, name),
    (error) => error instanceof InvalidResourceError && expected.test(error.message),
    `${kind} ${JSON.stringify(spec)} should be refused with ${expected}`,
  );
}

describe('Node', () => {
  it('is read as Calico writes it', () => {
    taken('Node', {
      addresses: [
        { address: '10.0.0.1/24', type: 'CalicoNodeIP' },
        { address: '10.0.0.1', type: 'InternalIP' },
      ],
      bgp: {
        asNumber: '65001.10',
        ipv4Address: '10.0.0.1/24',
        ipv6Address: 'fd00::1',
        routeReflectorClusterID: '224.0.0.1',
      },
      orchRefs: [{ nodeName: 'h1', orchestrator: 'k8s' }],
      ipv4VXLANTunnelAddr: '10.1.0.0',
    });
    assert.deepEqual(
      parseResource({ apiVersion: 'projectcalico.org/v3', kind: 'Node', metadata: { name: 'h' } }).spec,
      {},
    );
  });
  it('refuses addresses that no host has', () => {
    refused('Node', { bgp: { ipv4Address: 'fd00::1/64' } }, /spec\.bgp\.ipv4Address: .* is not an IPv4 address/);
    refused('Node', { bgp: { ipv4Address: '0.0.0.0/0' } }, /cannot be the address of a host/);
    refused('Node', { bgp: { asNumber: 0 } }, /AS 0 is reserved/);
    refused('Node', { bgp: { asNumber: 4_294_967_296 } }, /not an AS number/);
  });
});

describe('BGPConfiguration', () => {
  it('is one for all and one a host', () => {
    const spec = {
      asNumber: 64512,
      nodeToNodeMeshEnabled: true,
      nodeMeshMaxRestartTime: '2m0s',
      communities: [{ name: 'internal', value: '64512:100' }],
      prefixAdvertisements: [{ cidr: '10.0.0.0/16', communities: ['internal', '64512:1:2'] }],
      serviceClusterIPs: [{ cidr: '10.96.0.0/12' }],
    };
    assert.deepEqual(taken('BGPConfiguration', spec, 'default').spec, spec);
    taken('BGPConfiguration', { listenPort: 1790 }, 'node.h1');
    refused('BGPConfiguration', { asNumber: 1 }, /spec\.asNumber: holds for all hosts/, 'node.h1');
    refused('BGPConfiguration', {}, /write default, or node\.<host>/, 'other');
    refused(
      'BGPConfiguration',
      { nodeToNodeMeshEnabled: false, nodeMeshMaxRestartTime: '5s' },
      /needs the mesh/,
      'default',
    );
    refused(
      'BGPConfiguration',
      { prefixAdvertisements: [{ cidr: '10.0.0.0/16', communities: ['x'] }] },
      /prefixAdvertisements\[0\]\.communities\[0\]: "x" is neither/,
      'default',
    );
    refused('BGPConfiguration', { communities: [{ name: 'a', value: '70000:1' }] }, /not a community/, 'default');
    refused('BGPConfiguration', { nodeMeshMaxRestartTime: '5 minutes' }, /not a duration/, 'default');
    refused('BGPConfiguration', { listenPort: 0 }, /out of range; write 1 to 65535/, 'default');
  });
});

describe('BGPPeer', () => {
  it('names one peer in one way', () => {
    taken('BGPPeer', { peerIP: '10.0.0.1:1790', asNumber: 65000, node: 'h1', filters: ['f'], ttlSecurity: 1 });
    taken('BGPPeer', {
      peerIP: '[fd00::1]:179',
      asNumber: '65000',
      nodeSelector: 'rack == "a"',
      reachableBy: 'fd00::2',
    });
    taken('BGPPeer', {
      peerSelector: 'has(reflector)',
      nodeSelector: 'all()',
      password: { secretKeyRef: { name: 's', key: 'k' } },
    });
    refused('BGPPeer', {}, /names no peer/);
    refused('BGPPeer', { peerIP: '10.0.0.1' }, /spec\.asNumber: is required/);
    refused(
      'BGPPeer',
      { peerIP: '10.0.0.1', asNumber: 1, peerSelector: 'all()' },
      /peerIP: cannot be combined with peerSelector/,
    );
    refused('BGPPeer', { peerIP: '10.0.0.1:99999', asNumber: 1 }, /optional port/);
    refused('BGPPeer', { peerIP: '10.0.0.1', asNumber: 1, reachableBy: 'fd00::1' }, /not of the family/);
    refused(
      'BGPPeer',
      { peerIP: '10.0.0.1', asNumber: 1, node: 'a', nodeSelector: 'all()' },
      /node: cannot be combined/,
    );
    refused('BGPPeer', { peerIP: '10.0.0.1', asNumber: 1, nodeSelector: 'rack = "a"' }, /spec\.nodeSelector: /);
    refused('BGPPeer', { peerIP: '10.0.0.1', asNumber: 1, holdTime: '9s' }, /spec\.holdTime: is an unknown field/);
  });
});

describe('BGPFilter', () => {
  it('checks each rule against its family', () => {
    taken('BGPFilter', {
      exportV4: [
        {
          action: 'Accept',
          cidr: '77.0.0.0/16',
          matchOperator: 'In',
          source: 'RemotePeers',
          prefixLength: { min: 24, max: 32 },
        },
        {
          action: 'Accept',
          operations: [{ addCommunity: { value: '1:2' } }, { prependASPath: { prefix: [65000, '1.1'] } }],
        },
        { action: 'Reject', interface: '*.calico', peerType: 'eBGP', communities: { values: ['1:2:3'] } },
      ],
      importV6: [{ action: 'Reject', cidr: '5000::0/64', matchOperator: 'Equal' }],
    });
    refused(
      'BGPFilter',
      { importV4: [{ action: 'Accept', cidr: 'fd00::/8', matchOperator: 'In' }] },
      /importV4\[0\]\.cidr: .*put the rule into importV6/,
    );
    refused(
      'BGPFilter',
      { exportV6: [{ action: 'Accept', cidr: 'fd00::/8' }] },
      /exportV6\[0\]\.matchOperator: is required/,
    );
    refused(
      'BGPFilter',
      { importV4: [{ action: 'Accept', cidr: '10.0.0.0/8', matchOperator: 'In', prefixLength: { min: 33 } }] },
      /prefixLength\.min: 33 is out of range/,
    );
    refused(
      'BGPFilter',
      { importV4: [{ action: 'Reject', operations: [{ setPriority: { value: 5 } }] }] },
      /only possible with action Accept/,
    );
    refused('BGPFilter', { importV4: [{ action: 'Accept', operations: [{}] }] }, /exactly one operation/);
    refused('BGPFilter', { importV4: [{ action: 'accept' }] }, /did you mean Accept\?/);
  });
});

describe('BGPPeerGroup, BGPAggregate, BGPFabric', () => {
  it('take settings as network staff write them', () => {
    const group = taken('BGPPeerGroup', {
      peers: ['tor-a'],
      listenRanges: [{ cidr: '10.0.0.0/24', asNumber: 65000 }],
      interfaces: [{ name: 'eth1', asNumber: 65001 }],
      session: { holdTime: '9s', bfd: {}, maxPrefixes: { ipv4: 1000 } },
    });
    assert.deepEqual((group.spec as { session: unknown }).session, {
      holdTime: '9s',
      bfd: { interval: '300ms', multiplier: 3 },
      maxPrefixes: { ipv4: 1000, action: 'Reset', restartAfter: '5m' },
    });
    refused('BGPPeerGroup', { session: { holdTime: '2s' } }, /holdTime: 2s is out of range; write 0, or 3s to 65535s/);
    refused('BGPPeerGroup', { session: { ttlSecurity: 1, multihop: 2 } }, /cannot be combined/);
    refused(
      'BGPPeerGroup',
      { listenRanges: [{ cidr: '10.0.0.0/24' }, { cidr: '10.0.0.0/25' }] },
      /listenRanges\[1\]\.cidr: .* overlaps/,
    );
    assert.equal((taken('BGPAggregate', { cidr: '10.0.0.0/20' }).spec as { summaryOnly: boolean }).summaryOnly, true);
    assert.equal((taken('BGPFabric', {}, 'default').spec as { meshLimit: number }).meshLimit, 100);
    refused('BGPFabric', {}, /one fabric only/, 'x');
  });
});

describe('WorkloadEndpoint and IPReservation', () => {
  it('check what they hold', () => {
    const endpoint = taken('WorkloadEndpoint', {
      node: 'h1',
      interfaceName: 'cali0123456789a',
      ipNetworks: ['10.0.0.1/32', 'fd00::1'],
      ports: [
        { name: 'http', protocol: 'TCP', port: 80 },
        { protocol: 132, port: 9 },
      ],
    });
    assert.equal(endpoint.metadata.namespace, 'default');
    assert.deepEqual((endpoint.spec as { profiles: string[] }).profiles, []);
    refused(
      'WorkloadEndpoint',
      { node: 'h', interfaceName: 'x', ipNetworks: ['10.0.0.0/24'] },
      /ipNetworks\[0\]: .*more than one address; write \/32/,
    );
    refused('WorkloadEndpoint', { node: 'h', interfaceName: 'a name that is too long' }, /not an interface name/);
    refused(
      'WorkloadEndpoint',
      { node: 'h', interfaceName: 'x', ports: [{ protocol: 'TPC', port: 0 }] },
      /ports\[0\]\.protocol[^]*ports\[0\]\.port/,
    );
    refused('WorkloadEndpoint', { interfaceName: 'x' }, /spec\.node: is required; it is the host it is on/);
    taken('IPReservation', { reservedCIDRs: ['10.0.0.1', '10.0.0.0/24'] });
    refused('IPReservation', { reservedCIDRs: ['10.0.0.1/24'] }, /reservedCIDRs\[0\]: .*host bits/);
  });
});
