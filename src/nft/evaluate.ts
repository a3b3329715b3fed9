// Walks a packet through a table as the kernel would, from the same objects that go to the kernel. Pure.
// In: the table (TableView), a packet. Out: the verdict, the mark, and every rule that matched.
// Semantics: nft(8) "VERDICT STATEMENT"; a payload that the packet does not have breaks off the rule, also under `!=`.
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import type { BaseChain, CtState, Family, Hook, Match, Rule, SetSpec, Side, Verdict } from './objects.ts';

export interface Packet {
  readonly family: Family;
  readonly source: string;
  readonly destination: string;
  /** IP protocol number. */
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmpType?: number;
  readonly icmpCode?: number;
  readonly inInterface?: string;
  readonly outInterface?: string;
  /** `new` when absent. */
  readonly ctState?: CtState;
  readonly mark?: number;
  /** The route back to the source leaves by another interface, or there is none. */
  readonly reversePathMissing?: boolean;
}

export interface ViewChain {
  readonly base: BaseChain | null;
  readonly rules: readonly Rule[];
}

export interface TableView {
  chain(name: string): ViewChain | null;
  chains(): Iterable<[name: string, chain: ViewChain]>;
  spec(set: string): SetSpec | null;
  /** Elements of a set. */
  elements(set: string): ReadonlySet<string>;
  /** Elements of a verdict map. */
  verdicts(map: string): ReadonlyMap<string, Verdict>;
}

export interface MatchedRule {
  readonly chain: string;
  /** Place in the chain, from 0. */
  readonly position: number;
  readonly rule: Rule;
}

export interface Evaluation {
  readonly verdict: 'accept' | 'drop';
  readonly mark: number;
  readonly tracked: boolean;
  readonly matched: readonly MatchedRule[];
  /** What becomes of the source: null nothing, else the address, or `masquerade` for that of the outgoing interface. */
  readonly sourceNat: string | null;
}

/** Hooks that a packet passes on its way. */
export const FORWARD_PATH: readonly Hook[] = ['prerouting', 'forward', 'postrouting'];
export const INPUT_PATH: readonly Hook[] = ['prerouting', 'input'];
export const OUTPUT_PATH: readonly Hook[] = ['output', 'postrouting'];

export function evaluate(table: TableView, path: readonly Hook[], packet: Packet): Evaluation {
  const walk = new Walk(table, packet);
  for (const hook of path) {
    const chains = [...table.chains()].filter(([, c]) => c.base?.hook === hook);
    chains.sort(([, a], [, b]) => a.base!.priority - b.base!.priority);
    for (const [name, chain] of chains) {
      // NAT is decided once a connection, by its first packet.
      if (chain.base?.type === 'nat' && !walk.isNew) continue;
      if (walk.base(name) === 'drop') return walk.result('drop');
    }
  }
  return walk.result('accept');
}

type Outcome = 'accept' | 'drop' | 'continue';

class Walk {
  readonly #table: TableView;
  readonly #packet: Packet;
  readonly #source: IpAddress;
  readonly #destination: IpAddress;
  readonly #matched: MatchedRule[] = [];
  #mark: number;
  #tracked = true;
  #sourceNat: string | null = null;

  constructor(table: TableView, packet: Packet) {
    this.#table = table;
    this.#packet = packet;
    this.#source = IpAddress.parse(packet.source);
    this.#destination = IpAddress.parse(packet.destination);
    this.#mark = packet.mark ?? 0;
  }

  result(verdict: 'accept' | 'drop'): Evaluation {
    return { verdict, mark: this.#mark, tracked: this.#tracked, matched: this.#matched, sourceNat: this.#sourceNat };
  }

  get isNew(): boolean {
    return this.#state() === 'new';
  }

  base(name: string): 'accept' | 'drop' {
    return this.#chain(name) === 'drop' ? 'drop' : 'accept';
  }

  /** `continue`: the end of the chain was reached, or it returned; a `goto` ends its chain with the outcome of its target. */
  #chain(name: string): Outcome {
    const chain = this.#table.chain(name);
    if (!chain) throw new Error(`chain ${name} does not exist`);
    for (const [position, rule] of chain.rules.entries()) {
      const verdict = this.#rule(rule, name, position);
      if (!verdict) continue;
      if (!('chain' in verdict)) return verdict.type === 'return' ? 'continue' : verdict.type;
      const outcome = this.#chain(verdict.chain);
      if (outcome !== 'continue' || verdict.type === 'goto') return outcome;
    }
    return 'continue';
  }

