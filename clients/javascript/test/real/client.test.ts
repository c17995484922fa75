/**
 * The client against a real terminator and real workers.
 */

import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { Client, CountersignError, type ClientEvents, type ClientOptions } from "../../src/index.js";
import { Countersign, expiryOf, SOON_MS, until, WITH_PROGRAM } from "./countersign.js";
import { Tap, Wire } from "./line.js";

interface Made {
  client: Client;
  tap: Tap;
  /** The tokens that the provider gave, or is about to. */
  tokens: Promise<string>[];
}

/** A client that ends with the test, whose n-th token is `token(n)`, from 1. */
function connected(t: TestContext, url: string, token: (n: number) => Promise<string>, options: Partial<ClientOptions> = {}): Made {
  const tap = new Tap();
  const tokens: Promise<string>[] = [];
  const provider = () => {
    tokens.push(token(tokens.length + 1));
    return tokens.at(-1) as Promise<string>;
  };
  const backoffMs = { least: 20, most: 200 };
  const requestTimeoutMs = SOON_MS;
  const client = new Client({ url, token: provider, WebSocket: tap.WebSocket, backoffMs, requestTimeoutMs, ...options });
  t.after(() => client.close());
  client.connect();
  return { client, tap, tokens };
}

/** The next such event, or the one that is wanted. */
function next<Name extends keyof ClientEvents>(
  client: Client,
  name: Name,
  isWanted: (event: ClientEvents[Name]) => boolean = () => true,
): Promise<ClientEvents[Name]> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} in ${SOON_MS} ms`)), SOON_MS);
    const off = client.on(name, (event) => {
      if (!isWanted(event)) return;
      clearTimeout(timer);
      off();
      resolve(event);
    });
  });
}

async function codeOf(answer: Promise<unknown>): Promise<string> {
  const error: unknown = await answer.then(() => undefined, (error: unknown) => error);
  assert.ok(error instanceof CountersignError, String(error));
  return error.code;
}

function stopped(client: Client): Promise<ClientEvents["state"]> {
  return next(client, "state", ({ name }) => name === "stopped");
}

describe("on a real terminator", { ...WITH_PROGRAM, concurrency: 4 }, () => {
  test("requests are answered, with a token on each", async (t) => {
    const server = await Countersign.start(t, "--strategy", "per-message");
    const { client, tap, tokens } = connected(t, server.url, () => server.token("alice"));
    const answers = await Promise.all([1, 2, 3].map((n) => client.request("echo", { n })));
    assert.deepEqual(answers, [{ n: 1 }, { n: 2 }, { n: 3 }]);
    const token = await tokens[0];
    assert.deepEqual(new Set(tap.sent.map((frame) => frame.token)), new Set([token]));
    assert.equal(tokens.length, 1);
  });

  test("requests are answered, with none on any, where the connection has one", async (t) => {
    const server = await Countersign.start(t, "--strategy", "explicit");
    const { client, tap } = connected(t, server.url, () => server.token("alice"), { strategy: "explicit" });
    assert.deepEqual(await client.request("echo", "x".repeat(60_000)), "x".repeat(60_000));
    assert.equal(await client.request("echo"), undefined);
    assert.deepEqual(
      tap.sent.map(({ type, token }) => [type, token !== undefined]),
      [
        ["auth.authenticate", true],
        ["echo", false],
        ["echo", false],
      ],
    );
    assert.deepEqual(client.state, { name: "open", authenticated: true, subject: "alice" });
  });

  test("a connection on which nothing comes is probed by its terminator alone where there are no pings, and kept", async (t) => {
    const server = await Countersign.start(t);
    const tap = new Tap();
    // A browser's socket has none.
    Object.defineProperty(tap.WebSocket.prototype, "ping", { value: undefined });
    const options = { WebSocket: tap.WebSocket, heartbeatMs: 8_000 };
    const { client, tokens } = connected(t, server.url, () => server.token("alice"), options);
    let told = 0;
    client.on("auth", () => told++);
    const sent = (type: string) => tap.sent.filter((frame) => frame.type === type).length;
    await until("three probes", () => sent("limits") > 2);
    assert.equal(await client.request("echo", 1), 1);
    assert.deepEqual([tap.sockets, tokens.length, told, sent("auth.authenticate")], [1, 1, 1, 1]);
  });

  test("a token where none is taken is told as the error that it is", async (t) => {
    const server = await Countersign.start(t, "--strategy", "explicit");
    const { client } = connected(t, server.url, () => server.token("alice"));
    assert.equal(await codeOf(client.request("echo", 1)), "bad_request");
  });

  test("a push arrives, once, in its order", async (t) => {
    const server = await Countersign.start(t);
    const { client } = connected(t, server.url, () => server.token("alice"));
    const heard: unknown[] = [];
    client.on("push", ({ payload }) => heard.push(payload));
    await next(client, "auth");
    for (const n of [1, 2, 3]) assert.equal(await server.push("alice", n), "delivered");
    await until("three pushes", () => heard.length === 3);
    // What comes twice would have come before the answer.
    await client.request("echo");
    assert.deepEqual(heard, [1, 2, 3]);
  });

  test("two hundred loops that ask as fast as they can are paced, and never closed for it", async (t) => {
    const server = await Countersign.start(t);
    const { client, tap } = connected(t, server.url, () => server.token("alice"));
    const end = Date.now() + 3_000;
    const loop = async () => {
      while (Date.now() < end) assert.equal(await client.request("echo", 1), 1);
    };
    await Promise.all(Array.from({ length: 200 }, loop));
    assert.equal(tap.sockets, 1);
  });

  test("what is sent without an answer arrives in its place, and a stream ends with its last answer", async (t) => {
    const server = await Countersign.start(t);
    const { client, tap } = connected(t, server.url, () => server.token("alice"));
    await client.send("note", 1);
    const seen: unknown[] = [];
    for await (const reply of client.stream<number>("echo", 2, { isLast: (n) => n === 2 })) seen.push(reply);
    assert.deepEqual(seen, [2]);
    assert.deepEqual(
      tap.asked.map(({ type, id }) => [type, id !== undefined]),
      [
        ["note", false],
        ["echo", true],
      ],
    );
    // A reply without a request is ignored.
    assert.deepEqual([client.pending, tap.heard.filter(({ type, id }) => type === "reply" && id === undefined).length], [0, 1]);
  });

  test("pushes are told by what they are about", async (t) => {
    const server = await Countersign.start(t);
    const { client } = connected(t, server.url, () => server.token("alice"));
    const heard: unknown[] = [];
    client.onPush("order.shipped", ({ payload }) => heard.push(payload));
    await next(client, "auth");
    for (const type of ["order.lost", "order.shipped"]) assert.equal(await server.push("alice", { type }), "delivered");
    await until("the push", () => heard.length > 0);
    assert.deepEqual(heard, [{ type: "order.shipped" }]);
  });

  test("a message whose token expires is held until the one renewal, and answered", async (t) => {
    const server = await Countersign.start(t, "--strategy", "per-message");
    const wire = await Wire.to(t, server.url);
    const { client, tap, tokens } = connected(t, wire.url, (n) => server.token("alice", n === 1 ? 3 : 300));
    await next(client, "auth");
    const [first] = await Promise.all(tokens);
    wire.keep();
    const answer = client.request("echo", "late", { id: "late" });
    await until("the token has expired", () => Date.now() > expiryOf(first ?? ""));
    await until("the renewal is sent", () => tap.sent.length === 3);
    wire.pass();
    assert.equal(await answer, "late");
    // What has become of it is told a moment after it is answered.
    await until("it is told held, and released", async () => {
      const { decisions } = await server.connection(tap.connection);
      const fate = decisions.filter(({ id }) => id === "late").map(({ what }) => what);
      return fate.sort().join() === "held,released";
    });
    assert.deepEqual([tokens.length, tap.sockets, tap.asked.length], [2, 1, 1]);
  });

  test("a client that is asked for a token because a push waits gives one, once, and gets the push", async (t) => {
    const server = await Countersign.start(t);
    let give: (token: Promise<string>) => void = () => {};
    const later = new Promise<string>((resolve) => (give = resolve));
    const { client, tap, tokens } = connected(t, server.url, (n) => (n === 1 ? server.token("alice", 2) : later));
    const pushes: unknown[] = [];
    client.on("push", ({ payload }) => pushes.push(payload));
    await next(client, "auth");
    await until("it has expired", async () => (await server.connection(tap.connection)).state === "expired");
    const required = next(client, "auth.required", ({ reason }) => reason === "expired");
    assert.equal(await server.push("alice", "news"), "held");
    assert.deepEqual((await required).held, { inbound: 0, outbound: 1 });
    assert.deepEqual(client.state, { name: "open", authenticated: false });
    const answer = client.request("echo", "mine");
    give(server.token("alice"));
    assert.equal(await answer, "mine");
    await until("the push", () => pushes.length > 0);
    assert.deepEqual([pushes, tokens.length, tap.sockets], [["news"], 2, 1]);
  });

  for (const strategy of ["per-message", "explicit"] as const) {
    test(`tokens of four seconds are renewed, one after the other, unnoticed (${strategy})`, async (t) => {
      const server = await Countersign.start(t, "--strategy", strategy, "--on-unauthenticated", "close");
      const { client, tap, tokens } = connected(t, server.url, () => server.token("alice", 4), { strategy });
      for (let n = 0; tokens.length < 4; n++) {
        assert.equal(await client.request("echo", n), n);
        // As fast as the terminator lets one, and no faster.
        await pause(5);
      }
      const notices = tap.heard.filter(({ type, reason }) => type === "error" || reason === "expired");
      assert.deepEqual([notices, tap.sockets], [[], 1]);
      assert.ok(tap.asked.length > 10);
    });
  }

  test("a revocation stops it", async (t) => {
    const server = await Countersign.start(t);
    const { client, tap, tokens } = connected(t, server.url, () => server.token("alice"));
    await client.request("echo");
    const end = stopped(client);
    await server.revoke("alice");
    const state = await end;
    assert.ok(state.name === "stopped");
    assert.deepEqual([state.closeCode, state.error.code], [4503, "token_revoked"]);
    assert.equal(await codeOf(client.request("echo")), "token_revoked");
    assert.deepEqual([tap.sockets, tokens.length], [1, 1]);
  });

  test("a revocation with a grace is met by a fresh token", async (t) => {
    const server = await Countersign.start(t);
    const { client, tap, tokens } = connected(t, server.url, async (n) => {
      // Tokens tell when they were issued in whole seconds: the next one is to be a later one.
      if (n === 2) await until("the next second", (since => () => Math.floor(Date.now() / 1_000) > since)(Math.floor(Date.now() / 1_000)));
      return server.token("alice");
    });
    await client.request("echo");
    const required = next(client, "auth.required");
    const renewed = next(client, "auth");
    await server.revoke("alice", 10);
    assert.equal((await required).reason, "revoked");
    await renewed;
    assert.equal(await client.request("echo", 1), 1);
    assert.deepEqual([tap.sockets, tokens.length], [1, 2]);
  });

  test("another identity stops it", async (t) => {
    const server = await Countersign.start(t);
    const { client, tap } = connected(t, server.url, (n) => (n === 1 ? server.token("alice", 3) : server.token("bob")));
    const state = await stopped(client);
    assert.ok(state.name === "stopped");
    assert.deepEqual([state.error.code, tap.sockets], ["identity_mismatch", 1]);
  });

  test("another identity stops it by its close code, too", async (t) => {
    const server = await Countersign.start(t, "--strategy", "per-message");
    const { client, tap } = connected(t, server.url, () => server.token("alice"));
    await client.request("echo");
    const end = stopped(client);
    // As one whose tokens are mixed up would.
    const bob = await server.token("bob");
    const token = tap.sent[0]?.token ?? "";
    tap.rewrite = (text) => text.replace(token, bob);
    void client.request("echo").catch(() => {});
    const state = await end;
    assert.ok(state.name === "stopped");
    assert.deepEqual([state.closeCode, state.error.code, tap.sockets], [4509, "identity_mismatch", 1]);
  });

  test("another identity may follow when the first has logged out", async (t) => {
    const server = await Countersign.start(t);
    const { client, tap } = connected(t, server.url, (n) => server.token(n === 1 ? "alice" : "bob"), { strategy: "explicit" });
    await client.request("echo");
    await client.forget();
    assert.equal(await server.push("alice", 1), "held");
    assert.equal(await client.request("echo", "bob's"), "bob's");
    assert.deepEqual([client.state, tap.sockets], [{ name: "open", authenticated: true, subject: "bob" }, 1]);
  });

  test("what is held when the wire is cut is released on the next connection", async (t) => {
    const server = await Countersign.start(t, "--strategy", "per-message");
    const wire = await Wire.to(t, server.url);
    let give: (token: Promise<string>) => void = () => {};
    const third = new Promise<string>((resolve) => (give = resolve));
    const { client, tap } = connected(t, wire.url, (n) => {
      if (n === 3) return third;
      return server.token("alice", n === 2 ? -10 : 3);
    });
    await next(client, "error", ({ code }) => code === "token_expired");
    const old = tap.connection;
    const answer = client.request("echo", "kept", { id: "kept" });
    await until("it is held", async () => (await server.connection(old)).held.inbound === 1);
    wire.cut();
    await next(client, "state", ({ name }) => name === "connecting");
    give(server.token("alice"));
    assert.equal(await answer, "kept");
    await until("it is released", async () => {
      const { decisions } = await server.connection(old);
      return decisions.some(({ id, what, why }) => id === "kept" && what === "released" && why === `by ${tap.connection}`);
    });
    assert.notEqual(tap.connection, old);
  });

  test("what a terminator that died had not answered is answered by the next, under the same id", async (t) => {
    const server = await Countersign.start(t);
    const wire = await Wire.to(t, server.url);
    const token = await server.token("alice");
    const { client, tap } = connected(t, wire.url, () => Promise.resolve(token));
    await client.request("echo");
    wire.keep();
    const answers = [1, 2].map((n) => client.request("echo", n, { id: `unanswered-${n}`, idempotent: true }));
    await until("they are sent", () => tap.asked.length === 3);
    const waiting = next(client, "state", ({ name }) => name === "waiting");
    await server.kill();
    await waiting;
    wire.pass();
    await server.restart();
    assert.deepEqual(await Promise.all(answers), [1, 2]);
    const sent = tap.asked.slice(1).map(({ socket, id }) => [socket > 0, id]);
    const both = (again: boolean) => [1, 2].map((n) => [again, `unanswered-${n}`]);
    assert.deepEqual(sent, [...both(false), ...both(true)]);
  });

  test("a terminator that drains is left, and the next one found", async (t) => {
    const server = await Countersign.start(t);
    const token = await server.token("alice");
    const { client, tap } = connected(t, server.url, () => Promise.resolve(token));
    await client.request("echo");
    const waiting = next(client, "state", ({ name }) => name === "waiting");
    await server.end();
    const state = await waiting;
    assert.match(state.name === "waiting" ? state.because : "", /^1012/);
    await server.restart();
    assert.equal(await client.request("echo", 1), 1);
    assert.ok(tap.sockets > 1);
  });

  test("a connection that is closed for a stale token is made again with a fresh one", async (t) => {
    const server = await Countersign.start(t, "--on-unauthenticated", "close");
    const { client, tap, tokens } = connected(t, server.url, (n) => server.token("alice", n === 1 ? -10 : 300));
    const waiting = next(client, "state", ({ name }) => name === "waiting");
    const answer = client.request("echo", 1, { idempotent: true });
    const state = await waiting;
    assert.match(state.name === "waiting" ? state.because : "", /^4401/);
    assert.equal(await answer, 1);
    assert.deepEqual([tap.sockets, tokens.length], [2, 2]);
  });

  test("as many requests as may wait do so until there is a terminator, and one more is refused", async (t) => {
    const server = await Countersign.start(t);
    const token = await server.token("alice");
    await server.kill();
    const { client } = connected(t, server.url, () => Promise.resolve(token), { maxPending: 2 });
    await next(client, "state", ({ name }) => name === "waiting");
    const answers = [1, 2].map((n) => client.request("echo", n));
    assert.equal(await codeOf(client.request("echo", 3)), "overflow");
    await server.restart();
    assert.deepEqual(await Promise.all(answers), [1, 2]);
  });

  test("a message that is too large costs the connection, and no other message", async (t) => {
    const server = await Countersign.start(t);
    const { client, tap } = connected(t, server.url, () => server.token("alice"), { maxMessageBytes: 1_000_000 });
    const sizes = [10, 100_000, 20];
    const answers = await Promise.all(sizes.map((size) => client.request("echo", "x".repeat(size), { idempotent: true }).catch((error: unknown) => error)));
    assert.deepEqual(
      answers.map((answer) => (answer instanceof CountersignError ? answer.code : String(answer).length)),
      [10, "too_large", 20],
    );
    assert.equal(tap.sockets, 2);
  });
});
