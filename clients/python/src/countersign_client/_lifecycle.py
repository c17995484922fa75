"""
A client's life from one connection to the next. Each begins with a fresh token, and with what was not answered on the one before;
what happens on it meanwhile is its `Connection`'s and its `Session`'s business. All of it lives in one event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Final

from . import _protocol as protocol
from ._connection.connection import Connection, End
from ._connection.heartbeat import Heartbeat
from ._connection.session import Session
from ._connection.times import Backoff, Comeback
from ._connection.tokens import Tokens
from ._options import Settings
from ._request.acknowledgements import Acknowledgements
from ._request.limits import Limits
from ._request.outbox import Outbox
from ._request.pending import Pending, Request, RequestSpec
from .errors import (
    CountersignError,
    RefusedHandshakeError,
    again,
    logged_out,
    no_token,
    refused_by_server,
    stopped_by_close,
    unreachable,
    was_closed,
)
from .events import Authenticated, AuthRequired, Closed, Connecting, Open, State, Stopped, Waiting

_STEADY_S: Final = 5.0
"""A connection that ends sooner than this after its token was taken has proved nothing: the next wait is longer still."""

_OVERLOAD_LEAST_S: Final = 2.0
"""The least wait before coming back to a server that has too much to do, jitter aside."""

_BUSY_RETRY_S: Final = 1.0
"""When a request that was sent on an earlier connection, too, is sent again if the server is busy and does not say when."""

_WANT_TOKEN: Final = frozenset({"auth_required", "token_expired", "hold_expired", "hold_overflow"})
"""Errors that a fresh token may resolve."""


class Lifecycle:
    """What is behind a `Client`."""

    def __init__(
        self, settings: Settings, tell: Callable[[str, Any], None], tell_push: Callable[[object, Any], None]
    ) -> None:
        self._settings, self._tell, self._tell_push = settings, tell, tell_push
        self._tokens = Tokens(settings.token, settings.connect_timeout, self._on_another)
        self._limits = Limits(settings.max_message_bytes, settings.messages_per_second)
        self.pending = Pending(settings.max_pending, self._limits, lambda: self._trouble)
        self._outbox = Outbox(self._limits, self.pending, self._tokens, self._flush)
        self._comeback = Comeback(Backoff(*settings.backoff, settings.random), settings.random, self._open)
        self._name, self._last_id = secrets.token_urlsafe(9), 0
        self.state: State = Closed()
        self._is_closed = False
        self._attempt = 0
        """Counts attempts to connect, so that a token that comes for an earlier one is told apart."""
        self._connection: Connection | None = None
        self._dropped: Connection | None = None
        self._session: Session | None = None
        """Its authentication, once it is open."""
        self._heartbeat: Heartbeat | None = None
        """Whether it is still alive."""
        self._acknowledgements: Acknowledgements | None = None
        """What it is told of its pushes, if that is wanted."""
        self._remembers = False
        """Whether the server said that it knows a message again by its id."""
        self._inheritance: str | None = None
        """The key to what the last connection has left held."""
        self._trouble: CountersignError | None = None
        """Why the client is not authenticated, if that is known."""

    def connect(self) -> None:
        self._is_closed = False
        if isinstance(self.state, Closed | Stopped):
            self._open()
        elif isinstance(self.state, Waiting):
            self._comeback.now()
        elif self._session is not None and self._session.is_logged_out:
            self._session.renew()

    def close(self) -> None:
        self._is_closed = True
        self._leave(Closed(), was_closed())

    async def closed(self) -> None:
        """Waits until the socket is closed, too."""
        if self._dropped is not None:
            await self._dropped.closed()

    def wake(self) -> None:
        if isinstance(self.state, Waiting):
            self._comeback.wake()
        else:
            self._doubt(network_changed=True)

    async def forget(self) -> None:
        if isinstance(self.state, Closed | Stopped):
            return
        session = self._session
        if session is None:
            self._leave(Closed(), logged_out())
            return
        session.forget()
        self.pending.fail(logged_out())
        request = self.pending.add(RequestSpec(self.next_id(), "auth.logout"), self._settings.request_timeout)
        self._outbox.flush(None)
        self._enter(Open(authenticated=False))
        try:
            await request.future
        except CountersignError:
            # Without its connection it is logged out, too: that is what is left if the server cannot do it.
            if session is self._session:
                self._leave(Closed(), logged_out())

    def ask(self, spec: RequestSpec, timeout: float | None) -> Request:
        if isinstance(self.state, Stopped):
            raise again(self.state.error)
        if self._is_closed:
            raise was_closed()
        if spec.kind.startswith("auth."):
            raise CountersignError("bad_request", f"{spec.kind} is the protocol's own", temporary=False)
        request = self.pending.add(spec, self._settings.request_timeout if timeout is None else timeout)
        request.future.add_done_callback(self._look_after)
        if isinstance(self.state, Closed):
            self.connect()
        self._flush()
        return request

    def _look_after(self, future: asyncio.Future[Any]) -> None:
        """The server may be gone without the network having noticed."""
        error = None if future.cancelled() else future.exception()
        if isinstance(error, CountersignError) and error.code == "timeout":
            self._doubt(network_changed=False)

    def _doubt(self, *, network_changed: bool) -> None:
        """The connection may be dead, and its token old."""
        if self._heartbeat is not None:
            self._heartbeat.doubt()
        if self._session is not None:
            self._session.awake(network_changed)

    def give_up(self, request: Request) -> None:
        was_sent = not request.unsent
        if self.pending.get(request.spec.id) is not request:
            return
        request.future.cancel()
        self.pending.settle(request)
        if was_sent:
            self._outbox.say(protocol.write_cancel(request.spec.id))

    def _open(self) -> None:
        self._attempt += 1
        attempt = self._attempt
        self._enter(Connecting())

        def then(error: BaseException | None) -> None:
            if attempt != self._attempt:
                return
            if error is None:
                self._connection = Connection(self._settings, self)
            else:
                self._on_no_token(no_token(error))

        if attempt == self._attempt:
            self._tokens.fresh(then)

    def _on_no_token(self, error: CountersignError) -> None:
        self._trouble = error
        if error.temporary:
            self._retry("no token", 0, error)
        else:
            self._stop(error)
        self._tell("error", error)

    def _on_another(self) -> None:
        """Nothing that was asked in one name goes on in another, and no identity takes over what another has left held."""
        self._inheritance = None
        why = "the token provider gave another identity's token while this was waiting"
        self.pending.fail(CountersignError("identity_mismatch", why, temporary=False))

    # What its connection tells.

    def on_open(self) -> None:
        assert self._connection is not None
        self._outbox.begin(self._connection)
        self._heartbeat = Heartbeat(self._settings.heartbeat, self)
        self._session = Session(self._settings, self._tokens, self._inheritance, self)
        self._session.show()
        if self._settings.push_ack:
            self._acknowledgements = Acknowledgements(self.next_id(), self._limits, self._outbox)
        self._enter(Open(authenticated=False))
        self._flush()

    def on_room(self) -> None:
        self._flush()

    def on_received(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.received()

    def on_message(self, message: protocol.Message) -> None:
        session = self._session
        if session is None:
            return
        auth = message.get("auth")
        if auth is not None and session.granted(auth):
            self._on_granted(auth)
        # A listener may have closed it.
        if session is not self._session:
            return
        if session.takes(message):
            self._flush()
            return
        acknowledgements = self._acknowledgements
        if acknowledgements is not None and acknowledgements.takes(message):
            return
        match message["type"]:
            case "reply" | "auth.ok":
                if (request := self.pending.get(message.get("id"))) is not None:
                    self.pending.answer(request, message.get("payload"))
            case "error":
                self._on_error(message, session)
            case "push":
                if acknowledgements is not None:
                    acknowledgements.came(message.get("id"))
                self._tell_push(message.get("id"), message.get("payload"))
                if acknowledgements is not None:
                    acknowledgements.passed_on()
            case "auth.required":
                session.required()
                self._on_required(message)
            case "limits":
                self._limits.told(message.get("payload"))
                self._outbox.limited()
                self._flush()
            case _:
                # A newer server may say what this client does not know.
                pass

    def on_end(self, end: End) -> None:
        session = self._session
        is_logged_out = session is not None and session.is_logged_out
        proven_since = None if session is None else session.proven_since
        heartbeat = self._heartbeat
        # One that fell silent has proved nothing since: its server may be too slow for a pong, and is to be asked less often.
        until = asyncio.get_running_loop().time()
        if heartbeat is not None and heartbeat.has_failed:
            until = heartbeat.received_at
        self._part(end.code)
        if proven_since is not None and until - proven_since >= _STEADY_S:
            self._comeback.reset()
        if end.code == protocol.CLOSE_TOO_BIG:
            self.pending.refuse_largest_sent()
        if protocol.is_terminal(end.code):
            self._stop(stopped_by_close(end.code, end.reason), end.code)
        elif is_logged_out:
            self._leave(Closed(), logged_out())
        else:
            error = self._trouble = unreachable(end.code, end.reason, end.cause)
            self.pending.mark_unsent(self._remembers, error)
            self._retry(f"{end.code} {end.reason}".rstrip(), _least_wait(end), None if end.cause is None else error)

    # What its heartbeat needs, and its session.

    def ping(self) -> None:
        if self._connection is not None:
            self._connection.ping()

    def is_asking(self) -> bool:
        return self.pending.is_asking() or (self._session is not None and self._session.is_showing)

    def send(self, text: str) -> bool:
        return self._outbox.say(text)

    def next_id(self) -> str:
        self._last_id += 1
        return f"{self._name}-{self._last_id}"

    def on_shown(self) -> None:
        self._flush()

    def on_error(self, error: CountersignError) -> None:
        self._trouble = error
        self._tell("error", error)

    def on_stop(self, error: CountersignError) -> None:
        self._stop(error)

    def on_silence(self) -> None:
        if self._connection is not None:
            self._connection.give_up("the server is silent")

    def _on_error(self, message: protocol.Message, session: Session) -> None:
        error = refused_by_server(message.get("error"))
        request = self.pending.get(message.get("id"))
        if request is None:
            # That of a request which is over is ignored.
            if message.get("id") is None:
                self._tell("error", error)
        elif error.code in _WANT_TOKEN and request.awaits == 0 and not session.is_logged_out:
            # Once for each request: a request that is refused with a fresh token is refused with the next, too.
            self.pending.mark_refused(request)
            self._flush()
        elif error.code == "busy" and request.lost and self._may_repeat(request):
            # It may be its own first copy that is being handled: then its answer comes, or is there next time.
            self.pending.postpone(request, error.retry_after or _BUSY_RETRY_S, self._flush)
        else:
            self.pending.settle(request, error=error)

    def _may_repeat(self, request: Request) -> bool:
        said = request.spec.idempotent
        return self._remembers if said is None else said

    def _on_required(self, message: protocol.Message) -> None:
        reason = str(message.get("reason", "missing"))
        if reason in {"expired", "missing"}:
            self._enter(Open(authenticated=False))
        held = message.get("held")
        held = held if isinstance(held, dict) else {}
        self._tell(
            "auth.required",
            AuthRequired(reason, message.get("deadline_ms", 0), held.get("inbound", 0), held.get("outbound", 0)),
        )

    def _on_granted(self, auth: dict[str, Any]) -> None:
        self._remembers = auth.get("idempotency") is not None
        self._trouble = None
        self._outbox.proven()
        subject = str(auth.get("subject", ""))
        self._enter(Open(authenticated=True, subject=subject))
        recovered, missed = auth.get("recovered"), auth.get("missed")
        self._tell("auth", Authenticated(subject, auth["expires_in"], auth["refresh_in"], recovered, missed))
        self._flush()

    def _part(self, code: int | None = None) -> None:
        """There is no connection any more, but what it has left held."""
        if self._session is not None:
            self._inheritance = self._session.key
            self._session.end()
        if self._heartbeat is not None:
            self._heartbeat.end()
        if self._acknowledgements is not None:
            self._acknowledgements.end()
        self._outbox.end(was_too_fast=code == protocol.CLOSE_RATE_LIMITED)
        self._connection = self._session = self._heartbeat = self._acknowledgements = None

    def _retry(self, because: str, at_least: float, cause: CountersignError | None) -> None:
        retry_in = self._comeback.later(at_least)
        self._enter(Waiting(retry_in, because, cause))

    def _flush(self) -> None:
        """Sends what has not been sent on this connection, as soon as it may."""
        session = self._session
        if session is None or not isinstance(self.state, Open) or len(self.pending) == 0:
            return
        if session.has_expired:
            session.needed()
        elif self._settings.per_message:
            if self._outbox.flush(self._tokens.current):
                session.needed()
        elif self.state.authenticated and self._outbox.flush(None):
            session.needed()

    def _enter(self, state: State) -> None:
        before, self.state = self.state, state
        if state != before:
            self._tell("state", state)

    def _stop(self, error: CountersignError, close_code: int | None = None) -> None:
        self._leave(Stopped(error, close_code), error)

    def _leave(self, state: State, error: CountersignError) -> None:
        self._attempt += 1
        self._comeback.cancel()
        connection = self._connection
        self._part()
        if connection is not None:
            self._dropped = connection
            connection.drop()
        self._inheritance = self._trouble = None
        self._tokens.drop()
        self._comeback.reset()
        self.pending.fail(error)
        self._enter(state)


def _least_wait(end: End) -> float:
    """How long the server is left alone at least."""
    if protocol.is_overload(end.code):
        return _OVERLOAD_LEAST_S
    if isinstance(end.cause, RefusedHandshakeError) and end.cause.is_overload:
        return max(_OVERLOAD_LEAST_S, end.cause.retry_after or 0)
    return 0
