import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { State } from "../../src/index.js";
import { AUTH, bench, type Bench, FakeSocket, jwt, jwtOf, live, open, pass, refusal, settled, withManualTime } from "./fake.js";

withManualTime();

const WITH = { heartbeatMs: 25_000 };

/** Time as it passes for a computer that is awake. */
async function listen(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 500) await pass(500);
}

/** How long it listens until the client gives up the connection. */
async function untilGivenUp({ client }: Bench): Promise<number> {
  let [passed, isOver] = [0, false];
  const because = (state: State) => state.name === "waiting" && assert.equal(state.because, "1006 the server is silent");
  const off = client.on("state", (state) => (isOver ||= because(state) !== false));
  while (!isOver) {
    assert.ok(passed < 100_000, "it is not given up");
    await pass(500);
    passed += 500;
  }
  off();
  return passed;
}

/** It sleeps: no timer runs, and the clock has gone on. */
const sleep = pass;

/** A server that answers each time a token is shown, until it is gone. */
function answering({ socket }: Bench): { isGone: boolean } {
  const server = { isGone: false };
  const answered = new Set<string>();
  const { send } = FakeSocket.prototype;
  const held = socket();
  held.send = (data) => {
    send.call(held, data);
    const shown = held.authentications.at(-1);
    if (!shown || answered.has(shown.id) || server.isGone) return;
    answered.add(shown.id);
    void Promise.resolve().then(() => held.authenticate());
  };
  return server;
}

/** A socket with pings, as that of the package `ws` has them. */
class PingingSocket extends FakeSocket {
  pings = 0;
  isTerminated = false;
  #onPong = (): void => {};

  on(name: string, listener: () => void): void {
    if (name === "pong") this.#onPong = listener;
  }

  ping(): void {
    this.pings++;
  }

  terminate(): void {
    this.isTerminated = true;
  }

  pong(): void {
    this.#onPong();
  }
}

describe("a connection that only listens", () => {
  test("and has died is given up within heartbeatMs, and replaced", async () => {
    const made = await live(WITH);
    const { socket } = made;
    await listen(10_000);
    socket().say({ type: "push", id: "p1" });
    await listen(17_500);
    assert.deepEqual(socket().shown, [jwt(1)]);
    await listen(2_500);
    assert.deepEqual(socket().shown, [jwt(1), jwt(1)]);
    assert.ok((await untilGivenUp(made)) <= 5_000);
    await listen(500);
    assert.equal(FakeSocket.all.length, 2);
    socket().accept();
    assert.deepEqual([socket().shown, socket().authentications[0]?.payload], [[jwt(2)], { resume: "c.s" }]);
  });

  test("although the clock was set back", async (t) => {
    const made = await live(WITH);
    await listen(10_000);
    const { now } = Date;
    t.mock.method(Date, "now", () => now() - 3_600_000);
    assert.ok((await untilGivenUp(made)) <= 27_000);
  });

  test("by default, too", async () => {
    const made = await live({ heartbeatMs: undefined as never });
    assert.ok((await untilGivenUp(made)) <= 25_000);
  });

  test("is probed with the token that it has, which no event tells, and is renewed at its time", async () => {
    const made = await live(WITH);
    answering(made);
    const told: unknown[] = [];
    made.client.on("auth", (auth) => told.push(auth));
    await listen(75_500);
    const probes = made.socket().shown.length - 1;
    assert.ok(probes >= 3 && probes <= 4, `${probes}`);
    assert.deepEqual([new Set(made.socket().shown), made.asked(), told], [new Set([jwt(1)]), 1, []]);
    await listen(500);
    assert.deepEqual([made.socket().shown.at(-1), made.asked(), told.length], [jwt(2), 2, 1]);
    assert.deepEqual([made.client.state.name, FakeSocket.all.length], ["open", 1]);
  });

  test("is not probed while something comes", async () => {
    const { socket } = await live(WITH);
    for (let times = 0; times < 7; times++) {
      await listen(10_000);
      socket().say({ type: "push", id: `p${times}` });
    }
    assert.deepEqual(socket().shown, [jwt(1)]);
  });

  for (const heartbeatMs of [0, null]) {
    test(`is not probed with heartbeatMs ${heartbeatMs}`, async () => {
      const { client, socket } = await live({ heartbeatMs });
      await listen(70_000);
      await sleep(5_000);
      assert.deepEqual([socket().shown, client.state.name], [[jwt(1)], "open"]);
    });
  }

  test("is probed by a ping where there are pings", async () => {
    const made = await live({ ...WITH, WebSocket: PingingSocket });
    const pinging = made.socket() as PingingSocket;
    await listen(20_000);
    assert.equal(pinging.pings, 1);
    pinging.pong();
    await listen(17_500);
    assert.equal(pinging.pings, 1);
    await listen(2_500);
    assert.equal(pinging.pings, 2);
    assert.ok((await untilGivenUp(made)) <= 5_000);
    assert.deepEqual([pinging.shown, pinging.isTerminated], [[jwt(1)], true]);
  });

  test("is probed by a request for its limits where the server has told them", async () => {
    const made = await live(WITH);
    const { socket } = made;
    const limits = { type: "limits", payload: { max_message_bytes: 65_536 } };
    socket().say(limits);
    await listen(20_000);
    assert.deepEqual(socket().sent.at(-1), { type: "limits" });
    socket().say(limits);
    assert.ok((await untilGivenUp(made)) <= 25_000);
    assert.deepEqual(socket().shown, [jwt(1)]);
  });

  test("is not probed after it has logged out, where the server has not told its limits: no token is shown", async () => {
    const { client, socket } = await live(WITH);
    void client.forget();
    socket().reply(socket().sent.at(-1)?.id, null);
    await listen(50_000);
    assert.deepEqual([socket().shown, client.state.name], [[jwt(1)], "open"]);
  });
});

