import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isBrindleError } from '#base/errors.ts';
import { silentLogger } from '#base/log.ts';
import {
  type CniCallHandler,
  CniRequestParser,
  encodeAnswer,
  encodeRequest,
  isCniConnection,
  MAX_CONFIG,
  parseAnswer,
  serveCni,
} from './protocol.ts';
import { replaySpool } from './spool.ts';

const name = fc.stringMatching(/^[A-Z_]{1,12}$/);
const value = fc.string({ unit: 'grapheme', maxLength: 40 }).filter((text) => !text.includes('\0'));
const variables = fc.uniqueArray(fc.tuple(name, value), { selector: ([key]) => key, maxLength: 8 });

describe('the CNI request parser', () => {
  it('reads back what was written, cut anywhere', () => {
    fc.assert(
      fc.property(variables, fc.uint8Array({ maxLength: 300 }), fc.array(fc.nat(400)), (env, config, cuts) => {
        const octets = encodeRequest(env, config);
        const parser = new CniRequestParser();
        const at = [...new Set([0, ...cuts.filter((c) => c < octets.length), octets.length])].sort((a, b) => a - b);
        for (let i = 1; i < at.length; i++) {
          const request = parser.push(octets.subarray(at[i - 1], at[i]));
          assert.equal(request !== null, i === at.length - 1);
          if (!request) continue;
          assert.deepEqual([...request.environment], env);
          assert.deepEqual(Buffer.from(request.config), Buffer.from(config));
        }
      }),
    );
  });

  it('answers garbage with a protocol error or waits for more, and nothing else', () => {
    const almost = fc
      .tuple(fc.constantFrom('BRINDLE-CNI 1 ', 'BRINDLE-CNI ', 'BRINDLE', ''), fc.string({ maxLength: 80 }))
      .map(([a, b]) => Buffer.from(a + b));
    fc.assert(
      fc.property(fc.oneof(almost, fc.uint8Array({ maxLength: 120 })), (octets) => {
        try {
          new CniRequestParser().push(octets);
        } catch (error) {
          assert.ok(isBrindleError(error, 'protocol'), String(error));
        }
      }),
    );
  });

  it('refuses by name what is too long, of another version or more than announced', () => {
    const refused = (text: string, pattern: RegExp): void => {
      assert.throws(() => new CniRequestParser().push(Buffer.from(text)), pattern);
    };
    refused(`BRINDLE-CNI 1 0 ${MAX_CONFIG + 1}\n`, /octets of configuration/);
    refused('BRINDLE-CNI 1 9999999999 0\n', /octets of environment/);
    refused('BRINDLE-CNI 2 0 0\n', /protocol version 2/);
    refused('BRINDLE-CNI 1 0 0\nX', /1 octets too many/);
    refused('BRINDLE-CNI 1 2 0\nAB', /NUL/);
    refused('BRINDLE-CNI 1 2 0\nA\0', /not a variable/);
    refused(`BRINDLE-CNI 1 ${'0'.repeat(80)}`, /header/);
  });

  it('tells CNI from HTTP by the first octets', () => {
    assert.equal(isCniConnection(Buffer.from('GET / HTTP/1.1')), false);
    assert.equal(isCniConnection(Buffer.from('BRINDLE-CNI 1')), true);
    assert.equal(isCniConnection(Buffer.from('BR')), null);
    assert.equal(isCniConnection(Buffer.from('BREW')), false);
  });

  it('reads answers back, and no part of one', () => {
    fc.assert(
      fc.property(fc.nat(255), fc.string({ unit: 'grapheme', maxLength: 60 }), (status, output) => {
        const octets = encodeAnswer({ status, output });
        assert.deepEqual(parseAnswer(octets), { status, output });
        for (let i = 0; i < octets.length; i++) assert.equal(parseAnswer(octets.subarray(0, i)), null);
      }),
    );
    assert.equal(parseAnswer(Buffer.from('256 0\n')), null);
  });
});

