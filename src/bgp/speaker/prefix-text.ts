// Rows of a prefix table as text.
import type { FamilyRib } from '#bgp/rib/family-rib.ts';
import { IpAddress } from '#net/address.ts';

/** The prefix of a row, `10.1.0.0/16`. */
export function prefixText(rib: FamilyRib, row: number): string {
  const { prefixes } = rib;
  const words = rib.family === 'ipv4' ? 1 : 4;
  const bytes = new Uint8Array(words * 4);
  for (let i = 0; i < words; i++) {
    const word = prefixes.word(row, i);
    bytes[i * 4] = word >>> 24;
    bytes[i * 4 + 1] = (word >>> 16) & 255;
    bytes[i * 4 + 2] = (word >>> 8) & 255;
    bytes[i * 4 + 3] = word & 255;
  }
  return `${IpAddress.fromBytes(bytes)}/${prefixes.bits[row]!}`;
}
