"""The way out: what waits goes over the present connection, in its order, and no faster than the server takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import _protocol as protocol
from .._connection.times import Pace
from .pending import Pending, left_ms

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .._connection.tokens import Tokens
    from .limits import Limits


class Outbox:
    """Sends."""

    def __init__(self, limits: Limits, pending: Pending, tokens: Tokens, on_turn: Callable[[], None]) -> None:
        """`on_turn`: it is the turn of what had to wait."""
        self._limits = limits
        self._pace = Pace(limits.per_second, limits.early_per_second)
        self._pending, self._tokens, self._on_turn = pending, tokens, on_turn
        self._connection: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, connection: Connection) -> None:
        """A connection is open."""
        self._connection = connection
        self._pace.begin(_now())

    def limited(self) -> None:
        """The limits have changed."""
        self._pace.change(self._limits.per_second, self._limits.early_per_second, _now())

    def proven(self) -> None:
        """The server has taken a token on it."""
        self._pace.proven(_now())

    def end(self, *, was_too_fast: bool) -> None:
        """It is over; because of all that was sent, or not."""
        if self._timer is not None:
            self._timer.cancel()
        self._connection = None
        if was_too_fast:
            self._pace.hit(_now())

    def say(self, text: str) -> bool:
        """Says what is the connection's own, and does not wait. Tells whether it was handed on."""
        is_said = self._connection is not None and self._connection.send(text)
        if is_said:
            self._pace.spend(_now())
        return is_said

    def wait(self) -> float:
        """In how many seconds it is the turn of one message more."""
        return self._pace.wait(_now())

    def flush(self, token: str | None) -> bool:
        """Sends what has not been sent on this connection, with this token. Tells whether something waits for a later one."""
        are_left = False
        for request in self._pending.unsent():
            is_early = request.awaits > self._tokens.count
            are_left = are_left or is_early
            if is_early or self._pending.refuse_too_large(request, token):
                continue
            # Those behind it wait, too, until the socket has taken what it has.
            if self._connection is None or not self._connection.has_room:
                break
            wait = self._pace.take(_now())
            if wait > 0:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = asyncio.get_running_loop().call_later(wait, self._on_turn)
                break
            spec = request.spec
            text = protocol.write(
                spec.kind,
                message_id=None if spec.is_unanswered else spec.id,
                token=token,
                timeout_ms=left_ms(request.deadline),
                payload=request.payload,
            )
            if self._connection.send(text):
                self._pending.mark_sent(request, self._tokens.count)
        return are_left


def _now() -> float:
    return asyncio.get_running_loop().time()
