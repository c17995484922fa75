"""What was asked and not yet answered, in the order in which it was asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from .. import _protocol as protocol
from .._options import check_positive
from ..errors import CountersignError, again
from .limits import Limits

_LOST_S: Final = 5.0
"""How long the answer to what was lost with its connection may take: the next connection is there by then, or none is."""

_TOKEN_MEMBER_BYTES: Final = len(',"token":""')
"""What a token takes besides itself, which is ASCII."""


@dataclass
class RequestSpec:
    """What is asked, before it is known whether it can be."""

    id: str
    kind: str
    payload: Any = protocol.ABSENT
    idempotent: bool | None = None
    """Whether it may be sent again although it may have been handled; the server says whether, if its caller does not."""
    is_unanswered: bool = False
    """It is over when it is sent, since no answer is wanted."""
    on_reply: Callable[[Any], bool] | None = None
    """Is told of each answer, where several may come, and tells whether that was the last."""


@dataclass(eq=False)
class Request:
    """One request."""

    spec: RequestSpec
    payload: str | None
    """JSON, written once: what is sent again under the same `id` must be the same."""
    bytes: int
    """The size of the message without its token."""
    deadline: float | None
    """When its time is over, if the server is told."""
    timeout: float
    future: asyncio.Future[Any]
    timer: asyncio.TimerHandle | None = None
    postponed: asyncio.TimerHandle | None = None
    sent_with: int = 0
    """The number of the token with which it was last sent."""
    awaits: int = 0
    """It is not sent before there is a token of this number."""
    lost: bool = False
    """Whether it was sent on a connection that was lost: it may have been handled, or be in progress."""
    has_begun: bool = False
    """Whether the first of several answers has come: it is not sent again, or that would come again."""
    unsent: bool = field(default=True)
    """Whether it was not sent on the present connection."""


class Pending:
    """All requests that wait. Bounded: one more is refused."""

    def __init__(self, max_pending: int, limits: Limits, why: Callable[[], CountersignError | None]) -> None:
        """`why`: why there may be no answer, as far as that is known."""
        self._max_pending, self._limits, self._why = max_pending, limits, why
        self._requests: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def is_asking(self) -> bool:
        """Whether one was sent that is not answered yet."""
        return any(not request.unsent for request in self._requests.values())

    def get(self, message_id: object) -> Request | None:
        return self._requests.get(message_id) if isinstance(message_id, str) else None

    def unsent(self) -> list[Request]:
        """Those that were not sent on the present connection, oldest first. They may change meanwhile."""
        return [request for request in self._requests.values() if request.unsent]

    def add(self, spec: RequestSpec, timeout: float) -> Request:
        """Enters a request, whose future ends with its answer, its error, or its time. Raises what it is refused with."""
        loop = asyncio.get_running_loop()
        check_positive("timeout", timeout)
        # The protocol's own are not put off by an application, and what has more than a day has no deadline.
        is_told = timeout <= protocol.MAX_TIMEOUT_S and not spec.kind.startswith("auth.")
        deadline = loop.time() + timeout if is_told else None
        payload = _written(spec)
        text = protocol.write(spec.kind, message_id=spec.id, timeout_ms=left_ms(deadline), payload=payload)
        size = len(text.encode())
        self._check(spec.id, size)
        request = Request(spec, payload, size, deadline, timeout, loop.create_future())
        # Code that waits gets the error all the same.
        request.future.add_done_callback(lambda future: None if future.cancelled() else future.exception())
        self._requests[spec.id] = request
        self._set_timer(request)
        return request

    def answer(self, request: Request, payload: Any) -> None:
        """An answer has come."""
        if request.spec.on_reply is None:
            self.settle(request, payload)
            return
        request.has_begun = True
        _unpostpone(request)
        self._set_timer(request)
        if request.spec.on_reply(payload):
            self.settle(request, None)

    def settle(self, request: Request, payload: Any = None, error: CountersignError | None = None) -> None:
        """It is over."""
        if request.timer is not None:
            request.timer.cancel()
        _unpostpone(request)
        request.unsent = False
        self._requests.pop(request.spec.id, None)
        if request.future.done():
            return
        if error is not None:
            request.future.set_exception(error)
        else:
            request.future.set_result(payload)

    def mark_sent(self, request: Request, token: int) -> None:
        """It was sent on the present connection, with the token of that number."""
        request.sent_with = token
        request.unsent = False
        if request.spec.is_unanswered:
            self.settle(request)

    def mark_refused(self, request: Request) -> None:
        """It was refused for its token, and is to be sent again with a later one. It was not handled, so nothing is lost."""
        request.awaits = request.sent_with + 1
        _unpostpone(request)
        request.lost = False
        request.unsent = True

    def postpone(self, request: Request, wait: float, then: Callable[[], None]) -> None:
        """It is to be sent again after so long, when `then` is told; or on the next connection, if that comes before."""

        def again() -> None:
            request.unsent = True
            then()

        _unpostpone(request)
        request.postponed = asyncio.get_running_loop().call_later(wait, again)

    def mark_unsent(self, remembers: bool, why: CountersignError | None) -> None:
        """
        The connection is gone. What was sent and not answered is to be sent again where that cannot make it happen twice:
        `remembers` tells whether the server knows it again. Else its answer may still come, if it was held for the next
        connection; if it does not soon, its caller is told that it is lost, and `why`.
        """
        loop = asyncio.get_running_loop()
        for request in self._requests.values():
            was_sent = request.lost or not request.unsent
            said = request.spec.idempotent
            may_repeat = not request.has_begun and (remembers if said is None else said)
            _unpostpone(request)
            request.unsent = may_repeat or not was_sent
            if not request.unsent:
                request.postponed = loop.call_later(_LOST_S, self.settle, request, None, _lost(why))
            request.lost = was_sent

    def refuse_largest_sent(self) -> None:
        """The largest of what was sent and not answered: that on which the server choked."""
        sent = [request for request in self._requests.values() if not request.unsent]
        if sent:
            largest = max(sent, key=lambda request: request.bytes)
            self.settle(largest, error=_too_large(largest.bytes, "the server takes less"))

    def refuse_too_large(self, request: Request, token: str | None) -> bool:
        """Tells whether it was refused because it is too large with this token: the server would close the connection."""
        size = request.bytes + (0 if token is None else _TOKEN_MEMBER_BYTES + len(token))
        if size <= self._limits.message_bytes:
            return False
        self.settle(request, error=_too_large(size, f"{self._limits.message_bytes:.0f} are the most"))
        return True

    def fail(self, error: CountersignError) -> None:
        """No answer will come any more."""
        for request in list(self._requests.values()):
            self.settle(request, error=again(error))

    def _set_timer(self, request: Request) -> None:
        if request.timer is not None:
            request.timer.cancel()
        if not math.isinf(request.timeout):
            request.timer = asyncio.get_running_loop().call_later(request.timeout, self._late, request)

    def _late(self, request: Request) -> None:
        cause = self._why()
        why = f": {cause.message}" if cause else ""
        message = f"no answer within {request.timeout:g} s{why}"
        self.settle(request, error=CountersignError("timeout", message, temporary=True, cause=cause))

    def _check(self, message_id: str, size: int) -> None:
        if not 1 <= len(message_id.encode()) <= protocol.MAX_ID_BYTES:
            raise _refused("bad_request", f"an id has 1 to {protocol.MAX_ID_BYTES} bytes")
        if size > self._limits.message_bytes:
            raise _too_large(size, f"{self._limits.message_bytes:.0f} are the most")
        if message_id in self._requests:
            raise _refused("duplicate", f"a request with the id {message_id} is waiting already")
        if len(self._requests) >= self._max_pending:
            raise CountersignError("overflow", f"{self._max_pending} requests are waiting already", temporary=True)


def left_ms(deadline: float | None) -> int | None:
    """How much of its time a request still has, as the server is told it: a whole number, and at least 1."""
    if deadline is None:
        return None
    left = (deadline - asyncio.get_running_loop().time()) * 1_000
    return max(1, math.ceil(left - 1e-6))


def _unpostpone(request: Request) -> None:
    if request.postponed is not None:
        request.postponed.cancel()
        request.postponed = None


def _written(spec: RequestSpec) -> str | None:
    try:
        protocol.write_json([spec.kind, spec.id])
        return None if spec.payload is protocol.ABSENT else protocol.write_json(spec.payload)
    except (TypeError, ValueError) as error:
        raise _refused("bad_request", f"this {spec.kind!r} cannot be written as JSON: {error}", error) from error


def _too_large(size: int, most: str) -> CountersignError:
    return _refused("too_large", f"the message has {size} bytes; {most}")


def _refused(code: str, why: str, cause: BaseException | None = None) -> CountersignError:
    return CountersignError(code, why, temporary=False, cause=cause)


def _lost(cause: CountersignError | None) -> CountersignError:
    why = "the connection was lost before the answer came; it may have been handled all the same"
    return CountersignError("lost", why, temporary=False, effect="unknown", cause=cause)
