// The BGP part of the local API, the same in the agent and in the standalone speaker.
// In: a Hono application and the speaker. Out: routes under /v1/bgp; answers are the types of bgp/speaker/api.ts.
//
//   GET  /v1/bgp/status            GET /v1/bgp/peers            GET /v1/bgp/peers/NAME
//   GET  /v1/bgp/routes?view=best|received|accepted|rejected|advertised&peer=&family=&within=&limit=
//   GET  /v1/bgp/route?prefix=     GET /v1/bgp/explain?prefix=&peer=
//   GET  /v1/bgp/dump?view=accepted|received|best  (MRT, octets)
//   POST /v1/bgp/clear {peer, mode}     POST /v1/bgp/plan {config} | {resources, mode}
//   GET  /v1/bgp/watch  (JSON lines)    GET /v1/bgp/metrics  (Prometheus)
import type { Hono } from 'hono';
import { stream } from 'hono/streaming';
import { BrindleError } from '#base/errors.ts';
import type {
  AddressFamily,
  ClearMode,
  DumpView,
  RoutesQuery,
  SpeakerConfig,
  SpeakerEvent,
  SpeakerHandle,
} from '#bgp/speaker/api.ts';
import { parseResource } from '#model/registry.ts';
import type { Resource } from '#model/resource.ts';
import type { ResourcePlan } from './types.ts';

const VIEWS: readonly RoutesQuery['view'][] = ['best', 'received', 'accepted', 'rejected', 'advertised'];
const FAMILIES: readonly AddressFamily[] = ['ipv4', 'ipv6'];
const DUMP_VIEWS: readonly DumpView[] = ['accepted', 'received', 'best'];
const MODES: readonly ClearMode[] = ['soft-in', 'soft-out', 'hard'];
const MOST_PATHS = 1_000_000;
/** Events a slow watcher may be behind before it is cut off. */
const WATCH_BACKLOG = 10_000;

/** What the agent knows besides: the standalone speaker has no resources. */
export interface ResourceBgp {
  explain: SpeakerHandle['explain'];
  planResources(resources: readonly Resource[], mode: 'apply' | 'delete'): Promise<ResourcePlan>;
}

export function bgpRoutes(app: Hono, speaker: SpeakerHandle, agent: ResourceBgp | null = null): void {
  app.get('/v1/bgp/status', async (c) => c.json(await speaker.status()));
  app.get('/v1/bgp/peers', async (c) => c.json(await speaker.summary()));
  app.get('/v1/bgp/peers/:name', async (c) => c.json(await speaker.peer(c.req.param('name'))));
  app.get('/v1/bgp/routes', async (c) => c.json(await speaker.routes(routesQuery(c.req.query()))));
  app.get('/v1/bgp/route', async (c) => c.json(await speaker.route(needed(c.req.query('prefix'), 'prefix'))));
  app.get('/v1/bgp/explain', async (c) =>
    c.json(await (agent ?? speaker).explain(needed(c.req.query('prefix'), 'prefix'), c.req.query('peer'))),
  );
  app.get('/v1/bgp/dump', async (c) => {
    const view = choice(c.req.query('view') ?? 'accepted', DUMP_VIEWS, 'view');
    const first = await speaker.dump(view, null);
    // Pulled, so that a slow reader holds up nobody; an error cuts the answer off, which the client sees.
    let piece = first;
    let sent = false;
    const body = new ReadableStream<Uint8Array>({
      async pull(out) {
        if (sent && piece.next !== null) piece = await speaker.dump(view, piece.next);
        else if (sent) {
          out.close();
          return;
        }
        sent = true;
        out.enqueue(piece.octets);
      },
    });
    return c.body(body, 200, { 'content-type': 'application/octet-stream' });
  });
  app.get('/v1/bgp/metrics', async (c) => c.text(await speaker.metrics()));
  app.post('/v1/bgp/clear', async (c) => {
    const body = await jsonBody(c.req.json());
    const { peer } = body;
    if (peer !== undefined && peer !== null && typeof peer !== 'string') {
      throw new BrindleError('invalid-argument', 'peer is not text', {
        field: 'peer',
        remedy: 'name a peer, or null for all',
      });
    }
    await speaker.clear(peer ?? null, choice(body['mode'], MODES, 'mode'));
    return c.json({});
  });
  app.post('/v1/bgp/plan', async (c) => {
    const body = await jsonBody(c.req.json());
    const { resources } = body;
    if (resources !== undefined) {
      if (!agent || !Array.isArray(resources)) {
        throw new BrindleError(
          'invalid-argument',
          agent ? 'resources is not a list' : 'this speaker has no resources',
          {
            field: 'resources',
            remedy: agent ? 'send a list of resources' : 'plan with a speaker file',
          },
        );
      }
      const parsed = resources.map((resource: unknown) => parseResource(resource));
      return c.json(await agent.planResources(parsed, choice(body['mode'] ?? 'apply', ['apply', 'delete'], 'mode')));
    }
    return c.json(await speaker.plan(body['config'] as SpeakerConfig));
  });
  app.get('/v1/bgp/watch', (c) => {
    c.header('content-type', 'application/x-ndjson');
    return stream(c, async (out) => {
      const queue: SpeakerEvent[] = [];
      let wake: (() => void) | null = null;
      const stop = speaker.watch((event) => {
        queue.push(event);
        wake?.();
      });
      out.onAbort(() => {
        stop();
        wake?.();
      });
      try {
        while (!out.aborted && queue.length < WATCH_BACKLOG) {
          const event = queue.shift();
          if (event) await out.writeln(JSON.stringify(event));
          else {
            const { promise, resolve } = Promise.withResolvers<void>();
            wake = resolve;
            await promise;
          }
        }
      } finally {
        stop();
      }
    });
  });
}

function routesQuery(query: Readonly<Record<string, string>>): RoutesQuery {
  const { view, peer, family, within, limit } = query;
  return {
    view: choice(view ?? 'best', VIEWS, 'view'),
    ...(peer !== undefined && { peer }),
    ...(family !== undefined && { family: choice(family, FAMILIES, 'family') }),
    ...(within !== undefined && { within }),
    ...(limit !== undefined && { limit: positive(limit) }),
  };
}

function choice<T extends string>(value: unknown, allowed: readonly T[], field: string): T {
  const found = allowed.find((word) => word === value);
  if (found !== undefined) return found;
  throw new BrindleError('invalid-argument', `${field} ${JSON.stringify(value)} is not known`, {
    field,
    remedy: `use one of ${allowed.join(', ')}`,
  });
}

function positive(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= MOST_PATHS) return value;
  throw new BrindleError('invalid-argument', `limit "${text}" is not in 1..${MOST_PATHS}`, { field: 'limit' });
}

function needed(value: string | undefined, field: string): string {
  if (value !== undefined && value !== '') return value;
  throw new BrindleError('invalid-argument', `${field} is missing`, { field, remedy: `add ?${field}=` });
}

async function jsonBody(body: Promise<unknown>): Promise<Record<string, unknown>> {
  let value: unknown;
  try {
    value = await body;
  } catch (error) {
    throw new BrindleError('invalid-argument', 'the body is not JSON', { cause: error });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new BrindleError('invalid-argument', 'the body is not a JSON object');
}
