from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any

import pytest
from fake import Bench, FakeSocket, ask, jwt, live, refusal, run, settled

from countersign_client import Client, Open, Waiting

WITH: dict[str, Any] = {"heartbeat": 25}


async def until_given_up(bench: Bench) -> float:
    """How long it takes until the client gives up the connection."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    while isinstance(bench.client.state, Open):
        assert loop.time() - since < 100, "it is not given up"
        await asyncio.sleep(0.25)
        await settled()
    last = next(state for state in reversed(bench.states) if isinstance(state, Waiting))
    assert last.because == "1006 the server is silent"
    return loop.time() - since


class Wall:
    """A clock that goes on while a computer is suspended, and its event loop's does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept = 0.0
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(time, "time", lambda: loop.time() + self.slept)


@run
async def test_a_dead_connection_that_only_listens_is_given_up_within_heartbeat_and_replaced() -> None:
    bench = await live(**WITH)
    bench.socket.pongs = False
    await asyncio.sleep(10)
    await bench.socket.say({"type": "push", "id": "p1"})
    await asyncio.sleep(17.5)
    assert bench.socket.pings == 0
    await asyncio.sleep(2.5)
    assert bench.socket.pings == 1
    assert await until_given_up(bench) <= 5
    await asyncio.sleep(0.5)
    await settled()
    assert len(FakeSocket.all) == 2
    assert (bench.socket.shown, bench.socket.authentications[0]["payload"]) == ([jwt(2)], {"resume": "c.s"})


@run
async def test_by_default_too() -> None:
    default = inspect.signature(Client).parameters["heartbeat"].default
    bench = await live(heartbeat=default)
    bench.socket.pongs = False
    assert await until_given_up(bench) <= 25


@run
async def test_a_connection_that_lives_is_pinged_and_kept_and_nothing_is_told() -> None:
    bench = await live(**WITH)
    before = list(bench.states)
    await asyncio.sleep(70)
    assert bench.socket.pings in {3, 4}
    assert (bench.socket.shown, bench.asked, bench.states) == ([jwt(1)], 1, before)


@run
async def test_nothing_is_pinged_while_something_comes() -> None:
    bench = await live(**WITH)
    for times in range(7):
        await asyncio.sleep(10)
        await bench.socket.say({"type": "push", "id": f"p{times}"})
    assert bench.socket.pings == 0


@run
async def test_without_a_heartbeat_there_is_none() -> None:
    for heartbeat in [0, None]:
        bench = await live(heartbeat=heartbeat)
        bench.socket.pongs = False
        await asyncio.sleep(70)
        assert bench.socket.pings == 0 and isinstance(bench.client.state, Open)
        bench.client.close()


@run
async def test_a_request_that_waits_for_its_reply_is_the_probe_for_a_minute() -> None:
    bench = await live(**WITH, request_timeout=600)
    await bench.socket.say({"type": "auth.ok", "auth": {"subject": "alice", "expires_in": 1_000, "refresh_in": 800}})
    bench.socket.pongs = False
    answer = ask(bench, "slow")
    await asyncio.sleep(59.5)
    assert bench.socket.pings == 0
    await asyncio.sleep(2.5)
    assert bench.socket.pings == 1
    assert await until_given_up(bench) <= 5
    assert (await refusal(answer)).code == "lost"


@run
async def test_a_request_without_a_reply_in_time_has_the_connection_pinged_at_once() -> None:
    bench = await live(**WITH)
    bench.socket.pongs = False
    await asyncio.sleep(10)
    assert (await refusal(ask(bench, "lost", timeout=4))).code == "timeout"
    await settled()
    assert bench.socket.pings == 1
    assert await until_given_up(bench) <= 5


@run
async def test_a_request_of_one_identity_is_not_sent_again_as_another_when_its_dead_connection_is_replaced() -> None:
    names = ["alice", "bob"]
    bench = await live(**WITH, token=lambda number: jwt(1, names[number - 1]), request_timeout=600)
    bench.socket.pongs = False
    answer = ask(bench, "pay", idempotent=True)
    assert await until_given_up(bench) <= 70
    assert (await refusal(answer)).code == "identity_mismatch"
    await settled()
    assert (len(FakeSocket.all), bench.socket.asked) == (2, [])
    assert "payload" not in bench.socket.authentications[0]


def test_a_computer_that_was_suspended_pings_when_it_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    @run
    async def suspended() -> None:
        wall = Wall(monkeypatch)
        bench = await live(**WITH)
        await asyncio.sleep(1)
        wall.slept += 3_600
        await asyncio.sleep(2)
        await settled()
        assert (bench.socket.pings, bench.client.state) == (1, Open(authenticated=True, subject="alice"))
        bench.socket.pongs = False
        wall.slept += 4
        await asyncio.sleep(2)
        assert bench.socket.pings == 2
        assert await until_given_up(bench) <= 5

    suspended()


def test_a_computer_that_was_suspended_while_it_pinged_gives_the_pong_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    @run
    async def suspended() -> None:
        wall = Wall(monkeypatch)
        bench = await live(**WITH)
        bench.socket.pongs = False
        await asyncio.sleep(20)
        assert bench.socket.pings == 1
        wall.slept += 3_600
        await asyncio.sleep(4)
        await bench.socket.say({"type": "push", "id": "p"})
        await asyncio.sleep(8)
        assert len(FakeSocket.all) == 1 and isinstance(bench.client.state, Open)

    suspended()


def test_a_clock_that_is_set_back_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    @run
    async def set_back() -> None:
        wall = Wall(monkeypatch)
        bench = await live(**WITH)
        bench.socket.pongs = False
        await asyncio.sleep(10)
        wall.slept -= 3_600
        assert await until_given_up(bench) <= 15

    set_back()


@run
async def test_waking_pings_at_once() -> None:
    bench = await live(**WITH)
    bench.socket.pongs = False
    await asyncio.sleep(4)
    bench.client.wake()
    await settled()
    assert bench.socket.pings == 1
    assert await until_given_up(bench) <= 5


@run
async def test_a_server_that_is_too_slow_for_a_pong_is_left_alone_for_longer_each_time() -> None:
    bench = await live(**WITH, backoff=(1, 8))
    for _ in range(4):
        bench.socket.pongs = False
        await until_given_up(bench)
        await asyncio.sleep(8.5)
        await bench.socket.authenticate()
    assert [state.retry_in for state in bench.states if isinstance(state, Waiting)] == [1, 2, 4, 8]
    # One that was heard of has held.
    bench.socket.pongs = False
    await asyncio.sleep(10)
    await bench.socket.say({"type": "push", "id": "p"})
    await until_given_up(bench)
    assert next(state.retry_in for state in reversed(bench.states) if isinstance(state, Waiting)) == 1


def test_a_heartbeat_that_no_network_keeps_is_refused() -> None:
    for heartbeat in [-1, 0.5, float("nan")]:
        with pytest.raises(ValueError, match="heartbeat"):
            Bench(heartbeat=heartbeat)
