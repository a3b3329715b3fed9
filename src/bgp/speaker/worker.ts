// The speaker's side of the channel: runs inside the worker thread. In: calls and next-hop states. Out: answers, events,
// routes for the sink. The entry module of the thread (in the agent) supplies the port and the transport.
import { BrindleError, isBrindleError } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import { systemClock } from '#base/clock.ts';
import type { BfdMonitor, NextHopState, NextHopTracker, SpeakerHandle, Transport } from './api.ts';
import { speakerHandle } from './handle.ts';
import { Speaker } from './speaker.ts';
import type { FromWorker, MessageEnd, PlainError, ToWorker, WorkerStart } from './worker-protocol.ts';

export function serveSpeaker(
  port: MessageEnd<FromWorker, ToWorker>,
  transport: Transport,
  makeBfd: (log: Logger) => BfdMonitor,
  start: WorkerStart,
): void {
  const log = portLogger(port, {});
  let onNextHop: ((address: string, state: NextHopState) => void) | null = null;
  const nextHops: NextHopTracker = {
    track: (address) => port.postMessage({ type: 'track', address }),
    untrack: (address) => port.postMessage({ type: 'untrack', address }),
    onChange: (listener) => {
      onNextHop = listener;
    },
  };
  const speaker = new Speaker({
    transport,
    clock: systemClock,
    log,
    bfd: makeBfd(log),
    restarting: start.restarting,
    forwardingKept: start.forwardingKept,
    ...(start.hasNextHops && { nextHops }),
    ...(start.hasSink && {
      sink: {
        apply: (batch) => port.postMessage({ type: 'sink', batch }),
        converged: (family) => port.postMessage({ type: 'converged', family }),
      },
    }),
  });
  const handle = speakerHandle(speaker);
  speaker.watch((event) => port.postMessage({ type: 'event', event }));
  port.on('message', (message) => {
    if (message.type === 'next-hop') onNextHop?.(message.address, message.state);
    else void answer(port, handle, message);
  });
}

async function answer(
  port: MessageEnd<FromWorker, ToWorker>,
  handle: SpeakerHandle,
  call: Extract<ToWorker, { type: 'call' }>,
): Promise<void> {
  try {
    const method = handle[call.method] as (...args: readonly unknown[]) => Promise<unknown>;
    port.postMessage({ type: 'result', id: call.id, value: await method(...call.args) });
  } catch (error) {
    port.postMessage({ type: 'failure', id: call.id, error: plainError(error) });
  }
}

function plainError(error: unknown): PlainError {
  if (isBrindleError(error)) {
    const { code, message, field, remedy } = error;
    return { code, message, field, remedy };
  }
  return { code: 'internal', message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

export function errorFromPlain(error: PlainError): BrindleError {
  return new BrindleError(error.code, error.message, { field: error.field, remedy: error.remedy });
}

function portLogger(port: MessageEnd<FromWorker, ToWorker>, context: object): Logger {
  const say = (level: 'debug' | 'info' | 'warn' | 'error') => (fields: object, message: string) =>
    port.postMessage({ type: 'log', level, fields: { ...context, ...fields }, message });
  return {
    debug: say('debug'),
    info: say('info'),
    warn: say('warn'),
    error: say('error'),
    child: (more) => portLogger(port, { ...context, ...more }),
  };
}