describe("a request", () => {
  test("that waits for its reply is the probe, for a minute", async () => {
    const made = await live({ ...WITH, requestTimeoutMs: 600_000 });
    const { client, socket } = made;
    socket().say({ type: "auth.ok", auth: { ...AUTH, expires_in: 1_000, refresh_in: 800 } });
    void client.request("slow").catch(() => {});
    await listen(59_500);
    assert.deepEqual(socket().shown, [jwt(1)]);
    await listen(2_500);
    assert.deepEqual(socket().shown, [jwt(1), jwt(1)]);
    assert.ok((await untilGivenUp(made)) <= 5_000);
  });

  test("that gets no reply in time has the connection probed at once", async () => {
    const { client, socket } = await live(WITH);
    await listen(10_000);
    const error = refusal(client.request("lost", undefined, { timeoutMs: 4_000 }));
    await listen(4_000);
    assert.equal((await error).code, "timeout");
    assert.deepEqual(socket().shown, [jwt(1), jwt(1)]);
    await listen(5_000);
    assert.equal(client.state.name, "waiting");
  });

  test("of one identity is not sent again as another, when its dead connection is replaced", async () => {
    let subject = "alice";
    const { client, socket } = await live({ ...WITH, token: () => jwtOf(subject, 1) });
    await listen(15_000);
    const error = refusal(client.request("pay", undefined, { idempotent: true }));
    subject = "bob";
    await sleep(10_000);
    await listen(6_000);
    assert.equal((await error).code, "identity_mismatch");
    socket().accept();
    socket().authenticate();
    assert.deepEqual([FakeSocket.all.length, socket().asked], [2, []]);
    assert.equal(socket().authentications[0]?.payload, undefined);
  });
});

