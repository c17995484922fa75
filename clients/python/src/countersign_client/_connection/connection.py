"""One WebSocket, from the handshake to its end. Its owner hears no more of it once it has dropped it."""

from __future__ import annotations

import asyncio
import email.utils
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from .. import _protocol as protocol
from ..errors import RefusedHandshakeError

if TYPE_CHECKING:
    from .._options import Settings, Socket

_MAX_TEXT: Final = 1_024
"""More of what a server says for people is not read."""

_MAX_RECEIVED_BYTES: Final = 16 * 1_024 * 1_024
"""The largest message that is taken from a server."""

_LAST_WORDS_S: Final = 1.0
"""How long a socket that is dropped may take for what was sent before."""

_ROOM: Final = 64
"""How many messages may wait for the socket to take them."""


class Hooks(Protocol):
    """What happens on it."""

    def on_open(self) -> None: ...
    def on_received(self) -> None:
        """Something was received, whatever it is."""

    def on_message(self, message: protocol.Message) -> None: ...
    def on_room(self) -> None:
        """There is room for what had to wait."""

    def on_end(self, end: End) -> None:
        """It is over, whichever end closed it. Nothing follows."""


@dataclass(frozen=True)
class End:
    """How a connection ended."""

    code: int
    reason: str
    cause: BaseException | None = None


class Connection:
    """A connection that is being made, or is."""

    def __init__(self, settings: Settings, hooks: Hooks) -> None:
        self._settings, self._hooks = settings, hooks
        self._waiting: deque[str] = deque()
        self._wakes_writer = asyncio.Event()
        self._is_open = self._is_over = False
        self._socket: Socket | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def has_room(self) -> bool:
        """Whether more may be sent now."""
        return self._is_open and not self._is_over and len(self._waiting) < _ROOM

    def send(self, text: str) -> bool:
        """Tells whether it was handed on."""
        if self._is_over or not self._is_open:
            return False
        self._waiting.append(text)
        self._wakes_writer.set()
        return True

    def ping(self) -> None:
        """Sends a ping, and tells of its pong."""
        if self._socket is not None and (self._pinging is None or self._pinging.done()):
            self._pinging = asyncio.get_running_loop().create_task(self._pings(self._socket))

    def drop(self) -> None:
        """Closes it behind what was sent, and tells nothing more."""
        self._is_over = True
        self._wakes_writer.set()
        # If it is dropped from one of its own hooks, it ends by itself.
        if asyncio.current_task() is not self._task:
            self._task.cancel()

    def give_up(self, why: str) -> None:
        """Gives it up: to its hooks it has ended, whatever becomes of the socket."""
        end = End(protocol.CLOSE_ABNORMAL, why)
        if not self._is_over:
            self.drop()
            self._hooks.on_end(end)

    async def closed(self) -> None:
        """Waits until the socket is closed."""
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            end = await self._lives()
        except asyncio.CancelledError:
            if self._is_over:
                return
            # Its loop is ending.
            raise
        if not self._is_over:
            self._is_over = True
            self._hooks.on_end(end)

    async def _lives(self) -> End:
        try:
            async with asyncio.timeout(self._settings.connect_timeout) as limit:
                socket = await self._dial()
        except TimeoutError as error:
            return End(protocol.CLOSE_ABNORMAL, "no handshake in time" if limit.expired() else "", error)
        except InvalidStatus as error:
            return End(protocol.CLOSE_ABNORMAL, "", _refused(error))
        except Exception as error:  # noqa: BLE001 - Whatever the platform has, there is no connection.
            return End(protocol.CLOSE_ABNORMAL, "", error)
        writer = asyncio.get_running_loop().create_task(self._writes(socket))
        self._socket = socket
        try:
            self._is_open = True
            self._hooks.on_open()
            while not self._is_over:
                frame = await socket.recv()
                self._hooks.on_received()
                message = protocol.parse(frame)
                if message is not None:
                    self._hooks.on_message(message)
            return End(protocol.CLOSE_ABNORMAL, "")
        except ConnectionClosed as error:
            close = error.rcvd
            return End(close.code, close.reason) if close else End(protocol.CLOSE_ABNORMAL, "", error.__cause__)
        except Exception as error:  # noqa: BLE001 - A socket of another kind may end in its own way.
            return End(protocol.CLOSE_ABNORMAL, "", error)
        finally:
            if self._is_over:
                await asyncio.wait([writer], timeout=_LAST_WORDS_S)
            writer.cancel()
            if self._pinging is not None:
                self._pinging.cancel()
            await _close(socket)

    async def _dial(self) -> Socket:
        if self._settings.dial is not None:
            return await self._settings.dial(self._settings.url)
        return await connect(
            self._settings.url,
            **{
                "subprotocols": [Subprotocol(protocol.SUBPROTOCOL), Subprotocol(protocol.LIMITS_SUBPROTOCOL)],
                "open_timeout": None,
                "max_size": _MAX_RECEIVED_BYTES,
                "close_timeout": 5,
                # The heartbeat pings.
                "ping_interval": None,
                **self._settings.socket_options,
            },
        )

    async def _pings(self, socket: Socket) -> None:
        try:
            await (await socket.ping())
        except Exception:  # noqa: BLE001 - The reader tells how it ended.
            return
        if not self._is_over:
            self._hooks.on_received()

    async def _writes(self, socket: Socket) -> None:
        try:
            while True:
                while self._waiting:
                    await socket.send(self._waiting[0])
                    self._waiting.popleft()
                    if len(self._waiting) == _ROOM // 2 and not self._is_over:
                        self._hooks.on_room()
                if self._is_over:
                    return
                self._wakes_writer.clear()
                await self._wakes_writer.wait()
        except ConnectionClosed:
            # The reader tells how it ended.
            return


async def _close(socket: Socket) -> None:
    try:
        await socket.close(1000, "")
    except Exception:  # noqa: BLE001 - It is over, however that is.
        return


def _refused(error: InvalidStatus) -> RefusedHandshakeError:
    response = error.response
    text = bytes(response.body or b"")[:_MAX_TEXT].decode(errors="replace").strip()
    return RefusedHandshakeError(response.status_code, text, _retry_after(response.headers.get("Retry-After")))


def _retry_after(value: str | None) -> float | None:
    """`Retry-After` in seconds or as a date (RFC 9110 §10.2.3)."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
