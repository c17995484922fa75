import assert from "node:assert/strict";
import { beforeEach, describe, mock, test } from "node:test";

import { CountersignError, SUBPROTOCOL } from "../src/index.js";
import { AUTH, bench, FakeSocket, open, settled } from "./fake.js";

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
});

/** The error that a promise ends with. */
async function refusal(promise: Promise<unknown>): Promise<CountersignError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof CountersignError) return error;
    throw error;
  }
  return assert.fail("it was not refused");
}

describe("a request", () => {
  test("connects, carries the token, and resolves with the payload of its answer", async () => {
    const { client, socket } = bench();
    const answer = client.request("order", { item: 7 });
    await settled();
    assert.equal(socket().protocol, SUBPROTOCOL);
    socket().accept();
    const [asked] = socket().asked;
    assert.deepEqual({ ...asked, id: "" }, { id: "", type: "order", token: "t1", payload: { item: 7 } });
    socket().say({ type: "reply", id: asked?.id, payload: { ok: true } });
    assert.deepEqual(await answer, { ok: true });
    assert.equal(client.pending, 0);
  });

  test("is refused with the server's typed error", async () => {
    const { client, socket } = await open();
    const answer = client.request("order");
    const error = { code: "busy", message: "the queue is full", temporary: true, retry_after_ms: 5_000 };
    socket().say({ type: "error", id: socket().asked[0]?.id, error });
    const refused = await refusal(answer);
    assert.deepEqual([refused.code, refused.temporary, refused.retryAfterMs], ["busy", true, 5_000]);
  });

  test("ends when its time is over, when its caller gives up, and when too many wait", async () => {
    const { client } = await open({ maxPending: 2 });
    const slow = client.request("a", null, { timeoutMs: 1_000 });
    const abort = new AbortController();
    const unwanted = client.request("b", null, { signal: abort.signal });
    assert.equal((await refusal(client.request("c"))).code, "overflow");
    abort.abort();
    assert.equal((await refusal(unwanted)).code, "aborted");
    mock.timers.tick(1_000);
    assert.equal((await refusal(slow)).code, "timeout");
    assert.equal(client.pending, 0);
  });

  test("of an id that waits already is refused rather than sent twice", async () => {
    const { client } = await open();
    void client.request("a", null, { id: "x" }).catch(() => {});
    assert.equal((await refusal(client.request("a", null, { id: "x" }))).code, "duplicate");
  });

  test("that wants a fresh token gets one, once, and is sent again under the same id", async () => {
    const { client, socket, asked } = await open();
    const answer = client.request("order");
    const id = socket().asked[0]?.id;
    const error = { code: "token_expired", message: "", temporary: false };
    socket().say({ type: "error", id, error });
    await settled();
    assert.equal(asked(), 2);
    assert.deepEqual(
      socket().asked.map((sent) => [sent.id, sent.token]),
      [
        [id, "t1"],
        [id, "t2"],
      ],
    );
    socket().say({ type: "error", id, error });
    assert.equal((await refusal(answer)).code, "token_expired");
    await settled();
    assert.equal(asked(), 2);
  });
});

describe("authentication", () => {
  test("of a connection comes first, and in the explicit strategy is waited for", async () => {
    const { client, socket } = await open({ strategy: "explicit" });
    void client.request("order").catch(() => {});
    assert.deepEqual(
      socket().sent.map(({ type, token }) => [type, token]),
      [["auth.authenticate", "t1"]],
    );
    socket().say({ type: "auth.ok", id: socket().sent[0]?.id, auth: AUTH });
    assert.deepEqual(
      socket().asked.map(({ type, token }) => [type, token]),
      [["order", undefined]],
    );
    assert.deepEqual(client.state, { name: "open", authenticated: true, subject: "alice" });
  });

  test("is renewed before the token lapses, on the same connection", async () => {
    const { socket, asked } = await open();
    socket().say({ type: "auth.ok", auth: AUTH });
    mock.timers.tick(79_999);
    assert.equal(asked(), 1);
    mock.timers.tick(1);
    await settled();
    assert.deepEqual(
      socket().authentications.map(({ token }) => token),
      ["t1", "t2"],
    );
    assert.equal(FakeSocket.all.length, 1);
  });

  test("that is asked for many times at once is renewed once", async () => {
    let give: (token: string) => void = () => {};
    let asked = 0;
    const token = () => (asked++ === 0 ? "t1" : new Promise<string>((resolve) => (give = resolve)));
    const { client, socket } = await open({ token });
    const heard: string[] = [];
    client.on("auth.required", ({ reason }) => heard.push(reason));
    const required = { type: "auth.required", reason: "expired", deadline_ms: 1, held: { inbound: 1, outbound: 0 } };
    for (let times = 0; times < 5; times++) socket().say(required);
    await settled();
    give("t2");
    await settled();
    assert.equal(asked, 2);
    assert.equal(heard.length, 5);
    assert.deepEqual(
      socket().authentications.map((sent) => sent.token),
      ["t1", "t2"],
    );
  });

  test("that cannot be checked just now is tried again when the server says", async () => {
    const { client, socket, asked } = await open();
    const errors: string[] = [];
    client.on("error", ({ code }) => errors.push(code));
    const error = { code: "auth_unavailable", message: "", temporary: true, retry_after_ms: 700 };
    socket().say({ type: "error", id: socket().authentications[0]?.id, error });
    mock.timers.tick(699);
    await settled();
    assert.equal(asked(), 1);
    mock.timers.tick(1);
    await settled();
    assert.deepEqual([asked(), errors], [2, ["auth_unavailable"]]);
  });
});

