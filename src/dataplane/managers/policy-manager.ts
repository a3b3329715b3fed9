// Desired sets and policies to wanted kernel sets and policy chains. Renders only what changed, and what uses a set that changed its kind.
// A policy that cannot be rendered, or that the kernel refused, or whose set is missing, is closed: its chains drop.
import { errorText } from '#base/errors.ts';
import type { DesiredPolicy, DesiredSet, SetDelta } from '#model/desired.ts';
import type { Reconciler } from '../reconciler.ts';
import { type Direction, policyChainName } from '../render/names.ts';
import type { RenderOptions } from '../render/options.ts';
import { type PolicyShape, renderClosedPolicy, renderPolicy, sameShape, shapeOf } from '../render/policy.ts';
import { setsOf } from '../render/rule.ts';
import { type ElementSink, SetState } from '../render/set-state.ts';
import type { StatusBoard } from '../status.ts';

const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];

interface PolicyState {
  readonly desired: DesiredPolicy;
  readonly sets: ReadonlySet<string>;
  /** What endpoints were last told; null before the first rendering. */
  shape: PolicyShape | null;
}

export class PolicyManager {
  readonly #reconciler: Reconciler;
  readonly #options: RenderOptions;
  readonly #status: StatusBoard;
  readonly #sets = new Map<string, SetState>();
  readonly #policies = new Map<string, PolicyState>();
  /** Set id -> policies that use it. */
  readonly #users = new Map<string, Set<string>>();
  readonly #dirty = new Set<string>();
  /** Policies whose shape endpoints have to look at again. */
  readonly #reshaped = new Set<string>();
  readonly #refusedSets = new Set<string>();
  readonly #refusedPolicies = new Map<string, string>();

  constructor(reconciler: Reconciler, options: RenderOptions, status: StatusBoard) {
    this.#reconciler = reconciler;
    this.#options = options;
    this.#status = status;
  }

