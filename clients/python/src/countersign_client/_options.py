"""What an application may choose. What cannot work is told at once, rather than on the first lost connection."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

from ._request.limits import MOST_PER_SECOND

TokenProvider = Callable[[], Awaitable[str] | str]
"""
Gives a JWT that is valid now. It is cancelled when the token is no longer needed.

What it raises is told as an `error` event, and it is asked again later; unless that is a `CountersignError` that is not
`temporary`: then the client stops.
"""

Strategy = Literal["per-message", "explicit"]

_LEAST_HEARTBEAT_S: Final = 1
"""Less time than this a slow network takes for a pong."""


class Socket(Protocol):
    """The part of a WebSocket of the package `websockets` that is used."""

    async def send(self, message: str, /) -> None: ...
    async def recv(self) -> str | bytes: ...
    async def ping(self) -> Awaitable[float]:
        """Sends a ping (RFC 6455 §5.5.2); what it returns is done when the pong is there."""

    async def close(self, code: int = ..., reason: str = ...) -> None: ...


Dial = Callable[[str], Awaitable[Socket]]
"""Shakes hands with a terminator at an address."""


@dataclass(frozen=True)
class Settings:
    """The options, complete."""

    url: str
    token: TokenProvider
    per_message: bool
    dial: Dial | None
    socket_options: Mapping[str, Any]
    max_pending: int
    max_message_bytes: int | None
    request_timeout: float
    connect_timeout: float
    backoff: tuple[float, float]
    messages_per_second: float | None
    push_ack: bool
    heartbeat: float
    """0 for none."""
    random: Callable[[], float]

    def __post_init__(self) -> None:
        """Raises `TypeError` or `ValueError`: with these options it can never work."""
        if not callable(self.token):
            raise TypeError("token is to be a function that gives a token")
        if not isinstance(self.url, str):
            raise TypeError("url is to be a WebSocket's address: wss://…")
        address = urlsplit(self.url)
        if address.scheme not in {"ws", "wss"} or not address.hostname:
            raise ValueError(f"a WebSocket's address begins with wss:// or ws:// and a host: {self.url!r}")
        if address.fragment:
            raise ValueError(f"a WebSocket's address has no fragment: #{address.fragment}")
        least, most = self.backoff
        if most < least:
            raise ValueError("backoff is to be the least wait and the most")
        positive = {
            "max_pending": self.max_pending,
            "max_message_bytes": 1 if self.max_message_bytes is None else self.max_message_bytes,
            "request_timeout": self.request_timeout,
            "connect_timeout": self.connect_timeout,
            "backoff": least,
        }
        for name, value in positive.items():
            check_positive(name, value)
        if self.heartbeat != 0 and not self.heartbeat >= _LEAST_HEARTBEAT_S:
            raise ValueError(f"heartbeat is to be {_LEAST_HEARTBEAT_S} or more, or 0 for none, not {self.heartbeat}")
        if self.messages_per_second is not None and not 1 <= self.messages_per_second <= MOST_PER_SECOND:
            raise ValueError(f"messages_per_second is to be from 1 to {MOST_PER_SECOND}")


def check_positive(name: str, value: float) -> None:
    """Raises `ValueError` for what is not more than 0."""
    if math.isnan(value) or value <= 0:
        raise ValueError(f"{name} is to be more than 0, not {value}")
