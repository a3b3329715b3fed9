// A workload endpoint to its chains `from/IF` (egress) and `to/IF` (ingress) and, for tiers in which a policy says Pass, a chain a tier.
//
// A tier without Pass stands in the endpoint's chain itself: a jump for each policy, then the tier's default. With Pass it has a
// chain of its own, so that Pass can leave the tier by `return`. Whatever cannot be reached is not written.
import type { DesiredEndpoint, EndpointTier } from '#model/desired.ts';
import type { Statement } from '#nft/objects.ts';
import { type LabelledRule, labelledRule, type RenderedChain, renderedChain, steeringRule } from './chain.ts';
import { type Direction, endpointChainName, policyChainName, tierChainName } from './names.ts';
import { type MarkBits, markBits, type RenderOptions } from './options.ts';
import type { PolicyShape } from './policy.ts';

/** Null for a policy that is not known. */
export type PolicyShapes = (id: string) => PolicyShape | null;

/** The first chain is the one to dispatch to; the others are reached from it. */
export function renderEndpoint(
  endpoint: DesiredEndpoint,
  direction: Direction,
  shapes: PolicyShapes,
  options: RenderOptions,
): RenderedChain[] {
  const writer = new EndpointWriter(endpoint, direction, shapes, markBits(options.markMask));
  return writer.render();
}

/** The chain of an endpoint that cannot be rendered: everything is dropped. */
export function renderClosedEndpoint(endpoint: DesiredEndpoint, direction: Direction, reason: string): RenderedChain {
  const rule = labelledRule({ type: 'fail-closed', of: endpoint.id, direction, reason }, [counter, drop]);
  return renderedChain(endpointChainName(endpoint.interfaceName, direction), [rule]);
}

/** Ids of all policies and profiles that the chains of an endpoint name. */
export function* policiesOf(endpoint: DesiredEndpoint): Generator<string> {
  for (const tier of endpoint.tiers) {
    yield* tier.ingress;
    yield* tier.egress;
  }
  yield* endpoint.profiles;
}

const counter: Statement = { type: 'counter' };
const drop: Statement = { type: 'drop' };

class EndpointWriter {
  readonly #endpoint: DesiredEndpoint;
  readonly #direction: Direction;
  readonly #shapes: PolicyShapes;
  readonly #pass: number;
  readonly #chains: RenderedChain[] = [];

  constructor(endpoint: DesiredEndpoint, direction: Direction, shapes: PolicyShapes, marks: MarkBits) {
    this.#endpoint = endpoint;
    this.#direction = direction;
    this.#shapes = shapes;
    this.#pass = marks.pass;
  }

  render(): RenderedChain[] {
    const main: LabelledRule[] = [];
    const open = this.#tiers(main) && this.#profiles(main);
    if (open) {
      main.push(
        labelledRule({ type: 'no-profile', endpoint: this.#endpoint.id, direction: this.#direction }, [counter, drop]),
      );
    }
    const name = endpointChainName(this.#endpoint.interfaceName, this.#direction);
    return [renderedChain(name, main), ...this.#chains];
  }

  /** False when nothing behind the tiers can be reached. */
  #tiers(main: LabelledRule[]): boolean {
    for (const tier of this.#endpoint.tiers) {
      const policies = tier[this.#direction];
      if (policies.length === 0) continue;
      if (!policies.some((id) => this.#shapes(id)?.[this.#direction].passes)) {
        if (!this.#tier(tier, main, false)) return false;
        continue;
      }
      const rules: LabelledRule[] = [this.#clearPass()];
      this.#tier(tier, rules, true);
      const name = tierChainName(this.#endpoint.interfaceName, this.#direction, tier.name);
      this.#chains.push(renderedChain(name, rules));
      main.push(steeringRule(`tier ${tier.name}`, [{ type: 'jump', chain: name }]));
    }
    return true;
  }

  /** Writes the policies and the default of a tier. False when its end is never passed. */
  #tier(tier: EndpointTier, rules: LabelledRule[], checksPass: boolean): boolean {
    let allStaged = true;
    for (const id of tier[this.#direction]) {
      const shape = this.#shapes(id);
      if (!shape) {
        rules.push(this.#missing(id));
        return false;
      }
      allStaged &&= shape.staged;
      this.#jump(id, shape, rules);
      if (checksPass && shape[this.#direction].passes) {
        rules.push(
          steeringRule('pass', [
            { type: 'mark', mask: this.#pass, value: this.#pass },
            { type: 'set-mark', mask: this.#pass, value: 0 },
            { type: 'return' },
          ]),
        );
      }
    }
    if (allStaged || tier.defaultAction === 'pass') return true;
    const label = {
      type: 'tier-default',
      endpoint: this.#endpoint.id,
      direction: this.#direction,
      tier: tier.name,
    } as const;
    rules.push(labelledRule(label, [counter, drop]));
    return false;
  }

  #profiles(main: LabelledRule[]): boolean {
    for (const id of this.#endpoint.profiles) {
      const shape = this.#shapes(id);
      if (!shape) {
        main.push(this.#missing(id));
        return false;
      }
      this.#jump(id, shape, main);
      // No tier looks at a profile's Pass: it is as if nothing had matched.
      if (shape[this.#direction].passes) main.push(this.#clearPass());
    }
    return true;
  }

  #jump(id: string, shape: PolicyShape, rules: LabelledRule[]): void {
    if (shape[this.#direction].empty) return;
    rules.push(steeringRule(id, [{ type: 'jump', chain: policyChainName(id, this.#direction) }]));
  }

  #clearPass(): LabelledRule {
    return steeringRule('no pass yet', [{ type: 'set-mark', mask: this.#pass, value: 0 }]);
  }

  #missing(id: string): LabelledRule {
    const label = {
      type: 'fail-closed',
      of: this.#endpoint.id,
      direction: this.#direction,
      reason: `${id} missing`,
    } as const;
    return labelledRule(label, [counter, drop]);
  }
}
