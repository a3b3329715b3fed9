// Starts the speaker in its own thread, so that neither a policy calculation nor a `show` delays a keepalive.
// In: sink, next-hop tracker. Out: a SpeakerHandle.
import { Worker } from 'node:worker_threads';
import type { Logger } from '#base/log.ts';
import type { NextHopTracker, RouteSink } from '#bgp/speaker/api.ts';
import { WorkerSpeaker } from '#bgp/speaker/worker-host.ts';
import type { WorkerStart } from '#bgp/speaker/worker-protocol.ts';

export interface SpeakerThreadOptions {
  readonly log: Logger;
  readonly sink?: RouteSink;
  readonly nextHops?: NextHopTracker;
  /** Peers may hold our routes from an earlier run (R bit). Default true. */
  readonly restarting?: boolean;
  /** The kernel still has the routes of an earlier run (F bit). */
  readonly forwardingKept: boolean;
  readonly onLost: (reason: string) => void;
}

/** Heap limits of the thread in MiB. The tables lie outside the heap, in typed arrays. */
const LIMITS = { maxOldGenerationSizeMb: 1024, maxYoungGenerationSizeMb: 4, stackSizeMb: 4 };

export function startSpeakerThread(options: SpeakerThreadOptions): WorkerSpeaker {
  const workerData: WorkerStart = {
    hasSink: options.sink !== undefined,
    hasNextHops: options.nextHops !== undefined,
    restarting: options.restarting ?? true,
    forwardingKept: options.forwardingKept,
  };
  const worker = new Worker(workerUrl(), { workerData, resourceLimits: LIMITS, name: 'bgp' });
  return new WorkerSpeaker({
    worker,
    log: options.log,
    onLost: options.onLost,
    ...(options.sink && { sink: options.sink }),
    ...(options.nextHops && { nextHops: options.nextHops }),
  });
}

/** Beside this file in a checkout; beside the bundle, where this file is a part of some chunk, in dist/. */
function workerUrl(): URL {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`./speaker-worker.${extension}`, import.meta.url);
}
