// Prometheus text of the speaker. Names follow GoBGP where it has one, so that dashboards carry over.
import type { PeerSummary } from './api.ts';
import { status, summary } from './queries.ts';
import type { Speaker } from './speaker.ts';

const STATES = ['idle', 'connect', 'active', 'open-sent', 'open-confirm', 'established'] as const;

type Labels = Readonly<Record<string, string>>;

class Text {
  readonly lines: string[] = [];

  metric(name: string, type: 'gauge' | 'counter', help: string, samples: readonly [Labels, number | null][]): void {
    this.lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [labels, value] of samples) {
      if (value === null) continue;
      const text = Object.entries(labels).map(([key, label]) => `${key}="${label.replaceAll(/["\\\n]/g, '\\$&')}"`);
      this.lines.push(`${name}${text.length > 0 ? `{${text.join(',')}}` : ''} ${value}`);
    }
  }
}

export function metricsText(speaker: Speaker): string {
  const out = new Text();
  const peers = summary(speaker);
  const entries = [...speaker.entries.values()];
  const each = (value: (p: PeerSummary) => number | null): [Labels, number | null][] =>
    peers.map((p) => [{ peer: p.name, address: p.address }, value(p)]);
  out.metric(
    'bgp_peer_state',
    'gauge',
    'FSM state, 1 idle to 6 established',
    each((p) => STATES.indexOf(p.state) + 1),
  );
  out.metric(
    'bgp_peer_uptime',
    'gauge',
    'seconds in Established',
    each((p) => (p.state === 'established' ? p.since / 1000 : null)),
  );
  out.metric(
    'bgp_peer_flop_count',
    'counter',
    'sessions lost',
    each((p) => p.flaps),
  );
  for (const kind of ['received', 'accepted', 'sent', 'stale'] as const) {
    const name = `bgp_routes_${kind === 'sent' ? 'advertised' : kind}`;
    const samples = peers.flatMap((p) =>
      p.families.map((f): [Labels, number] => [{ peer: p.name, family: f.family }, f[kind]]),
    );
    out.metric(name, 'gauge', `routes ${kind} by peer and family`, samples);
  }
  for (const direction of ['received', 'sent'] as const) {
    for (const kind of ['open', 'update', 'notification', 'keepalive', 'refresh'] as const) {
      const samples = entries.map(({ peer }): [Labels, number] => [{ peer: peer.name }, peer[direction][kind]]);
      out.metric(`bgp_${direction}_${kind}_total`, 'counter', `${kind} messages ${direction}`, samples);
    }
  }
  const perEntry = (value: (e: (typeof entries)[number]) => number | null): [Labels, number | null][] =>
    entries.map((e) => [{ peer: e.peer.name }, value(e)]);
  out.metric(
    'bgp_peer_out_queue_octets',
    'gauge',
    'octets not yet taken by the kernel',
    perEntry((e) => e.peer.queuedOctets),
  );
  out.metric(
    'bgp_peer_hold_margin_seconds',
    'gauge',
    'least time left on the hold timer',
    perEntry((e) => (e.peer.holdMargin === null ? null : e.peer.holdMargin / 1000)),
  );
  out.metric(
    'bgp_peer_last_error_code',
    'gauge',
    'code of the last NOTIFICATION',
    perEntry((e) => e.peer.lastReset?.code ?? null),
  );
  out.metric(
    'bgp_peer_last_error_subcode',
    'gauge',
    'subcode of the last NOTIFICATION',
    perEntry((e) => e.peer.lastReset?.subcode ?? null),
  );
  out.metric(
    'bgp_update_errors_total',
    'counter',
    'malformed UPDATEs by what was done',
    entries.flatMap((e): [Labels, number][] => [
      [{ peer: e.peer.name, verdict: 'discard' }, e.discarded],
      [{ peer: e.peer.name, verdict: 'withdraw' }, e.withdrawn],
    ]),
  );
  const s = status(speaker);
  out.metric('bgp_prefixes', 'gauge', 'prefixes with a best path', [
    [{ family: 'ipv4' }, s.prefixes.ipv4],
    [{ family: 'ipv6' }, s.prefixes.ipv6],
  ]);
  out.metric('bgp_paths', 'gauge', 'paths held', [
    [{ family: 'ipv4' }, s.paths.ipv4],
    [{ family: 'ipv6' }, s.paths.ipv6],
  ]);
  out.metric('bgp_attribute_sets', 'gauge', 'distinct attribute sets', [[{}, s.attributeSets]]);
  out.metric('bgp_update_groups', 'gauge', 'update groups', [[{}, s.updateGroups]]);
  out.metric('bgp_unknown_connections_total', 'counter', 'connections from addresses no peer has', [
    [{}, s.unknownConnections],
  ]);
  out.metric('bgp_converged', 'gauge', '1 once the wait after the start is over', [[{}, s.converged ? 1 : 0]]);
  return `${out.lines.join('\n')}\n`;
}
