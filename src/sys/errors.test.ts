import assert from 'node:assert/strict';
import { it } from 'node:test';
import { errnoName, fromNodeError, isSystemError, SystemError } from './errors.ts';

it('names errno numbers by their usual name', () => {
  assert.equal(errnoName(17), 'EEXIST');
  assert.equal(errnoName(11), 'EAGAIN');
  assert.equal(errnoName(95), 'EOPNOTSUPP');
  assert.equal(errnoName(9999), 'errno 9999');
});

it('carries operation and errno, and a code that says what kind it is', () => {
  const error = new SystemError('bind', 13);
  assert.equal(error.code, 'permission');
  assert.equal(error.message, 'bind: EACCES');
  assert.ok(isSystemError(error, 'EACCES'));
  assert.equal(new SystemError('connect', 'ETIMEDOUT').code, 'timeout');
  assert.equal(new SystemError('connect', 'ECONNREFUSED').code, 'kernel');
});

it('takes over the errors of Node itself, and no others', () => {
  assert.ok(isSystemError(fromNodeError('read', Object.assign(new Error('x'), { code: 'ENOENT' })), 'ENOENT'));
  const other = new TypeError('x');
  assert.equal(fromNodeError('read', other), other);
});
