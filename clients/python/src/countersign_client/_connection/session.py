"""
The authentication of one open connection: shown when it begins, renewed before it grows old, and whenever the server or the
application has a reason.

At most one token is asked for, and at most one is shown and not yet answered, at a time: however many ask for a renewal
meanwhile, it is the same one.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from .. import _protocol as protocol
from ..errors import CountersignError, no_token, refused_by_server
from .times import Backoff

if TYPE_CHECKING:
    from .._options import Settings
    from .tokens import Tokens

_EARLIEST_RENEWAL: Final = 0.85
_LATEST_RENEWAL: Final = 0.95
"""Which part of `refresh_in` has passed when a token is renewed: before the server asks, and not all clients at once."""

_LEAST_RENEWAL_S: Final = 1.0
"""No renewal follows the other sooner, whatever asks for it: a provider that gives the same old token is not asked all the time."""

_RENEWAL_JITTER_S: Final = 0.25
"""What is put off is put off by up to so much more: others were asked at the same moment."""

_MOST_RENEWAL_RETRY_S: Final = 30.0
"""The longest wait before another token is fetched after one was not taken."""

_AWAKE_RENEWAL_S: Final = 30.0
"""Who wakes renews what was proved longer ago than this: it proves, too, that the connection lives."""

_FINAL_REFUSALS: Final = frozenset({"token_invalid", "token_revoked", "identity_mismatch"})
"""After these another token of the same provider fares no better."""

_SILENCE_S: Final = 60.0
"""A server that has not said by now whether it takes a token is not there. It waits half as long for its own broker."""


class SessionHooks(Protocol):
    """What a session needs of its client."""

    def send(self, text: str) -> bool:
        """Sends a message. Tells whether it was handed on."""

    def next_id(self) -> str:
        """A name for a message, never given twice."""

    def on_shown(self) -> None:
        """A fresh token was shown: what waited for one may go behind it."""

    def on_error(self, error: CountersignError) -> None: ...
    def on_stop(self, error: CountersignError) -> None:
        """There will be no better token."""

    def on_silence(self) -> None:
        """The server does not answer: the connection is dead, and the network has not noticed."""


class Session:
    """The authentication of one connection."""

    def __init__(self, settings: Settings, tokens: Tokens, inheritance: str | None, hooks: SessionHooks) -> None:
        self._random, self._tokens, self._hooks = settings.random, tokens, hooks
        self._inheritance = inheritance
        self._key: str | None = None
        self._retries = Backoff(_LEAST_RENEWAL_S, _MOST_RENEWAL_RETRY_S, settings.random)
        self._asking: object | None = None
        self._shown: tuple[str, bool] | None = None
        self._wanted = False
        self._life: Literal["live", "logged out", "over"] = "live"
        self._renews_from = self._proven_at = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._is_retrying = False
        self._silence: asyncio.TimerHandle | None = None
        self._refresh_at = self._expires_at = math.inf
        self.proven_since: float | None = None
        """When the server first took a token on this connection, if it has."""

    @property
    def key(self) -> str | None:
        """What the next connection shows to take over what this one leaves held."""
        return self._key or self._inheritance

    @property
    def is_logged_out(self) -> bool:
        return self._life == "logged out"

    @property
    def is_showing(self) -> bool:
        """Whether a token was shown that is not answered yet."""
        return self._shown is not None

    @property
    def has_expired(self) -> bool:
        """Whether the server would not take a message for ours any more."""
        return self._tokens.current is None or _now() >= self._expires_at

    def show(self) -> None:
        """Shows the token that was given last."""
        message_id = self._hooks.next_id()
        payload = None if self._inheritance is None else protocol.write_json({"resume": self._inheritance})
        text = protocol.write("auth.authenticate", message_id=message_id, token=self._tokens.current, payload=payload)
        if not self._hooks.send(text):
            return
        self._shown = (message_id, payload is not None)
        self._wanted = False
        # Until the answer, it is as good as any.
        self._expires_at = math.inf
        _cancel(self._timer)
        self._silence = asyncio.get_running_loop().call_later(_SILENCE_S, self._hooks.on_silence)

    def renew(self) -> None:
        """Fetches a fresh token and shows it, unless that is under way. Soon after another, it does so a little later."""
        if self._life == "over" or self._asking is not None:
            return
        self._is_retrying = False
        if self._shown is not None:
            self._wanted = True
            return
        self._life = "live"
        now = _now()
        if now < self._renews_from:
            self._renew_in(self._renews_from - now + _RENEWAL_JITTER_S * self._random())
            return
        self._renews_from = now + _LEAST_RENEWAL_S
        asking = self._asking = object()

        def then(error: BaseException | None) -> None:
            if asking is not self._asking:
                return
            self._asking = None
            if error is not None:
                self._on_no_token(no_token(error))
                return
            self.show()
            self._hooks.on_shown()

        self._tokens.fresh(then)

    def needed(self) -> None:
        """Something cannot be sent without a fresh token. It waits if the last attempt to have one failed."""
        if not self._is_retrying:
            self.renew()

    def required(self) -> None:
        """The server wants a fresh token. A client that has logged out gives none."""
        if not self.is_logged_out:
            self.renew()

    def awake(self, network_changed: bool) -> None:
        """Time has passed unseen; or the network is back, and the connection may be dead."""
        now = _now()
        if network_changed or now >= self._refresh_at or now - self._proven_at >= _AWAKE_RENEWAL_S:
            self.required()

    def granted(self, auth: dict[str, Any]) -> bool:
        """What the connection's authentication has become. Tells whether that is still so: we may have logged out."""
        if self._life != "live":
            return False
        now = self._proven_at = _now()
        if self.proven_since is None:
            self.proven_since = now
        self._refresh_at = now + auth["refresh_in"]
        self._expires_at = now + auth["expires_in"]
        resume = auth.get("resume")
        self._key = resume if isinstance(resume, str) else self._key
        part = _EARLIEST_RENEWAL + (_LATEST_RENEWAL - _EARLIEST_RENEWAL) * self._random()
        self._renew_in(max(auth["refresh_in"] * part, _LEAST_RENEWAL_S))
        return True

    def takes(self, message: protocol.Message) -> bool:
        """Takes the answer to what it has shown. Tells whether it was that."""
        if self._shown is None or message.get("id") != self._shown[0]:
            return False
        _, inherits = self._shown
        self._shown = None
        _cancel(self._silence)
        if message["type"] == "error":
            self._on_refused(refused_by_server(message.get("error")))
        else:
            self._wanted = False
            self._retries.reset()
            if inherits:
                self._inheritance = None
        return True

    def forget(self) -> None:
        """Logs out: no token is shown before the next request."""
        self._stop_timers()
        self._life = "logged out"
        self._is_retrying = False
        # The next one is of another identity.
        self._renews_from = -math.inf
        self._asking = self._shown = self._key = self._inheritance = None
        self._tokens.drop()

    def end(self) -> None:
        """The connection is over."""
        self._stop_timers()
        self._life = "over"
        self._asking = None

    def _on_no_token(self, error: CountersignError) -> None:
        self._hooks.on_error(error)
        # Listeners may have ended it.
        if self._life != "live":
            return
        if error.temporary:
            self._retry_in(self._retries.next())
        else:
            self._hooks.on_stop(error)

    def _on_refused(self, error: CountersignError) -> None:
        """The token was not taken. Another one is shown, unless it would fare no better."""
        self._hooks.on_error(error)
        # Listeners may have ended it.
        if self._life != "live":
            return
        if self._wanted:
            self.renew()
        elif error.code in _FINAL_REFUSALS:
            self._hooks.on_stop(error)
        else:
            self._retry_in(max(error.retry_after or 0.0, self._retries.next()))

    def _retry_in(self, wait: float) -> None:
        self._renew_in(wait)
        self._is_retrying = True

    def _renew_in(self, wait: float) -> None:
        _cancel(self._timer)
        self._is_retrying = False
        if self._life == "live":
            self._timer = asyncio.get_running_loop().call_later(wait, self.renew)

    def _stop_timers(self) -> None:
        _cancel(self._timer)
        _cancel(self._silence)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()
