// The spool: DEL calls that the executable kept while no agent answered. In: files `<nanoseconds>-<pid>.del` in
// `<socket path>.spool/`, each one request of protocol.ts. The agent replays them at start, before it serves calls,
// and now and then afterwards, for a call that timed out while the agent was busy.
// Trap: container ids come back (podman restarts under the same one), so the handler is told when the call was made
// and leaves alone what was attached later.
import { readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, isBrindleError } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import { type CniAnswer, type CniRequest, CniRequestParser } from './protocol.ts';

/** Age at which a temporary file has no writer any more, in milliseconds. */
const STALE_TEMPORARY = 60_000;

export function spoolDirectory(socketPath: string): string {
  return `${socketPath}.spool`;
}

export interface SpoolOptions {
  readonly directory: string;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  readonly log: Logger;
  /** `madeAt`: when the runtime made the call, in milliseconds since the Unix epoch. */
  readonly handler: (request: CniRequest, madeAt: number) => Promise<CniAnswer>;
}

export interface SpoolReport {
  readonly replayed: number;
  /** Answered with an error and kept for the next replay. */
  readonly kept: number;
  /** Could not be read as a request; renamed to `*.bad`. */
  readonly malformed: number;
}

/** Replays every spooled call, oldest first. Never throws: what fails is logged and kept. */
export async function replaySpool(options: SpoolOptions): Promise<SpoolReport> {
  const { directory, log } = options;
  const report = { replayed: 0, kept: 0, malformed: 0 };
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      log.warn({ directory, error: errorText(error) }, 'the CNI spool cannot be read');
    }
    return report;
  }
  for (const name of names.sort((a, b) => compareNumeric(a, b))) {
    const path = join(directory, name);
    try {
      if (name.endsWith('.tmp')) {
        if (options.now - (await stat(path)).mtimeMs > STALE_TEMPORARY) await rm(path, { force: true });
        continue;
      }
      if (!name.endsWith('.del')) continue;
      const madeAt = (await stat(path)).mtimeMs;
      const request = new CniRequestParser().push(await readFile(path));
      if (!request || request.environment.get('CNI_COMMAND') !== 'DEL') {
        report.malformed++;
        await rename(path, `${path}.bad`);
        log.warn({ path }, 'a spooled CNI call is not a whole DEL; renamed to .bad');
        continue;
      }
      const answer = await options.handler(request, madeAt);
      if (answer.status === 0) {
        report.replayed++;
        await rm(path, { force: true });
      } else {
        report.kept++;
        log.warn({ path, answer: answer.output }, 'a spooled CNI call failed; it is kept for the next replay');
      }
    } catch (error) {
      if (isBrindleError(error, 'protocol')) {
        report.malformed++;
        await rename(path, `${path}.bad`).catch(() => undefined);
      } else report.kept++;
      log.warn({ path, error: errorText(error) }, 'a spooled CNI call cannot be replayed');
    }
  }
  return report;
}

function compareNumeric(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}
