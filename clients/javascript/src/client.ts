/**
 * One connection to Countersign, as an application sees it: it is asked, it pushes, and it is always there.
 *
 * What happens on the socket is met in one place (`#onMessage`, `#onClose`). A connection begins with a fresh token, is
 * renewed by `auth.authenticate` on the same socket, and when it is lost, comes back after a while with what was not
 * answered, unless the server said to stop.
 */

import { Backoff } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { CountersignError } from "./errors.js";
import { Pending, type Request } from "./pending.js";
import { isTerminal, parse, SUBPROTOCOL, type AuthBody, type AuthRequired, type ServerMessage } from "./protocol.js";
import { Recent } from "./recent.js";
import { Tokens, type TokenProvider } from "./tokens.js";
import { watchPage } from "./page.js";

/** Where a client stands. */
export type State =
  /** It was not started, or was closed. */
  | { name: "closed" }
  /** It fetches a token, or shakes hands. */
  | { name: "connecting" }
  /** Messages travel; `authenticated` once the server has said who it takes us for. */
  | { name: "open"; authenticated: boolean; subject?: string }
  /** It connects again in so many milliseconds. */
  | { name: "waiting"; retryInMs: number; because: string }
  /** The server said to stop: connecting again would end the same way. */
  | { name: "stopped"; code: number; reason: string };

/** Something that a backend pushed. */
export interface Push {
  id: string | undefined;
  payload: unknown;
}

/** What a client tells of. */
export type ClientEvents = {
  state: State;
  push: Push;
  /** The server wants a fresh token. It is being fetched; this is for whoever shows it. */
  "auth.required": AuthRequired;
  auth: AuthBody;
  /** What concerns no request: a token that cannot be had, an error that names no message. */
  error: CountersignError;
};

/** The part of a WebSocket that is used. */
export interface SocketLike {
  readonly readyState: number;
  send(data: string): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: never) => void) | null;
}

/** How to connect. */
export interface ClientOptions {
  /** `wss://…`. Tokens do not belong in it. */
  url: string | URL;
  /** Asked for a token on every connection, and before each renewal. */
  token: TokenProvider;
  /** Whether every message carries the token, or the connection is authenticated once. Default `per-message`. */
  strategy?: "per-message" | "explicit";
  /** Where there is no global `WebSocket`: that of the package `ws`, for one. */
  WebSocket?: new (url: string, protocols: string) => SocketLike;
  /** How many requests may wait at a time. Default 1,000. */
  maxPending?: number;
  /** How long a request waits for its answer. Default 60 s: longer than a reconnect. */
  requestTimeoutMs?: number;
  /** The first and the longest wait before connecting again. Default 250 ms and 30 s. */
  backoffMs?: { least: number; most: number };
  /** From 0 to 1, for jitter. Default `Math.random`. */
  random?: () => number;
}

/** How to ask. */
export interface RequestOptions {
  /** The request's name, at most 128 bytes; drawn if there is none. Repeating one repeats the request. */
  id?: string;
  timeoutMs?: number;
  signal?: AbortSignal;
}

const DEFAULTS = { maxPending: 1_000, requestTimeoutMs: 60_000, backoffMs: { least: 250, most: 30_000 } };

/** How many pushes are remembered, to know those that come twice. */
const RECENT_PUSHES = 1_024;

/** `setTimeout` takes no longer time than this: 2^31 - 1 ms, about 24 days. */
const LONGEST_TIMER_MS = 2_147_483_647;

/** When to show another token after one was refused, where the server does not say. */
const RENEWAL_RETRY_MS = 1_000;

/** `WebSocket.OPEN`. */
const OPEN = 1;

