// What the agent's main thread and the speaker's thread say to each other. Plain data, by structured clone.
import type { ErrorCode } from '#base/errors.ts';
import type { AddressFamily } from '#bgp/wire/types.ts';
import type { NextHopState, SinkBatch, SpeakerEvent, SpeakerHandle } from './api.ts';

/** The methods of a handle that are a question and an answer. */
export type Method = Exclude<keyof SpeakerHandle, 'watch'>;
export const METHODS: readonly Method[] = [
  'configure',
  'plan',
  'setLocalRoutes',
  'status',
  'summary',
  'peer',
  'routes',
  'route',
  'explain',
  'dump',
  'clear',
  'metrics',
  'stop',
];

/** Given to the thread when it starts. */
export interface WorkerStart {
  readonly hasSink: boolean;
  readonly hasNextHops: boolean;
  readonly restarting: boolean;
  readonly forwardingKept: boolean;
}

export type ToWorker =
  | { readonly type: 'call'; readonly id: number; readonly method: Method; readonly args: readonly unknown[] }
  | { readonly type: 'next-hop'; readonly address: string; readonly state: NextHopState };

export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly field?: string | undefined;
  readonly remedy?: string | undefined;
}

export type FromWorker =
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'failure'; readonly id: number; readonly error: PlainError }
  | { readonly type: 'event'; readonly event: SpeakerEvent }
  | {
      readonly type: 'log';
      readonly level: 'debug' | 'info' | 'warn' | 'error';
      readonly fields: object;
      readonly message: string;
    }
  | { readonly type: 'sink'; readonly batch: SinkBatch }
  | { readonly type: 'converged'; readonly family: AddressFamily }
  | { readonly type: 'track' | 'untrack'; readonly address: string };

/** The two ends of a message channel, as `node:worker_threads` has them. */
export interface MessageEnd<Out, In> {
  postMessage(message: Out): void;
  on(event: 'message', listener: (message: In) => void): unknown;
}
