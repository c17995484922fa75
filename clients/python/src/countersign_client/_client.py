"""One client of Countersign, as an application sees it: it is asked, it tells of pushes, and it is always there."""

from __future__ import annotations

import asyncio
import random as randomness
from collections.abc import Callable
from typing import Any, Self

from . import _protocol as protocol
from ._lifecycle import Lifecycle
from ._listeners import Listeners
from ._options import Dial, Settings, Strategy, TokenProvider
from ._request.pending import RequestSpec
from ._request.replies import Replies
from .events import State


class Client(Listeners):
    """A client. It connects when it is first asked for something, or by `connect`, or as an asynchronous context manager."""

    def __init__(
        self,
        url: str,
        token: TokenProvider,
        *,
        strategy: Strategy = "per-message",
        max_pending: int = 1_000,
        max_message_bytes: int | None = None,
        request_timeout: float = 60.0,
        connect_timeout: float = 15.0,
        backoff: tuple[float, float] = (0.25, 30.0),
        messages_per_second: float | None = None,
        push_ack: bool = False,
        heartbeat: float | None = 25.0,
        random: Callable[[], float] = randomness.random,
        dial: Dial | None = None,
        **socket_options: Any,
    ) -> None:
        """
        `socket_options` are for `websockets.asyncio.client.connect`: `ssl`, `proxy`, `additional_headers` and the like.

        Raises `TypeError` or `ValueError`: with these options it can never work.
        """
        super().__init__()
        if strategy not in {"per-message", "explicit"}:
            raise ValueError(f"no strategy: {strategy}")
        settings = Settings(
            url=url,
            token=token,
            per_message=strategy == "per-message",
            dial=dial,
            socket_options=socket_options,
            max_pending=max_pending,
            max_message_bytes=max_message_bytes,
            request_timeout=request_timeout,
            connect_timeout=connect_timeout,
            backoff=backoff,
            messages_per_second=messages_per_second,
            push_ack=push_ack,
            heartbeat=heartbeat or 0,
            random=random,
        )
        self._lifecycle = Lifecycle(settings, self._tell, self._tell_push)

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._lifecycle.state

    @property
    def pending(self) -> int:
        """How many requests wait for their answers."""
        return len(self._lifecycle.pending)

    async def __aenter__(self) -> Self:
        """Connects, without waiting for it."""
        self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()

    def connect(self) -> None:
        """Connects if it is not connected, without waiting any longer, also after a stop; and logs in if it was logged out."""
        self._lifecycle.connect()

    def close(self) -> None:
        """Closes, and refuses what waits and what is asked from now on. A later `connect` begins anew."""
        self._lifecycle.close()

    async def wait_closed(self) -> None:
        """Waits until the socket is closed, too."""
        await self._lifecycle.closed()

    def wake(self) -> None:
        """Says that the network is back, or that this machine has slept: waiting on has no sense, and a connection may be dead."""
        self._lifecycle.wake()

    async def forget(self) -> None:
        """
        Logs out, and refuses what waits. The client does not log in again before something is asked or `connect` is called; then
        the identity is that of the provider's next token.
        """
        await self._lifecycle.forget()

    async def request(
        self,
        kind: str,
        payload: Any = protocol.ABSENT,
        *,
        id: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - The server is told.
        idempotent: bool | None = None,
    ) -> Any:
        """
        Asks, and returns the payload of the answer; of the first one, if there are several. What was sent and not answered when a connection is
        lost is sent again, under the same id, if the server's idempotency is on, so that it has its effect once, or if the call says that it is
        idempotent. Else it raises `lost`, if its answer does not come on the next connection within 5 s: it may have been handled.

        A call that is cancelled gives the request up, and the server is told. Raises `CountersignError`.
        """
        request = self._lifecycle.ask(RequestSpec(id or self._lifecycle.next_id(), kind, payload, idempotent), timeout)
        try:
            return await request.future
        except asyncio.CancelledError:
            self._lifecycle.give_up(request)
            raise

    async def send(self, kind: str, payload: Any = protocol.ABSENT, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """
        Says something to which no answer is wanted. Returns when it is sent, or raises why it is not; what becomes of it then is not told, but
        for a refusal, which is an `error` event. It is never sent twice.
        """
        request = self._lifecycle.ask(
            RequestSpec(self._lifecycle.next_id(), kind, payload, is_unanswered=True), timeout
        )
        try:
            await request.future
        except asyncio.CancelledError:
            self._lifecycle.give_up(request)
            raise

    def stream(
        self,
        kind: str,
        payload: Any = protocol.ABSENT,
        *,
        is_last: Callable[[Any], bool] = lambda _: False,
        id: str | None = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
    ) -> Replies[Any]:
        """
        Asks at once, and gives the answers as they come, for a handler that gives several. It ends with the one that `is_last` says is the last,
        with an error, when none comes in time (`timeout`, for each), or when it is closed: then the server is told to give it up. After its
        first answer it is not sent again: if its connection is lost then and the rest does not come on the next one, it ends with `lost`.
        """
        replies: Replies[Any] = Replies(is_last)
        spec = RequestSpec(id or self._lifecycle.next_id(), kind, payload, idempotent, on_reply=replies._on_reply)
        request = self._lifecycle.ask(spec, timeout)
        replies._begin(request.future, lambda: self._lifecycle.give_up(request))
        return replies
