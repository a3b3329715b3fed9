// The one question that is asked of Docker's own API: GET /containers/json (Docker Engine API 1.24 and later), over its
// Unix socket. In: ids of networks. Out: the containers on them, parsed.
import { request } from 'node:http';
import { BrindleError } from '#base/errors.ts';
import type { Engine, EngineContainer } from './dependencies.ts';

const TIMEOUT_MS = 10_000;
const MAX_ANSWER = 64 << 20;

export class DockerEngine implements Engine {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  async containers(networkIds: readonly string[]): Promise<readonly EngineContainer[]> {
    const filters = encodeURIComponent(JSON.stringify({ network: networkIds }));
    return parseContainers(await this.#get(`/containers/json?filters=${filters}`));
  }

  #get(path: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const fail = (reason: string): void => {
        reject(
          new BrindleError('unavailable', `Docker's API at ${this.#socketPath}: ${reason}`, {
            field: 'docker.engineSocket',
            remedy: 'name the socket of dockerd in docker.engineSocket of brindle.yaml',
          }),
        );
      };
      const call = request(
        { socketPath: this.#socketPath, path, headers: { host: 'docker' }, agent: false, timeout: TIMEOUT_MS },
        (response) => {
          const chunks: Buffer[] = [];
          let length = 0;
          response.on('data', (chunk: Buffer) => {
            length += chunk.length;
            if (length > MAX_ANSWER) call.destroy(new Error('the answer is too long'));
            else chunks.push(chunk);
          });
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString('utf8');
            if (response.statusCode !== 200) {
              fail(`status ${response.statusCode}: ${text.slice(0, 200)}`);
              return;
            }
            try {
              resolve(JSON.parse(text));
            } catch {
              fail('the answer is no JSON');
            }
          });
        },
      );
      call.on('timeout', () => call.destroy(new Error('no answer in time')));
      call.on('error', (error) => fail(error.message));
      call.end();
    });
  }
}

/** What is not as expected is left out: the endpoint is then looked for again. */
export function parseContainers(value: unknown): EngineContainer[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((item: unknown) => {
    const { Id, Names, Labels, NetworkSettings } = fields(item);
    const [first] = Array.isArray(Names) ? (Names as unknown[]) : [];
    if (typeof Id !== 'string' || typeof first !== 'string') return [];
    const endpoints = Object.entries(fields(fields(NetworkSettings)['Networks'])).flatMap(([network, settings]) => {
      const { EndpointID } = fields(settings);
      return typeof EndpointID === 'string' && EndpointID !== '' ? [{ endpointId: EndpointID, network }] : [];
    });
    const labels = Object.entries(fields(Labels)).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    );
    return [{ id: Id, name: first.replace(/^\//, ''), labels: Object.fromEntries(labels), endpoints }];
  });
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
