// Network namespaces: entering one for the length of a function, naming, creating and deleting them as `ip netns` does.
// In: paths of namespace files (/run/netns/x, /proc/PID/ns/net). Out: descriptors, ids, results of the function run
// inside. See setns(2), ioctl_nsfs(2), ip-netns(8).
//
// Traps:
// - setns changes the calling thread only. What runs inside must therefore be synchronous, and must not start
//   threads (they would stay inside); libuv's pool is started beforehand for that reason.
// - A socket belongs for ever to the namespace in which it was opened. /proc/sys/net shows the namespace of the thread
//   that opens a file there; /proc/net shows the main thread's.
// - If the way back fails, every later system call would hit the wrong namespace: the process kills itself.
import {
  accessSync,
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  stat,
  statfsSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { BrindleError } from '#base/errors.ts';
import * as c from './constants.ts';
import { fromNodeError, isSystemError, SystemError } from './errors.ts';
import { check, closeFd, lastErrno, libc } from './ffi.ts';

/** Where `ip netns` keeps its namespaces. */
export const NETNS_DIRECTORY = '/run/netns';
const THREAD_NETNS = '/proc/thread-self/ns/net';

let poolStarted = false;

/**
 * Opens a network namespace file. The caller closes the descriptor with `closeFd`. Throws `not-found` when nothing is
 * there and `invalid-argument` when it is something other than a network namespace.
 */
export function openNetns(path: string): number {
  // O_NONBLOCK: a path from outside may be a FIFO.
  const fd = libc().open(path, c.O_RDONLY | c.O_CLOEXEC | c.O_NONBLOCK, 0);
  if (fd === -1) {
    const error = new SystemError(`open network namespace ${path}`, lastErrno());
    if (error.errno !== 'ENOENT' && error.errno !== 'ENOTDIR' && error.errno !== 'ESRCH') throw error;
    throw new BrindleError('not-found', `network namespace ${path} does not exist`, { cause: error });
  }
  try {
    if (statfsSync(`/proc/thread-self/fd/${fd}`).type !== c.NSFS_MAGIC) throw notNetns(path);
    if (libc().ioctl(fd, c.NS_GET_NSTYPE, 0) !== c.CLONE_NEWNET) throw notNetns(path);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return fd;
}

function notNetns(path: string): BrindleError {
  return new BrindleError('invalid-argument', `${path} is not a network namespace`, {
    remedy: 'give a path such as /run/netns/NAME or /proc/PID/ns/net',
  });
}

/** The namespace this thread is in. The caller closes the descriptor. */
export function openCurrentNetns(): number {
  return check('open own network namespace', libc().open(THREAD_NETNS, c.O_RDONLY | c.O_CLOEXEC, 0));
}

/**
 * The identity of a namespace (its inode number): equal for two paths to the same one. Numbers of namespaces that are
 * gone are used again, so an id means something only while the namespace is held open or known to live.
 */
export function netnsId(target: string | number): number {
  const fd = typeof target === 'number' ? target : openNetns(target);
  try {
    return fstatSync(fd).ino;
  } finally {
    if (fd !== target) closeFd(fd);
  }
}

/** The identity of the namespace of this thread. */
export function currentNetnsId(): number {
  const fd = openCurrentNetns();
  try {
    return fstatSync(fd).ino;
  } finally {
    closeFd(fd);
  }
}

/**
 * Runs the synchronous `fn` inside a namespace (a path, or a descriptor that stays the caller's) and returns to the
 * one before, also when `fn` throws. Calls may nest. Throws as `openNetns`, or SystemError when entering is refused.
 */
export function withNetns<T>(target: string | number, fn: () => T): T {
  startThreadPool();
  const home = openCurrentNetns();
  let fd: number;
  try {
    fd = typeof target === 'number' ? target : openNetns(target);
  } catch (error) {
    closeFd(home);
    throw error;
  }
  let result: T;
  try {
    check(`enter network namespace ${target}`, libc().setns(fd, c.CLONE_NEWNET));
    try {
      result = fn();
    } finally {
      returnTo(home);
    }
  } finally {
    closeFd(home);
    if (fd !== target) closeFd(fd);
  }
  if (typeof (result as { then?: unknown } | null | undefined)?.then === 'function') {
    throw new BrindleError('internal', 'withNetns was given an asynchronous function; its later parts ran outside');
  }
  return result;
}

function returnTo(home: number): void {
  if (libc().setns(home, c.CLONE_NEWNET) === 0) return;
  writeSync(2, `brindle: cannot return to the host's network namespace (errno ${lastErrno()}); ending the process\n`);
  process.kill(process.pid, 'SIGKILL');
}

/** libuv starts its threads at their first use; inside a foreign namespace they would be born there. */
function startThreadPool(): void {
  if (poolStarted) return;
  poolStarted = true;
  stat('/', () => {});
}

/** The path of a named namespace. Throws `invalid-argument` for a name that is not a plain file name. */
export function namedNetnsPath(name: string): string {
  if (!/^[^/\0]{1,255}$/.test(name) || name === '.' || name === '..') {
    throw new BrindleError('invalid-argument', `"${name}" is not a name for a network namespace`, { field: 'name' });
  }
  return `${NETNS_DIRECTORY}/${name}`;
}

/**
 * Makes a new namespace, visible to `ip netns`, and returns its path. Its loopback interface is down. Throws
 * `already-exists`, or SystemError.
 */
export function createNamedNetns(name: string): string {
  const path = namedNetnsPath(name);
  startThreadPool();
  shareNetnsDirectory();
  try {
    closeSync(openSync(path, 'wx', 0));
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EEXIST') {
      throw new BrindleError('already-exists', `network namespace ${name} exists`, { cause: error });
    }
    throw fromNodeError(`create ${path}`, error);
  }
  const home = openCurrentNetns();
  try {
    check('create network namespace', libc().unshare(c.CLONE_NEWNET));
    try {
      check(`mount network namespace on ${path}`, libc().mount(THREAD_NETNS, path, 'none', c.MS_BIND, null));
    } finally {
      returnTo(home);
    }
  } catch (error) {
    unlinkSync(path);
    throw error;
  } finally {
    closeFd(home);
  }
  return path;
}

/**
 * Removes the name. The namespace ends when nothing else holds it (a process, a socket, a descriptor). Returns false
 * when there was none.
 */
export function deleteNamedNetns(name: string): boolean {
  const path = namedNetnsPath(name);
  const unmounted = libc().umount2(path, c.MNT_DETACH);
  if (unmounted === -1) {
    const error = new SystemError(`unmount ${path}`, lastErrno());
    if (error.errno === 'ENOENT') return false;
    if (error.errno !== 'EINVAL') throw error; // EINVAL: a file left over by a crash, with nothing mounted
  }
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ENOENT') throw fromNodeError(`remove ${path}`, error);
  }
  return true;
}

/** Names under /run/netns, whoever made them, sorted. */
export function listNamedNetns(): string[] {
  try {
    return readdirSync(NETNS_DIRECTORY).sort();
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return [];
    throw fromNodeError(`read ${NETNS_DIRECTORY}`, error);
  }
}

export function namedNetnsExists(name: string): boolean {
  try {
    accessSync(namedNetnsPath(name));
    return true;
  } catch {
    return false;
  }
}

/** As `ip netns` does: the directory is a shared mount, so that unmounting reaches every mount namespace. */
function shareNetnsDirectory(): void {
  mkdirSync(NETNS_DIRECTORY, { recursive: true, mode: 0o755 });
  const share = () => libc().mount('', NETNS_DIRECTORY, 'none', c.MS_SHARED | c.MS_REC, null);
  try {
    check(`share ${NETNS_DIRECTORY}`, share());
  } catch (error) {
    if (!isSystemError(error, 'EINVAL')) throw error;
    // Not a mount point yet.
    const bound = libc().mount(NETNS_DIRECTORY, NETNS_DIRECTORY, 'none', c.MS_BIND | c.MS_REC, null);
    check(`mount ${NETNS_DIRECTORY}`, bound);
    check(`share ${NETNS_DIRECTORY}`, share());
  }
}
