"""
Where tokens come from: the application's provider, asked once at a time.

A token that is kept and shown again after a reconnect is the classic way to be refused for ever; so the provider is asked anew on
every attempt to connect and before every renewal, and what asks meanwhile gets the same answer.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .._options import TokenProvider

_JWT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)
"""A compact JWS (RFC 7515 §7.1). Whether it is a good one the server knows."""


class Tokens:
    """Asks the provider."""

    def __init__(self, provider: TokenProvider, timeout: float, on_another: Callable[[], None]) -> None:
        """`on_another`: the token that was just given is of another identity than the last one."""
        self._provider, self._timeout, self._on_another = provider, timeout, on_another
        self._asking: asyncio.Task[str] | None = None
        self._identity: str | None = None
        self.current: str | None = None
        """The token that was given last."""
        self.count = 0
        """How many were given."""

    def fresh(self, then: Callable[[BaseException | None], None]) -> None:
        """A fresh token, by the call that is under way or by a new one. Nothing is told of one that was dropped."""
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
            self._asking.add_done_callback(self._asked)
        self._asking.add_done_callback(lambda asking: None if asking.cancelled() else then(asking.exception()))

    def drop(self) -> None:
        """Forgets the token, and the one that is under way."""
        self.current = self._identity = None
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _asked(self, asking: asyncio.Task[str]) -> None:
        if asking is not self._asking:
            return
        self._asking = None
        if asking.cancelled() or asking.exception() is not None:
            return
        token, last = asking.result(), self._identity
        self.current, self._identity = token, _identity_of(token)
        self.count += 1
        if last is not None and last != self._identity:
            self._on_another()

    async def _ask(self) -> str:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                given = self._provider()
                token = await given if inspect.isawaitable(given) else given
        except TimeoutError as error:
            # Its own, or ours.
            if not limit.expired():
                raise
            raise TimeoutError(f"the token provider gave nothing within {self._timeout:g} s") from error
        except asyncio.CancelledError:
            # Its own cancellation, or ours: only we know which.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise RuntimeError("the token provider was cancelled") from None
        if not isinstance(token, str) or not _JWT.fullmatch(token):
            raise TypeError("what the token provider gave is no JWT")
        return token


def _identity_of(token: str) -> str:
    """Whom a token says that it speaks for: an issuer and a subject (RFC 7519 §4.1). Whether that is so the server knows."""
    claims = token.split(".")[1]
    try:
        said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return json.dumps([said.get("iss"), said.get("sub")], default=str)
    except (ValueError, AttributeError, RecursionError):
        # Its identity is unknown.
        return ""
