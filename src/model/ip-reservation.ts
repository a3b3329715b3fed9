// IPReservation: addresses that are never given to a container, whatever pool they are in. Calico's fields.
// It holds for new allocations only.
import { defineKind } from './kind.ts';
import type { Resource } from './resource.ts';
import { Default, type Static, Text, Type } from './schema.ts';

export const IPReservationSpec = Type.Object({
  reservedCIDRs: Default(Type.Array(Text('net'), { description: 'Addresses and CIDRs that are not given out' }), []),
});
export type IPReservationSpec = Static<typeof IPReservationSpec>;
export type IPReservation = Resource<IPReservationSpec>;

export const ipReservation = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'IPReservation',
  plural: 'ipreservations',
  singular: 'ipreservation',
  shortNames: ['reservation', 'reservations'],
  namespaced: false,
  description: 'Addresses that are never given to a container.',
  spec: IPReservationSpec,
  specOptional: true,
  columns: [{ title: 'CIDRS', value: ({ spec }) => spec.reservedCIDRs.join(',') }],
});
