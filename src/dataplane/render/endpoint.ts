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
  const { tiers, profiles } = endpoint;
  const chain = endpointChainName(endpoint.interfaceName, direction);
  return renderPlace({ endpoint: endpoint.id, direction, chain, tiers, profiles }, shapes, options);
}

/** One chain to dispatch to: some tiers, and what comes behind them. */
export interface Place {
  readonly endpoint: string;
  readonly direction: Direction;
  /** Name of the chain; chains of tiers are named below it. */
  readonly chain: string;
  readonly tiers: readonly EndpointTier[];
  /** Tried after the tiers, then all is dropped. Null: whatever the tiers pass is let go. */
  readonly profiles: readonly string[] | null;
}

/** As `renderEndpoint`, for any place. */
export function renderPlace(place: Place, shapes: PolicyShapes, options: RenderOptions): RenderedChain[] {
  return new PlaceWriter(place, shapes, markBits(options.markMask)).render();
}

/** The chain of an endpoint that cannot be rendered: everything is dropped. */
export function renderClosedEndpoint(endpoint: DesiredEndpoint, direction: Direction, reason: string): RenderedChain {
  const rule = labelledRule({ type: 'fail-closed', of: endpoint.id, direction, reason }, [counter, drop]);
  return renderedChain(endpointChainName(endpoint.interfaceName, direction), [rule]);
}

/** Ids of all policies and profiles that the chains of an endpoint name. */
export function* policiesOf(endpoint: DesiredEndpoint): Generator<string> {
  const { untracked = [], preDnat = [], forward = [] } = endpoint.host ?? {};
  for (const tier of [...endpoint.tiers, ...untracked, ...preDnat, ...forward]) {
    yield* tier.ingress;
    yield* tier.egress;
  }
  yield* endpoint.profiles;
}

const counter: Statement = { type: 'counter' };
const drop: Statement = { type: 'drop' };

class PlaceWriter {
  readonly #place: Place;
  readonly #direction: Direction;
  readonly #shapes: PolicyShapes;
  readonly #pass: number;
  readonly #chains: RenderedChain[] = [];

  constructor(place: Place, shapes: PolicyShapes, marks: MarkBits) {
    this.#place = place;
    this.#direction = place.direction;
    this.#shapes = shapes;
    this.#pass = marks.pass;
  }

  render(): RenderedChain[] {
    const main: LabelledRule[] = [];
    const open = this.#tiers(main) && this.#place.profiles && this.#profiles(main, this.#place.profiles);
    if (open) {
      const label = { type: 'no-profile', endpoint: this.#place.endpoint, direction: this.#direction } as const;
      main.push(labelledRule(label, [counter, drop]));
    }
    return [renderedChain(this.#place.chain, main), ...this.#chains];
  }

  /** False when nothing behind the tiers can be reached. */
  #tiers(main: LabelledRule[]): boolean {
    for (const tier of this.#place.tiers) {
      const policies = tier[this.#direction];
      if (policies.length === 0) continue;
      if (!policies.some((id) => this.#shapes(id)?.[this.#direction].passes)) {
        if (!this.#tier(tier, main, false)) return false;
        continue;
      }
      const rules: LabelledRule[] = [this.#clearPass()];
      this.#tier(tier, rules, true);
      const name = tierChainName(this.#place.chain, tier.name);
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
      endpoint: this.#place.endpoint,
      direction: this.#direction,
      tier: tier.name,
    } as const;
    rules.push(labelledRule(label, [counter, drop]));
    return false;
  }

  #profiles(main: LabelledRule[], profiles: readonly string[]): boolean {
    for (const id of profiles) {
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
      of: this.#place.endpoint,
      direction: this.#direction,
      reason: `${id} missing`,
    } as const;
    return labelledRule(label, [counter, drop]);
  }
}
