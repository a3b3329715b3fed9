// Connections that the kernel tracks (ctnetlink): listing those of given addresses, and forgetting them, so that a new
// deny also cuts what is already established. In: addresses or a predicate. Out: flows; how many were deleted.
// Spec: linux/netfilter/nfnetlink_conntrack.h.
//
// Traps:
// - Numbers in here are in network order, unlike in rtnetlink.
// - A flow is deleted by the very tuple and id the kernel gave, so never a younger flow of the same addresses and ports.
// - Tables may have a million entries: they are read in slices of the event loop's time.
import { type Family, IpAddress } from '#net/address.ts';
import { AF_INET, AF_INET6, AF_UNSPEC } from '#sys/constants.ts';
import { NetlinkConnection } from './connection.ts';
import * as c from './constants.ts';
import { KernelError } from './errors.ts';
import { readAddress } from './route/ip.ts';
import { Attributes, fixedHeader, MessageBuilder, type NetlinkMessage } from './wire.ts';

const NFGENMSG = 4;
const ENOENT = 2;
const TYPE = c.NFNL_SUBSYS_CTNETLINK << 8;

/** One direction of a flow. */
export interface FlowTuple {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** IP protocol number. */
  readonly protocol: number;
  /** null for protocols without ports. */
  readonly sourcePort: number | null;
  readonly destinationPort: number | null;
}

export interface Flow {
  readonly family: Family;
  /** As the first packet went; before any translation. */
  readonly original: FlowTuple;
  /** What answers look like; differs from the mirrored original where addresses are translated. */
  readonly reply: FlowTuple;
  readonly mark: number;
  readonly id: number;
  /** What the kernel wants back to find the flow again. */
  readonly key: FlowKey;
}

export interface FlowKey {
  readonly tuple: Uint8Array;
  readonly zone: Uint8Array | null;
}

export interface ConntrackApi {
  /** Flows that `wanted` takes, of one family or of both. */
  list(wanted: (flow: Flow) => boolean, family?: Family): Promise<Flow[]>;
  /** Forgets flows; those that are gone already do not count. Returns how many there were. */
  delete(flows: readonly Flow[]): Promise<number>;
  close(): void;
}

/** A predicate for `list`: flows with one of these addresses at either end, before or after translation. */
export function involves(addresses: Iterable<IpAddress>): (flow: Flow) => boolean {
  const texts = new Set([...addresses].map((address) => address.toString()));
  const has = (address: IpAddress): boolean => texts.has(address.toString());
  return ({ original, reply }) =>
    has(original.source) || has(original.destination) || has(reply.source) || has(reply.destination);
}

export class KernelConntrack implements ConntrackApi {
  readonly #netns: string | number | undefined;
  readonly #connection: NetlinkConnection;

  /** In the namespace of a path or open descriptor (which stays open as long as this), or in the thread's own. */
  constructor(netns?: string | number) {
    this.#netns = netns;
    this.#connection = this.#connect();
  }

  async list(wanted: (flow: Flow) => boolean, family?: Family): Promise<Flow[]> {
    const found: Flow[] = [];
    const out = new MessageBuilder();
    const domain = family === undefined ? AF_UNSPEC : family === 4 ? AF_INET : AF_INET6;
    nfgenmsg(out.begin(TYPE | c.IPCTNL_MSG_CT_GET, 0), domain).end();
    const connection = this.#connect();
    const onMessage = (message: NetlinkMessage): void => {
      const flow = decodeFlow(message);
      if (flow && wanted(flow)) found.push(flow);
    };
    try {
      await connection.dumpAsync(out, 'list tracked connections', onMessage, () => found.splice(0));
    } finally {
      connection.close();
    }
    return found;
  }

  async delete(flows: readonly Flow[]): Promise<number> {
    if (flows.length === 0) return 0;
    const out = new MessageBuilder();
    for (const flow of flows) encodeFlowDelete(out, flow);
    let deleted = 0;
    for (const { errno, text } of await this.#connection.transactAsync(out)) {
      if (errno === 0) deleted++;
      else if (errno !== ENOENT) throw new KernelError('delete a tracked connection', errno, text);
    }
    return deleted;
  }

  close(): void {
    this.#connection.close();
  }

