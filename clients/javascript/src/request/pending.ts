/**
 * What was asked and not yet answered, in the order in which it was asked.
 */

import { CountersignError } from "../errors.js";
import { LONGEST_TIMER_MS, timerMs } from "../options.js";
import { MAX_ID_BYTES, MAX_TIMEOUT_MS, write, type ClientMessage } from "../protocol.js";

/** How a request ends. */
export type Outcome = { payload: unknown } | { error: CountersignError };

/** One request. */
export interface Request {
  readonly id: string;
  readonly type: string;
  /** JSON, written once: what is sent again under the same `id` must be the same. */
  readonly payload: string | undefined;
  /** The size of the message without its token. */
  readonly bytes: number;
  /** When its time is over, if the server is told. */
  readonly deadline: number | undefined;
  /** The number of the token with which it was last sent. */
  sentWith: number;
  /** It is not sent before there is a token of this number. */
  awaits: number;
  /** Whether it may be sent again although it may have been handled; the server says whether, if its caller does not. */
  readonly idempotent: boolean | undefined;
  /** Whether it was sent on a connection that was lost: it may have been handled, or be in progress. */
  lost: boolean;
  /** Whether it is over when it is sent, since no answer is wanted. */
  readonly isUnanswered: boolean;
  /** Whether the first of several answers has come: it is not sent again, or that would come again. */
  hasBegun: boolean;
  answer(payload: unknown): void;
  settle(outcome: Outcome): void;
}

/** What is asked, before it is known whether it can be. */
export interface RequestSpec {
  id: string;
  type: string;
  payload: unknown;
  idempotent?: boolean | undefined;
  /** No answer is wanted. */
  isUnanswered?: boolean | undefined;
  /** Is told of each answer, where several may come, and tells whether that was the last. */
  onReply?: ((payload: unknown) => boolean) | undefined;
}

/** How long a request waits, and who may end that. */
export interface WaitOptions {
  /** For its answer; for each, if several may come. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
  /** Is called when it is given up after it was sent. */
  onGivenUp?(id: string): void;
  /** Why there may be no answer, as far as that is known. */
  why?(): CountersignError | undefined;
}

/** How much may wait. */
export interface Bounds {
  maxPending: number;
  maxMessageBytes: number;
}

/** How long the answer to what was lost with its connection may take: the next connection is there by then, or none is. */
const LOST_MS = 5_000;

/** What a token takes besides itself, which is ASCII. */
const TOKEN_MEMBER_BYTES = ',"token":""'.length;

/** All requests that wait. Bounded: one more is refused. */
export class Pending {
  readonly #requests = new Map<string, Request>();
  /** Those of them that were not sent on the present connection. */
  #unsent = new Set<Request>();
  /** When those that are to be sent again are. */
  readonly #postponed = new Map<Request, ReturnType<typeof setTimeout>>();

  constructor(private readonly bounds: Bounds) {}

  get size(): number {
    return this.#requests.size;
  }

  /** Whether one was sent that is not answered yet. */
  get isAsking(): boolean {
    return this.#requests.size > this.#unsent.size;
  }

  /** Those that were not sent on the present connection, oldest first. They may change meanwhile. */
  unsent(): Request[] {
    return [...this.#unsent];
  }

  get(id: string): Request | undefined {
    return this.#requests.get(id);
  }

  /** Enters a request. The promise ends with its answer, its error, or its time. */
  async add(spec: RequestSpec, wait: WaitOptions): Promise<unknown> {
    const { id, type, idempotent, onReply, isUnanswered = false } = spec;
    const payload = written(spec);
    const timeoutMs = timerMs("timeoutMs", wait.timeoutMs);
    // The protocol's own are not put off by an application, and what has more than a day has no deadline.
    const isTold = timeoutMs <= MAX_TIMEOUT_MS && !type.startsWith("auth.");
    const deadline = isTold ? Date.now() + timeoutMs : undefined;
    const bytes = this.#check(id, { id, type, payload, timeout_ms: leftMs(deadline) });
    if (wait.signal?.aborted) throw aborted(wait.signal);
    return new Promise((resolve, reject) => {
      const end = (error: CountersignError) => request.settle({ error });
      const onAbort = () => {
        const wasSent = !this.#unsent.has(request);
        end(aborted(wait.signal));
        if (wasSent) wait.onGivenUp?.(id);
      };
      const onTimeout = () => end(late(timeoutMs, wait.why?.()));
      let timer = setTimeout(onTimeout, timeoutMs);
      const answer = (payload: unknown) => {
        if (!onReply) return settle({ payload });
        request.hasBegun = true;
        this.#unpostpone(request);
        clearTimeout(timer);
        timer = setTimeout(onTimeout, timeoutMs);
        if (onReply(payload)) settle({ payload: undefined });
      };
      const settle = (outcome: Outcome) => {
        clearTimeout(timer);
        this.#unpostpone(request);
        wait.signal?.removeEventListener("abort", onAbort);
        this.#requests.delete(id);
        this.#unsent.delete(request);
        if ("error" in outcome) reject(outcome.error);
        else resolve(outcome.payload);
      };
      const asked = { id, type, payload, bytes, deadline, idempotent, isUnanswered };
      const request: Request = { ...asked, sentWith: 0, awaits: 0, lost: false, hasBegun: false, answer, settle };
      wait.signal?.addEventListener("abort", onAbort, { once: true });
      this.#requests.set(id, request);
      this.#unsent.add(request);
    });
  }

  /** It was sent on the present connection, with the token of that number. */
  markSent(request: Request, token: number): void {
    request.sentWith = token;
    this.#unsent.delete(request);
    if (request.isUnanswered) request.settle({ payload: undefined });
  }

  /** It was refused for its token, and is to be sent again with a later one. */
  markRefused(request: Request): void {
    request.awaits = request.sentWith + 1;
    // It was not handled, so nothing is lost.
    this.#unpostpone(request);
    request.lost = false;
    this.#sendAgain(request);
  }

  /** It is to be sent again after so long, when `then` is told; or on the next connection, if that comes before. */
  postpone(request: Request, ms: number, then: () => void): void {
    this.#unpostpone(request);
    const again = () => {
      this.#postponed.delete(request);
      this.#sendAgain(request);
      then();
    };
    this.#postponed.set(request, setTimeout(again, Math.min(ms, LONGEST_TIMER_MS)));
  }

  /**
   * The connection is gone. What was sent and not answered is to be sent again where that cannot make it happen twice:
   * `remembers` tells whether the server knows it again. Else its answer may still come, if it was held for the next
   * connection; if it does not soon, its caller is told that it is lost, and `why`.
   */
  markUnsent(remembers: boolean, why?: CountersignError): void {
    const unsent = new Set<Request>();
    for (const request of this.#requests.values()) {
      const wasSent = request.lost || !this.#unsent.has(request);
      const mayRepeat = !request.hasBegun && (request.idempotent ?? remembers);
      this.#unpostpone(request);
      if (wasSent && !mayRepeat) {
        this.#postponed.set(request, setTimeout(() => request.settle({ error: lost(why) }), LOST_MS));
      } else {
        unsent.add(request);
      }
      request.lost = wasSent;
    }
    this.#unsent = unsent;
  }

  #sendAgain(request: Request): void {
    const isUnsent = (other: Request) => other === request || this.#unsent.has(other);
    this.#unsent = new Set([...this.#requests.values()].filter(isUnsent));
  }

