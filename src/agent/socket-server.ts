// The agent's one Unix socket. It speaks the CNI protocol and HTTP; the first octets of a connection tell which.
// In: a path, a handler for each. Out: connections handed to the right one. Only root can connect (mode 0600).
import { createServer as createHttpServer, type RequestListener, type Server as HttpServer } from 'node:http';
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { BrindleError } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import { isCniConnection } from '#cni/protocol.ts';

/** A connection that says nothing for this long, in ms, before it is known what it speaks, is closed. */
const FIRST_WORD_TIMEOUT = 10_000;
/** The runtime may start hundreds of containers at once, each with a connection of its own. */
const BACKLOG = 1_024;

export interface SocketServerOptions {
  readonly path: string;
  readonly onCni: (socket: Socket, firstChunk: Buffer) => void;
  readonly onHttp: RequestListener;
  readonly log: Logger;
}

export class SocketServer {
  readonly #options: SocketServerOptions;
  readonly #server: Server;
  readonly #http: HttpServer;
  readonly #connections = new Set<Socket>();

  constructor(options: SocketServerOptions) {
    this.#options = options;
    this.#http = createHttpServer(options.onHttp);
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** Listens. Throws `already-exists` when another agent answers on the path; a dead socket file is replaced. */
  async listen(): Promise<void> {
    const { path } = this.#options;
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    if (await answers(path)) {
      throw new BrindleError('already-exists', `another agent answers on ${path}`, {
        remedy: 'stop it, or give this one a runDirectory of its own',
      });
    }
    rmSync(path, { force: true });
    await new Promise<void>((done, fail) => {
      this.#server.once('error', fail);
      this.#server.listen({ path, backlog: BACKLOG }, () => {
        this.#server.off('error', fail);
        done();
      });
    });
    chmodSync(path, 0o600);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((done) => this.#server.close(() => done()));
    for (const socket of this.#connections) socket.destroy();
    this.#http.close();
    await closed;
  }

  #accept(socket: Socket): void {
    this.#connections.add(socket);
    socket.on('close', () => this.#connections.delete(socket));
    socket.on('error', (error) =>
      this.#options.log.debug({ error: error.message }, 'connection on the agent socket failed'),
    );
    const timer = setTimeout(() => socket.destroy(), FIRST_WORD_TIMEOUT);
    let start: Buffer = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      start = start.length === 0 ? chunk : Buffer.concat([start, chunk]);
      const isCni = isCniConnection(start);
      if (isCni === null) return;
      clearTimeout(timer);
      socket.off('data', onData);
      if (isCni) this.#options.onCni(socket, start);
      else {
        socket.pause();
        this.#http.emit('connection', socket);
        socket.unshift(start);
        socket.resume();
      }
    };
    socket.on('data', onData);
    socket.on('close', () => clearTimeout(timer));
  }
}

/** Whether somebody listens on a Unix socket. */
function answers(path: string): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      done(true);
    });
    socket.once('error', () => done(false));
  });
}
