import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { CountersignError, type Push } from "../../src/index.js";
import { AUTH, bench, FakeSocket, jwt, live, pass, refusal, settled, withManualTime } from "./fake.js";

withManualTime();

describe("what is sent without an answer", () => {
  test("has no id, is over when it is sent, and keeps its place", async () => {
    const { client, socket } = await live();
    void client.request("first");
    await client.send("note", { n: 1 });
    void client.request("last");
    assert.deepEqual(
      socket().asked.map(({ type, id }) => [type, id !== undefined]),
      [
        ["first", true],
        ["note", false],
        ["last", true],
      ],
    );
    assert.deepEqual(socket().asked[1], { type: "note", token: jwt(1), payload: { n: 1 } });
    assert.equal(client.pending, 2);
  });

  test("waits for a connection, within the same bounds, and goes once", async () => {
    const { client, socket } = bench({ maxPending: 1 });
    const sent = client.send("note");
    assert.equal((await refusal(client.send("more"))).code, "overflow");
    await settled();
    socket().accept();
    await sent;
    socket().end(1006);
    await pass(10_000);
    socket().accept();
    assert.deepEqual(socket().asked, []);
    client.close();
    assert.equal((await refusal(client.send("late"))).code, "closed");
  });

  test("and is refused is told as an event", async () => {
    const { client, socket, errors } = await live();
    await client.send("note");
    socket().refuse(undefined, "app.unknown_note");
    assert.deepEqual(errors, ["app.unknown_note"]);
    // An answer is ignored.
    socket().reply(undefined, "thanks");
  });

  test("and that cannot be sent in time, or is aborted, is not", async () => {
    const { client } = await live({ strategy: "explicit", token: () => jwt(1) });
    client.close();
    client.connect();
    await settled();
    const abort = new AbortController();
    const [late, back] = [client.send("late", 1, { timeoutMs: 100 }), client.send("back", 1, { signal: abort.signal })];
    abort.abort();
    assert.equal((await refusal(back)).code, "aborted");
    await pass(100);
    assert.equal((await refusal(late)).code, "timeout");
    assert.equal(client.pending, 0);
  });
});

describe("a stream", () => {
  test("gives each answer as it comes, until the last", async () => {
    const { client, socket } = await live();
    const replies = client.stream<{ n: number }>("count", { to: 3 }, { isLast: ({ n }) => n === 3 });
    const id = socket().asked[0]?.id;
    const seen: number[] = [];
    const reading = (async () => {
      for await (const { n } of replies) seen.push(n);
    })();
    socket().reply(id, { n: 1 });
    await settled();
    assert.deepEqual(seen, [1]);
    for (const n of [2, 3, 4]) socket().reply(id, { n });
    await reading;
    assert.deepEqual([seen, client.pending, socket().cancelled], [[1, 2, 3], 0, []]);
    assert.deepEqual(await replies.next(), { done: true, value: undefined });
  });

  test("that is left is given up, and the server told", async () => {
    const { client, socket } = await live();
    const replies = client.stream("count", null, { id: "c1" });
    for (const n of [1, 2, 3]) socket().reply("c1", n);
    for await (const reply of replies) if (reply === 2) break;
    assert.deepEqual([client.pending, socket().cancelled], [0, ["c1"]]);
    socket().reply("c1", 4);
    assert.deepEqual(await replies.next(), { done: true, value: undefined });
  });

  test("that a signal ends says so", async () => {
    const { client, socket } = await live();
    const abort = new AbortController();
    const replies = client.stream("count", null, { id: "c1", signal: abort.signal });
    abort.abort();
    assert.equal((await refusal(replies.next())).code, "aborted");
    assert.deepEqual(socket().cancelled, ["c1"]);
  });

  test("ends with an error behind what came before it, and tells it once", async () => {
    const { client, socket } = await live();
    const replies = client.stream("count", null, { id: "c1" });
    socket().reply("c1", 1);
    socket().refuse("c1", "app.tired");
    await settled();
    assert.deepEqual(await replies.next(), { done: false, value: 1 });
    assert.equal((await refusal(replies.next())).code, "app.tired");
    assert.deepEqual(await replies.next(), { done: true, value: undefined });
  });

  test("waits for each answer as long as it is told", async () => {
    const { client, socket } = await live();
    const replies = client.stream("count", null, { id: "c1", timeoutMs: 1_000 });
    for (let n = 0; n < 5; n++) {
      await pass(900);
      socket().reply("c1", n);
    }
    for (let n = 0; n < 5; n++) assert.deepEqual(await replies.next(), { done: false, value: n });
    const next = replies.next();
    await pass(1_000);
    assert.equal((await refusal(next)).code, "timeout");
  });

  test("that has begun is not sent again; the rest comes on the next connection, or it is lost", async () => {
    const { client, socket } = await live();
    const [one, two, fresh] = ["s1", "s2", "s3"].map((id) => client.stream(id, null, { id }));
    for (const id of ["s1", "s2"]) socket().reply(id, 1);
    socket().end(1006);
    await pass(250);
    socket().accept();
    // Of what has not begun the server knows the id.
    assert.deepEqual(
      socket().asked.map(({ id }) => id),
      ["s3"],
    );
    socket().authenticate({ ...AUTH, resume: "d.s" });
    socket().reply("s1", 2);
    await pass(5_000);
    socket().reply("s1", 3);
    for (const n of [1, 2, 3]) assert.deepEqual(await one?.next(), { done: false, value: n });
    assert.deepEqual(await two?.next(), { done: false, value: 1 });
    assert.equal((await refusal(two?.next() as Promise<unknown>)).code, "lost");
    await fresh?.return();
  });

  test("whose reader falls too far behind is ended and given up", async () => {
    const { client, socket } = await live();
    const replies = client.stream("flood", null, { id: "f1" });
    for (let n = 0; n < 1_001; n++) socket().reply("f1", n);
    await settled();
    assert.deepEqual([client.pending, socket().cancelled], [0, ["f1"]]);
    for (let n = 0; n < 1_000; n++) assert.deepEqual(await replies.next(), { done: false, value: n });
    assert.equal((await refusal(replies.next())).code, "overflow");
  });

  // An unhandled rejection fails the test.
  test("that is not read rejects nothing", async () => {
    const { client, socket } = await live();
    client.stream("count", null, { id: "c1" });
    socket().refuse("c1", "busy");
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(client.pending, 0);
  });
});

