// The transport of Docker's plugin protocol: POST with a JSON body to /Method, answer in JSON; `{"Err": TEXT}` with another
// status than 200 is a refusal, 404 means "not implemented". In: HTTP requests. Out: calls of the driver, one at a time
// for each endpoint, so that a repeated call finds the first one done.
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { BrindleError, errorText, isBrindleError } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import type { DockerDriver } from './driver.ts';
import {
  parseCreateEndpoint,
  parseCreateNetwork,
  parseEndpointReference,
  parseJoin,
  parseNetworkId,
  parseReleaseAddress,
  parseRequestAddress,
  parseRequestPool,
} from './requests.ts';

const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json';
const MAX_BODY = 1 << 20;

type Body = Readonly<Record<string, unknown>>;
type Method = (driver: DockerDriver, body: Body) => object | Promise<object>;

const nothing: Method = () => ({});

/** Methods that need no store: they are asked while dockerd starts. */
const FACTS: Readonly<Record<string, object>> = {
  'Plugin.Activate': { Implements: ['NetworkDriver', 'IpamDriver'] },
  'NetworkDriver.GetCapabilities': { Scope: 'local', ConnectivityScope: 'global', GwAllocChecker: true },
  'NetworkDriver.GwAllocCheck': { SkipIPv4: true, SkipIPv6: true },
  'IpamDriver.GetCapabilities': { RequiresMACAddress: false, RequiresRequestReplay: false },
  'IpamDriver.GetDefaultAddressSpaces': {
    LocalDefaultAddressSpace: 'BrindleLocal',
    GlobalDefaultAddressSpace: 'BrindleGlobal',
  },
};

const METHODS: Readonly<Record<string, Method>> = {
  'NetworkDriver.CreateNetwork': (driver, body) => driver.createNetwork(parseCreateNetwork(body)),
  'NetworkDriver.DeleteNetwork': (driver, body) => driver.deleteNetwork(parseNetworkId(body)),
  'NetworkDriver.CreateEndpoint': (driver, body) => driver.createEndpoint(parseCreateEndpoint(body)),
  'NetworkDriver.DeleteEndpoint': (driver, body) => driver.deleteEndpoint(parseEndpointReference(body)),
  'NetworkDriver.EndpointOperInfo': () => ({ Value: {} }),
  'NetworkDriver.Join': (driver, body) => driver.join(parseJoin(body)),
  'NetworkDriver.Leave': (driver, body) => driver.leave(parseEndpointReference(body)),
  'NetworkDriver.ProgramExternalConnectivity': nothing,
  'NetworkDriver.RevokeExternalConnectivity': nothing,
  'NetworkDriver.DiscoverNew': nothing,
  'NetworkDriver.DiscoverDelete': nothing,
  'IpamDriver.RequestPool': (driver, body) => driver.requestPool(parseRequestPool(body)),
  'IpamDriver.ReleasePool': nothing,
  'IpamDriver.RequestAddress': (driver, body) => driver.requestAddress(parseRequestAddress(body)),
  'IpamDriver.ReleaseAddress': (driver, body) => driver.releaseAddress(parseReleaseAddress(body)),
};

export interface PluginOptions {
  readonly driver: DockerDriver;
  readonly log: Logger;
  /** Resolves when calls can be served; throws `unavailable`. */
  readonly untilReady: () => Promise<void>;
  /** dockerd has loaded the driver: the first call after each of its starts. */
  readonly onActivate: () => void;
}

export function pluginListener(options: PluginOptions): RequestListener {
  const endpoints = new Map<string, Promise<unknown>>();
  /** After whatever is under way for the same endpoint. */
  const inTurn = async <T>(key: string, work: () => Promise<T>): Promise<T> => {
    const before = endpoints.get(key) ?? Promise.resolve();
    const mine = before.then(work, work);
    endpoints.set(key, mine);
    try {
      return await mine;
    } finally {
      if (endpoints.get(key) === mine) endpoints.delete(key);
    }
  };
  return (request, response) => {
    const name = (request.url ?? '').slice(1);
    answer(name, request)
      .then((value) => reply(response, 200, value))
      .catch((error: unknown) => {
        const status = isBrindleError(error, 'invalid-argument') || isBrindleError(error, 'unsupported') ? 400 : 500;
        options.log.warn({ call: name, error: errorText(error) }, 'Docker call refused');
        reply(response, error instanceof NotImplemented ? 404 : status, { Err: errorText(error) });
      });
  };

  async function answer(name: string, request: IncomingMessage): Promise<object> {
    if (request.method !== 'POST') throw new NotImplemented(`${request.method} ${request.url}`);
    const fact = Object.hasOwn(FACTS, name) ? FACTS[name] : undefined;
    const method = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined;
    const body = parseBody(await bodyOf(request));
    if (name === 'Plugin.Activate') options.onActivate();
    if (fact) return fact;
    if (!method) throw new NotImplemented(name);
    await options.untilReady();
    const { EndpointID } = body;
    const serve = async (): Promise<object> => method(options.driver, body);
    return typeof EndpointID === 'string' ? inTurn(EndpointID, serve) : serve();
  }
}

class NotImplemented extends Error {
  constructor(what: string) {
    super(`${what} is not implemented`);
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY) throw new BrindleError('invalid-argument', `the body is longer than ${MAX_BODY} octets`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseBody(text: string): Body {
  if (text.trim() === '' || text.trim() === 'null') return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new BrindleError('invalid-argument', 'the body is not JSON');
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Body;
  throw new BrindleError('invalid-argument', 'the body is not a JSON object');
}

function reply(response: ServerResponse, status: number, value: object): void {
  const text = JSON.stringify(value);
  response.writeHead(status, { 'content-type': CONTENT_TYPE, 'content-length': Buffer.byteLength(text) });
  response.end(text);
}
