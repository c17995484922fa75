/**
 * Who listens to a client: to its events, and to pushes by what they are about.
 */

import { Emitter } from "./emitter.js";
import type { ClientEvents, Push } from "./events.js";
import { Recent } from "./request/recent.js";

/** How many pushes are remembered, to know those that come twice. */
const RECENT_PUSHES = 1_024;

/** Listeners, and what they are told. */
export class Listeners {
  readonly #events = new Emitter<ClientEvents>();
  readonly #pushes = new Emitter<{ [type: string]: Push }>();
  readonly #recent = new Recent(RECENT_PUSHES);

  /** Calls `listener` at each event of that name. Returns how to end that. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  /** Calls `listener` at the next event of that name, and no more. Returns how to end that before. */
  once<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): () => void {
    return this.#events.once(name, listener);
  }

  /** Calls `listener` no more. */
  off<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): void {
    this.#events.off(name, listener);
  }

  /** Calls `listener` at each push whose payload has this `type`. Returns how to end that. */
  onPush<Payload = unknown>(type: string, listener: (push: Push<Payload>) => void): () => void {
    return this.#pushes.on(type, listener as (push: Push) => void);
  }

  protected tell<Name extends keyof ClientEvents>(name: Name, event: ClientEvents[Name]): void {
    this.#events.emit(name, event);
  }

  /** Tells of a push, if it has not come before. */
  protected tellPush(id: string | undefined, payload: unknown): void {
    if (id !== undefined && !this.#recent.isNew(id)) return;
    const type = typeOf(payload);
    this.tell("push", { id, type, payload });
    if (type !== undefined) this.#pushes.emit(type, { id, type, payload });
  }
}

/** What a push is about, if it says so. */
function typeOf(payload: unknown): string | undefined {
  const { type } = (typeof payload === "object" && payload !== null ? payload : {}) as { type?: unknown };
  return typeof type === "string" ? type : undefined;
}
