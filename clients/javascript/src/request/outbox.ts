/**
 * The way out: what waits goes over the present connection, in its order, and no faster than the server takes it.
 */

import type { Connection } from "../connection/connection.js";
import type { Tokens } from "../connection/tokens.js";
import { write } from "../protocol.js";
import type { Limits } from "./limits.js";
import { Pace } from "./pace.js";
import { leftMs, type Pending } from "./pending.js";

/** Sends. */
export class Outbox {
  readonly #pace: Pace;
  #connection: Connection | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly limits: Limits,
    private readonly pending: Pending,
    private readonly tokens: Tokens,
    /** It is the turn of what had to wait. */
    private readonly onTurn: () => void,
  ) {
    this.#pace = new Pace(limits.perSecond, limits.earlyPerSecond);
  }

  /** A connection is open. */
  begin(connection: Connection): void {
    this.#connection = connection;
    this.#pace.begin(Date.now());
  }

  /** The limits have changed. */
  limited(): void {
    this.#pace.change(this.limits.perSecond, this.limits.earlyPerSecond, Date.now());
  }

  /** The server has taken a token on it. */
  proven(): void {
    this.#pace.proven(Date.now());
  }

  /** It is over; because of all that was sent, or not. */
  end(wasTooFast: boolean): void {
    clearTimeout(this.#timer);
    this.#connection = undefined;
    if (wasTooFast) this.#pace.hit(Date.now());
  }

  /** Says what is the connection's own, and does not wait. Tells whether it was handed to the socket. */
  say(text: string): boolean {
    const isSaid = this.#connection?.send(text) ?? false;
    if (isSaid) this.#pace.spend(Date.now());
    return isSaid;
  }

  /** In how many milliseconds it is the turn of one message more. */
  waitMs(): number {
    return this.#pace.waitMs(Date.now());
  }

  /** Sends what has not been sent on this connection, with this token. Tells whether something waits for a later one. */
  flush(token?: string): boolean {
    let areLeft = false;
    for (const request of this.pending.unsent()) {
      const isEarly = request.awaits > this.tokens.count;
      areLeft ||= isEarly;
      if (isEarly || this.pending.refuseTooLarge(request, token)) continue;
      const waitMs = this.#pace.take(Date.now());
      if (waitMs > 0) {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(this.onTurn, waitMs);
        break;
      }
      const { type, payload, deadline } = request;
      const id = request.isUnanswered ? undefined : request.id;
      const message = write({ id, type, token, timeout_ms: leftMs(deadline), payload });
      if (this.#connection?.send(message)) this.pending.markSent(request, this.tokens.count);
    }
    return areLeft;
  }
}
