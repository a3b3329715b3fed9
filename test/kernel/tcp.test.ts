// TCP with native options against the real kernel, over the loopback interface. Needs root (TCP-MD5 does not, but
// binding to an interface does) and a kernel with CONFIG_TCP_MD5SIG.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { isBrindleError } from '#base/errors.ts';
import { isSystemError } from '#sys/errors.ts';
import { connectNetns, type TestNetns, testNetns, until } from '../support/netns.ts';
import { connectTcp, connectTcpAsync, listenTcp, setConnectionOptions, type TcpListener } from '#sys/tcp.ts';

async function withListener(listener: TcpListener, run: (listener: TcpListener) => Promise<void>): Promise<void> {
  const accepted: Socket[] = [];
  listener.server.on('connection', (socket) => {
    accepted.push(socket);
    socket.on('error', () => {});
  });
  try {
    await run(listener);
  } finally {
    for (const socket of accepted) socket.destroy();
    listener.close();
  }
}

function echo(listener: TcpListener): void {
  listener.server.on('connection', (socket: Socket) => socket.pipe(socket));
}

async function roundTrip(socket: Socket, text: string): Promise<string> {
  socket.write(text);
  const [data] = (await once(socket, 'data')) as [Buffer];
  return data.toString();
}

for (const host of ['127.0.0.1', '::1']) {
  const anyOther = host === '::1' ? '::1' : '127.0.0.5';
  describe(`TCP over ${host}`, () => {
    it('connects, carries data both ways, and closes', async () => {
      await withListener(listenTcp({ localAddress: host, localPort: 0 }), async (listener) => {
        echo(listener);
        const socket = await connectTcpAsync({ remoteAddress: host, remotePort: listener.port, timeoutMs: 5000 });
        assert.equal(await roundTrip(socket, 'hello'), 'hello');
        assert.equal(socket.remotePort, listener.port);
        socket.end();
        await once(socket, 'close');
      });
    });

    it('binds to the local address and port asked for', async () => {
      await withListener(listenTcp({ localAddress: host, localPort: 0 }), async (listener) => {
        const connection = once(listener.server, 'connection') as Promise<[Socket]>;
        const socket = await connectTcpAsync({
          remoteAddress: host,
          remotePort: listener.port,
          localAddress: anyOther,
          interfaceName: 'lo',
          timeoutMs: 5000,
        });
        const [server] = await connection;
        assert.equal(server.remoteAddress, anyOther);
        socket.destroy();
      });
    });

    it('names the errno when nobody listens or the address is not ours', async () => {
      const listener = listenTcp({ localAddress: host, localPort: 0 });
      const port = listener.port;
      listener.close();
      await once(listener.server, 'close');
      await assert.rejects(connectTcpAsync({ remoteAddress: host, remotePort: port }), (e) =>
        isSystemError(e, 'ECONNREFUSED'),
      );
      const foreign = host === '::1' ? '2001:db8::77' : '192.0.2.77';
      await assert.rejects(
        connectTcpAsync({ remoteAddress: host, remotePort: port, localAddress: foreign }),
        (e) => isSystemError(e, 'EADDRNOTAVAIL') && /bind to/.test(e.message),
      );
      assert.throws(
        () => listenTcp({ localAddress: foreign, localPort: 0 }),
        (e) => isSystemError(e, 'EADDRNOTAVAIL'),
      );
      listenTcp({ localAddress: foreign, localPort: 0, freebind: true }).close();
    });

    it('connects with the right TCP-MD5 key and gets no answer with a wrong one or none', async () => {
      await withListener(listenTcp({ localAddress: host, localPort: 0 }), async (listener) => {
        echo(listener);
        listener.setMd5Key(host, 'secret');
        const target = { remoteAddress: host, remotePort: listener.port };
        const socket = await connectTcpAsync({ ...target, md5Key: 'secret', timeoutMs: 5000 });
        assert.equal(await roundTrip(socket, 'signed'), 'signed');
        socket.destroy();
        for (const md5Key of ['wrong', undefined]) {
          await assert.rejects(connectTcpAsync({ ...target, md5Key, timeoutMs: 150 }), (e) =>
            isSystemError(e, 'ETIMEDOUT'),
          );
        }
        listener.setMd5Key(host, 'changed');
        (await connectTcpAsync({ ...target, md5Key: 'changed', timeoutMs: 5000 })).destroy();
        listener.removeMd5Key(host);
        listener.removeMd5Key(host);
        (await connectTcpAsync({ ...target, timeoutMs: 5000 })).destroy();
      });
    });

    it('takes a TCP-MD5 key for a range of peers', async () => {
      const range = host === '::1' ? '::/64' : '127.0.0.0/8';
      const keys = [[range, 'range key']] as const;
      await withListener(listenTcp({ localAddress: host, localPort: 0, md5Keys: keys }), async (listener) => {
        const target = { remoteAddress: host, remotePort: listener.port };
        (await connectTcpAsync({ ...target, localAddress: anyOther, md5Key: 'range key', timeoutMs: 5000 })).destroy();
        await assert.rejects(connectTcpAsync({ ...target, timeoutMs: 150 }), (e) => isSystemError(e, 'ETIMEDOUT'));
      });
    });

    it('drops segments whose TTL is too low (GTSM)', async () => {
      await withListener(listenTcp({ localAddress: host, localPort: 0, minTtl: 255, ttl: 255 }), async (listener) => {
        echo(listener);
        const target = { remoteAddress: host, remotePort: listener.port };
        const near = await connectTcpAsync({ ...target, ttl: 255, minTtl: 255, timeoutMs: 5000 });
        assert.equal(await roundTrip(near, 'near'), 'near');
        // Moved one hop away in the middle of the connection: what it sends is not seen any more.
        setConnectionOptions(near, { ttl: 254 });
        near.destroy();
        await assert.rejects(connectTcpAsync({ ...target, ttl: 254, timeoutMs: 150 }), (e) =>
          isSystemError(e, 'ETIMEDOUT'),
        );
      });
    });
  });
}

