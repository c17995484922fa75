/**
 * The library in a real page: as a script tag loads it, asleep and awake, and where the page's policy forbids it to connect.
 */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { Countersign, until, WITH_PROGRAM } from "../real/countersign.js";
import { Page, WITH_CHROMIUM } from "./chromium.js";

/** What `npm run build` has made: above build/test/browser. */
const BUILT = fileURLToPath(new URL("../../../dist/script/", import.meta.url));

interface Site {
  url: string;
  /** Is asked for tokens. */
  server?: Countersign;
}

/** A site with these pages, and the library. */
async function site(t: TestContext, pages: { [path: string]: { html: string; policy?: string } }): Promise<Site> {
  const made: Site = { url: "" };
  const http = createServer((request, response) => {
    const path = request.url ?? "";
    const page = pages[path];
    if (page) {
      response.writeHead(200, { "content-type": "text/html", ...(page.policy && { "content-security-policy": page.policy }) });
      response.end(page.html);
    } else if (path === "/token" && made.server) {
      void made.server.token("alice").then((token) => response.end(token));
    } else if (/^\/countersign[.a-z]*\.js$/.test(path)) {
      void readFile(BUILT + path.slice(1)).then((script) => response.writeHead(200, { "content-type": "text/javascript" }).end(script));
    } else {
      response.writeHead(404).end();
    }
  });
  t.after(() => {
    http.close();
    http.closeAllConnections();
  });
  await new Promise<void>((listening) => http.listen(0, "127.0.0.1", listening));
  made.url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  return made;
}

async function integrity(file: string): Promise<string> {
  const all = JSON.parse(await readFile(`${BUILT}integrity.json`, "utf8")) as { [file: string]: string };
  return all[file] ?? assert.fail(`no checksum of ${file}`);
}

/** A page that loads the library as its README shows, and says how it goes in `window`. */
async function tag(script: string, options: string): Promise<string> {
  return `<!doctype html><meta charset=utf-8><title>a page</title>
    <script src="/countersign.umd.js" integrity="${await integrity("countersign.umd.js")}" crossorigin="anonymous"></script>
    <script>
      window.heard = []; window.states = [];
      const token = async () => (await fetch("/token")).text();
      window.client = new Countersign.Client({ token, ${options} });
      client.on("state", ({ name }) => states.push(name));
      client.on("push", ({ payload }) => heard.push(payload));
      ${script}
    </script>`;
}

/** A page of that site, connected to a real terminator, which acknowledges pushes: a browser drops what comes while a socket closes. */
async function connectedPage(t: TestContext): Promise<{ page: Page; server: Countersign; url: string }> {
  const pages: { [path: string]: { html: string } } = { "/other": { html: "<!doctype html><title>another</title>" } };
  const made = await site(t, pages);
  const server = await Countersign.start(t, "--push-ack", "--allowed-origins", made.url);
  made.server = server;
  pages["/"] = { html: await tag("client.connect();", `url: "${server.url}", pushAck: true`) };
  const page = await Page.open(t, `${made.url}/`);
  await page.until("client.state.authenticated === true");
  return { page, server, url: made.url };
}

describe("a script tag", WITH_CHROMIUM, () => {
  test("loads the library if its checksum is right, and only then", async (t) => {
    const checksum = await integrity("countersign.umd.js");
    const load = (wanted: string) => `<script src="/countersign.umd.js" integrity="${wanted}" crossorigin="anonymous"></script>`;
    const { url } = await site(t, {
      "/right": { html: load(checksum) },
      "/wrong": { html: load(checksum.replace(/.{4}$/, "AAAA")) },
      "/module": { html: `<script type="module">import * as all from "/countersign.js"; window.all = Object.keys(all).sort().join();</script>` },
    });
    const page = await Page.open(t, `${url}/right`);
    const names = "Client,CountersignError,RefusedHandshake,SUBPROTOCOL,isTerminal";
    await page.until(`document.readyState === "complete" && Object.keys(Countersign).sort().join() === "${names}"`);
    await page.go(`${url}/wrong`);
    await page.until(`location.pathname === "/wrong" && document.readyState === "complete" && typeof Countersign === "undefined"`);
    await page.go(`${url}/module`);
    await page.until(`window.all === "${names}"`);
  });
});

describe("a page", { ...WITH_CHROMIUM, concurrency: 2 }, () => {
  describe("of a real terminator", { ...WITH_PROGRAM, concurrency: 2 }, () => {
    test("asks and is answered", async (t) => {
      const { page } = await connectedPage(t);
      assert.deepEqual(await page.value('client.request("echo", { hello: "world" })'), { hello: "world" });
    });

    test("that is frozen loses no push that is told delivered", async (t) => {
      const { page, server } = await connectedPage(t);
      await page.ask("Page.setWebLifecycleState", { state: "frozen" });
      // From when the server knows, all is held.
      const outcomes: string[] = [];
      await until("the server holds what is pushed", async () => outcomes[outcomes.push(await server.push("alice", outcomes.length)) - 1] === "held");
      outcomes.push(await server.push("alice", outcomes.length));
      await page.ask("Page.setWebLifecycleState", { state: "active" });
      await page.until(`heard.includes(${outcomes.length - 1})`);
      await page.value('client.request("echo")');
      assert.deepEqual(await page.value("heard"), [...outcomes.keys()]);
      assert.equal(await page.value('states.includes("frozen")'), true);
    });

    test("that is left and come back to has each push once", async (t) => {
      const { page, server, url } = await connectedPage(t);
      await page.value("window.same = true");
      await page.go(`${url}/other`);
      await page.until('location.pathname === "/other"');
      const outcomes: string[] = [];
      await until("the server holds what is pushed", async () => outcomes[outcomes.push(await server.push("alice", outcomes.length)) - 1] === "held");
      await page.value("history.back()");
      await page.until('location.pathname === "/"');
      // Kept as it was, or made anew: then it is another client, that connects.
      await page.until(`heard.includes(${outcomes.length - 1})`);
      assert.equal(await page.value("window.same"), true, "the browser kept the page");
      assert.deepEqual(await page.value("heard"), [...outcomes.keys()]);
      assert.equal(await page.value('client.request("echo", 1)'), 1);
    });
  });

  test("whose policy forbids the connection knows it before a handshake's time is over", async (t) => {
    const html = await tag("client.connect();", 'url: "ws://127.0.0.1:9/", connectTimeoutMs: 600_000');
    const { url } = await site(t, {
      "/": { html: html.replace('(await fetch("/token")).text()', '"e30.e30.x"'), policy: "default-src 'self' 'unsafe-inline'; connect-src 'none'" },
    });
    const page = await Page.open(t, url);
    await page.until('states.includes("waiting")');
  });
});
