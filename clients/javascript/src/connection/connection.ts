/**
 * One WebSocket, from the handshake to its end. Its owner hears no more of it once it has dropped it.
 */

import type { Settings, SocketLike } from "../options.js";
import { CLOSE, LIMITS_SUBPROTOCOL, parse, SUBPROTOCOL, type ServerMessage } from "../protocol.js";
import { refusalOf, watchRefusal } from "./refusal.js";

/** `WebSocket.OPEN`. */
const OPEN = 1;

/** An error is followed by a close, which knows more; but not everywhere: where a page's policy forbids the connection, none comes. */
const CLOSE_AFTER_ERROR_MS = 1_000;

/** What happens on it. */
export interface ConnectionHooks {
  onOpen(): void;
  onMessage(message: ServerMessage): void;
  /** Something was received, whatever it is. */
  onReceived(): void;
  /** It is over, whichever end closed it. Nothing follows. `cause` is what the platform says of it, if it does. */
  onEnd(code: number, reason: string, cause: unknown): void;
}

/** A connection that is being made, or is. */
export class Connection {
  readonly #socket: SocketLike;
  readonly #hooks: ConnectionHooks;
  /** Until the handshake is over, or, after an error, the close has come. */
  #limit: ReturnType<typeof setTimeout>;
  #cause: unknown;
  #over = false;

  /** @throws whatever the platform throws that does not let us connect there. */
  constructor(settings: Settings, hooks: ConnectionHooks) {
    const socket = new settings.WebSocket(settings.url, [SUBPROTOCOL, LIMITS_SUBPROTOCOL]);
    this.#socket = socket;
    this.#hooks = hooks;
    this.#limit = setTimeout(() => this.giveUp("no handshake in time"), settings.connectTimeoutMs);
    socket.onopen = () => {
      clearTimeout(this.#limit);
      if (!this.#over) hooks.onOpen();
    };
    socket.onmessage = ({ data }: { data: unknown }) => {
      if (this.#over) return;
      hooks.onReceived();
      const message = parse(data);
      if (message) hooks.onMessage(message);
    };
    watchPongs(socket, () => this.#over || hooks.onReceived());
    socket.onerror = (event: unknown) => this.#onError(refusalOf(event));
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => this.#end(code, reason);
    watchRefusal(socket, (cause) => {
      this.#cause = cause;
      this.giveUp(cause.message);
    });
  }

  /** Tells whether it was handed to the socket. */
  send(text: string): boolean {
    if (this.#over || this.#socket.readyState !== OPEN) return false;
    this.#socket.send(text);
    return true;
  }

  /** Sends a ping, if the platform can, and tells of its pong. Tells whether it was sent. */
  ping(): boolean {
    if (this.#over || this.#socket.readyState !== OPEN || !canPing(this.#socket)) return false;
    this.#socket.ping();
    return true;
  }

  /** Closes it, and tells nothing more. */
  drop(): void {
    this.#over = true;
    clearTimeout(this.#limit);
    this.#socket.close(1000, "");
  }

  /** Gives it up: to its hooks it has ended, whatever becomes of the socket. */
  giveUp(why: string): void {
    this.#end(CLOSE.abnormal, why);
    // Where the platform can, it does not wait for a server that is gone to close, too.
    const { terminate } = this.#socket as { terminate?: unknown };
    if (this.#socket.readyState === OPEN && typeof terminate === "function") terminate.call(this.#socket);
    else this.#socket.close(1000, "");
  }

  #onError(cause: Error | undefined): void {
    if (this.#over) return;
    this.#cause ??= cause;
    clearTimeout(this.#limit);
    this.#limit = setTimeout(() => this.giveUp("the platform does not connect"), CLOSE_AFTER_ERROR_MS);
  }

  #end(code: number, reason: string): void {
    clearTimeout(this.#limit);
    if (this.#over) return;
    this.#over = true;
    this.#hooks.onEnd(code, reason, this.#cause);
  }
}

/** A socket whose pings can be sent and whose pongs are told (RFC 6455 §5.5.2), as those of the package `ws` are. */
interface PingingSocket extends SocketLike {
  ping(): void;
  on(name: "pong", listener: () => void): unknown;
}

function canPing(socket: SocketLike): socket is PingingSocket {
  return typeof socket.ping === "function" && typeof (socket as { on?: unknown }).on === "function";
}

function watchPongs(socket: SocketLike, onPong: () => void): void {
  if (canPing(socket)) socket.on("pong", onPong);
}
