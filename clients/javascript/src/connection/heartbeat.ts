/**
 * Whether the server can still be reached. A network that fails, or a computer that was suspended, closes no socket: it looks open, and
 * nothing arrives. So a connection on which nothing was received for some time is probed, and given up if that brings nothing.
 */

/** The longest time between two checks: a computer that was suspended is probed so soon after it resumes. */
const MAX_CHECK_MS = 2_000;

/** A check that is later than this was not just delayed: the computer or the page was suspended. */
const LATE_MS = 3_000;

/** The longest time that a probe may take. */
const MAX_PROBE_MS = 5_000;

/** The reply to a message that was sent is as good as a probe's. Within this time a server replies at least that it is busy. */
const REPLY_MS = 60_000;

/** What a heartbeat needs of its client. */
export interface HeartbeatHooks {
  /** Sends something that is always answered, or has done so. Tells whether it could. */
  probe(): boolean;
  /** Whether a message was sent that is not answered yet. */
  isAsking(): boolean;
  /** The connection is dead. */
  onDead(): void;
}

/** Watches one connection. It finds a dead one within `heartbeatMs`, probe included. */
export class Heartbeat {
  readonly #hooks: HeartbeatHooks;
  readonly #checkMs: number;
  readonly #probeMs: number;
  /** How long nothing may have been received before there is a probe. */
  readonly #quietMs: number;
  #receivedAt = Date.now();
  #checkedAt = Date.now();
  #check: ReturnType<typeof setTimeout> | undefined;
  /** Whether the connection is to be probed, or is being probed. */
  #isDoubtful = false;
  /** When the probe must have brought something. */
  #limit: ReturnType<typeof setTimeout> | undefined;
  #hasFailed = false;

  /** With 0 it does nothing. */
  constructor(heartbeatMs: number, hooks: HeartbeatHooks) {
    this.#hooks = hooks;
    this.#checkMs = Math.min(MAX_CHECK_MS, heartbeatMs / 4);
    this.#probeMs = Math.min(MAX_PROBE_MS, heartbeatMs / 2);
    this.#quietMs = heartbeatMs - this.#probeMs - this.#checkMs;
    if (heartbeatMs > 0) this.#checkLater();
  }

  /** Whether it has found the connection dead. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** When something was last received. */
  get receivedAt(): number {
    return this.#receivedAt;
  }

  /** Something was received. */
  received(): void {
    this.#receivedAt = Date.now();
    this.#isDoubtful = false;
    clearTimeout(this.#limit);
    this.#limit = undefined;
  }

  /** There is a reason not to wait: the network has changed, or a request got no reply. */
  doubt(): void {
    if (this.#check !== undefined && Date.now() - this.#receivedAt >= LATE_MS) this.#probe();
  }

  /** A token was sent, which is always answered. That will do, if the connection is doubtful. */
  sent(): void {
    if (this.#isDoubtful && this.#limit === undefined) this.#limitProbe();
  }

  /** The connection is over. */
  end(): void {
    clearTimeout(this.#check);
    clearTimeout(this.#limit);
    this.#check = undefined;
    this.#isDoubtful = false;
  }

  #checkLater(): void {
    this.#checkedAt = Date.now();
    this.#check = setTimeout(() => {
      const now = Date.now();
      const isLate = now - this.#checkedAt - this.#checkMs >= LATE_MS;
      this.#checkLater();
      // The clock may have been set back.
      this.#receivedAt = Math.min(this.#receivedAt, now);
      const quietMs = this.#hooks.isAsking() ? Math.max(REPLY_MS, this.#quietMs) : this.#quietMs;
      if (isLate) this.doubt();
      else if (now - this.#receivedAt >= quietMs) this.#probe();
    }, this.#checkMs);
  }

  #probe(): void {
    if (this.#limit !== undefined) return;
    this.#isDoubtful = true;
    if (this.#hooks.probe()) this.sent();
  }

  #limitProbe(): void {
    const sentAt = Date.now();
    this.#limit = setTimeout(() => {
      this.#limit = undefined;
      // A computer that was suspended in between has not given the probe its time.
      if (Date.now() - sentAt - this.#probeMs >= LATE_MS) this.#probe();
      else this.#onDead();
    }, this.#probeMs);
  }

  #onDead(): void {
    this.#hasFailed = true;
    this.#hooks.onDead();
  }
}
