from __future__ import annotations

import asyncio
import math
from typing import Any

from fake import Bench, FakeSocket, ask, jwt, live, opened, refusal, run, settled

from countersign_client import Client, CountersignError


@run
async def test_a_request_connects_carries_the_token_and_returns_the_payload_of_its_answer() -> None:
    bench = Bench()
    answer = ask(bench, "order", {"item": 7})
    await settled()
    [asked] = bench.socket.asked
    assert {**asked, "id": ""} == {"id": "", "type": "order", "token": jwt(1), "payload": {"item": 7}}
    assert bench.socket.waits == [("auth.authenticate", None), ("order", 60_000)]
    await bench.socket.reply(asked["id"], {"ok": True})
    assert await answer == {"ok": True}
    assert bench.client.pending == 0


@run
async def test_a_payload_may_be_null_or_not_there() -> None:
    bench = await live()
    first = asyncio.ensure_future(bench.client.request("a"))
    ask(bench, "b", None).cancel()
    second = ask(bench, "b", None)
    await settled()
    assert [("payload" in asked, asked.get("payload")) for asked in bench.socket.asked] == [(False, None), (True, None)]
    await bench.socket.say({"type": "reply", "id": bench.socket.asked[0]["id"]})
    assert await first is None
    second.cancel()


@run
async def test_a_request_is_refused_with_the_servers_typed_error() -> None:
    bench = await live()
    answer = ask(bench, "order")
    await settled()
    await bench.socket.refuse(
        bench.socket.asked[0]["id"],
        "app.sold",
        temporary=True,
        retry_after_ms=5_000,
        details={"left": 0},
        effect="none",
    )
    error = await refusal(answer)
    assert (error.code, error.temporary, error.retry_after, error.details, error.effect) == (
        "app.sold",
        True,
        5.0,
        {"left": 0},
        "none",
    )


@run
async def test_a_request_ends_when_its_time_is_over_and_when_too_many_wait() -> None:
    bench = await live(max_pending=1)
    slow = ask(bench, "a", timeout=1)
    await settled()
    assert (await refusal(bench.client.request("b"))).code == "overflow"
    assert (await refusal(slow)).code == "timeout"
    assert bench.client.pending == 0


@run
async def test_a_request_that_is_cancelled_is_given_up_by_the_server_if_it_was_sent() -> None:
    bench = await live()
    sent = ask(bench, "a", id="1")
    await settled()
    sent.cancel()
    await settled()
    assert sent.cancelled() and bench.client.pending == 0
    assert bench.socket.cancelled == ["1"]
    await bench.socket.end(1012)
    unsent = ask(bench, "b", id="2")
    await settled()
    unsent.cancel()
    await asyncio.sleep(1)
    assert (bench.socket.asked, bench.socket.cancelled) == ([], [])


@run
async def test_what_can_never_be_answered_is_refused_at_once() -> None:
    bench = await live(max_message_bytes=200)
    first = ask(bench, "a", id="twice")
    await settled()
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    bad: list[tuple[str, Any, dict[str, Any], str]] = [
        ("auth.logout", None, {}, "bad_request"),
        ("a", None, {"id": "x" * 129}, "bad_request"),
        ("a", None, {"id": "ü" * 65}, "bad_request"),
        ("a", {1, 2}, {}, "bad_request"),
        ("a", cyclic, {}, "bad_request"),
        ("a", math.nan, {}, "bad_request"),
        ("a", "\ud800", {}, "bad_request"),
        ("a", None, {"id": "twice"}, "duplicate"),
        ("a", "x" * 200, {}, "too_large"),
        # With its token it is.
        ("a", "x" * 120, {}, "too_large"),
    ]
    for kind, payload, options, code in bad:
        assert (await refusal(bench.client.request(kind, payload, **options))).code == code, (kind, payload, options)
    for timeout in [0, -1, math.nan]:
        try:
            await bench.client.request("a", timeout=timeout)
        except ValueError:
            continue
        raise AssertionError(timeout)
    first.cancel()


@run
async def test_a_request_waits_as_long_as_it_is_told() -> None:
    bench = await live()
    answer = ask(bench, "a", timeout=math.inf, id="1")
    await settled()
    assert bench.socket.waits[-1] == ("a", None)
    await asyncio.sleep(70)
    await bench.socket.reply("1", "late")
    assert await answer == "late"