describe("a computer that was suspended", () => {
  test("probes when it resumes, and replaces a dead connection within seconds", async () => {
    const { client, socket } = await live(WITH);
    await listen(1_000);
    await sleep(12_000);
    assert.deepEqual(socket().shown, [jwt(1), jwt(1)]);
    void client.request("order").catch(() => {});
    await listen(5_000);
    assert.equal(client.state.name, "waiting");
  });

  test("keeps a connection that lives", async () => {
    const made = await live(WITH);
    answering(made);
    await listen(1_000);
    await sleep(12_000);
    await listen(10_000);
    assert.deepEqual([made.socket().shown.length, made.client.state.name], [2, "open"]);
  });

  test("does not probe what has brought something since", async () => {
    const { socket } = await live(WITH);
    await listen(1_000);
    // What has arrived meanwhile may be told before its timers run.
    const { say } = socket();
    setTimeout(() => say.call(socket(), { type: "push", id: "p" }), 500);
    await sleep(12_000);
    assert.deepEqual(socket().shown, [jwt(1)]);
  });

  test("for longer than its token lives shows a fresh one, and gives up within seconds if that is not answered", async () => {
    const { client, socket, asked } = await live(WITH);
    await listen(1_000);
    await sleep(1_000_000);
    assert.deepEqual([socket().shown, asked()], [[jwt(1), jwt(2)], 2]);
    await listen(4_500);
    assert.equal(client.state.name, "open");
    await listen(500);
    assert.equal(client.state.name, "waiting");
  });

  test("while it probed gives the probe its time", async () => {
    const made = await live(WITH);
    const { socket, client } = made;
    await listen(20_000);
    assert.equal(socket().shown.length, 2);
    await sleep(60_000);
    assert.equal(client.state.name, "open");
    socket().say({ type: "auth.ok", id: socket().authentications[1]?.id, auth: AUTH });
    await listen(5_000);
    assert.equal(client.state.name, "open");
  });
});

describe("a probe", () => {
  for (const [code, temporary, asks] of [
    ["token_revoked", false, 2],
    ["auth_unavailable", true, 1],
  ] as const) {
    test(`that is refused with ${code} ${temporary ? "proves that the server is there" : "wants a fresh token"}`, async () => {
      const { client, socket, asked, errors } = await live(WITH);
      await listen(20_000);
      socket().refuse(socket().authentications.at(-1)?.id, code, { temporary });
      await settled();
      assert.deepEqual([asked(), client.state.name, errors], [asks, "open", []]);
      assert.equal(socket().shown.length, 1 + asks);
    });
  }

  test("that is under way keeps no fresh token from being shown", async () => {
    const { socket } = await live(WITH);
    await listen(20_000);
    socket().require("expiring");
    await settled();
    assert.deepEqual(socket().shown, [jwt(1), jwt(1)]);
    socket().authenticate();
    await settled();
    assert.deepEqual(socket().shown, [jwt(1), jwt(1), jwt(2)]);
  });

  test("says nothing of a token that was refused, and is not one more try", async () => {
    const { client, socket } = await open({ ...WITH, backoffMs: { least: 250, most: 250 } });
    const states: State[] = [];
    client.on("state", (state) => states.push(state));
    for (let times = 0; times < 4; times++) {
      socket().refuse(socket().authentications.at(-1)?.id, "auth_unavailable", { temporary: true, retry_after_ms: 28_000 });
      await listen(28_000);
      assert.deepEqual([socket().shown.length, states], [times + 2, []]);
    }
  });

  test("that a server is too slow for has it left alone for longer each time", async () => {
    const { client, socket } = bench({ ...WITH, backoffMs: { least: 1_000, most: 8_000 } });
    const waits: number[] = [];
    client.on("state", (state) => state.name === "waiting" && waits.push(state.retryInMs));
    client.connect();
    await settled();
    for (let times = 0; times < 4; times++) {
      socket().accept();
      socket().authenticate();
      await listen(25_000);
      await listen(8_000);
    }
    assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000]);
    // One that was heard of has held.
    socket().accept();
    socket().authenticate();
    await listen(10_000);
    socket().say({ type: "push", id: "p" });
    await listen(26_000);
    assert.equal(waits.at(-1), 1_000);
  });
});

test("heartbeatMs that no network keeps is refused", () => {
  for (const heartbeatMs of [-1, 1, 999, Number.NaN, "25000s"]) {
    assert.throws(() => bench({ heartbeatMs: heartbeatMs as never }), RangeError, String(heartbeatMs));
  }
});
