"""What a client tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .errors import CountersignError


@dataclass(frozen=True)
class Closed:
    """It was not started, was closed, or lost its connection when logged out."""

    name: ClassVar[Literal["closed"]] = "closed"


@dataclass(frozen=True)
class Connecting:
    """It fetches a token, or shakes hands."""

    name: ClassVar[Literal["connecting"]] = "connecting"


@dataclass(frozen=True)
class Open:
    """Messages travel."""

    name: ClassVar[Literal["open"]] = "open"
    authenticated: bool
    """Whether the server has said who it takes us for."""
    subject: str | None = None


@dataclass(frozen=True)
class Waiting:
    """It connects again then."""

    name: ClassVar[Literal["waiting"]] = "waiting"
    retry_in: float
    """In seconds."""
    because: str
    cause: CountersignError | None = None
    """More, if more is known."""


@dataclass(frozen=True)
class Stopped:
    """It must not come back on its own: connecting again would end the same way."""

    name: ClassVar[Literal["stopped"]] = "stopped"
    error: CountersignError
    close_code: int | None = None
    """If the server closed."""


State = Closed | Connecting | Open | Waiting | Stopped


@dataclass(frozen=True)
class Push:
    """Something that a backend pushed."""

    id: str | None
    type: str | None
    """The member `type` of the payload, if it has one: what it is about, where an application pushes several things."""
    payload: Any


@dataclass(frozen=True)
class Authenticated:
    """Who the server takes us for, in seconds from now."""

    subject: str
    expires_in: float
    """Until the authentication expires."""
    refresh_in: float
    """Until the client should refresh its token. It does so by then."""
    recovered: bool | None = None
    """
    After a lost connection: whether every push since then comes. If it is `False`, some may not: fetch anew what pushes would
    have told.
    """
    missed: int | None = None
    """How many pushes are known not to come, because too many waited, or for too long."""


@dataclass(frozen=True)
class AuthRequired:
    """The server wants a fresh token, and what is held waits for it. It is being fetched; this is for an application that shows it."""

    reason: str
    """`missing`, `expiring`, `expired` or `revoked`."""
    deadline_ms: float
    held_inbound: int
    held_outbound: int
