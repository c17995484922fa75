/**
 * One client of Countersign, as an application sees it: it is asked, it tells of pushes, and it is always there.
 *
 * This is its life from one connection to the next. Each begins with a fresh token, and with what was not answered on the
 * one before; what happens on it meanwhile is its `Connection`'s and its `Session`'s business.
 */

import { Comeback, leastWaitMs } from "./connection/comeback.js";
import { Connection } from "./connection/connection.js";
import { Heartbeat } from "./connection/heartbeat.js";
import { watchPage } from "./connection/page.js";
import { noToken, Session } from "./connection/session.js";
import { Tokens } from "./connection/tokens.js";
import { CountersignError } from "./errors.js";
import type { State } from "./events.js";
import { Listeners } from "./listeners.js";
import { complete, type ClientOptions, type Settings } from "./options.js";
import { CLOSE, LIMITS_REQUEST, isTerminal, writeCancel, type AuthBody, type AuthRequired, type ServerMessage } from "./protocol.js";
import { Acknowledgements } from "./request/acknowledgements.js";
import { Given, loggedOut, randomName, unreachable, wasClosed } from "./request/asking.js";
import type { RequestOptions, SendOptions, StreamOptions } from "./request/asking.js";
import { Limits } from "./request/limits.js";
import { Outbox } from "./request/outbox.js";
import { Pending, type RequestSpec } from "./request/pending.js";
import { Replies } from "./request/replies.js";

/** A connection that ends sooner than this after its token was taken has proved nothing: the next wait is longer still. */
const STEADY_MS = 5_000;

/** When a request that was sent on an earlier connection, too, is sent again if the server is busy and does not say when. */
const BUSY_RETRY_MS = 1_000;

/** Errors that a fresh token may resolve. */
const WANT_TOKEN = new Set<string>(["auth_required", "token_expired", "hold_expired", "hold_overflow"]);

/** A client. It connects when it is first asked for something, or by {@link Client.connect}. */
export class Client extends Listeners {
  readonly #settings: Settings;
  readonly #tokens: Tokens;
  readonly #pending: Pending;
  readonly #comeback: Comeback;
  readonly #outbox: Outbox;
  /** What the server takes. */
  readonly #limits: Limits;
  /** Whether the server has told its limits on this connection, and tells them again when it is asked. */
  #isTold = false;
  readonly #name = randomName();
  #lastId = 0;
  readonly #given = new Given();
  #state: State = { name: "closed" };
  /** Whether it was the application that closed it. */
  #isClosed = false;
  /** Counts attempts to connect, so that a token that comes for an earlier one is told apart. */
  #attempt = 0;
  #connection: Connection | undefined;
  /** Its authentication, once it is open. */
  #session: Session | undefined;
  /** Whether it is still alive. */
  #heartbeat: Heartbeat | undefined;
  /** What it is told of its pushes, if that is wanted. */
  #acknowledgements: Acknowledgements | undefined;
  /** Whether the server said that it knows a message again by its id. */
  #remembers = false;
  /** The key to what the last connection has left held. */
  #inheritance: string | undefined;
  /** Why the client is not authenticated, if that is known. */
  #trouble: CountersignError | undefined;
  #ignorePage: (() => void) | undefined;

  /** @throws {TypeError | RangeError} with these options it can never work. */
  constructor(options: ClientOptions) {
    super();
    this.#settings = complete(options);
    this.#tokens = new Tokens(this.#settings.token, this.#settings.connectTimeoutMs, () => this.#onAnother());
    this.#limits = new Limits(this.#settings);
    this.#pending = new Pending(this.#limits);
    this.#comeback = new Comeback(this.#settings, () => void this.#open());
    this.#outbox = new Outbox(this.#limits, this.#pending, this.#tokens, () => this.#flush());
  }

  /** Where it stands. */
  get state(): State {
    return this.#state;
  }

  /** How many requests wait for their answers. */
  get pending(): number {
    return this.#pending.size;
  }

