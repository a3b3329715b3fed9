// The C library, called in process. In: numbers and byte arrays. Out: the raw result of the call; errno by name in a
// SystemError when it is -1. Everything above works in terms of these few calls.
//
// Traps:
// - errno belongs to the thread: it is read directly after the call, before any other JavaScript can call libc.
// - Byte arrays are passed by address and must not be resized or detached during the call.
// - The binding is loaded once a thread, at its first use; worker threads get their own.
import koffi from 'koffi';
import { SOL_SOCKET, SO_ATTACH_FILTER } from './constants.ts';
import { SystemError } from './errors.ts';

const SOCK_FPROG_SIZE = 16;

export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  connect(fd: number, address: Uint8Array, length: number): number;
  listen(fd: number, backlog: number): number;
  getsockname(fd: number, address: Uint8Array, length: Uint32Array): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number;
  /** SO_ATTACH_FILTER with a classic BPF program of 8 octets an instruction. */
  attachFilter(fd: number, program: Uint8Array): number;
  getsockopt(fd: number, level: number, name: number, value: Uint8Array, length: Uint32Array): number;
  send(fd: number, data: Uint8Array, length: number, flags: number): number;
  recv(fd: number, data: Uint8Array, length: number, flags: number): number;
  write(fd: number, data: Uint8Array, length: number): number;
  open(path: string, flags: number, mode: number): number;
  close(fd: number): number;
  ioctl(fd: number, request: number, argument: number): number;
  setns(fd: number, type: number): number;
  unshare(flags: number): number;
  mount(source: string, target: string, type: string | null, flags: number, data: string | null): number;
  umount2(target: string, flags: number): number;
  if_nametoindex(name: string): number;
}

let binding: Libc | undefined;

/** The C library's calls, unchecked. Use `check` around them. */
export function libc(): Libc {
  binding ??= load();
  return binding;
}

function load(): Libc {
  const library = koffi.load('libc.so.6');
  koffi.struct('sock_fprog', { len: 'uint16', filter: 'void*' });
  const attach = library.func('setsockopt', 'int', ['int', 'int', 'int', 'sock_fprog*', 'uint32_t']);
  return {
    attachFilter: (fd, program) =>
      attach(fd, SOL_SOCKET, SO_ATTACH_FILTER, { len: program.length / 8, filter: program }, SOCK_FPROG_SIZE) as number,
    socket: library.func('int socket(int, int, int)'),
    bind: library.func('int bind(int, void*, uint32_t)'),
    connect: library.func('int connect(int, void*, uint32_t)'),
    listen: library.func('int listen(int, int)'),
    getsockname: library.func('int getsockname(int, void*, void*)'),
    setsockopt: library.func('int setsockopt(int, int, int, void*, uint32_t)'),
    getsockopt: library.func('int getsockopt(int, int, int, void*, void*)'),
    send: library.func('long send(int, void*, size_t, int)'),
    recv: library.func('long recv(int, void*, size_t, int)'),
    write: library.func('long write(int, void*, size_t)'),
    open: library.func('int open(const char*, int, uint32_t)'),
    close: library.func('int close(int)'),
    ioctl: library.func('int ioctl(int, unsigned long, unsigned long)'),
    setns: library.func('int setns(int, int)'),
    unshare: library.func('int unshare(int)'),
    mount: library.func('int mount(const char*, const char*, const char*, unsigned long, const char*)'),
    umount2: library.func('int umount2(const char*, int)'),
    if_nametoindex: library.func('uint32_t if_nametoindex(const char*)'),
  };
}

/** errno of the call made just before, on this thread. */
export function lastErrno(): number {
  return koffi.errno();
}

/** Passes a result through; -1 becomes a SystemError with errno. Call it directly around the libc call. */
export function check(operation: string, result: number): number {
  if (result === -1) throw new SystemError(operation, koffi.errno());
  return result;
}

/** Closes a descriptor; a failure is of no use to anybody and is ignored. */
export function closeFd(fd: number): void {
  libc().close(fd);
}
