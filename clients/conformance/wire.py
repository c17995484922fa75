"""What stands between a library and the terminator."""

from __future__ import annotations

import asyncio
import contextlib
import json

from names import Failed, Json
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

SUBPROTOCOL = Subprotocol("countersign.v1.json")
LIMITS = Subprotocol("countersign.limits")


class Wire:
    """Between the library and the terminator: sees each frame, keeps what it is told to, and says things in the server's place."""

    def __init__(self, server: str) -> None:
        self._server = server
        self.handshakes: asyncio.Queue[Json] = asyncio.Queue()
        self.sent: asyncio.Queue[Json] = asyncio.Queue()
        self._keeps = asyncio.Event()
        self._keeps.set()
        self._near: ServerConnection | None = None
        self._dead: ServerConnection | None = None
        self.url = ""

    async def __aenter__(self) -> Wire:
        self._listening = await serve(self._join, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], max_size=None)
        self.url = f"ws://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()

    def keep(self, yes: bool) -> None:
        """Whether what the library says from now on does not arrive."""
        if yes:
            self._keeps.clear()
        else:
            self._keeps.set()

    def die(self) -> None:
        """Nothing of this connection arrives any more, in either direction, and neither end closes it."""
        near = self._present()
        self._dead = near
        near.transport.pause_reading()

    async def cut(self) -> None:
        """The network is gone, without a word."""
        self._present().transport.abort()

    async def say(self, what: Json) -> None:
        await self._present().send(what if isinstance(what, str) else json.dumps(what))

    async def close(self, code: int, reason: str) -> None:
        await self._present().close(code, reason)

    def _present(self) -> ServerConnection:
        if self._near is None:
            raise Failed("there is no connection")
        return self._near

    async def _join(self, near: ServerConnection) -> None:
        assert near.request is not None
        self._near = near
        offered = ",".join(near.request.headers.get_all("Sec-WebSocket-Protocol"))
        asks = LIMITS in [name.strip() for name in offered.split(",")]
        self.handshakes.put_nowait({"path": near.request.path, "subprotocol": near.subprotocol, "limits": asks})
        names = [SUBPROTOCOL, LIMITS] if asks else [SUBPROTOCOL]
        async with connect(self._server, subprotocols=names, max_size=None, proxy=None) as far:
            kept: asyncio.Queue[str | bytes] = asyncio.Queue()
            there = [asyncio.ensure_future(one) for one in (self._there(near, far, kept), self._pass_on(far, kept))]
            try:
                async for text in far:
                    if near is not self._dead:
                        await near.send(text)
            except ConnectionClosed:
                pass
            finally:
                for one in there:
                    one.cancel()
            if near.state.name == "OPEN":
                # What the terminator closes with is what the library is told.
                await near.close(far.close_code or 1011, far.close_reason or "")

    async def _there(
        self,
        near: ServerConnection,
        far: ClientConnection,
        kept: asyncio.Queue[str | bytes],
    ) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in near:
                self.sent.put_nowait(json.loads(text))
                kept.put_nowait(text)
        await far.close()

    async def _pass_on(self, far: ClientConnection, kept: asyncio.Queue[str | bytes]) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                text = await kept.get()
                await self._keeps.wait()
                await far.send(text)