  /** Connects if it is not connected, without waiting any longer, also after a stop; and logs in if it was logged out. */
  connect(): void {
    this.#isClosed = false;
    if (this.#state.name === "closed" || this.#state.name === "stopped") {
      this.#ignorePage = watchPage({
        visible: () => this.#onAwake(false),
        online: () => this.#onAwake(true),
        frozen: () => this.#onFrozen(),
        thawed: () => this.#onThawed(),
      });
      void this.#open();
    } else if (this.#state.name === "waiting") {
      this.#comeback.now();
    } else if (this.#state.name === "frozen") {
      this.#onThawed();
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
  request<Reply = unknown>(type: string, payload?: unknown, options: RequestOptions = {}): Promise<Reply> {
    return this.#asked({ ...options, type, payload }, options) as Promise<Reply>;
  }

  /**
   * Says something to which no answer is wanted. Resolves when it is sent, or throws why it is not; what becomes of it then is not told,
   * but for a refusal, which is an `error` event. It is never sent twice.
   */
  async send(type: string, payload?: unknown, options: SendOptions = {}): Promise<void> {
    await this.#asked({ type, payload, isUnanswered: true }, options);
  }

  /**
   * Asks at once, and gives the answers as they come, for a handler that gives several. It ends with the one that `isLast` says is the last,
   * with an error, when none comes in time, or when the loop is left: then the server is told to give it up. After its first answer
   * it is not sent again: if its connection is lost then and the rest does not come on the next one, it ends with `lost`.
   */
  stream<Reply = unknown>(type: string, payload?: unknown, options: StreamOptions<Reply> = {}): Replies<Reply> {
    const { isLast = () => false, signal: outer, ...how } = options;
    return new Replies<Reply>((onReply, inner) => {
      const signal = outer ? AbortSignal.any([outer, inner]) : inner;
      return this.#asked({ ...how, type, payload, onReply }, { ...how, signal });
    }, isLast);
  }

  #asked(spec: Omit<RequestSpec, "id"> & { id?: string }, options: SendOptions): Promise<unknown> {
    return this.#given.mind(this.#ask(spec, options), this.#isClosed);
  }

  async #ask(asked: Omit<RequestSpec, "id"> & { id?: string }, options: SendOptions): Promise<unknown> {
    if (this.#state.name === "stopped") throw this.#state.error;
    if (this.#isClosed) throw wasClosed();
    const { id = this.#nextId(), type } = asked;
    if (type.startsWith("auth.")) throw new CountersignError("bad_request", `${type} is the protocol's own`, false);
    const { timeoutMs = this.#settings.requestTimeoutMs, signal } = options;
    const onGivenUp = () => this.#outbox.say(writeCancel(id));
    const answer = this.#pending.add({ ...asked, id }, { timeoutMs, signal, onGivenUp, why: () => this.#trouble });
    if (this.#state.name === "closed") this.connect();
    this.#flush();
    return answer.catch((error: unknown) => {
      // The server may be gone without the network having noticed.
      if (CountersignError.is(error) && error.code === "timeout") this.#onDoubt(false);
      throw error;
    });
  }

  /**
   * Logs out, and refuses what waits. The client does not log in again before something is asked or {@link Client.connect} is
   * called; then the identity is that of the provider's next token.
   */
  async forget(): Promise<void> {
    if (this.#state.name === "closed" || this.#state.name === "stopped") return;
    const session = this.#session;
    if (!session) return this.#leave({ name: "closed" }, loggedOut());
    session.forget();
    this.#given.ignoreAll();
    this.#pending.fail(loggedOut());
    const { requestTimeoutMs: timeoutMs } = this.#settings;
    const answer = this.#pending.add({ id: this.#nextId(), type: "auth.logout", payload: undefined }, { timeoutMs });
    this.#outbox.flush();
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
      const connection = new Connection(this.#settings, {
        onOpen: () => this.#onOpen(connection),
        onMessage: (message) => this.#onMessage(message),
        onReceived: () => this.#heartbeat?.received(),
        onEnd: (code, reason, cause) => this.#onEnd(code, reason, cause),
      });
      this.#connection = connection;
    } catch (cause) {
      // The page may not connect there, and will not be allowed to later.
      this.#stop(new CountersignError("stopped", "the platform does not let us connect", false, undefined, { cause }));
    }
  }

  #onNoToken(error: CountersignError): void {
    this.#trouble = error;
    if (error.temporary) this.#retry("no token", 0, error);
    else this.#stop(error);
    this.tell("error", error);
  }

  /** Nothing that was asked in one name goes on in another, and no identity takes over what another has left held. */
  #onAnother(): void {
    this.#inheritance = undefined;
    this.#pending.fail(
      new CountersignError("identity_mismatch", "the token provider gave another identity's token while this was waiting", false),
    );
  }

  #onOpen(connection: Connection): void {
    this.#isTold = false;
    this.#outbox.begin(connection);
    this.#heartbeat = new Heartbeat(this.#settings.heartbeatMs, {
      probe: () => this.#probe(connection),
      isAsking: () => this.#pending.isAsking || this.#session?.isShowing === true,
      onDead: () => connection.giveUp("the server is silent"),
    });
    this.#session = new Session(this.#settings, this.#tokens, this.#inheritance, {
      send: (text) => this.#showToken(text),
      nextId: () => this.#nextId(),
      onShown: () => this.#flush(),
      onError: (error) => {
        this.#trouble = error;
        this.tell("error", error);
      },
      onStop: (error) => this.#stop(error),
      onSilence: () => this.#connection?.giveUp("the server is silent"),
    });
    this.#session.show();
    if (this.#settings.pushAck) this.#acknowledgements = new Acknowledgements(this.#nextId(), this.#limits, this.#outbox);
    this.#enter({ name: "open", authenticated: false });
    this.#flush();
  }

  #showToken(text: string): boolean {
    const isShown = this.#outbox.say(text);
    if (isShown) this.#heartbeat?.sent();
    return isShown;
  }

  /** By a ping, which costs least, or by what only the terminator answers, or by the token. */
  #probe(connection: Connection): boolean {
    return connection.ping() || (this.#isTold && this.#outbox.say(LIMITS_REQUEST)) || this.#session?.probe() || false;
  }

  #onMessage(message: ServerMessage): void {
    const session = this.#session;
    if (message.auth && session && !session.isProbed(message) && session.granted(message.auth)) this.#onGranted(message.auth);
    // A listener may have closed it.
    if (!session || session !== this.#session) return;
    if (session.takes(message)) return this.#flush();
    const acknowledgements = this.#acknowledgements;
    if (acknowledgements?.takes(message)) return;
    switch (message.type) {
      case "reply":
      case "auth.ok":
        if (message.id !== undefined) this.#pending.get(message.id)?.answer(message.payload);
        break;
      case "error":
        this.#onError(message, session);
        break;
      case "push":
        acknowledgements?.came(message.id);
        this.tellPush(message.id, message.payload);
        acknowledgements?.passedOn();
        break;
      case "auth.required":
        session.required();
        this.#onRequired(message);
        break;
      case "limits":
        this.#isTold = true;
        this.#limits.told(message.payload);
        this.#outbox.limited();
        this.#flush();
        break;
      // A newer server may say what this client does not know.
      default:
    }
  }

  #onError(message: ServerMessage, session: Session): void {
    const error = CountersignError.of(message.error);
    const request = message.id === undefined ? undefined : this.#pending.get(message.id);
    if (!request) {
      // That of a request which is over is ignored.
      if (message.id === undefined) this.tell("error", error);
    } else if (WANT_TOKEN.has(error.code) && request.awaits === 0 && !session.isLoggedOut) {
      // Once for each request: a request that is refused with a fresh token is refused with the next, too.
      this.#pending.markRefused(request);
      this.#flush();
    } else if (error.code === "busy" && request.lost && (request.idempotent ?? this.#remembers)) {
      // It may be its own first copy that is being handled: then its answer comes, or is there next time.
      this.#pending.postpone(request, error.retryAfterMs ?? BUSY_RETRY_MS, () => this.#flush());
    } else {
      request.settle({ error });
    }
  }

  #onRequired({ reason = "missing", deadline_ms = 0, held = { inbound: 0, outbound: 0 } }: Partial<AuthRequired>): void {
    if (reason === "expired" || reason === "missing") this.#enter({ name: "open", authenticated: false });
    this.tell("auth.required", { reason, deadline_ms, held });
  }

  #onGranted({ subject, expires_in, refresh_in, idempotency, recovered, missed }: AuthBody): void {
    this.#remembers = idempotency !== undefined;
    this.#trouble = undefined;
    this.#outbox.proven();
    this.#enter({ name: "open", authenticated: true, subject });
    const gap = { ...(recovered !== undefined && { recovered }), ...(missed !== undefined && { missed }) };
    this.tell("auth", { subject, expires_in, refresh_in, ...gap });
    this.#flush();
  }

  #onEnd(code: number, reason: string, cause: unknown): void {
    const isLoggedOut = this.#session?.isLoggedOut;
    // One that fell silent has proved nothing since: its server may be too slow for a probe, and is to be asked less often.
    const until = this.#heartbeat?.hasFailed ? this.#heartbeat.receivedAt : Date.now();
    const hasProved = until - (this.#session?.provenSince ?? Number.POSITIVE_INFINITY) >= STEADY_MS;
    this.#part(code);
    if (hasProved) this.#comeback.reset();
    if (code === CLOSE.tooBig) this.#pending.refuseLargestSent();
    if (isTerminal(code)) return this.#stop(CountersignError.ofClose(code, reason), code);
    if (isLoggedOut) return this.#leave({ name: "closed" }, loggedOut());
    const error = unreachable(code, reason, cause);
    this.#trouble = error;
    this.#pending.markUnsent(this.#remembers, error);
    this.#retry(`${code} ${reason}`.trimEnd(), leastWaitMs(code, cause), cause === undefined ? undefined : error);
  }

  /** There is no connection any more, but what it has left held. */
  #part(code?: number): void {
    if (this.#session) this.#inheritance = this.#session.key;
    this.#session?.end();
    this.#heartbeat?.end();
    this.#acknowledgements?.end();
    this.#outbox.end(code === CLOSE.rateLimited);
    this.#connection = this.#session = this.#heartbeat = this.#acknowledgements = undefined;
  }

  /** Ends the connection, behind its last words. */
  #hangUp(): void {
    const connection = this.#connection;
    this.#part();
    connection?.drop();
  }

  #retry(because: string, atLeastMs: number, cause?: CountersignError): void {
    const retryInMs = this.#comeback.later(atLeastMs);
    this.#enter({ name: "waiting", retryInMs, because, ...(cause && { cause }) });
  }

  /** Timers may have slept meanwhile, and networks have changed. */
  #onAwake(networkChanged: boolean): void {
    if (this.#state.name === "waiting") this.#comeback.wake();
    else this.#onDoubt(networkChanged);
  }

  /** The connection may be dead, and its token old. */
  #onDoubt(networkChanged: boolean): void {
    this.#heartbeat?.doubt();
    this.#session?.awake(networkChanged);
  }

  /** What is still read from the socket would reach no listener. Once it is closed, the server holds it. */
  #onFrozen(): void {
    if (this.#state.name === "frozen") return;
    if (this.#session?.isLoggedOut) return this.#leave({ name: "closed" }, loggedOut());
    this.#attempt++;
    this.#comeback.cancel();
    this.#hangUp();
    this.#enter({ name: "frozen" });
  }

  /** Only now: nothing of what waits is to be given up because the page slept. */
  #onThawed(): void {
    if (this.#state.name !== "frozen") return;
    this.#pending.markUnsent(this.#remembers);
    void this.#open();
  }

  /** Sends what has not been sent on this connection, as soon as it may. */
  #flush(): void {
    const session = this.#session;
    if (!session || this.#state.name !== "open" || this.#pending.size === 0) return;
    if (session.hasExpired) return session.needed();
    const { perMessage } = this.#settings;
    if (!perMessage && !this.#state.authenticated) return;
    const areLeft = this.#outbox.flush(perMessage ? this.#tokens.current : undefined);
    if (areLeft) session.needed();
  }

  #enter(state: State): void {
    const before = JSON.stringify(this.#state);
    this.#state = state;
    if (JSON.stringify(state) !== before) this.tell("state", state);
  }

  #stop(error: CountersignError, closeCode?: number): void {
    this.#leave(closeCode === undefined ? { name: "stopped", error } : { name: "stopped", error, closeCode }, error);
  }

  #leave(state: State, error: CountersignError): void {
    this.#attempt++;
    this.#comeback.cancel();
    this.#ignorePage?.();
    this.#hangUp();
    this.#ignorePage = this.#inheritance = this.#trouble = undefined;
    this.#tokens.drop();
    this.#comeback.reset();
    if (error.code === "closed") this.#given.ignoreAll();
    this.#pending.fail(error);
    this.#enter(state);
  }

  #nextId(): string {
    return `${this.#name}-${++this.#lastId}`;
  }
}
