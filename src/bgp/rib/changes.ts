// Changes to attribute sets, by value: what a policy orders, and the small steps of export.
import type { AsPathSegment, PathAttributes } from '#bgp/wire/types.ts';
import type { RouteChanges } from '#bgp/filter/policy.ts';

const MAX_SEGMENT = 255;

/** The path with `asns` in front, leftmost first. */
export function prepend(path: readonly AsPathSegment[], asns: readonly number[]): readonly AsPathSegment[] {
  if (asns.length === 0) return path;
  const first = path[0];
  if (first?.type === 'sequence' && first.asns.length + asns.length <= MAX_SEGMENT) {
    return [{ type: 'sequence', asns: [...asns, ...first.asns] }, ...path.slice(1)];
  }
  return [{ type: 'sequence', asns: [...asns] }, ...path];
}

export function withCommunity(attributes: PathAttributes, community: number): PathAttributes {
  if (attributes.communities.includes(community)) return attributes;
  return { ...attributes, communities: [...attributes.communities, community] };
}

/** The attributes as a policy's rule changes them; the same object when there is nothing to change. */
export function applyChanges(attributes: PathAttributes, changes: RouteChanges | null): PathAttributes {
  if (!changes) return attributes;
  const { addCommunities = [], addLargeCommunities = [], prependAsPath = [], localPref, med } = changes;
  return {
    ...attributes,
    asPath: prepend(attributes.asPath, prependAsPath),
    communities: addCommunities.length > 0 ? [...attributes.communities, ...addCommunities] : attributes.communities,
    largeCommunities:
      addLargeCommunities.length > 0
        ? [...attributes.largeCommunities, ...addLargeCommunities]
        : attributes.largeCommunities,
    localPref: localPref ?? attributes.localPref,
    med: med ?? attributes.med,
  };
}
