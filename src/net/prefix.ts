// CIDR prefixes as immutable values, always strictly masked inside.
import { BrindleError } from '#base/errors.ts';
import { type Family, familyBits, IpAddress } from './address.ts';

export class Prefix {
  readonly address: IpAddress;
  /** 0 to 32 or 0 to 128. */
  readonly length: number;
  #text: string | undefined;

  private constructor(address: IpAddress, length: number) {
    this.address = address;
    this.length = length;
  }

  /** Masks host bits away. Throws `invalid-argument` when the length is out of range. */
  static of(address: IpAddress, length: number): Prefix {
    const bits = familyBits(address.family);
    if (!Number.isInteger(length) || length < 0 || length > bits) {
      throw new BrindleError('invalid-argument', `prefix length ${length} of ${address} is not in 0..${bits}`);
    }
    return new Prefix(mask(address, length), length);
  }

  /** The host prefix of an address: /32 or /128. */
  static host(address: IpAddress): Prefix {
    return new Prefix(address, familyBits(address.family));
  }

  /** Parses `address/length`, masking host bits away. Throws `invalid-argument`. */
  static parse(text: string): Prefix {
    const { address, length } = split(text);
    return Prefix.of(address, length);
  }

  /** Parses `address/length` and refuses host bits. Throws `invalid-argument`, with the masked form as the remedy. */
  static parseStrict(text: string): Prefix {
    const { address, length } = split(text);
    const prefix = Prefix.of(address, length);
    if (!prefix.address.equals(address)) {
      throw new BrindleError('invalid-argument', `"${text}" has host bits set`, { remedy: `write ${prefix}` });
    }
    return prefix;
  }

  /** Parses `address/length` or a bare address, which is then a host prefix. */
  static parseOrHost(text: string): Prefix {
    return text.includes('/') ? Prefix.parse(text) : Prefix.host(IpAddress.parse(text));
  }

  static tryParse(text: string): Prefix | null {
    try {
      return Prefix.parse(text);
    } catch {
      return null;
    }
  }

  get family(): Family {
    return this.address.family;
  }

  /** Number of addresses inside. */
  get size(): bigint {
    return 1n << BigInt(familyBits(this.family) - this.length);
  }

  get first(): IpAddress {
    return this.address;
  }

  get last(): IpAddress {
    return IpAddress.fromBigInt(this.family, this.address.toBigInt() + this.size - 1n);
  }

  isHost(): boolean {
    return this.length === familyBits(this.family);
  }

  contains(address: IpAddress): boolean {
    return address.family === this.family && commonBits(this.address, address, this.length) >= this.length;
  }

  /** True when `other` is this prefix or lies inside it. */
  covers(other: Prefix): boolean {
    return other.length >= this.length && this.contains(other.address);
  }

  overlaps(other: Prefix): boolean {
    return this.covers(other) || other.covers(this);
  }

  equals(other: Prefix): boolean {
    return this.length === other.length && this.address.equals(other.address);
  }

  /** IPv4 before IPv6, then by address, then shorter first. */
  compare(other: Prefix): number {
    return this.address.compare(other.address) || this.length - other.length;
  }

  /** The `index`-th sub-prefix of length `length`. */
  subnet(length: number, index: number | bigint): Prefix {
    const step = 1n << BigInt(familyBits(this.family) - length);
    return Prefix.of(IpAddress.fromBigInt(this.family, this.address.toBigInt() + step * BigInt(index)), length);
  }

  toString(): string {
    this.#text ??= `${this.address}/${this.length}`;
    return this.#text;
  }

  toJSON(): string {
    return this.toString();
  }
}

function split(text: string): { address: IpAddress; length: number } {
  const slash = text.indexOf('/');
  const address = slash < 0 ? null : IpAddress.tryParse(text.slice(0, slash));
  const digits = text.slice(slash + 1);
  if (!address || !/^(0|[1-9]\d{0,2})$/.test(digits) || Number(digits) > familyBits(address.family)) {
    throw new BrindleError('invalid-argument', `"${text}" is not a CIDR prefix`, {
      remedy: 'write address/length, such as 10.1.0.0/16 or fd00::/64',
    });
  }
  return { address, length: Number(digits) };
}

function mask(address: IpAddress, length: number): IpAddress {
  const bytes = Uint8Array.from(address.bytes);
  const whole = length >> 3;
  if (whole < bytes.length) {
    bytes[whole] = bytes[whole]! & (0xff00 >> (length & 7));
    bytes.fill(0, whole + 1);
  }
  return IpAddress.fromBytes(bytes);
}

/** How many leading bits two addresses of one family share, counted up to `limit`. */
export function commonBits(a: IpAddress, b: IpAddress, limit: number): number {
  const whole = (limit + 7) >> 3;
  for (let i = 0; i < whole; i++) {
    const difference = a.bytes[i]! ^ b.bytes[i]!;
    if (difference !== 0) return Math.min(limit, i * 8 + Math.clz32(difference) - 24);
  }
  return limit;
}