async function withServer(handler: CniCallHandler, body: (path: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'brindle-protocol-'));
  const path = join(directory, 's');
  const serving: Promise<void>[] = [];
  const server = createServer((socket) => {
    socket.once('data', (first: Buffer) => {
      socket.pause();
      serving.push(serveCni(socket, first, handler));
    });
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    await body(path);
    await Promise.all(serving);
  } finally {
    server.close();
    rmSync(directory, { recursive: true });
  }
}

function exchange(path: string, pieces: readonly Uint8Array[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(path);
    const answer: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => answer.push(chunk));
    socket.on('end', () => resolve(Buffer.concat(answer)));
    socket.on('error', reject);
    for (const piece of pieces) socket.write(piece);
  });
}

describe('serveCni', () => {
  it('answers a call that comes in pieces', async () => {
    const handler: CniCallHandler = (request) =>
      Promise.resolve({ status: 3, output: `${request.environment.get('CNI_COMMAND')} ${request.config.length}` });
    await withServer(handler, async (path) => {
      const octets = encodeRequest([['CNI_COMMAND', 'ADD']], Buffer.alloc(200_000, 32));
      const answer = await exchange(path, [octets.subarray(0, 20), octets.subarray(20)]);
      assert.deepEqual(parseAnswer(answer), { status: 3, output: 'ADD 200000' });
    });
  });

  it('answers what it cannot read with CNI error 5', async () => {
    const handler: CniCallHandler = () => Promise.reject(new Error('must not be called'));
    await withServer(handler, async (path) => {
      const answer = parseAnswer(await exchange(path, [Buffer.from('BRINDLE-CNI 9 0 0\n')]));
      assert.equal(answer?.status, 1);
      assert.equal(JSON.parse(answer.output).code, 5);
    });
  });

  it('tells the handler that the caller is gone', async () => {
    const aborted = Promise.withResolvers<void>();
    const handler: CniCallHandler = async (_request, gone) => {
      await new Promise<void>((resolve) => gone.addEventListener('abort', () => resolve()));
      aborted.resolve();
      return { status: 0, output: '' };
    };
    await withServer(handler, async (path) => {
      const socket = connect(path);
      socket.write(encodeRequest([['CNI_COMMAND', 'ADD']], Buffer.from('{}')), () => socket.destroy());
      await aborted.promise;
    });
  });
});

describe('replaySpool', () => {
  it('replays DEL calls oldest first, keeps what fails, sets malformed ones aside', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'brindle-spool-'));
    try {
      const put = (file: string, verb: string, id: string): void =>
        writeFileSync(
          join(directory, file),
          encodeRequest(
            [
              ['CNI_COMMAND', verb],
              ['CNI_CONTAINERID', id],
            ],
            Buffer.from('{}'),
          ),
        );
      put('1000-5.del', 'DEL', 'second');
      put('999-5.del', 'DEL', 'first');
      put('1001-5.del', 'DEL', 'fails');
      put('1002-5.del', 'ADD', 'never');
      writeFileSync(join(directory, '1003-5.del'), 'garbage');
      writeFileSync(join(directory, '1004-5.del'), 'BRINDLE-CNI 1 5 5\n');
      writeFileSync(join(directory, '1005-5.del.tmp'), 'half');
      const seen: string[] = [];
      const report = await replaySpool({
        directory,
        now: Date.now() + 3_600_000,
        log: silentLogger,
        handler: (request) => {
          const id = request.environment.get('CNI_CONTAINERID') ?? '';
          seen.push(id);
          return Promise.resolve({ status: id === 'fails' ? 1 : 0, output: '' });
        },
      });
      assert.deepEqual(seen, ['first', 'second', 'fails']);
      assert.deepEqual(report, { replayed: 2, kept: 1, malformed: 3 });
      assert.deepEqual(readdirSync(directory).sort(), [
        '1001-5.del',
        '1002-5.del.bad',
        '1003-5.del.bad',
        '1004-5.del.bad',
      ]);
      assert.match(readFileSync(join(directory, '1001-5.del'), 'utf8'), /fails/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('is content without a spool', async () => {
    const handler = (): never => assert.fail();
    const report = await replaySpool({ directory: '/nonexistent/x', now: 0, log: silentLogger, handler });
    assert.deepEqual(report, { replayed: 0, kept: 0, malformed: 0 });
  });
});
