// The rules of one policy or profile in one direction, ready to be asked quickly: protocol, destination ports and selectors of every rule
// stand in typed arrays, which refuse most rules before their other conditions are looked at.
// In: rules and a packet. Out: the first rule that decides. The arrays only ever refuse what the matcher would refuse too.
import type { PolicyRule } from '../policy.ts';
import type { Selector } from '../selector/selector.ts';
import { type Packet, RuleMatcher, type Surroundings } from './matcher.ts';
import { NO } from './selector-table.ts';

const NONE = -1;
const MAX_PORT = 65_535;

export class RuleList {
  readonly matchers: readonly RuleMatcher[];
  /** IANA number, NONE: any. */
  readonly #protocols: Int16Array;
  /** Around all the numbers of the destination's ports; 0 to 65535 where they say nothing. */
  readonly #minPorts: Uint16Array;
  readonly #maxPorts: Uint16Array;
  /** Selector numbers, NONE: no selector. */
  readonly #sources: Int32Array;
  readonly #destinations: Int32Array;

  constructor(rules: readonly PolicyRule[], world: Surroundings) {
    this.matchers = rules.map((rule) => new RuleMatcher(rule, world));
    const number = (selector: Selector | null): number => (selector ? world.selectorNumber(selector) : NONE);
    this.#protocols = Int16Array.from(rules, ({ protocol }) => protocol ?? NONE);
    this.#sources = Int32Array.from(rules, ({ source }) => number(source.selector));
    this.#destinations = Int32Array.from(rules, ({ destination }) => number(destination.selector));
    const bounds = rules.map(({ destination }) => portBounds(destination.ports));
    this.#minPorts = Uint16Array.from(bounds, ({ min }) => min);
    this.#maxPorts = Uint16Array.from(bounds, ({ max }) => max);
  }

  /** The first rule that matches and is no Log rule; null when there is none. */
  decide(packet: Packet): PolicyRule | null {
    const { protocol, destinationPort, source, destination } = packet;
    const { matchers } = this;
    const protocols = this.#protocols;
    const minPorts = this.#minPorts;
    const maxPorts = this.#maxPorts;
    const sources = this.#sources;
    const destinations = this.#destinations;
    for (let i = 0; i < protocols.length; i++) {
      if (protocols[i] !== NONE && protocols[i] !== protocol) continue;
      if (destinationPort !== null && (destinationPort < minPorts[i]! || destinationPort > maxPorts[i]!)) continue;
      // Only numbers so far: the rule itself is not touched until nothing here refuses it.
      const from = sources[i]!;
      if (from !== NONE && source.answers[from] === NO) continue;
      const to = destinations[i]!;
      if (to !== NONE && destination.answers[to] === NO) continue;
      const { rule } = matchers[i]!;
      if (rule.action !== 'log' && matchers[i]!.mismatch(packet) === null) return rule;
    }
    return null;
  }
}

/** The smallest range with all the ports in it; everything where there are none, or a name that could be any. */
function portBounds(ports: PolicyRule['destination']['ports']): { min: number; max: number } {
  let [min, max] = [MAX_PORT, 0];
  for (const port of ports) {
    if (typeof port === 'string') return { min: 0, max: MAX_PORT };
    min = Math.min(min, port.min);
    max = Math.max(max, port.max);
  }
  return ports.length > 0 ? { min, max } : { min: 0, max: MAX_PORT };
}
