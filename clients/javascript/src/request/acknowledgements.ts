/**
 * Which pushes have come over one connection, as its server is told, so that it keeps those that it wrote to a dead socket.
 *
 * Not every server wants to know that (`push-ack`). One that does not hands the first such message to its application, which answers
 * something else, and is told no more.
 */

import { writeAck, type ServerMessage } from "../protocol.js";
import type { Limits } from "./limits.js";
import type { Outbox } from "./outbox.js";
import { size } from "./pending.js";

/** So many are told together, or fewer after so long: a server waits for a minute. */
const BATCH = 64;
const BATCH_MS = 100;

/** The most that a server takes in one message. */
const MOST_TOLD = 1_000;

/** The most that a server waits for: with more it closes the connection. */
const MOST_WAITING = 1_024;

/** The acknowledgements of one connection. */
export class Acknowledgements {
  /** The ids of those that have come and are not acknowledged, oldest first. */
  readonly #waiting = new Set<string>();
  /** Whether the server wants to know. It has not answered yet if it is not known. */
  #isWanted: boolean | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether they are to be told as soon as it is their turn. */
  #isDue = false;

  /** Asks whether the server wants to know. */
  constructor(
    private readonly id: string,
    private readonly limits: Limits,
    private readonly outbox: Pick<Outbox, "say" | "waitMs">,
  ) {
    outbox.say(writeAck({ id }));
  }

  /** Takes the answer to that. Tells whether it was that. */
  takes({ id, type, payload }: ServerMessage): boolean {
    if (id !== this.id || this.#isWanted !== undefined) return false;
    this.#isWanted = type === "reply" && typeof (payload as { acknowledged?: unknown } | null | undefined)?.acknowledged === "number";
    if (this.#isWanted) this.#tell();
    else this.end();
    return true;
  }

  /** A push has come, and is about to be passed on. If a listener ends the connection, it counts as received, too. */
  came(id: unknown): void {
    if (typeof id !== "string" || this.#isWanted === false) return;
    this.#waiting.add(id);
    if (this.#waiting.size > MOST_WAITING) this.#forget([...this.#waiting].slice(0, 1));
    if (this.#isWanted) this.#timer ??= setTimeout(() => this.#onDue(), BATCH_MS);
  }

  /** It was passed on. */
  passedOn(): void {
    if (this.#waiting.size >= BATCH) this.#onDue();
  }

  /** The connection ends. What waits is said first, if it can be. */
  end(): void {
    while (this.#isWanted && this.#say());
    clearTimeout(this.#timer);
    this.#waiting.clear();
    this.#isWanted = false;
  }

  /** They take their turn once, and then go before what else may have taken it: requests may be many. */
  #onDue(): void {
    if (!this.#isWanted || this.#isDue) return;
    this.#isDue = true;
    clearTimeout(this.#timer);
    const waitMs = this.outbox.waitMs();
    if (waitMs > 0) this.#timer = setTimeout(() => this.#tell(), waitMs);
    else this.#tell();
  }

  #tell(): void {
    this.#timer = undefined;
    this.#isDue = false;
    if (this.#say() && this.#waiting.size > 0) this.#onDue();
  }

  /** Says as many as one message holds. Tells whether it was handed to the socket. */
  #say(): boolean {
    const ids: string[] = [];
    let bytes = size(writeAck({ ids }));
    for (const id of this.#waiting) {
      bytes += size(JSON.stringify(id)) + 1;
      if (ids.length === MOST_TOLD || (ids.length > 0 && bytes > this.limits.maxMessageBytes)) break;
      ids.push(id);
    }
    if (ids.length === 0 || !this.outbox.say(writeAck({ ids }))) return false;
    this.#forget(ids);
    return true;
  }

  #forget(ids: string[]): void {
    for (const id of ids) this.#waiting.delete(id);
  }
}
