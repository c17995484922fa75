/**
 * Several answers to one request, as they come: to be read by `for await`.
 */

import { CountersignError } from "../errors.js";

/** The most answers that may be unread. A reader that falls behind further than this is told so. */
const MAX_UNREAD = 1_000;

interface Reader<Reply> {
  resolve(result: IteratorResult<Reply, undefined>): void;
  reject(error: unknown): void;
}

/** What a stream is made of: begins it, tells each answer and whether it is the last, and ends when it does or when `signal` says so. */
export type Source = (onReply: (payload: unknown) => boolean, signal: AbortSignal) => Promise<unknown>;

/** The answers. Who leaves the loop gives the request up. */
export class Replies<Reply> implements AsyncIterableIterator<Reply> {
  readonly #unread: Reply[] = [];
  readonly #readers: Reader<Reply>[] = [];
  readonly #abort = new AbortController();
  /** How it ended, if it has. */
  #end: { error?: unknown } | undefined;

  constructor(source: Source, isLast: (reply: Reply) => boolean) {
    const onReply = (payload: unknown) => {
      if (this.#end) return true;
      this.#put(payload as Reply);
      return isLast(payload as Reply);
    };
    source(onReply, this.#abort.signal).then(
      () => this.#finish({}),
      (error: unknown) => this.#finish({ error }),
    );
  }

  /** The next answer. Those that came before an end come before it. */
  next(): Promise<IteratorResult<Reply, undefined>> {
    if (this.#unread.length > 0) return Promise.resolve({ done: false, value: this.#unread.shift() as Reply });
    if (!this.#end) return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
    const { error } = this.#end;
    // An error is told once.
    this.#end = {};
    return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
  }

  /** Gives it up. */
  return(): Promise<IteratorResult<Reply, undefined>> {
    this.#unread.length = 0;
    this.#finish({});
    this.#end = {};
    this.#abort.abort();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #put(reply: Reply): void {
    const reader = this.#readers.shift();
    if (reader) return reader.resolve({ done: false, value: reply });
    if (this.#unread.length < MAX_UNREAD) {
      this.#unread.push(reply);
      return;
    }
    this.#finish({ error: new CountersignError("overflow", `${MAX_UNREAD} answers have not been read`, false) });
    this.#abort.abort();
  }

  #finish(end: { error?: unknown }): void {
    if (this.#end) return;
    this.#end = end;
    for (const reader of this.#readers.splice(0)) {
      if (end.error === undefined) reader.resolve({ done: true, value: undefined });
      else reader.reject(end.error);
      // The first reader is told why; it is over for the others.
      this.#end = end = {};
    }
  }
}
