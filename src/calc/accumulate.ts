// Applies updates to a whole state: what a dataplane that missed nothing would hold. Checks the contract on the way:
// nothing may refer to what is not there once a batch is complete.
import { BrindleError } from '#base/errors.ts';
import type {
  AbstractEntity,
  DesiredBlock,
  DesiredEndpoint,
  DesiredPolicy,
  DesiredPools,
  DesiredSet,
  DesiredState,
  DesiredUpdate,
} from '#model/desired.ts';

export class Accumulator implements DesiredState {
  readonly sets = new Map<string, DesiredSet>();
  readonly policies = new Map<string, DesiredPolicy>();
  readonly endpoints = new Map<string, DesiredEndpoint>();
  readonly blocks = new Map<string, DesiredBlock>();
  pools: DesiredPools = { masqueraded: [], direct: [] };

  /** Throws `internal` when the batch breaks the contract of DesiredUpdate. */
  apply(updates: readonly DesiredUpdate[]): void {
    for (const update of updates) this.#one(update);
    this.#check();
  }

  #one(update: DesiredUpdate): void {
    switch (update.type) {
      case 'set':
        this.sets.set(update.set.id, update.set);
        break;
      case 'set-delta': {
        const set = this.sets.get(update.delta.id);
        if (!set) throw broken(`delta for the unknown set ${update.delta.id}`);
        const members = new Set(set.members);
        for (const member of update.delta.added) {
          if (members.has(member)) throw broken(`${member} is in ${set.id} already`);
          members.add(member);
        }
        for (const member of update.delta.removed) {
          if (!members.delete(member)) throw broken(`${member} is not in ${set.id}`);
        }
        this.sets.set(set.id, { ...set, members });
        break;
      }
      case 'set-removed':
        if (!this.sets.delete(update.id)) throw broken(`removal of the unknown set ${update.id}`);
        break;
      case 'policy':
        this.policies.set(update.policy.id, update.policy);
        break;
      case 'policy-removed':
        if (!this.policies.delete(update.id)) throw broken(`removal of the unknown policy ${update.id}`);
        break;
      case 'endpoint':
        this.endpoints.set(update.endpoint.id, update.endpoint);
        break;
      case 'endpoint-removed':
        if (!this.endpoints.delete(update.id)) throw broken(`removal of the unknown endpoint ${update.id}`);
        break;
      case 'block':
        this.blocks.set(update.block.cidr, update.block);
        break;
      case 'block-removed':
        this.blocks.delete(update.cidr);
        break;
      case 'pools':
        this.pools = update.pools;
        break;
      case 'in-sync':
        break;
    }
  }

  #check(): void {
    for (const endpoint of this.endpoints.values()) {
      for (const tier of endpoint.tiers) {
        for (const id of [...tier.ingress, ...tier.egress]) {
          if (!this.policies.has(id)) throw broken(`${endpoint.id} refers to the unknown policy ${id}`);
        }
      }
      for (const id of endpoint.profiles) {
        if (!this.policies.has(id)) throw broken(`${endpoint.id} refers to the unknown profile ${id}`);
      }
    }
    for (const policy of this.policies.values()) {
      for (const rule of [...policy.ingress, ...policy.egress]) {
        for (const set of [...setsOf(rule.source), ...setsOf(rule.destination)]) {
          if (!this.sets.has(set)) throw broken(`${policy.id} refers to the unknown set ${set}`);
        }
      }
    }
  }
}

function setsOf(entity: AbstractEntity): string[] {
  return [...(entity.sets ?? []), ...(entity.notSets ?? []), ...(entity.portSets ?? []), ...(entity.notPortSets ?? [])];
}

function broken(message: string): BrindleError {
  return new BrindleError('internal', `the calculation broke its contract: ${message}`);
}
