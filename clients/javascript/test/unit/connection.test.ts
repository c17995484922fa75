import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Client, type State } from "../../src/index.js";
import { AUTH, bench, FakeSocket, jwt, live, open, pass, refusal, settled, withManualTime } from "./fake.js";

withManualTime();

describe("a lost connection", () => {
  test("comes back with a fresh token, the resume key, and what was not answered", async () => {
    const { client, socket, asked } = await live();
    const answer = client.request("order");
    const id = socket().asked[0]?.id;
    socket().end(1012, "restart");
    assert.deepEqual(client.state, { name: "waiting", retryInMs: 250, because: "1012 restart" });
    await pass(250);
    assert.equal(asked(), 2);
    socket().accept();
    const [first, second] = socket().sent;
    const authenticate = { id: first?.id, type: "auth.authenticate", token: jwt(2), payload: { resume: "c.s" } };
    assert.deepEqual([first, second], [authenticate, { id, type: "order", token: jwt(2) }]);
    socket().reply(id, "done");
    assert.equal(await answer, "done");
  });

  test("loses no answer that it is owed: what the server had answered meanwhile, or answers again, settles each request once", async () => {
    const { client, socket } = await live();
    const settledAs: unknown[] = [];
    const requests = [1, 2].map((n) => client.request("order", n).then((payload) => settledAs.push([n, payload])));
    const ids = socket().asked.map(({ id }) => id);
    socket().end(1006);
    await pass(250);
    socket().accept();
    assert.deepEqual(socket().authentications[0]?.payload, { resume: "c.s" });
    assert.deepEqual(
      socket().asked.map(({ id }) => id),
      ids,
    );
    socket().authenticate({ ...AUTH, resume: "d.s" });
    // What waited for us comes, for the first; both are answered where they were sent again.
    socket().reply(ids[0], "then");
    socket().reply(ids[1], "now");
    socket().reply(ids[0], "once more");
    await Promise.all(requests);
    await settled();
    assert.deepEqual(settledAs, [
      [1, "then"],
      [2, "now"],
    ]);
    assert.equal(client.pending, 0);
  });

  test("loses what was sent where the server does not know it again, unless its caller says that it may come twice", async () => {
    const { client, socket } = await live();
    const { idempotency: _, ...forgetful } = AUTH;
    socket().say({ type: "auth.ok", auth: forgetful });
    const payment = client.request("pay");
    const look = client.request("look", undefined, { idempotent: true });
    const never = client.request("never", undefined, { idempotent: false });
    const ids = socket().asked.map(({ id }) => id);
    const held = client.request("held");
    const heldId = socket().asked.at(-1)?.id;
    socket().end(1012, "restart");
    // What was never sent cannot be lost.
    const later = client.request("later");
    await pass(250);
    socket().accept();
    assert.deepEqual(
      socket().asked.map(({ type }) => type),
      ["look", "later"],
    );
    socket().reply(ids[1], "seen");
    socket().reply(socket().asked[1]?.id, "done");
    assert.deepEqual([await look, await later], ["seen", "done"]);
    // What the server held for this connection is answered here.
    socket().reply(heldId, "kept");
    assert.equal(await held, "kept");
    const both = Promise.all([payment, never].map(refusal));
    await pass(5_000);
    for (const { code, temporary, effect } of await both) assert.deepEqual([code, temporary, effect], ["lost", false, "unknown"]);
  });

  test("is waited for longer each time, up to a limit, and briefly again after it has held", async () => {
    const { client, socket } = bench({ backoffMs: { least: 100, most: 350 } });
    client.connect();
    const waits: number[] = [];
    client.on("state", (state) => state.name === "waiting" && waits.push(state.retryInMs));
    for (let times = 0; times < 4; times++) {
      await settled();
      socket().end(1006);
      await pass(350);
    }
    for (const holdsMs of [4_999, 5_000]) {
      socket().accept();
      socket().authenticate(AUTH);
      await pass(holdsMs);
      socket().end(1006);
      await pass(350);
    }
    assert.deepEqual(waits, [100, 200, 350, 350, 350, 100]);
  });

  test("is not waited for by all clients as long", async () => {
    const waits = [];
    for (const random of [0, 0.5, 1]) {
      const { client, socket } = await live({ random: () => random });
      socket().end(1006);
      waits.push(client.state.name === "waiting" && client.state.retryInMs);
    }
    assert.deepEqual(waits, [125, 188, 250]);
  });

  for (const code of [1001, 1002, 1006, 1012, 4401, 4408, 4499]) {
    test(`with ${code} comes back soon`, async () => {
      const { client, socket } = await live();
      socket().end(code);
      assert.deepEqual(client.state, { name: "waiting", retryInMs: 250, because: `${code}` });
    });
  }

  for (const code of [1011, 1013, 4410, 4429]) {
    test(`with ${code}, which says that we ask too much, does not come back at once`, async () => {
      const { client, socket } = await live();
      socket().end(code);
      assert.deepEqual(client.state, { name: "waiting", retryInMs: 2_000, because: `${code}` });
    });
  }

  for (const [code, word] of [
    [4501, "token_invalid"],
    [4503, "token_revoked"],
    [4505, "connection_limit"],
    [4510, "replaced"],
    [4509, "identity_mismatch"],
    [4599, "stopped"],
  ] as const) {
    test(`with ${code} does not come back, and what waits is refused with ${word}`, async () => {
      const { client, socket } = await live();
      const answer = client.request("order");
      socket().end(code, "no");
      const error = await refusal(answer);
      assert.equal(error.code, word);
      assert.deepEqual(client.state, { name: "stopped", error, closeCode: code });
      await pass(100_000);
      assert.equal(FakeSocket.all.length, 1);
      assert.equal((await refusal(client.request("again"))).code, word);
      client.connect();
      await settled();
      assert.equal(FakeSocket.all.length, 2);
      socket().accept();
      assert.equal(socket().authentications[0]?.payload, undefined);
    });
  }

  test("on which the server choked comes back without the largest message", async () => {
    const { client, socket } = await live();
    const small = client.request("small", "x", { id: "small" });
    const large = client.request("large", "x".repeat(1_000));
    socket().end(1009, "too big");
    assert.equal((await refusal(large)).code, "too_large");
    await pass(250);
    socket().accept();
    assert.deepEqual(
      socket().asked.map(({ type }) => type),
      ["small"],
    );
    socket().reply("small", 1);
    assert.equal(await small, 1);
  });

  test("may have left a request that is being handled, and whose answer is waited for", async () => {
    const { client, socket } = await live();
    const answer = client.request("order", 1, { id: "x" });
    const late = client.request("order", 2, { id: "y", timeoutMs: 1_000 });
    socket().end(1006);
    await pass(250);
    socket().accept();
    socket().authenticate();
    for (const id of ["x", "y"]) socket().refuse(id, "busy", { temporary: true, retry_after_ms: 700 });
    await pass(699);
    assert.equal(socket().asked.length, 2);
    await pass(1);
    assert.deepEqual(socket().asked.slice(2), socket().asked.slice(0, 2));
    socket().refuse("x", "busy", { temporary: true });
    socket().refuse("y", "busy", { temporary: true });
    // The first copy's comes.
    socket().reply("x", "done");
    assert.equal(await answer, "done");
    await pass(1_000);
    assert.equal((await refusal(late)).code, "timeout");
    await pass(10_000);
    assert.equal(socket().asked.length, 4);
  });

  test("has a request that was postponed sent at once by the next one, and once", async () => {
    const { client, socket } = await live();
    void client.request("order").catch(() => {});
    for (const sockets of [2, 3]) {
      socket().end(1006);
      await pass(500);
      socket().accept();
      socket().authenticate();
      assert.deepEqual([FakeSocket.all.length, socket().asked.length], [sockets, 1]);
      if (sockets === 2) socket().refuse(socket().asked[0]?.id, "busy", { temporary: true, retry_after_ms: 5_000 });
    }
    await pass(10_000);
    assert.equal(socket().asked.length, 1);
  });

  test("without a token is tried again, and told", async () => {
    let asked = 0;
    const token = () => (asked++ === 0 ? Promise.reject(new Error("the issuer is away")) : jwt(2));
    const { client, errors } = bench({ token });
    client.connect();
    await settled();
    assert.equal(client.state.name, "waiting");
    await pass(250);
    assert.deepEqual([errors, FakeSocket.all.length], [["no_token"], 1]);
  });

  test("whose handshake never ends is given up", async () => {
    const { client, socket } = bench({ connectTimeoutMs: 5_000 });
    client.connect();
    await settled();
    await pass(5_000);
    assert.deepEqual([client.state.name, socket().readyState], ["waiting", 3]);
    // What comes of it later is ignored.
    socket().accept();
    socket().end(1006);
    await pass(250);
    assert.deepEqual([client.state.name, FakeSocket.all.length], ["connecting", 2]);
  });

  test("that the platform does not allow stops the client", async () => {
    class Forbidden extends FakeSocket {
      constructor() {
        super("", []);
        throw new Error("mixed content");
      }
    }
    const { client } = bench({ WebSocket: Forbidden });
    assert.equal((await refusal(client.request("order"))).code, "stopped");
    assert.equal(client.state.name, "stopped");
  });
});

