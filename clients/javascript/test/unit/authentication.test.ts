import assert from "node:assert/strict";
import { describe, mock, test } from "node:test";

import { CountersignError } from "../../src/index.js";
import { AUTH, bench, FakeSocket, jwt, jwtOf, live, liveWith, open, pass, Provider, refusal, settled, withManualTime } from "./fake.js";

withManualTime();

describe("authentication", () => {
  test("of a connection comes first, and in the explicit strategy is waited for", async () => {
    const { client, socket } = await open({ strategy: "explicit" });
    void client.request("order").catch(() => {});
    assert.deepEqual(
      socket().sent.map(({ type, token }) => [type, token]),
      [["auth.authenticate", jwt(1)]],
    );
    socket().authenticate();
    assert.deepEqual(
      socket().asked.map(({ type, token }) => [type, token]),
      [["order", undefined]],
    );
    assert.deepEqual(client.state, { name: "open", authenticated: true, subject: "alice" });
  });

  test("is told without the key to what the connection will leave", async () => {
    const { client, socket } = await open();
    const heard: unknown[] = [];
    client.on("auth", (auth) => heard.push(auth));
    socket().authenticate();
    assert.deepEqual(heard, [{ subject: "alice", expires_in: 100, refresh_in: 80 }]);
  });

  test("is renewed before refresh_in, on the same connection, and not by all clients at once", async () => {
    for (const [random, atMs] of [
      [0, 68_000],
      [1, 76_000],
    ] as const) {
      const { socket, asked } = await live({ random: () => random });
      await pass(atMs - 1);
      assert.equal(asked(), 1);
      await pass(1);
      assert.deepEqual([socket().shown, FakeSocket.all.length], [[jwt(1), jwt(2)], 1]);
      socket().authenticate();
      await pass(atMs);
      assert.equal(asked(), 3);
    }
  });

  test("by tokens too short to live by is not renewed all the time", async () => {
    const { socket, asked } = await open();
    socket().authenticate({ subject: "alice", expires_in: 1, refresh_in: 0 });
    await pass(999);
    assert.equal(asked(), 1);
  });

  test("by a token that is near its end already is not renewed more than once a second, whatever asks for it", async () => {
    const { client, socket, asked } = await live();
    const before = asked();
    for (let times = 0; times < 50; times++) {
      socket().authenticate({ ...AUTH, expires_in: 0, refresh_in: 0 });
      socket().require("expiring");
      void client.request("order").catch(() => {});
      await pass(100);
    }
    assert.ok(asked() - before <= 5, `${asked() - before} in five seconds`);
    assert.ok(asked() - before >= 3, `${asked() - before} in five seconds`);
    client.close();
  });

  test("that is asked for many times at once is renewed once", async () => {
    const provider = new Provider();
    const { client, socket } = await liveWith(provider);
    const heard: string[] = [];
    client.on("auth.required", ({ reason }) => heard.push(reason));
    for (let times = 0; times < 5; times++) socket().require("expiring");
    await settled();
    await provider.give(jwt(2));
    // It was sent before the server saw the answer.
    socket().require("expiring");
    socket().authenticate();
    await settled();
    assert.deepEqual([provider.signals.length, heard.length, socket().shown], [2, 6, [jwt(1), jwt(2)]]);
  });

  test("that is being renewed delays no request until it has expired", async () => {
    for (const strategy of ["per-message", "explicit"] as const) {
      const provider = new Provider();
      const { client, socket } = await liveWith(provider, { strategy, requestTimeoutMs: 1_000_000, connectTimeoutMs: 60_000 });
      await pass(76_000);
      void client.request("early").catch(() => {});
      await pass(24_000);
      void client.request("late").catch(() => {});
      assert.deepEqual(
        socket().asked.map(({ type }) => type),
        ["early"],
      );
      await provider.give(jwt(2));
      assert.deepEqual(
        socket().sent.map(({ type }) => type),
        ["auth.authenticate", "early", "auth.authenticate", "late"],
      );
    }
  });

  test("that has expired is said to, and in the explicit strategy waited for", async () => {
    const { client, socket } = await live({ strategy: "explicit" });
    socket().require("expired");
    assert.deepEqual(client.state, { name: "open", authenticated: false });
    void client.request("order").catch(() => {});
    await settled();
    assert.equal(socket().asked.length, 0);
    socket().authenticate();
    assert.equal(socket().asked.length, 1);
  });

  test("that cannot be checked at present is tried again when the server says, and later each time", async () => {
    const { socket, asked, errors } = await open();
    socket().refuse(socket().authentications.at(-1)?.id, "auth_unavailable", { temporary: true, retry_after_ms: 1_700 });
    await pass(1_699);
    assert.equal(asked(), 1);
    await pass(1);
    assert.equal(asked(), 2);
    socket().refuse(socket().authentications.at(-1)?.id, "auth_unavailable", { temporary: true });
    await pass(1_999);
    assert.equal(asked(), 2);
    await pass(1);
    assert.deepEqual([asked(), errors], [3, ["auth_unavailable", "auth_unavailable"]]);
  });

  test("by a token that was stale already is tried again, at once if the server asks", async () => {
    const { socket, asked } = await open();
    socket().refuse(socket().authentications.at(-1)?.id, "token_expired");
    socket().require("expired");
    await settled();
    assert.deepEqual(socket().shown, [jwt(1), jwt(2)]);
    socket().authenticate();
    await pass(10_000);
    assert.equal(asked(), 2);
  });

  for (const code of ["token_invalid", "token_revoked", "identity_mismatch"]) {
    test(`that is refused with ${code} stops the client`, async () => {
      const { client, socket } = await open();
      const answer = client.request("order");
      socket().refuse(socket().authentications.at(-1)?.id, code);
      assert.equal((await refusal(answer)).code, code);
      assert.equal(client.state.name, "stopped");
      assert.equal(socket().readyState, 3);
      await pass(100_000);
      assert.equal(FakeSocket.all.length, 1);
    });
  }

  test("that was revoked while a token was on its way is tried once more", async () => {
    const { client, socket, asked } = await live();
    await pass(76_000);
    socket().require("revoked");
    socket().refuse(socket().authentications.at(-1)?.id, "token_revoked");
    await pass(1_250);
    assert.deepEqual([client.state.name, asked()], ["open", 3]);
  });

  test("that the server never answers means that the server is gone", async () => {
    const { client } = await open();
    await pass(60_000);
    assert.deepEqual(client.state, { name: "waiting", retryInMs: 250, because: "1006 the server is silent" });
  });
});

