// The way to etcd: one connection at a time to one of several endpoints, logged in, replaced when it fails. In: requests.
// Out: responses, or one BrindleError after patience has run out. Lists of endpoints are tried from a random one on, so
// that many hosts spread over the members.
//
// Traps: a request that got no answer may have been carried out, so whatever is sent here must bear being sent twice.
// A member without a leader answers "no leader" only when asked with `hasleader`; without it, it keeps a watch waiting for
// ever. grpc-js gives the address as the TLS server name, and Node refuses one that is an IP address: another name goes out
// then, and the certificate is checked against the address. Times are measured by the monotonic clock, not by gRPC deadlines, which follow the wall clock. Certificates and the
// password are read for each new connection, because they get replaced.
import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { BrindleError } from '#base/errors.ts';
import { type EtcdConfig, type Endpoint, parseEndpoints, readSecrets } from './config.ts';
import { etcdError, type GrpcFailure, grpcFailure, neverConnected, reactionTo } from './errors.ts';
import {
  type EtcdMethods,
  etcdMethods,
  type Method,
  type ResponseHeader,
  type WatchRequest,
  type WatchResponse,
} from './messages.ts';

export interface EtcdTimes {
  /** ms for one answer. */
  readonly attempt: number;
  /** ms for all attempts at one request, and for a watch to come back. */
  readonly patience: number;
}

export const DEFAULT_TIMES: EtcdTimes = { attempt: 5000, patience: 12_000 };

const FIRST_DELAY = 50;
const MAX_DELAY = 1000;
/** When nobody even takes the connection, there is no election to wait for. */
const REFUSED_PATIENCE = 1000;
const LOGINS = 2;

const CHANNEL_OPTIONS = {
  // A watch that is quiet must notice that its member is gone. etcd refuses more than one ping in 5 s.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.max_receive_message_length': -1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
  // Connections are replaced on purpose: the next one must not be the shared old one, nor wait for its back-off.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.enable_retries': 0,
  'grpc.service_config_disable_resolution': 1,
};

export interface WatchStream {
  onData: (response: WatchResponse) => void;
  /** Called once, also when the connection was given up; not after `cancel`. */
  onEnd: (error: unknown) => void;
}

export class Connection {
  readonly endpoint: Endpoint;
  readonly #client: Client;
  readonly #methods: EtcdMethods;
  readonly #metadata = new Metadata();
  readonly #closers = new Set<() => void>();
  open = true;

  constructor(endpoint: Endpoint, client: Client, methods: EtcdMethods) {
    this.endpoint = endpoint;
    this.#client = client;
    this.#methods = methods;
    this.#metadata.set('hasleader', 'true');
  }

  async logIn(name: string, password: string, timeout: number): Promise<void> {
    try {
      const { token } = await this.call(this.#methods.authenticate, { name, password }, timeout);
      this.#metadata.set('token', token);
    } catch (error) {
      // A password may be configured before authentication is switched on.
      if (!grpcFailure(error).details.includes('authentication is not enabled')) throw error;
    }
  }

  call<Request, Response>(method: Method<Request, Response>, request: Request, timeout: number): Promise<Response> {
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.encode,
        method.decode,
        request,
        this.#metadata,
        (error, response) => {
          clearTimeout(timer);
          if (error) reject(error);
          else resolve(response as Response);
        },
      );
      const timer = setTimeout(() => call.cancel(), timeout);
    });
  }

  /** Returns what ends the stream. */
  watch(request: WatchRequest, stream: WatchStream): () => void {
    const { path, encode, decode } = this.#methods.watch;
    const call = this.#client.makeBidiStreamRequest(path, encode, decode, this.#metadata);
    let over = false;
    const finish = (tell: unknown): void => {
      if (over) return;
      over = true;
      this.#closers.delete(close);
      call.cancel();
      if (tell !== null) stream.onEnd(tell);
    };
    const close = (): void => finish({ code: 14, details: 'the connection was given up' });
    call.on('data', (response: WatchResponse) => {
      if (!over) stream.onData(response);
    });
    call.on('error', (error: unknown) => finish(error));
    call.on('end', () => finish({ code: 14, details: 'the stream has ended' }));
    this.#closers.add(close);
    call.write(request);
    return () => finish(null);
  }

  close(): void {
    this.open = false;
    for (const close of this.#closers) close();
    this.#client.close();
  }
}

export class EtcdClient {
  readonly config: EtcdConfig;
  readonly prefix: string;
  readonly times: EtcdTimes;
  readonly methods = etcdMethods();
  readonly #endpoints: readonly Endpoint[];
  #next: number;
  #current: Promise<Connection> | null = null;
  #ending = false;
  #closed = false;
  #clusterId: number | null = null;

  /** Errors: `invalid-argument`. Connects with the first request. */
  constructor(
    config: EtcdConfig,
    prefix: string,
    times: EtcdTimes = DEFAULT_TIMES,
    random: () => number = Math.random,
  ) {
    this.config = config;
    this.prefix = prefix;
    this.times = times;
    this.#endpoints = parseEndpoints(config);
    this.#next = Math.floor(random() * this.#endpoints.length);
  }

