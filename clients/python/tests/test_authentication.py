from __future__ import annotations

import asyncio
from typing import Any

from fake import Bench, FakeSocket, ask, jwt, live, opened, refusal, run, settled

from countersign_client import Authenticated, AuthRequired, CountersignError, Open, Waiting


@run
async def test_the_token_comes_first_and_in_the_explicit_strategy_is_waited_for() -> None:
    bench = Bench(strategy="explicit")
    answer = ask(bench, "order")
    await settled()
    assert (bench.socket.shown, bench.socket.asked) == ([jwt(1)], [])
    await bench.socket.authenticate()
    [asked] = bench.socket.asked
    assert "token" not in asked
    await bench.socket.reply(asked["id"], 1)
    assert await answer == 1


@run
async def test_the_identity_is_told() -> None:
    bench = await opened()
    heard: list[Any] = []
    bench.client.on("auth", heard.append)
    await bench.socket.authenticate()
    assert heard == [Authenticated("alice", 100, 80)]
    assert bench.client.state == Open(authenticated=True, subject="alice")


@run
async def test_a_token_is_renewed_before_its_time_and_not_by_all_clients_at_once() -> None:
    for random, renews_at in [(0.0, 68), (1.0, 76)]:
        bench = await live(random=lambda random=random: random)
        await asyncio.sleep(renews_at - 0.1)
        assert bench.asked == 1
        await asyncio.sleep(0.2)
        assert bench.socket.shown == [jwt(1), jwt(2)]
        bench.client.close()


@run
async def test_a_token_near_its_end_is_not_renewed_more_than_once_a_second() -> None:
    bench = await live()
    for _ in range(50):
        await bench.socket.authenticate(expires_in=0, refresh_in=0)
        await bench.socket.require("expiring")
        ask(bench, "order").cancel()
        await asyncio.sleep(0.1)
    assert 3 <= bench.asked - 1 <= 5
    bench.client.close()


@run
async def test_an_expired_connection_says_so_and_gets_a_token_once() -> None:
    bench = await live(strategy="explicit")
    heard: list[Any] = []
    bench.client.on("auth.required", heard.append)
    await bench.socket.require("expired")
    assert heard == [AuthRequired("expired", 1_000, 1, 0)]
    answer = ask(bench, "order")
    await settled()
    assert (bench.client.state, bench.socket.asked, bench.asked) == (Open(authenticated=False), [], 2)
    await bench.socket.authenticate()
    await bench.socket.reply(bench.socket.asked[0]["id"], 1)
    assert await answer == 1


@run
async def test_final_refusals_stop_it() -> None:
    for code in ["token_invalid", "token_revoked", "identity_mismatch"]:
        bench = await opened()
        await bench.socket.refuse(bench.socket.authentications[0]["id"], code)
        assert bench.client.state.name == "stopped" and bench.errors == [code]


@run
async def test_a_token_that_cannot_be_checked_is_tried_again_later_each_time() -> None:
    bench = await opened()
    for _ in range(3):
        await bench.socket.refuse(bench.socket.authentications[-1]["id"], "auth_unavailable", temporary=True)
        await asyncio.sleep(4.1)
        await settled()
    assert len(bench.socket.shown) == 4
    bench.client.close()


@run
async def test_a_server_that_never_answers_is_not_there() -> None:
    bench = await opened()
    await asyncio.sleep(60)
    assert bench.client.state == Waiting(0.25, "1006 the server is silent")
    bench.client.close()


@run
async def test_a_provider_may_be_slow_fail_or_give_nonsense() -> None:
    async def never(_: int) -> str:
        await asyncio.sleep(1_000_000)
        return ""

    async def gives_up(_: int) -> str:
        raise asyncio.CancelledError

    def fails(_: int) -> str:
        raise OSError("away")

    providers: list[Any] = [never, gives_up, fails, lambda _: "no token", lambda _: None]
    for token in providers:
        bench = Bench(token=token, connect_timeout=5)
        bench.client.connect()
        await asyncio.sleep(5)
        await settled()
        assert bench.errors[0] == "no_token" and FakeSocket.all == [], token
        bench.client.close()


@run
async def test_a_providers_own_limit_is_told_as_its_own() -> None:
    def slow_issuer(_: int) -> str:
        raise TimeoutError("the issuer took too long")

    bench = Bench(token=slow_issuer)
    told: list[str] = []
    bench.client.on("error", lambda error: told.append(error.message))
    bench.client.connect()
    await settled()
    assert told == ["the token provider failed: the issuer took too long"]
    bench.client.close()


@run
async def test_a_provider_may_say_that_there_will_be_no_token() -> None:
    def logged_out(_: int) -> str:
        raise CountersignError("no_token", "no user is logged in", temporary=False)

    bench = Bench(token=logged_out)
    assert (await refusal(bench.client.request("order"))).code == "no_token"
    assert bench.client.state.name == "stopped" and bench.errors == ["no_token"]


@run
async def test_one_that_is_not_wanted_any_more_is_cancelled() -> None:
    fate: list[str] = []

    async def slow(_: int) -> str:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            fate.append("cancelled")
            raise
        return jwt(1)

    bench = Bench(token=slow)
    bench.client.connect()
    await settled()
    bench.client.close()
    await asyncio.sleep(2)
    assert (fate, bench.errors, FakeSocket.all) == (["cancelled"], [], [])


@run
async def test_logging_out_refuses_what_waits_and_somebody_else_may_come() -> None:
    bench = await live(token=lambda n: jwt(n, "alice" if n == 1 else "bob"))
    waits = ask(bench, "order")
    await settled()
    forgetting = asyncio.ensure_future(bench.client.forget())
    await settled()
    assert (await refusal(waits)).code == "closed"
    assert bench.socket.sent[-1]["type"] == "auth.logout" and "token" not in bench.socket.sent[-1]
    await bench.socket.say({"type": "auth.ok", "id": bench.socket.sent[-1]["id"]})
    await forgetting
    answer = ask(bench, "order")
    await settled()
    assert bench.socket.asked[-1]["token"] == jwt(2, "bob")
    await bench.socket.reply(bench.socket.asked[-1]["id"], "bob's")
    assert (await answer, bench.errors, len(FakeSocket.all)) == ("bob's", [], 1)


@run
async def test_nothing_that_was_asked_in_one_name_goes_on_in_another() -> None:
    bench = await live(token=lambda n: jwt(n, "alice" if n == 1 else "bob"))
    waits = ask(bench, "pay")
    await settled()
    await bench.socket.end(1006)
    await asyncio.sleep(0.25)
    assert (await refusal(waits)).code == "identity_mismatch"
    await settled()
    assert bench.socket.asked == [] and "payload" not in bench.socket.authentications[0]


@run
async def test_the_key_is_shown_until_it_is_taken() -> None:
    bench = await live()
    await bench.socket.end(1006)
    for _ in range(2):
        await asyncio.sleep(1)
        assert bench.socket.authentications[0]["payload"] == {"resume": "c.s"}
        await bench.socket.end(1006)
    await asyncio.sleep(2)
    await bench.socket.authenticate(resume="d.s")
    await bench.socket.end(1006)
    await asyncio.sleep(10)
    assert bench.socket.authentications[0]["payload"] == {"resume": "d.s"}
    bench.client.close()
