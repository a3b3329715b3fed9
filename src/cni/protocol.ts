// The protocol between the CNI executable and the agent, on the agent's Unix socket. That socket also speaks HTTP;
// the first bytes tell the two apart (`isCniConnection`).
//
//   request   BRINDLE-CNI 1 <octets of environment> <octets of standard input>\n
//             environment: K=V, each ended by a NUL octet
//             standard input: the network configuration, as the runtime gave it
//   answer    <exit status> <octets>\n and the octets for standard output; then the agent closes
//
// One call a connection. Both executables (brindle-cni.c, executable.ts) write it, and the spool keeps requests in
// this form. Everything that comes in is untrusted: lengths are limited before anything is kept.
import type { Socket } from 'node:net';
import { BrindleError } from '#base/errors.ts';

const MAGIC = 'BRINDLE-CNI ';
const VERSION = '1';
/** The longest header line with its newline, in octets. */
const MAX_HEADER = 64;
/** Of the CNI_* environment, in octets. */
export const MAX_ENVIRONMENT = 1 << 20;
/** Of the configuration, in octets: a GC call lists every attachment of the host. */
export const MAX_CONFIG = 4 << 20;
const NEWLINE = 10;

export interface CniRequest {
  readonly environment: ReadonlyMap<string, string>;
  readonly config: Uint8Array;
}

export interface CniAnswer {
  /** Exit status of the executable, 0 to 255. */
  readonly status: number;
  /** For its standard output. */
  readonly output: string;
}

/** Does a connection that begins with these octets speak CNI? null: too few octets to tell. */
export function isCniConnection(start: Uint8Array): boolean | null {
  const length = Math.min(start.length, MAGIC.length);
  for (let i = 0; i < length; i++) if (start[i] !== MAGIC.charCodeAt(i)) return false;
  return length === MAGIC.length ? true : null;
}

/** Reads one request from octets that come in pieces of any size. */
export class CniRequestParser {
  #chunks: Uint8Array[] = [];
  #received = 0;
  #header: { length: number; environment: number; config: number } | null = null;

