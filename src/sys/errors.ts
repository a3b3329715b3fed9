// A system call that the kernel refused. In: the operation and errno. Out: an error with both as fields.
import { constants } from 'node:os';
import { BrindleError, type ErrorCode, type ErrorDetails } from '#base/errors.ts';

/** Where two names share a number, the one that is used here. */
const PREFERRED = ['EAGAIN', 'EOPNOTSUPP'] as const;

let names: Map<number, string> | undefined;

/** `EEXIST` for 17. A number without a name gives `errno 133`. */
export function errnoName(errno: number): string {
  if (!names) {
    names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));
    for (const name of PREFERRED) names.set(constants.errno[name], name);
  }
  return names.get(errno) ?? `errno ${errno}`;
}

const CODES: Record<string, ErrorCode> = {
  EACCES: 'permission',
  EPERM: 'permission',
  ETIMEDOUT: 'timeout',
};

/** A failed system call. `errno` is the name (`ECONNREFUSED`), `code` is `permission`, `timeout` or `kernel`. */
export class SystemError extends BrindleError {
  readonly operation: string;
  readonly errno: string;

  constructor(operation: string, errno: number | string, details: ErrorDetails = {}) {
    const name = typeof errno === 'number' ? errnoName(errno) : errno;
    super(CODES[name] ?? 'kernel', `${operation}: ${name}`, details);
    this.name = 'SystemError';
    this.operation = operation;
    this.errno = name;
  }
}

export function isSystemError(value: unknown, errno?: string): value is SystemError {
  return value instanceof SystemError && (errno === undefined || value.errno === errno);
}

/** Turns an error of Node's own fs and net modules (which carry `code` and `syscall`) into a SystemError. */
export function fromNodeError(operation: string, error: unknown): unknown {
  const code = (error as { code?: unknown } | null)?.code;
  if (error instanceof BrindleError || typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code)) return error;
  return new SystemError(operation, code, { cause: error });
}
