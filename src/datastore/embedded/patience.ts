// Waiting for a lock that another process holds, on the event loop and not inside SQLite.
import { setTimeout as sleep } from 'node:timers/promises';
import { isBusy, storeError } from './database.ts';

/** How long a lock of another process is waited for, in ms. */
export const LOCK_PATIENCE = 10_000;
const MAX_RETRY_DELAY = 20;

/** Random, growing to MAX_RETRY_DELAY: many processes that want the lock must not come back all at once. */
export function retryDelay(attempt: number): number {
  return 1 + Math.random() * Math.min(MAX_RETRY_DELAY, 2 * (attempt + 1));
}

/** Runs something that may find the file locked, trying again on the event loop. */
export async function patiently<T>(path: string, run: () => T): Promise<T> {
  const since = performance.now();
  for (let attempt = 0; ; attempt++) {
    try {
      return run();
    } catch (error) {
      if (!isBusy(error) || performance.now() - since > LOCK_PATIENCE) throw storeError(error, path);
      await sleep(retryDelay(attempt));
    }
  }
}