describe("a token provider", () => {
  test("that fails before a renewal is asked again, and later each time", async () => {
    const provider = new Provider();
    const { socket, errors } = await liveWith(provider, { connectTimeoutMs: 1_000_000 });
    await pass(76_000);
    await provider.fail();
    await pass(999);
    assert.equal(provider.signals.length, 2);
    await pass(1);
    await provider.fail();
    await pass(1_999);
    assert.equal(provider.signals.length, 3);
    await pass(1);
    await provider.give(jwt(4));
    assert.deepEqual([socket().shown, errors], [[jwt(1), jwt(4)], ["no_token", "no_token"]]);
  });

  test("that gives no token is not believed", async () => {
    for (const token of ["", "Internal Server Error", "a.b", " a.b.c", '{"token":"a.b.c"}', undefined as unknown as string]) {
      const { client, errors } = bench({ token: () => token });
      client.connect();
      await settled();
      assert.deepEqual([client.state.name, errors, FakeSocket.all.length], ["waiting", ["no_token"], 0]);
      client.close();
    }
  });

  test("that never answers is given up, and told so", async () => {
    const provider = new Provider();
    const { client, errors } = bench({ token: provider.token, connectTimeoutMs: 5_000 });
    client.connect();
    await settled();
    await pass(5_000);
    assert.deepEqual([client.state.name, errors, provider.signals[0]?.aborted], ["waiting", ["no_token"], true]);
    await pass(250);
    assert.equal(provider.signals.length, 2);
  });

  test("that says that there will be none stops the client", async () => {
    const why = new CountersignError("no_token", "no user is logged in", false);
    const { client } = bench({ token: () => Promise.reject(why) });
    const answer = client.request("order");
    assert.equal(await refusal(answer), why);
    assert.deepEqual(client.state, { name: "stopped", error: why });

    const provider = new Provider();
    const other = await liveWith(provider);
    await pass(76_000);
    await provider.fail(why);
    assert.deepEqual([other.client.state, other.socket().readyState], [{ name: "stopped", error: why }, 3]);
  });

  test("is asked by one at a time, also across a reconnect", async () => {
    const provider = new Provider();
    const { socket } = await liveWith(provider);
    await pass(76_000);
    socket().end(1006);
    await pass(250);
    assert.equal(provider.signals.length, 2);
    await provider.give(jwt(2));
    socket().accept();
    assert.deepEqual([socket().shown, provider.signals.length], [[jwt(2)], 2]);
  });
});

