/**
 * What was asked and not yet answered, in the order in which it was asked.
 */

import { CountersignError } from "./errors.js";
import type { ClientMessage } from "./protocol.js";

/** One request. */
export interface Request {
  readonly id: string;
  readonly type: string;
  readonly payload: unknown;
  /** Whether it was sent on the present connection. */
  sent: boolean;
  /** Whether a fresh token was already fetched for its sake. */
  renewed: boolean;
  settle(outcome: { payload: unknown } | { error: CountersignError }): void;
}

/** How long a request waits, and who may end that. */
export interface Patience {
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

/** All requests that wait. Bounded: one more is refused. */
export class Pending {
  readonly #requests = new Map<string, Request>();

  constructor(private readonly most: number) {}

  get size(): number {
    return this.#requests.size;
  }

  /** Those that were not sent on the present connection, oldest first. */
  unsent(): Request[] {
    return [...this.#requests.values()].filter((request) => !request.sent);
  }

  get(id: string): Request | undefined {
    return this.#requests.get(id);
  }

  /** Enters a request. The promise ends with its answer, its error, or its time. */
  add(message: Required<Pick<ClientMessage, "id" | "type">> & { payload: unknown }, patience: Patience): Promise<unknown> {
    const { id, type, payload } = message;
    if (this.#requests.has(id)) {
      return Promise.reject(new CountersignError("duplicate", `a request with the id ${id} is waiting already`, false));
    }
    if (this.#requests.size >= this.most) {
      return Promise.reject(new CountersignError("overflow", `${this.most} requests are waiting already`, true));
    }
    if (patience.signal?.aborted) return Promise.reject(aborted(patience.signal));
    return new Promise((resolve, reject) => {
      const onAbort = () => request.settle({ error: aborted(patience.signal) });
      const onTimeout = () =>
        request.settle({ error: new CountersignError("timeout", `no answer within ${patience.timeoutMs} ms`, true) });
      const timer = setTimeout(onTimeout, patience.timeoutMs);
      const request: Request = {
        id,
        type,
        payload,
        sent: false,
        renewed: false,
        settle: (outcome) => {
          clearTimeout(timer);
          patience.signal?.removeEventListener("abort", onAbort);
          this.#requests.delete(id);
          if ("error" in outcome) reject(outcome.error);
          else resolve(outcome.payload);
        },
      };
      patience.signal?.addEventListener("abort", onAbort, { once: true });
      this.#requests.set(id, request);
    });
  }

  /** The connection is gone: what was sent and not answered is to be sent again. */
  markUnsent(): void {
    for (const request of this.#requests.values()) request.sent = false;
  }

  /** Nobody will answer any more. */
  fail(error: CountersignError): void {
    for (const request of [...this.#requests.values()]) request.settle({ error });
  }
}

function aborted(signal: AbortSignal | undefined): CountersignError {
  return new CountersignError("aborted", "the request was aborted", false, undefined, { cause: signal?.reason });
}
