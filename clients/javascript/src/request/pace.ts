/**
 * How fast this client may send, so that the server never has to close its connection with 4429.
 *
 * The server counts what a connection sends, and lets it have a second's worth at once. A client that used all of that, and
 * came back at once, would do nothing else than that; so it keeps below the limit, and further below after it has hit one all the same.
 */

/** How long no limit must have been hit before it is twice as fast again. */
const FORGIVEN_MS = 60_000;

/** A bucket of a second's worth, which fills again as it is used. */
export class Pace {
  #most: number;
  #early: number;
  #perSecond: number;
  #hitAt = Number.NEGATIVE_INFINITY;
  #isEarly = true;
  #left = 0;
  #filledAt = 0;

  /** How many messages a second, and how many before the server has taken a token. */
  constructor(mostPerSecond: number, earlyPerSecond: number) {
    this.#most = this.#perSecond = mostPerSecond;
    this.#early = earlyPerSecond;
  }

  /** These are other ones. What was used is used. */
  change(mostPerSecond: number, earlyPerSecond: number, now: number): void {
    this.#fill(now);
    const used = this.#rate - this.#left;
    const isSlowed = this.#perSecond < this.#most;
    this.#most = mostPerSecond;
    this.#early = earlyPerSecond;
    this.#perSecond = isSlowed ? Math.min(this.#perSecond, mostPerSecond) : mostPerSecond;
    this.#left = this.#rate - used;
  }

  /** A connection is there. The server knows nothing of what was sent on the last. */
  begin(now: number): void {
    this.#isEarly = true;
    this.#fill(now);
    this.#left = this.#rate;
  }

  /** The server has taken a token. What was used before that is used. */
  proven(now: number): void {
    if (!this.#isEarly) return;
    this.#fill(now);
    const used = this.#rate - this.#left;
    this.#isEarly = false;
    this.#left = Math.max(0, this.#rate - used);
  }

  /** The server has closed the connection because of this. */
  hit(now: number): void {
    this.#perSecond = Math.max(1, this.#perSecond / 2);
    this.#hitAt = now;
  }

  /** Something is sent that cannot wait: the connection's own affairs are few. */
  spend(now: number): void {
    this.#fill(now);
    this.#left--;
  }

  /** Takes a message's place, and tells 0; or in how many milliseconds there will be one. */
  take(now: number): number {
    const waitMs = this.waitMs(now);
    if (waitMs === 0) this.#left--;
    return waitMs;
  }

  /** In how many milliseconds there will be a place; 0 if there is one. */
  waitMs(now: number): number {
    this.#fill(now);
    return this.#left < 1 ? Math.ceil(((1 - this.#left) * 1_000) / this.#rate) : 0;
  }

  get #rate(): number {
    return this.#isEarly ? Math.min(this.#early, this.#perSecond) : this.#perSecond;
  }

  #fill(now: number): void {
    if (this.#perSecond < this.#most && now - this.#hitAt >= FORGIVEN_MS) {
      this.#perSecond = Math.min(this.#most, this.#perSecond * 2);
      this.#hitAt = now;
    }
    // A clock that was set back fills nothing, and takes nothing.
    const passedMs = Math.max(0, now - this.#filledAt);
    this.#filledAt = now;
    this.#left = Math.min(this.#rate, this.#left + (passedMs * this.#rate) / 1_000);
  }
}