  #connect(): NetlinkConnection {
    return new NetlinkConnection({ family: c.NETLINK_NETFILTER, netns: this.#netns });
  }
}

function nfgenmsg(out: MessageBuilder, domain: number): MessageBuilder {
  return out.u8(domain).u8(0).u16(0);
}

export function encodeFlowDelete(out: MessageBuilder, flow: Flow): void {
  nfgenmsg(out.begin(TYPE | c.IPCTNL_MSG_CT_DELETE, 0), flow.family === 4 ? AF_INET : AF_INET6);
  out.nest(c.CTA_TUPLE_ORIG, () => out.raw(flow.key.tuple));
  const id = new Uint8Array(4);
  new DataView(id.buffer).setUint32(0, flow.id);
  out.attribute(c.CTA_ID, id);
  if (flow.key.zone) out.attribute(c.CTA_ZONE, flow.key.zone);
  out.end();
}

/** null for messages of another kind and for families other than IPv4 and IPv6. Throws `protocol`. */
export function decodeFlow(message: NetlinkMessage): Flow | null {
  if (message.type !== (TYPE | c.IPCTNL_MSG_CT_NEW)) return null;
  const domain = fixedHeader(message.payload, NFGENMSG, 'a conntrack message').getUint8(0);
  if (domain !== AF_INET && domain !== AF_INET6) return null;
  const family: Family = domain === AF_INET ? 4 : 6;
  const attributes = new Attributes(message.payload, NFGENMSG);
  const original = decodeTuple(attributes.nested(c.CTA_TUPLE_ORIG), family);
  const reply = decodeTuple(attributes.nested(c.CTA_TUPLE_REPLY), family);
  const tuple = attributes.bytes(c.CTA_TUPLE_ORIG);
  if (!original || !reply || !tuple) return null;
  return {
    family,
    original,
    reply,
    mark: attributes.u32be(c.CTA_MARK) ?? 0,
    id: attributes.u32be(c.CTA_ID) ?? 0,
    // The receive buffer is used again.
    key: { tuple: tuple.slice(), zone: attributes.bytes(c.CTA_ZONE)?.slice() ?? null },
  };
}

function decodeTuple(attributes: Attributes | undefined, family: Family): FlowTuple | null {
  const ip = attributes?.nested(c.CTA_TUPLE_IP);
  const protocol = attributes?.nested(c.CTA_TUPLE_PROTO);
  const source = ip?.bytes(family === 4 ? c.CTA_IP_V4_SRC : c.CTA_IP_V6_SRC);
  const destination = ip?.bytes(family === 4 ? c.CTA_IP_V4_DST : c.CTA_IP_V6_DST);
  if (!source || !destination || !protocol) return null;
  return {
    source: readAddress(source, family),
    destination: readAddress(destination, family),
    protocol: protocol.u8(c.CTA_PROTO_NUM) ?? 0,
    sourcePort: protocol.u16be(c.CTA_PROTO_SRC_PORT) ?? null,
    destinationPort: protocol.u16be(c.CTA_PROTO_DST_PORT) ?? null,
  };
}

/** Tracked connections in memory, for tests of whoever deletes them. */
export class FakeConntrack implements ConntrackApi {
  flows: Flow[] = [];
  #nextId = 1;

  /** Adds a flow, without translation. */
  add(protocol: number, source: string, sourcePort: number, destination: string, destinationPort: number): Flow {
    const [from, to] = [IpAddress.parse(source), IpAddress.parse(destination)];
    const flow: Flow = {
      family: from.family,
      original: { source: from, destination: to, protocol, sourcePort, destinationPort },
      reply: { source: to, destination: from, protocol, sourcePort: destinationPort, destinationPort: sourcePort },
      mark: 0,
      id: this.#nextId++,
      key: { tuple: new Uint8Array(0), zone: null },
    };
    this.flows.push(flow);
    return flow;
  }

  list(wanted: (flow: Flow) => boolean, family?: Family): Promise<Flow[]> {
    return Promise.resolve(this.flows.filter((f) => (family === undefined || f.family === family) && wanted(f)));
  }

  delete(flows: readonly Flow[]): Promise<number> {
    const ids = new Set(flows.map((flow) => flow.id));
    const before = this.flows.length;
    this.flows = this.flows.filter((flow) => !ids.has(flow.id));
    return Promise.resolve(before - this.flows.length);
  }

  close(): void {}
}
