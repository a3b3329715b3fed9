// Errors of the HTTP API: an `ApiError` body and a status that fits the code.
import type { Hono } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { BrindleError, type ErrorCode } from '#base/errors.ts';
import type { ApiError } from './types.ts';

const STATUS_OF: Partial<Record<ErrorCode, ContentfulStatusCode>> = {
  'invalid-argument': 400,
  'invalid-resource': 400,
  'not-found': 404,
  'already-exists': 409,
  conflict: 409,
  unavailable: 503,
  timeout: 504,
  unsupported: 501,
};

/** Makes an application answer every error, and every path it does not know, in the API's form. */
export function answerErrors(app: Hono): void {
  app.onError((error, c) => c.json(apiError(error), STATUS_OF[codeOf(error)] ?? 500));
  app.notFound((c) => c.json(apiError(new BrindleError('not-found', `there is no ${c.req.path} here`)), 404));
}

function codeOf(error: unknown): ErrorCode {
  return error instanceof BrindleError ? error.code : 'internal';
}

function apiError(error: Error): ApiError {
  const { field, remedy } = error instanceof BrindleError ? error : {};
  return {
    error: {
      code: codeOf(error),
      message: error.message,
      ...(field !== undefined && { field }),
      ...(remedy !== undefined && { remedy }),
    },
  };
}
