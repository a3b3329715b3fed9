// A process of the compliance suite: opens the store of argv[2] (JSON) and counts up `counter` argv[3] times by
// compare-and-swap.
import { isBrindleError } from '#base/errors.ts';
import { openStore, type StoreConfig } from '../open.ts';

const store = await openStore(JSON.parse(process.argv[2] ?? '{}') as StoreConfig);
for (let done = 0; done < Number(process.argv[3]); ) {
  const now = await store.get({ kind: 'IPReservation', namespace: '', name: 'counter' });
  if (!now) throw new Error('the counter is gone');
  try {
    await store.update({ ...now, spec: { count: (now.spec as { count: number }).count + 1 } });
    done++;
  } catch (error) {
    if (!isBrindleError(error, 'conflict')) throw error;
  }
}
await store.close();
