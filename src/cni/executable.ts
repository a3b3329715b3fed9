// The CNI executable for machines without a C compiler: what brindle-cni.c does, in Node. It costs Node's start
// a call (35 to 41 ms against 0.8 ms). tools/build.ts bundles it into one file with Node's path in its first line.
// Keep the two alike: the same tests run against both.
import {
  fdatasyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
  closeSync,
} from 'node:fs';
import { connect } from 'node:net';
import { type CniAnswer, encodeRequest, MAX_CONFIG, parseAnswer } from './protocol.ts';

const SUPPORTED = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'];
const CURRENT = '1.1.0';

/** A text of the configuration's outermost object; null when there is none such. */
function find(config: Uint8Array, key: string): string | null {
  try {
    const value: unknown = (JSON.parse(Buffer.from(config).toString('utf8')) as Record<string, unknown> | null)?.[key];
    return typeof value === 'string' && value !== '' ? value : null;
  } catch {
    return null;
  }
}

function fail(config: Uint8Array, code: number, msg: string): CniAnswer {
  const version = find(config, 'cniVersion');
  const cniVersion = version !== null && /^[0-9.]{1,15}$/.test(version) ? version : CURRENT;
  return { status: 1, output: `${JSON.stringify({ cniVersion, code, msg })}\n` };
}

/** The agent's answer; throws when there is no whole one. */
function ask(path: string, seconds: number, request: Uint8Array): Promise<CniAnswer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const socket = connect({ path });
    socket.setTimeout(seconds * 1000, () => socket.destroy(new Error('no answer in time')));
    socket.on('error', reject);
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('end', () => {
      const answer = parseAnswer(Buffer.concat(chunks));
      if (answer) resolve(answer);
      else reject(new Error('Connection reset by peer'));
    });
    socket.write(request);
  });
}

/** Keeps the request for the agent's next start: whole or not at all, hence the rename. */
function spool(path: string, request: Uint8Array): void {
  const directory = `${path}.spool`;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const nanoseconds = BigInt(Date.now()) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n);
  const final = `${directory}/${nanoseconds}-${process.pid}.del`;
  const fd = openSync(`${final}.tmp`, 'wx', 0o600);
  try {
    writeSync(fd, request);
    fdatasyncSync(fd);
    renameSync(`${final}.tmp`, final);
  } catch (error) {
    unlinkSync(`${final}.tmp`);
    throw error;
  } finally {
    closeSync(fd);
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function call(verb: string, environment: NodeJS.ProcessEnv): Promise<CniAnswer> {
  let config: Uint8Array;
  try {
    config = readFileSync(0);
    if (config.length > MAX_CONFIG) throw new Error('too long');
  } catch {
    return fail(new Uint8Array(0), 5, 'cannot read the configuration on standard input');
  }
  const path = environment['BRINDLE_SOCKET'] || find(config, 'socket') || '/run/brindle/brindle.sock';
  const variables: [string, string][] = [];
  for (const [name, value] of Object.entries(environment)) {
    if (name.startsWith('CNI_')) variables.push([name, value ?? '']);
  }
  const request = encodeRequest(variables, config);
  try {
    return await ask(path, verb === 'STATUS' ? 5 : verb === 'DEL' ? 20 : 90, request);
  } catch (error) {
    const reason = reasonOf(error);
    if (verb !== 'DEL') {
      const text = `the Brindle agent does not answer at ${path}: ${reason}; start it, then try again`;
      return fail(config, verb === 'STATUS' ? 50 : 11, text);
    }
    try {
      spool(path, request);
      return { status: 0, output: '' };
    } catch (error) {
      const text = `the agent at ${path}: ${reason}; and the call cannot be journalled in ${path}.spool: ${reasonOf(error)}`;
      return fail(config, 11, text);
    }
  }
}

const verb = process.env['CNI_COMMAND'];
if (!verb) {
  const versions = SUPPORTED.map((version) => `"${version}"`).join(',');
  process.stderr.write(`Brindle's CNI plugin; supported versions: ${versions}. Container runtimes call it.\n`);
} else {
  const answer =
    verb === 'VERSION'
      ? { status: 0, output: `${JSON.stringify({ cniVersion: CURRENT, supportedVersions: SUPPORTED })}\n` }
      : await call(verb, process.env);
  process.exitCode = answer.status;
  process.stdout.write(answer.output);
}
