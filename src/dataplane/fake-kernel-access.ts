// KernelAccess over the in-memory kernel, for tests of wiring and of whoever uses it. Namespaces have paths, sysctls are
// remembered.
import { BrindleError } from '#base/errors.ts';
import { FakeKernel, type FakeNamespace } from '#netlink/fake.ts';
import type { SysctlName } from '#sys/proc.ts';
import type { KernelAccess, Namespace } from './kernel-access.ts';

export class FakeKernelAccess implements KernelAccess {
  readonly host: Namespace;
  readonly hostNamespace: FakeNamespace;
  readonly #kernel = new FakeKernel();
  readonly #namespaces = new Map<string, FakeNamespace>();
  readonly #sysctls = new Map<FakeNamespace, Map<string, string>>();

  constructor() {
    this.hostNamespace = this.#kernel.createNamespace();
    this.host = this.#access(this.hostNamespace);
    this.#namespaces.set('/proc/1/ns/net', this.hostNamespace);
  }

  /** Makes a container's namespace at a path. */
  createNamespace(path: string): FakeNamespace {
    const namespace = this.#kernel.createNamespace();
    this.#namespaces.set(path, namespace);
    return namespace;
  }

  deleteNamespace(path: string): void {
    this.#namespaces.delete(path);
  }

  open(path: string): Namespace {
    const namespace = this.#namespaces.get(path);
    if (!namespace) throw new BrindleError('not-found', `network namespace ${path} does not exist`);
    return this.#access(namespace);
  }

  close(): void {
    this.host.close();
  }

  #access(namespace: FakeNamespace): Namespace {
    const values = this.#sysctls.get(namespace) ?? new Map<string, string>();
    this.#sysctls.set(namespace, values);
    const netlink = namespace.connect();
    return {
      fd: namespace.fd,
      id: namespace.fd,
      netlink,
      setSysctls(list) {
        for (const [name, value] of list) values.set(name.join('/'), String(value));
      },
      readSysctl: (name: SysctlName) => values.get(name.join('/')) ?? null,
      close: () => netlink.close(),
    };
  }
}
