// Reads a policy out of the store as if it were untrusted: an older or newer version may have put it there.
// In: a resource. Out: the policy, or one that denies everything for the endpoints it selects, with the reason.
import { errorText } from '#base/errors.ts';
import { parseResource } from '#model/registry.ts';
import { kindKey, type Resource } from '#model/resource.ts';
import { convertPolicy, POLICY_KINDS } from '#policy/convert/policies.ts';
import { plainRule, type Policy } from '#policy/policy.ts';

export interface CheckedPolicy {
  /** null: not even the selector can be read, so nobody knows whom the policy is for. */
  readonly policy: Policy | null;
  /** What is wrong; null when all is well. */
  readonly problem: string | null;
}

/** null when the resource is no policy. */
export function checkedPolicy(resource: Resource): CheckedPolicy | null {
  if (!POLICY_KINDS.has(kindKey(resource.apiVersion, resource.kind))) return null;
  try {
    return { policy: convertPolicy(parseResource(resource)), problem: null };
  } catch (error) {
    const problem = `${errorText(error)}; everything is denied to the endpoints it selects`;
    try {
      return { policy: closed(resource), problem };
    } catch {
      return { policy: null, problem: `${errorText(error)}; whom it selects cannot be told, so it is not in force` };
    }
  }
}

/** Fields that say whom a policy is for and where it stands, of all kinds together. */
const SELECTING = [
  'tier',
  'order',
  'priority',
  'selector',
  'namespaceSelector',
  'serviceAccountSelector',
  'podSelector',
  'subject',
] as const;

function closed(resource: Resource): Policy {
  const written = resource.spec as Readonly<Record<string, unknown>>;
  const spec: Record<string, unknown> = { tier: 'default' };
  for (const field of SELECTING) if (written[field] !== undefined) spec[field] = written[field];
  const types = written['types'] ?? written['policyTypes'];
  const governs = (type: string): boolean => !Array.isArray(types) || types.length === 0 || types.includes(type);
  const policy = convertPolicy({ ...resource, spec })!;
  const deny = [plainRule('deny', 0)];
  return { ...policy, ingress: governs('Ingress') ? deny : null, egress: governs('Egress') ? deny : null };
}
