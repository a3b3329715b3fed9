// How each desired object fares in the kernel. Keys are owners (`endpoint:ns/name`, `policy:...`, `set:...`).

export type ObjectStatus =
  | { readonly state: 'pending' }
  /** In force, committed in the kernel. */
  | { readonly state: 'applied' }
  /** Not in force as written; what depends on it is closed. */
  | { readonly state: 'failed'; readonly reason: string };

const PENDING: ObjectStatus = { state: 'pending' };
const APPLIED: ObjectStatus = { state: 'applied' };

export class StatusBoard {
  readonly #statuses = new Map<string, ObjectStatus>();
  /** Rendered, for the next transaction. */
  readonly #rendered = new Set<string>();
  /** Told of, not rendered yet. */
  readonly #waiting = new Set<string>();

  get(owner: string): ObjectStatus | null {
    return this.#statuses.get(owner) ?? null;
  }

  /** Told of; what it will be is not known yet. */
  waiting(owner: string): void {
    this.#statuses.set(owner, PENDING);
    this.#waiting.add(owner);
  }

  /** The next transaction puts it in force. */
  rendered(owner: string): void {
    this.#statuses.set(owner, PENDING);
    this.#waiting.delete(owner);
    this.#rendered.add(owner);
  }

  failed(owner: string, reason: string): void {
    this.#statuses.set(owner, { state: 'failed', reason });
    this.#waiting.delete(owner);
    this.#rendered.delete(owner);
  }

  remove(owner: string): void {
    this.#statuses.delete(owner);
    this.#waiting.delete(owner);
    this.#rendered.delete(owner);
  }

  /** The owners that the transaction about to run puts in force; hand them to `applied` or `putBack` afterwards. */
  takeRendered(): string[] {
    const owners = [...this.#rendered];
    this.#rendered.clear();
    return owners;
  }

  /** Leaves alone what changed again meanwhile. */
  applied(owners: readonly string[]): void {
    for (const owner of owners) {
      const changed = this.#rendered.has(owner) || this.#waiting.has(owner);
      if (!changed && this.#statuses.get(owner) === PENDING) this.#statuses.set(owner, APPLIED);
    }
  }

  /** The transaction did not run: the owners wait for the next one. */
  putBack(owners: readonly string[]): void {
    for (const owner of owners) if (this.#statuses.get(owner) === PENDING) this.#rendered.add(owner);
  }

  *failures(): Generator<{ owner: string; reason: string }> {
    for (const [owner, status] of this.#statuses) {
      if (status.state === 'failed') yield { owner, reason: status.reason };
    }
  }
}