describe("the key to what a connection leaves", () => {
  test("is shown by the next one until it is taken, and not after that", async () => {
    const { socket } = await live();
    const payloads = () => socket().authentications.map(({ payload }) => payload);
    socket().end(1006);
    await pass(250);
    socket().accept();
    assert.deepEqual(payloads(), [{ resume: "c.s" }]);
    socket().refuse(socket().authentications[0]?.id, "auth_unavailable", { temporary: true });
    await pass(1_000);
    assert.deepEqual(payloads(), [{ resume: "c.s" }, { resume: "c.s" }]);
    socket().authenticate({ ...AUTH, resume: "d.s" });
    await pass(76_000);
    assert.equal(payloads()[2], undefined);
  });
});

describe("logging out", () => {
  test("says so, refuses what waits, and shows no token before the next request", async () => {
    const { client, socket, asked } = await live({ strategy: "explicit" });
    const answer = client.request("order");
    const forgotten = client.forget();
    assert.equal((await refusal(answer)).code, "closed");
    assert.deepEqual(client.state, { name: "open", authenticated: false });
    const last = socket().sent.at(-1);
    assert.equal(last?.type, "auth.logout");
    socket().say({ type: "auth.ok", id: last?.id });
    await forgotten;
    socket().require("missing");
    await pass(1_000_000);
    assert.equal(asked(), 1);

    void client.request("order").catch(() => {});
    await settled();
    assert.deepEqual(socket().shown, [jwt(1), jwt(2)]);
    socket().authenticate({ ...AUTH, subject: "bob" });
    assert.deepEqual(
      [client.state, socket().asked.length],
      [{ name: "open", authenticated: true, subject: "bob" }, 2],
    );
  });

  test("is not undone by what was shown before it", async () => {
    const { client, socket } = await open({ strategy: "explicit" });
    const { id } = socket().authentications[0] ?? {};
    const forgotten = client.forget();
    socket().say({ type: "auth.ok", id, auth: AUTH });
    socket().say({ type: "auth.ok", id: socket().sent.at(-1)?.id });
    await forgotten;
    assert.deepEqual(client.state, { name: "open", authenticated: false });
  });

  test("leaves no token that a message could still carry", async () => {
    const { client, socket } = await live();
    const forgotten = client.forget();
    socket().say({ type: "auth.ok", id: socket().sent.at(-1)?.id });
    await forgotten;
    void client.request("order").catch(() => {});
    await settled();
    assert.deepEqual(
      socket().sent.slice(2).map(({ type, token }) => [type, token]),
      [
        ["auth.authenticate", jwt(2)],
        ["order", jwt(2)],
      ],
    );
  });

  test("ends with the connection if the server does not do it, and the client does not come back by itself", async () => {
    for (const fail of [
      (socket: FakeSocket) => socket.end(1006),
      (socket: FakeSocket) => socket.refuse(socket.sent.at(-1)?.id, "auth_unavailable"),
    ]) {
      const { client, socket } = await live();
      const forgotten = client.forget();
      fail(socket());
      await forgotten;
      assert.deepEqual([client.state.name, socket().readyState], ["closed", 3]);
      await pass(100_000);
      assert.equal(FakeSocket.all.length, 1);
      void client.request("order").catch(() => {});
      await settled();
      assert.equal(FakeSocket.all.length, 2);
    }
  });

  test("before there is a connection ends the attempt", async () => {
    const provider = new Provider();
    const { client } = bench({ token: provider.token });
    const answer = client.request("order");
    await settled();
    await client.forget();
    assert.equal((await refusal(answer)).code, "closed");
    assert.deepEqual([client.state.name, provider.signals[0]?.aborted], ["closed", true]);
  });

  test("is undone by connecting", async () => {
    const { client, socket } = await live();
    const forgotten = client.forget();
    socket().say({ type: "auth.ok", id: socket().sent.at(-1)?.id });
    await forgotten;
    client.connect();
    await settled();
    assert.deepEqual(socket().shown, [jwt(1), jwt(2)]);
  });
});