describe('TCP between namespaces', () => {
  it('connects to an IPv6 link-local address by interface name or scope, with a TCP-MD5 key', async () => {
    using a = testNetns('a');
    using b = testNetns('b');
    const indexes = connectNetns(a, b, { a: 'eth0', b: 'eth0' });
    const linkLocal = (ns: TestNetns, ifindex: number) => ns.netlink.listAddresses({ family: 6, ifindex })[0]?.address;
    await until('both have a link-local address', () => !!linkLocal(a, indexes.a) && !!linkLocal(b, indexes.b));
    const [from, to] = [linkLocal(a, indexes.a)!, linkLocal(b, indexes.b)!];
    assert.ok(to.isLinkLocal());
    const listener = b.inside(() =>
      listenTcp({ localAddress: '::', localPort: 0, md5Keys: [[from, 'k']], minTtl: 255 }),
    );
    await withListener(listener, async () => {
      echo(listener);
      const common = { remoteAddress: to, remotePort: listener.port, md5Key: 'k', ttl: 255, timeoutMs: 5000 };
      for (const way of [{ interfaceName: 'eth0' }, { scope: indexes.a, localAddress: from }]) {
        const socket = await new Promise<Socket>((resolve, reject) => {
          const done = (error: Error | null, connected: Socket | null) =>
            connected ? resolve(connected) : reject(error);
          // The socket belongs to the namespace in which it was opened, wherever it is used later.
          a.inside(() => void connectTcp({ ...common, ...way }, done));
        });
        assert.equal(await roundTrip(socket, 'link-local'), 'link-local');
        socket.destroy();
      }
    });
  });
});

describe('TCP options', () => {
  it('never calls back after cancel', async () => {
    await withListener(listenTcp({ localAddress: '127.0.0.1', localPort: 0 }), async (listener) => {
      const attempt = connectTcp({ remoteAddress: '127.0.0.1', remotePort: listener.port }, () => {
        assert.fail('called back');
      });
      attempt.cancel();
      attempt.cancel();
      (await connectTcpAsync({ remoteAddress: '127.0.0.1', remotePort: listener.port })).destroy();
    });
  });

  it('refuses wrong options before it opens anything', () => {
    const bad = [
      { remoteAddress: 'nonsense', remotePort: 179 },
      { remoteAddress: '127.0.0.1', remotePort: 0 },
      { remoteAddress: '127.0.0.1', remotePort: 179, ttl: 256 },
      { remoteAddress: '127.0.0.1', remotePort: 179, localAddress: '::1' },
      { remoteAddress: '127.0.0.1', remotePort: 179, md5Key: 'x'.repeat(81) },
      { remoteAddress: '127.0.0.1', remotePort: 179, md5Key: '' },
      { remoteAddress: '127.0.0.1', remotePort: 179, interfaceName: 'a/b' },
    ];
    for (const options of bad) {
      assert.throws(
        () => connectTcp(options, () => assert.fail('called back')),
        (e) => isBrindleError(e, 'invalid-argument'),
      );
    }
  });

  it('refuses a key of the other IP version', () => {
    const listener = listenTcp({ localAddress: '127.0.0.1', localPort: 0 });
    assert.throws(
      () => listener.setMd5Key('::1', 'k'),
      (e) => isBrindleError(e, 'invalid-argument'),
    );
    listener.close();
    assert.throws(
      () => listener.setMd5Key('127.0.0.1', 'k'),
      (e) => isBrindleError(e, 'unavailable'),
    );
  });

  it('works in a worker thread', async () => {
    const module = new URL('../../src/sys/tcp.ts', import.meta.url).href;
    const code = `
      const { parentPort } = require('node:worker_threads');
      import(${JSON.stringify(module)}).then(async ({ listenTcp, connectTcpAsync }) => {
        const listener = listenTcp({ localAddress: '127.0.0.1', localPort: 0, md5Keys: [['127.0.0.1', 'k']] });
        listener.server.on('connection', (s) => s.pipe(s));
        const target = { remoteAddress: '127.0.0.1', remotePort: listener.port };
        const socket = await connectTcpAsync({ ...target, md5Key: 'k' });
        socket.write('from the worker');
        socket.once('data', (data) => {
          socket.end();
          listener.close();
          parentPort.postMessage(data.toString());
        });
      });`;
    const workers = [new Worker(code, { eval: true }), new Worker(code, { eval: true })];
    const answers = workers.map(async (worker) => {
      const [text] = (await once(worker, 'message')) as [string];
      const [status] = (await once(worker, 'exit')) as [number];
      return { text, status };
    });
    for (const answer of await Promise.all(answers)) assert.deepEqual(answer, { text: 'from the worker', status: 0 });
  });
});
