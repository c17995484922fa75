/**
 * The authentication of one open connection: shown when it begins, renewed before it grows old, and whenever the server
 * or the page has a reason.
 *
 * At most one token is asked for, and at most one is shown and not yet answered, at a time: however many ask for a
 * renewal meanwhile, it is the same one.
 */

import { CountersignError } from "../errors.js";
import { LONGEST_TIMER_MS, type Settings } from "../options.js";
import { write, type AuthBody, type ServerMessage } from "../protocol.js";
import { Backoff } from "./backoff.js";
import type { Tokens } from "./tokens.js";

/** Which part of `refresh_in` has passed when a token is renewed: before the server asks, and not all clients at once. */
const EARLIEST_RENEWAL = 0.85;
const LATEST_RENEWAL = 0.95;

/**
 * No renewal follows the other sooner, whatever asks for it: tokens shorter than this cannot be lived by, and a provider that gives the
 * same old one is not asked all the time.
 */
const LEAST_RENEWAL_MS = 1_000;

/** What is put off is put off by up to so much more: others were asked at the same moment. */
const RENEWAL_JITTER_MS = 250;

/** The longest wait before another token is fetched after one was not taken. */
const MOST_RENEWAL_RETRY_MS = 30_000;

/** A page that is seen again renews what was proved longer ago than this: it proves, too, that the connection lives. */
const AWAKE_RENEWAL_MS = 30_000;

/** After these another token of the same provider fares no better. */
const FINAL_REFUSALS = new Set<string>(["token_invalid", "token_revoked", "identity_mismatch"]);

/** A server that has not said by now whether it takes a token is not there. It waits half as long for its own broker. */
const SILENCE_MS = 60_000;

/** What a session needs of its client. */
export interface SessionHooks {
  /** Sends a message. Tells whether it was handed to the socket. */
  send(text: string): boolean;
  /** A name for a message, never given twice. */
  nextId(): string;
  /** A fresh token was shown: what waited for one may go behind it. */
  onShown(): void;
  onError(error: CountersignError): void;
  /** There will be no better token. */
  onStop(error: CountersignError): void;
  /** The server does not answer: the connection is dead, and the network has not noticed. */
  onSilence(): void;
}

/** The authentication of one connection. */
export class Session {
  readonly #settings: Settings;
  readonly #tokens: Tokens;
  readonly #hooks: SessionHooks;
  readonly #retries: Backoff;
  /** The token that is being asked for. */
  #asking: object | undefined;
  /** The `auth.authenticate` that is not answered yet. */
  #shown: { id: string; inherits: boolean; isProbe: boolean } | undefined;
  /** Whether a fresh token was wanted after that was shown. */
  #wanted = false;
  #life: "live" | "logged out" | "over" = "live";
  /** When a renewal may begin again. */
  #renewsFrom = Number.NEGATIVE_INFINITY;
  /** When to show a fresh token: before the present one grows old, or after one was not taken. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether it is the latter. */
  #isRetrying = false;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #provenSince: number | undefined;
  #provenAt = Number.NEGATIVE_INFINITY;
  #refreshAt = Number.POSITIVE_INFINITY;
  #expiresAt = Number.POSITIVE_INFINITY;
  /** The key to what this connection will leave, and to what the last one has left. */
  #key: string | undefined;
  #inheritance: string | undefined;

  constructor(settings: Settings, tokens: Tokens, inheritance: string | undefined, hooks: SessionHooks) {
    this.#settings = settings;
    this.#tokens = tokens;
    this.#inheritance = inheritance;
    this.#hooks = hooks;
    this.#retries = new Backoff(LEAST_RENEWAL_MS, MOST_RENEWAL_RETRY_MS, settings.random);
  }

  /** What the next connection shows to take over what this one leaves held. */
  get key(): string | undefined {
    return this.#key ?? this.#inheritance;
  }

  get isLoggedOut(): boolean {
    return this.#life === "logged out";
  }

  /** When the server first took a token on this connection, if it has. */
  get provenSince(): number | undefined {
    return this.#provenSince;
  }

  /** Whether the server would not take a message for ours any more. */
  get hasExpired(): boolean {
    return this.#tokens.current === undefined || Date.now() >= this.#expiresAt;
  }

  /** Whether a token was shown that is not answered yet. */
  get isShowing(): boolean {
    return this.#shown !== undefined;
  }