describe("a push", () => {
  test("that comes twice is told once", async () => {
    const { client, socket } = await open();
    const heard: unknown[] = [];
    client.on("push", ({ payload }) => heard.push(payload));
    socket().say({ type: "push", id: "p1", payload: 1 });
    socket().say({ type: "push", id: "p1", payload: 1 });
    socket().say({ type: "push", id: "p2", payload: 2 });
    assert.deepEqual(heard, [1, 2]);
  });
});

describe("a lost connection", () => {
  test("comes back with a fresh token, the resume key, and what was not answered", async () => {
    const { client, socket, asked } = await open();
    socket().say({ type: "auth.ok", auth: AUTH });
    const answer = client.request("order");
    const id = socket().asked[0]?.id;
    socket().end(1012, "restart");
    assert.deepEqual(client.state, { name: "waiting", retryInMs: 250, because: "1012 restart" });
    mock.timers.tick(250);
    await settled();
    assert.equal(asked(), 2);
    socket().accept();
    assert.deepEqual({ ...socket().authentications[0], id: "" }, {
      id: "",
      type: "auth.authenticate",
      token: "t2",
      payload: { resume: "c.s" },
    });
    assert.deepEqual(
      socket().asked.map((sent) => sent.id),
      [id],
    );
    socket().say({ type: "reply", id, payload: "done" });
    assert.equal(await answer, "done");
  });

  test("is waited for longer each time, up to a limit, and briefly again after a success", async () => {
    const { client, socket } = bench({ backoffMs: { least: 100, most: 350 } });
    client.connect();
    const waits: number[] = [];
    client.on("state", (state) => state.name === "waiting" && waits.push(state.retryInMs));
    for (let times = 0; times < 4; times++) {
      await settled();
      socket().end(1006);
      mock.timers.tick(350);
    }
    await settled();
    socket().accept();
    socket().say({ type: "auth.ok", auth: AUTH });
    socket().end(1006);
    assert.deepEqual(waits, [100, 200, 350, 350, 100]);
  });

  test("is not waited for when the server says to stop, and what waits is refused", async () => {
    for (const code of [4501, 4503, 4505, 4509]) {
      const { client, socket } = await open();
      const answer = client.request("order");
      socket().end(code, "no");
      assert.equal((await refusal(answer)).code, "closed");
      mock.timers.tick(60_000);
      await settled();
      assert.equal(FakeSocket.all.length, 1, `${code}`);
      assert.deepEqual(client.state, { name: "stopped", code, reason: "no" });
      assert.equal((await refusal(client.request("again"))).code, "closed");
    }
  });

  test("without a token is tried again, and told", async () => {
    let asked = 0;
    const token = () => (asked++ === 0 ? Promise.reject(new Error("the issuer is away")) : "t2");
    const { client } = bench({ token });
    const errors: string[] = [];
    client.on("error", ({ code }) => errors.push(code));
    client.connect();
    await settled();
    assert.equal(client.state.name, "waiting");
    mock.timers.tick(250);
    await settled();
    assert.deepEqual([errors, FakeSocket.all.length], [["no_token"], 1]);
  });

  test("that was closed by us stays closed", async () => {
    const { client, socket } = await open();
    const answer = client.request("order");
    client.close();
    socket().end(1000);
    assert.equal((await refusal(answer)).code, "closed");
    mock.timers.tick(60_000);
    await settled();
    assert.deepEqual([client.state.name, FakeSocket.all.length], ["closed", 1]);
  });
});

describe("a page", () => {
  /** A window and a document, as far as the client looks at them. */
  function page(): { visible(): void; online(): void; leave(): void } {
    const window = new EventTarget();
    const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
    Object.assign(globalThis, { window, document });
    return {
      visible: () => document.dispatchEvent(new Event("visibilitychange")),
      online: () => window.dispatchEvent(new Event("online")),
      leave: () => {
        Reflect.deleteProperty(globalThis, "window");
        Reflect.deleteProperty(globalThis, "document");
      },
    };
  }

  test("that is seen again renews what has grown old, and only that", async (t) => {
    const { visible, leave } = page();
    t.after(leave);
    const { socket, asked } = await open();
    socket().say({ type: "auth.ok", auth: AUTH });
    visible();
    await settled();
    assert.equal(asked(), 1);
    // Timers of a hidden page may stand still.
    mock.timers.reset();
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: 90_000 });
    visible();
    await settled();
    assert.equal(asked(), 2);
  });

  test("whose network is back connects at once", async (t) => {
    const { online, leave } = page();
    t.after(leave);
    const { client, socket } = await open();
    socket().end(1006);
    assert.equal(client.state.name, "waiting");
    online();
    await settled();
    assert.equal(FakeSocket.all.length, 2);
  });
});
