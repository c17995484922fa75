/**
 * One client of Countersign, as an application sees it: it is asked, it tells of pushes, and it is always there.
 *
 * This is its life from one connection to the next. Each begins with a fresh token, and with what was not answered on the
 * one before; what happens on it meanwhile is its `Connection`'s and its `Session`'s business.
 */

import { Backoff } from "./backoff.js";
import { Connection } from "./connection.js";
import { Emitter } from "./emitter.js";
import { CountersignError } from "./errors.js";
import type { ClientEvents, State } from "./events.js";
import { complete, type ClientOptions, type Settings } from "./options.js";
import { watchPage } from "./page.js";
import { leftMs, Pending, type Outcome } from "./pending.js";
import { CLOSE, isOverload, isTerminal, write, writeCancel, type AuthBody, type AuthRequired, type ServerMessage } from "./protocol.js";
import { Recent } from "./recent.js";
import { noToken, Session } from "./session.js";
import { Tokens } from "./tokens.js";

/** How to ask. */
export interface RequestOptions {
  /** The request's name, 1 to 128 bytes; drawn if there is none. Repeating one repeats the request. */
  id?: string;
  /** In place of `requestTimeoutMs`. The server is told, and begins nothing that nobody waits for any more. */
  timeoutMs?: number;
  /** Ends the wait, and tells the server to give up what it does about it. */
  signal?: AbortSignal;
  /**
   * Whether it may be sent again after a lost connection although it may have been handled. If it is not said, the
   * server says whether it knows a request again (its setting `idempotency`).
   */
  idempotent?: boolean;
}

/** How many pushes are remembered, to know those that come twice. */
const RECENT_PUSHES = 1_024;

/** A connection that ends sooner than this after its token was taken has proved nothing: the next wait is longer still. */
const STEADY_MS = 5_000;

/** The least wait before coming back to a server that has too much to do, jitter aside. */
const OVERLOAD_LEAST_MS = 2_000;

/** When a request that was sent on an earlier connection, too, is sent again if the server is busy and does not say when. */
const BUSY_RETRY_MS = 1_000;

/** Errors that a fresh token may mend. */
const WANT_TOKEN = new Set<string>(["auth_required", "token_expired", "hold_expired", "hold_overflow"]);

/** A client. It connects when it is first asked for something, or by {@link Client.connect}. */
export class Client {
  readonly #settings: Settings;
  readonly #events = new Emitter<ClientEvents>();
  readonly #tokens: Tokens;
  readonly #pending: Pending;
  readonly #backoff: Backoff;
  readonly #recent = new Recent(RECENT_PUSHES);
  readonly #name = randomName();
  #lastId = 0;
  /** What callers have been given and is not settled. */
  readonly #answers = new Map<object, Promise<unknown>>();
  #state: State = { name: "closed" };
  /** Whether it was the application that closed it. */
  #isClosed = false;
  /** Counts attempts to connect, so that a token that comes for an earlier one is told apart. */
  #attempt = 0;
  #connection: Connection | undefined;
  /** Its authentication, once it is open. */
  #session: Session | undefined;
  /** The key to what the last connection has left held. */
  /** Whether the server said that it knows a message again by its id. */
  #remembers = false;
  #inheritance: string | undefined;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #ignorePage: (() => void) | undefined;

  /** @throws {TypeError | RangeError} with these options it can never work. */
  constructor(options: ClientOptions) {
    this.#settings = complete(options);
    this.#tokens = new Tokens(this.#settings.token, this.#settings.connectTimeoutMs, () => this.#onAnother());
    this.#pending = new Pending(this.#settings);
    const { least, most } = this.#settings.backoffMs;
    this.#backoff = new Backoff(least, most, this.#settings.random);
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

  /** Connects if it is not connected, without waiting any longer, also after a stop; and logs in if it was logged out. */
  connect(): void {
    this.#isClosed = false;
    if (this.#state.name === "closed" || this.#state.name === "stopped") {
      this.#ignorePage = watchPage({ visible: () => this.#onAwake(false), online: () => this.#onAwake(true) });
      void this.#open();
    } else if (this.#state.name === "waiting") {
      this.#openNow();
    } else if (this.#session?.isLoggedOut) {
      this.#session.renew();
    }
  }

  /** Closes, and refuses what waits and what is asked from now on. A later {@link Client.connect} begins anew. */
  close(): void {
    this.#isClosed = true;
    this.#leave({ name: "closed" }, wasClosed());
  }

  /**
   * Asks, and resolves with the payload of the answer; the first one, if there are several. What was sent and not answered
   * when a connection is lost is sent again, under the same id, if the server's idempotency is on, so that it has its effect
   * once, or if the call says that it is idempotent. Else it is rejected with `lost`, if its answer does not
   * come on the next connection within 5 s: it may have been handled.
   *
   * @throws {CountersignError} the server's refusal, or why there is no answer.
   */
  request(type: string, payload?: unknown, options: RequestOptions = {}): Promise<unknown> {
    const key = {};
    let isOver = false;
    const answer = this.#ask(type, payload, options).finally(() => {
      isOver = true;
      this.#answers.delete(key);
    });
    if (this.#isClosed) ignore(answer);
    else if (!isOver) this.#answers.set(key, answer);
    return answer;
  }

