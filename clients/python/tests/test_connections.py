from __future__ import annotations

import asyncio
from typing import Any

from fake import Bench, FakeSocket, ask, jwt, live, names, opened, refusal, run, settled

from countersign_client import Closed, Connecting, CountersignError, Open, RefusedHandshakeError, Stopped, Waiting


@run
async def test_a_lost_connection_comes_back_with_a_fresh_token_the_resume_key_and_what_was_not_answered() -> None:
    bench = await live()
    answer = ask(bench, "order")
    await settled()
    message_id = bench.socket.asked[0]["id"]
    await bench.socket.end(1012, "restart")
    assert bench.client.state == Waiting(0.25, "1012 restart")
    await asyncio.sleep(0.25)
    await settled()
    assert bench.asked == 2
    [first, second] = bench.socket.sent
    assert (first["token"], first["payload"], second["id"]) == (jwt(2), {"resume": "c.s"}, message_id)
    await bench.socket.reply(message_id, "done")
    assert await answer == "done"


@run
async def test_what_was_sent_is_lost_where_the_server_does_not_know_it_again() -> None:
    bench = await live()
    await bench.socket.say({"type": "auth.ok", "auth": {"subject": "alice", "expires_in": 100, "refresh_in": 80}})
    payment, look = ask(bench, "pay"), ask(bench, "look", idempotent=True)
    held = ask(bench, "held", id="h")
    await settled()
    await bench.socket.end(1012)
    later = ask(bench, "later")
    await asyncio.sleep(0.25)
    await settled()
    assert [asked["type"] for asked in bench.socket.asked] == ["look", "later"]
    for asked in bench.socket.asked:
        await bench.socket.reply(asked["id"], "done")
    # What the server held for this connection is answered here.
    await bench.socket.reply("h", "kept")
    assert [await look, await later, await held] == ["done", "done", "kept"]
    error = await refusal(payment)
    assert (error.code, error.temporary, error.effect) == ("lost", False, "unknown")
    assert isinstance(error.__cause__, CountersignError) and error.__cause__.code == "unreachable"


@run
async def test_a_lost_connection_is_waited_for_longer_each_time_and_briefly_again_after_it_has_held() -> None:
    async def fails(_: str) -> FakeSocket:
        raise ConnectionRefusedError("refused")

    bench = await opened(dial=fails, backoff=(0.1, 0.35))
    await asyncio.sleep(1.5)
    waits = [state.retry_in for state in bench.states if isinstance(state, Waiting)]
    assert waits[:4] == [0.1, 0.2, 0.35, 0.35]
    bench.client.close()
    bench = await live(backoff=(0.1, 0.35))
    for holds in [4.9, 5.0]:
        await asyncio.sleep(holds)
        await bench.socket.end(1006)
        await asyncio.sleep(0.35)
        await bench.socket.authenticate()
    assert [state.retry_in for state in bench.states if isinstance(state, Waiting)] == [0.1, 0.1]


@run
async def test_a_server_that_has_too_much_to_do_is_left_alone() -> None:
    for code in [1011, 1013, 4410, 4429]:
        bench = await live()
        await bench.socket.end(code)
        assert bench.client.state == Waiting(2.0, f"{code}")
        count = len(FakeSocket.all)
        for _ in range(19):
            bench.client.wake()
            await asyncio.sleep(0.1)
        assert len(FakeSocket.all) == count
        await asyncio.sleep(0.6)
        assert len(FakeSocket.all) == count + 1
        bench.client.close()


@run
async def test_after_4429_it_is_slower() -> None:
    bench = await live(messages_per_second=40)
    notes = [asyncio.ensure_future(bench.client.send("note", n, timeout=0.5)) for n in range(100)]
    await settled()
    assert len(bench.socket.asked) == 39
    await bench.socket.end(4429)
    await asyncio.sleep(2)
    await settled()
    await bench.socket.authenticate()
    more = [asyncio.ensure_future(bench.client.send("note", n, timeout=0.5)) for n in range(100)]
    await settled()
    assert len(bench.socket.asked) == 19
    await asyncio.gather(*notes, *more, return_exceptions=True)


@run
async def test_it_keeps_to_what_the_server_says_that_it_takes() -> None:
    bench = await live()
    said = {"messages_per_second": 10, "unauthenticated_messages_per_second": 5, "max_message_bytes": 1_000}
    await bench.socket.say({"type": "limits", "payload": said})
    await settled()
    assert (await refusal(bench.client.request("a", "x" * 1_000))).code == "too_large"
    notes = [asyncio.ensure_future(bench.client.send("note", n)) for n in range(40)]
    await settled()
    at_once = len(bench.socket.asked)
    assert at_once == 7, "eight, and what authenticated it"
    await asyncio.sleep(1.01)
    assert len(bench.socket.asked) == at_once + 8
    await asyncio.gather(*notes)


@run
async def test_what_the_server_says_does_not_undo_the_options() -> None:
    bench = await live(messages_per_second=2, max_message_bytes=500)
    for nonsense in (None, 7, {"max_message_bytes": "x", "messages_per_second": -1}, {}):
        await bench.socket.say({"type": "limits", "payload": nonsense})
    await bench.socket.say(
        {"type": "limits", "payload": {"messages_per_second": 1_000, "max_message_bytes": 1_000_000}}
    )
    await settled()
    assert (await refusal(bench.client.request("a", "x" * 500))).code == "too_large"
    notes = [asyncio.ensure_future(bench.client.send("note", n, timeout=0.5)) for n in range(6)]
    await settled()
    assert len(bench.socket.asked) == 1
    await asyncio.gather(*notes, return_exceptions=True)


