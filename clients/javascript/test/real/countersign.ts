/**
 * A real terminator with real workers: `countersign dev`, on free ports, and what a backend, an issuer and an operator
 * would do to it. `COUNTERSIGN_BIN` names the program.
 */

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { TestContext } from "node:test";

/** For whatever is to happen at once, on a slow and busy machine. */
export const SOON_MS = 20_000;

/** The program; nothing where it is not said which. */
export const PROGRAM = process.env.COUNTERSIGN_BIN;

/** For `describe`: without the program there is nothing to say. */
export const WITH_PROGRAM = PROGRAM ? {} : { skip: "COUNTERSIGN_BIN does not name the program countersign" };

/** What is known of a connection. */
interface Known {
  state: string;
  held: { inbound: number; outbound: number };
  decisions: { id: string | null; what: string; why: string }[];
}

export class Countersign {
  readonly #flags: string[];
  #child: ChildProcess;
  /** Where the page is that mints, pushes and revokes. */
  page = "";
  /** Where clients connect. */
  url = "";

  private constructor(flags: string[]) {
    this.#flags = flags;
    this.#child = this.#spawn("127.0.0.1:0");
  }

  /** Starts one, which ends with the test. */
  static async start(t: TestContext, ...flags: string[]): Promise<Countersign> {
    const server = new Countersign(flags);
    t.after(() => server.kill());
    await server.#ready();
    return server;
  }

  /** A token for `subject` that is good for so many seconds; for less than none, one that has expired. */
  async token(subject: string, seconds = 300): Promise<string> {
    const { token } = (await this.#post("/token", { subject, expires_in_s: seconds })) as { token: string };
    return token;
  }

  /** Pushes, as a backend would. Tells what has become of it: `delivered`, `held` or `no_recipient`. */
  async push(subject: string, payload: unknown): Promise<string> {
    return this.#outcome("/push", { subject, payload });
  }

  /** Revokes all that a subject has. */
  async revoke(subject: string, graceSeconds = 0): Promise<void> {
    assert.equal(await this.#outcome("/revoke", { subject, grace_s: graceSeconds }), "revoked");
  }

  async connection(id: string): Promise<Known> {
    const answer = await fetch(`${this.page}/connection?id=${id}`);
    assert.equal(answer.status, 200, await answer.clone().text());
    return (await answer.json()) as Known;
  }

  /** It dies, and with it all that it knew. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** It is asked to stop, and drains. */
  async end(): Promise<void> {
    await this.#end("SIGTERM");
  }

  /** It comes back at the same address. */
  async restart(): Promise<void> {
    this.#child = this.#spawn(new URL(this.url).host);
    await this.#ready();
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill(signal);
    await ended;
  }

  #spawn(listen: string): ChildProcess {
    const flags = ["dev", "--listen", listen, "--page-listen", "127.0.0.1:0", ...this.#flags];
    return spawn(PROGRAM ?? "", flags, { stdio: ["ignore", "pipe", "inherit"] });
  }

  /** It says where it listens when it does. */
  async #ready(): Promise<void> {
    const child = this.#child;
    let said = "";
    await new Promise<void>((resolve, reject) => {
      child.once("exit", () => reject(new Error(`it did not start: ${said}`)));
      child.once("error", reject);
      // Read to the end, or its output would block it.
      child.stdout?.on("data", (chunk) => {
        said += String(chunk);
        const [page, url] = [/(http:\/\/[\d.:]+)\n/.exec(said)?.[1], /(ws:\/\/[\d.:]+)\n/.exec(said)?.[1]];
        if (!page || !url) return;
        [this.page, this.url] = [page, url];
        resolve();
      });
    });
  }

  async #outcome(path: string, what: object): Promise<string> {
    const { outcome } = (await this.#post(path, what)) as { outcome: { outcome: string } | null };
    return outcome?.outcome ?? "no outcome";
  }

  async #post(path: string, body: object): Promise<unknown> {
    const headers = { "content-type": "application/json" };
    const answer = await fetch(this.page + path, { method: "POST", headers, body: JSON.stringify(body) });
    assert.equal(answer.status, 200, `${path}: ${await answer.clone().text()}`);
    return answer.json();
  }
}

/** Waits until it is so, however often that must be looked at. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + SOON_MS;
  while (!(await isSo())) {
    assert.ok(Date.now() < deadline, `in ${SOON_MS} ms not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** When a token expires, as it says itself, in milliseconds since 1970. */
export function expiryOf(token: string): number {
  const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as { exp: number };
  return claims.exp * 1_000;
}