  updateSet(set: DesiredSet): void {
    const known = this.#sets.get(set.id);
    if (known && known.type !== set.type) this.removeSet(set.id);
    this.#accept(set.id);
    this.#guard(set.id, () => {
      const state = this.#sets.get(set.id) ?? this.#create(set);
      if (state.replace(set.members)) this.#setChanged(set.id);
    });
  }

  /** False when the set is not known (yet). */
  changeSet(delta: SetDelta): boolean {
    const state = this.#sets.get(delta.id);
    if (!state) return false;
    this.#guard(delta.id, () => {
      if (state.change(delta.added, delta.removed)) this.#setChanged(delta.id);
    });
    return true;
  }

  removeSet(id: string): void {
    const state = this.#sets.get(id);
    if (!state) return;
    state.dispose();
    this.#sets.delete(id);
    this.#refusedSets.delete(id);
    this.#status.remove(`set:${id}`);
    this.#setChanged(id);
  }

  updatePolicy(policy: DesiredPolicy): void {
    this.#unuse(policy.id);
    const sets = new Set([...policy.ingress, ...policy.egress].flatMap((rule) => [...setsOf(rule)]));
    for (const id of sets) {
      const users = this.#users.get(id);
      if (users) users.add(policy.id);
      else this.#users.set(id, new Set([policy.id]));
    }
    const shape = this.#policies.get(policy.id)?.shape ?? null;
    this.#policies.set(policy.id, { desired: policy, sets, shape });
    this.#refusedPolicies.delete(policy.id);
    this.#status.waiting(`policy:${policy.id}`);
    this.#dirty.add(policy.id);
  }

  removePolicy(id: string): void {
    if (!this.#policies.has(id)) return;
    this.#unuse(id);
    this.#policies.delete(id);
    this.#dirty.delete(id);
    this.#refusedPolicies.delete(id);
    this.#reshaped.add(id);
    this.#status.remove(`policy:${id}`);
    for (const direction of DIRECTIONS) this.#reconciler.dropChain(policyChainName(id, direction));
  }

  /** Null for a policy that has no chains (yet). */
  shape(id: string): PolicyShape | null {
    return this.#policies.get(id)?.shape ?? null;
  }

  /** The kernel refused a set: what uses it is closed until the set is sent anew. */
  refuseSet(id: string): void {
    this.#refusedSets.add(id);
    this.#sets.get(id)?.dispose();
    this.#sets.delete(id);
    this.#setChanged(id);
  }

  /** The kernel refused a policy: it is closed until it is sent anew. */
  refusePolicy(id: string, reason: string): void {
    this.#refusedPolicies.set(id, reason);
    this.#dirty.add(id);
  }

  isRefused(id: string): boolean {
    return this.#refusedPolicies.has(id);
  }

  /**
   * Renders what is dirty. Before the first complete state (`complete` false) a policy whose sets are not all there yet waits, so that
   * a chain which the kernel still has from before is not closed meanwhile. Returns the policies whose shape changed.
   */
  render(complete: boolean): ReadonlySet<string> {
    for (const id of [...this.#dirty]) {
      const state = this.#policies.get(id)!;
      const missing = [...state.sets].find((set) => !this.#sets.has(set));
      if (missing !== undefined && !complete && !this.#refusedSets.has(missing)) continue;
      this.#dirty.delete(id);
      const reason = this.#refusedPolicies.get(id) ?? (missing === undefined ? null : `set ${missing} is missing`);
      const shape = this.#renderPolicy(state.desired, reason);
      if (!sameShape(state.shape, shape)) {
        state.shape = shape;
        this.#reshaped.add(id);
      }
    }
    const reshaped = new Set(this.#reshaped);
    this.#reshaped.clear();
    return reshaped;
  }

  #renderPolicy(policy: DesiredPolicy, closedBecause: string | null): PolicyShape {
    const owner = `policy:${policy.id}`;
    let reason = closedBecause;
    if (reason === null) {
      try {
        const chains = DIRECTIONS.map((d) =>
          renderPolicy(policy, d, (id, f) => this.#sets.get(id)?.kind(f) ?? null, this.#options),
        );
        for (const [i, direction] of DIRECTIONS.entries()) {
          if (policy[direction].length > 0) this.#reconciler.wantChain(owner, chains[i]!);
          else this.#reconciler.dropChain(policyChainName(policy.id, direction));
        }
        this.#status.rendered(owner);
        return shapeOf(policy);
      } catch (error) {
        reason = errorText(error);
      }
    }
    this.#status.failed(owner, reason);
    for (const direction of DIRECTIONS) {
      this.#reconciler.wantChain(owner, renderClosedPolicy(policy.id, direction, reason));
    }
    const closed = { empty: false, passes: false };
    return { staged: false, ingress: closed, egress: closed };
  }

  #create(set: DesiredSet): SetState {
    const owner = `set:${set.id}`;
    const sink: ElementSink = {
      declare: (spec) => this.#reconciler.wantSet(owner, spec),
      drop: (name) => this.#reconciler.dropSet(name),
      add: (name, element) => this.#reconciler.addElement(name, element),
      remove: (name, element) => this.#reconciler.removeElement(name, element),
    };
    const state = new SetState(set.id, set.type, sink);
    this.#sets.set(set.id, state);
    this.#setChanged(set.id);
    return state;
  }

  /** Members that do not parse make the whole set unusable: half a set could open what should be closed. */
  #guard(id: string, change: () => void): void {
    try {
      change();
      this.#status.rendered(`set:${id}`);
    } catch (error) {
      this.refuseSet(id);
      this.#status.failed(`set:${id}`, errorText(error));
    }
  }

  #accept(id: string): void {
    if (this.#refusedSets.delete(id)) this.#setChanged(id);
  }

  #setChanged(id: string): void {
    for (const policy of this.#users.get(id) ?? []) this.#dirty.add(policy);
  }

  #unuse(policy: string): void {
    for (const set of this.#policies.get(policy)?.sets ?? []) {
      const users = this.#users.get(set)!;
      users.delete(policy);
      if (users.size === 0) this.#users.delete(set);
    }
  }
}