@run
async def test_terminal_codes_stop_it_and_what_waits_is_refused() -> None:
    for code, word in [
        (4501, "token_invalid"),
        (4503, "token_revoked"),
        (4505, "connection_limit"),
        (4509, "identity_mismatch"),
        (4510, "replaced"),
        (4599, "stopped"),
    ]:
        bench = await live()
        answer = ask(bench, "order")
        await settled()
        await bench.socket.end(code, "no")
        assert isinstance(bench.client.state, Stopped)
        assert (bench.client.state.error.code, bench.client.state.close_code) == (word, code)
        assert (await refusal(answer)).code == word
        assert (await refusal(bench.client.request("later"))).code == word
        count = len(FakeSocket.all)
        await asyncio.sleep(100)
        assert len(FakeSocket.all) == count
        # It is the application's to say that this is over.
        bench.client.connect()
        await settled()
        assert len(FakeSocket.all) == count + 1
        bench.client.close()


@run
async def test_a_message_that_is_too_large_for_the_server_is_refused_and_no_other() -> None:
    bench = await live()
    answers = [ask(bench, "order", "x" * size) for size in [10, 1_000, 20]]
    await settled()
    await bench.socket.end(1009)
    assert (await refusal(answers[1])).code == "too_large"
    await asyncio.sleep(0.25)
    await settled()
    for asked in bench.socket.asked:
        await bench.socket.reply(asked["id"], len(asked["payload"]))
    assert [await answers[0], await answers[2]] == [10, 20]


@run
async def test_a_request_that_may_be_being_handled_is_sent_again_until_its_time_is_over() -> None:
    bench = await live()
    answer = ask(bench, "order")
    await settled()
    await bench.socket.end(1006)
    await asyncio.sleep(0.25)
    await settled()
    message_id = bench.socket.asked[0]["id"]
    await bench.socket.refuse(message_id, "busy", temporary=True)
    await asyncio.sleep(1)
    await settled()
    assert [asked["id"] for asked in bench.socket.asked] == [message_id] * 2
    await bench.socket.reply(message_id, "done")
    assert await answer == "done"


@run
async def test_a_handshake_that_never_ends_or_is_refused_is_told() -> None:
    async def never(_: str) -> FakeSocket:
        await asyncio.sleep(1_000_000)
        raise AssertionError

    bench = await opened(dial=never, connect_timeout=5)
    await asyncio.sleep(5)
    assert isinstance(bench.client.state, Waiting) and bench.client.state.because == "1006 no handshake in time"
    bench.client.close()

    async def unanswered(_: str) -> FakeSocket:
        raise TimeoutError("connection timed out")

    bench = await opened(dial=unanswered)
    assert isinstance(bench.client.state, Waiting) and bench.client.state.because == "1006"
    assert bench.client.state.cause is not None and "connection timed out" in str(bench.client.state.cause)
    bench.client.close()

    async def busy(_: str) -> FakeSocket:
        raise RefusedHandshakeError(503, "full", 7)

    bench = await opened(dial=busy)
    state = bench.client.state
    assert isinstance(state, Waiting) and state.retry_in == 7 and state.cause is not None
    assert state.cause.code == "unreachable" and isinstance(state.cause.__cause__, RefusedHandshakeError)
    bench.client.close()


@run
async def test_it_tells_where_it_stands() -> None:
    bench = await live()
    await bench.socket.authenticate()
    await bench.socket.end(1001, "bye")
    bench.client.close()
    assert bench.states == [
        Connecting(),
        Open(authenticated=False),
        Open(authenticated=True, subject="alice"),
        Waiting(0.25, "1001 bye"),
        Closed(),
    ]


@run
async def test_what_was_closed_stays_closed_until_it_is_told_to_connect() -> None:
    bench = await live()
    answer = ask(bench, "order")
    await settled()
    bench.client.close()
    await bench.client.wait_closed()
    assert bench.socket.is_closed
    assert (await refusal(answer)).code == "closed"
    assert (await refusal(bench.client.request("later"))).code == "closed"
    await asyncio.sleep(100)
    assert names(bench.states)[-1] == "closed" and len(FakeSocket.all) == 1
    bench.client.connect()
    await settled()
    assert len(FakeSocket.all) == 2


@run
async def test_it_may_be_closed_by_who_hears_of_its_state() -> None:
    for name in ["connecting", "open", "waiting", "stopped"]:
        FakeSocket.all.clear()
        bench = Bench()

        def close(state: Any, name: str = name, bench: Bench = bench) -> None:
            if state.name == name:
                bench.client.close()

        bench.client.on("state", close)
        bench.client.connect()
        await settled()
        if name in {"waiting", "stopped"}:
            await bench.socket.end(1006 if name == "waiting" else 4503)
        await asyncio.sleep(100)
        assert bench.client.state == Closed(), name
        assert len(FakeSocket.all) <= 1
        assert all(socket.is_closed for socket in FakeSocket.all), name


@run
async def test_as_a_context_it_is_closed_at_its_end() -> None:
    bench = Bench()
    async with bench.client as client:
        answer = ask(bench, "order")
        await settled()
        assert client.state.name == "open"
    assert bench.socket.is_closed and (await refusal(answer)).code == "closed"


@run
async def test_waking_connects_once_a_second_at_most_and_not_all_clients_at_once() -> None:
    made = []
    for random in [0.0, 1.0]:
        FakeSocket.all.clear()
        bench = await live(random=lambda random=random: random, backoff=(30, 30))
        for _ in range(30):
            if bench.client.state.name == "open":
                await bench.socket.end(1006)
            bench.client.wake()
            await asyncio.sleep(0.1)
        made.append(len(FakeSocket.all) - 1)
        bench.client.close()
    assert made == [3, 2]
