/**
 * Why a request has no answer.
 */

import { CLOSE, type ErrorBody, type ErrorCode } from "./protocol.js";

/** What every copy of this library marks its errors with: two bundles of it in one page know each other's. */
const BRAND = Symbol.for("countersign-client.error");

/** What goes wrong on this side of the socket. */
export type LocalCode =
  /** The time for an answer is over. It may have been handled all the same. */
  | "timeout"
  /** Too many requests wait already. */
  | "overflow"
  /** The connection was lost before the answer came. It may have been handled all the same. */
  | "lost"
  /** The caller gave up. It may have been handled all the same. */
  | "aborted"
  /** The client was closed or logged out. It may have been handled all the same. */
  | "closed"
  /** The server said to stop, for a reason that has no word of its own. */
  | "stopped"
  /** The identity has as many connections as it may have. */
  | "connection_limit"
  /** Another connection has resumed this one. */
  | "replaced"
  /** There is no token. */
  | "no_token"
  /** There is no connection: it cannot be made, or was lost. The `cause` says more, where the platform does. */
  | "unreachable";

/**
 * A refusal: by the server, with one of its codes, or by this client. What made it so is its `cause`, if that is known.
 *
 * `instanceof` and {@link CountersignError.is} recognise those of another copy of this library, too.
 */
export class CountersignError extends Error {
  override readonly name = "CountersignError";

  /** @internal */
  readonly [BRAND] = true;

  /** What the application says besides, with a code of its own (`app.…`) or with one of the server's. */
  readonly details: unknown;

  /** Of a refusal that may be tried again: `none` if the request did not reach the application, `unknown` if it may have. */
  readonly effect: ErrorBody["effect"];

  constructor(
    /** For programs. */
    readonly code: ErrorCode | LocalCode,
    message: string,
    /** Whether the same request may well succeed later. */
    readonly temporary: boolean,
    /** When to try again, in milliseconds from now. */
    readonly retryAfterMs?: number,
    options?: ErrorOptions & { details?: unknown; effect?: ErrorBody["effect"] },
  ) {
    super(message, options);
    this.details = options?.details;
    this.effect = options?.effect;
  }

  /** Whether it is such an error, of whatever copy of this library. */
  static is(value: unknown): value is CountersignError {
    return typeof value === "object" && value !== null && BRAND in value;
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    // What is derived from this class has a chain of its own.
    return this === CountersignError ? CountersignError.is(value) : Function.prototype[Symbol.hasInstance].call(this, value);
  }

  /** What the server said. */
  static of(body: ErrorBody | undefined): CountersignError {
    if (!body) return new CountersignError("internal", "the server sent an error without a word", false);
    const { code, message, temporary, retry_after_ms, details, effect } = body;
    return new CountersignError(code, message, temporary, retry_after_ms, { details, effect });
  }

  /** Why the server does not want us back. */
  static ofClose(code: number, reason: string): CountersignError {
    const word = TERMINAL_WORDS.get(code) ?? "stopped";
    return new CountersignError(word, `the server said to stop: ${code} ${reason}`.trimEnd(), false);
  }
}

const TERMINAL_WORDS = new Map<number, ErrorCode | LocalCode>([
  [CLOSE.tokenInvalid, "token_invalid"],
  [CLOSE.revoked, "token_revoked"],
  [CLOSE.connectionLimit, "connection_limit"],
  [CLOSE.identityMismatch, "identity_mismatch"],
  [CLOSE.replaced, "replaced"],
]);
