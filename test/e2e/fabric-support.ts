// What the store says of address blocks, for the tests of fabrics.
import type { Lab } from '#lab/lab.ts';
import { readStore } from '#lab/store.ts';

export interface Block {
  readonly cidr: string;
  readonly host: string;
}

/** Every block and the host that leases it. */
export async function readBlocks(lab: Lab): Promise<Block[]> {
  const resources = await readStore(lab.state);
  return resources
    .filter((resource) => resource.kind === 'IPBlock')
    .map((resource) => {
      const spec = resource.spec as { cidr: string; host: string };
      return { cidr: spec.cidr, host: spec.host };
    });
}
