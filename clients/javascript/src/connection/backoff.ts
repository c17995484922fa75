/**
 * How long to wait before trying again: twice as long each time up to a limit, and never as long as one's neighbour, so
 * that a fleet of clients does not come back all at once.
 */
export class Backoff {
  #next: number;

  constructor(
    private readonly leastMs: number,
    private readonly mostMs: number,
    private readonly random: () => number,
  ) {
    this.#next = leastMs;
  }

  /** The next wait in milliseconds: between half and all of the present limit, which is `atLeastMs` or more. */
  nextMs(atLeastMs = 0): number {
    const limit = Math.max(this.#next, Math.min(atLeastMs, this.mostMs));
    this.#next = Math.min(limit * 2, this.mostMs);
    return Math.round(limit * (0.5 + 0.5 * this.random()));
  }

  /** It worked: the next wait is a short one again. */
  reset(): void {
    this.#next = this.leastMs;
  }
}
