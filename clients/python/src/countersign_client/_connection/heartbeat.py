"""
Whether the server can still be reached. A network that fails, or a computer that was suspended, closes no socket: it looks open, and
nothing arrives. So a connection on which nothing was received for some time is pinged, and given up if that brings nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

_MAX_CHECK_S: Final = 2.0
"""The longest time between two checks: a computer that was suspended pings so soon after it resumes."""

_LATE_S: Final = 3.0
"""A check that is later than this was not just delayed: the computer or the event loop stood still."""

_MAX_PROBE_S: Final = 5.0
"""The longest time that a pong may take."""

_REPLY_S: Final = 60.0
"""The reply to a message that was sent is as good as a pong. Within this time a server replies at least that it is busy."""


class Watched(Protocol):
    """The connection's client."""

    def ping(self) -> None: ...
    def is_asking(self) -> bool:
        """Whether a message was sent that is not answered yet."""

    def on_silence(self) -> None:
        """The connection is dead."""


class Heartbeat:
    """Watches one connection. It finds a dead one within `heartbeat` seconds, ping included."""

    def __init__(self, heartbeat: float, watched: Watched) -> None:
        """With 0 it does nothing."""
        self._watched = watched
        self._check_s = min(_MAX_CHECK_S, heartbeat / 4)
        self._probe_s = min(_MAX_PROBE_S, heartbeat / 2)
        self._quiet_s = heartbeat - self._probe_s - self._check_s
        """How long nothing may have been received before there is a ping."""
        self._received = self._checked = _now()
        self._check: asyncio.TimerHandle | None = None
        self._limit: asyncio.TimerHandle | None = None
        """When the ping must have brought something."""
        self.has_failed = False
        """Whether it has found the connection dead."""
        if heartbeat > 0:
            self._check_later()

    @property
    def received_at(self) -> float:
        """When something was last received, in the event loop's time."""
        return self._received[0]

    def received(self) -> None:
        """Something was received."""
        self._received = _now()
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def doubt(self) -> None:
        """There is a reason not to wait: the network has changed, or a request got no reply."""
        if self._check is not None and _since(self._received) >= _LATE_S:
            self._probe()

    def end(self) -> None:
        """The connection is over."""
        for timer in (self._check, self._limit):
            if timer is not None:
                timer.cancel()
        self._check = self._limit = None

    def _check_later(self) -> None:
        self._checked = _now()
        self._check = asyncio.get_running_loop().call_later(self._check_s, self._on_check)

    def _on_check(self) -> None:
        is_late = _since(self._checked) - self._check_s >= _LATE_S
        self._check_later()
        quiet = max(_REPLY_S, self._quiet_s) if self._watched.is_asking() else self._quiet_s
        if is_late:
            self.doubt()
        elif _since(self._received) >= quiet:
            self._probe()

    def _probe(self) -> None:
        if self._limit is None:
            self._watched.ping()
            self._limit = asyncio.get_running_loop().call_later(self._probe_s, self._on_limit, _now())

    def _on_limit(self, pinged: tuple[float, float]) -> None:
        self._limit = None
        # A computer that was suspended in between has not given the ping its time.
        if _since(pinged) - self._probe_s >= _LATE_S:
            self._probe()
        else:
            self.has_failed = True
            self._watched.on_silence()


def _now() -> tuple[float, float]:
    """By the event loop's clock and by the wall's: one stands still while a computer is suspended, the other may be set."""
    return asyncio.get_running_loop().time(), time.time()


def _since(then: tuple[float, float]) -> float:
    return max(now - before for now, before in zip(_now(), then, strict=True))
