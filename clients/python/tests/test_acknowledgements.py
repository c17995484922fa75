from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake import Bench, FakeSocket, ask, jwt, live, run, settled


def acks(socket: FakeSocket) -> list[dict[str, Any]]:
    """All that the server was told of its pushes."""
    return [message for message in socket.sent if message["type"] == "push.ack"]


def told(socket: FakeSocket) -> list[list[str]]:
    """The pushes of each message but the first, which asks."""
    return [message["ids"] for message in acks(socket)[1:]]


def pushes(first: int, last: int) -> list[str]:
    return [f"p{number}" for number in range(first, last + 1)]


async def push(socket: FakeSocket, *ids: Any) -> None:
    for push_id in ids:
        socket.puts({"type": "push", "id": push_id, "payload": push_id})
    await settled()


async def agree(socket: FakeSocket) -> None:
    """The server takes note of acknowledgements."""
    await socket.reply(acks(socket)[0]["id"], {"acknowledged": 0, "unknown": 0})


async def acknowledging(**options: Any) -> Bench:
    """A bench whose server takes note of acknowledgements."""
    bench = await live(push_ack=True, **options)
    await agree(bench.socket)
    return bench


@run
async def test_they_are_nobodys_business_if_nobody_has_asked_for_them() -> None:
    bench = await live()
    await push(bench.socket, "p1")
    await asyncio.sleep(1)
    assert acks(bench.socket) == []
    bench.client.close()


@run
async def test_they_are_offered_directly_behind_the_first_token_of_each_connection() -> None:
    bench = Bench(push_ack=True)
    order = ask(bench, "order")
    await settled()
    for token in [1, 2]:
        first, second, *_ = bench.socket.sent
        assert (first["type"], first["token"]) == ("auth.authenticate", jwt(token))
        assert second == {"id": second["id"], "type": "push.ack"} and second["id"] != first["id"]
        assert (len(acks(bench.socket)), bench.socket.sent[2]["type"]) == (1, "order")
        await bench.socket.authenticate()
        await bench.socket.end(1006)
        await asyncio.sleep(0.25)
        await settled()
    bench.client.close()
    await asyncio.gather(order, return_exceptions=True)


@run
async def test_they_are_not_offered_again_with_another_token() -> None:
    bench = await acknowledging()
    await bench.socket.require("expiring")
    assert (len(bench.socket.authentications), len(acks(bench.socket))) == (2, 1)
    bench.client.close()


@run
async def test_they_come_together_so_long_after_the_first_of_them() -> None:
    bench = await acknowledging()
    await push(bench.socket, "p1")
    await asyncio.sleep(0.06)
    await push(bench.socket, "p2")
    await asyncio.sleep(0.03)
    assert told(bench.socket) == []
    await asyncio.sleep(0.02)
    assert told(bench.socket) == [["p1", "p2"]]
    assert acks(bench.socket)[-1] == {"type": "push.ack", "ids": ["p1", "p2"]}
    await asyncio.sleep(1)
    await push(bench.socket, "p3")
    await asyncio.sleep(0.11)
    assert told(bench.socket) == [["p1", "p2"], ["p3"]]
    bench.client.close()


@run
async def test_they_come_at_once_when_there_are_many() -> None:
    bench = await acknowledging()
    await push(bench.socket, *pushes(1, 63))
    await asyncio.sleep(0.05)
    assert told(bench.socket) == []
    await push(bench.socket, "p64", "p65")
    assert told(bench.socket) == [pushes(1, 64)]
    await asyncio.sleep(0.09)
    assert len(told(bench.socket)) == 1
    await asyncio.sleep(0.02)
    assert told(bench.socket) == [pushes(1, 64), ["p65"]]
    bench.client.close()


@run
async def test_they_come_for_what_is_passed_on_to_nobody_too() -> None:
    bench = await acknowledging()
    heard: list[str | None] = []
    bench.client.on("push", lambda push: heard.append(push.id))
    await push(bench.socket, "p1")
    await asyncio.sleep(0.11)
    await push(bench.socket, "p1", None, 7, "\ud800")
    await asyncio.sleep(0.11)
    # What is no text is not the id of a push, and would spoil the others.
    assert (told(bench.socket), heard) == ([["p1"], ["p1"]], ["p1", None, None, "\ud800"])
    bench.client.close()


@run
async def test_they_come_for_what_came_before_the_server_agreed_as_far_as_it_may_wait_for_that() -> None:
    bench = await live(push_ack=True)
    for first in range(1, 1_031, 10):
        await push(bench.socket, *pushes(first, first + 9))
    await asyncio.sleep(1)
    assert told(bench.socket) == []
    await agree(bench.socket)
    # No server waits for more than 1,024, and none takes more than 1,000 at once.
    assert told(bench.socket) == [pushes(7, 1_006), pushes(1_007, 1_030)]
    bench.client.close()


