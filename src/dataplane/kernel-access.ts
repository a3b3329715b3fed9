// A network namespace as the dataplane uses it: netlink, sysctls and a descriptor, behind an interface, so that the
// managers run on the fake kernel too.
import type { NetlinkApi } from '#netlink/api.ts';
import { openNetlink } from '#netlink/kernel.ts';
import { closeFd } from '#sys/ffi.ts';
import { netnsId, openCurrentNetns, openNetns, withNetns } from '#sys/netns.ts';
import { readSysctl, type SysctlName, writeSysctl } from '#sys/proc.ts';
import { isSystemError } from '#sys/errors.ts';

export interface Namespace {
  /** An open descriptor, valid until `close`. */
  readonly fd: number;
  /** Equal for the same namespace. */
  readonly id: number;
  readonly netlink: NetlinkApi;
  /** Sets kernel parameters in order; throws SystemError at the first that fails. */
  setSysctls(values: readonly (readonly [SysctlName, string | number])[]): void;
  /** null where the kernel has no such parameter. */
  readSysctl(name: SysctlName): string | null;
  close(): void;
}

export interface KernelAccess {
  /** The namespace of the daemon, in which the host side interfaces are. */
  readonly host: Namespace;
  /** A container's. Throws `not-found` or `invalid-argument`. The caller closes it. */
  open(path: string): Namespace;
  close(): void;
}

/** The real kernel. The host's namespace is the one at `hostPath`, or the one the calling thread is in. */
export function openKernelAccess(hostPath?: string): KernelAccess {
  const own = hostPath === undefined;
  const host = new RealNamespace(own ? openCurrentNetns() : openNetns(hostPath), own);
  return {
    host,
    open: (path) => new RealNamespace(openNetns(path), false),
    close: () => host.close(),
  };
}

class RealNamespace implements Namespace {
  readonly fd: number;
  readonly id: number;
  readonly netlink: NetlinkApi;
  readonly #own: boolean;

  /** `own`: the thread is in it anyway. */
  constructor(fd: number, own: boolean) {
    this.fd = fd;
    this.#own = own;
    try {
      this.id = netnsId(fd);
      this.netlink = openNetlink(own ? {} : { netns: fd });
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  setSysctls(values: readonly (readonly [SysctlName, string | number])[]): void {
    if (values.length === 0) return;
    this.#inside(() => {
      for (const [name, value] of values) writeSysctl(name, value);
    });
  }

  readSysctl(name: SysctlName): string | null {
    try {
      return this.#inside(() => readSysctl(name));
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return null;
      throw error;
    }
  }

  close(): void {
    this.netlink.close();
    closeFd(this.fd);
  }

  #inside<T>(fn: () => T): T {
    return this.#own ? fn() : withNetns(this.fd, fn);
  }
}
