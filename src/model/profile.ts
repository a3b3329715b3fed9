// Profile: rules that apply where no tier decided, and labels that endpoints inherit. Calico's projectcalico.org/v3 fields.
import { defineKind } from './kind.ts';
import { checkRules, Rules } from './policy-rule.ts';
import type { Resource } from './resource.ts';
import { type Static, TextMap, Type } from './schema.ts';

export const ProfileSpec = Type.Object({
  ingress: Type.Optional(Rules),
  egress: Type.Optional(Rules),
  labelsToApply: Type.Optional(TextMap('Labels that every endpoint with this profile inherits')),
});
export type ProfileSpec = Static<typeof ProfileSpec>;
export type Profile = Resource<ProfileSpec>;

export const profile = defineKind({
  apiVersion: 'projectcalico.org/v3',
  kind: 'Profile',
  plural: 'profiles',
  singular: 'profile',
  shortNames: ['pro', 'pros'],
  namespaced: false,
  description: 'Rules for endpoints that no policy decides about, and labels that they inherit.',
  spec: ProfileSpec,
  specOptional: true,
  validate: ({ spec }, problems) => checkRules(spec, false, problems),
});
