import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { type ClientOptions } from "../../src/index.js";
import { AUTH, bench, type Bench, type FakeSocket, jwt, live, pass, settled, withManualTime } from "./fake.js";

withManualTime();

interface Ack {
  id?: string;
  ids?: string[];
}

/** All that the server was told of its pushes. */
function acks(socket: FakeSocket): Ack[] {
  return socket.sent.filter(({ type }) => type === "push.ack").map(({ id, ids }: Ack) => ({ ...(id && { id }), ...(ids && { ids }) }));
}

/** The pushes of each message but the first, which asks. */
function told(socket: FakeSocket): (string[] | undefined)[] {
  return acks(socket)
    .slice(1)
    .map(({ ids }) => ids);
}

function names(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, n) => `p${from + n}`);
}

function push(socket: FakeSocket, ...ids: string[]): void {
  for (const id of ids) socket.say({ type: "push", id, payload: id });
}

/** The server takes note of acknowledgements. */
function agree(socket: FakeSocket): void {
  socket.reply(acks(socket)[0]?.id, { acknowledged: 0, unknown: 0 });
}

/** A bench whose server takes note of acknowledgements. */
async function acknowledging(options: Partial<ClientOptions> = {}): Promise<Bench> {
  const made = await live({ pushAck: true, ...options });
  agree(made.socket());
  return made;
}

