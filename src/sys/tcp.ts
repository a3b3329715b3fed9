// TCP connections and listeners with what Node's own `net` cannot do: TCP-MD5 keys (RFC 2385), TTL security
// (RFC 5082), binding to an interface or to an address that is not there yet. In: options. Out: an ordinary
// `net.Socket` or `net.Server` over a descriptor that was prepared here. Works on the main thread and in workers.
//
// Traps:
// - The kernel answers a wrong MD5 key with silence: a connection attempt then ends by `timeoutMs` only.
// - The keys of a listener also serve the connections accepted from it; they may be changed while it listens, but a
//   connection that is up keeps the key with which it began.
// - An IPv6 listener here is IPv6 only; listen twice for both families.
import { type AddressInfo, Server, Socket } from 'node:net';
import { BrindleError } from '#base/errors.ts';
import { type Family, IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import * as c from './constants.ts';
import { SystemError } from './errors.ts';
import { check, closeFd, lastErrno, libc } from './ffi.ts';
import { type PollHandle, pollWritable } from './poll.ts';
import * as option from './sockopt.ts';

/** Options of both sides. */
export interface TcpSocketOptions {
  /** Bind to this interface (SO_BINDTODEVICE); also the scope of link-local addresses unless `scope` is given. */
  readonly interfaceName?: string | undefined;
  /** Interface index for IPv6 link-local addresses. */
  readonly scope?: number | undefined;
  /** TTL or hop limit sent, 1 to 255. */
  readonly ttl?: number | undefined;
  /** Lowest TTL or hop limit accepted, 1 to 255 (GTSM); for n hops away it is 256 - n. */
  readonly minTtl?: number | undefined;
  /** DSCP, 0 to 63; BGP uses 48 (CS6). */
  readonly dscp?: number | undefined;
  /** Bind although the host has not got the local address yet. */
  readonly freebind?: boolean | undefined;
}

export interface TcpConnectOptions extends TcpSocketOptions {
  readonly remoteAddress: IpAddress | string;
  /** 1 to 65535. */
  readonly remotePort: number;
  readonly localAddress?: IpAddress | string | undefined;
  /** 0 or absent: the kernel chooses. */
  readonly localPort?: number | undefined;
  /** At most 80 octets; text is taken as UTF-8. */
  readonly md5Key?: string | Uint8Array | undefined;
  /** Milliseconds after which the attempt fails with `ETIMEDOUT`; absent: the kernel's own limit, about two minutes. */
  readonly timeoutMs?: number | undefined;
}

export type ConnectCallback = (error: Error | null, socket: Socket | null) => void;

export interface ConnectAttempt {
  /** Gives up silently: the callback is not called any more. */
  cancel(): void;
}

export interface TcpListenOptions extends TcpSocketOptions {
  /** `0.0.0.0` or `::` for all of one family. */
  readonly localAddress: IpAddress | string;
  /** 0: the kernel chooses. */
  readonly localPort: number;
  readonly backlog?: number | undefined;
  readonly md5Keys?: Iterable<readonly [Prefix | IpAddress | string, string | Uint8Array]> | undefined;
}

export interface TcpListener {
  /** Emits `connection` with a paused socket; `close` and `error` as usual. */
  readonly server: Server;
  readonly address: IpAddress;
  readonly port: number;
  /** Sets or replaces the key for peers in a prefix. Throws SystemError. */
  setMd5Key(peer: Prefix | IpAddress | string, key: string | Uint8Array): void;
  /** Removing a key that is not there is no error. */
  removeMd5Key(peer: Prefix | IpAddress | string): void;
  /** Stops listening. Accepted connections stay. */
  close(): void;
}

/**
 * Starts to connect. `callback` is called exactly once, never before this function returns, with either an error or a
 * connected socket (paused: attach handlers, then read). Wrong options throw `invalid-argument` at once.
 * Errors are SystemError with `errno`, such as `ECONNREFUSED`, `EHOSTUNREACH`, `EADDRNOTAVAIL` or `ETIMEDOUT`.
 */
export function connectTcp(options: TcpConnectOptions, callback: ConnectCallback): ConnectAttempt {
  const remote = address(options.remoteAddress, 'remoteAddress');
  const local = options.localAddress === undefined ? null : address(options.localAddress, 'localAddress');
  checkPort(options.remotePort, 1, 'remotePort');
  checkPort(options.localPort ?? 0, 0, 'localPort');
  if (local && local.family !== remote.family) {
    throw new BrindleError('invalid-argument', `${local} and ${remote} are of different IP versions`, {
      field: 'localAddress',
    });
  }
  const operation = `connect to ${remote} port ${options.remotePort}`;
  const fd = openSocket(remote.family);
  let poll: PollHandle | null = null;
  let timer: NodeJS.Timeout | null = null;
  let immediate: NodeJS.Immediate | null = null;
  let finished = false;
  let owned = true;

  const release = (): void => {
    if (owned) closeFd(fd);
    owned = false;
  };
  const finish = (errno: number | string): void => {
    if (finished) return;
    stop();
    if (errno !== 0) {
      release();
      callback(new SystemError(operation, errno), null);
      return;
    }
    owned = false;
    callback(null, new Socket({ fd, readable: true, writable: true, allowHalfOpen: false }));
  };
  const stop = (): void => {
    finished = true;
    poll?.close();
    if (timer) clearTimeout(timer);
    if (immediate) clearImmediate(immediate);
  };

  try {
    applyOptions(fd, remote.family, options);
    if (options.md5Key !== undefined) option.setMd5Key(fd, Prefix.host(remote), keyBytes(options.md5Key));
    const scope = scopeOf(options);
    if (local || options.localPort) {
      const from = local ?? (remote.family === 4 ? IpAddress.parse('0.0.0.0') : IpAddress.parse('::'));
      option.setIntOption(fd, c.SOL_SOCKET, c.SO_REUSEADDR, 1, 'SO_REUSEADDR');
      bindSocket(fd, from, options.localPort ?? 0, scope);
    }
    const sockaddr = option.encodeSockaddr(remote, options.remotePort, remote.isLinkLocal() ? scope : 0);
    const errno = libc().connect(fd, sockaddr, sockaddr.length) === 0 ? 0 : lastErrno();
    const name = errno === 0 ? '' : new SystemError(operation, errno).errno;
    if (name === 'EINPROGRESS') {
      poll = pollWritable(fd, () => finish(option.getIntOption(fd, c.SOL_SOCKET, c.SO_ERROR, 'SO_ERROR')));
      if (options.timeoutMs !== undefined) timer = setTimeout(() => finish('ETIMEDOUT'), options.timeoutMs);
    } else immediate = setImmediate(() => finish(errno));
  } catch (error) {
    stop();
    release();
    if (!(error instanceof SystemError)) throw error;
    finished = false;
    immediate = setImmediate(() => {
      finished = true;
      callback(error, null);
    });
  }
  return {
    cancel(): void {
      if (finished) return;
      stop();
      release();
    },
  };
}

/** As `connectTcp`, as a promise. */
export function connectTcpAsync(options: TcpConnectOptions): Promise<Socket> {
  return new Promise((resolve, reject) => {
    connectTcp(options, (error, socket) => {
      if (socket) resolve(socket);
      else reject(error ?? new BrindleError('internal', 'connect ended with neither socket nor error'));
    });
  });
}

/** Binds and listens at once; throws SystemError (`EADDRINUSE`, `EADDRNOTAVAIL`, ...) or `invalid-argument`. */
export function listenTcp(options: TcpListenOptions): TcpListener {
  const local = address(options.localAddress, 'localAddress');
  checkPort(options.localPort, 0, 'localPort');
  const fd = openSocket(local.family);
  try {
    option.setIntOption(fd, c.SOL_SOCKET, c.SO_REUSEADDR, 1, 'SO_REUSEADDR');
    if (local.family === 6) option.setIntOption(fd, c.IPPROTO_IPV6, c.IPV6_V6ONLY, 1, 'IPV6_V6ONLY');
    applyOptions(fd, local.family, options);
    for (const [peer, key] of options.md5Keys ?? []) option.setMd5Key(fd, prefix(peer), keyBytes(key));
    bindSocket(fd, local, options.localPort, scopeOf(options));
    check(`listen on ${local} port ${options.localPort}`, libc().listen(fd, options.backlog ?? 128));
    const port = option.boundAddress(fd)?.port ?? options.localPort;
    const server = new Server({ pauseOnConnect: true });
    server.listen({ fd });
    let open = true;
    server.once('close', () => {
      open = false;
    });
    const change = (peer: Prefix | IpAddress | string, key: Uint8Array): void => {
      if (!open) throw new BrindleError('unavailable', `the listener on ${local} port ${port} is closed`);
      const target = prefix(peer);
      if (target.family !== local.family) {
        throw new BrindleError('invalid-argument', `${target} cannot be a peer of the listener on ${local}`, {
          field: 'peer',
          remedy: 'listen for each IP version and set the key on the listener of the same version',
        });
      }
      option.setMd5Key(fd, target, key);
    };
    return {
      server,
      address: local,
      port,
      setMd5Key: (peer, key) => change(peer, keyBytes(key)),
      removeMd5Key(peer) {
        try {
          change(peer, new Uint8Array(0));
        } catch (error) {
          if (!(error instanceof SystemError) || error.errno !== 'ENOENT') throw error;
        }
      },
      close() {
        if (!open) return;
        open = false;
        server.close();
      },
    };
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/**
 * Sets TTL options on a connection that is up, such as one accepted from a listener that serves peers with different
 * settings. Throws `unavailable` when the socket has been closed already.
 */
export function setConnectionOptions(socket: Socket, options: Pick<TcpSocketOptions, 'ttl' | 'minTtl' | 'dscp'>): void {
  const fd = (socket as unknown as { _handle?: { fd?: number } | null })._handle?.fd ?? -1;
  if (fd < 0) throw new BrindleError('unavailable', 'the connection is closed');
  applyOptions(fd, (socket.address() as AddressInfo).family === 'IPv6' ? 6 : 4, options);
}

function openSocket(family: Family): number {
  const domain = family === 4 ? c.AF_INET : c.AF_INET6;
  return check('open TCP socket', libc().socket(domain, c.SOCK_STREAM | c.SOCK_NONBLOCK | c.SOCK_CLOEXEC, 0));
}

function applyOptions(fd: number, family: Family, options: TcpSocketOptions): void {
  if (options.interfaceName !== undefined) option.bindToDevice(fd, options.interfaceName);
  if (options.ttl !== undefined) option.setTtl(fd, family, options.ttl);
  if (options.minTtl !== undefined) option.setMinTtl(fd, family, options.minTtl);
  if (options.dscp !== undefined) option.setDscp(fd, family, options.dscp);
  if (options.freebind) option.setFreebind(fd, family);
}

function bindSocket(fd: number, local: IpAddress, port: number, scope: number): void {
  const sockaddr = option.encodeSockaddr(local, port, local.isLinkLocal() ? scope : 0);
  check(`bind to ${local} port ${port}`, libc().bind(fd, sockaddr, sockaddr.length));
}

function scopeOf(options: TcpSocketOptions): number {
  if (options.scope !== undefined) return options.scope;
  return options.interfaceName === undefined ? 0 : libc().if_nametoindex(options.interfaceName);
}

function address(value: IpAddress | string, field: string): IpAddress {
  if (typeof value !== 'string') return value;
  const parsed = IpAddress.tryParse(value);
  if (!parsed) throw new BrindleError('invalid-argument', `"${value}" is not an IPv4 or IPv6 address`, { field });
  return parsed;
}

function prefix(value: Prefix | IpAddress | string): Prefix {
  if (typeof value === 'string') return Prefix.parseOrHost(value);
  return value instanceof Prefix ? value : Prefix.host(value);
}

function keyBytes(key: string | Uint8Array): Uint8Array {
  const bytes = typeof key === 'string' ? new TextEncoder().encode(key) : key;
  if (bytes.length > 0) return bytes;
  throw new BrindleError('invalid-argument', 'a TCP-MD5 key must not be empty', {
    field: 'md5Key',
    remedy: 'leave the key out to connect without TCP-MD5',
  });
}

function checkPort(port: number, min: number, field: string): void {
  if (!Number.isInteger(port) || port < min || port > 65535) {
    throw new BrindleError('invalid-argument', `port ${port} is not in ${min}..65535`, { field });
  }
}
