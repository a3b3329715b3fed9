// One desired set as kernel sets: for each family a hash of addresses, or, as soon as one member is a network, an interval set of the
// cover. A change of kind is another kernel set under another name; whoever uses the set is then rendered anew.
// In: members as text. Out: the wanted elements, changed in place. Members that do not parse throw `invalid-argument`.
import { BrindleError } from '#base/errors.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type { Family, KeyType, SetSpec } from '#nft/objects.ts';
import { Cover, elementText } from './cover.ts';
import { type SetKind, setName } from './names.ts';

export type SetType = 'net' | 'named-port';

const FAMILIES: readonly Family[] = [4, 6];
const PROTOCOLS: Record<string, number> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132, udplite: 136 };

/** Receives the wanted elements of kernel sets. */
export interface ElementSink {
  add(set: string, element: string): void;
  remove(set: string, element: string): void;
  /** `comment` says which set of the calculation it is. */
  declare(spec: SetSpec): void;
  drop(set: string): void;
}

interface Member {
  readonly family: Family;
  /** Null for named ports. */
  readonly prefix: Prefix | null;
  readonly element: string;
}

class FamilyState {
  readonly family: Family;
  kind: SetKind;
  /** Element text -> how many members read so, and what it is. */
  readonly members = new Map<string, { count: number; prefix: Prefix | null }>();
  nets = 0;
  cover: Cover | null = null;

  constructor(family: Family, kind: SetKind) {
    this.family = family;
    this.kind = kind;
  }
}

export class SetState {
  readonly id: string;
  readonly type: SetType;
  readonly #sink: ElementSink;
  readonly #families: Record<Family, FamilyState>;
  #members = new Set<string>();

  constructor(id: string, type: SetType, sink: ElementSink) {
    this.id = id;
    this.type = type;
    this.#sink = sink;
    const kind = type === 'net' ? 'hosts' : 'ports';
    this.#families = { 4: new FamilyState(4, kind), 6: new FamilyState(6, kind) };
    for (const family of FAMILIES) this.#sink.declare(this.#spec(this.#families[family]));
  }

  kind(family: Family): SetKind {
    return this.#families[family].kind;
  }

  get size(): number {
    return this.#members.size;
  }

  /** Makes the members exactly these. True when the kind of a family changed. Throws with nothing changed. */
  replace(members: ReadonlySet<string>): boolean {
    const added: string[] = [];
    for (const member of members) if (!this.#members.has(member)) added.push(member);
    const removed: string[] = [];
    for (const member of this.#members) if (!members.has(member)) removed.push(member);
    return this.change(added, removed);
  }

  /** Adding what is there and removing what is not are nothing. True when the kind of a family changed. */
  change(added: readonly string[], removed: readonly string[]): boolean {
    const parsed = added
      .filter((m) => !this.#members.has(m))
      .map((text) => ({ text, ...parseMember(this.type, text) }));
    const kindsBefore = FAMILIES.map((f) => this.kind(f)).join();
    for (const text of removed) if (this.#members.delete(text)) this.#remove(parseMember(this.type, text));
    for (const member of parsed) {
      if (this.#members.has(member.text)) continue;
      this.#members.add(member.text);
      this.#add(member);
    }
    for (const family of FAMILIES) this.#settle(this.#families[family]);
    return kindsBefore !== FAMILIES.map((f) => this.kind(f)).join();
  }

  /** Withdraws the kernel sets. */
  dispose(): void {
    for (const family of FAMILIES) this.#sink.drop(this.#name(this.#families[family]));
  }

  #add(member: Member): void {
    const state = this.#families[member.family];
    const known = state.members.get(member.element);
    if (known) {
      known.count++;
      return;
    }
    state.members.set(member.element, { count: 1, prefix: member.prefix });
    if (member.prefix && !member.prefix.isHost()) state.nets++;
    if (state.kind !== 'nets') this.#sink.add(this.#name(state), member.element);
    else this.#apply(state, state.cover!.add(member.prefix!));
  }

  #remove(member: Member): void {
    const state = this.#families[member.family];
    const known = state.members.get(member.element);
    if (!known || --known.count > 0) return;
    state.members.delete(member.element);
    if (member.prefix && !member.prefix.isHost()) state.nets--;
    if (state.kind !== 'nets') this.#sink.remove(this.#name(state), member.element);
    else this.#apply(state, state.cover!.remove(member.prefix!));
  }

  #apply(state: FamilyState, change: { added: readonly Prefix[]; removed: readonly Prefix[] }): void {
    const name = this.#name(state);
    for (const prefix of change.removed) this.#sink.remove(name, elementText(prefix));
    for (const prefix of change.added) this.#sink.add(name, elementText(prefix));
  }

  /** Networks go into hash sets as if they fitted until here, where the kind is put right once for a whole change. */
  #settle(state: FamilyState): void {
    if (this.type !== 'net') return;
    const kind: SetKind = state.nets > 0 ? 'nets' : 'hosts';
    if (kind === state.kind) return;
    this.#sink.drop(this.#name(state));
    state.kind = kind;
    this.#sink.declare(this.#spec(state));
    state.cover = kind === 'nets' ? new Cover() : null;
    const name = this.#name(state);
    for (const [element, { prefix }] of state.members) {
      if (state.cover) this.#apply(state, state.cover.add(prefix!));
      else this.#sink.add(name, element);
    }
  }

  #name(state: FamilyState): string {
    return setName(this.id, state.family, state.kind);
  }

  #spec(state: FamilyState): SetSpec {
    const address: KeyType = state.family === 4 ? 'ipv4' : 'ipv6';
    return {
      name: this.#name(state),
      key: this.type === 'net' ? [address] : [address, 'protocol', 'port'],
      ...(state.kind === 'nets' ? { interval: true } : {}),
    };
  }
}

function parseMember(type: SetType, text: string): Member {
  if (type === 'net') {
    const prefix = Prefix.parseOrHost(text);
    return { family: prefix.family, prefix, element: elementText(prefix) };
  }
  const [addressText = '', protocolText = '', portText = '', ...rest] = text.split(',');
  const address = IpAddress.tryParse(addressText);
  const protocol = PROTOCOLS[protocolText.toLowerCase()] ?? Number(protocolText);
  const port = Number(portText);
  const isProtocol = protocolText !== '' && Number.isInteger(protocol) && protocol >= 0 && protocol <= 255;
  const isPort = portText !== '' && Number.isInteger(port) && port >= 0 && port <= 65_535;
  if (!address || !isProtocol || !isPort || rest.length > 0) {
    throw new BrindleError('invalid-argument', `"${text}" is not a member of a named-port set`, {
      remedy: 'write address,protocol,port, such as 10.0.0.1,tcp,80',
    });
  }
  return { family: address.family, prefix: null, element: `${address} . ${protocol} . ${port}` };
}