  /** The verdict of a rule; null when it does not match or has none. */
  #rule(rule: Rule, chain: string, position: number): Verdict | null {
    for (const s of rule.statements) {
      switch (s.type) {
        case 'counter':
          this.#matched.push({ chain, position, rule });
          break;
        case 'limit':
        case 'log':
          break;
        case 'set-mark':
          this.#mark = ((this.#mark & ~s.mask) | s.value) >>> 0;
          break;
        case 'notrack':
          this.#tracked = false;
          break;
        case 'masquerade':
        case 'source-nat':
          this.#sourceNat = s.type === 'masquerade' ? s.type : s.address;
          return { type: 'accept' };
        case 'ct-state-verdicts': {
          const hit = s.verdicts.find(([state]) => state === this.#state());
          if (hit) return { type: hit[1] };
          break;
        }
        case 'interface-verdicts': {
          const hit = this.#table.verdicts(s.map).get(this.#interface(s.direction));
          if (hit) return hit;
          break;
        }
        case 'accept':
        case 'drop':
        case 'return':
        case 'jump':
        case 'goto':
          return s;
        default:
          if (!this.#matches(s)) return null;
      }
    }
    return null;
  }

  #matches(m: Match): boolean {
    const p = this.#packet;
    switch (m.type) {
      case 'family':
        return p.family === m.family;
      case 'interface': {
        const name = this.#interface(m.direction);
        const hit = m.name.endsWith('*') ? name.startsWith(m.name.slice(0, -1)) : name === m.name;
        return hit !== (m.not ?? false);
      }
      case 'protocol':
        return m.protocols.includes(p.protocol) !== (m.not ?? false);
      case 'address': {
        if (p.family !== m.family) return false;
        const address = this.#address(m.side);
        return m.prefixes.some((text) => Prefix.parseOrHost(text).contains(address)) !== (m.not ?? false);
      }
      case 'set':
        return p.family === m.family && this.#inSet(m.set, this.#address(m.side)) !== (m.not ?? false);
      case 'service-set': {
        const port = this.#port(m.side);
        if (p.family !== m.family) return false;
        // Other protocols have some octets where ports would be, but no element with their number.
        if (port === undefined) return m.not ?? false;
        const element = `${this.#address(m.side)} . ${p.protocol} . ${port}`;
        return this.#table.elements(m.set).has(element) !== (m.not ?? false);
      }
      case 'port': {
        const port = this.#port(m.side);
        if (port === undefined) return false;
        return m.ranges.some((r) => r.min <= port && port <= r.max) !== (m.not ?? false);
      }
      case 'icmp': {
        if (!this.#isIcmp(m.family)) return false;
        const hit = p.icmpType === m.icmpType && (m.icmpCode === undefined || (p.icmpCode ?? 0) === m.icmpCode);
        return hit !== (m.not ?? false);
      }
      case 'icmp-types':
        return this.#isIcmp(m.family) && m.icmpTypes.includes(p.icmpType!);
      case 'ct-state':
        return m.states.includes(this.#state());
      case 'mark':
        return (this.#mark & m.mask) >>> 0 === m.value;
      case 'reverse-path-missing':
        return p.reversePathMissing ?? false;
    }
  }

  #isIcmp(family: Family): boolean {
    return this.#packet.protocol === (family === 4 ? 1 : 58) && this.#packet.icmpType !== undefined;
  }

  #inSet(name: string, address: IpAddress): boolean {
    const elements = this.#table.elements(name);
    if (!this.#table.spec(name)?.interval) return elements.has(address.toString());
    for (const element of elements) if (Prefix.parseOrHost(element).contains(address)) return true;
    return false;
  }

  #state(): CtState {
    return this.#tracked ? (this.#packet.ctState ?? 'new') : 'untracked';
  }

  #interface(direction: 'in' | 'out'): string {
    return (direction === 'in' ? this.#packet.inInterface : this.#packet.outInterface) ?? '';
  }

  #address(side: Side): IpAddress {
    return side === 'source' ? this.#source : this.#destination;
  }

  #port(side: Side): number | undefined {
    return side === 'source' ? this.#packet.sourcePort : this.#packet.destinationPort;
  }
}
