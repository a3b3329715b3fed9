// Import and export policies of the configuration as the RIB runs them.
// In: a policy and the filters it names. Out: the compiled form; the same object for the same policy and filters, so
// that peers share update groups and a change of another filter re-evaluates nothing.
import { BrindleError } from '#base/errors.ts';
import { compileFilters, type Direction, type FilterSpec } from '#bgp/filter/compile.ts';
import { acceptAll, rejectAll, type RoutePolicy as CompiledPolicy } from '#bgp/filter/policy.ts';
import type { DefaultPolicy, RoutePolicy } from './api.ts';
import { localOnly } from './identity.ts';

export type Filters = Readonly<Record<string, FilterSpec>>;

const DEFAULTS: Readonly<Record<DefaultPolicy, CompiledPolicy>> = { all: acceptAll, none: rejectAll, local: localOnly };

export class PolicyCompiler {
  #compiled = new Map<string, CompiledPolicy>();
  /** Those asked for since `begin`; the others are dropped by `end`. */
  #used = new Map<string, CompiledPolicy>();

  /** Throws `invalid-argument` with `field` for a filter that is not there or does not compile. */
  compile(policy: RoutePolicy, direction: Direction, filters: Filters, field: string): CompiledPolicy {
    if (typeof policy === 'string') return DEFAULTS[policy];
    const named = policy.filters.map((name) => {
      const spec = Object.hasOwn(filters, name) ? filters[name] : undefined;
      if (spec) return { name, spec };
      const known = Object.keys(filters);
      throw new BrindleError('invalid-argument', `${field}: there is no filter "${name}"`, {
        field,
        remedy: known.length > 0 ? `the filters are ${known.join(', ')}` : 'define it under filters',
      });
    });
    const otherwise = DEFAULTS[policy.otherwise ?? 'all'];
    const key = JSON.stringify([direction, named, otherwise.id]);
    const compiled = this.#compiled.get(key) ?? compileFilters(named, direction, otherwise);
    this.#compiled.set(key, compiled);
    this.#used.set(key, compiled);
    return compiled;
  }

  /** Forgets what has not been asked for since the last call. */
  sweep(): void {
    this.#compiled = this.#used;
    this.#used = new Map();
  }
}
