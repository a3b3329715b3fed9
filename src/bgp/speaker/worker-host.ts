// The main thread's side of a speaker in a worker thread: a SpeakerHandle whose calls travel over a message channel.
// In: calls, next-hop states of the tracker. Out: answers; batches to the sink; events to watchers.
import { BrindleError } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { ConfigPlan, NextHopTracker, RouteSink, SpeakerEvent, SpeakerHandle } from './api.ts';
import { errorFromPlain } from './worker.ts';
import type { FromWorker, MessageEnd, Method, ToWorker } from './worker-protocol.ts';

/** A worker thread as this file needs it. */
export interface WorkerEnd extends MessageEnd<ToWorker, FromWorker> {
  on(event: 'message', listener: (message: FromWorker) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'exit', listener: (code: number) => void): unknown;
  terminate(): Promise<unknown>;
}

export interface WorkerSpeakerOptions {
  readonly worker: WorkerEnd;
  readonly log: Logger;
  readonly sink?: RouteSink;
  readonly nextHops?: NextHopTracker;
  /** The thread ended without having been asked to. Every call is rejected with `unavailable` from then on. */
  readonly onLost: (reason: string) => void;
}

interface Waiting {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

export class WorkerSpeaker implements SpeakerHandle {
  readonly #worker: WorkerEnd;
  readonly #log: Logger;
  readonly #sink: RouteSink | null;
  readonly #nextHops: NextHopTracker | null;
  readonly #onLost: (reason: string) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #watchers = new Set<(event: SpeakerEvent) => void>();
  #nextId = 1;
  #state: 'running' | 'stopping' | 'gone' = 'running';
  #lastError = '';

  constructor(options: WorkerSpeakerOptions) {
    this.#worker = options.worker;
    this.#log = options.log;
    this.#sink = options.sink ?? null;
    this.#nextHops = options.nextHops ?? null;
    this.#onLost = options.onLost;
    this.#worker.on('message', (message: FromWorker) => this.#message(message));
    this.#worker.on('error', (error: Error) => {
      this.#lastError = error.message;
      this.#log.error({ error: error.stack ?? error.message }, 'the BGP thread failed');
    });
    this.#worker.on('exit', (code: number) => this.#exited(code));
    this.#nextHops?.onChange((address, state) => this.#post({ type: 'next-hop', address, state }));
  }

  configure: SpeakerHandle['configure'] = (config) => this.#call<ConfigPlan>('configure', config);
  plan: SpeakerHandle['plan'] = (config) => this.#call('plan', config);
  setLocalRoutes: SpeakerHandle['setLocalRoutes'] = (routes) => this.#call('setLocalRoutes', routes);
  status: SpeakerHandle['status'] = () => this.#call('status');
  summary: SpeakerHandle['summary'] = () => this.#call('summary');
  peer: SpeakerHandle['peer'] = (name) => this.#call('peer', name);
  routes: SpeakerHandle['routes'] = (query) => this.#call('routes', query);
  route: SpeakerHandle['route'] = (prefix) => this.#call('route', prefix);
  explain: SpeakerHandle['explain'] = (prefix, peer) => this.#call('explain', prefix, peer);
  dump: SpeakerHandle['dump'] = (view, cursor) => this.#call('dump', view, cursor);
  clear: SpeakerHandle['clear'] = (peer, mode) => this.#call('clear', peer, mode);
  metrics: SpeakerHandle['metrics'] = () => this.#call('metrics');

  watch(listener: (event: SpeakerEvent) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  /** Ends the sessions and then the thread. */
  async stop(mode: 'restart' | 'shutdown', words?: string): Promise<void> {
    if (this.#state !== 'running') return;
    await this.#call('stop', mode, words);
    this.#state = 'stopping';
    // What the sessions were told goes out with the next turns of the thread's loop.
    if (mode === 'shutdown') await this.#call('status');
    await this.#worker.terminate();
  }

  #call<T>(method: Method, ...args: readonly unknown[]): Promise<T> {
    if (this.#state === 'gone') {
      return Promise.reject(
        new BrindleError('unavailable', 'the BGP speaker is not running', { remedy: 'see the log of the agent' }),
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const id = this.#nextId++;
    this.#waiting.set(id, { resolve, reject });
    this.#post({ type: 'call', id, method, args });
    return promise;
  }

  #post(message: ToWorker): void {
    if (this.#state !== 'gone') this.#worker.postMessage(message);
  }

  #message(message: FromWorker): void {
    switch (message.type) {
      case 'result':
        this.#waiting.get(message.id)?.resolve(message.value as never);
        this.#waiting.delete(message.id);
        return;
      case 'failure':
        this.#waiting.get(message.id)?.reject(errorFromPlain(message.error));
        this.#waiting.delete(message.id);
        return;
      case 'event':
        for (const watcher of this.#watchers) watcher(message.event);
        return;
      case 'log':
        this.#log[message.level](message.fields, message.message);
        return;
      case 'sink':
        this.#sink?.apply(message.batch);
        return;
      case 'converged':
        this.#sink?.converged(message.family);
        return;
      case 'track':
        this.#nextHops?.track(message.address);
        return;
      case 'untrack':
        this.#nextHops?.untrack(message.address);
    }
  }

  #exited(code: number): void {
    const wanted = this.#state === 'stopping';
    this.#state = 'gone';
    const reason = this.#lastError === '' ? `the BGP thread ended with code ${code}` : this.#lastError;
    for (const { reject } of this.#waiting.values()) reject(new BrindleError('unavailable', reason));
    this.#waiting.clear();
    if (!wanted) this.#onLost(reason);
  }
}
