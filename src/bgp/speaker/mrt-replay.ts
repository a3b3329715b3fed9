// Routes of an MRT dump as routes this speaker originates. In: octets of the file, chunk by chunk. Out: one route for
// each prefix, the first path of the dump, or the first of the peer asked for.
// Only table dumps (TABLE_DUMP_V2) are taken; a file without one is an error, as is a malformed record.
import { BrindleError } from '#base/errors.ts';
import { MrtReader, ribAttributes } from '#bgp/mrt/reader.ts';
import type { MrtPeer, MrtRecord, RibRecord } from '#bgp/mrt/records.ts';
import type { PathAttributes } from '#bgp/wire/types.ts';
import { IpAddress } from '#net/address.ts';
import type { Prefix } from '#net/prefix.ts';

export interface ReplaySource {
  /** Path of the MRT file. */
  readonly file: string;
  /** Only what this peer of the dump told; absent: whoever comes first. */
  readonly peer?: string;
  /** `self`: announced as ours; `keep`: with the next hop of the dump. */
  readonly nextHop: 'self' | 'keep';
}

export interface ReplayRoute {
  readonly prefix: Prefix;
  readonly attributes: PathAttributes;
}

/** Collects the routes of one dump by their prefix as text. */
export class Replay {
  readonly routes = new Map<string, ReplayRoute>();
  /** Paths whose attributes are wrong, and which are left out. */
  refused = 0;
  readonly #source: ReplaySource;
  readonly #peer: IpAddress | null;
  readonly #reader = new MrtReader();
  #peers: readonly MrtPeer[] | null = null;

  constructor(source: ReplaySource) {
    this.#source = source;
    this.#peer = source.peer === undefined ? null : IpAddress.parse(source.peer);
  }

  /** Throws `corrupt` with the file's name. */
  push(chunk: Uint8Array): void {
    for (const record of this.#reader.push(chunk)) this.#record(record);
  }

  /** After the last chunk. Throws `corrupt` for a cut file or one without a table, `not-found` for an unknown peer. */
  end(): void {
    this.#reader.end();
    const { file, peer } = this.#source;
    if (!this.#peers) {
      throw new BrindleError('corrupt', `${file} holds no table dump`, {
        remedy: 'name an uncompressed MRT file of type TABLE_DUMP_V2',
      });
    }
    if (this.#peer && !this.#peers.some((p) => this.#peer?.equals(p.address))) {
      const some = this.#peers.slice(0, 20).map((p) => p.address.toString());
      throw new BrindleError('not-found', `${file} has no peer ${peer}`, {
        remedy: `its peers are ${some.join(', ')}`,
      });
    }
  }

  #record(record: MrtRecord): void {
    if (record.type === 'malformed') {
      throw new BrindleError('corrupt', `${this.#source.file}: a record is malformed: ${record.reason}`);
    }
    if (record.type === 'peer-index-table') this.#peers = record.peers;
    else if (record.type === 'rib') this.#route(record);
  }

  #route(record: RibRecord): void {
    const { prefix } = record;
    const key = prefix.toString();
    if (this.routes.has(key)) return;
    const family = prefix.family === 4 ? 'ipv4' : 'ipv6';
    for (const entry of record.entries) {
      const from = this.#peers?.[entry.peerIndex];
      if (this.#peer && !(from && this.#peer.equals(from.address))) continue;
      const { attributes } = ribAttributes(entry, family);
      if (!attributes) {
        this.refused++;
        continue;
      }
      const kept = this.#source.nextHop === 'keep';
      this.routes.set(key, {
        prefix,
        attributes: kept ? attributes : { ...attributes, nextHop: null, linkLocalNextHop: null },
      });
      return;
    }
  }
}