describe("a page", () => {
  /** A document, and the network's events, as far as the client looks at them. */
  function page(): { visible(): void; online(): void; tell(name: string): void; leave(): void } {
    const scope = new EventTarget();
    const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
    const addEventListener = scope.addEventListener.bind(scope);
    const removeEventListener = scope.removeEventListener.bind(scope);
    Object.assign(globalThis, { document, addEventListener, removeEventListener });
    return {
      visible: () => document.dispatchEvent(new Event("visibilitychange")),
      online: () => scope.dispatchEvent(new Event("online")),
      tell: (name) => (name.startsWith("page") ? scope : document).dispatchEvent(new Event(name)),
      leave: () => {
        for (const name of ["document", "addEventListener", "removeEventListener"]) Reflect.deleteProperty(globalThis, name);
      },
    };
  }

  /** Time passes, but timers of a hidden page may stand still. */
  function sleep(ms: number): void {
    mock.timers.setTime(Date.now() + ms);
  }

  test("that is seen again renews what was proved a while ago, and only that", async (t) => {
    const { visible, leave } = page();
    t.after(leave);
    const { socket, asked } = await live();
    sleep(29_000);
    visible();
    await settled();
    assert.equal(asked(), 1);
    sleep(1_000);
    visible();
    visible();
    await settled();
    assert.deepEqual([asked(), socket().shown.length], [2, 2]);
  });

  test("whose token grew old while it slept renews it", async (t) => {
    const { visible, leave } = page();
    t.after(leave);
    const { socket, asked } = await open();
    socket().authenticate({ ...AUTH, expires_in: 10, refresh_in: 8 });
    sleep(9_000);
    visible();
    await settled();
    assert.equal(asked(), 2);
  });

  test("whose network is back finds out whether the connection lives", async (t) => {
    const { online, leave } = page();
    t.after(leave);
    const { client, socket } = await live();
    online();
    await settled();
    assert.equal(socket().shown.length, 2);
    await pass(60_000);
    assert.equal(client.state.name, "waiting");
  });

  test("whose network is back, or that is seen again, connects soon", async (t) => {
    const { online, visible, leave } = page();
    t.after(leave);
    const { client, socket } = await live({ backoffMs: { least: 30_000, most: 30_000 } });
    for (const [wake, sockets] of [
      [online, 2],
      [visible, 3],
    ] as const) {
      socket().end(1006);
      assert.equal(client.state.name, "waiting");
      wake();
      await pass(1_500);
      assert.equal(FakeSocket.all.length, sockets);
    }
    client.close();
    online();
    await pass(60_000);
    assert.equal(FakeSocket.all.length, 3);
  });

  test("that wakes again and again connects once a second at most, and not all clients at once", async (t) => {
    const { online, visible, leave } = page();
    t.after(leave);
    const made = [];
    for (const random of [0, 1]) {
      const { client, socket } = await live({ random: () => random, backoffMs: { least: 30_000, most: 30_000 } });
      const since = FakeSocket.all.length;
      for (let times = 0; times < 30; times++) {
        if (socket().readyState < 2) socket().end(1006);
        online();
        visible();
        await pass(100);
      }
      made.push(FakeSocket.all.length - since);
      client.close();
    }
    assert.deepEqual(made, [3, 2]);
  });

  test("that wakes does not come back to a server that has too much to do sooner than that is told", async (t) => {
    const { online, visible, leave } = page();
    t.after(leave);
    const { socket } = await live();
    socket().end(4429);
    for (let times = 0; times < 19; times++) {
      online();
      visible();
      await pass(100);
    }
    assert.equal(FakeSocket.all.length, 1);
    await pass(600);
    assert.equal(FakeSocket.all.length, 2);
  });

  for (const [sleeps, wakes] of [
    ["freeze", "resume"],
    ["pagehide", "pageshow"],
  ] as const) {
    test(`that is about to sleep (${sleeps}) closes its connection, keeps what waits, and comes back when it wakes`, async (t) => {
      const { tell, leave } = page();
      t.after(leave);
      const { client, socket } = await live();
      const remembered = client.request("order");
      const unrepeated = client.request("pay", null, { idempotent: false });
      const [first, second] = socket().asked.map(({ id }) => id);
      tell(sleeps);
      assert.deepEqual([client.state.name, socket().readyState], ["frozen", 3]);
      // Timers stand still, and all of them fire when it wakes.
      sleep(30_000);
      const asleep = client.request("later");
      tell(wakes);
      await settled();
      socket().accept();
      assert.deepEqual(socket().authentications[0]?.payload, { resume: "c.s" });
      assert.deepEqual(
        socket().asked.map(({ type }) => type),
        ["order", "later"],
      );
      for (const id of [first, second, socket().asked[1]?.id]) socket().reply(id, "done");
      assert.deepEqual(await Promise.all([remembered, unrepeated, asleep]), ["done", "done", "done"]);
      // A client that wakes without having slept has nothing to do.
      tell(wakes);
      await settled();
      assert.equal(FakeSocket.all.length, 2);
    });
  }

  test("that sleeps between two attempts makes none meanwhile", async (t) => {
    const { tell, leave } = page();
    t.after(leave);
    const { client, socket } = await live();
    socket().end(1006);
    tell("freeze");
    await pass(60_000);
    assert.deepEqual([client.state.name, FakeSocket.all.length], ["frozen", 1]);
    client.connect();
    await settled();
    assert.equal(FakeSocket.all.length, 2);
  });
});

