// Import and export policies of the configuration as the RIB runs them.
import { acceptAll, rejectAll, type RoutePolicy as CompiledPolicy } from '#bgp/filter/policy.ts';
import type { RoutePolicy } from './api.ts';
import { localOnly } from './identity.ts';

/** A compiler of policies; equal policies share one compiled form, so that their peers share an update group. */
export function compilePolicies(): (policy: RoutePolicy) => CompiledPolicy {
  const byDefault = { all: acceptAll, none: rejectAll, local: localOnly } as const;
  return (policy) => (typeof policy === 'string' ? byDefault[policy] : byDefault[policy.otherwise ?? 'all']);
}