describe("a client", () => {
  test("tells where it stands", async () => {
    const { client, socket } = bench();
    const states: State[] = [];
    client.on("state", (state) => states.push(state));
    client.connect();
    await settled();
    socket().accept();
    socket().authenticate();
    socket().authenticate();
    socket().end(1001, "bye");
    client.close();
    assert.deepEqual(states, [
      { name: "connecting" },
      { name: "open", authenticated: false },
      { name: "open", authenticated: true, subject: "alice" },
      { name: "waiting", retryInMs: 250, because: "1001 bye" },
      { name: "closed" },
    ]);
  });

  test("that was closed stays closed until it is told to connect", async () => {
    const { client, socket } = await live();
    const answer = client.request("order");
    client.close();
    assert.equal(socket().readyState, 3);
    socket().end(1000);
    assert.equal((await refusal(answer)).code, "closed");
    assert.equal((await refusal(client.request("later"))).code, "closed");
    await pass(100_000);
    assert.deepEqual([client.state.name, FakeSocket.all.length], ["closed", 1]);
    client.connect();
    await settled();
    assert.deepEqual([client.state.name, FakeSocket.all.length], ["connecting", 2]);
  });

  test("that waits does so no longer when it is told to connect, and connects once", async () => {
    const { client, socket } = await live();
    socket().end(1013);
    client.connect();
    client.connect();
    await settled();
    assert.deepEqual([client.state.name, FakeSocket.all.length], ["connecting", 2]);
    await pass(10_000);
    assert.equal(FakeSocket.all.length, 2);
  });

  for (const name of ["connecting", "open", "waiting", "stopped"] as const) {
    test(`that is closed by who hears that it is ${name} stays closed`, async () => {
      const { client, socket } = bench();
      client.on("state", (state) => state.name === name && client.close());
      client.connect();
      await settled();
      if (name === "open") socket().accept();
      if (name === "waiting") socket().end(1006);
      if (name === "stopped") socket().end(4503);
      await pass(100_000);
      assert.equal(client.state.name, "closed");
      assert.ok(FakeSocket.all.length <= 1);
    });
  }

  test("that cannot work is refused when it is made", () => {
    const good = { url: "wss://example.test", token: () => jwt(1), WebSocket: FakeSocket };
    for (const [options, error] of [
      [{ url: "ftp://example.test" }, TypeError],
      [{ url: "/ws" }, TypeError],
      [{ url: "" }, TypeError],
      [{ url: undefined }, TypeError],
      [{ url: "wss://" }, TypeError],
      [{ url: "wss://example.test/#here" }, TypeError],
      [{ token: jwt(1) }, TypeError],
      [{ WebSocket: undefined }, TypeError],
      [{ strategy: "implicit" }, TypeError],
      [{ maxPending: 0 }, RangeError],
      [{ requestTimeoutMs: Number.NaN }, RangeError],
      [{ backoffMs: { least: 0, most: 1 } }, RangeError],
    ] as const) {
      assert.throws(() => new Client({ ...good, ...options } as never), error, JSON.stringify(options));
    }
  });

  test("in a page may be given an address that is relative to it", async (t) => {
    Object.assign(globalThis, { location: { href: "https://app.example.test/orders" } });
    t.after(() => Reflect.deleteProperty(globalThis, "location"));
    const { socket } = await open({ url: "/ws" });
    assert.equal(socket().url, "wss://app.example.test/ws");
    // One that was forgotten is not the page's own.
    for (const url of ["", " ", undefined]) assert.throws(() => bench({ url } as never), TypeError);
  });
});
