// `brindle bgp plan -f FILE`: what resources, or a speaker's file, would do to the BGP of one host. Changes nothing.
// In: manifests as `brindle apply` takes them, or a speaker file. Out: sessions and routes that would change.
import { readFileSync, statSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import type { ApiClient } from '#agent/api/client.ts';
import type { FabricView, ResourcePlan, SessionChange } from '#agent/api/types.ts';
import type { ConfigPlan } from '#bgp/speaker/api.ts';
import { parseSpeakerFile } from '#bgp/speaker/config-file.ts';
import { formatTable } from '../format/table.ts';
import { styled, type Style } from '../format/style.ts';
import { toJson } from '../format/yaml.ts';
import { readManifests } from '../manifests.ts';

export interface PlanFlags {
  readonly file: readonly string[];
  readonly delete?: boolean;
  readonly output: 'table' | 'json';
}

/** Asks the agent or speaker and prints. Throws what does not parse, and what the API answers. */
export async function showPlan(api: ApiClient, flags: PlanFlags): Promise<void> {
  const [file = ''] = flags.file;
  const speaker = flags.file.length === 1 ? speakerText(file) : null;
  const body = speaker
    ? { config: parseSpeakerFile(speaker).config }
    : {
        resources: readManifests(flags.file, { warn: true }).map(({ resource }) => resource),
        mode: flags.delete ? 'delete' : 'apply',
      };
  const answer = await api.json<ConfigPlan | ResourcePlan>('/v1/bgp/plan', { method: 'POST', body });
  if (flags.output === 'json') process.stdout.write(`${toJson(answer).trimEnd()}\n`);
  else process.stdout.write(`${('changes' in answer ? configPlan(answer) : resourcePlan(answer)).join('\n')}\n`);
}

/** The text of a speaker file; null when it is a folder, standard input or a file of resources, which have a `kind`. */
function speakerText(path: string): string | null {
  if (path === '-' || !(statSync(path, { throwIfNoEntry: false })?.isFile() ?? false)) return null;
  const text = readFileSync(path, 'utf8');
  const [document] = parseAllDocuments(text);
  return document && 'has' in document && (document.has('kind') || document.has('apiVersion')) ? null : text;
}

const STYLES: Readonly<Record<SessionChange['effect'], Style>> = {
  added: 'green',
  removed: 'red',
  live: 'dim',
  're-evaluate': 'yellow',
  reset: 'red',
};

function configPlan({ changes, speakerFields }: ConfigPlan): string[] {
  const lines = speakerFields.length > 0 ? [`the speaker's own: ${speakerFields.join(', ')}`] : [];
  if (changes.length === 0) return [...lines, 'no peer is touched'];
  const rows = changes.map((c) => [c.peer, styled(STYLES[c.effect], c.effect), c.fields.join(', ')]);
  return [...lines, formatTable(['PEER', 'EFFECT', 'BECAUSE OF'], rows)];
}

function resourcePlan(plan: ResourcePlan): string[] {
  const lines: string[] = [];
  if (plan.reason !== null) lines.push(styled('red', `this host would get no configuration: ${plan.reason}`));
  const [before, after] = [fabricText(plan.fabric.before), fabricText(plan.fabric.after)];
  if (before !== after) lines.push(`sessions between hosts: ${before} -> ${after}`);
  if (plan.speakerFields.length > 0) lines.push(`the speaker's own: ${plan.speakerFields.join(', ')}`);
  if (plan.sessions.length > 0) {
    const rows = plan.sessions.map((change) => [
      change.peer,
      styled(STYLES[change.effect], change.effect) + (change.afterOthers ? ' when others carry its routes' : ''),
      `${change.accepted}/${change.sent}`,
      change.fields.join(', '),
    ]);
    lines.push(formatTable(['PEER', 'EFFECT', 'ACCEPTED/SENT', 'BECAUSE OF'], rows).trimEnd());
  }
  lines.push(`${plan.unchangedSessions} sessions are not touched`);
  if (plan.ownRoutes.length > 0) {
    const rows = plan.ownRoutes.map(({ prefix, effect, source }) => [prefix, effect, source]);
    lines.push(formatTable(['OWN ROUTE', 'EFFECT', 'SOURCE'], rows).trimEnd());
  } else lines.push('the routes of this host do not change');
  for (const problem of plan.newProblems) lines.push(styled('yellow', `not honoured: ${problem}`));
  return lines;
}

function fabricText({ mode, reflectors }: FabricView): string {
  if (mode === 'off') return 'none';
  return mode === 'mesh' ? 'full mesh' : `reflectors ${reflectors.join(', ')}`;
}
