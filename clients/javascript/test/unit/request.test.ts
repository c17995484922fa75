import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { SUBPROTOCOL } from "../../src/index.js";
import { bench, jwt, live, liveWith, open, pass, Provider, refusal, settled, withManualTime } from "./fake.js";

withManualTime();

describe("a request", () => {
  test("connects, carries the token, and resolves with the payload of its answer", async () => {
    const { client, socket } = bench();
    const answer = client.request("order", { item: 7 });
    await settled();
    assert.deepEqual(socket().protocols, [SUBPROTOCOL, "countersign.limits"]);
    socket().accept();
    const [asked] = socket().asked;
    assert.deepEqual({ ...asked, id: "" }, { id: "", type: "order", token: jwt(1), payload: { item: 7 } });
    socket().reply(asked?.id, { ok: true });
    assert.deepEqual(await answer, { ok: true });
    assert.equal(client.pending, 0);
  });

  test("is refused with the server's typed error", async () => {
    const { client, socket } = await open();
    const answer = client.request("order");
    socket().refuse(socket().asked[0]?.id, "busy", { temporary: true, retry_after_ms: 5_000 });
    const refused = await refusal(answer);
    assert.deepEqual([refused.code, refused.temporary, refused.retryAfterMs], ["busy", true, 5_000]);
  });

  test("is refused with the application's own code and details", async () => {
    const { client, socket } = await open();
    const answer = client.request("order");
    socket().refuse(socket().asked[0]?.id, "app.out_of_stock", { details: { left: 0 } });
    const refused = await refusal(answer);
    assert.deepEqual([refused.code, refused.temporary, refused.details], ["app.out_of_stock", false, { left: 0 }]);
  });

  test("ends when its time is over, when its caller gives up, and when too many wait", async () => {
    const { client, errors, socket } = await open({ maxPending: 2 });
    const slow = client.request("a", null, { timeoutMs: 1_000 });
    const abort = new AbortController();
    const unwanted = client.request("b", null, { signal: abort.signal });
    assert.equal((await refusal(client.request("c"))).code, "overflow");
    abort.abort();
    assert.equal((await refusal(unwanted)).code, "aborted");
    await pass(1_000);
    assert.equal((await refusal(slow)).code, "timeout");
    assert.equal(client.pending, 0);
    // An answer that comes after that is ignored.
    for (const { id } of socket().asked) socket().refuse(id, "busy");
    assert.deepEqual(errors, []);
  });

  test("tells the server how long its caller still waits, and says nothing of more than a day", async () => {
    const { client, socket } = await live();
    void refusal(client.request("a", null, { timeoutMs: 1_500.5 }));
    void refusal(client.request("b", null, { timeoutMs: 86_400_001 }));
    await pass(1_000);
    // What is sent again has less left.
    socket().refuse(socket().asked[0]?.id, "token_expired");
    await settled();
    socket().authenticate();
    void refusal(client.request("c"));
    void client.forget();
    assert.deepEqual(
      socket().waits.filter(([type]) => type !== "auth.authenticate"),
      [
        ["a", 1_501],
        ["b", undefined],
        ["a", 501],
        ["c", 60_000],
        ["auth.logout", undefined],
      ],
    );
  });

  test("that its caller gives up is given up by the server, if it was sent", async () => {
    const { client, socket } = await open();
    const [first, second] = [new AbortController(), new AbortController()];
    const sent = client.request("a", null, { id: "1", signal: first.signal });
    first.abort();
    first.abort();
    assert.equal((await refusal(sent)).code, "aborted");
    assert.deepEqual(socket().cancelled, ["1"]);
    // What was not sent is not sent any more, and nothing is said of it.
    socket().end(1012);
    const unsent = client.request("b", null, { id: "2", signal: second.signal });
    second.abort();
    assert.equal((await refusal(unsent)).code, "aborted");
    await pass(60_000);
    socket().accept();
    assert.deepEqual([socket().asked, socket().cancelled], [[], []]);
  });

  // An unhandled rejection fails the test.
  test("that no code waits for ends without a word when the client is closed or logged out", async () => {
    const { client, socket } = await live();
    void client.request("a");
    void client.forget();
    await settled();
    socket().end(1000);
    client.connect();
    void client.request("b");
    client.close();
    void client.request("c");
    await new Promise((resolve) => setImmediate(resolve));
    // Code that waits is told.
    assert.equal((await refusal(client.request("d"))).code, "closed");
  });

  test("waits as long as it is told, however long that is", async () => {
    const { client, socket } = await live();
    const answer = client.request("a", null, { timeoutMs: Number.POSITIVE_INFINITY });
    await pass(70_000);
    socket().reply(socket().asked[0]?.id, "late");
    assert.equal(await answer, "late");
    await assert.rejects(client.request("a", null, { timeoutMs: Number.NaN }), RangeError);
    assert.equal(client.pending, 0);
  });

  test("that can never be answered is refused at once", async () => {
    const { client, socket } = await open({ maxMessageBytes: 200 });
    void client.request("a", null, { id: "x" }).catch(() => {});
    const cyclic: { self?: object } = {};
    cyclic.self = cyclic;
    const codes = await Promise.all(
      [
        client.request("a", null, { id: "x" }),
        client.request("a", null, { id: "" }),
        client.request("a", null, { id: "é".repeat(65) }),
        client.request("a", cyclic),
        client.request("a", 7n),
        client.request("a", "é".repeat(80)),
        client.request("auth.authenticate"),
      ].map(async (answer) => (await refusal(answer)).code),
    );
    const bad = "bad_request";
    assert.deepEqual(codes, ["duplicate", bad, bad, bad, bad, "too_large", bad]);
    assert.equal(socket().asked.length, 1);
  });

  test("that is too large by its token is refused rather than sent", async () => {
    const { client, socket } = await live({ maxMessageBytes: 100 });
    const message = { id: "x", type: "a", token: jwt(1), payload: "" };
    const room = 100 - JSON.stringify({ ...message, timeout_ms: 60_000 }).length;
    const large = client.request("a", "x".repeat(room + 1), { id: "x" });
    assert.equal((await refusal(large)).code, "too_large");
    void client.request("a", "x".repeat(room), { id: "x" }).catch(() => {});
    assert.deepEqual(socket().asked, [{ ...message, payload: "x".repeat(room) }]);
  });

  test("that is not answered in time makes the client find out whether the server is there", async () => {
    const { client, socket } = await live();
    for (const [timeoutMs, shown] of [
      [1_000, 1],
      [29_000, 2],
    ] as const) {
      const answer = client.request("order", null, { timeoutMs });
      await pass(timeoutMs);
      assert.equal((await refusal(answer)).code, "timeout");
      await settled();
      assert.equal(socket().shown.length, shown);
    }
  });

  for (const code of ["token_expired", "auth_required", "hold_expired", "hold_overflow"]) {
    test(`that is refused with ${code} is sent again with a fresh token, once, under the same id`, async () => {
      const { client, socket, asked } = await live();
      const answer = client.request("order", { item: 7 });
      const id = socket().asked[0]?.id;
      socket().refuse(id, code);
      await settled();
      assert.equal(asked(), 2);
      socket().authenticate();
      const message = { id, type: "order", payload: { item: 7 } };
      assert.deepEqual(socket().asked, [
        { ...message, token: jwt(1) },
        { ...message, token: jwt(2) },
      ]);
      socket().refuse(id, code);
      assert.equal((await refusal(answer)).code, code);
      await settled();
      assert.equal(asked(), 2);
    });
  }

  for (const code of ["duplicate", "forbidden", "bad_request", "busy", "auth_unavailable"]) {
    test(`that is refused with ${code} is not sent again`, async () => {
      const { client, socket, asked } = await live();
      const answer = client.request("order");
      socket().refuse(socket().asked[0]?.id, code);
      assert.equal((await refusal(answer)).code, code);
      await pass(1_000);
      assert.deepEqual([asked(), socket().asked.length], [1, 1]);
    });
  }

  test("is not sent again with the token that it was refused with, though another cannot be had at once", async () => {
    const provider = new Provider();
    const { client, socket, errors } = await liveWith(provider);
    const answer = client.request("order");
    const id = socket().asked[0]?.id;
    socket().refuse(id, "token_expired");
    await provider.fail();
    assert.deepEqual([errors, socket().asked.length], [["no_token"], 1]);
    // Others do not make the provider be asked sooner.
    void client.request("other").catch(() => {});
    await settled();
    assert.equal(provider.signals.length, 2);
    await pass(1_000);
    await provider.give(jwt(2));
    assert.deepEqual(socket().asked.at(-1), { id, type: "order", token: jwt(2) });
    socket().reply(id, "done");
    assert.equal(await answer, "done");
  });

  test("is the same when it is sent again, whatever has become of what it was made of", async () => {
    const { client, socket } = await live();
    const order = { item: 7 };
    void client.request("order", order).catch(() => {});
    order.item = 8;
    socket().end(1006);
    await pass(250);
    socket().accept();
    assert.deepEqual(socket().asked[0]?.payload, { item: 7 });
  });

  test("keeps its place behind what was asked before it", async () => {
    const { client, socket } = await live();
    for (const type of ["a", "b", "c"]) void client.request(type).catch(() => {});
    socket().end(1006);
    void client.request("d").catch(() => {});
    await pass(250);
    socket().accept();
    assert.deepEqual(
      socket().asked.map(({ type }) => type),
      ["a", "b", "c", "d"],
    );
  });

  test("keeps it, too, when it is refused for its token", async () => {
    const provider = new Provider();
    const { client, socket } = await liveWith(provider);
    for (const type of ["a", "b"]) void client.request(type).catch(() => {});
    for (const { id } of socket().asked.reverse()) socket().refuse(id, "token_expired");
    await provider.give(jwt(2));
    assert.deepEqual(
      socket().asked.map(({ type }) => type),
      ["a", "b", "a", "b"],
    );
  });
});

