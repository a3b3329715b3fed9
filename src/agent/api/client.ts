// Speaks HTTP to an agent or speaker on its Unix socket. In: the socket's path. Out: parsed JSON, or a BrindleError.
import { type IncomingMessage, request } from 'node:http';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BrindleError, type ErrorCode } from '#base/errors.ts';
import type { ApiError } from './types.ts';

/** Where an agent listens when nobody says otherwise. */
export const DEFAULT_SOCKET = '/run/brindle/brindle.sock';

export interface CallOptions {
  readonly method?: 'GET' | 'POST';
  readonly body?: unknown;
  /** Milliseconds. Default 10 000. */
  readonly timeout?: number;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

export class ApiClient {
  readonly socketPath: string;

  /** `BRINDLE_SOCKET`, else the default. */
  constructor(socketPath: string = process.env['BRINDLE_SOCKET'] ?? DEFAULT_SOCKET) {
    this.socketPath = socketPath;
  }

  /** The answer as JSON. Throws `unavailable` when nobody listens, `timeout`, or the error that the agent answered. */
  async json<T>(path: string, options: CallOptions = {}): Promise<T> {
    const answer = await this.call(path, options);
    const body = parse(answer.text);
    if (answer.status >= 400) throw errorOf(body, answer.status, this.socketPath);
    return body as T;
  }

  /** The raw answer, whatever its status. */
  call(path: string, options: CallOptions = {}): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const timeout = options.timeout ?? 10_000;
    const call = request(
      {
        socketPath: this.socketPath,
        path,
        method: options.method ?? 'GET',
        agent: false,
        timeout,
        ...(options.body !== undefined && { headers: { 'content-type': 'application/json' } }),
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
        response.on('error', (error) => reject(this.#unavailable(error)));
      },
    );
    call.on('timeout', () =>
      call.destroy(new BrindleError('timeout', `no answer from ${this.socketPath} in ${timeout} ms`)),
    );
    call.on('error', (error) => reject(error instanceof BrindleError ? error : this.#unavailable(error)));
    call.end(options.body === undefined ? undefined : JSON.stringify(options.body));
    return promise;
  }

  /** Writes the octets of an answer to `out`, and ends it. An answer that is cut off is an error. */
  async download(path: string, out: Writable): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const call = request({ socketPath: this.socketPath, path, agent: false }, resolve);
    call.on('error', (error) => reject(this.#unavailable(error)));
    call.end();
    const response = await promise;
    const status = response.statusCode ?? 0;
    if (status >= 400) {
      const chunks = (await response.toArray()) as Buffer[];
      throw errorOf(parse(Buffer.concat(chunks).toString()), status, this.socketPath);
    }
    await pipeline(response, out);
  }

  /** Calls `onEvent` with each line of a stream of JSON lines until the stream ends or `signal` aborts. */
  async stream(path: string, onEvent: (event: unknown) => void, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const call = request({ socketPath: this.socketPath, path, agent: false, ...(signal && { signal }) }, (response) => {
      let rest = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) if (line !== '') onEvent(parse(line));
      });
      response.on('end', resolve);
      response.on('error', (error) => (signal?.aborted ? resolve() : reject(this.#unavailable(error))));
    });
    call.on('error', (error) => (signal?.aborted ? resolve() : reject(this.#unavailable(error))));
    call.end();
    return promise;
  }

  #unavailable(cause: Error): BrindleError {
    return new BrindleError('unavailable', `nobody answers on ${this.socketPath}: ${cause.message}`, {
      remedy: 'is the agent running? name its socket with --socket or BRINDLE_SOCKET',
      cause,
    });
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

function errorOf(body: unknown, status: number, socketPath: string): BrindleError {
  const error = (body as Partial<ApiError> | null)?.error;
  if (!error) return new BrindleError('internal', `${socketPath} answered with status ${status}: ${String(body)}`);
  return new BrindleError(error.code as ErrorCode, error.message, { field: error.field, remedy: error.remedy });
}
