// Desired pools to one chain and two sets a family. Without a pool that is translated there is neither chain nor set.
// When the kernel refuses them (one without NAT), nothing is translated, which is reported; policy goes on.
import { errorText } from '#base/errors.ts';
import type { DesiredPools } from '#model/desired.ts';
import { Prefix } from '#net/prefix.ts';
import type { Family } from '#nft/objects.ts';
import type { Reconciler } from '../reconciler.ts';
import { setName } from '../render/names.ts';
import { NAT_CHAIN, renderNat } from '../render/nat.ts';
import type { RenderOptions } from '../render/options.ts';
import { type ElementSink, SetState } from '../render/set-state.ts';
import type { StatusBoard } from '../status.ts';

/** Chain and sets stand and fall together. */
export const NAT_OWNER = 'nat:outgoing';

const MASQUERADED = 'nat-masqueraded';
const DIRECT = 'nat-direct';
const FAMILIES: readonly Family[] = [4, 6];

export class NatManager {
  readonly #reconciler: Reconciler;
  readonly #options: RenderOptions;
  readonly #status: StatusBoard;
  #sets: { readonly masqueraded: SetState; readonly direct: SetState } | null = null;
  #refused = false;

  constructor(reconciler: Reconciler, options: RenderOptions, status: StatusBoard) {
    this.#reconciler = reconciler;
    this.#options = options;
    this.#status = status;
  }

  update(pools: DesiredPools): void {
    this.#refused = false;
    if (pools.masqueraded.length === 0) {
      this.#withdraw();
      this.#status.remove(NAT_OWNER);
      return;
    }
    try {
      this.#sets ??= { masqueraded: this.#set(MASQUERADED), direct: this.#set(DIRECT) };
      this.#sets.masqueraded.replace(new Set(pools.masqueraded));
      this.#sets.direct.replace(new Set(pools.direct));
      this.#reconciler.wantChain(NAT_OWNER, this.#chain(pools.masqueraded, this.#sets));
      this.#status.rendered(NAT_OWNER);
    } catch (error) {
      this.refuse(errorText(error));
    }
  }

  /** Nothing is translated until pools are sent anew. False: it was so already. */
  refuse(reason: string): boolean {
    if (this.#refused) return false;
    this.#refused = true;
    this.#withdraw();
    this.#status.failed(NAT_OWNER, reason);
    return true;
  }

  #withdraw(): void {
    this.#reconciler.dropChain(NAT_CHAIN);
    this.#sets?.masqueraded.dispose();
    this.#sets?.direct.dispose();
    this.#sets = null;
  }

  #chain(cidrs: readonly string[], { masqueraded, direct }: { masqueraded: SetState; direct: SetState }) {
    const families = FAMILIES.filter((family) => cidrs.some((cidr) => Prefix.parseOrHost(cidr).family === family));
    const name = (set: SetState, family: Family) => setName(set.id, family, set.kind(family));
    return renderNat(
      families.map((family) => ({
        family,
        masqueraded: name(masqueraded, family),
        direct: name(direct, family),
      })),
      this.#options,
    );
  }

  #set(id: string): SetState {
    const sink: ElementSink = {
      declare: (spec) => this.#reconciler.wantSet(NAT_OWNER, spec),
      drop: (name) => this.#reconciler.dropSet(name),
      add: (name, element) => this.#reconciler.addElement(name, element),
      remove: (name, element) => this.#reconciler.removeElement(name, element),
    };
    return new SetState(id, 'net', sink);
  }
}