/** A client. It connects when it is first asked for something, or by {@link Client.connect}. */
export class Client {
  readonly #options: ClientOptions;
  readonly #events = new Emitter<ClientEvents>();
  readonly #tokens: Tokens;
  readonly #pending: Pending;
  readonly #backoff: Backoff;
  readonly #recent = new Recent(RECENT_PUSHES);
  #state: State = { name: "closed" };
  #socket: SocketLike | undefined;
  /** Counts attempts, so that what belongs to an earlier one is told apart. */
  #attempt = 0;
  #resume: string | undefined;
  #renewal: Promise<void> | undefined;
  #refreshAt = Number.POSITIVE_INFINITY;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #ignorePage: (() => void) | undefined;
  #lastId = 0;
  /** The id of the last `auth.authenticate`. */
  #authentication: string | undefined;
  readonly #name = randomName();

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#tokens = new Tokens(options.token);
    this.#pending = new Pending(options.maxPending ?? DEFAULTS.maxPending);
    const { least, most } = options.backoffMs ?? DEFAULTS.backoffMs;
    this.#backoff = new Backoff(least, most, options.random ?? Math.random);
  }

  /** Where it stands. */
  get state(): State {
    return this.#state;
  }

  /** How many requests wait for their answers. */
  get pending(): number {
    return this.#pending.size;
  }

  /** Calls `listener` at each event of that name. Returns how to end that. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  /** Connects, if it has not. */
  connect(): void {
    if (this.#state.name !== "closed") return;
    this.#ignorePage = watchPage(() => this.#onAwake());
    void this.#open();
  }

  /** Closes for good, and refuses what waits. A later {@link Client.connect} begins anew. */
  close(): void {
    this.#leave({ name: "closed" }, new CountersignError("closed", "the client was closed", false));
    this.#socket?.close(1000, "");
    this.#socket = undefined;
  }

  /**
   * Asks, and resolves with the payload of the answer. It is sent again, under the same id, after a reconnect: the
   * server handles it at least once, and once where its idempotency is on.
   *
   * @throws {CountersignError} the server's refusal, or why there is no answer.
   */
  request(type: string, payload?: unknown, options: RequestOptions = {}): Promise<unknown> {
    if (this.#state.name === "stopped") {
      const { code, reason } = this.#state;
      return Promise.reject(new CountersignError("closed", `the server said to stop: ${code} ${reason}`, false));
    }
    const id = options.id ?? `${this.#name}-${++this.#lastId}`;
    const timeoutMs = options.timeoutMs ?? this.#options.requestTimeoutMs ?? DEFAULTS.requestTimeoutMs;
    const answer = this.#pending.add({ id, type, payload }, { timeoutMs, signal: options.signal });
    this.connect();
    this.#flush();
    return answer;
  }

  /** Logs the connection out. It lives on, and is authenticated again by the next token. */
  async forget(): Promise<void> {
    this.#resume = undefined;
    await this.request("auth.forget");
  }

  async #open(): Promise<void> {
    const attempt = ++this.#attempt;
    this.#enter({ name: "connecting" });
    try {
      await this.#tokens.fresh();
    } catch (cause) {
      if (attempt !== this.#attempt) return;
      this.#events.emit("error", noToken(cause));
      this.#retry("no token");
      return;
    }
    if (attempt !== this.#attempt) return;
    const WebSocket = this.#options.WebSocket ?? (globalThis.WebSocket as unknown as ClientOptions["WebSocket"]);
    if (!WebSocket) throw new TypeError("there is no WebSocket here: pass one in the options");
    const socket = new WebSocket(String(this.#options.url), SUBPROTOCOL);
    this.#socket = socket;
    const ours = () => attempt === this.#attempt;
    socket.onopen = () => ours() && this.#onOpen();
    socket.onmessage = ({ data }) => ours() && this.#onMessage(data);
    // An error is always followed by a close, which knows more.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => ours() && this.#onClose(code, reason);
  }

  #onOpen(): void {
    this.#enter({ name: "open", authenticated: false });
    this.#authenticate();
    this.#flush();
  }

  #onMessage(data: unknown): void {
    const message = parse(data);
    if (!message) return;
    if (message.auth) this.#onAuth(message.auth);
    switch (message.type) {
      case "reply":
      case "auth.ok":
        this.#settle(message, { payload: message.payload });
        break;
      case "error":
        this.#onError(message);
        break;
      case "push":
        this.#onPush(message);
        break;
      case "auth.required":
        this.#events.emit("auth.required", message as AuthRequired);
        this.#renew();
        break;
      // A newer server may say what this client does not know.
      default:
    }
  }

  #settle(message: ServerMessage, outcome: Parameters<Request["settle"]>[0]): void {
    if (message.id !== undefined) this.#pending.get(message.id)?.settle(outcome);
  }

  #onError(message: ServerMessage): void {
    const error = message.error
      ? CountersignError.of(message.error)
      : new CountersignError("internal", "the server sent an error without a word", false);
    if (message.id !== undefined && message.id === this.#authentication) {
      this.#onRefused(error);
      return;
    }
    const request = message.id === undefined ? undefined : this.#pending.get(message.id);
    if (!request) {
      this.#events.emit("error", error);
      return;
    }
    const wantsToken = error.code === "token_expired" || error.code === "auth_required" || error.code === "hold_expired";
    if (wantsToken && !request.renewed) {
      // Once for each request: whoever is refused with a fresh token will not do better with the next.
      request.renewed = true;
      request.sent = false;
      this.#renew();
      return;
    }
    request.settle({ error });
  }

  /** The token was not taken. It is tried again where another may fare better; close codes tell when to stop. */
  #onRefused(error: CountersignError): void {
    this.#events.emit("error", error);
    if (!error.temporary && error.code !== "token_expired") return;
    clearTimeout(this.#refreshTimer);
    this.#refreshTimer = setTimeout(() => this.#renew(), error.retryAfterMs ?? RENEWAL_RETRY_MS);
  }

  #onPush({ id, payload }: ServerMessage): void {
    if (id === undefined || this.#recent.isNew(id)) this.#events.emit("push", { id, payload });
  }

  #onAuth(auth: AuthBody): void {
    this.#backoff.reset();
    this.#resume = auth.resume ?? this.#resume;
    this.#refreshAt = Date.now() + auth.refresh_in * 1_000;
    clearTimeout(this.#refreshTimer);
    this.#refreshTimer = setTimeout(() => this.#renew(), Math.min(auth.refresh_in * 1_000, LONGEST_TIMER_MS));
    this.#enter({ name: "open", authenticated: true, subject: auth.subject });
    this.#events.emit("auth", auth);
    this.#flush();
  }

  #onClose(code: number, reason: string): void {
    this.#socket = undefined;
    this.#pending.markUnsent();
    clearTimeout(this.#refreshTimer);
    if (isTerminal(code)) {
      const why = `the server said to stop: ${code} ${reason}`;
      this.#leave({ name: "stopped", code, reason }, new CountersignError("closed", why, false));
    } else {
      this.#retry(`${code} ${reason}`.trim());
    }
  }

  #retry(because: string): void {
    const retryInMs = this.#backoff.nextMs();
    this.#enter({ name: "waiting", retryInMs, because });
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => void this.#open(), retryInMs);
  }

  /** The page is seen again, or the network is back: timers may have slept meanwhile. */
  #onAwake(): void {
    if (this.#state.name === "waiting") {
      clearTimeout(this.#retryTimer);
      void this.#open();
    } else if (this.#state.name === "open" && Date.now() >= this.#refreshAt) {
      this.#renew();
    }
  }

  /** Fetches a fresh token and shows it, once at a time. */
  #renew(): void {
    if (this.#state.name !== "open") return;
    const attempt = this.#attempt;
    this.#renewal ??= this.#tokens
      .fresh()
      .then(
        () => {
          if (attempt === this.#attempt) this.#authenticate();
        },
        (cause: unknown) => {
          this.#events.emit("error", noToken(cause));
        },
      )
      .finally(() => {
        this.#renewal = undefined;
        this.#flush();
      });
  }

  /** Shows the token to the server. Its answer comes as `auth`, or as an error that concerns no request. */
  #authenticate(): void {
    const payload = this.#resume === undefined ? undefined : { resume: this.#resume };
    this.#authentication = `${this.#name}-auth-${++this.#lastId}`;
    this.#send({ id: this.#authentication, type: "auth.authenticate", token: this.#tokens.current, payload });
  }

  /** Sends what has not been sent on this connection. */
  #flush(): void {
    if (this.#state.name !== "open") return;
    const perMessage = (this.#options.strategy ?? "per-message") === "per-message";
    if (!perMessage && !this.#state.authenticated) return;
    if (this.#renewal) return;
    for (const request of this.#pending.unsent()) {
      const { id, type, payload } = request;
      const token = perMessage && !type.startsWith("auth.") ? this.#tokens.current : undefined;
      if (!this.#send({ id, type, token, payload })) return;
      request.sent = true;
    }
  }

  /** Tells whether it was handed to the socket. Members that are undefined are not written. */
  #send(message: { [member: string]: unknown }): boolean {
    if (this.#socket?.readyState !== OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #enter(state: State): void {
    const before = JSON.stringify(this.#state);
    this.#state = state;
    if (JSON.stringify(state) !== before) this.#events.emit("state", state);
  }

  #leave(state: State, error: CountersignError): void {
    this.#attempt++;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#refreshTimer);
    this.#ignorePage?.();
    this.#ignorePage = undefined;
    this.#backoff.reset();
    this.#enter(state);
    this.#pending.fail(error);
  }
}

function noToken(cause: unknown): CountersignError {
  return new CountersignError("no_token", "the token provider failed", true, undefined, { cause });
}

/** What no other client calls its requests by, so that idempotency never takes one for the other. */
function randomName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}
