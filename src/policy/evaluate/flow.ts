// A flow as a person asks about it. In: unknown JSON. Out: Flow, or every problem with its field.
// Rules: an ICMP flow without a type is an echo request; only TCP, UDP, UDPLite and SCTP have ports.
import { type Problem, Problems } from '#model/problems.ts';
import { nearest } from '#model/nearest.ts';
import { parseProtocol } from '#model/port.ts';
import { IpAddress } from '#net/address.ts';

export type FlowEnd =
  /** `namespace/name`. */
  | { readonly pod: string }
  /** `name` or `namespace/name` of a WorkloadEndpoint or HostEndpoint. */
  | { readonly endpoint: string }
  | { readonly ip: IpAddress };

export interface Flow {
  /** Whatever the asker calls it; null when it has no name. */
  readonly id: string | number | null;
  readonly from: FlowEnd;
  readonly to: FlowEnd;
  /** IANA number. */
  readonly protocol: number;
  /** null: not told. */
  readonly port: number | null;
  readonly sourcePort: number | null;
  /** null unless the protocol is ICMP or ICMPv6. */
  readonly icmp: { readonly type: number; readonly code: number } | null;
}

const FIELDS = ['id', 'from', 'to', 'protocol', 'port', 'sourcePort', 'icmpType', 'icmpCode'];
const ENDS = ['pod', 'endpoint', 'ip'];
const ECHO_REQUEST: Record<number, number> = { 1: 8, 58: 128 };
const WITH_PORTS = new Set([6, 17, 132, 136]);

/** Reads a list of flows, or an object with a list under `flows`. */
export function parseFlows(value: unknown): { flows: Flow[]; problems: readonly Problem[] } {
  const problems = new Problems();
  const list = isObject(value) && 'flows' in value ? value['flows'] : value;
  if (!Array.isArray(list)) {
    problems.add('', 'flows must be a list', 'write [{"from": {"pod": "ns/a"}, "to": {"pod": "ns/b"}, ...}]');
    return { flows: [], problems: problems.list };
  }
  const flows = list.map((item, i) => parseFlow(item, `flows[${i}]`, problems));
  return { flows: flows.filter((flow) => flow !== null), problems: problems.list };
}

/** Reads one flow; null when it has problems, which go to `problems` with paths below `path`. */
export function parseFlow(value: unknown, path: string, problems: Problems): Flow | null {
  if (!isObject(value)) {
    problems.add(path, 'must be a set of fields: from, to, protocol, port');
    return null;
  }
  const before = problems.list.length;
  for (const key of Object.keys(value)) {
    if (FIELDS.includes(key)) continue;
    const near = nearest(key, FIELDS);
    problems.add(
      `${path}.${key}`,
      'is an unknown field',
      near ? `did you mean ${near}?` : `known: ${FIELDS.join(', ')}`,
    );
  }
  const { id } = value;
  if (id !== undefined && id !== null && typeof id !== 'string' && typeof id !== 'number') {
    problems.add(`${path}.id`, 'must be a text or a number');
  }
  const from = parseEnd(value['from'], `${path}.from`, problems);
  const to = parseEnd(value['to'], `${path}.to`, problems);
  const protocol = readProtocol(value['protocol'], `${path}.protocol`, problems);
  const number = (field: string, min: number, max: number): number | null => {
    const found = value[field];
    if (found === undefined || found === null) return null;
    if (typeof found === 'number' && Number.isInteger(found) && found >= min && found <= max) return found;
    problems.add(`${path}.${field}`, `must be a whole number from ${min} to ${max}`);
    return null;
  };
  // A port beside a protocol without ports says nothing, and lists of flows often name one throughout.
  const withPorts = WITH_PORTS.has(protocol);
  const port = withPorts ? number('port', 1, 65_535) : null;
  const sourcePort = withPorts ? number('sourcePort', 1, 65_535) : null;
  const type = number('icmpType', 0, 255);
  const code = number('icmpCode', 0, 255);
  const echo = ECHO_REQUEST[protocol];
  if (echo === undefined && (type !== null || code !== null)) {
    problems.add(`${path}.${type === null ? 'icmpCode' : 'icmpType'}`, 'belongs to protocol ICMP or ICMPv6');
  }
  if (type === null && code !== null) problems.add(`${path}.icmpCode`, 'needs icmpType beside it');
  if (problems.list.length > before || !from || !to) return null;
  const icmp = echo === undefined ? null : { type: type ?? echo, code: code ?? 0 };
  return { id: (id as string | number | null | undefined) ?? null, from, to, protocol, port, sourcePort, icmp };
}

/** 0 when it is wrong. */
function readProtocol(value: unknown, path: string, problems: Problems): number {
  const number = typeof value === 'string' || typeof value === 'number' ? parseProtocol(value) : null;
  if (number === null) {
    const reason = value === undefined ? 'is required' : `${JSON.stringify(value)} is not a protocol`;
    problems.add(path, reason, 'write TCP, UDP, SCTP, ICMP, ICMPv6 or a number from 1 to 255');
  }
  return number ?? 0;
}

function parseEnd(value: unknown, path: string, problems: Problems): FlowEnd | null {
  const keys = isObject(value) ? Object.keys(value) : [];
  const [key] = keys;
  if (!isObject(value) || key === undefined || keys.length !== 1 || !ENDS.includes(key)) {
    problems.add(path, value === undefined ? 'is required' : 'must have exactly one of pod, endpoint and ip');
    return null;
  }
  const text = value[key];
  if (typeof text !== 'string' || text === '') problems.add(`${path}.${key}`, 'must be a text');
  else if (key === 'endpoint') return { endpoint: text };
  else if (key === 'pod') {
    if (/^[^/]+\/[^/]+$/.test(text)) return { pod: text };
    problems.add(`${path}.pod`, `"${text}" is not the name of a pod`, 'write namespace/name');
  } else {
    const ip = IpAddress.tryParse(text);
    if (ip) return { ip };
    problems.add(`${path}.ip`, `"${text}" is not an IP address`);
  }
  return null;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