@run
async def test_they_are_no_larger_than_a_message_may_be() -> None:
    bench = await live(push_ack=True, max_message_bytes=1_000)
    ids = [letter * 255 for letter in "äbcd"]
    await push(bench.socket, *ids)
    await agree(bench.socket)
    assert [len(some) for some in told(bench.socket)] == [2, 2]
    assert [push_id for some in told(bench.socket) for push_id in some] == ids
    bench.client.close()


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "reply", "payload": {"acknowledged": "0"}},
        {"type": "reply", "payload": {"acknowledged": True}},
        {"type": "reply", "payload": None},
        {"type": "reply"},
        {
            "type": "error",
            "payload": {"acknowledged": 0},
            "error": {"code": "bad_request", "message": "", "temporary": False},
        },
        {"type": "error", "error": {"code": "auth_required", "message": "", "temporary": False}},
    ],
)
def test_they_are_not_sent_to_a_server_that_answers_something_else_and_nobody_is_told(answer: dict[str, Any]) -> None:
    @run
    async def test() -> None:
        bench = await live(push_ack=True)
        await push(bench.socket, "p1")
        await bench.socket.say({**answer, "id": acks(bench.socket)[0]["id"]})
        # Once is enough.
        await agree(bench.socket)
        await push(bench.socket, *pushes(2, 100))
        await asyncio.sleep(1)
        assert (told(bench.socket), bench.errors, bench.asked) == ([], [], 1)
        bench.client.close()
        await bench.client.wait_closed()
        assert told(bench.socket) == []

    test()


@run
async def test_they_are_not_sent_on_another_connection_than_the_push_came_on() -> None:
    bench = await acknowledging()
    first = bench.socket
    await push(first, "p1")
    await first.end(1006)
    await asyncio.sleep(0.25)
    await settled()
    await bench.socket.authenticate(resume="d.s")
    await agree(bench.socket)
    await asyncio.sleep(1)
    assert (told(first), told(bench.socket)) == ([], [])
    await push(bench.socket, "p1")
    await asyncio.sleep(0.11)
    assert (told(first), told(bench.socket)) == ([], [["p1"]])
    bench.client.close()


@run
async def test_they_are_sent_before_a_client_closes_also_by_a_listener_that_hears_of_the_last_one() -> None:
    for closes in [True, False]:
        bench = await acknowledging()

        def heard(push: Any, bench: Bench = bench, closes: bool = closes) -> None:
            if closes and push.id == "p2":
                bench.client.close()

        bench.client.on("push", heard)
        await push(bench.socket, "p1", "p2")
        bench.client.close()
        await bench.client.wait_closed()
        assert (told(bench.socket), bench.socket.is_closed) == ([["p1", "p2"]], True)
        await asyncio.sleep(1)
        assert len(told(bench.socket)) == 1


@run
async def test_what_was_sent_before_a_client_closes_is_sent_once_and_a_socket_that_does_not_take_it_is_closed() -> None:
    for takes in [True, False]:
        bench = await acknowledging()
        bench.socket.takes.clear()
        await push(bench.socket, *pushes(1, 65))
        bench.client.close()
        await settled()
        assert (told(bench.socket), bench.socket.is_closed) == ([], False)
        if takes:
            bench.socket.takes.set()
        began = asyncio.get_running_loop().time()
        await bench.client.wait_closed()
        waited = asyncio.get_running_loop().time() - began
        assert bench.socket.is_closed
        assert (told(bench.socket), waited) == (([pushes(1, 64), ["p65"]], 0) if takes else ([], 1))


@run
async def test_who_has_nothing_more_to_say_is_closed_at_once() -> None:
    bench = await live()
    bench.client.close()
    await bench.client.wait_closed()
    assert (bench.socket.is_closed, asyncio.get_running_loop().time()) == (True, 0)


@run
async def test_they_wait_for_their_turn_and_only_once() -> None:
    bench = await acknowledging(messages_per_second=10)
    orders = [ask(bench, "order", number) for number in range(100)]
    await settled()
    assert len(bench.socket.sent) == 10
    await push(bench.socket, *pushes(1, 64))
    assert told(bench.socket) == []
    await push(bench.socket, "p65")
    await asyncio.sleep(0.11)
    # The place of one message was free, and a request has taken it.
    assert (told(bench.socket), len(bench.socket.sent)) == ([pushes(1, 65)], 12)
    # So many count like others.
    for tenth in range(10):
        await push(bench.socket, f"q{tenth}")
        await asyncio.sleep(0.1)
    assert len(bench.socket.sent) <= 22
    assert len(told(bench.socket)) >= 3
    bench.client.close()
    await asyncio.gather(*orders, return_exceptions=True)
