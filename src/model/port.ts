// Ports and protocols as policies write them. In: a number or a text. Out: plain values, or null when it is neither.
// Spec: Calico's numorstring types; numbers from the IANA protocol registry.
import type { PortRange } from './desired.ts';

/** IANA numbers of the protocols that policies name. */
export const PROTOCOL_NUMBERS: Readonly<Record<string, number>> = {
  TCP: 6,
  UDP: 17,
  ICMP: 1,
  ICMPv6: 58,
  SCTP: 132,
  UDPLite: 136,
};

const NUMBER_OF = new Map(Object.entries(PROTOCOL_NUMBERS).map(([name, number]) => [name.toLowerCase(), number]));
const NAME_OF = new Map(Object.entries(PROTOCOL_NUMBERS).map(([name, number]) => [number, name]));

/** The IANA number, 1 to 255, of a name (any case) or a number (also as text); null when it is none. */
export function parseProtocol(value: string | number): number | null {
  const number =
    typeof value === 'string' && !/^\d{1,3}$/.test(value) ? NUMBER_OF.get(value.toLowerCase()) : Number(value);
  return number !== undefined && Number.isInteger(number) && number >= 1 && number <= 255 ? number : null;
}

/** `TCP` of 6; the number as text where policies have no name for it. */
export function protocolName(number: number): string {
  return NAME_OF.get(number) ?? String(number);
}

/** Whether rules may match ports of the protocol: TCP, UDP and SCTP. */
export function hasPorts(protocol: number): boolean {
  return protocol === 6 || protocol === 17 || protocol === 132;
}

/** A range of numbers, 1 to 65535, or the name of an endpoint's port. */
export type PortMatch = PortRange | string;

/** A number, a text such as `80` or `8000:8080`, or a port's name; null when it is none, out of range or upside down. */
export function parsePort(value: string | number): PortMatch | null {
  const match = /^(\d+)(?::(\d+))?$/.exec(String(value));
  if (!match) return typeof value === 'string' && /^[a-zA-Z0-9_.-]{1,128}$/.test(value) ? value : null;
  const min = Number(match[1]);
  const max = Number(match[2] ?? match[1]);
  return min >= 1 && max <= 65_535 && min <= max ? { min, max } : null;
}