describe("what was asked in one name", () => {
  /** One that was sent and one that was not, on a connection of alice's that is lost. */
  async function interrupted(strategy: "per-message" | "explicit") {
    const provider = new Provider();
    const { client, socket } = bench({ strategy, token: provider.token });
    client.connect();
    await provider.give(jwtOf("alice", 1));
    socket().accept();
    socket().authenticate();
    const sent = client.request("pay", { to: "mallory" });
    await settled();
    assert.equal(socket().asked.length, 1);
    socket().end(1006);
    const waiting = client.request("later");
    await pass(1_000);
    return { client, provider, socket, both: [sent, waiting] };
  }

  test("is not sent again in another's", async () => {
    for (const strategy of ["per-message", "explicit"] as const) {
      for (const other of [jwtOf("bob", 2), jwtOf("alice", 2, "https://other.example"), jwt(2)]) {
        const { client, provider, socket, both } = await interrupted(strategy);
        const refusals = Promise.all(both.map(refusal));
        await provider.give(other);
        for (const { code, temporary, message } of await refusals) {
          assert.deepEqual([code, temporary], ["identity_mismatch", false]);
          assert.match(message, /another identity/);
        }
        socket().accept();
        assert.deepEqual(socket().authentications[0]?.payload, undefined, "no identity takes over what alice has left held");
        socket().authenticate({ ...AUTH, subject: "bob" });
        assert.deepEqual(socket().asked, []);
        const answer = client.request("hello");
        await settled();
        socket().reply(socket().asked[0]?.id, "bob");
        assert.equal(await answer, "bob");
      }
    }
  });

  test("is sent again in the same", async () => {
    const { provider, socket, both } = await interrupted("per-message");
    await provider.give(jwtOf("alice", 2));
    socket().accept();
    assert.deepEqual(
      socket().asked.map(({ type, token }) => [type, token]),
      [
        ["pay", jwtOf("alice", 2)],
        ["later", jwtOf("alice", 2)],
      ],
    );
    for (const { id } of socket().asked) socket().reply(id, 1);
    assert.deepEqual(await Promise.all(both), [1, 1]);
  });

  test("and was refused for its token is not sent with another's", async () => {
    const provider = new Provider();
    const { client, socket } = bench({ token: provider.token });
    client.connect();
    await provider.give(jwtOf("alice", 1));
    socket().accept();
    const pay = refusal(client.request("pay"));
    await settled();
    socket().refuse(socket().asked[0]?.id, "token_expired");
    socket().refuse(socket().authentications[0]?.id, "token_expired");
    await provider.give(jwtOf("bob", 2));
    assert.equal((await pay).code, "identity_mismatch");
    assert.equal(socket().asked.length, 1);
  });

  test("is forgotten with it, so that any identity may come next", async () => {
    const provider = new Provider();
    const { client, socket } = bench({ token: provider.token });
    client.connect();
    await provider.give(jwtOf("alice", 1));
    socket().accept();
    client.close();
    client.connect();
    const answer = client.request("hello");
    await provider.give(jwtOf("bob", 2));
    socket().accept();
    socket().reply(socket().asked[0]?.id, 1);
    assert.equal(await answer, 1);
  });
});