describe("who listens", () => {
  test("hears once, or until they have had enough", async () => {
    const { client, socket } = await live();
    const heard: string[] = [];
    const one = ({ id }: Push) => heard.push(`one ${id}`);
    const two = ({ id }: Push) => heard.push(`two ${id}`);
    const three = ({ id }: Push) => heard.push(`three ${id}`);
    client.once("push", one);
    client.on("push", two);
    client.once("push", three);
    client.off("push", three);
    client.off("push", () => {});
    socket().say({ type: "push", id: "p1" });
    client.off("push", two);
    socket().say({ type: "push", id: "p2" });
    assert.deepEqual(heard, ["one p1", "two p1"]);
  });

  test("to pushes of one type hears no others, and none twice", async () => {
    const { client, socket } = await live();
    const heard: unknown[] = [];
    client.on("push", ({ type }) => heard.push(type));
    const off = client.onPush<{ type: "order.shipped"; order: number }>("order.shipped", ({ id, payload }) => heard.push([id, payload.order]));
    socket().say({ type: "push", id: "p1", payload: { type: "order.shipped", order: 7 } });
    socket().say({ type: "push", id: "p1", payload: { type: "order.shipped", order: 7 } });
    for (const payload of [{ type: "order.lost" }, { type: 7 }, "order.shipped", null]) socket().say({ type: "push", payload });
    off();
    socket().say({ type: "push", id: "p2", payload: { type: "order.shipped", order: 8 } });
    assert.deepEqual(heard, ["order.shipped", ["p1", 7], "order.lost", undefined, undefined, undefined, "order.shipped"]);
  });
});

describe("an error", () => {
  test("is known for what it is, whichever copy of the library made it", async () => {
    // As if an application and its component had each bundled it.
    const other = (await import(`../../src/errors.js?${"another"}`)) as { CountersignError: typeof CountersignError };
    assert.notEqual(other.CountersignError, CountersignError);
    const error = new other.CountersignError("no_token", "no user is logged in", false);
    assert.ok(error instanceof CountersignError && CountersignError.is(error));
    for (const none of [new Error("no"), null, undefined, "no_token", { code: "no_token" }]) {
      assert.ok(!(none instanceof CountersignError) && !CountersignError.is(none));
    }
    class Own extends CountersignError {}
    assert.ok(!(error instanceof Own) && new Own("app.x", "", false) instanceof Own);
    // A provider of the other copy says that there will be no token.
    const { client } = bench({ token: () => Promise.reject(error) });
    client.connect();
    await settled();
    assert.equal(client.state.name, "stopped");
  });

  test("of a time that is over tells why there was no answer", async () => {
    const away = new Error("the issuer is away");
    const { client } = bench({ token: () => Promise.reject(away) });
    const refused = refusal(client.request("order", null, { timeoutMs: 1_000 }));
    await settled();
    await pass(1_000);
    const { code, message, cause } = await refused;
    assert.equal(code, "timeout");
    assert.match(message, /no answer within 1000 ms: .*the issuer is away/);
    assert.ok(cause instanceof CountersignError && cause.code === "no_token" && cause.cause === away);
  });

  test("of a connection that is lost tells how, until the client is authenticated again", async () => {
    const { client, socket } = await live();
    const lost = refusal(client.request("pay", null, { idempotent: false }));
    socket().onerror?.({ error: new Error("ECONNRESET") } as never);
    socket().end(1006);
    const { state } = client;
    assert.ok(state.name === "waiting" && state.cause?.code === "unreachable");
    const late = refusal(client.request("order", null, { timeoutMs: 200 }));
    await pass(250);
    for (const { cause } of [await late]) assert.match(String(cause), /unreachable|ECONNRESET/);
    socket().accept();
    socket().authenticate();
    await pass(5_000);
    assert.match(String((await lost).cause), /ECONNRESET/);
    const quiet = refusal(client.request("order", null, { timeoutMs: 200 }));
    await pass(200);
    assert.deepEqual([(await quiet).code, (await quiet).cause], ["timeout", undefined]);
  });
});

describe("a connection that is forbidden where the platform says no more than that", () => {
  test("is given up soon, and tried again", async () => {
    const { client, socket } = bench();
    client.connect();
    await settled();
    // As Chromium does, where a page's Content-Security-Policy forbids it.
    socket().onerror?.({} as never);
    await pass(999);
    assert.equal(client.state.name, "connecting");
    await pass(1);
    assert.deepEqual([client.state.name, FakeSocket.all.length], ["waiting", 1]);
    await pass(250);
    assert.equal(FakeSocket.all.length, 2);
  });

  test("and that is closed after its error all the same ends as it was closed", async () => {
    const { client, socket } = await live();
    socket().onerror?.({} as never);
    socket().end(4503);
    await pass(1_000);
    assert.equal(client.state.name, "stopped");
  });
});
