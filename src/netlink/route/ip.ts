// Addresses and prefixes inside of messages, checked before they become values.
import { type Family, familyBits, IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { broken } from '../wire.ts';

/** Throws `protocol` for a length other than the family's. */
export function readAddress(bytes: Uint8Array, family: Family): IpAddress {
  if (bytes.length !== familyBits(family) / 8) throw broken(`an IPv${family} address has ${bytes.length} octets`);
  return IpAddress.fromBytes(bytes);
}

/** Throws `protocol` for an address or a prefix length that does not fit the family. */
export function readPrefix(bytes: Uint8Array, length: number, family: Family): Prefix {
  if (length > familyBits(family)) throw broken(`an IPv${family} prefix is ${length} bits long`);
  return Prefix.of(readAddress(bytes, family), length);
}
