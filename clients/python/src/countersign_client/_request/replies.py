"""Several answers to one request, as they come: to be read by `async for`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Generic, Self, TypeVar

from ..errors import CountersignError

Reply = TypeVar("Reply")

_MAX_UNREAD: Final = 1_000
"""The most answers that may be unread. A reader that falls behind further than this is told so."""


class Replies(AsyncIterator[Reply], Generic[Reply]):
    """
    The answers. Who has enough closes it, so that the server is told to give the request up: as an asynchronous context manager
    (`async with`), or by `aclose`.
    """

    def __init__(self, is_last: Callable[[Reply], bool]) -> None:
        self._is_last = is_last
        self._unread: deque[Reply] = deque()
        self._changed = asyncio.Event()
        self._is_over = False
        self._error: BaseException | None = None
        self._give_up: Callable[[], None] = lambda: None

    async def __anext__(self) -> Reply:
        """The next answer. Those that came before an end come before it."""
        while not self._unread:
            if self._is_over:
                # An error is told once.
                error, self._error = self._error, None
                raise error or StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._unread.popleft()

    async def aclose(self) -> None:
        """Gives it up."""
        self._unread.clear()
        self._error = None
        if not self._is_over:
            self._is_over = True
            self._give_up()
        self._changed.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _begin(self, future: asyncio.Future[Any], give_up: Callable[[], None]) -> None:
        self._give_up = give_up
        future.add_done_callback(self._ended)

    def _on_reply(self, payload: Any) -> bool:
        """Tells whether it was the last."""
        if len(self._unread) >= _MAX_UNREAD:
            self._is_over = True
            self._error = CountersignError("overflow", f"{_MAX_UNREAD} answers have not been read", temporary=False)
            self._give_up()
            return True
        self._unread.append(payload)
        self._changed.set()
        return self._is_last(payload)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        if not self._is_over:
            self._is_over = True
            self._error = asyncio.CancelledError() if future.cancelled() else future.exception()
        self._changed.set()
