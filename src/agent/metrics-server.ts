// Metrics over TCP, for Prometheus: `GET /metrics` and nothing else of the API, which stays on the Unix socket.
// In: where to listen, what makes the text. A port that cannot be had is reported and does not keep the agent from its work.
import { createServer, type Server, type ServerResponse } from 'node:http';
import { errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';

export interface MetricsServerOptions {
  readonly listen: string;
  /** 0: any free one. */
  readonly port: number;
  /** Prometheus text. */
  readonly metrics: () => Promise<string>;
  readonly log: Logger;
}

export class MetricsServer {
  readonly #options: MetricsServerOptions;
  readonly #server: Server;

  constructor(options: MetricsServerOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => {
      if (request.method !== 'GET' || request.url?.split('?')[0] !== '/metrics') {
        response.writeHead(404).end('only GET /metrics is here\n');
      } else void this.#answer(response);
    });
  }

  /** The port that it listens on; null when it could not. */
  async start(): Promise<number | null> {
    const { listen, port, log } = this.#options;
    const { promise, resolve } = Promise.withResolvers<number | null>();
    this.#server.once('error', (error) => {
      log.error({ listen, port, error: errorText(error) }, 'metrics cannot be served');
      resolve(null);
    });
    this.#server.listen(port, listen, () => {
      const address = this.#server.address();
      resolve(typeof address === 'object' && address ? address.port : null);
    });
    return promise;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #answer(response: ServerResponse): Promise<void> {
    try {
      const text = await this.#options.metrics();
      response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text);
    } catch (error) {
      response.writeHead(500).end(`${errorText(error)}\n`);
    }
  }
}
