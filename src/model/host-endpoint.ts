// HostEndpoint: an interface of a host, or all of them, under policy. Calico's projectcalico.org/v3 fields.
import { defineKind } from './kind.ts';
import { hasPorts, parseProtocol } from './port.ts';
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import { Int, IntOrText, type Static, Text, Type } from './schema.ts';

/** A port that an endpoint serves under a name. */
export const EndpointPort = Type.Object({
  name: Type.String({ minLength: 1, maxLength: 63, description: 'What rules call the port' }),
  protocol: IntOrText('protocol'),
  port: Int(1, 65_535),
});
export type EndpointPort = Static<typeof EndpointPort>;

export const HostEndpointSpec = Type.Object({
  node: Text('name', 'The host, by the name of its Node'),
  interfaceName: Type.Optional(Text('interface-name', 'The interface, or * for all of them')),
  expectedIPs: Type.Optional(Type.Array(Text('ip'), { description: 'The addresses of the host endpoint' })),
  profiles: Type.Optional(Type.Array(Text('name'))),
  ports: Type.Optional(Type.Array(EndpointPort)),
});
export type HostEndpointSpec = Static<typeof HostEndpointSpec>;
export type HostEndpoint = Resource<HostEndpointSpec>;

function validate({ spec }: HostEndpoint, problems: Problems): void {
  if (!spec.interfaceName && !spec.expectedIPs?.length) {
    problems.add(
      'spec',
      'names neither an interface nor an address',
      'write interfaceName, "*" for all, or expectedIPs',
    );
  }
  for (const [i, port] of (spec.ports ?? []).entries()) {
    if (!hasPorts(parseProtocol(port.protocol) ?? 0)) {
      problems.add(`spec.ports[${i}].protocol`, `${port.protocol} has no ports`, 'write TCP, UDP or SCTP');
    }
  }
}

export const hostEndpoint = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'HostEndpoint',
  plural: 'hostendpoints',
  singular: 'hostendpoint',
  shortNames: ['hep', 'heps'],
  namespaced: false,
  description: 'An interface of a host, or all of them, that policies can select.',
  spec: HostEndpointSpec,
  validate,
  columns: [
    { title: 'NODE', value: ({ spec }) => spec.node },
    { title: 'INTERFACE', value: ({ spec }) => spec.interfaceName ?? '' },
    { title: 'IPS', value: ({ spec }) => spec.expectedIPs?.join(',') ?? '' },
  ],
});
