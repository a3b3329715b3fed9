// Router software by name.
import { unreachable } from '#base/errors.ts';
import type { PlannedRouter } from '../plan.ts';
import { birdDriver } from './bird.ts';
import { brindleDriver } from './brindle.ts';
import type { RouterDriver } from './driver.ts';
import { frrDriver } from './frr.ts';

export function routerDriver(router: PlannedRouter): RouterDriver {
  const { kind } = router.spec;
  switch (kind) {
    case 'bird':
      return birdDriver;
    case 'frr':
      return frrDriver;
    case 'brindle':
      return brindleDriver;
    default:
      return unreachable(kind);
  }
}
