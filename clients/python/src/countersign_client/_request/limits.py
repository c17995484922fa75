"""
What the server takes.

It says so itself when a connection opens, if it is new enough; until then, and with an older one, its defaults are assumed. What the
options say is never exceeded.
"""

from __future__ import annotations

import math
from typing import Any, Final

_MAX_MESSAGE_BYTES: Final = 65_536
"""`max-message-size`, where the server does not say it."""

_PER_SECOND: Final = 1_000
"""`messages-per-second`, likewise."""

_EARLY_PER_SECOND: Final = 20
"""`unauthenticated-messages-per-second`: what a connection may send before the server has taken a token."""

_SHARE: Final = 0.8
"""Which part of a rate is used: messages arrive closer together than they were sent."""

MOST_PER_SECOND: Final = 1_000_000
"""The highest rate that a server can be set to, which stands for none."""


class Limits:
    """What a client keeps to."""

    def __init__(self, max_message_bytes: int | None, messages_per_second: float | None) -> None:
        """What the options say."""
        self._bytes = math.inf if max_message_bytes is None else max_message_bytes
        self._rate = math.inf if messages_per_second is None else messages_per_second
        self.message_bytes: float = _MAX_MESSAGE_BYTES if max_message_bytes is None else max_message_bytes
        """How large a message may be, its token included."""
        self.per_second: float = _PER_SECOND * _SHARE if messages_per_second is None else messages_per_second
        """How many messages a second may be sent."""
        self.early_per_second: float = _EARLY_PER_SECOND * _SHARE
        """The same before the server has taken a token."""

    def told(self, said: Any) -> None:
        """The server says what it takes. What it does not name has no limit."""
        if not isinstance(said, dict):
            return
        self.message_bytes = min(self._bytes, _positive(said.get("max_message_bytes")) or _MAX_MESSAGE_BYTES)
        self.per_second = min(self._rate, _share(said.get("messages_per_second")))
        self.early_per_second = _share(said.get("unauthenticated_messages_per_second"))


def _share(said: object) -> float:
    return max(1.0, (_positive(said) or MOST_PER_SECOND) * _SHARE)


def _positive(said: object) -> float | None:
    if not isinstance(said, (int, float)) or isinstance(said, bool):
        return None
    return said if 0 < said < math.inf else None
