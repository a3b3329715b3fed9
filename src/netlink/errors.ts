// A netlink request that the kernel refused, with the kernel's own explanation where it gives one (extended ack).
import { BrindleError, type ErrorDetails } from '#base/errors.ts';
import { errnoName } from '#sys/errors.ts';

export class KernelError extends BrindleError {
  /** What was asked, in words: `add route 10.0.0.0/8`. */
  readonly operation: string;
  /** `EEXIST`, `ENODEV`, ... */
  readonly errno: string;
  /** The kernel's text; null when it gave none. */
  readonly extendedText: string | null;

  constructor(
    operation: string,
    errno: number | string,
    extendedText: string | null = null,
    details: ErrorDetails = {},
  ) {
    const name = typeof errno === 'number' ? errnoName(errno) : errno;
    super('kernel', `cannot ${operation}: ${name}${extendedText ? ` (${extendedText})` : ''}`, details);
    this.name = 'KernelError';
    this.operation = operation;
    this.errno = name;
    this.extendedText = extendedText;
  }
}

/** True for a KernelError, with that errno when one is given. */
export function isKernelError(value: unknown, ...errnos: string[]): value is KernelError {
  return value instanceof KernelError && (errnos.length === 0 || errnos.includes(value.errno));
}
