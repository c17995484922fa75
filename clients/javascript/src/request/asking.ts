/**
 * How an application asks, and how long a promise that no code waits for is minded.
 */

import { CountersignError } from "../errors.js";

/** How to say something. */
export interface SendOptions {
  /** In place of `requestTimeoutMs`: until it is sent. The server is told, and begins nothing that is later. */
  timeoutMs?: number;
  /** Takes it back, if it is not sent yet. */
  signal?: AbortSignal;
}

/** How to ask. */
export interface RequestOptions {
  /** The request's name, 1 to 128 bytes; drawn if there is none. Repeating one repeats the request. */
  id?: string;
  /** In place of `requestTimeoutMs`. The server is told, and does not begin a request after its time. */
  timeoutMs?: number;
  /** Ends the wait, and tells the server to give up what it does about it. */
  signal?: AbortSignal;
  /**
   * Whether it may be sent again after a lost connection although it may have been handled. If it is not said, the
   * server says whether it knows a request again (its setting `idempotency-window`).
   */
  idempotent?: boolean;
}

/** How to ask for several answers. */
export interface StreamOptions<Reply = unknown> extends RequestOptions {
  /** For each answer, in place of `requestTimeoutMs`. */
  timeoutMs?: number;
  /** Whether this is the last answer. Without it the stream goes on until it is left, an error comes, or none comes in time. */
  isLast?: (reply: Reply) => boolean;
}

/** What callers have been given and is not settled. */
export class Given {
  readonly #given = new Map<object, Promise<unknown>>();

  /** Minds a promise until it is settled; or not at all, if its errors are to be ignored. */
  mind<Value>(promise: Promise<Value>, isUnwanted: boolean): Promise<Value> {
    const key = {};
    let isOver = false;
    const minded = promise.finally(() => {
      isOver = true;
      this.#given.delete(key);
    });
    if (isUnwanted) ignore(minded);
    else if (!isOver) this.#given.set(key, minded);
    return minded;
  }

  /** Those who close a client know; who does not wait for an answer need not be told by an unhandled rejection. */
  ignoreAll(): void {
    for (const promise of this.#given.values()) ignore(promise);
  }
}

/** Its rejection is no unhandled one. Code that waits for it gets the error all the same. */
function ignore(promise: Promise<unknown>): void {
  promise.catch(() => undefined);
}

export function wasClosed(): CountersignError {
  return new CountersignError("closed", "the client was closed", false);
}

export function loggedOut(): CountersignError {
  return new CountersignError("closed", "the client was logged out", false);
}

/** That the connection is gone, or cannot be made, and what the platform says of it. */
export function unreachable(code: number, reason: string, cause: unknown): CountersignError {
  const why = cause instanceof Error ? cause.message : `${code} ${reason}`.trimEnd();
  return new CountersignError("unreachable", `no connection: ${why}`, true, undefined, cause === undefined ? undefined : { cause });
}

/** What no other client calls its requests by, so that idempotency never takes one for the other. */
export function randomName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}
