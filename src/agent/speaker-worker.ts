// Entry of the BGP thread: real sockets, and the speaker behind the channel to the main thread.
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '#base/clock.ts';
import type { Logger } from '#base/log.ts';
import { serveSpeaker } from '#bgp/speaker/worker.ts';
import type { WorkerStart } from '#bgp/speaker/worker-protocol.ts';
import { BfdService } from './bfd-service.ts';
import { tcpTransport } from './bgp-transport.ts';

if (parentPort) {
  const makeBfd = (log: Logger): BfdService => new BfdService(systemClock, log);
  serveSpeaker(parentPort, tcpTransport, makeBfd, workerData as WorkerStart);
}
