// The Docker networks that are ours, in one small file that is written anew at every change: dockerd tells of a network
// once, and expects it to be known for ever. In: its path. Out: the networks by id.
// The file is written beside and renamed, so that a crash leaves the old or the new one.
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { BrindleError, errorText } from '#base/errors.ts';
import type { KnownNetwork, Networks } from './dependencies.ts';

export class NetworkFile implements Networks {
  readonly #path: string;
  readonly #networks: Map<string, KnownNetwork>;

  /** Throws `corrupt` when the file is there and does not read back. */
  constructor(path: string) {
    this.#path = path;
    this.#networks = new Map(read(path).map((network) => [network.id, network]));
  }

  get(id: string): KnownNetwork | null {
    return this.#networks.get(id) ?? null;
  }

  put(network: KnownNetwork): void {
    this.#write(new Map(this.#networks).set(network.id, network));
    this.#networks.set(network.id, network);
  }

  delete(id: string): void {
    if (!this.#networks.has(id)) return;
    const left = new Map(this.#networks);
    left.delete(id);
    this.#write(left);
    this.#networks.delete(id);
  }

  #write(networks: ReadonlyMap<string, KnownNetwork>): void {
    const beside = `${this.#path}.new`;
    try {
      const fd = openSync(beside, 'w', 0o600);
      try {
        writeSync(fd, `${JSON.stringify({ version: 1, networks: [...networks.values()] })}\n`);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(beside, this.#path);
    } catch (error) {
      throw new BrindleError('unavailable', `${this.#path} cannot be written: ${errorText(error)}`, {
        remedy: 'make room on the disk, or make it writable',
        cause: error,
      });
    }
  }
}

function read(path: string): KnownNetwork[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  try {
    const { version, networks } = JSON.parse(text) as { version: unknown; networks: KnownNetwork[] };
    if (
      version === 1 &&
      networks.every(({ id, mtu }) => typeof id === 'string' && (mtu === null || Number.isInteger(mtu)))
    )
      return networks;
  } catch {
    // said below
  }
  throw new BrindleError('corrupt', `${path} does not hold a list of Docker networks`, {
    remedy: 'remove it, and create the Docker networks anew',
  });
}
