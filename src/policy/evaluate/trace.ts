// What a decision says of itself, step by step, in words that a person can check against the policies.
import { protocolName } from '#model/port.ts';
import type { Direction, EntityMatch, IcmpType, PolicyRule } from '../policy.ts';
import type { Mismatch, Packet } from '../world/matcher.ts';

export interface TraceStep {
  readonly direction: Direction;
  /** The endpoint whose policies are asked. */
  readonly endpoint: string;
  /** null in steps of profiles and of no tier. */
  readonly tier: string | null;
  /** `Kind/namespace/name` of the policy; null at a tier's end and in steps of profiles. */
  readonly policy: string | null;
  /** Name of the profile; null in other steps. */
  readonly profile: string | null;
  /** Index of the rule in its list, as written, from 0; null in steps that are no rule. */
  readonly rule: number | null;
  /** What the step does when it matches. */
  readonly action: 'Allow' | 'Deny' | 'Pass' | 'Log' | null;
  readonly matched: boolean;
  readonly reason: string;
}

export function describePacket({ protocol, destinationPort, sourcePort, icmp }: Packet): string {
  const parts = [protocolName(protocol)];
  if (destinationPort !== null) parts.push(`port ${destinationPort}`);
  if (sourcePort !== null) parts.push(`source port ${sourcePort}`);
  if (icmp) parts.push(`type ${icmp.type} code ${icmp.code}`);
  return parts.join(' ');
}

/** Why the rule did not match. */
export function explainMismatch(rule: PolicyRule, mismatch: Mismatch, packet: Packet): string {
  switch (mismatch) {
    case 'ipVersion':
      return `the rule is for IPv${packet.family === 4 ? 6 : 4}, the packet is IPv${packet.family}`;
    case 'protocol':
      return `protocol is ${protocolName(packet.protocol)}, not ${protocolName(rule.protocol ?? 0)}`;
    case 'notProtocol':
      return `protocol is ${protocolName(packet.protocol)}, which notProtocol excludes`;
    case 'icmp':
      return `${describeIcmp(packet.icmp)} is not ${describeIcmp(rule.icmp)}`;
    case 'notICMP':
      return `${describeIcmp(packet.icmp)} is what notICMP excludes`;
    default: {
      const [side, condition] = mismatch.split('.') as ['source' | 'destination', keyof EntityMatch];
      const owners = packet[side];
      const port = side === 'source' ? packet.sourcePort : packet.destinationPort;
      const shown =
        condition === 'ports' || condition === 'notPorts' ? `port ${port ?? 'that was not told'}` : owners.address;
      const negative = condition.startsWith('not');
      const value = describeCondition(rule[side], condition);
      return `${side} ${shown} ${negative ? 'is in' : 'is not in'} ${condition} ${value}`;
    }
  }
}

/** What the rule asks for, all of which the packet has. */
export function explainMatch(rule: PolicyRule): string {
  const parts: string[] = [];
  if (rule.ipVersion !== null) parts.push(`IPv${rule.ipVersion}`);
  if (rule.protocol !== null) parts.push(`protocol ${protocolName(rule.protocol)}`);
  if (rule.notProtocol !== null) parts.push(`not protocol ${protocolName(rule.notProtocol)}`);
  if (rule.icmp) parts.push(describeIcmp(rule.icmp));
  if (rule.notIcmp) parts.push(`not ${describeIcmp(rule.notIcmp)}`);
  for (const side of ['source', 'destination'] as const) {
    const entity = rule[side];
    for (const condition of Object.keys(entity) as (keyof EntityMatch)[]) {
      const value = entity[condition];
      if (value === null || (Array.isArray(value) && value.length === 0)) continue;
      parts.push(`${side} ${condition} ${describeCondition(entity, condition)}`);
    }
  }
  const name = rule.name ? `"${rule.name}": ` : '';
  return name + (parts.length > 0 ? `matches ${parts.join(', ')}` : 'matches everything');
}

function describeIcmp(icmp: IcmpType | null): string {
  if (!icmp) return 'no ICMP';
  return `ICMP type ${icmp.type} code ${icmp.code ?? 'any'}`;
}

function describeCondition(entity: EntityMatch, condition: keyof EntityMatch): string {
  switch (condition) {
    case 'nets':
    case 'notNets':
      return `[${entity[condition].join(', ')}]`;
    case 'ports':
    case 'notPorts': {
      const shown = entity[condition].map((port) => {
        if (typeof port === 'string') return port;
        return port.min === port.max ? String(port.min) : `${port.min}:${port.max}`;
      });
      return `[${shown.join(', ')}]`;
    }
    case 'service':
      return `${entity.service?.namespace}/${entity.service?.name}`;
    default:
      return String(entity[condition]);
  }
}
