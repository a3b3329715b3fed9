// Entry of the BGP thread: real sockets, and the speaker behind the channel to the main thread.
import { parentPort, workerData } from 'node:worker_threads';
import { serveSpeaker } from '#bgp/speaker/worker.ts';
import type { WorkerStart } from '#bgp/speaker/worker-protocol.ts';
import { tcpTransport } from './bgp-transport.ts';

if (parentPort) serveSpeaker(parentPort, tcpTransport, workerData as WorkerStart);
