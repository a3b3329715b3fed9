// The one error base of the project and the catalogue of its codes.
// A message names the thing, what is wrong with it, and the remedy.

/** Every stable error code. Documented in docs/reference/errors.md. */
export type ErrorCode =
  | 'invalid-argument' // a value from outside does not parse or is out of range
  | 'invalid-resource' // a resource fails its schema or a cross-field rule
  | 'not-found'
  | 'already-exists'
  | 'conflict' // compare-and-swap lost
  | 'compacted' // the revision asked for is no longer in the change log
  | 'exhausted' // no address, block or mark left
  | 'unavailable' // try again later: agent, store or peer is not there
  | 'timeout'
  | 'permission'
  | 'kernel' // netlink, nftables or a system call refused
  | 'protocol' // a peer or runtime broke its protocol
  | 'corrupt' // stored state does not read back
  | 'unsupported'
  | 'internal';

export interface ErrorDetails {
  /** The field at fault, as a path such as `spec.cidr`. */
  readonly field?: string | undefined;
  /** What to do about it, a sentence. */
  readonly remedy?: string | undefined;
  readonly cause?: unknown;
}

/** Base of all errors thrown on purpose. `code` is stable, `message` is for people. */
export class BrindleError extends Error {
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly remedy: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'BrindleError';
    this.code = code;
    this.field = details.field;
    this.remedy = details.remedy;
  }
}

export function isBrindleError(value: unknown, code?: ErrorCode): value is BrindleError {
  return value instanceof BrindleError && (code === undefined || value.code === code);
}

/** The text of anything thrown. */
export function errorText(value: unknown): string {
  if (value instanceof BrindleError && value.remedy) return `${value.message} (${value.remedy})`;
  return value instanceof Error ? value.message : String(value);
}

/** For the branch that the types say cannot be reached. */
export function unreachable(value: never): never {
  throw new BrindleError('internal', `unexpected value ${JSON.stringify(value)}`);
}
