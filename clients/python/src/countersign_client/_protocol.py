"""The words of the subprotocol `countersign.v1.json`, as far as a client says or hears them."""

from __future__ import annotations

import json
import math
from typing import Any, Final

SUBPROTOCOL: Final = "countersign.v1.json"
"""The WebSocket subprotocol (RFC 6455 §1.9)."""

LIMITS_SUBPROTOCOL: Final = "countersign.limits"
"""Is offered beside it, and never chosen: a server that knows it says in its first message what it takes."""

MAX_ID_BYTES: Final = 128
"""The longest `id` of a message, in bytes."""

MAX_TIMEOUT_S: Final = 24 * 60 * 60
"""The longest that a message may say its sender waits: a day."""

CLOSE_ABNORMAL: Final = 1006
CLOSE_TOO_BIG: Final = 1009
CLOSE_RATE_LIMITED: Final = 4429
CLOSE_TOKEN_INVALID: Final = 4501
CLOSE_REVOKED: Final = 4503
CLOSE_CONNECTION_LIMIT: Final = 4505
CLOSE_IDENTITY_MISMATCH: Final = 4509
CLOSE_REPLACED: Final = 4510

_OVERLOAD: Final = frozenset({1011, 1013, 4410, CLOSE_RATE_LIMITED})

ABSENT: Final[Any] = type("Absent", (), {"__repr__": lambda _: "ABSENT"})()
"""A payload that is not there; `None` is one that is `null`."""

Message = dict[str, Any]
"""A message from the server, whose members that this client goes by are of their types."""


def is_terminal(code: int) -> bool:
    """Whether a close code tells the client to stop rather than to come back."""
    return 4500 <= code <= 4999  # noqa: PLR2004


def is_overload(code: int) -> bool:
    """Whether a close code tells of overload, by this client or by all: it comes back, but not at once."""
    return code in _OVERLOAD


def write_json(value: Any) -> str:
    """
    Writes JSON as others do: no spaces, and nothing that JSON does not have.

    Raises `TypeError` or `ValueError` for what cannot be written.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError as error:
        raise ValueError("it is too deep") from error
    text.encode()  # Half a surrogate pair is no text.
    return text


def write(
    kind: str,
    *,
    message_id: str | None = None,
    token: str | None = None,
    timeout_ms: int | None = None,
    payload: str | None = None,
) -> str:
    """A message as it crosses the socket. Its payload is written already: one that is sent again must be the same."""
    members: Message = {"id": message_id, "type": kind, "token": token, "timeout_ms": timeout_ms}
    head = write_json({name: value for name, value in members.items() if value is not None})
    return head if payload is None else f'{head[:-1]},"payload":{payload}}}'


def write_cancel(message_id: str) -> str:
    """That a request has been given up: the server need not go on with it."""
    return write_json({"cancel": message_id})


def write_ack(*, message_id: str | None = None, ids: list[str] | None = None) -> str:
    """Pushes that have come; with an id of its own it is answered, where a server takes note of that (`push-ack`)."""
    members: Message = {"id": message_id, "type": "push.ack", "ids": ids}
    return write_json({name: value for name, value in members.items() if value is not None})


def parse(data: str | bytes) -> Message | None:
    """The message that a frame holds, if it holds one."""
    if not isinstance(data, str):
        return None
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return None
    # What timers are set by must be numbers.
    auth = message.get("auth")
    if not (isinstance(auth, dict) and is_number(auth.get("expires_in")) and is_number(auth.get("refresh_in"))):
        message.pop("auth", None)
    return message


def is_number(value: object) -> bool:
    """Whether that is a number, and can be counted with."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