  async #ask(type: string, payload: unknown, options: RequestOptions): Promise<unknown> {
    if (this.#state.name === "stopped") throw this.#state.error;
    if (this.#isClosed) throw wasClosed();
    if (type.startsWith("auth.")) throw new CountersignError("bad_request", `${type} is the protocol's own`, false);
    const { id = this.#nextId(), timeoutMs = this.#settings.requestTimeoutMs, signal, idempotent } = options;
    const onGivenUp = () => this.#connection?.send(writeCancel(id));
    const answer = this.#pending.add({ id, type, payload, idempotent }, { timeoutMs, signal, onGivenUp });
    if (this.#state.name === "closed") this.connect();
    this.#flush();
    return answer.catch((error: unknown) => {
      // It may be that there is nobody any more, and the network has not noticed.
      if (error instanceof CountersignError && error.code === "timeout") this.#session?.awake(false);
      throw error;
    });
  }

  /**
   * Logs out, and refuses what waits. Nobody is logged in again before something is asked or {@link Client.connect} is
   * called; then it is whoever the provider's next token speaks for.
   */
  async forget(): Promise<void> {
    if (this.#state.name === "closed" || this.#state.name === "stopped") return;
    const session = this.#session;
    if (!session) return this.#leave({ name: "closed" }, loggedOut());
    session.forget();
    for (const answer of this.#answers.values()) ignore(answer);
    this.#pending.fail(loggedOut());
    const { requestTimeoutMs: timeoutMs } = this.#settings;
    const answer = this.#pending.add({ id: this.#nextId(), type: "auth.forget", payload: undefined }, { timeoutMs });
    this.#sendUnsent();
    // Without its connection it is logged out, too: that is what is left if the server cannot do it.
    const done = answer.catch(() => session === this.#session && this.#leave({ name: "closed" }, loggedOut()));
    this.#enter({ name: "open", authenticated: false });
    await done;
  }

  async #open(): Promise<void> {
    const attempt = ++this.#attempt;
    this.#enter({ name: "connecting" });
    try {
      await this.#tokens.fresh();
      if (attempt === this.#attempt) this.#dial();
    } catch (cause) {
      if (attempt === this.#attempt) this.#onNoToken(noToken(cause));
    }
  }

  #dial(): void {
    try {
      this.#connection = new Connection(this.#settings, {
        onOpen: () => this.#onOpen(),
        onMessage: (message) => this.#onMessage(message),
        onEnd: (code, reason) => this.#onEnd(code, reason),
      });
    } catch (cause) {
      // The page may not connect there, and will not be allowed to later.
      this.#stop(new CountersignError("stopped", "the platform does not let us connect", false, undefined, { cause }));
    }
  }

  #onNoToken(error: CountersignError): void {
    if (error.temporary) this.#retry("no token");
    else this.#stop(error);
    this.#events.emit("error", error);
  }

  /** Nothing that was asked in one name goes on in another, and nobody takes over what another has left held. */
  #onAnother(): void {
    this.#inheritance = undefined;
    this.#pending.fail(
      new CountersignError("identity_mismatch", "the token provider gave another identity's token while this was waiting", false),
    );
  }

  #onOpen(): void {
    this.#session = new Session(this.#settings, this.#tokens, this.#inheritance, {
      send: (text) => this.#connection?.send(text) ?? false,
      nextId: () => this.#nextId(),
      onShown: () => this.#flush(),
      onError: (error) => this.#events.emit("error", error),
      onStop: (error) => this.#stop(error),
      onSilence: () => this.#connection?.giveUp("the server is silent"),
    });
    this.#session.show();
    this.#enter({ name: "open", authenticated: false });
    this.#flush();
  }

  #onMessage(message: ServerMessage): void {
    const session = this.#session;
    if (message.auth && session?.granted(message.auth)) this.#onGranted(message.auth);
    // Whoever listens may have closed it.
    if (!session || session !== this.#session) return;
    if (session.takes(message)) return this.#flush();
    switch (message.type) {
      case "reply":
      case "auth.ok":
        this.#settle(message, { payload: message.payload });
        break;
      case "error":
        this.#onError(message, session);
        break;
      case "push":
        this.#onPush(message);
        break;
      case "auth.required":
        session.required();
        this.#onRequired(message);
        break;
      // A newer server may say what this client does not know.
      default:
    }
  }

  #settle(message: ServerMessage, outcome: Outcome): void {
    if (message.id !== undefined) this.#pending.get(message.id)?.settle(outcome);
  }

  #onError(message: ServerMessage, session: Session): void {
    const error = CountersignError.of(message.error);
    const request = message.id === undefined ? undefined : this.#pending.get(message.id);
    if (!request) {
      // That of a request which nobody waits for any more concerns nobody.
      if (message.id === undefined) this.#events.emit("error", error);
    } else if (WANT_TOKEN.has(error.code) && request.awaits === 0 && !session.isLoggedOut) {
      // Once for each request: whoever is refused with a fresh token will not do better with the next.
      this.#pending.markRefused(request);
      this.#flush();
    } else if (error.code === "busy" && request.lost && (request.idempotent ?? this.#remembers)) {
      // It may be its own first copy that is being handled: then its answer comes, or is there next time.
      this.#pending.postpone(request, error.retryAfterMs ?? BUSY_RETRY_MS, () => this.#flush());
    } else {
      request.settle({ error });
    }
  }

  #onPush({ id, payload }: ServerMessage): void {
    if (id === undefined || this.#recent.isNew(id)) this.#events.emit("push", { id, payload });
  }

  #onRequired({ reason = "missing", deadline_ms = 0, held = { inbound: 0, outbound: 0 } }: Partial<AuthRequired>): void {
    if (reason === "expired" || reason === "missing") this.#enter({ name: "open", authenticated: false });
    this.#events.emit("auth.required", { reason, deadline_ms, held });
  }

  #onGranted({ subject, expires_in, refresh_in, idempotency }: AuthBody): void {
    this.#remembers = idempotency !== undefined;
    this.#enter({ name: "open", authenticated: true, subject });
    this.#events.emit("auth", { subject, expires_in, refresh_in });
    this.#flush();
  }

  #onEnd(code: number, reason: string): void {
    const session = this.#session;
    const isLoggedOut = session?.isLoggedOut;
    const hasProved = Date.now() - (session?.provenSince ?? Number.POSITIVE_INFINITY) >= STEADY_MS;
    if (session) this.#inheritance = session.key;
    session?.end();
    this.#connection = this.#session = undefined;
    if (hasProved) this.#backoff.reset();
    if (code === CLOSE.tooBig) this.#pending.refuseLargestSent();
    if (isTerminal(code)) return this.#stop(CountersignError.ofClose(code, reason), code);
    if (isLoggedOut) return this.#leave({ name: "closed" }, loggedOut());
    this.#pending.markUnsent(this.#remembers);
    this.#retry(`${code} ${reason}`.trimEnd(), isOverload(code) ? OVERLOAD_LEAST_MS : 0);
  }

  #retry(because: string, atLeastMs = 0): void {
    const retryInMs = this.#backoff.nextMs(atLeastMs);
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => void this.#open(), retryInMs);
    this.#enter({ name: "waiting", retryInMs, because });
  }

  /** Timers may have slept meanwhile, and networks have changed. */
  #onAwake(networkChanged: boolean): void {
    if (this.#state.name === "waiting") this.#openNow();
    else this.#session?.awake(networkChanged);
  }

  #openNow(): void {
    clearTimeout(this.#retryTimer);
    void this.#open();
  }

  /** Sends what has not been sent on this connection, as soon as it may. */
  #flush(): void {
    const session = this.#session;
    if (!session || this.#state.name !== "open" || this.#pending.size === 0) return;
    if (session.hasLapsed) return session.needed();
    const { perMessage } = this.#settings;
    if (!perMessage && !this.#state.authenticated) return;
    const areLeft = this.#sendUnsent(perMessage ? this.#tokens.current : undefined);
    if (areLeft) session.needed();
  }

  /** Tells whether something waits for a later token. */
  #sendUnsent(token?: string): boolean {
    let areLeft = false;
    for (const request of this.#pending.unsent()) {
      const { id, type, payload, deadline, awaits } = request;
      if (awaits > this.#tokens.count) areLeft = true;
      else if (this.#pending.refuseTooLarge(request, token)) continue;
      else if (this.#connection?.send(write({ id, type, token, timeout_ms: leftMs(deadline), payload }))) this.#pending.markSent(request, this.#tokens.count);
    }
    return areLeft;
  }

  #enter(state: State): void {
    const before = JSON.stringify(this.#state);
    this.#state = state;
    if (JSON.stringify(state) !== before) this.#events.emit("state", state);
  }

  #stop(error: CountersignError, closeCode?: number): void {
    this.#leave(closeCode === undefined ? { name: "stopped", error } : { name: "stopped", error, closeCode }, error);
  }

  #leave(state: State, error: CountersignError): void {
    this.#attempt++;
    clearTimeout(this.#retryTimer);
    this.#ignorePage?.();
    this.#session?.end();
    this.#connection?.drop();
    this.#ignorePage = this.#session = this.#connection = this.#inheritance = undefined;
    this.#tokens.drop();
    this.#backoff.reset();
    // Whoever closes it knows; those who do not wait for their answers need not be told by an unhandled rejection.
    if (error.code === "closed") for (const answer of this.#answers.values()) ignore(answer);
    this.#pending.fail(error);
    this.#enter(state);
  }

  #nextId(): string {
    return `${this.#name}-${++this.#lastId}`;
  }
}

/** That it is rejected is nobody's surprise. Whoever waits for it is told all the same. */
function ignore(answer: Promise<unknown>): void {
  answer.catch(() => undefined);
}

function wasClosed(): CountersignError {
  return new CountersignError("closed", "the client was closed", false);
}

function loggedOut(): CountersignError {
  return new CountersignError("closed", "the client was logged out", false);
}

/** What no other client calls its requests by, so that idempotency never takes one for the other. */
function randomName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}
