// The agent's HTTP API on its Unix socket: answers from what it is given, keeps nothing.
// In: an AgentView. Out: a Hono application; errors as `ApiError` with a status that fits the code.
import { Hono } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { BrindleError, type ErrorCode } from '#base/errors.ts';
import type { AgentStatus, ApiError, EndpointStatus, Health, RouteStatus } from './types.ts';

export interface AgentView {
  health(): Health;
  status(): Promise<AgentStatus>;
  endpoints(): readonly EndpointStatus[];
  routes(): readonly RouteStatus[];
  /** Prometheus text. */
  metrics(): Promise<string>;
}

const STATUS_OF: Partial<Record<ErrorCode, ContentfulStatusCode>> = {
  'invalid-argument': 400,
  'invalid-resource': 400,
  'not-found': 404,
  'already-exists': 409,
  conflict: 409,
  unavailable: 503,
  timeout: 504,
  unsupported: 501,
};

export function agentApi(view: AgentView): Hono {
  const app = new Hono();
  app.onError((error, c) => c.json(apiError(error), STATUS_OF[codeOf(error)] ?? 500));
  app.notFound((c) => c.json(apiError(new BrindleError('not-found', `there is no ${c.req.path} here`)), 404));
  app.get('/v1/health', (c) => {
    const health = view.health();
    return c.json(health, health.ready ? 200 : 503);
  });
  app.get('/v1/status', async (c) => c.json(await view.status()));
  app.get('/v1/endpoints', (c) => c.json(view.endpoints()));
  app.get('/v1/routes', (c) => c.json(view.routes()));
  app.get('/metrics', async (c) => c.text(await view.metrics()));
  return app;
}

function codeOf(error: unknown): ErrorCode {
  return error instanceof BrindleError ? error.code : 'internal';
}

function apiError(error: Error): ApiError {
  const { field, remedy } = error instanceof BrindleError ? error : {};
  return {
    error: {
      code: codeOf(error),
      message: error.message,
      ...(field !== undefined && { field }),
      ...(remedy !== undefined && { remedy }),
    },
  };
}
