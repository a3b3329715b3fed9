// Ethernet MAC addresses: text with colons, six octets.
import { BrindleError } from '#base/errors.ts';

/** Parses `aa:bb:cc:dd:ee:ff`. Throws `invalid-argument`. */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) {
    throw new BrindleError('invalid-argument', `"${text}" is not a MAC address`, { remedy: 'write aa:bb:cc:dd:ee:ff' });
  }
  return Uint8Array.from(text.split(':'), (octet) => Number.parseInt(octet, 16));
}

export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(':');
}
