// What the three staged kinds share: the action that the policy stands for.
import type { Problems } from './problems.ts';
import { Default, OneOf } from './schema.ts';

/** Set: the policy as it would be. Delete: the enforced policy of the same name would go. Learn and Ignore are Calico's and do nothing here. */
export const StagedAction = Default(OneOf(['Set', 'Delete', 'Learn', 'Ignore']), 'Set');

/** A staged deletion says nothing else but its tier. */
export function checkStagedDelete(spec: { stagedAction: string }, problems: Problems): void {
  if (spec.stagedAction !== 'Delete') return;
  for (const [field, value] of Object.entries(spec)) {
    if (field === 'stagedAction' || field === 'tier' || value === undefined) continue;
    problems.add(`spec.${field}`, 'has no place in a staged deletion', 'remove it');
  }
}