  #unpostpone(request: Request): void {
    clearTimeout(this.#postponed.get(request));
    this.#postponed.delete(request);
  }

  /** The largest of what was sent and not answered: that on which the server choked. */
  refuseLargestSent(): void {
    const sent = [...this.#requests.values()].filter((request) => !this.#unsent.has(request));
    const largest = sent.reduce<Request | undefined>((one, other) => (one && one.bytes >= other.bytes ? one : other), undefined);
    largest?.settle({ error: tooLarge(largest.bytes, "the server takes less") });
  }

  /** Tells whether it was refused because it is too large with this token: the server would close the connection. */
  refuseTooLarge(request: Request, token: string | undefined): boolean {
    const bytes = token === undefined ? request.bytes : request.bytes + TOKEN_MEMBER_BYTES + token.length;
    const { maxMessageBytes } = this.bounds;
    if (bytes <= maxMessageBytes) return false;
    request.settle({ error: tooLarge(bytes, `${maxMessageBytes} are the most`) });
    return true;
  }

  /** No answer will come any more. */
  fail(error: CountersignError): void {
    for (const request of [...this.#requests.values()]) request.settle({ error });
  }

  /** Tells how many bytes the message has without its token. */
  #check(id: string, message: ClientMessage): number {
    const { maxPending, maxMessageBytes } = this.bounds;
    if (!id || size(id) > MAX_ID_BYTES) throw refused("bad_request", `an id has 1 to ${MAX_ID_BYTES} bytes`);
    const bytes = size(write(message));
    if (bytes > maxMessageBytes) throw tooLarge(bytes, `${maxMessageBytes} are the most`);
    if (this.#requests.has(id)) throw refused("duplicate", `a request with the id ${id} is waiting already`);
    if (this.#requests.size >= maxPending) {
      throw new CountersignError("overflow", `${maxPending} requests are waiting already`, true);
    }
    return bytes;
  }
}

/** How much of its time a request still has, as the server is told it: a whole number, and at least 1. */
export function leftMs(deadline: number | undefined): number | undefined {
  return deadline === undefined ? undefined : Math.max(1, Math.ceil(deadline - Date.now()));
}

function written({ type, payload }: RequestSpec): string | undefined {
  try {
    return JSON.stringify(payload) as string | undefined;
  } catch (cause) {
    throw refused("bad_request", `the payload of this ${type} cannot be written as JSON`, { cause });
  }
}

/** How many bytes a text has on the wire. */
export function size(text: string): number {
  return new TextEncoder().encode(text).length;
}

function tooLarge(bytes: number, most: string): CountersignError {
  return refused("too_large", `the message has ${bytes} bytes; ${most}`);
}

function refused(code: "bad_request" | "duplicate" | "too_large", why: string, options?: ErrorOptions): CountersignError {
  return new CountersignError(code, why, false, undefined, options);
}

function lost(cause: CountersignError | undefined): CountersignError {
  return new CountersignError("lost", "the connection was lost before the answer came; it may have been handled all the same", false, undefined, {
    effect: "unknown",
    ...(cause && { cause }),
  });
}

function late(timeoutMs: number, cause: CountersignError | undefined): CountersignError {
  const why = cause ? `: ${cause.message}` : "";
  return new CountersignError("timeout", `no answer within ${timeoutMs} ms${why}`, true, undefined, cause && { cause });
}

function aborted(signal: AbortSignal | undefined): CountersignError {
  return new CountersignError("aborted", "the request was aborted", false, undefined, { cause: signal?.reason });
}