  /** Tells clusters apart; null before the first answer. */
  get clusterId(): number | null {
    return this.#clusterId;
  }

  get endpoints(): string {
    return this.#endpoints.map(({ address }) => address).join(', ');
  }

  /**
   * Sends until there is an answer. `again` is true when an earlier attempt may have been carried out.
   * Errors: `unavailable`, `permission`, `compacted`, and what readSecrets throws.
   */
  async call<Request, Response extends { readonly header: ResponseHeader }>(
    method: Method<Request, Response>,
    request: Request,
  ): Promise<{ response: Response; again: boolean }> {
    const started = performance.now();
    let again = false;
    let onlyRefused = true;
    let logins = 0;
    for (let attempt = 0; ; attempt++) {
      let connection: Connection | null = null;
      let failure: GrpcFailure;
      let cause: unknown;
      try {
        connection = await this.connection();
        const response = await connection.call(method, request, this.times.attempt);
        this.#clusterId = response.header.clusterId;
        return { response, again };
      } catch (error) {
        if (error instanceof BrindleError) throw error;
        failure = grpcFailure(error);
        cause = error;
      }
      const refused = neverConnected(failure);
      if (connection !== null && !refused) again = true;
      onlyRefused &&= refused;
      const spent = performance.now() - started;
      const reaction = reactionTo(failure);
      const patience = onlyRefused ? Math.min(REFUSED_PATIENCE, this.times.patience) : this.times.patience;
      if (
        reaction === 'give-up' ||
        this.#ending ||
        spent > patience ||
        (reaction === 'log-in-again' && ++logins > LOGINS)
      ) {
        throw this.error(failure, cause);
      }
      if (connection && reaction !== 'later') this.giveUp(connection, reaction === 'elsewhere');
      await delay(retryDelay(attempt));
    }
  }

  error(failure: GrpcFailure, cause?: unknown): BrindleError {
    return etcdError(failure, { endpoint: this.endpoints, prefix: this.prefix, username: this.config.username }, cause);
  }

  /** The connection in use, else a new one. Throws gRPC's errors and BrindleErrors. */
  connection(): Promise<Connection> {
    if (this.#closed) return Promise.reject(new BrindleError('unavailable', 'the connection to etcd is closed'));
    if (this.#current) return this.#current;
    const connecting = this.#connect();
    this.#current = connecting;
    connecting.catch(() => {
      if (this.#current === connecting) this.#current = null;
    });
    return connecting;
  }

  /** Never to be used again. @param elsewhere the next connection goes to the next endpoint. */
  giveUp(connection: Connection, elsewhere: boolean): void {
    if (!connection.open) return;
    connection.close();
    this.#current = null;
    if (elsewhere) this.#next++;
  }

  /** What runs may end, and is not sent again. */
  stopRetrying(): void {
    this.#ending = true;
  }

  close(): void {
    this.#ending = true;
    this.#closed = true;
    this.#current?.then(
      (connection) => connection.close(),
      () => undefined,
    );
    this.#current = null;
  }

  async #connect(): Promise<Connection> {
    const endpoint = this.#endpoints[this.#next % this.#endpoints.length]!;
    const { username } = this.config;
    const secrets = readSecrets(this.config);
    let client: Client;
    try {
      const ip = ipOf(endpoint);
      const verify =
        ip === null ? {} : { checkServerIdentity: (_: string, cert: PeerCertificate) => checkServerIdentity(ip, cert) };
      const security = endpoint.tls
        ? credentials.createSsl(secrets.ca, secrets.key, secrets.cert, verify)
        : credentials.createInsecure();
      const name = ip === null ? {} : { 'grpc.ssl_target_name_override': 'etcd' };
      client = new Client(endpoint.address, security, { ...CHANNEL_OPTIONS, ...name });
    } catch (error) {
      throw new BrindleError(
        'invalid-argument',
        `the certificates for etcd cannot be used: ${(error as Error).message}`,
        {
          field: 'store.etcd.ca',
          remedy: 'ca, cert and key must be PEM files that belong together',
          cause: error,
        },
      );
    }
    const connection = new Connection(endpoint, client, this.methods);
    if (username === undefined || secrets.password === null) return connection;
    try {
      await connection.logIn(username, secrets.password, this.times.attempt);
      return connection;
    } catch (error) {
      connection.close();
      if (reactionTo(grpcFailure(error)) === 'elsewhere') this.#next++;
      throw error;
    }
  }
}

function ipOf({ address }: Endpoint): string | null {
  const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '');
  return isIP(host) === 0 ? null : host;
}

/** ms, with a random part so that many do not come back at once. */
export function retryDelay(attempt: number): number {
  const limit = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** Math.min(attempt, 10));
  return limit / 2 + (Math.random() * limit) / 2;
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
