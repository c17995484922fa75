/**
 * Debian's Chromium, spoken to by its own protocol (https://chromedevtools.github.io/devtools-protocol/), with a profile of its own.
 */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

import WebSocket from "ws";

/** From start to the first page, and for whatever is awaited in one, on a machine that builds or runs other tests. */
const LIMIT_MS = 60_000;

/** Nothing is requested from other machines, and nothing needs a display. */
const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-default-apps",
  "--disable-extensions",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
  "--remote-debugging-port=0",
];

const PROGRAM = process.env.CHROMIUM ?? "chromium";

/** For `describe`: what a page does can be claimed of a real browser only. */
export const WITH_CHROMIUM = spawnSync(PROGRAM, ["--version"]).status === 0 ? {} : { skip: "there is no Chromium" };

interface Said {
  id?: number;
  result?: unknown;
  error?: { message: string };
}

/** A page in a browser, both of which end with the test. */
export class Page {
  readonly #asked = new Map<number, (said: Said) => void>();
  #lastId = 0;
  #session: string | undefined;

  private constructor(private readonly socket: WebSocket) {
    socket.on("message", (data) => {
      const said = JSON.parse(String(data as Buffer)) as Said;
      if (said.id !== undefined) this.#asked.get(said.id)?.(said);
    });
  }

  static async open(t: TestContext, url: string): Promise<Page> {
    const profile = await mkdtemp(join(tmpdir(), "countersign-chromium-"));
    const browser = spawn(PROGRAM, [...ARGUMENTS, `--user-data-dir=${profile}`, "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
    t.after(async () => {
      const ended = once(browser, "exit");
      if (browser.kill("SIGKILL")) await ended;
      await rm(profile, { recursive: true, force: true, maxRetries: 10 });
    });
    let said = "";
    const address = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`Chromium does not start: ${said}`)), LIMIT_MS);
      browser.stderr.on("data", (chunk) => {
        said += String(chunk);
        const listening = /DevTools listening on (ws:\S+)/.exec(said)?.[1];
        if (!listening) return;
        clearTimeout(timer);
        resolve(listening);
      });
    });
    const socket = new WebSocket(address);
    await once(socket, "open");
    t.after(() => socket.terminate());
    const page = new Page(socket);
    const { targetId } = (await page.ask("Target.createTarget", { url: "about:blank" })) as { targetId: string };
    const attached = await page.ask("Target.attachToTarget", { targetId, flatten: true });
    page.#session = (attached as { sessionId: string }).sessionId;
    await page.ask("Page.enable");
    await page.go(url);
    return page;
  }

  /** Asks the browser for something, by its own name. */
  async ask(method: string, params: object = {}): Promise<unknown> {
    const id = ++this.#lastId;
    const answer = new Promise<Said>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method} is not answered`)), LIMIT_MS);
      this.#asked.set(id, (said) => {
        clearTimeout(timer);
        this.#asked.delete(id);
        resolve(said);
      });
    });
    this.socket.send(JSON.stringify({ id, method, params, ...(this.#session && { sessionId: this.#session }) }));
    const { result, error } = await answer;
    assert.equal(error, undefined, `${method}: ${error?.message}`);
    return result;
  }

  async go(url: string): Promise<void> {
    await this.ask("Page.navigate", { url });
  }

  /** What an expression comes to in the page, awaited. */
  async value(expression: string): Promise<unknown> {
    const asked = await this.ask("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    const { result, exceptionDetails } = asked as { result: { value: unknown }; exceptionDetails?: { exception?: { description: string } } };
    assert.equal(exceptionDetails, undefined, `${expression}: ${exceptionDetails?.exception?.description}`);
    return result.value;
  }

  /** Waits until it is so in the page. */
  async until(expression: string): Promise<void> {
    const deadline = Date.now() + LIMIT_MS;
    // A page that is being left can say nothing.
    while ((await this.value(expression).catch(() => false)) !== true) {
      assert.ok(Date.now() < deadline, `the page never showed ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
}
