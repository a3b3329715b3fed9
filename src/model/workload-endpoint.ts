// WorkloadEndpoint: one interface of one container. Calico's projectcalico.org/v3 fields. Written by the agent of its host.
// Trap: the labels that policies select by are in metadata.labels; those of profiles are inherited and not repeated here.
import { Prefix } from '#net/prefix.ts';
import { defineKind } from './kind.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { Default, Int, IntOrText, type Static, Text, Type } from './schema.ts';

const Optional = Type.Optional;

export const WorkloadEndpointPort = Type.Object({
  name: Default(Type.String({ maxLength: 63 }), ''),
  protocol: IntOrText('protocol', 'TCP, UDP, SCTP or a protocol number'),
  port: Int(1, 65_535),
  hostPort: Optional(Int(0, 65_535)),
  hostIP: Optional(Type.String()),
});
export type WorkloadEndpointPort = Static<typeof WorkloadEndpointPort>;

export const WorkloadEndpointSpec = Type.Object({
  orchestrator: Optional(Type.String({ description: 'Who started it: k8s, docker, cni, lab' })),
  workload: Optional(Type.String()),
  node: Text('name', 'The host it is on'),
  containerID: Optional(Type.String()),
  pod: Optional(Type.String()),
  endpoint: Optional(Type.String({ description: 'Name of the interface inside the container, such as eth0' })),
  serviceAccountName: Optional(Type.String()),
  ipNetworks: Default(Type.Array(Text('ip-or-cidr'), { description: 'Its addresses, /32 and /128' }), []),
  ipNATs: Optional(
    Type.Array(Type.Object({ internalIP: Text('ip'), externalIP: Text('ip'), source: Optional(Type.String()) })),
  ),
  ipv4Gateway: Optional(Text('ipv4')),
  ipv6Gateway: Optional(Text('ipv6')),
  profiles: Default(Type.Array(Type.String({ minLength: 1 })), []),
  interfaceName: Text('interface-name', 'Name of the interface on the host'),
  mac: Optional(Text('mac')),
  ports: Default(Type.Array(WorkloadEndpointPort, { description: 'Named ports that policies may refer to' }), []),
  allowSpoofedSourcePrefixes: Optional(Type.Array(Text('ip-or-cidr'))),
});
export type WorkloadEndpointSpec = Static<typeof WorkloadEndpointSpec>;
export type WorkloadEndpoint = Resource<WorkloadEndpointSpec>;

function validate({ spec }: WorkloadEndpoint, problems: Problems): void {
  for (const [i, text] of spec.ipNetworks.entries()) {
    const prefix = Prefix.parseOrHost(text);
    if (!prefix.isHost()) {
      problems.add(
        `spec.ipNetworks[${i}]`,
        `${text} is more than one address`,
        `write /${prefix.family === 4 ? 32 : 128}`,
      );
    }
  }
}

export const workloadEndpoint = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'WorkloadEndpoint',
  plural: 'workloadendpoints',
  singular: 'workloadendpoint',
  shortNames: ['wep', 'weps', 'endpoint', 'endpoints'],
  namespaced: true,
  description: 'One interface of one container.',
  spec: WorkloadEndpointSpec,
  validate,
  columns: [
    { title: 'WORKLOAD', value: ({ spec }) => spec.pod ?? spec.workload ?? spec.containerID?.slice(0, 12) ?? '' },
    { title: 'HOST', value: ({ spec }) => spec.node },
    {
      title: 'ADDRESSES',
      value: ({ spec }) => spec.ipNetworks.map((text) => text.replace(/\/(32|128)$/, '')).join(','),
    },
    { title: 'INTERFACE', value: ({ spec }) => spec.interfaceName },
    { title: 'PROFILES', value: ({ spec }) => spec.profiles.join(','), wide: true },
    { title: 'CONTAINER', value: ({ spec }) => spec.containerID?.slice(0, 12) ?? '', wide: true },
  ],
});
