// The port to the kernel's nftables: LibnftablesDriver and FakeNftables implement it.
import type { BaseChain, CounterValue, SetSpec, Verdict } from './objects.ts';
import type { Transaction } from './transaction.ts';

export interface ListedRule {
  readonly comment: string;
  /** Null when the rule has no counter. */
  readonly counter: CounterValue | null;
}

export interface ListedChain {
  readonly base: BaseChain | null;
  readonly rules: readonly ListedRule[];
}

export interface ListedSet {
  readonly spec: SetSpec;
  /** Canonical text, as in `SetSpec`; empty for a map. */
  readonly elements: ReadonlySet<string>;
  /** Elements of a verdict map. */
  readonly verdicts: ReadonlyMap<string, Verdict>;
  /** True when an element could not be read, so that the set has to be filled anew. */
  readonly foreign: boolean;
}

/** What the kernel holds in our table. */
export interface TableState {
  readonly chains: ReadonlyMap<string, ListedChain>;
  readonly sets: ReadonlyMap<string, ListedSet>;
}

/** A command of a transaction was refused, so nothing of it was done. */
export interface CommitFailure {
  readonly error: Error;
  /** Index into `Transaction.commands`; null when it is not known which one. */
  readonly command: number | null;
}

/** Somebody else changed our table. */
export interface ForeignChange {
  /** Name and number of the process; null when it is not known. */
  readonly by: string | null;
}

export interface NftDriver {
  /** Does all of it or nothing. Resolves to null, or to why not; never rejects for what the kernel refuses. */
  commit(transaction: Transaction): Promise<CommitFailure | null>;
  /** The state of a table; null when there is none. Set elements are left out when `terse`. */
  list(table: string, options?: { readonly terse?: boolean }): Promise<TableState | null>;
  /** A number that changes with every change of any table, ours or not; null when it cannot be told. */
  generation(): Promise<number | null>;
  /** Calls back when another process changed the table, until closed. Null when this driver cannot tell. */
  watch(table: string, onChange: (change: ForeignChange) => void): { close(): void } | null;
  close(): void;
}
