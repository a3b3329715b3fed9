// Attributes of the routes this host originates.
import { BrindleError } from '#base/errors.ts';
import { makeAttributes } from '#bgp/wire/attributes.ts';
import type { LargeCommunity, PathAttributes } from '#bgp/wire/types.ts';
import { IpAddress } from '#net/address.ts';
import type { LocalRoute } from './api.ts';

/** Well-known communities by name (RFC 1997, 7999, 8326, 9494). */
export const WELL_KNOWN_COMMUNITIES: ReadonlyMap<string, number> = new Map([
  ['graceful-shutdown', 0xffff0000],
  ['llgr-stale', 0xffff0006],
  ['no-llgr', 0xffff0007],
  ['blackhole', 0xffff029a],
  ['no-export', 0xffffff01],
  ['no-advertise', 0xffffff02],
  ['no-export-subconfed', 0xffffff03],
]);
const NAMES = new Map([...WELL_KNOWN_COMMUNITIES].map(([name, value]) => [value, name]));

/** `65000:100`, or the name of a well-known one. */
export function communityText(value: number): string {
  return NAMES.get(value) ?? `${value >>> 16}:${value & 0xffff}`;
}

/** Throws `invalid-argument` with the field. */
export function parseCommunity(text: string, field: string): number {
  const known = WELL_KNOWN_COMMUNITIES.get(text.toLowerCase().replaceAll('_', '-'));
  if (known !== undefined) return known;
  const parts = numbers(text, 2, 0xffff);
  if (parts) return ((parts[0]! << 16) | parts[1]!) >>> 0;
  throw new BrindleError('invalid-argument', `${field} "${text}" is not a community`, {
    field,
    remedy: `write AS:VALUE, each 0 to 65535, or one of ${[...WELL_KNOWN_COMMUNITIES.keys()].join(', ')}`,
  });
}

/** Throws `invalid-argument` with the field. */
export function parseLargeCommunity(text: string, field: string): LargeCommunity {
  const parts = numbers(text, 3, 0xffffffff);
  if (parts) return [parts[0]!, parts[1]!, parts[2]!];
  throw new BrindleError('invalid-argument', `${field} "${text}" is not a large community`, {
    field,
    remedy: 'write GLOBAL:LOCAL1:LOCAL2, each 0 to 4294967295',
  });
}

function numbers(text: string, count: number, most: number): number[] | null {
  const parts = text.split(':');
  if (parts.length !== count || !parts.every((p) => /^\d{1,10}$/.test(p) && Number(p) <= most)) return null;
  return parts.map(Number);
}

/** Attributes of an originated route; `field` is its path for errors. */
export function localAttributes(route: LocalRoute, field: string): PathAttributes {
  return makeAttributes({
    nextHop: route.nextHop === undefined ? null : IpAddress.parse(route.nextHop),
    med: route.med ?? null,
    localPref: route.localPref ?? null,
    communities: (route.communities ?? []).map((text) => parseCommunity(text, `${field}.communities`)),
    largeCommunities: (route.largeCommunities ?? []).map((text) =>
      parseLargeCommunity(text, `${field}.largeCommunities`),
    ),
  });
}
