/**
 * Why a request has no answer.
 */

import type { ErrorBody, ErrorCode } from "./protocol.js";

/** What goes wrong on this side of the socket. */
export type LocalCode =
  /** The time for an answer is over. It may have been handled all the same. */
  | "timeout"
  /** Too many requests wait already. */
  | "overflow"
  /** The caller gave up. It may have been handled all the same. */
  | "aborted"
  /** The client was closed, or told by the server to stop. */
  | "closed"
  /** There is no token. */
  | "no_token";

/** A refusal: by the server, with one of its codes, or by this client. */
export class CountersignError extends Error {
  override readonly name = "CountersignError";

  constructor(
    /** For programs. */
    readonly code: ErrorCode | LocalCode,
    message: string,
    /** Whether the same request may well succeed later. */
    readonly temporary: boolean,
    /** When to try again, in milliseconds from now. */
    readonly retryAfterMs?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** What the server said. */
  static of(body: ErrorBody): CountersignError {
    return new CountersignError(body.code, body.message, body.temporary, body.retry_after_ms);
  }
}
