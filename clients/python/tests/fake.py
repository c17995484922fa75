"""A socket that a test holds the other end of, and time that passes when nothing else can happen."""

from __future__ import annotations

import asyncio
import base64
import json
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from countersign_client import Client, CountersignError, State

AUTH = {"subject": "alice", "expires_in": 100, "refresh_in": 80, "resume": "c.s", "idempotency": 60}


class _Selector(selectors.SelectSelector):
    """Where all tasks wait for a time, it is that time."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing will ever happen any more")
            self.passed += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.passed


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Has a test run on such time. An error in a listener or a task of its own fails it."""

    def synchronous() -> None:
        FakeSocket.all.clear()
        faults: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: faults.append(context))
            runner.run(test())
        assert not faults, faults

    synchronous.__name__ = test.__name__
    synchronous.__doc__ = test.__doc__
    return synchronous


class FakeSocket:
    """The server's end."""

    all: list[FakeSocket] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.cancelled: list[Any] = []
        self.waits: list[tuple[str, int | None]] = []
        self.is_closed = False
        self._coming: asyncio.Queue[str | Exception] = asyncio.Queue()
        self.pings = 0
        self.pongs = True
        """Whether pings are answered."""
        self.takes = asyncio.Event()
        self.takes.set()
        FakeSocket.all.append(self)

    async def send(self, message: str, /) -> None:
        await self.takes.wait()
        said = json.loads(message)
        if "cancel" in said:
            self.cancelled.append(said["cancel"])
            return
        self.waits.append((said["type"], said.pop("timeout_ms", None)))
        self.sent.append(said)

    async def recv(self) -> str | bytes:
        said = await self._coming.get()
        if isinstance(said, Exception):
            raise said
        return said

    async def ping(self) -> Awaitable[float]:
        self.pings += 1
        pong: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        if self.pongs:
            pong.set_result(0)
        return pong

    async def close(self, code: int = 1000, reason: str = "") -> None:
        # A real one waits for the other end.
        await asyncio.sleep(0)
        self.is_closed = True

    def puts(self, message: dict[str, Any] | str) -> None:
        self._coming.put_nowait(message if isinstance(message, str) else json.dumps(message))

    async def say(self, message: dict[str, Any] | str) -> None:
        self.puts(message)
        await settled()

    async def reply(self, message_id: str | None, payload: Any) -> None:
        await self.say({"type": "reply", "id": message_id, "payload": payload})

    async def refuse(self, message_id: str | None, code: str, **rest: Any) -> None:
        await self.say(
            {"type": "error", "id": message_id, "error": {"code": code, "message": "", "temporary": False, **rest}}
        )

    async def authenticate(self, **auth: Any) -> None:
        """Takes the last token that was shown."""
        await self.say({"type": "auth.ok", "id": self.authentications[-1]["id"], "auth": {**AUTH, **auth}})

    async def require(self, reason: str) -> None:
        await self.say(
            {"type": "auth.required", "reason": reason, "deadline_ms": 1_000, "held": {"inbound": 1, "outbound": 0}}
        )

    async def end(self, code: int, reason: str = "") -> None:
        """The server closes, or the network does."""
        frame = None if code == 1006 else Close(code, reason)
        self._coming.put_nowait(ConnectionClosedError(frame, None))
        await settled()

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The messages of the application, without what this client says on its own account."""
        return [message for message in self.sent if not message["type"].startswith("auth.")]

    @property
    def authentications(self) -> list[dict[str, Any]]:
        return [message for message in self.sent if message["type"] == "auth.authenticate"]

    @property
    def shown(self) -> list[str]:
        """The tokens that were shown."""
        return [message["token"] for message in self.authentications]


async def settled() -> None:
    """Lets all that can go on do so."""
    for _ in range(30):
        await asyncio.sleep(0)


def jwt(number: int, subject: str | None = None) -> str:
    """What has the form of a token."""
    if subject is None:
        return f"e30.e30.{number}"
    claims = json.dumps({"iss": "https://issuer.example", "sub": subject})
    return f"e30.{base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.{number}"


async def refusal(answer: Awaitable[Any]) -> CountersignError:
    """The error that it ends with."""
    try:
        result = await answer
    except CountersignError as error:
        return error
    raise AssertionError(f"it was not refused: {result}")


def names(states: list[State]) -> list[str]:
    return [state.name for state in states]


class Bench:
    """A client whose tokens are numbered, and which has neither jitter nor, unless asked for, a heartbeat."""

    def __init__(self, token: Callable[[int], Awaitable[str] | str] = jwt, dial: Any = None, **options: Any) -> None:
        self.asked = 0
        self.errors: list[str] = []
        self.states: list[State] = []

        def provider() -> Awaitable[str] | str:
            self.asked += 1
            return token(self.asked)

        async def accept(url: str) -> FakeSocket:
            assert url == "wss://example.test"
            return FakeSocket()

        options = {"random": lambda: 1.0, "heartbeat": None, **options}
        self.client = Client("wss://example.test", provider, dial=dial or accept, **options)
        self.client.on("error", lambda error: self.errors.append(error.code))
        self.client.on("state", self.states.append)

    @property
    def socket(self) -> FakeSocket:
        """The newest."""
        return FakeSocket.all[-1]


async def opened(**options: Any) -> Bench:
    """A bench that is connected."""
    bench = Bench(**options)
    bench.client.connect()
    await settled()
    return bench


async def live(**options: Any) -> Bench:
    """A bench that is authenticated, too."""
    bench = await opened(**options)
    await bench.socket.authenticate()
    return bench


def ask(bench: Bench, kind: str, payload: Any = None, **options: Any) -> asyncio.Task[Any]:
    """Asks beside what the test does."""
    return asyncio.ensure_future(bench.client.request(kind, payload, **options))