  /** Shows the token that was given last. */
  show(): void {
    if (!this.#show(false)) return;
    this.#silence = setTimeout(() => this.#hooks.onSilence(), SILENCE_MS);
    // Until the answer, it is as good as any.
    this.#expiresAt = Number.POSITIVE_INFINITY;
    clearTimeout(this.#timer);
  }

  /**
   * Shows the present token once more, only to be answered; or leaves that to the one that is shown, or is about to be. Tells whether
   * there will be an answer.
   */
  probe(): boolean {
    if (this.#shown) return true;
    if (this.#life !== "live" || this.#asking || this.#isRetrying) return false;
    if (!this.hasExpired) return this.#show(true);
    this.renew();
    return false;
  }

  /** Whether that answers a probe. It says nothing new of the authentication. */
  isProbed({ id }: ServerMessage): boolean {
    return this.#shown?.isProbe === true && this.#shown.id === id;
  }

  /** Fetches a fresh token and shows it, unless that is under way. Soon after another, it does so a little later. */
  renew(): void {
    if (this.#life === "over" || this.#asking) return;
    this.#isRetrying = false;
    if (this.#shown) {
      this.#wanted = true;
      return;
    }
    this.#life = "live";
    const now = Date.now();
    if (now < this.#renewsFrom) return this.#renewIn(this.#renewsFrom - now + RENEWAL_JITTER_MS * this.#settings.random());
    this.#renewsFrom = now + LEAST_RENEWAL_MS;
    const asking = {};
    this.#asking = asking;
    this.#tokens.fresh().then(
      () => asking === this.#asking && this.#onToken(),
      (cause: unknown) => asking === this.#asking && this.#onNoToken(cause),
    );
  }

  /** Something cannot be sent without a fresh token. It waits if the last attempt to have one failed. */
  needed(): void {
    if (!this.#isRetrying) this.renew();
  }

  /** The server wants a fresh token. A client that has logged out gives none. */
  required(): void {
    if (!this.isLoggedOut) this.renew();
  }

  /** The page is seen again; or the network is back, and the connection may be dead. */
  awake(networkChanged: boolean): void {
    const now = Date.now();
    const isOld = now >= this.#refreshAt || now - this.#provenAt >= AWAKE_RENEWAL_MS;
    if (networkChanged || isOld) this.required();
  }

  /** What the connection's authentication has become. Tells whether that is still so: we may have logged out. */
  granted(auth: AuthBody): boolean {
    if (this.#life !== "live") return false;
    const { random } = this.#settings;
    const now = Date.now();
    this.#provenSince ??= now;
    this.#provenAt = now;
    this.#refreshAt = now + auth.refresh_in * 1_000;
    this.#expiresAt = now + auth.expires_in * 1_000;
    this.#key = auth.resume ?? this.#key;
    const part = EARLIEST_RENEWAL + (LATEST_RENEWAL - EARLIEST_RENEWAL) * random();
    this.#renewIn(Math.max(auth.refresh_in * 1_000 * part, LEAST_RENEWAL_MS));
    return true;
  }

  /** Takes the answer to what it has shown. Tells whether it was that. */
  takes(message: ServerMessage): boolean {
    if (message.id === undefined || message.id !== this.#shown?.id) return false;
    const { inherits, isProbe } = this.#shown;
    this.#shown = undefined;
    clearTimeout(this.#silence);
    const refused = message.type === "error" ? CountersignError.of(message.error) : undefined;
    if (isProbe) {
      // The connection lives. Whether its authentication does a fresh token will show.
      if (this.#wanted || refused?.temporary === false) this.renew();
    } else if (refused) {
      this.#onRefused(refused);
    } else {
      this.#wanted = false;
      this.#retries.reset();
      if (inherits) this.#inheritance = undefined;
    }
    return true;
  }

  /** Logs out: no token is shown before the next request. */
  forget(): void {
    this.#stopTimers();
    this.#life = "logged out";
    this.#isRetrying = false;
    // The next one is of another identity.
    this.#renewsFrom = Number.NEGATIVE_INFINITY;
    this.#asking = this.#shown = this.#key = this.#inheritance = undefined;
    this.#tokens.drop();
  }

  /** The connection is over. */
  end(): void {
    this.#stopTimers();
    this.#life = "over";
    this.#asking = undefined;
  }

  #show(isProbe: boolean): boolean {
    const id = this.#hooks.nextId();
    const resume = isProbe ? undefined : this.#inheritance;
    const payload = resume === undefined ? undefined : JSON.stringify({ resume });
    if (!this.#hooks.send(write({ id, type: "auth.authenticate", token: this.#tokens.current, payload }))) return false;
    this.#shown = { id, inherits: payload !== undefined, isProbe };
    this.#wanted = false;
    return true;
  }

  #onToken(): void {
    this.#asking = undefined;
    this.show();
    this.#hooks.onShown();
  }

  #onNoToken(cause: unknown): void {
    this.#asking = undefined;
    const error = noToken(cause);
    this.#hooks.onError(error);
    // Listeners may have ended it.
    if (this.#life !== "live") return;
    if (error.temporary) this.#retryIn(this.#retries.nextMs());
    else this.#hooks.onStop(error);
  }

  /** The token was not taken. Another one is shown, unless it would fare no better. */
  #onRefused(error: CountersignError): void {
    this.#hooks.onError(error);
    // Listeners may have ended it.
    if (this.#life !== "live") return;
    if (this.#wanted) this.renew();
    else if (FINAL_REFUSALS.has(error.code)) this.#hooks.onStop(error);
    else this.#retryIn(Math.max(error.retryAfterMs ?? 0, this.#retries.nextMs()));
  }

  #retryIn(ms: number): void {
    this.#renewIn(ms);
    this.#isRetrying = true;
  }

  #renewIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#isRetrying = false;
    if (this.#life === "live") this.#timer = setTimeout(() => this.renew(), Math.min(ms, LONGEST_TIMER_MS));
  }

  #stopTimers(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
  }
}

/** What the provider threw, as an error of ours. */
export function noToken(cause: unknown): CountersignError {
  if (CountersignError.is(cause)) return cause;
  const why = cause instanceof Error ? `: ${cause.message}` : "";
  return new CountersignError("no_token", `the token provider failed${why}`, true, undefined, { cause });
}
