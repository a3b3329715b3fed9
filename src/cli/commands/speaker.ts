// `brindle speaker -f FILE`: the BGP speaker alone. SIGHUP reads the file again, SIGTERM and SIGINT close the sessions
// without a NOTIFICATION (peers that do graceful restart hold our routes); `--shutdown` makes it an orderly end.
import { closeSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { dirname, resolve } from 'node:path';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import type { Command } from 'commander';
import { systemClock } from '#base/clock.ts';
import { BrindleError, errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import { bgpRoutes } from '#agent/api/bgp.ts';
import { answerErrors } from '#agent/api/errors.ts';
import { BfdService } from '#agent/bfd-service.ts';
import { tcpTransport } from '#agent/bgp-transport.ts';
import type { RoutingService } from '#agent/routing-service.ts';
import { parseSpeakerFile, type SpeakerFile } from '#bgp/speaker/config-file.ts';
import { speakerHandle } from '#bgp/speaker/handle.ts';
import { Replay, type ReplayRoute, type ReplaySource } from '#bgp/speaker/mrt-replay.ts';
import { Speaker } from '#bgp/speaker/speaker.ts';
import type { SpeakerEvent } from '#bgp/speaker/api.ts';

interface Options {
  readonly file: string;
  readonly shutdown?: boolean;
  readonly check?: boolean;
  readonly quiet?: boolean;
}

export function register(program: Command): void {
  program
    .command('speaker')
    .description('run the BGP speaker alone, with no dataplane: a route server, a reflector, a test peer')
    .requiredOption('-f, --file <path>', 'configuration, YAML')
    .option('--check', 'only check the configuration')
    .option('--shutdown', 'on SIGTERM tell peers of an administrative shutdown, so that they drop our routes')
    .option('--quiet', 'no log')
    .action((options: Options) => run(options));
}

async function run(options: Options): Promise<void> {
  let file = load(options.file);
  if (options.check) {
    process.stdout.write(
      `${options.file}: ${file.config.peers.length} peers, ${file.config.peerRanges.length} ranges\n`,
    );
    return;
  }
  const log = options.quiet ? quiet : stderrLogger({});
  const routing = file.kernelInstall ? await startRouting(log) : null;
  const speaker = new Speaker({
    transport: tcpTransport,
    clock: systemClock,
    log,
    bfd: new BfdService(systemClock, log),
    ...(routing && { sink: routing.sink, nextHops: routing.nextHops }),
    forwardingKept: true,
  });
  speaker.watch((event) => logEvent(log, event));
  const apply = (): void => {
    const replayed = replay(file.networksFrom, dirname(options.file), log);
    for (const { prefix } of file.networks) replayed.delete(prefix);
    speaker.setLocalRoutes(file.networks);
    speaker.setReplayed(replayed);
    speaker.configure(file.config);
  };
  apply();
  const api = file.api === null ? null : await serveApi(file.api, speaker);
  process.on('SIGHUP', () => {
    try {
      file = load(options.file);
      apply();
      log.info({ file: options.file }, 'configuration read again');
    } catch (error) {
      log.error({ file: options.file }, `configuration not taken: ${errorText(error)}`);
    }
  });
  await new Promise<void>((done) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => done());
    setInterval(() => {}, 1 << 30); // the clock's timers do not keep the process alive
  });
  api?.close();
  if (file.api !== null) rmSync(file.api, { force: true });
  speaker.stop(options.shutdown ? 'shutdown' : 'restart');
  setTimeout(() => process.exit(0), options.shutdown ? 500 : 50);
}

/** Learned routes into the kernel of this namespace. They stay when the speaker ends, and the next one takes them over. */
async function startRouting(log: Logger): Promise<RoutingService> {
  const [{ RoutingService }, { openKernelAccess }] = await Promise.all([
    import('#agent/routing-service.ts'),
    import('#dataplane/kernel-access.ts'),
  ]);
  const routing = new RoutingService({ kernel: openKernelAccess(), log });
  await routing.start();
  routing.inSync();
  return routing;
}

/** The same endpoints as an agent's, on a socket of our own that only root can use. */
async function serveApi(path: string, speaker: Speaker): Promise<Server> {
  const app = new Hono();
  answerErrors(app);
  bgpRoutes(app, speakerHandle(speaker));
  app.get('/metrics', (c) => c.redirect('/v1/bgp/metrics'));
  const listener = getRequestListener(app.fetch);
  const server = createServer((request, response) => void listener(request, response));
  rmSync(path, { force: true });
  const umask = process.umask(0o077);
  try {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject);
    server.listen(path, resolve);
    await promise;
  } catch (error) {
    throw new BrindleError('invalid-argument', `the API socket ${path} cannot be made: ${errorText(error)}`, {
      field: 'api',
      remedy: 'name a path in a directory that exists',
      cause: error,
    });
  } finally {
    process.umask(umask);
  }
  return server;
}

function load(path: string): SpeakerFile {
  let source: string;
  try {
    source = readFileSync(path, 'utf8');
  } catch (error) {
    throw new BrindleError('not-found', `${path} cannot be read: ${errorText(error)}`, { cause: error });
  }
  return parseSpeakerFile(source);
}

/** Routes of the dumps; of a prefix in several, that of the first. Paths are relative to the configuration file. */
function replay(sources: readonly ReplaySource[], directory: string, log: Logger): Map<string, ReplayRoute> {
  const routes = new Map<string, ReplayRoute>();
  const chunk = Buffer.alloc(1024 * 1024);
  for (const source of sources) {
    const path = resolve(directory, source.file);
    const dump = new Replay(source);
    let fd: number;
    try {
      fd = openSync(path, 'r');
    } catch (error) {
      throw new BrindleError('not-found', `${path} cannot be read: ${errorText(error)}`, {
        field: 'networksFrom',
        cause: error,
      });
    }
    try {
      for (let octets = readSync(fd, chunk); octets > 0; octets = readSync(fd, chunk)) {
        dump.push(chunk.subarray(0, octets));
      }
    } finally {
      closeSync(fd);
    }
    dump.end();
    for (const [key, route] of dump.routes) if (!routes.has(key)) routes.set(key, route);
    log.info({ file: path, routes: dump.routes.size, refused: dump.refused }, 'routes of an MRT dump');
  }
  return routes;
}

function logEvent(log: Logger, event: SpeakerEvent): void {
  const { type, at: _at, ...fields } = event;
  if (type === 'error' || type === 'update-error' || type === 'max-prefixes') log.warn(fields, type);
  else if (type === 'unknown-peer') log.debug(fields, type);
  else log.info(fields, type);
}

const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

function stderrLogger(context: object): Logger {
  const line = (level: string) => (fields: object, message: string) => {
    process.stderr.write(
      `${new Date().toISOString()} ${level} ${message} ${JSON.stringify({ ...context, ...fields })}\n`,
    );
  };
  return {
    debug() {},
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    child: (more) => stderrLogger({ ...context, ...more }),
  };
}
