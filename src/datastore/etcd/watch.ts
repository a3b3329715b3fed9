// One watch on etcd that outlives its connections. In: a range of keys and a revision. Out: batches of events in order of
// revision, each event once, until `stop()` or the end. Streams of all watches share one connection.
//
// Traps:
// - It asks from the revision it has, not from the one after, and drops what it knows: at a start that equals the compacted
//   revision etcd has already forgotten deletions of that revision, and says nothing.
// - A revision greater than etcd's own is waited for without a word: a restored or replaced cluster has to be noticed here.
// - Large answers come in fragments that may cut a revision in two; they are put together first, because a resume starts
//   at whole revisions.
// - Only the progress notices that etcd sends by itself move the position on. Those on request could overtake events
//   (etcd issue 15220, before 3.4.25 and 3.5.8), and are not used.
import { BrindleError } from '#base/errors.ts';
import type { Revision, StoreEvent, Watch, WatchOptions } from '../store.ts';
import { type Connection, type EtcdClient, retryDelay } from './client.ts';
import { type GrpcFailure, grpcFailure, reactionTo } from './errors.ts';
import { decodeValue, endOf, type Keys } from './keys.ts';
import type { WatchEvent, WatchResponse } from './messages.ts';

export interface EtcdWatchParts {
  readonly client: EtcdClient;
  readonly keys: Keys;
  /** The newest revision of the store. */
  readonly newest: () => Promise<Revision>;
  readonly onStopped: (watch: EtcdWatch) => void;
}

export class EtcdWatch implements Watch {
  readonly #parts: EtcdWatchParts;
  readonly #options: WatchOptions;
  readonly #kinds: ReadonlySet<string> | null;
  #position: Revision;
  #cluster: number | null;
  #pending: WatchEvent[] = [];
  #cancel: (() => void) | null = null;
  #timer: NodeJS.Timeout | null = null;
  #failures = 0;
  #failingSince: number | null = null;
  #stopped = false;

  constructor(parts: EtcdWatchParts, options: WatchOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#kinds = options.kinds ? new Set(options.kinds) : null;
    this.#position = options.fromRevision;
    this.#cluster = parts.client.clusterId;
    this.#start();
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#cancel?.();
    if (this.#timer) clearTimeout(this.#timer);
    this.#parts.onStopped(this);
  }

  #start(): void {
    this.#open().catch((error: unknown) => this.#lost(error, null));
  }

  async #open(): Promise<void> {
    const connection = await this.#parts.client.connection();
    if (this.#stopped) return;
    this.#pending = [];
    // The smallest range that holds all kinds: one watch is the only way to keep their order.
    const kinds = this.#kinds === null ? [undefined] : [...this.#kinds].sort();
    const key = this.#parts.keys.under(kinds[0]);
    const request = {
      key,
      rangeEnd: endOf(this.#parts.keys.under(kinds.at(-1))),
      startRevision: Math.max(1, this.#position),
      progressNotify: true,
      prevKv: true,
      fragment: true,
    };
    // A stream that opens but gets no answer would wait for ever.
    this.#timer = setTimeout(
      () => this.#lost({ code: 4, details: 'no answer to a watch' }, connection),
      this.#parts.client.times.attempt,
    );
    this.#cancel = connection.watch(
      { createRequest: request },
      {
        onData: (response) => {
          try {
            this.#take(response, connection);
          } catch (error) {
            if (!(error instanceof BrindleError)) throw error;
            this.end(error);
          }
        },
        onEnd: (error) => this.#lost(error, connection),
      },
    );
  }

  #take(response: WatchResponse, connection: Connection): void {
    if (this.#stopped) return;
    if (response.compactRevision > 0)
      throw compacted(`revision ${this.#position} is older than ${response.compactRevision}, which etcd still has`);
    if (response.canceled) {
      // Refused before it began: in the words of a failed request.
      this.#lost(
        { code: response.cancelReason.includes('permission denied') ? 7 : 14, details: response.cancelReason },
        connection,
      );
      return;
    }
    if (response.created) {
      this.#created(response);
      return;
    }
    for (const event of response.events) this.#pending.push(event);
    if (response.fragment) return;
    const events = this.#pending.flatMap((event) => this.#event(event) ?? []);
    const last = this.#pending.at(-1)?.kv.modRevision ?? response.header.revision;
    this.#pending = [];
    this.#position = Math.max(this.#position, last);
    if (events.length > 0) this.#options.onEvents(events);
    else this.#options.onProgress?.(this.#position);
  }

  #created({ header }: WatchResponse): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#cluster ??= header.clusterId;
    if (this.#cluster !== header.clusterId) throw compacted('this is another etcd cluster than before');
    this.#failures = 0;
    this.#failingSince = null;
    if (header.revision < this.#position) {
      // Either this member is behind, or the cluster was set back: the leader knows.
      this.#parts.newest().then(
        (revision) => {
          if (revision < this.#position)
            this.end(compacted(`etcd is at revision ${revision}, before ${this.#position}: it was set back`));
        },
        () => undefined, // no answer: the stream will tell too
      );
    }
    this.#options.onProgress?.(this.#position);
  }

  #event({ type, kv, prevKv }: WatchEvent): StoreEvent | null {
    const revision = kv.modRevision;
    if (revision <= this.#position) return null;
    const key = this.#parts.keys.parse(kv.key);
    if (!key || (this.#kinds && !this.#kinds.has(key.kind))) return null;
    if (type === 0) return { type: 'put', key, resource: decodeValue(kv).resource, revision };
    return { type: 'delete', key, last: prevKv ? decodeValue(prevKv).resource : null, revision };
  }

  #lost(error: unknown, connection: Connection | null): void {
    if (this.#stopped) return;
    this.#cancel?.();
    this.#cancel = null;
    if (this.#timer) clearTimeout(this.#timer);
    if (error instanceof BrindleError) {
      this.end(error);
      return;
    }
    const failure: GrpcFailure = grpcFailure(error);
    const { client } = this.#parts;
    const now = performance.now();
    this.#failingSince ??= now;
    const reaction = reactionTo(failure);
    if (connection) client.giveUp(connection, reaction === 'elsewhere');
    if (reaction === 'give-up' || now - this.#failingSince > client.times.patience) {
      this.end(client.error(failure, error));
      return;
    }
    this.#timer = setTimeout(() => this.#start(), retryDelay(this.#failures++));
  }

  /** Ends the watch by itself. */
  end(error: Error): void {
    if (this.#stopped) return;
    this.stop();
    this.#options.onEnd(error);
  }
}

function compacted(message: string): BrindleError {
  return new BrindleError('compacted', message, { remedy: 'list again and watch from there' });
}
