// The speaker in the agent's own thread, behind the handle that a speaker in another thread has.
import { systemClock } from '#base/clock.ts';
import type { Logger } from '#base/log.ts';
import type { LocalRoute, NextHopTracker, RouteSink, SpeakerConfig, SpeakerHandle } from '#bgp/speaker/api.ts';
import { Speaker } from '#bgp/speaker/speaker.ts';
import { tcpTransport } from './bgp-transport.ts';

export function inThreadSpeaker(options: {
  readonly sink: RouteSink;
  readonly nextHops: NextHopTracker;
  readonly log: Logger;
}): SpeakerHandle {
  const speaker = new Speaker({ transport: tcpTransport, clock: systemClock, forwardingKept: true, ...options });
  return {
    configure: async (config: SpeakerConfig) => speaker.configure(config),
    setLocalRoutes: async (routes: readonly LocalRoute[]) => speaker.setLocalRoutes(routes),
    summary: async () => [...speaker.entries.values()].map((entry) => ({ name: entry.config.name, state: entry.peer.state })),
    metrics: async () => '',
    stop: async (mode: 'restart' | 'shutdown') => speaker.stop(mode),
  } as unknown as SpeakerHandle;
}
