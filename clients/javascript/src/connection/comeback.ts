/**
 * When a client that has lost its connection comes back: after a wait that grows, or sooner if there is a reason, but never so
 * soon or so often that many of them together would be an attack.
 */

import type { Settings } from "../options.js";
import { isOverload } from "../protocol.js";
import { Backoff } from "./backoff.js";
import { isBusyStatus, RefusedHandshake } from "./refusal.js";

/** The least wait before coming back to a server that has too much to do, jitter aside. */
const OVERLOAD_LEAST_MS = 2_000;

/** Between two attempts that something woke (a page seen again, a network that is back), there is as long at least. */
const LEAST_WAKING_MS = 1_000;

/** All clients of a network hear at the same moment that it is back. */
const WAKING_JITTER_MS = 500;

/** Waits, and comes back. */
export class Comeback {
  readonly #backoff: Backoff;
  readonly #random: () => number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the timer fires. */
  #at = Number.POSITIVE_INFINITY;
  /** What woke it may not bring it back before. */
  #notBefore = Number.NEGATIVE_INFINITY;

  constructor(
    { backoffMs, random }: Settings,
    private readonly open: () => void,
  ) {
    this.#backoff = new Backoff(backoffMs.least, backoffMs.most, random);
    this.#random = random;
  }

  /** Comes back later; if it says so, not before a server that has too much to do may be asked again. Tells in how many milliseconds. */
  later(atLeastMs: number): number {
    const ms = this.#backoff.nextMs(atLeastMs);
    if (atLeastMs > 0) this.#notBefore = Math.max(this.#notBefore, Date.now() + ms);
    this.#in(ms);
    return ms;
  }

  /** Something has happened that makes it worth to come back sooner. */
  wake(): void {
    const now = Date.now();
    const at = Math.max(now, this.#notBefore) + this.#random() * WAKING_JITTER_MS;
    // A timer that should have fired, and has not, slept as everything did.
    if (at >= this.#at && this.#at > now) return;
    this.#notBefore = at + LEAST_WAKING_MS;
    this.#in(at - now);
  }

  /** It is wanted now. */
  now(): void {
    this.cancel();
    this.open();
  }

  /** It does not come back by itself. */
  cancel(): void {
    clearTimeout(this.#timer);
    this.#at = Number.POSITIVE_INFINITY;
  }

  /** A connection has held: the next wait is a short one again. */
  reset(): void {
    this.#backoff.reset();
  }

  #in(ms: number): void {
    this.cancel();
    this.#at = Date.now() + ms;
    this.#timer = setTimeout(() => this.now(), ms);
  }
}

/** How long the server is left alone at least. */
export function leastWaitMs(code: number, cause: unknown): number {
  if (isOverload(code)) return OVERLOAD_LEAST_MS;
  if (!(cause instanceof RefusedHandshake) || !isBusyStatus(cause.status)) return 0;
  return Math.max(OVERLOAD_LEAST_MS, cause.retryAfterMs ?? 0);
}