@run
async def test_what_is_refused_for_its_token_is_sent_again_with_a_fresh_one_once() -> None:
    for code in ["auth_required", "token_expired", "hold_expired", "hold_overflow"]:
        bench = await live()
        answer = ask(bench, "order")
        await settled()
        message_id = bench.socket.asked[0]["id"]
        await bench.socket.refuse(message_id, code)
        assert [asked["token"] for asked in bench.socket.asked] == [jwt(1), jwt(2)]
        assert {asked["id"] for asked in bench.socket.asked} == {message_id}
        await bench.socket.refuse(message_id, code)
        assert (await refusal(answer)).code == code
        bench.client.close()


@run
async def test_what_is_sent_without_an_answer_has_no_id_and_keeps_its_place() -> None:
    bench = Bench(max_pending=2)
    first = ask(bench, "first")
    await asyncio.sleep(0)
    note = asyncio.ensure_future(bench.client.send("note", {"n": 1}))
    await asyncio.sleep(0)
    assert (await refusal(bench.client.send("more"))).code == "overflow"
    await note
    assert [(asked["type"], "id" in asked) for asked in bench.socket.asked] == [("first", True), ("note", False)]
    await bench.socket.authenticate()
    await bench.socket.refuse(None, "app.unknown_note")
    assert bench.errors == ["app.unknown_note"]
    await bench.socket.end(1006)
    await asyncio.sleep(1)
    assert [asked["type"] for asked in bench.socket.asked] == ["first"]
    first.cancel()


@run
async def test_a_stream_gives_each_answer_until_the_last() -> None:
    bench = await live()
    replies = bench.client.stream("count", {"to": 3}, is_last=lambda reply: reply == 3)
    await settled()
    message_id = bench.socket.asked[0]["id"]
    for n in [1, 2, 3, 4]:
        await bench.socket.reply(message_id, n)
    assert [reply async for reply in replies] == [1, 2, 3]
    assert (bench.client.pending, bench.socket.cancelled) == (0, [])


@run
async def test_a_stream_that_is_left_is_given_up() -> None:
    bench = await live()
    async with bench.client.stream("count", id="c1") as replies:
        await settled()
        await bench.socket.reply("c1", 1)
        assert await anext(replies) == 1
    await settled()
    assert (bench.client.pending, bench.socket.cancelled) == (0, ["c1"])
    assert [reply async for reply in replies] == []


@run
async def test_a_stream_ends_with_an_error_behind_what_came_before_it() -> None:
    bench = await live()
    replies = bench.client.stream("count", id="c1", timeout=1)
    await settled()
    for n in range(3):
        await asyncio.sleep(0.9)
        await bench.socket.reply("c1", n)
    assert [await anext(replies) for _ in range(3)] == [0, 1, 2]
    assert (await refusal(anext(replies))).code == "timeout"
    assert [reply async for reply in replies] == []


@run
async def test_a_stream_that_has_begun_is_not_sent_again() -> None:
    bench = await live()
    streams = {name: bench.client.stream(name, id=name) for name in ["one", "two", "fresh"]}
    await settled()
    for name in ["one", "two"]:
        await bench.socket.reply(name, 1)
    await bench.socket.end(1006)
    await asyncio.sleep(1)
    assert [asked["id"] for asked in bench.socket.asked] == ["fresh"]
    await bench.socket.authenticate()
    await bench.socket.reply("one", 2)
    await asyncio.sleep(5)
    await bench.socket.reply("one", 3)
    assert [await anext(streams["one"]) for _ in range(3)] == [1, 2, 3]
    assert await anext(streams["two"]) == 1
    assert (await refusal(anext(streams["two"]))).code == "lost"
    for stream in streams.values():
        await stream.aclose()


@run
async def test_a_stream_whose_reader_falls_too_far_behind_is_given_up() -> None:
    bench = await live()
    replies = bench.client.stream("flood", id="f1")
    await settled()
    for n in range(1_001):
        await bench.socket.reply("f1", n)
    assert (bench.client.pending, bench.socket.cancelled) == (0, ["f1"])
    assert [await anext(replies) for _ in range(1_000)] == list(range(1_000))
    assert (await refusal(anext(replies))).code == "overflow"


@run
async def test_pushes_are_told_once_and_by_what_they_are_about() -> None:
    bench = await live()
    heard: list[Any] = []
    off = bench.client.on("push", lambda push: heard.append((push.id, push.type)))

    async def later(push: Any) -> None:
        await asyncio.sleep(1)
        heard.append(("shipped", push.payload["order"]))

    bench.client.on_push("order.shipped", later)
    shipped = {"type": "push", "id": "p1", "payload": {"type": "order.shipped", "order": 7}}
    messages: list[dict[str, Any]] = [shipped, shipped, {"type": "push", "id": "p2", "payload": "order.shipped"}]
    for message in messages:
        await bench.socket.say(message)
    off()
    await bench.socket.say({"type": "push", "id": "p3", "payload": None})
    await asyncio.sleep(2)
    assert heard == [("p1", "order.shipped"), ("p2", None), ("shipped", 7)]


