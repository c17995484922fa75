/**
 * What the platform tells of a connection that cannot be made. On time as it is.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test, type TestContext } from "node:test";

import WebSocket from "ws";

import { Client, CountersignError, RefusedHandshake, type State } from "../../src/index.js";
import { jwt } from "./fake.js";

/** The first wait of a client that connects there. */
async function firstWait(t: TestContext, url: string): Promise<State & { name: "waiting" }> {
  const client = new Client({ url, token: () => jwt(1), WebSocket, random: () => 1 });
  t.after(() => client.close());
  client.connect();
  for (;;) {
    const state = await new Promise<State>((resolve) => client.once("state", resolve));
    if (state.name === "waiting") return state;
  }
}

/** A server that answers each handshake like that. */
async function refusing(t: TestContext, status: number, headers: { [name: string]: string }, text: string): Promise<string> {
  const server = createServer();
  server.on("upgrade", (_, socket) => {
    socket.on("error", () => {});
    const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.end(`HTTP/1.1 ${status} No\r\n${head.join("")}Content-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe("a connection that cannot be made", () => {
  test("is told with the platform's own error", async (t) => {
    const unused = createServer().listen(0, "127.0.0.1");
    await once(unused, "listening");
    const { port } = unused.address() as AddressInfo;
    unused.close();
    const { cause } = await firstWait(t, `ws://127.0.0.1:${port}`);
    assert.ok(cause instanceof CountersignError);
    assert.deepEqual([cause.code, cause.temporary], ["unreachable", true]);
    assert.equal((cause.cause as NodeJS.ErrnoException).code, "ECONNREFUSED");
    assert.match(cause.message, /ECONNREFUSED/);
  });

  test("is told with the status and the text of the answer", async (t) => {
    const url = await refusing(t, 403, {}, "this origin may not connect\n");
    const { cause, retryInMs } = await firstWait(t, url);
    const refused = cause?.cause;
    assert.ok(refused instanceof RefusedHandshake);
    assert.deepEqual([refused.status, refused.text, refused.retryAfterMs], [403, "this origin may not connect", undefined]);
    assert.match(cause?.message ?? "", /403 this origin may not connect/);
    assert.equal(retryInMs, 250);
  });

  test("is told with no more of a long answer than a person reads", async (t) => {
    const { cause } = await firstWait(t, await refusing(t, 500, {}, "x".repeat(100_000)));
    assert.equal((cause?.cause as RefusedHandshake).text.length, 1_024);
  });

  for (const [status, retryAfter, waitMs] of [
    [503, "7", 7_000],
    [429, "1", 2_000],
    [503, "soon", 2_000],
    [429, "3600", 30_000],
  ] as const) {
    test(`since there are too many (${status}) waits as long as it is told, within limits (${retryAfter})`, async (t) => {
      const { retryInMs } = await firstWait(t, await refusing(t, status, { "Retry-After": retryAfter }, ""));
      assert.equal(retryInMs, waitMs);
    });
  }

  test("waits until the date that it is told", async (t) => {
    const date = new Date(Date.now() + 10_000).toUTCString();
    const { retryInMs } = await firstWait(t, await refusing(t, 503, { "Retry-After": date }, ""));
    assert.ok(retryInMs > 5_000 && retryInMs <= 10_000, `${retryInMs}`);
  });
});
