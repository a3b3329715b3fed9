// What a change of resources would do to this host's BGP. Changes nothing.
// In: the plans before and after, the speaker. Out: sessions and routes that would change, as plain data for the API.
import type { LocalRoute, PeerSummary, SpeakerHandle } from '#bgp/speaker/api.ts';
import { planChange, same } from '#bgp/speaker/plan.ts';
import type { FabricView, OwnRouteChange, ResourcePlan, SessionChange } from '../api/types.ts';
import type { BgpPlan } from './plan.ts';

export async function resourcePlan(before: BgpPlan, after: BgpPlan, speaker: SpeakerHandle): Promise<ResourcePlan> {
  const summaries = new Map((before.config ? await speaker.summary() : []).map((peer) => [peer.name, peer]));
  const { changes, speakerFields } = after.config
    ? planChange(before.config, after.config)
    : { changes: [], speakerFields: [] }; // what runs goes on until the agent is stopped
  const sessions = changes.map((change): SessionChange => {
    const moves = change.effect === 'removed' && before.fabric.sessions.has(change.peer) && after.fabric.mode !== 'off';
    return { ...change, ...counts(summaries.get(change.peer)), ...(moves && { afterOthers: true }) };
  });
  const touched = new Set(changes.map((change) => change.peer));
  return {
    reason: after.config ? null : after.reason,
    sessions,
    unchangedSessions: [...(after.config?.peers ?? []), ...(after.config?.peerRanges ?? [])].filter(
      (peer) => !touched.has(peer.name),
    ).length,
    speakerFields,
    ownRoutes: routeChanges(before.routes, after.routes),
    fabric: { before: fabricView(before), after: fabricView(after) },
    newProblems: after.problems.filter((problem) => !before.problems.includes(problem)),
  };
}

function counts(summary: PeerSummary | undefined): { accepted: number; sent: number } {
  const sum = (of: 'accepted' | 'sent'): number => (summary?.families ?? []).reduce((n, f) => n + f[of], 0);
  return { accepted: sum('accepted'), sent: sum('sent') };
}

export function routeChanges(before: readonly LocalRoute[], after: readonly LocalRoute[]): OwnRouteChange[] {
  const old = new Map(before.map((route) => [route.prefix, route]));
  const wanted = new Map(after.map((route) => [route.prefix, route]));
  const change = (route: LocalRoute, effect: OwnRouteChange['effect']): OwnRouteChange => ({
    prefix: route.prefix,
    effect,
    source: route.source ?? 'static',
  });
  return [
    ...before.filter((route) => !wanted.has(route.prefix)).map((route) => change(route, 'withdrawn')),
    ...after.flatMap((route) => {
      const known = old.get(route.prefix);
      if (!known) return [change(route, 'announced')];
      return same(known, route) ? [] : [change(route, 'changed')];
    }),
  ];
}

function fabricView({ fabric }: BgpPlan): FabricView {
  return { mode: fabric.mode, reflectors: fabric.reflectors };
}
