// A speaker of this thread behind the interface that all of them have.
import type { SpeakerHandle } from './api.ts';
import { metricsText } from './metrics.ts';
import { dumpPiece } from './mrt-dump.ts';
import { planChange } from './plan.ts';
import * as queries from './queries.ts';
import type { Speaker } from './speaker.ts';

export function speakerHandle(speaker: Speaker): SpeakerHandle {
  // Errors become rejections, as they are with a speaker in another thread.
  return {
    configure: async (config) => speaker.configure(config),
    plan: async (config) => planChange(speaker.config, config),
    setLocalRoutes: async (routes) => speaker.setLocalRoutes(routes),
    status: async () => queries.status(speaker),
    summary: async () => queries.summary(speaker),
    peer: async (name) => queries.peerDetail(speaker, name),
    routes: async (query) => queries.routes(speaker, query),
    route: async (prefix) => queries.route(speaker, prefix),
    explain: async (prefix, peer) => queries.explain(speaker, prefix, peer),
    dump: async (view, cursor) => dumpPiece(speaker, view, cursor),
    clear: async (peer, mode) => speaker.clear(peer, mode),
    metrics: async () => metricsText(speaker),
    watch: (listener) => speaker.watch(listener),
    stop: async (mode, words) => speaker.stop(mode, words),
  };
}
