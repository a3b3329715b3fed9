import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { IpAddress } from '#net/address.ts';
import { AF_INET, SOCK_CLOEXEC, SOCK_NONBLOCK } from './constants.ts';
import { check, closeFd, libc } from './ffi.ts';
import { pollReadable } from './poll.ts';
import { encodeSockaddr } from './sockopt.ts';

const SOCK_DGRAM = 2;

describe('poll', () => {
  it('goes on after an error of the descriptor', async () => {
    const peer = createSocket('udp4');
    await new Promise<void>((done) => peer.bind(0, '127.0.0.1', done));
    const { port } = peer.address();
    await new Promise<void>((done) => peer.close(done));
    const fd = check('open socket', libc().socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const address = encodeSockaddr(IpAddress.parse('127.0.0.1'), port);
    check('connect', libc().connect(fd, address, address.length));
    const results: number[] = [];
    let heard = Promise.withResolvers<void>();
    const poll = pollReadable(fd, () => {
      results.push(libc().recv(fd, new Uint8Array(64), 64, 0));
      heard.resolve();
    });
    try {
      libc().send(fd, Uint8Array.of(1), 1, 0); // to a closed port: the answer is an error
      await heard.promise;
      assert.equal(results.at(-1), -1);

      const again = createSocket('udp4');
      await new Promise<void>((done) => again.bind(port, '127.0.0.1', done));
      heard = Promise.withResolvers<void>();
      const received = once(again, 'message') as Promise<[Buffer, { port: number; address: string }]>;
      libc().send(fd, Uint8Array.of(1), 1, 0);
      const [, from] = await received;
      again.send('hello', from.port, from.address);
      await heard.promise;
      assert.equal(results.at(-1), 5);
      again.close();
    } finally {
      poll.close();
      closeFd(fd);
    }
  });
});
