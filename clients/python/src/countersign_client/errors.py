"""Why a request has no answer."""

from __future__ import annotations

from typing import Any, Final

from . import _protocol as protocol

_TERMINAL_WORDS: Final = {
    protocol.CLOSE_TOKEN_INVALID: "token_invalid",
    protocol.CLOSE_REVOKED: "token_revoked",
    protocol.CLOSE_CONNECTION_LIMIT: "connection_limit",
    protocol.CLOSE_IDENTITY_MISMATCH: "identity_mismatch",
    protocol.CLOSE_REPLACED: "replaced",
}


class CountersignError(Exception):
    """
    A refusal: by the server, with one of its codes, or by this client (`timeout`, `overflow`, `lost`, `closed`, `stopped`,
    `connection_limit`, `replaced`, `no_token`, `unreachable`). What made it so is its `__cause__`, if that is known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        temporary: bool,
        retry_after: float | None = None,
        details: Any = None,
        effect: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.code: Final = code
        """For programs. An application's own begins with `app.`."""
        self.message: Final = message
        self.temporary: Final = temporary
        """Whether the same request may well succeed later."""
        self.retry_after: Final = retry_after
        """When to try again, in seconds from now."""
        self.details: Final = details
        """What the application says besides."""
        self.effect: Final = effect
        """Of a refusal that may be tried again: `none` if the request did not reach the application, `unknown` if it may have."""
        if cause is not None:
            self.__cause__ = cause

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class RefusedHandshakeError(Exception):
    """A handshake that was answered with a status (RFC 6455 §4.2.2)."""

    def __init__(self, status: int, text: str, retry_after: float | None) -> None:
        super().__init__(f"the handshake was refused: {status} {text}".rstrip())
        self.status: Final = status
        self.text: Final = text
        """What the server said besides."""
        self.retry_after: Final = retry_after
        """When it may be tried again, in seconds from now, if the server says."""

    @property
    def is_overload(self) -> bool:
        """Whether it was refused because of a limit (RFC 6585 §4, RFC 9110 §15.6.4)."""
        return self.status in {429, 503}


def refused_by_server(body: object) -> CountersignError:
    """What the server said."""
    if not isinstance(body, dict) or not isinstance(body.get("code"), str):
        return CountersignError("internal", "the server sent an error without a word", temporary=False)
    retry_after_ms = body.get("retry_after_ms")
    return CountersignError(
        body["code"],
        str(body.get("message", "")),
        temporary=body.get("temporary") is True,
        retry_after=retry_after_ms / 1_000 if isinstance(retry_after_ms, (int, float)) else None,
        details=body.get("details"),
        effect=body.get("effect"),
    )


def stopped_by_close(code: int, reason: str) -> CountersignError:
    """Why the server does not want us back."""
    word = _TERMINAL_WORDS.get(code, "stopped")
    return CountersignError(word, f"the server said to stop: {code} {reason}".rstrip(), temporary=False)


def again(error: CountersignError) -> CountersignError:
    """A copy for another place that raises it: raising writes a traceback into it."""
    return CountersignError(
        error.code,
        error.message,
        temporary=error.temporary,
        retry_after=error.retry_after,
        details=error.details,
        effect=error.effect,
        cause=error.__cause__,
    )


def no_token(cause: BaseException) -> CountersignError:
    """What the provider raised, as an error of ours."""
    if isinstance(cause, CountersignError):
        return cause
    return CountersignError("no_token", f"the token provider failed: {cause}", temporary=True, cause=cause)


def was_closed() -> CountersignError:
    return CountersignError("closed", "the client was closed", temporary=False)


def logged_out() -> CountersignError:
    return CountersignError("closed", "the client was logged out", temporary=False)


def unreachable(code: int, reason: str, cause: BaseException | None) -> CountersignError:
    """That the connection is gone, or cannot be made, and why."""
    why = str(cause) if cause else f"{code} {reason}".rstrip()
    return CountersignError("unreachable", f"no connection: {why}", temporary=True, cause=cause)
