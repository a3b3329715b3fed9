// Kubernetes' LabelSelector: schema and the API server's checks. Spec: k8s.io/apimachinery meta/v1.
// Trap: an empty selector matches everything, an absent one means something else in every place that has one.
import { labelKeyFault, labelValueFault } from './formats.ts';
import type { Problems } from './problems.ts';
import { OneOf, type Static, TextMap, Type } from './schema.ts';

export const LabelSelector = Type.Object({
  matchLabels: Type.Optional(TextMap()),
  matchExpressions: Type.Optional(
    Type.Array(
      Type.Object({
        key: Type.String(),
        operator: OneOf(['In', 'NotIn', 'Exists', 'DoesNotExist']),
        values: Type.Optional(Type.Array(Type.String())),
      }),
    ),
  ),
});
export type LabelSelector = Static<typeof LabelSelector>;

export function checkLabelSelector(selector: LabelSelector | undefined, path: string, problems: Problems): void {
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {})) {
    const fault = labelKeyFault(key) ?? labelValueFault(value);
    if (fault) problems.add(`${path}.matchLabels`, fault.reason, fault.remedy);
  }
  for (const [i, { key, operator, values = [] }] of (selector?.matchExpressions ?? []).entries()) {
    const at = `${path}.matchExpressions[${i}]`;
    const fault = labelKeyFault(key);
    if (fault) problems.add(`${at}.key`, fault.reason, fault.remedy);
    const wantsValues = operator === 'In' || operator === 'NotIn';
    if (wantsValues && values.length === 0) problems.add(`${at}.values`, `must not be empty for ${operator}`);
    if (!wantsValues && values.length > 0) problems.add(`${at}.values`, `has no place beside ${operator}`, 'remove it');
    for (const value of values) {
      const bad = labelValueFault(value);
      if (bad) problems.add(`${at}.values`, bad.reason, bad.remedy);
    }
  }
}
