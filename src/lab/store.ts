// Puts the lab's resources into the store its hosts share.
import { BrindleError } from '#base/errors.ts';
import type { Resource } from '#model/resource.ts';
import type { LabState } from './state.ts';

export async function applyToStore(state: LabState, resources: readonly Resource[]): Promise<void> {
  await Promise.resolve();
  throw new BrindleError('unsupported', `no store yet for ${state.name}, ${resources.length}`);
}
