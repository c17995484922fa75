"""Who listens to a client: to its events, and to pushes by what they are about."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final, Literal, overload

from .errors import CountersignError
from .events import Authenticated, AuthRequired, Push, State

_RECENT_PUSHES: Final = 1_024
"""How many pushes are remembered, to know those that come twice."""

Off = Callable[[], None]
"""Ends it."""

Listener = Callable[[Any], Any]


class Listeners:
    """Listeners, plain functions or coroutines, and what they are told."""

    def __init__(self) -> None:
        self._events: dict[str, dict[Listener, bool]] = {}
        self._pushes: dict[str, dict[Listener, bool]] = {}
        self._recent: dict[str, None] = {}
        self._running: set[asyncio.Future[Any]] = set()

    @overload
    def on(self, name: Literal["state"], listener: Callable[[State], Any]) -> Off: ...
    @overload
    def on(self, name: Literal["push"], listener: Callable[[Push], Any]) -> Off: ...
    @overload
    def on(self, name: Literal["auth"], listener: Callable[[Authenticated], Any]) -> Off: ...
    @overload
    def on(self, name: Literal["auth.required"], listener: Callable[[AuthRequired], Any]) -> Off: ...
    @overload
    def on(self, name: Literal["error"], listener: Callable[[CountersignError], Any]) -> Off: ...
    def on(self, name: str, listener: Listener) -> Off:
        """Calls `listener` at each event of that name. Returns how to end that."""
        return _add(self._events, name, listener, is_once=False)

    @overload
    def once(self, name: Literal["state"], listener: Callable[[State], Any]) -> Off: ...
    @overload
    def once(self, name: Literal["push"], listener: Callable[[Push], Any]) -> Off: ...
    @overload
    def once(self, name: Literal["auth"], listener: Callable[[Authenticated], Any]) -> Off: ...
    @overload
    def once(self, name: Literal["auth.required"], listener: Callable[[AuthRequired], Any]) -> Off: ...
    @overload
    def once(self, name: Literal["error"], listener: Callable[[CountersignError], Any]) -> Off: ...
    def once(self, name: str, listener: Listener) -> Off:
        """Calls `listener` at the next event of that name, and no more. Returns how to end that before."""
        return _add(self._events, name, listener, is_once=True)

    def off(self, name: str, listener: Listener) -> None:
        """Calls `listener` no more."""
        _remove(self._events, name, listener)

    def on_push(self, kind: str, listener: Callable[[Push], Any]) -> Off:
        """Calls `listener` at each push whose payload has this `type`. Returns how to end that."""
        return _add(self._pushes, kind, listener, is_once=False)

    def _tell(self, name: str, event: Any) -> None:
        self._tell_all(self._events, name, event)

    def _tell_push(self, push_id: object, payload: Any) -> None:
        """Tells of a push, if it has not come before."""
        known = push_id if isinstance(push_id, str) else None
        if known is not None:
            if known in self._recent:
                return
            self._recent[known] = None
            if len(self._recent) > _RECENT_PUSHES:
                del self._recent[next(iter(self._recent))]
        kind = payload.get("type") if isinstance(payload, dict) else None
        push = Push(known, kind if isinstance(kind, str) else None, payload)
        self._tell("push", push)
        if push.type is not None:
            self._tell_all(self._pushes, push.type, push)

    def _tell_all(self, listeners: dict[str, dict[Listener, bool]], name: str, event: Any) -> None:
        """A listener that raises keeps no other from hearing; its error is told as that of a task that is not awaited."""
        for listener, is_once in list(listeners.get(name, {}).items()):
            if is_once:
                _remove(listeners, name, listener)
            try:
                result = listener(event)
                if inspect.isawaitable(result):
                    running = asyncio.ensure_future(result)
                    self._running.add(running)
                    running.add_done_callback(self._ended)
            except Exception as error:  # noqa: BLE001 - It is the application's.
                _report(error)

    def _ended(self, running: asyncio.Future[Any]) -> None:
        self._running.discard(running)
        if not running.cancelled() and isinstance(error := running.exception(), Exception):
            _report(error)


def _report(error: Exception) -> None:
    context = {"message": "a listener of countersign_client raised", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)


def _add(listeners: dict[str, dict[Listener, bool]], name: str, listener: Listener, *, is_once: bool) -> Off:
    listeners.setdefault(name, {})[listener] = is_once
    return lambda: _remove(listeners, name, listener)


def _remove(listeners: dict[str, dict[Listener, bool]], name: str, listener: Listener) -> None:
    named = listeners.get(name)
    if named is not None:
        named.pop(listener, None)
        if not named:
            del listeners[name]
