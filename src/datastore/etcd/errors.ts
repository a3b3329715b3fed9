// etcd's answers in our words. In: a gRPC status with etcd's text. Out: a BrindleError, and what to do: try again elsewhere,
// log in again, or give up.
import { BrindleError } from '#base/errors.ts';

/** gRPC's status codes, those that are told apart. */
const status = {
  CANCELLED: 1,
  UNKNOWN: 2,
  DEADLINE_EXCEEDED: 4,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;

export type Reaction = 'elsewhere' | 'later' | 'log-in-again' | 'give-up';

/** What the driver needs of grpc-js's ServiceError. */
export interface GrpcFailure {
  readonly code: number;
  readonly details: string;
}

export function grpcFailure(error: unknown): GrpcFailure {
  const { code, details, message } = error as { code?: unknown; details?: unknown; message?: unknown };
  return {
    code: typeof code === 'number' ? code : status.UNKNOWN,
    details: typeof details === 'string' && details !== '' ? details : String(message ?? error),
  };
}

const ELSEWHERE: readonly number[] = [
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
  status.INTERNAL,
  status.ABORTED,
];
/** etcd says these as INVALID_ARGUMENT or UNAUTHENTICATED when a token is missing, forgotten or from before a change of roles. */
const TOKEN = /invalid auth token|revision of auth store is old|user name is empty/;
const WRONG_PASSWORD = /invalid user ID or password/;
const NO_SPACE = /database space exceeded/;

export function reactionTo({ code, details }: GrpcFailure): Reaction {
  if (TOKEN.test(details) || code === status.UNAUTHENTICATED) return 'log-in-again';
  if (code === status.RESOURCE_EXHAUSTED && details.includes('too many requests')) return 'later';
  if (code === status.INTERNAL && !/RST_STREAM|GOAWAY|closed|reset/i.test(details)) return 'give-up';
  return ELSEWHERE.includes(code) ? 'elsewhere' : 'give-up';
}

/** True when the request cannot have reached the member. */
export function neverConnected({ code, details }: GrpcFailure): boolean {
  return code === status.UNAVAILABLE && /^No connection established|ECONNREFUSED|Name resolution/.test(details);
}

export interface Place {
  /** HOST:PORT, or several. */
  readonly endpoint: string;
  readonly prefix: string;
  readonly username: string | undefined;
}

export function etcdError(failure: GrpcFailure, place: Place, cause?: unknown): BrindleError {
  const { code, details } = failure;
  const who = place.username === undefined ? 'the client certificate' : `user "${place.username}"`;
  const at = `etcd at ${place.endpoint}`;
  if (code === status.PERMISSION_DENIED || details.includes('permission denied')) {
    return new BrindleError('permission', `${at} refuses ${who} access to ${place.prefix}/`, {
      remedy: `etcdctl role grant-permission ROLE readwrite --prefix=true ${place.prefix}/, with a role of ${who}`,
      cause,
    });
  }
  if (WRONG_PASSWORD.test(details)) {
    return new BrindleError('permission', `${at} does not accept the password of ${who}`, {
      field: 'store.etcd.passwordFile',
      remedy: 'check store.etcd.username and the content of store.etcd.passwordFile',
      cause,
    });
  }
  if (TOKEN.test(details) || code === status.UNAUTHENTICATED) {
    return new BrindleError('permission', `${at} wants to know who asks: ${details}`, {
      field: 'store.etcd.username',
      remedy: 'set store.etcd.username and passwordFile, or cert and key with a user name as common name',
      cause,
    });
  }
  if (code === status.OUT_OF_RANGE && details.includes('compacted'))
    return new BrindleError('compacted', `${at}: ${details}`, { remedy: 'list again', cause });
  if (NO_SPACE.test(details)) {
    return new BrindleError('unavailable', `${at} is full and takes no writes`, {
      remedy: 'make room (compact, defragment, or raise its quota), then etcdctl alarm disarm',
      cause,
    });
  }
  if (/certificate|self.signed|unable to verify|tls|ssl|altnames/i.test(details)) {
    return new BrindleError('unavailable', `no secured connection to ${at}: ${details}`, {
      field: 'store.etcd.ca',
      remedy: "check store.etcd.ca, cert and key, and the names in the member's certificate",
      cause,
    });
  }
  if (reactionTo(failure) !== 'give-up') {
    return new BrindleError('unavailable', `${at} does not answer: ${details}`, {
      remedy: 'check that a majority of the members runs and is reachable (etcdctl endpoint health)',
      cause,
    });
  }
  return new BrindleError('internal', `${at}: ${details} (gRPC status ${code})`, { cause });
}
