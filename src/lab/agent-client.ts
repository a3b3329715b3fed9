// The lab's side of an agent's local API: HTTP over its Unix socket.
import { request } from 'node:http';
import { BrindleError } from '#base/errors.ts';

export interface AgentAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** Throws `unavailable` when nobody listens, `timeout` after `limit` ms. */
export async function askAgent(socketPath: string, path: string, limit = 5000): Promise<AgentAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<AgentAnswer>();
  const call = request({ socketPath, path, agent: false, timeout: limit }, (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('end', () => {
      const text = Buffer.concat(chunks).toString();
      resolve({ status: response.statusCode ?? 0, body: parse(text) });
    });
    response.on('error', reject);
  });
  call.on('timeout', () => call.destroy(new BrindleError('timeout', `no answer from ${socketPath} in ${limit} ms`)));
  call.on('error', (error) => {
    reject(
      error instanceof BrindleError
        ? error
        : new BrindleError('unavailable', `the agent at ${socketPath} does not answer`, { cause: error }),
    );
  });
  call.end();
  return promise;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