describe("a push", () => {
  test("that comes twice is told once, on whatever connection", async () => {
    const { client, socket } = await live();
    const heard: unknown[] = [];
    client.on("push", ({ payload }) => heard.push(payload));
    socket().say({ type: "push", id: "p1", payload: 1 });
    socket().say({ type: "push", id: "p1", payload: 1 });
    socket().end(1006);
    await pass(250);
    socket().accept();
    socket().say({ type: "push", id: "p1", payload: 1 });
    socket().say({ type: "push", id: "p2", payload: 2 });
    assert.deepEqual(heard, [1, 2]);
  });

  test("is told to each who listens until they have had enough", async () => {
    const { client, socket } = await live();
    const heard: string[] = [];
    const off = client.on("push", ({ id }) => heard.push(`one ${id}`));
    client.on("push", ({ id }) => heard.push(`two ${id}`));
    socket().say({ type: "push", id: "p1" });
    off();
    socket().say({ type: "push", id: "p2" });
    assert.deepEqual(heard, ["one p1", "two p1", "two p2"]);
  });
});

describe("what the server should not say", () => {
  test("does no harm", async () => {
    const { client, socket, asked } = await live();
    for (const data of [new ArrayBuffer(1), "", "{", "null", "[]", '{"type":7}', '{"type":"error"}', '{"type":"tomorrow"}']) {
      socket().onmessage?.({ data });
    }
    socket().say({ type: "reply", id: "unknown", auth: { expires_in: "soon" } });
    socket().say({ type: "auth.ok", auth: null });
    await pass(10_000);
    assert.deepEqual([client.state.name, asked()], ["open", 1]);
  });
});
