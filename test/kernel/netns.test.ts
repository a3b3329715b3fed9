// Namespaces, sysctls and readiness on the real kernel. Needs root and iproute2.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { isBrindleError } from '#base/errors.ts';
import { isSystemError } from '#sys/errors.ts';
import {
  createNamedNetns,
  currentNetnsId,
  deleteNamedNetns,
  listNamedNetns,
  namedNetnsExists,
  namedNetnsPath,
  netnsId,
  withNetns,
} from '#sys/netns.ts';
import { readSysctl, tryReadSysctl, writeSysctl } from '#sys/proc.ts';
import { testNetns, uniqueName } from '../support/netns.ts';

describe('network namespaces', () => {
  it('are made, listed and deleted so that `ip netns` agrees', () => {
    const name = uniqueName('bt-made-');
    const path = createNamedNetns(name);
    try {
      assert.ok(listNamedNetns().includes(name));
      assert.ok(namedNetnsExists(name));
      assert.ok(execFileSync('ip', ['netns'], { encoding: 'utf8' }).includes(name));
      assert.match(execFileSync('ip', ['netns', 'exec', name, 'ip', 'link'], { encoding: 'utf8' }), /lo:/);
      assert.throws(
        () => createNamedNetns(name),
        (e) => isBrindleError(e, 'already-exists'),
      );
      assert.notEqual(netnsId(path), currentNetnsId());
    } finally {
      assert.equal(deleteNamedNetns(name), true);
    }
    assert.equal(deleteNamedNetns(name), false);
    assert.ok(!namedNetnsExists(name));
    assert.throws(
      () => netnsId(path),
      (e) => isBrindleError(e, 'not-found'),
    );
  });

  it('made by `ip netns` can be deleted, and a file left over by a crash too', () => {
    const name = uniqueName('bt-left-');
    execFileSync('ip', ['netns', 'add', name]);
    assert.equal(deleteNamedNetns(name), true);
    writeFileSync(namedNetnsPath(name), '');
    assert.throws(
      () => netnsId(namedNetnsPath(name)),
      (e) => isBrindleError(e, 'invalid-argument'),
    );
    assert.equal(deleteNamedNetns(name), true);
    assert.equal(namedNetnsExists(name), false);
  });

  it('have plain names only', () => {
    for (const name of ['', '.', '..', 'a/b', '../x', 'a\0b', 'x'.repeat(256)]) {
      assert.throws(
        () => namedNetnsPath(name),
        (e) => isBrindleError(e, 'invalid-argument'),
      );
    }
  });

  it('are entered for the length of a function, also when it throws, also one inside another', () => {
    using a = testNetns('a');
    using b = testNetns('b');
    const home = currentNetnsId();
    const seen = withNetns(a.path, () => [currentNetnsId(), withNetns(b.fd, currentNetnsId), currentNetnsId()]);
    assert.deepEqual(seen, [netnsId(a.path), netnsId(b.path), netnsId(a.path)]);
    assert.equal(currentNetnsId(), home);
    assert.throws(() => withNetns(a.path, () => assert.fail('inside')), /inside/);
    assert.equal(currentNetnsId(), home);
    assert.throws(
      () => withNetns('/run/netns/none', currentNetnsId),
      (e) => isBrindleError(e, 'not-found'),
    );
    assert.throws(
      () => withNetns('/dev/null', currentNetnsId),
      (e) => isBrindleError(e, 'invalid-argument'),
    );
    assert.throws(
      () => withNetns('/proc/self/ns/uts', currentNetnsId),
      (e) => isBrindleError(e, 'invalid-argument'),
    );
    assert.equal(currentNetnsId(), home);
  });

  it('take no asynchronous function', () => {
    using a = testNetns('a');
    assert.throws(
      () => withNetns(a.path, () => Promise.resolve(1)),
      (e) => isBrindleError(e, 'internal'),
    );
  });

  it('do not leak into the threads that Node starts later', async () => {
    using a = testNetns('a');
    const module = new URL('../../src/sys/netns.ts', import.meta.url).href;
    // A fresh process, whose first asynchronous file access happens inside of the namespace.
    const code = `
      const { withNetns, currentNetnsId } = await import(${JSON.stringify(module)});
      const fs = await import('node:fs');
      const reads = [];
      withNetns(${JSON.stringify(a.path)}, () => {
        for (let i = 0; i < 4; i++) reads.push(new Promise((r) => fs.readlink('/proc/thread-self/ns/net', (e, t) => r(t))));
      });
      const own = 'net:[' + currentNetnsId() + ']';
      console.log((await Promise.all(reads)).every((link) => link === own));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
    assert.equal(output.trim(), 'true');
  });
});

describe('sysctls', () => {
  it('are those of the namespace the thread is in', () => {
    using a = testNetns('a');
    const name = ['ipv4', 'conf', 'all', 'rp_filter'];
    const before = readSysctl(name);
    a.inside(() => writeSysctl(name, 2));
    assert.equal(
      a.inside(() => readSysctl(name)),
      '2',
    );
    assert.equal(readSysctl(name), before);
    assert.equal(readFileSync('/proc/sys/net/ipv4/conf/all/rp_filter', 'utf8').trim(), before);
  });

  it('refuse names that lead elsewhere, unknown ones and bad values', () => {
    using a = testNetns('a');
    for (const name of [['ipv4'], ['..', 'kernel'], ['ipv4', 'conf', '../../x', 'y'], ['ipv4', '']]) {
      assert.throws(
        () => writeSysctl(name, 1),
        (e) => isBrindleError(e, 'invalid-argument'),
      );
    }
    a.inside(() => {
      assert.equal(tryReadSysctl(['ipv4', 'conf', 'none', 'rp_filter']), null);
      assert.throws(
        () => writeSysctl(['ipv4', 'conf', 'none', 'rp_filter'], 1),
        (e) => isSystemError(e, 'ENOENT'),
      );
      assert.throws(
        () => writeSysctl(['ipv4', 'ip_forward'], 'abc'),
        (e) => isSystemError(e, 'EINVAL'),
      );
    });
  });
});
