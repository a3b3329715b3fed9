// The IPAM of one host. In: pools, requests for addresses. Out: addresses that no other container on any host has, and
// what the journal remembers of every attachment.
//
// The host is the authority for the blocks that it leases: an address is taken in memory, journalled on local disk, and
// told to the store afterwards, so ADD makes no round trip while a block has room (docs/design/overview.md, IPAM).
// Rules kept here: memory changes before the journal is appended to; an address is free again only when the caller says
// that its interface is gone; a journal that cannot be trusted hands out nothing.
import type { Clock } from '#base/clock.ts';
import { BrindleError, errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { Store } from '#datastore/store.ts';
import type { Attachment } from '#model/attachment.ts';
import type { IPBlock, IPBlockSpec } from '#model/ip-block.ts';
import { type Family, IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { PrefixTrie } from '#net/prefix-trie.ts';
import { AddressBlock } from './block.ts';
import type { JournalFiles } from './files.ts';
import { type Journal, openJournal } from './journal.ts';
import { blockKey, createLease, deleteLease, listBlocks, takeLease, takeLeaseOf } from './leases.ts';
import { type Pool, type PoolUse, type SelectorMatch, usablePools } from './pools.ts';
import { BlockPublisher } from './publisher.ts';
import type { JournalRecord } from './records.ts';

export interface IpamOptions {
  readonly host: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly files: JournalFiles;
  readonly journalPath: string;
  readonly matches: SelectorMatch;
  /** How long a freed address rests, in seconds; 0 when absent. */
  readonly cooldown?: number;
  /** No more leases than this are taken; without limit when absent. */
  readonly maxBlocks?: number;
  /** Called after a block was added, removed or lost. */
  readonly onBlocksChanged?: () => void;
}

export interface AddressRequest {
  readonly handle: string;
  /** Families to give an address of; absent: each that has a usable pool (at least one). All or nothing. */
  readonly families?: readonly Family[];
  /** Pool names or CIDRs for a family, in order of preference. */
  readonly pools?: Readonly<Partial<Record<Family, readonly string[]>>>;
  /** Addresses asked for by name; other families are filled as usual. */
  readonly requested?: readonly IpAddress[];
  readonly use?: PoolUse;
  readonly namespaceLabels?: Readonly<Record<string, string>>;
  /** Makes what the journal keeps; called once the addresses are known, before anything can wait. */
  readonly attach: (addresses: readonly IpAddress[]) => Attachment;
}

export interface Assignment {
  readonly addresses: readonly IpAddress[];
  readonly attachment: Attachment;
  /** On disk. When it rejects (`unavailable`), `release` what was assigned. */
  readonly durable: Promise<void>;
}

export interface BlockView {
  readonly cidr: Prefix;
  readonly pool: string;
  readonly size: number;
  readonly used: number;
  /** Another host has the lease: nothing new comes from it, and it is not to be announced. */
  readonly lost: boolean;
}

/** The next block is leased in the background when fewer than this share of a block's addresses are free. */
const PREFETCH_BELOW = 0.25;
/** A background lease that failed is not tried again for this long, in milliseconds. */
const PREFETCH_PAUSE = 10_000;
/** Owners of addresses that the store says are taken and the journal does not know of begin with this. */
const STRANGER = 'unknown:';

interface Held {
  readonly attachment: Attachment;
  committed: boolean;
}

export class Ipam {
  #options: IpamOptions;
  #journal!: Journal;
  #problem: BrindleError | null = null;
  #publisher: BlockPublisher;
  #blocks = new Map<string, AddressBlock>();
  #index = new PrefixTrie<AddressBlock>();
  #lost = new Map<string, string>();
  #attachments = new Map<string, Held>();
  #pools: readonly Pool[] = [];
  #nodeLabels: Readonly<Record<string, string>> = {};
  #reserved = new PrefixTrie<true>();
  #adopting = new Map<string, Promise<void>>();
  /** Being handed back: the store may still call them ours. */
  #leaving = new Set<string>();
  #verified = false;
  #leasing = new Map<string, Promise<boolean>>();
  #prefetchAfter = new Map<string, number>();
  #suspects = new Map<string, number>();

  private constructor(options: IpamOptions) {
    this.#options = options;
    this.#publisher = new BlockPublisher({
      store: options.store,
      host: options.host,
      clock: options.clock,
      log: options.log,
      assigned: (cidr) => this.#assignedIn(cidr),
      lost: (cidr, holder) => this.#loseBlock(cidr, holder),
    });
  }

  /** Reads the journal. Never throws for what it holds: see `problem`. The store is not asked yet: see `verify`. */
  static async open(options: IpamOptions): Promise<Ipam> {
    const ipam = new Ipam(options);
    const { journal, state, problem } = await openJournal({
      path: options.journalPath,
      host: options.host,
      files: options.files,
      log: options.log,
      snapshot: () => ipam.#snapshot(),
    });
    ipam.#journal = journal;
    ipam.#problem = problem;
    for (const { cidr, pool } of state.blocks.values()) ipam.#addBlock(Prefix.parse(cidr), pool);
    for (const held of state.attachments.values()) {
      const { handle } = held.attachment;
      ipam.#attachments.set(handle, held);
      for (const text of held.attachment.addresses) {
        const address = IpAddress.parse(text);
        const block = ipam.#blockOf(address);
        // An address without its block (a lease released by force) keeps its container all the same.
        if (block && !block.claim(address, handle)) {
          ipam.#problem ??= new BrindleError('corrupt', `${journal.path}: ${text} is held twice`);
        }
      }
    }
    for (const [text, at] of state.freed) {
      const address = IpAddress.parse(text);
      ipam.#blockOf(address)?.rest(address, at);
    }
    return ipam;
  }

  /** Why nothing can be handed out; null while all is well. STATUS shows it. */
  get problem(): string | null {
    return this.#problem ? errorText(this.#problem) : this.#journal.failure;
  }

  /** The journal was found damaged: what runs here may be unknown, so nothing may be swept away. */
  get isCorrupt(): boolean {
    return this.#problem !== null;
  }

  setPools(pools: readonly Pool[], nodeLabels: Readonly<Record<string, string>>): void {
    this.#pools = pools;
    this.#nodeLabels = nodeLabels;
    this.#prefetchAfter.clear();
  }

  /** CIDRs of IPReservations: no new address comes from them unless it is asked for by name. */
  setReservations(cidrs: readonly Prefix[]): void {
    this.#reserved = new PrefixTrie();
    for (const cidr of cidrs) this.#reserved.set(cidr, true);
  }

  get(handle: string): Attachment | null {
    return this.#attachments.get(handle)?.attachment ?? null;
  }

  /** Every attachment whose ADD was answered. */
  *attachments(): Generator<Attachment> {
    for (const held of this.#attachments.values()) if (held.committed) yield held.attachment;
  }

  /** Attachments whose ADD was cut off: after a start, they are to be undone before calls are served. */
  *unfinished(): Generator<Attachment> {
    for (const held of this.#attachments.values()) if (!held.committed) yield held.attachment;
  }

  /** Who has an address: a handle, null when nobody on this host. */
  ownerOf(address: IpAddress): string | null {
    return this.#blockOf(address)?.owner(address) ?? null;
  }

  *blocks(): Generator<BlockView> {
    for (const { cidr, pool, size, used } of this.#blocks.values()) {
      yield { cidr, pool, size, used, lost: this.#lost.has(cidr.toString()) };
    }
  }

  /**
   * Takes addresses. Throws `exhausted` (names the pools), `invalid-argument` (pools or addresses asked for),
   * `already-exists` (an address asked for is taken, or the handle has some), `conflict`, `unavailable`, `corrupt`.
   */
  async assign(request: AddressRequest): Promise<Assignment> {
    if (this.#problem) throw this.#problem;
    const { handle } = request;
    if (this.#attachments.has(handle)) throw new BrindleError('already-exists', `${handle} has addresses already`);
    const taken: IpAddress[] = [];
    try {
      for (const address of request.requested ?? []) taken.push(await this.#takeRequested(address, request));
      for (const family of this.#familiesFor(request)) {
        if (!taken.some((address) => address.family === family)) taken.push(await this.#takeAny(family, request));
      }
      if (this.#attachments.has(handle)) throw new BrindleError('already-exists', `${handle} has addresses already`);
    } catch (error) {
      for (const address of taken) this.#blockOf(address)?.free(address, handle, 0);
      throw error;
    }
    taken.sort((a, b) => a.compare(b));
    const attachment = request.attach(taken);
    this.#attachments.set(handle, { attachment, committed: false });
    const durable = this.#journal.append({ op: 'assign', attachment }, true);
    durable.catch(() => undefined); // whoever awaits it hears of it; nobody else may
    for (const address of taken) this.#touched(address);
    return { addresses: taken, attachment, durable };
  }

  /** The call was answered: the attachment outlives a crash of the agent. Resolves when that is written. */
  async commit(handle: string): Promise<void> {
    const held = this.#attachments.get(handle);
    if (!held) throw new BrindleError('not-found', `${handle} has no addresses`);
    held.committed = true;
    await this.#journal.append({ op: 'commit', handle }, false);
  }

  /** Replaces what is remembered of an attachment; its addresses are the same. Resolves when that is written. */
  async amend(attachment: Attachment): Promise<void> {
    const { handle } = attachment;
    const held = this.#attachments.get(handle);
    if (!held) throw new BrindleError('not-found', `${handle} has no addresses`);
    this.#attachments.set(handle, { attachment, committed: held.committed });
    await this.#journal.append({ op: 'assign', attachment }, true);
  }

  /**
   * Gives back all that the handle has. Resolves when that is written; the addresses are used again only after
   * `vacated` has settled (the interface is gone). Not found is no error. False: there was nothing.
   */
  async release(handle: string, vacated?: Promise<unknown>): Promise<boolean> {
    const held = this.#attachments.get(handle);
    if (!held) return false;
    this.#attachments.delete(handle);
    this.#suspects.delete(handle);
    const at = this.#options.clock.wall();
    for (const text of held.attachment.addresses) this.#free(IpAddress.parse(text), handle, at, vacated);
    if (!this.#problem) await this.#journal.append({ op: 'release', handle, at }, false);
    return true;
  }

  #free(address: IpAddress, owner: string, at: number, vacated?: Promise<unknown>): void {
    const block = this.#blockOf(address);
    if (!block?.free(address, owner, at, vacated !== undefined)) return;
    this.#publisher.mark(block.cidr.toString());
    const thaw = (): void => block.thaw(address, this.#options.clock.wall());
    vacated?.then(thaw, thaw);
  }

  #familiesFor(request: AddressRequest): readonly Family[] {
    if (request.families) return request.families;
    const families = ([4, 6] as const).filter(
      (family) =>
        request.pools?.[family] !== undefined ||
        this.#usable(family, request).length > 0 ||
        request.requested?.some((address) => address.family === family),
    );
    if (families.length > 0) return families;
    throw new BrindleError('exhausted', `no IP pool serves this host (${this.#options.host})`, {
      remedy: 'create an IPPool, or check nodeSelector, namespaceSelector and disabled of those there are',
    });
  }

  #usable(family: Family, request: AddressRequest): Pool[] {
    const query = {
      family,
      use: request.use ?? 'Workload',
      nodeLabels: this.#nodeLabels,
      namespaceLabels: request.namespaceLabels ?? {},
      asked: request.pools?.[family] ?? null,
    };
    return usablePools(this.#pools, query, this.#options.matches);
  }

  async #takeAny(family: Family, request: AddressRequest): Promise<IpAddress> {
    const pools = this.#usable(family, request);
    const full = new Set<Pool>();
    for (;;) {
      for (const pool of pools) {
        const address = this.#takeFrom(pool, request.handle);
        if (address) return address;
      }
      const pool = pools.find((candidate) => !full.has(candidate));
      if (!pool) {
        const names = pools.map((p) => `${p.name} (${p.cidr})`).join(', ');
        throw new BrindleError('exhausted', `no free IPv${family} address in ${names || 'any pool for this host'}`, {
          remedy: 'add a pool, or see brindle ipam show --blocks for who has the addresses',
        });
      }
      if (!(await this.#lease(pool))) full.add(pool);
    }
  }

  #takeFrom(pool: Pool, handle: string): IpAddress | null {
    const now = this.#options.clock.wall();
    const cooldown = (this.#options.cooldown ?? 0) * 1000;
    const allowed = (address: IpAddress): boolean => this.#reserved.match(address) === null;
    let left = 0;
    let taken: IpAddress | null = null;
    for (const { value: block } of this.#index.covered(pool.cidr)) {
      taken ??= block.take(handle, now, cooldown, this.#reserved.size > 0 ? allowed : undefined);
      left += block.available(now, cooldown);
    }
    const size = 2 ** Math.min(12, pool.cidr.address.bytes.length * 8 - pool.blockSize);
    if (taken && left < size * PREFETCH_BELOW && now >= (this.#prefetchAfter.get(pool.name) ?? 0)) {
      this.#prefetchAfter.set(pool.name, now + PREFETCH_PAUSE);
      void this.#lease(pool).then(
        (got) => got && this.#prefetchAfter.delete(pool.name),
        () => undefined,
      );
    }
    return taken;
  }

  async #takeRequested(address: IpAddress, request: AddressRequest): Promise<IpAddress> {
    const pool = this.#pools.find((candidate) => candidate.cidr.contains(address));
    const refuse = (reason: string): BrindleError =>
      new BrindleError('invalid-argument', `address ${address} cannot be had: ${reason}`, {
        remedy: 'ask for an address of an enabled pool for workloads, or for none',
      });
    if (!pool) throw refuse('it is in no pool');
    if (pool.disabled) throw refuse(`pool ${pool.name} is disabled`);
    if (!pool.uses.includes(request.use ?? 'Workload'))
      throw refuse(`pool ${pool.name} is for ${pool.uses.join(', ')}`);
    if (!this.#blockOf(address)) {
      const cidr = Prefix.of(address, pool.blockSize);
      await this.#adopt(await takeLeaseOf(this.#options.store, this.#options.host, pool, cidr));
    }
    const block = this.#blockOf(address);
    if (block && this.#lost.has(block.cidr.toString())) throw refuse(`block ${block.cidr} is no longer this host's`);
    if (block?.claim(address, request.handle)) return address;
    const owner = block?.owner(address);
    throw new BrindleError('already-exists', `address ${address} is ${owner ? `held by ${owner}` : 'being given up'}`, {
      remedy: 'ask for another address, or stop the container that has it',
    });
  }

  /** Leases one more block of the pool; false when there is none. Callers at the same time share one attempt. */
  #lease(pool: Pool): Promise<boolean> {
    const under = this.#leasing.get(pool.name);
    if (under) return under;
    const attempt = this.#leaseNow(pool).finally(() => this.#leasing.delete(pool.name));
    this.#leasing.set(pool.name, attempt);
    return attempt;
  }

  async #leaseNow(pool: Pool): Promise<boolean> {
    const { store, host, maxBlocks } = this.#options;
    if (maxBlocks !== undefined && this.#blocks.size >= maxBlocks) {
      this.#options.log.warn({ pool: pool.name, maxBlocks }, 'this host may lease no more blocks');
      return false;
    }
    const block = await takeLease(store, host, pool, (cidr) => {
      const text = cidr.toString();
      return (this.#blocks.has(text) && !this.#adopting.has(text)) || this.#leaving.has(text);
    });
    if (!block) return false;
    await this.#adopt(block);
    return true;
  }

  /** Makes a block that the store calls ours part of memory and journal. What it says is assigned stays so. */
  #adopt(lease: IPBlock): Promise<void> {
    const { cidr } = lease.spec;
    this.#publisher.seen(lease);
    const under = this.#adopting.get(cidr);
    if (under) return under;
    if (this.#blocks.has(cidr)) return Promise.resolve();
    const adoption = this.#adoptNow(lease).finally(() => this.#adopting.delete(cidr));
    this.#adopting.set(cidr, adoption);
    return adoption;
  }

  async #adoptNow(lease: IPBlock): Promise<void> {
    const { cidr, pool } = lease.spec;
    const block = new AddressBlock(Prefix.parse(cidr), pool);
    this.#claimKnown(block);
    this.#claimStrangers(block, lease.spec.assigned);
    block.closed = true; // until it is in the journal
    this.#blocks.set(cidr, block);
    try {
      await this.#journal.append({ op: 'block', cidr, pool }, true);
    } catch (error) {
      this.#blocks.delete(cidr); // the store calls it ours: it is taken up at the next occasion
      throw error;
    }
    block.closed = false;
    this.#index.set(block.cidr, block);
    this.#options.log.info({ block: cidr, pool }, 'leased a block');
    this.#options.onBlocksChanged?.();
  }

  #addBlock(cidr: Prefix, pool: string): void {
    const block = new AddressBlock(cidr, pool);
    this.#blocks.set(cidr.toString(), block);
    this.#index.set(cidr, block);
  }

  /** Attachments that outlived their block's lease. */
  #claimKnown(block: AddressBlock): void {
    for (const { attachment } of this.#attachments.values()) {
      for (const text of attachment.addresses) {
        const address = IpAddress.parse(text);
        if (block.cidr.contains(address)) block.claim(address, attachment.handle);
      }
    }
  }

  #claimStrangers(block: AddressBlock, assigned: IPBlockSpec['assigned']): void {
    for (const [text, { handle }] of Object.entries(assigned)) {
      const address = IpAddress.tryParse(text);
      if (!address || !block.cidr.contains(address) || this.#attachments.has(handle)) continue;
      block.claim(address, STRANGER + handle);
    }
  }

  #blockOf(address: IpAddress): AddressBlock | null {
    return this.#index.match(address)?.value ?? null;
  }

  #touched(address: IpAddress): void {
    const block = this.#blockOf(address);
    if (block) this.#publisher.mark(block.cidr.toString());
  }

  #assignedIn(cidr: string): IPBlockSpec['assigned'] | null {
    const block = this.#blocks.get(cidr);
    if (!block || this.#lost.has(cidr)) return null;
    const out: IPBlockSpec['assigned'] = {};
    for (const { address, owner } of block.owners()) {
      const metadata = this.#attachments.get(owner)?.attachment.endpoint?.metadata;
      out[address.toString()] = {
        handle: owner.startsWith(STRANGER) ? owner.slice(STRANGER.length) : owner,
        ...(metadata ? { endpoint: `${metadata.namespace ?? 'default'}/${metadata.name}` } : {}),
      };
    }
    return out;
  }

  #loseBlock(cidr: string, holder: string | null): void {
    const block = this.#blocks.get(cidr);
    if (!block || this.#lost.has(cidr)) return;
    block.closed = true;
    this.#lost.set(cidr, holder ?? 'nobody');
    this.#options.log.error(
      { block: cidr, holder, used: block.used },
      'the lease of a block is no longer ours; its containers keep their addresses, new ones get none from it',
    );
    this.#options.onBlocksChanged?.();
  }

  /**
   * Compares the leases with the store: takes up what the store calls ours, takes again what nobody has, and marks as
   * lost what another host has. To be called at start and now and then. Throws `unavailable`; leases then go on as they were.
   */
  async verify(): Promise<void> {
    if (!this.#problem) await this.#verifyNow();
  }

  async #verifyNow(): Promise<void> {
    const { store, host } = this.#options;
    const stored = new Map((await listBlocks(store)).map((block) => [block.spec.cidr, block]));
    for (const lease of stored.values()) {
      const { cidr } = lease.spec;
      if (lease.spec.host !== host || this.#leaving.has(cidr)) continue;
      await this.#adopt(lease);
      this.#publisher.mark(cidr);
      const block = this.#blocks.get(cidr);
      if (block && !this.#verified) this.#claimStrangers(block, lease.spec.assigned);
      if (block && this.#lost.delete(cidr)) {
        block.closed = false;
        this.#options.onBlocksChanged?.();
      }
    }
    for (const block of [...this.#blocks.values()]) {
      const cidr = block.cidr.toString();
      if (this.#adopting.has(cidr)) continue;
      let lease = stored.get(cidr) ?? null;
      lease ??= await createLease(store, host, { name: block.pool }, block.cidr);
      lease ??= (await store.get(blockKey(block.cidr))) as IPBlock | null;
      if (lease?.spec.host === host) {
        this.#publisher.seen(lease);
        this.#publisher.mark(cidr);
      } else this.#loseBlock(cidr, lease?.spec.host ?? null);
    }
    this.#verified = true;
  }

  /**
   * Hands back leases of blocks without addresses in use: all of them (drain), or all but one a pool. The CIDRs. A block with an
   * address that rests for the cooldown stays: its next host would not know of it.
   */
  async handBack(keepOneAPool: boolean): Promise<string[]> {
    const handed: string[] = [];
    const kept = new Set<string>();
    for (const block of [...this.#blocks.values()]) {
      const cidr = block.cidr.toString();
      // Another call may have had it meanwhile.
      if (this.#blocks.get(cidr) !== block || !block.isEmpty || this.#problem || this.#rests(block)) continue;
      const others = [...this.#blocks.values()].some((b) => b !== block && b.pool === block.pool && !b.closed);
      if (keepOneAPool && (!others || !kept.has(block.pool)) && !this.#lost.has(cidr)) {
        kept.add(block.pool);
        continue;
      }
      block.closed = true;
      this.#leaving.add(cidr);
      try {
        // The journal first: a crash between the two leaves a lease that the next start takes up again.
        this.#blocks.delete(cidr);
        this.#index.delete(block.cidr);
        this.#publisher.forget(cidr);
        await this.#journal.append({ op: 'unblock', cidr }, true);
        if (!this.#lost.delete(cidr)) await deleteLease(this.#options.store, this.#options.host, block.cidr);
      } finally {
        this.#leaving.delete(cidr);
      }
      handed.push(cidr);
      this.#options.onBlocksChanged?.();
    }
    return handed;
  }

  #rests(block: AddressBlock): boolean {
    return !block.resting(this.#restSince()).next().done;
  }

  /** What was freed after this rests still. Wall clock, ms. */
  #restSince(): number {
    return this.#options.clock.wall() - (this.#options.cooldown ?? 0) * 1000;
  }

  /**
   * One look at what is really there. `alive`: handles and addresses with a living container or a host interface.
   * An attachment that is missing in two looks at least `apart` ms from each other is returned, to be removed by the
   * caller as DEL would; an address that only the store knew of is freed here.
   */
  look(alive: ReadonlySet<string>, apart: number): Attachment[] {
    if (this.#problem) return [];
    const now = this.#options.clock.monotonic();
    const seen = new Set<string>();
    const twice = (key: string): boolean => {
      seen.add(key);
      const first = this.#suspects.get(key);
      if (first === undefined) this.#suspects.set(key, now);
      return first !== undefined && now - first >= apart;
    };
    const missing: Attachment[] = [];
    for (const { attachment, committed } of this.#attachments.values()) {
      const living = alive.has(attachment.handle) || attachment.addresses.some((address) => alive.has(address));
      if (committed && !living && twice(attachment.handle)) missing.push(attachment);
    }
    for (const block of this.#blocks.values()) {
      for (const { address, owner } of [...block.owners()]) {
        if (!owner.startsWith(STRANGER) || alive.has(address.toString())) continue;
        if (twice(owner)) this.#free(address, owner, this.#options.clock.wall());
      }
    }
    for (const key of [...this.#suspects.keys()]) if (!seen.has(key)) this.#suspects.delete(key);
    return missing;
  }

  /**
   * Writes the journal anew from what could be read of it, and hands out again, except what the store says is taken. The
   * old file is kept as `*.corrupt`. Throws `unavailable` when disk or store is away; then nothing is handed out as before.
   */
  async rebuild(): Promise<void> {
    await this.#journal.rebuild(`${this.#journal.path}.corrupt`);
    await this.#verifyNow();
    this.#problem = null;
  }

  /** Brings the store's block objects up to date now. */
  flush(): Promise<void> {
    return this.#publisher.flush();
  }

  async close(): Promise<void> {
    this.#publisher.stop();
    await this.#journal.close();
  }

  *#snapshot(): Generator<JournalRecord> {
    const since = this.#restSince();
    for (const block of this.#blocks.values()) yield { op: 'block', cidr: block.cidr.toString(), pool: block.pool };
    for (const { attachment, committed } of this.#attachments.values()) {
      yield { op: 'assign', attachment };
      if (committed) yield { op: 'commit', handle: attachment.handle };
    }
    for (const block of this.#blocks.values()) {
      for (const { address, at } of block.resting(since)) yield { op: 'freed', address: address.toString(), at };
    }
  }
}
