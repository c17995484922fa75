"""
Which pushes have come over one connection, as its server is told, so that it keeps those that it wrote to a dead socket.

Not every server wants to know that (`push-ack`). One that does not hands the first such message to its application, which answers
something else, and is told no more.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from .. import _protocol as protocol
from .limits import Limits

_BATCH: Final = 64
_BATCH_S: Final = 0.1
"""So many are told together, or fewer after so long: a server waits for a minute."""

_MOST_TOLD: Final = 1_000
"""The most that a server takes in one message."""

_MOST_WAITING: Final = 1_024
"""The most that a server waits for: with more it closes the connection."""


class Sender(Protocol):
    """How it is told."""

    def say(self, text: str) -> bool:
        """Tells whether it was handed on."""

    def wait(self) -> float:
        """In how many seconds it is the turn of one message more."""


class Acknowledgements:
    """The acknowledgements of one connection."""

    def __init__(self, message_id: str, limits: Limits, sender: Sender) -> None:
        """Asks whether the server wants to know."""
        self._id, self._limits, self._sender = message_id, limits, sender
        self._waiting: dict[str, int] = {}
        """The ids of those that have come and are not acknowledged, oldest first, and their bytes on the wire."""
        self._is_wanted: bool | None = None
        """Whether the server wants to know. It has not answered yet if it is not known."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        """Whether they are to be told as soon as it is their turn."""
        sender.say(protocol.write_ack(message_id=message_id))

    def takes(self, message: protocol.Message) -> bool:
        """Takes the answer to that. Tells whether it was that."""
        if message.get("id") != self._id or self._is_wanted is not None:
            return False
        payload = message.get("payload")
        self._is_wanted = (
            message["type"] == "reply" and isinstance(payload, dict) and protocol.is_number(payload.get("acknowledged"))
        )
        if self._is_wanted:
            self._tell()
        else:
            self.end()
        return True

    def came(self, push_id: object) -> None:
        """A push has come, and is about to be passed on. If a listener ends the connection, it counts as received, too."""
        if not isinstance(push_id, str) or self._is_wanted is False:
            return
        try:
            self._waiting[push_id] = len(protocol.write_json(push_id).encode())
        except ValueError:
            # It is no text, and so no push has it.
            return
        if len(self._waiting) > _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        if self._is_wanted and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_BATCH_S, self._on_due)

    def passed_on(self) -> None:
        """It was passed on."""
        if len(self._waiting) >= _BATCH:
            self._on_due()

    def end(self) -> None:
        """The connection ends. What waits is said first, if it can be."""
        while self._is_wanted and self._say():
            pass
        self._stop_timer()
        self._waiting.clear()
        self._is_wanted = False

    def _on_due(self) -> None:
        """They take their turn once, and then go before what else may have taken it: requests may be many."""
        if not self._is_wanted or self._is_due:
            return
        self._is_due = True
        self._stop_timer()
        wait = self._sender.wait()
        if wait > 0:
            self._timer = asyncio.get_running_loop().call_later(wait, self._tell)
        else:
            self._tell()

    def _tell(self) -> None:
        self._stop_timer()
        self._is_due = False
        if self._say() and self._waiting:
            self._on_due()

    def _say(self) -> bool:
        """Says as many as one message holds. Tells whether it was handed on."""
        ids: list[str] = []
        size = len(protocol.write_ack(ids=ids))
        for push_id, push_bytes in self._waiting.items():
            size += push_bytes + 1
            if len(ids) == _MOST_TOLD or (ids and size > self._limits.message_bytes):
                break
            ids.append(push_id)
        if not ids or not self._sender.say(protocol.write_ack(ids=ids)):
            return False
        for push_id in ids:
            del self._waiting[push_id]
        return True

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
