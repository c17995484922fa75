/**
 * Where tokens come from: the application's provider, asked once at a time.
 *
 * A token that is kept and shown again after a reconnect is the classic way to be refused for ever; so the provider is
 * asked anew on every attempt to connect and before every renewal, and what asks meanwhile gets the same answer.
 */

/**
 * Gives a JWT that is valid now. It may ask a server, and should end when `signal` aborts: the token is no longer needed then.
 *
 * What it throws is told as an `error` event, and it is asked again later; unless that is a `CountersignError` that is not
 * `temporary`: then the client stops.
 */
export type TokenProvider = (signal: AbortSignal) => string | Promise<string>;

/** A compact JWS (RFC 7515 §7.1). Whether it is a good one the server knows. */
const JWT = /^[\w-]+\.[\w-]+\.[\w-]*$/;

interface Asking {
  abort: AbortController;
  given: Promise<string>;
}

/** Asks the provider. */
export class Tokens {
  #asking: Asking | undefined;
  #current: string | undefined;
  #count = 0;
  /** Whom the token that was given last speaks for; nothing before the first, and after it was dropped. */
  #identity: string | undefined;

  constructor(
    private readonly provider: TokenProvider,
    private readonly timeoutMs: number,
    /** The token that was just given is of another identity than the last one. */
    private readonly onAnother: () => void,
  ) {}

  /** The token that was given last. */
  get current(): string | undefined {
    return this.#current;
  }

  /** How many were given. */
  get count(): number {
    return this.#count;
  }

  /** A fresh token, by the call that is under way or by a new one. */
  fresh(): Promise<string> {
    this.#asking ??= this.#ask();
    return this.#asking.given;
  }

  /** Forgets the token, and the one that is under way. */
  drop(): void {
    this.#current = this.#identity = undefined;
    this.#asking?.abort.abort(new Error("the token is not wanted any more"));
    this.#asking = undefined;
  }

  #ask(): Asking {
    const abort = new AbortController();
    const late = () => abort.abort(new Error(`the token provider gave nothing within ${this.timeoutMs} ms`));
    const timer = setTimeout(late, this.timeoutMs);
    const given = this.#given(abort.signal).finally(() => {
      clearTimeout(timer);
      if (this.#asking?.abort === abort) this.#asking = undefined;
    });
    return { abort, given };
  }

  async #given(signal: AbortSignal): Promise<string> {
    const over = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    });
    // Called within the promise, so that a provider that throws at once is as one that rejects.
    const token = await Promise.race([Promise.resolve(signal).then(this.provider), over]);
    if (typeof token !== "string" || !JWT.test(token)) throw new TypeError("what the token provider gave is no JWT");
    // Once dropped it is not wanted, even if it came at the same moment.
    signal.throwIfAborted();
    const last = this.#identity;
    this.#identity = identityOf(token);
    this.#current = token;
    this.#count++;
    if (last !== undefined && last !== this.#identity) this.onAnother();
    return token;
  }
}

/** Whom a token says that it speaks for: an issuer and a subject (RFC 7519 §4.1). Whether that is so the server knows. */
function identityOf(token: string): string {
  const [, claims = ""] = token.split(".");
  try {
    const { iss, sub } = JSON.parse(atob(claims.replaceAll("-", "+").replaceAll("_", "/"))) as { iss?: unknown; sub?: unknown };
    return JSON.stringify([iss, sub]);
  } catch {
    // Its identity is unknown.
    return "";
  }
}
