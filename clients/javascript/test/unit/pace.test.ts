import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Pace } from "../../src/request/pace.js";
import { AUTH, bench, FakeSocket, live, open, pass, refusal, settled, withManualTime } from "./fake.js";

withManualTime();

/** A limit as the server has it: a second's worth at once, and as much each second. */
class ServerLimit {
  #left: number;
  #at = Date.now();

  constructor(private readonly perSecond: number) {
    this.#left = perSecond;
  }

  /** Whether that was one too many. */
  isBrokenBy(messages: number): boolean {
    const now = Date.now();
    this.#left = Math.min(this.perSecond, this.#left + ((now - this.#at) * this.perSecond) / 1_000) - messages;
    this.#at = now;
    return this.#left < 0;
  }
}

describe("the pace", () => {
  test("lets a second's worth go at once, and then as much each second", () => {
    const pace = new Pace(100, 16);
    pace.begin(0);
    pace.proven(0);
    const burst = Array.from({ length: 100 }, () => pace.take(0));
    assert.deepEqual(new Set(burst), new Set([0]));
    assert.equal(pace.take(0), 10);
    assert.equal(pace.take(9), 1);
    assert.equal(pace.take(10), 0);
    // A clock that was set back gives nothing, and costs nothing.
    assert.equal(pace.take(-1_000), 10);
    assert.equal(pace.take(-990), 0);
  });

  test("is slower before a token is taken, and what was sent before counts after", () => {
    const pace = new Pace(100, 16);
    pace.begin(0);
    pace.spend(0);
    for (let n = 0; n < 15; n++) assert.equal(pace.take(0), 0);
    assert.ok(pace.take(0) > 0);
    pace.proven(0);
    for (let n = 0; n < 84; n++) assert.equal(pace.take(0), 0);
    assert.ok(pace.take(0) > 0);
    // Another token gives no more.
    pace.proven(0);
    assert.ok(pace.take(0) > 0);
  });

  test("is half as fast after each limit that was hit, and as fast as before when none was for a while", () => {
    const pace = new Pace(100, 16);
    const burst = (now: number): number => {
      pace.begin(now);
      pace.proven(now);
      let count = 0;
      while (pace.take(now) === 0) count++;
      return count;
    };
    pace.hit(0);
    assert.equal(burst(0), 50);
    pace.hit(0);
    assert.equal(burst(0), 25);
    for (let n = 0; n < 20; n++) pace.hit(0);
    assert.equal(burst(0), 1);
    pace.hit(0);
    const counts = Array.from({ length: 9 }, (_, minute) => burst(60_000 * minute + 59_999));
    assert.deepEqual(counts, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
  });
});

describe("a pace that the server changes", () => {
  /** How many may go at that moment. */
  const burst = (pace: Pace, now: number): number => {
    let count = 0;
    while (pace.take(now) === 0) count++;
    return count;
  };

  test("counts what was used already, and is as fast as that from then on", () => {
    const pace = new Pace(100, 16);
    pace.begin(0);
    assert.equal(burst(pace, 0), 16);
    pace.change(10, 4, 0);
    assert.equal(pace.take(0), 13_000 / 4, "it is ahead by twelve, and wants one more");
    pace.change(1_000, 20, 0);
    pace.proven(0);
    assert.equal(burst(pace, 0), 984);
    assert.equal(burst(pace, 1_000), 1_000);
  });

  test("stays slow after a limit that was hit", () => {
    const pace = new Pace(100, 16);
    pace.begin(0);
    pace.proven(0);
    pace.hit(0);
    pace.change(200, 16, 0);
    assert.equal(burst(pace, 10_000), 50);
  });
});

describe("what the server says that it takes", () => {
  const said = (payload: unknown) => ({ type: "limits", payload });

  test("is kept to by a client whose options say nothing", async () => {
    const { client, socket } = await open({ strategy: "explicit", maxPending: 5_000 });
    socket().say(said({ messages_per_second: 10, unauthenticated_messages_per_second: 5, max_message_bytes: 1_000 }));
    socket().authenticate();
    assert.equal((await refusal(client.request("order", "x".repeat(1_000)))).code, "too_large");
    const limit = new ServerLimit(10);
    for (let n = 0; n < 40; n++) void client.request("order", n).catch(() => {});
    for (let seen = 0, ms = 0; ms < 10_000; ms += 100) {
      assert.equal(limit.isBrokenBy(socket().asked.length - seen), false);
      seen = socket().asked.length;
      await pass(100);
    }
    assert.equal(socket().asked.length, 40);
  });

  test("does not undo what the options say, nor what is no limit", async () => {
    const { client, socket } = await open({ messagesPerSecond: 2, maxMessageBytes: 500 });
    for (const nonsense of [undefined, null, 7, { max_message_bytes: "x", messages_per_second: -1 }, {}]) socket().say(said(nonsense));
    socket().say(said({ messages_per_second: 1_000, max_message_bytes: 1_000_000 }));
    socket().authenticate();
    assert.equal((await refusal(client.request("order", "x".repeat(500)))).code, "too_large");
    for (let n = 0; n < 6; n++) void client.request("order", n).catch(() => {});
    assert.equal(socket().asked.length, 1, "one, and what authenticates");
  });
});

describe("a client in a hurry", () => {
  for (const strategy of ["per-message", "explicit"] as const) {
    test(`never sends more than the server's defaults allow, and all of it in the end (${strategy})`, async () => {
      const { client, socket } = await open({ strategy, maxPending: 5_000 });
      const [early, limit] = [new ServerLimit(20), new ServerLimit(1_000)];
      let [answered, seen, isProven] = [0, 0, false];
      const owed: string[] = [];
      for (let n = 0; n < 4_000; n++) void client.request("order", n).then(() => answered++);
      for (let ms = 0; answered < 4_000; ms++) {
        assert.ok(ms < 10_000, `${answered} answered`);
        const sent = socket().sent.slice(seen);
        seen += sent.length;
        assert.equal(limit.isBrokenBy(sent.length), false, "messages-per-second");
        if (!isProven) assert.equal(early.isBrokenBy(sent.length), false, "unauthenticated-messages-per-second");
        if (ms === 300) {
          socket().authenticate();
          isProven = true;
        }
        owed.push(...sent.filter(({ type }) => type === "order").map(({ id }) => id));
        if (isProven) for (const id of owed.splice(0)) socket().reply(id, 1);
        await pass(1);
      }
      assert.equal(FakeSocket.all.length, 1);
    });
  }

  test("that was closed with 4429 all the same is slower then", async () => {
    const { client, socket } = await live({ messagesPerSecond: 40 });
    const sentAtOnce = () => {
      for (let n = 0; n < 100; n++) void client.request("order", n, { timeoutMs: 1_000 }).catch(() => {});
      return socket().asked.length;
    };
    // The token's own message counts.
    assert.equal(sentAtOnce(), 39);
    socket().end(4429);
    await pass(2_000);
    socket().accept();
    socket().authenticate(AUTH);
    assert.equal(sentAtOnce(), 19);
  });

  test("goes on when its turn has come, and not on a connection that is over", async () => {
    const { client, socket } = await live({ messagesPerSecond: 2 });
    for (let n = 0; n < 4; n++) void client.send("note", n);
    assert.equal(socket().asked.length, 1);
    await pass(500);
    await pass(500);
    assert.equal(socket().asked.length, 3);
    socket().end(1012);
    await pass(249);
    assert.equal(FakeSocket.all.length, 1);
    await pass(1);
    socket().accept();
    assert.deepEqual(
      socket().asked.map(({ payload }) => payload),
      [3],
    );
  });

  test("is told what it cannot mean", () => {
    for (const messagesPerSecond of [0, -1, Number.NaN]) assert.throws(() => bench({ messagesPerSecond }), RangeError);
    bench({ messagesPerSecond: Number.POSITIVE_INFINITY });
  });

  test("may give up at any time", async () => {
    const { client, socket } = await live({ messagesPerSecond: 1 });
    const abort = new AbortController();
    const request = client.request("order", 1, { id: "1", signal: abort.signal }).catch(() => {});
    await pass(1_000);
    abort.abort();
    await request;
    await settled();
    assert.deepEqual(socket().cancelled, ["1"]);
  });
});
