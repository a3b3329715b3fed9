// Kernel parameters under /proc/sys/net, of the network namespace that the calling thread is in (see withNetns).
// In: the parts of the name, so that an interface name with dots stays one part. Out: the value as text, trimmed.
import { readFileSync } from 'node:fs';
import { BrindleError } from '#base/errors.ts';
import * as c from './constants.ts';
import { fromNodeError, SystemError } from './errors.ts';
import { closeFd, lastErrno, libc } from './ffi.ts';

const ROOT = '/proc/sys/net';

/** `['ipv4', 'conf', 'eth0', 'rp_filter']` and the like. */
export type SysctlName = readonly string[];

function pathOf(name: SysctlName): string {
  const bad = name.find((part) => !/^[^/\0\n]{1,64}$/.test(part) || part === '.' || part === '..');
  if (name.length < 2 || bad !== undefined) {
    throw new BrindleError('invalid-argument', `"${name.join('/')}" is not the name of a network sysctl`);
  }
  return `${ROOT}/${name.join('/')}`;
}

/** Throws SystemError, `ENOENT` when the kernel has no such parameter (or no such interface). */
export function readSysctl(name: SysctlName): string {
  const path = pathOf(name);
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw fromNodeError(`read ${path}`, error);
  }
}

/** As `readSysctl`; null when the kernel has no such parameter. */
export function tryReadSysctl(name: SysctlName): string | null {
  try {
    return readSysctl(name);
  } catch (error) {
    if (error instanceof SystemError && error.errno === 'ENOENT') return null;
    throw error;
  }
}

/** Throws SystemError: `ENOENT`, `EINVAL` for a value out of range, `EACCES` or `EROFS` where /proc is read-only. */
export function writeSysctl(name: SysctlName, value: string | number): void {
  const path = pathOf(name);
  const fd = libc().open(path, c.O_WRONLY | c.O_CLOEXEC, 0);
  if (fd === -1) throw new SystemError(`set ${path} to ${value}`, lastErrno());
  const bytes = new TextEncoder().encode(String(value));
  const written = libc().write(fd, bytes, bytes.length);
  const errno = written === -1 ? lastErrno() : 0;
  closeFd(fd);
  if (errno !== 0) throw new SystemError(`set ${path} to ${value}`, errno);
}