  /** Takes the next octets. The request when it is whole, else null. Throws `protocol`; the parser is then of no more use. */
  push(chunk: Uint8Array): CniRequest | null {
    this.#chunks.push(chunk);
    this.#received += chunk.length;
    if (!this.#header) {
      const start = this.#join();
      const end = start.subarray(0, MAX_HEADER).indexOf(NEWLINE);
      if (end < 0) {
        if (isCniConnection(start) === false || start.length >= MAX_HEADER) throw badRequest('the header is malformed');
        return null;
      }
      this.#header = parseHeader(start.subarray(0, end));
    }
    const { length, environment, config } = this.#header;
    const whole = length + environment + config;
    if (this.#received < whole) return null;
    if (this.#received > whole) throw badRequest(`${this.#received - whole} octets too many`);
    const all = this.#join();
    return {
      environment: parseEnvironment(all.subarray(length, length + environment)),
      config: all.subarray(length + environment),
    };
  }

  #join(): Uint8Array {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? new Uint8Array(0);
  }
}

function badRequest(reason: string): BrindleError {
  return new BrindleError('protocol', `not a request of the CNI executable: ${reason}`, {
    remedy: 'let the executable and the agent be of one installation',
  });
}

function parseHeader(line: Uint8Array): { length: number; environment: number; config: number } {
  const match = /^BRINDLE-CNI (\d{1,4}) (0|[1-9]\d{0,9}) (0|[1-9]\d{0,9})$/.exec(Buffer.from(line).toString('latin1'));
  if (!match) throw badRequest('the header is malformed');
  if (match[1] !== VERSION) throw badRequest(`protocol version ${match[1]}, this agent speaks ${VERSION}`);
  const environment = Number(match[2]);
  const config = Number(match[3]);
  if (environment > MAX_ENVIRONMENT) throw badRequest(`${environment} octets of environment, over ${MAX_ENVIRONMENT}`);
  if (config > MAX_CONFIG) throw badRequest(`${config} octets of configuration, over ${MAX_CONFIG}`);
  return { length: line.length + 1, environment, config };
}

function parseEnvironment(octets: Uint8Array): Map<string, string> {
  const out = new Map<string, string>();
  if (octets.length === 0) return out;
  if (octets[octets.length - 1] !== 0) throw badRequest('the environment does not end with a NUL');
  for (const entry of Buffer.from(octets.subarray(0, -1)).toString('utf8').split('\0')) {
    const at = entry.indexOf('=');
    if (at < 1) throw badRequest('the environment holds something that is not a variable');
    // getenv() finds the first of two, so the first one counts here too.
    if (!out.has(entry.slice(0, at))) out.set(entry.slice(0, at), entry.slice(at + 1));
  }
  return out;
}

/** A request as octets. Variables with a NUL in them cannot exist, and are left out. */
export function encodeRequest(environment: Iterable<readonly [string, string]>, config: Uint8Array): Buffer {
  let text = '';
  for (const [name, value] of environment) if (!`${name}${value}`.includes('\0')) text += `${name}=${value}\0`;
  const variables = Buffer.from(text);
  return Buffer.concat([Buffer.from(`${MAGIC}${VERSION} ${variables.length} ${config.length}\n`), variables, config]);
}

export function encodeAnswer(answer: CniAnswer): Buffer {
  const output = Buffer.from(answer.output);
  return Buffer.concat([Buffer.from(`${answer.status} ${output.length}\n`), output]);
}

/** The answer from all octets that came; null when it is not whole or not an answer. */
export function parseAnswer(octets: Uint8Array): CniAnswer | null {
  const end = octets.subarray(0, MAX_HEADER).indexOf(NEWLINE);
  if (end < 0) return null;
  const match = /^(\d{1,3}) (0|[1-9]\d{0,9})$/.exec(Buffer.from(octets.subarray(0, end)).toString('latin1'));
  if (!match || Number(match[1]) > 255 || octets.length !== end + 1 + Number(match[2])) return null;
  return { status: Number(match[1]), output: Buffer.from(octets.subarray(end + 1)).toString('utf8') };
}

/** Handles one call. `gone` is aborted when the caller hangs up before the answer. Must not throw. */
export type CniCallHandler = (request: CniRequest, gone: AbortSignal) => Promise<CniAnswer>;

/** Made once: an abort without a reason makes an exception with its stack for every call. */
const HUNG_UP = new BrindleError('unavailable', 'the caller has hung up');

/** How long a caller may take to send its request or to read its answer, in milliseconds. */
const REQUEST_TIMEOUT = 10_000;

/**
 * Speaks the protocol on a connection whose first octets have been read. Resolves when the connection is over,
 * whatever became of it; a malformed request is answered with a CNI error of code 5 where the connection allows it.
 */
export async function serveCni(socket: Socket, firstChunk: Uint8Array, handler: CniCallHandler): Promise<void> {
  const gone = new AbortController();
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => {
      gone.abort(HUNG_UP);
      resolve();
    });
  });
  socket.on('error', () => socket.destroy());
  try {
    const request = await receive(socket, firstChunk);
    if (!request) return;
    // The executable sends all, then waits: whatever it sends more, or its end of file, means that it is gone.
    socket.on('data', () => socket.destroy());
    socket.on('end', () => gone.abort(HUNG_UP));
    socket.end(encodeAnswer(await handler(request, gone.signal)));
  } catch (error) {
    const msg = error instanceof Error ? error.message : String(error);
    socket.end(encodeAnswer({ status: 1, output: `${JSON.stringify({ cniVersion: '1.1.0', code: 5, msg })}\n` }));
  }
  socket.setTimeout(REQUEST_TIMEOUT, () => socket.destroy()); // a caller that never reads its answer
  await closed;
}

/** null when the caller left before it had sent all. */
function receive(socket: Socket, firstChunk: Uint8Array): Promise<CniRequest | null> {
  const parser = new CniRequestParser();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => finish(() => reject(badRequest('it did not come in time'))), REQUEST_TIMEOUT);
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      socket.off('data', take);
      socket.off('end', left);
      socket.off('close', left);
      settle();
    };
    const left = (): void => {
      socket.destroy();
      finish(() => resolve(null));
    };
    const take = (chunk: Uint8Array): void => {
      try {
        const request = parser.push(chunk);
        if (request) finish(() => resolve(request));
      } catch (error) {
        finish(() => reject(error));
      }
    };
    socket.on('data', take);
    socket.once('end', left);
    socket.once('close', left);
    take(firstChunk);
    socket.resume(); // whoever read the first octets may have paused it
  });
}