@run
async def test_listeners_hear_once_or_until_they_have_had_enough() -> None:
    bench = await live()
    heard: list[str] = []

    def one(push: Any) -> None:
        heard.append(f"one {push.id}")

    def two(push: Any) -> None:
        heard.append(f"two {push.id}")

    bench.client.once("push", one)
    bench.client.on("push", two)
    await bench.socket.say({"type": "push", "id": "p1"})
    bench.client.off("push", two)
    await bench.socket.say({"type": "push", "id": "p2"})
    assert heard == ["one p1", "two p1"]


@run
async def test_an_error_tells_its_cause() -> None:
    async def away(_: int) -> str:
        raise OSError("the issuer is away")

    bench = Bench(token=away)
    error = await refusal(bench.client.request("order", timeout=1))
    assert error.code == "timeout" and "the issuer is away" in error.message
    assert isinstance(error.__cause__, CountersignError) and error.__cause__.code == "no_token"
    assert isinstance(error.__cause__.__cause__, OSError)
    bench.client.close()


@run
async def test_the_server_is_never_sent_more_than_its_defaults_allow() -> None:
    bench = await opened(max_pending=5_000)
    answers = [ask(bench, "order", n) for n in range(3_000)]
    allowed, early, at, seen, is_proven = 1_000.0, 20.0, asyncio.get_running_loop().time(), 0, False
    while not all(answer.done() for answer in answers):
        now = asyncio.get_running_loop().time()
        sent = bench.socket.sent[seen:]
        seen += len(sent)
        allowed = min(1_000.0, allowed + (now - at) * 1_000) - len(sent)
        early = min(20.0, early + (now - at) * 20) - (0 if is_proven else len(sent))
        at = now
        assert allowed >= 0 and early >= 0
        assert now < 10
        if not is_proven and now > 0.3:
            await bench.socket.authenticate()
            is_proven = True
            sent = bench.socket.sent[:seen]
        if is_proven:
            for message in sent:
                await bench.socket.reply(message["id"], 1)
        await asyncio.sleep(0.001)
    assert len(FakeSocket.all) == 1


@run
async def test_what_the_socket_does_not_take_waits_in_its_bounds() -> None:
    bench = await live(max_pending=500)
    bench.socket.takes.clear()
    notes = [asyncio.ensure_future(bench.client.send("note", n)) for n in range(500)]
    await asyncio.sleep(2)
    assert sum(note.done() for note in notes) == 64
    bench.socket.takes.set()
    await asyncio.gather(*notes)
    await settled()
    assert [asked["payload"] for asked in bench.socket.asked] == list(range(500))


@run
async def test_what_the_server_should_not_say_does_no_harm() -> None:
    bench = await live()
    deep = '{"type":"push","payload":' + "[" * 100_000 + "]" * 100_000 + "}"
    said: list[str | dict[str, Any]] = [
        "",
        "{",
        "null",
        "[]",
        '{"type":7}',
        '{"type":"error"}',
        '{"type":"tomorrow"}',
        deep,
        '{"type":"auth.required","held":7}',
    ]
    for data in said:
        await bench.socket.say(data)
    await bench.socket.say({"type": "reply", "id": [], "auth": {"expires_in": "soon"}})
    await bench.socket.say({"type": "auth.ok", "auth": None})
    answer = ask(bench, "order")
    await settled()
    await bench.socket.reply(bench.socket.asked[0]["id"], "well")
    assert (await answer, bench.client.state.name, len(FakeSocket.all)) == ("well", "open", 1)


def test_options_that_cannot_work_are_refused() -> None:
    good: dict[str, Any] = {"url": "wss://example.test", "token": lambda: jwt(1)}
    bad_options: list[dict[str, Any]] = [
        {"url": ""},
        {"url": None},
        {"url": "/ws"},
        {"url": "https://example.test"},
        {"url": "wss://"},
        {"url": "wss://example.test/#here"},
        {"token": jwt(1)},
        {"strategy": "implicit"},
        {"max_pending": 0},
        {"request_timeout": math.nan},
        {"backoff": (0, 1)},
        {"backoff": (2, 1)},
        {"messages_per_second": 0},
    ]
    for bad in bad_options:
        try:
            Client(**{**good, **bad})
        except (TypeError, ValueError):
            continue
        raise AssertionError(bad)
