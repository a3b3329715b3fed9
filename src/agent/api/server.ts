// The agent's HTTP API on its Unix socket: answers from what it is given, keeps nothing.
// In: an AgentView. Out: a Hono application; errors as `ApiError` with a status that fits the code.
import { Hono } from 'hono';
import { answerErrors } from './errors.ts';
import type {
  AgentStatus,
  EndpointStatus,
  Health,
  IpamDrain,
  PolicyCounter,
  PolicyState,
  RouteStatus,
} from './types.ts';

export interface AgentView {
  health(): Health;
  status(): Promise<AgentStatus>;
  endpoints(): readonly EndpointStatus[];
  routes(): readonly RouteStatus[];
  /** Writes a damaged IPAM journal anew from what can be read of it; addresses are handed out again then. */
  rebuildIpam(): Promise<void>;
  /** Hands back every lease without an address in use. */
  drainIpam(): Promise<IpamDrain>;
  policyCounters(): Promise<readonly PolicyCounter[]>;
  /** Of a moment when all that is told is in force, as far as it is not among the failures. */
  policyState(): Promise<PolicyState>;
  /** Prometheus text. */
  metrics(): Promise<string>;
}

export function agentApi(view: AgentView): Hono {
  const app = new Hono();
  answerErrors(app);
  app.get('/v1/health', (c) => {
    const health = view.health();
    return c.json(health, health.ready ? 200 : 503);
  });
  app.get('/v1/status', async (c) => c.json(await view.status()));
  app.get('/v1/endpoints', (c) => c.json(view.endpoints()));
  app.get('/v1/routes', (c) => c.json(view.routes()));
  app.post('/v1/ipam/rebuild', async (c) => {
    await view.rebuildIpam();
    return c.json({});
  });
  app.post('/v1/ipam/drain', async (c) => c.json(await view.drainIpam()));
  app.get('/v1/policy/counters', async (c) => c.json(await view.policyCounters()));
  app.get('/v1/policy/state', async (c) => c.json(await view.policyState()));
  app.get('/metrics', async (c) => c.text(await view.metrics()));
  return app;
}
