/**
 * Where tokens come from: the application's provider, asked once at a time.
 *
 * A token that is kept and shown again after a reconnect is the classic way to be refused for ever; so the provider is
 * asked anew on every connection and before every renewal, and whoever asks meanwhile gets the same answer.
 */

/** Gives a JWT that is valid now. It may ask a server; it is never asked twice at a time. */
export type TokenProvider = () => string | Promise<string>;

/** Asks the provider. */
export class Tokens {
  #asking: Promise<string> | undefined;
  #current: string | undefined;

  constructor(private readonly provider: TokenProvider) {}

  /** The token that was given last. */
  get current(): string | undefined {
    return this.#current;
  }

  /** A fresh token, by the request that is under way or by a new one. */
  fresh(): Promise<string> {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #ask(): Promise<string> {
    const token = await this.provider();
    if (typeof token !== "string" || token === "") throw new TypeError("the token provider gave no token");
    this.#current = token;
    return token;
  }
}