describe("acknowledgements of pushes", () => {
  test("are not sent unless they are asked for", async () => {
    const { socket } = await live();
    push(socket(), "p1");
    await pass(1_000);
    assert.deepEqual(acks(socket()), []);
  });

  test("are offered directly behind the first token of each connection, before anything else", async () => {
    const { client, socket } = bench({ pushAck: true });
    void client.request("order").catch(() => {});
    await settled();
    for (const token of [1, 2]) {
      socket().accept();
      const [first, second] = socket().sent;
      assert.deepEqual([first?.type, first?.token], ["auth.authenticate", jwt(token)]);
      assert.deepEqual(second, { id: second?.id, type: "push.ack" });
      assert.ok(second?.id && second.id !== first?.id);
      assert.deepEqual([acks(socket()).length, socket().sent[2]?.type], [1, "order"]);
      socket().authenticate();
      socket().end(1006);
      await pass(250);
    }
    client.close();
  });

  test("are not offered again with another token", async () => {
    const { socket } = await acknowledging();
    socket().require("expiring");
    await settled();
    assert.deepEqual([socket().authentications.length, acks(socket()).length], [2, 1]);
  });

  test("come together, so long after the first of them", async () => {
    const { socket } = await acknowledging();
    push(socket(), "p1");
    await pass(60);
    push(socket(), "p2");
    await pass(39);
    assert.deepEqual(told(socket()), []);
    await pass(1);
    assert.deepEqual(told(socket()), [["p1", "p2"]]);
    assert.deepEqual(acks(socket()).at(-1), { ids: ["p1", "p2"] });
    await pass(1_000);
    push(socket(), "p3");
    await pass(100);
    assert.deepEqual(told(socket()), [["p1", "p2"], ["p3"]]);
  });

  test("come at once when there are many", async () => {
    const { socket } = await acknowledging();
    push(socket(), ...names(1, 63));
    await pass(50);
    assert.deepEqual(told(socket()), []);
    push(socket(), "p64", "p65");
    assert.deepEqual(told(socket()), [names(1, 64)]);
    await pass(99);
    assert.equal(told(socket()).length, 1);
    await pass(1);
    assert.deepEqual(told(socket()), [names(1, 64), ["p65"]]);
  });

  test("come for a push that is not passed on, too, since it was passed on before", async () => {
    const { client, socket } = await acknowledging();
    const heard: unknown[] = [];
    client.on("push", ({ id }) => heard.push(id));
    push(socket(), "p1");
    await pass(100);
    push(socket(), "p1");
    socket().say({ type: "push", payload: "nameless" });
    // What is no text is not the id of a push, and would spoil the others.
    socket().say({ type: "push", id: 7 });
    await pass(100);
    assert.deepEqual([told(socket()), heard], [[["p1"], ["p1"]], ["p1", undefined, 7]]);
  });

  test("come for what came before the server agreed, as far as it may wait for that", async () => {
    const { socket } = await live({ pushAck: true });
    push(socket(), ...names(1, 1_030));
    await pass(1_000);
    assert.deepEqual(told(socket()), []);
    agree(socket());
    // No server waits for more than 1,024, and none takes more than 1,000 at once.
    assert.deepEqual(told(socket()), [names(7, 1_006), names(1_007, 1_030)]);
  });

  test("are no larger than a message may be", async () => {
    const { socket } = await live({ pushAck: true, maxMessageBytes: 1_000 });
    const ids = ["ä", "b", "c", "d"].map((letter) => letter.repeat(255));
    push(socket(), ...ids);
    agree(socket());
    assert.deepEqual(
      told(socket()).map((some) => some?.length),
      [2, 2],
    );
    assert.deepEqual(told(socket()).flat(), ids);
  });

  for (const [what, answer] of [
    ["an answer of the application", { type: "reply", payload: { acknowledged: "0" } }],
    ["an empty answer", { type: "reply", payload: null }],
    ["an answer without a payload", { type: "reply" }],
    ["a refusal", { type: "error", payload: { acknowledged: 0 }, error: { code: "bad_request", message: "", temporary: false } }],
    ["a refusal for want of a token", { type: "error", error: { code: "auth_required", message: "", temporary: false } }],
  ] as const) {
    test(`are not sent to a server that gives ${what}, and no event tells of it`, async () => {
      const { client, socket, errors, asked } = await live({ pushAck: true });
      push(socket(), "p1");
      socket().say({ ...answer, id: acks(socket())[0]?.id });
      // Once is enough.
      agree(socket());
      push(socket(), ...names(2, 100));
      await pass(1_000);
      assert.deepEqual([told(socket()), errors, asked()], [[], [], 1]);
      client.close();
      assert.deepEqual(told(socket()), []);
    });
  }

  test("are not sent on another connection than the push came on", async () => {
    const { socket } = await acknowledging();
    const first = socket();
    push(first, "p1");
    first.end(1006);
    await pass(250);
    socket().accept();
    socket().authenticate({ ...AUTH, resume: "d.s" });
    agree(socket());
    await pass(1_000);
    assert.deepEqual([told(first), told(socket())], [[], []]);
    push(socket(), "p1");
    await pass(100);
    assert.deepEqual([told(first), told(socket())], [[], [["p1"]]]);
  });

  test("are sent before a client closes, also by a listener that hears of the last one", async () => {
    for (const closes of [true, false]) {
      const { client, socket } = await acknowledging();
      client.on("push", ({ id }) => closes && id === "p2" && client.close());
      push(socket(), "p1", "p2");
      client.close();
      assert.deepEqual([told(socket()), socket().readyState], [[["p1", "p2"]], 3]);
      await pass(1_000);
      assert.deepEqual(told(socket()).length, 1);
    }
  });

  test("are sent before a page sleeps", async (t) => {
    const document = new EventTarget();
    Object.assign(globalThis, { document });
    t.after(() => Reflect.deleteProperty(globalThis, "document"));
    const { client, socket } = await acknowledging();
    push(socket(), "p1");
    document.dispatchEvent(new Event("freeze"));
    assert.deepEqual([told(socket()), socket().readyState, client.state.name], [[["p1"]], 3, "frozen"]);
    client.close();
  });

  test("wait for their turn, and only once", async () => {
    const { client, socket } = await acknowledging({ messagesPerSecond: 10 });
    const requests = Array.from({ length: 100 }, (_, n) => client.request("order", n).catch(() => {}));
    await settled();
    const sent = socket().sent.length;
    push(socket(), ...names(1, 64));
    assert.deepEqual([told(socket()), sent], [[], 10]);
    push(socket(), "p65");
    await pass(100);
    // The place of one message was free, and a request has taken it.
    assert.deepEqual([told(socket()), socket().sent.length], [[names(1, 65)], 12]);
    // So many count like others.
    for (let tenth = 0; tenth < 10; tenth++) {
      push(socket(), `q${tenth}`);
      await pass(100);
    }
    assert.ok(socket().sent.length <= 22, `${socket().sent.length}`);
    assert.ok(told(socket()).length >= 3, `${told(socket()).length}`);
    client.close();
    await Promise.all(requests);
  });
});
