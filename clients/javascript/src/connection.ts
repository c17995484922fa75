/**
 * One WebSocket, from the handshake to its end. Whoever has dropped it hears no more of it.
 */

import type { Settings, SocketLike } from "./options.js";
import { CLOSE, parse, SUBPROTOCOL, type ServerMessage } from "./protocol.js";

/** `WebSocket.OPEN`. */
const OPEN = 1;

/** What happens on it. */
export interface ConnectionHooks {
  onOpen(): void;
  onMessage(message: ServerMessage): void;
  /** It is over, whoever ended it. Nothing follows. */
  onEnd(code: number, reason: string): void;
}

/** A connection that is being made, or is. */
export class Connection {
  readonly #socket: SocketLike;
  readonly #hooks: ConnectionHooks;
  readonly #handshake: ReturnType<typeof setTimeout>;
  #over = false;

  /** @throws whatever the platform throws that does not let us connect there. */
  constructor(settings: Settings, hooks: ConnectionHooks) {
    const socket = new settings.WebSocket(settings.url, SUBPROTOCOL);
    this.#socket = socket;
    this.#hooks = hooks;
    this.#handshake = setTimeout(() => this.giveUp("no handshake in time"), settings.connectTimeoutMs);
    socket.onopen = () => {
      clearTimeout(this.#handshake);
      if (!this.#over) hooks.onOpen();
    };
    socket.onmessage = ({ data }: { data: unknown }) => {
      const message = this.#over ? undefined : parse(data);
      if (message) hooks.onMessage(message);
    };
    // An error is always followed by a close, which knows more.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => this.#end(code, reason);
  }

  /** Tells whether it was handed to the socket. */
  send(text: string): boolean {
    if (this.#over || this.#socket.readyState !== OPEN) return false;
    this.#socket.send(text);
    return true;
  }

  /** Closes it, and tells nothing more. */
  drop(): void {
    this.#over = true;
    clearTimeout(this.#handshake);
    this.#socket.close(1000, "");
  }

  /** Gives it up: to whoever listens it has ended, whatever becomes of the socket. */
  giveUp(why: string): void {
    this.#end(CLOSE.abnormal, why);
    this.#socket.close(1000, "");
  }

  #end(code: number, reason: string): void {
    clearTimeout(this.#handshake);
    if (this.#over) return;
    this.#over = true;
    this.#hooks.onEnd(code, reason);
  }
}
