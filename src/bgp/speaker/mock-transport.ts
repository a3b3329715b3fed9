// A simulated network for speakers: connections between addresses, delivered in order after a delay of the clock.
// In: what speakers write. Out: what their peers read. For tests and simulations; no sockets, time by the clock given.
import type { Clock } from '#base/clock.ts';
import { BrindleError } from '#base/errors.ts';
import type {
  Connection,
  ConnectionHandlers,
  ConnectRequest,
  Listener,
  ListenConfig,
  PasswordRule,
  Transport,
} from './api.ts';

/** Octets a connection holds unread before `write` says stop. */
const WINDOW = 64 * 1024;
const FIRST_EPHEMERAL_PORT = 49152;

class MockConnection implements Connection {
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  other: MockConnection | null = null;
  open = true;
  readonly #network: MockNetwork;
  #handlers: ConnectionHandlers | null = null;
  /** Octets that arrived and were not read: null is the end of the stream. */
  #inbox: (Uint8Array | null)[] = [];
  #inboxOctets = 0;
  #paused = false;
  #blocked = false;
  #ended = false;

  constructor(network: MockNetwork, local: readonly [string, number], remote: readonly [string, number]) {
    this.#network = network;
    [this.localAddress, this.localPort] = local;
    [this.remoteAddress, this.remotePort] = remote;
  }

  get backlog(): number {
    return this.other ? this.other.#inboxOctets : 0;
  }

  start(handlers: ConnectionHandlers): void {
    this.#handlers = handlers;
    this.#network.soon(() => this.#read());
  }

  write(octets: Uint8Array): boolean {
    if (!this.open || this.#ended) return false;
    const { other } = this;
    if (!other) return true;
    other.#inboxOctets += octets.length;
    this.#network.deliver(this, () => other.#receive(octets.slice()));
    this.#blocked = other.#inboxOctets >= WINDOW;
    return !this.#blocked;
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#handlers = null;
    const { other } = this;
    if (other) this.#network.deliver(this, () => other.#receive(null));
  }

  destroy(): void {
    this.open = false;
    this.end();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#network.soon(() => this.#read());
  }

  setTtl(): void {}

  #receive(octets: Uint8Array | null): void {
    this.#inbox.push(octets);
    this.#read();
  }

  #read(): void {
    while (this.#handlers && !this.#paused && this.#inbox.length > 0) {
      const octets = this.#inbox.shift()!;
      if (octets === null) {
        this.open = false;
        const handlers = this.#handlers;
        this.#handlers = null;
        handlers.close(null);
        return;
      }
      this.#inboxOctets -= octets.length;
      this.#handlers.data(octets);
      const { other } = this;
      if (other !== null && other.#blocked && this.#inboxOctets === 0) {
        other.#blocked = false;
        this.#network.soon(() => other.#handlers?.drain());
      }
    }
  }
}

interface MockListener {
  readonly address: string;
  readonly port: number;
  readonly accept: (connection: Connection) => void;
  passwords: readonly PasswordRule[];
}

/** The network: make one, and a transport for each speaker. */
export class MockNetwork {
  /** Milliseconds a message takes. */
  delay = 1;
  readonly #clock: Clock;
  readonly #listeners: MockListener[] = [];
  readonly #cut = new Set<string>();
  #port = FIRST_EPHEMERAL_PORT;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The network as the host with these addresses sees it; the first one is its source address. */
  transport(...addresses: readonly string[]): Transport {
    return {
      connect: (request, done) => this.#connect(addresses[0] ?? '', request, done),
      listen: (config, accept) => this.#listen(config, addresses, accept),
      isOwnAddress: (address) => addresses.includes(address),
      interfaceIndex: () => 1,
      siblings: (address) => (addresses.includes(address) ? addresses : []),
    };
  }

  /** Loses everything between two addresses, in silence; or mends it. */
  cut(a: string, b: string, broken = true): void {
    for (const key of [`${a} ${b}`, `${b} ${a}`]) {
      if (broken) this.#cut.add(key);
      else this.#cut.delete(key);
    }
  }

  soon(callback: () => void): void {
    this.#clock.after(0, callback);
  }

  deliver(from: MockConnection, callback: () => void): void {
    this.#clock.after(this.delay, () => {
      if (!this.#cut.has(`${from.localAddress} ${from.remoteAddress}`)) callback();
    });
  }

  #connect(
    own: string,
    request: ConnectRequest,
    done: (error: Error | null, connection: Connection | null) => void,
  ): { cancel(): void } {
    let cancelled = false;
    const source = request.localAddress ?? own;
    const timer = this.#clock.after(this.delay, () => {
      if (cancelled || this.#cut.has(`${source} ${request.address}`)) return;
      const listener = this.#listeners.find((l) => l.address === request.address && l.port === request.port);
      if (!listener) {
        done(new BrindleError('unavailable', `${request.address} port ${request.port} refused the connection`), null);
        return;
      }
      const wanted = listener.passwords.find((rule) => rule.peer === source)?.password;
      if (wanted !== request.password) return; // as the kernel: no answer
      const port = this.#port++;
      const near = new MockConnection(this, [source, port], [request.address, request.port]);
      const far = new MockConnection(this, [request.address, request.port], [source, port]);
      near.other = far;
      far.other = near;
      done(null, near);
      this.#clock.after(this.delay, () => listener.accept(far));
    });
    return {
      cancel: () => {
        cancelled = true;
        timer.cancel();
      },
    };
  }

  #listen(config: ListenConfig, addresses: readonly string[], accept: (connection: Connection) => void): Listener {
    const any = config.address === '0.0.0.0' || config.address === '::';
    const made = addresses
      .filter((a) => any || a === config.address)
      .map((address): MockListener => ({ address, port: config.port, accept, passwords: [] }));
    this.#listeners.push(...made);
    return {
      address: config.address,
      port: config.port,
      setPasswords(rules) {
        for (const listener of made) listener.passwords = rules;
      },
      close: () => {
        for (const listener of made) this.#listeners.splice(this.#listeners.indexOf(listener), 1);
      },
    };
  }
}
