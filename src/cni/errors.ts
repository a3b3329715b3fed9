// CNI errors: what goes to the runtime as `{cniVersion, code, msg, details}`. Codes below 100 are the specification's
// (CNI 1.1.0, "Error"; 8 is libcni's), from 100 on ours. docs/reference/cni.md lists them.
import { BrindleError, errorText } from '#base/errors.ts';
import type { CniAnswer } from './protocol.ts';

export const CniCode = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  badEnvironment: 4,
  io: 5,
  decode: 6,
  badConfig: 7,
  badNetns: 8,
  tryAgain: 11,
  notAvailable: 50,
  /** Ours: no free address in the pools. */
  exhausted: 100,
  /** Ours: the attachment, the interface or the address asked for exists already. */
  exists: 101,
  /** Ours: the kernel refused. */
  kernel: 102,
  /** Ours: CHECK found that something is missing or different. */
  degraded: 103,
  internal: 999,
} as const;

export class CniError extends Error {
  readonly code: number;
  readonly details: string | undefined;

  constructor(code: number, message: string, details?: string) {
    super(message);
    this.name = 'CniError';
    this.code = code;
    this.details = details;
  }
}

/** Anything thrown, as a CNI error. */
export function toCniError(error: unknown): CniError {
  if (error instanceof CniError) return error;
  if (!(error instanceof BrindleError)) return new CniError(CniCode.internal, errorText(error));
  const code = codeOf(error);
  return new CniError(code, error.message, error.remedy);
}

function codeOf(error: BrindleError): number {
  switch (error.code) {
    case 'invalid-argument':
    case 'invalid-resource':
      return error.field === 'CNI_NETNS' ? CniCode.badNetns : CniCode.badConfig;
    case 'unsupported':
      return CniCode.unsupportedField;
    case 'not-found':
      return error.field === 'CNI_NETNS' ? CniCode.badNetns : CniCode.internal;
    case 'already-exists':
    case 'conflict':
      return CniCode.exists;
    case 'exhausted':
      return CniCode.exhausted;
    case 'unavailable':
    case 'timeout':
    case 'compacted':
      return CniCode.tryAgain;
    case 'corrupt':
      return CniCode.notAvailable;
    case 'permission':
    case 'kernel':
      return CniCode.kernel;
    case 'protocol':
      return CniCode.io;
    default:
      return CniCode.internal;
  }
}

export function errorAnswer(error: unknown, cniVersion: string): CniAnswer {
  const { code, message, details } = toCniError(error);
  return {
    status: 1,
    output: `${JSON.stringify({ cniVersion, code, msg: message, ...(details ? { details } : {}) })}\n`,
  };
}
