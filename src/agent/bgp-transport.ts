// The speaker's Transport over real sockets (sys/tcp). In: requests to connect and to listen. Out: Connections whose
// handlers run on the event loop of the thread that made them.
// RFC 2385 (keys on listeners before a SYN comes), 5082 (TTL), 4271 section 4.2.
import { networkInterfaces } from 'node:os';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import type {
  Connection,
  ConnectionHandlers,
  ConnectRequest,
  Listener,
  ListenConfig,
  PasswordRule,
  Transport,
} from '#bgp/speaker/api.ts';
import { connectTcp, listenTcp, setConnectionOptions } from '#sys/tcp.ts';

/** Hundreds of neighbours connect at once after a restart. */
const BACKLOG = 1024;
/** Internetwork control (CS6), RFC 4594 section 3.1. */
const DSCP = 48;
/** A closing connection that its peer does not read from is cut off after this many milliseconds. */
const LINGER = 5_000;

class TcpConnection implements Connection {
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly #socket: Socket;
  #handlers: ConnectionHandlers | null = null;
  #error: Error | null = null;
  #closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.localAddress = plain(socket.localAddress);
    this.localPort = socket.localPort ?? 0;
    this.remoteAddress = plain(socket.remoteAddress);
    this.remotePort = socket.remotePort ?? 0;
    socket.setNoDelay(true);
    // Errors may come before handlers do; without a listener they would end the process.
    socket.on('error', (error) => {
      this.#error = error;
    });
    socket.on('close', () => {
      this.#closed = true;
      this.#handlers?.close(this.#error);
      this.#handlers = null;
    });
  }

  get backlog(): number {
    return this.#socket.writableLength;
  }

  start(handlers: ConnectionHandlers): void {
    this.#handlers = handlers;
    if (this.#closed) {
      queueMicrotask(() => handlers.close(this.#error));
      return;
    }
    this.#socket.on('data', (chunk: Buffer) => this.#handlers?.data(chunk));
    this.#socket.on('drain', () => this.#handlers?.drain());
    this.#socket.on('end', () => this.#socket.end());
    this.#socket.resume();
  }

  write(octets: Uint8Array): boolean {
    if (this.#closed || this.#socket.destroyed || this.#socket.writableEnded) return false;
    return this.#socket.write(octets);
  }

  end(): void {
    this.#handlers = null;
    if (this.#closed) return;
    // What the peer still sends is read and thrown away: closing over unread octets would send RST, and the peer
    // would lose the NOTIFICATION.
    this.#socket.resume();
    this.#socket.end();
    const timer = setTimeout(() => this.#socket.destroy(), LINGER);
    timer.unref();
    this.#socket.once('close', () => clearTimeout(timer));
  }

  destroy(): void {
    this.#handlers = null;
    this.#socket.destroy();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  setTtl(options: { readonly ttl?: number; readonly minTtl?: number }): void {
    setConnectionOptions(this.#socket, options);
  }
}

export const tcpTransport: Transport = {
  connect(request: ConnectRequest, done) {
    return connectTcp(
      {
        remoteAddress: request.address,
        remotePort: request.port,
        localAddress: request.localAddress,
        interfaceName: request.interface,
        md5Key: request.password,
        ttl: request.ttl,
        minTtl: request.minTtl,
        dscp: DSCP,
        timeoutMs: request.timeout,
      },
      (error, socket) => done(error, socket ? new TcpConnection(socket) : null),
    );
  },

  listen(config: ListenConfig, accept: (connection: Connection) => void): Listener {
    const listener = listenTcp({
      localAddress: config.address,
      localPort: config.port,
      backlog: BACKLOG,
      dscp: DSCP,
      freebind: true,
    });
    listener.server.on('connection', (socket: Socket) => accept(new TcpConnection(socket)));
    const isV4 = listener.address.family === 4;
    const keys = new Map<string, string>();
    return {
      address: config.address,
      port: listener.port,
      setPasswords(rules: readonly PasswordRule[]): void {
        const wanted = new Map(
          rules.filter((r) => r.peer.includes('.') === isV4).map((rule) => [rule.peer, rule.password]),
        );
        for (const peer of keys.keys()) {
          if (wanted.has(peer)) continue;
          listener.removeMd5Key(peer);
          keys.delete(peer);
        }
        for (const [peer, password] of wanted) {
          if (keys.get(peer) === password) continue;
          listener.setMd5Key(peer, password);
          keys.set(peer, password);
        }
      },
      close: () => listener.close(),
    };
  },

  isOwnAddress(address: string): boolean {
    return interfaceOf(address).length > 0;
  },

  siblings: interfaceOf,

  interfaceIndex(name: string): number {
    try {
      return Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'));
    } catch {
      return 0;
    }
  },
};

function interfaceOf(address: string): readonly string[] {
  for (const list of Object.values(networkInterfaces())) {
    const addresses = list?.map((entry) => plain(entry.address)) ?? [];
    if (addresses.includes(address)) return addresses;
  }
  return [];
}

/** Node writes an IPv4 peer of a dual-stack socket as `::ffff:1.2.3.4` and may add a zone. */
function plain(address: string | undefined): string {
  const text = (address ?? '').split('%')[0]!;
  return text.startsWith('::ffff:') && text.includes('.') ? text.slice(7) : text;
}
