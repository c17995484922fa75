"""What the platform tells of a connection that cannot be made, and how a real one ends. On time as it is."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from fake import jwt

from countersign_client import Client, CountersignError, RefusedHandshakeError, Waiting


def on_real_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def synchronous(**how: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**how), 30))

    return synchronous


async def first_wait(url: str) -> Waiting:
    """The first wait of a client that connects there."""
    async with Client(url, lambda: jwt(1), random=lambda: 1.0, proxy=None) as client:
        waits: asyncio.Queue[Any] = asyncio.Queue()
        client.on("state", waits.put_nowait)
        while not isinstance(state := await waits.get(), Waiting):
            pass
        return state


async def refusing(head: str, text: str, then: Callable[[str], Awaitable[None]]) -> None:
    """A server that answers each handshake like that."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        await then(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")


@on_real_time
async def test_a_refused_connection_is_told_with_the_platforms_own_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        state = await first_wait(f"ws://127.0.0.1:{unused.getsockname()[1]}")
    assert isinstance(state.cause, CountersignError)
    assert (state.cause.code, state.cause.temporary) == ("unreachable", True)
    assert isinstance(state.cause.__cause__, ConnectionRefusedError)


@on_real_time
async def test_a_refused_handshake_is_told_with_its_status_and_text() -> None:
    async def then(url: str) -> None:
        state = await first_wait(url)
        assert state.cause is not None and state.retry_in == 0.25
        refused = state.cause.__cause__
        assert isinstance(refused, RefusedHandshakeError)
        assert (refused.status, refused.text, refused.retry_after) == (403, "this origin may not connect", None)
        assert "403 this origin may not connect" in str(state.cause)

    await refusing("403 No", "this origin may not connect\n", then)


@pytest.mark.parametrize(
    ("status", "retry_after", "least", "most"),
    [
        (503, "7", 7, 7),
        (429, "1", 2, 2),
        (503, "soon", 2, 2),
        (429, "3600", 30, 30),
        (503, format_datetime(datetime.now(UTC) + timedelta(seconds=25), usegmt=True), 4, 25),
    ],
)
@on_real_time
async def test_one_of_too_many_waits_as_long_as_it_is_told(
    status: int, retry_after: str, least: float, most: float
) -> None:
    async def then(url: str) -> None:
        assert least <= (await first_wait(url)).retry_in <= most

    await refusing(f"{status} No\r\nRetry-After: {retry_after}", "", then)
