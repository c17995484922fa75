/**
 * What the server takes. It says so itself when a connection opens, if it is new enough; until then, and with an older one, its
 * defaults are assumed. What the options say is never exceeded.
 */

import type { Settings } from "../options.js";

/** `max-message-size`, where the server does not say it. */
const MAX_MESSAGE_BYTES = 65_536;
/** `messages-per-second`, likewise. */
const PER_SECOND = 1_000;
/** `unauthenticated-messages-per-second`: what a connection may send before the server has taken a token. */
const EARLY_PER_SECOND = 20;

/** Which part of a rate is used: messages arrive closer together than they were sent. */
const SHARE = 0.8;

/** The highest rate that a server can be set to, which stands for none. */
const MOST_PER_SECOND = 1_000_000;

/** What a client keeps to. */
export class Limits {
  readonly maxPending: number;
  /** How large a message may be, its token included. */
  maxMessageBytes: number;
  /** How many messages a second may be sent. */
  perSecond: number;
  /** The same before the server has taken a token. */
  earlyPerSecond = EARLY_PER_SECOND * SHARE;

  constructor(private readonly settings: Settings) {
    this.maxPending = settings.maxPending;
    this.maxMessageBytes = settings.maxMessageBytes ?? MAX_MESSAGE_BYTES;
    this.perSecond = Math.min(settings.messagesPerSecond ?? PER_SECOND * SHARE, MOST_PER_SECOND);
  }

  /** The server says what it takes. What it does not name has no limit. */
  told(payload: unknown): void {
    if (typeof payload !== "object" || payload === null) return;
    const said = payload as { [name: string]: unknown };
    const { maxMessageBytes = Number.POSITIVE_INFINITY, messagesPerSecond = MOST_PER_SECOND } = this.settings;
    this.maxMessageBytes = Math.min(maxMessageBytes, positive(said.max_message_bytes) ?? MAX_MESSAGE_BYTES);
    this.perSecond = Math.min(messagesPerSecond, rate(said.messages_per_second), MOST_PER_SECOND);
    this.earlyPerSecond = rate(said.unauthenticated_messages_per_second);
  }
}

function rate(said: unknown): number {
  return Math.max(1, (positive(said) ?? MOST_PER_SECOND) * SHARE);
}

function positive(said: unknown): number | undefined {
  return typeof said === "number" && said > 0 && Number.isFinite(said) ? said : undefined;
}
