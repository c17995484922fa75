"""The two sides that a case is about: a library, and a terminator with all that is behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import urllib.request
from asyncio.subprocess import PIPE, Process

from names import SOON_S, Failed, Json, Names, soon


class Library:
    """The library: a process that is told what to do, and tells what happens, a line each."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.said: list[Json] = []
        self._changed = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())
        self._seen = 0

    async def do(self, command: Json) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()

    async def hears(self, pattern: Json, names: Names) -> None:
        """Waits for an event like that, behind the one that was last waited for; others may come between."""

        def found() -> bool:
            for at in range(self._seen, len(self.said)):
                if names.matches(pattern, self.said[at], whole=False):
                    self._seen = at + 1
                    return True
            return False

        async with self._changed:
            while not found():
                if self._reading.done():
                    raise Failed(f"the library has ended; it never said {pattern}")
                await self._changed.wait()

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(SOON_S):
                code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            raise Failed("the library does not end at the end of its input") from None
        if code != 0:
            raise Failed(f"the library ended with {code}")

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                async with self._changed:
                    self.said.append(json.loads(line))
                    self._changed.notify_all()
        finally:
            async with self._changed:
                self._changed.notify_all()


class Server:
    """A terminator and workers, with an issuer, a backend and an operator."""

    def __init__(self, process: Process, url: str, page: str, rest: asyncio.Future[bytes]) -> None:
        self._process, self.url, self._page, self._rest = process, url, page, rest

    @staticmethod
    async def start(program: str, flags: list[str]) -> Server:
        arguments = [
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--page-listen",
            "127.0.0.1:0",
            "--log-filter",
            "error",
            *flags,
        ]
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE
        )
        assert process.stdout is not None
        said = ""
        while True:
            line = await soon("the server tells where it is", process.stdout.readline())
            if not line:
                raise Failed(f"the server does not start: {said}")
            said += line.decode()
            url, page = (
                re.search(r"ws://[\d.:]+\n", said),
                re.search(r"http://[\d.:]+\n", said),
            )
            if url and page:
                # Read to the end, or its output would block it.
                rest = asyncio.ensure_future(process.stdout.read())
                return Server(process, url[0].strip(), page[0].strip(), rest)

    async def token(self, subject: str, seconds: int) -> str:
        answer = await self._post("/token", {"subject": subject, "expires_in_s": seconds})
        return str(answer["token"])

    async def outcome(self, path: str, what: Json) -> str:
        answer = await self._post(path, what)
        return str((answer["outcome"] or {}).get("outcome"))

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _post(self, path: str, what: Json) -> Json:
        body = json.dumps(what).encode()
        request = urllib.request.Request(self._page + path, body, {"content-type": "application/json"})
        # Of this machine: no proxy has to do with it.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def ask() -> Json:
            with opener.open(request, timeout=SOON_S) as answer:
                return json.load(answer)

        return await asyncio.to_thread(ask)


class Servers:
    """One for each way to start one: a case has subjects of its own, and so cannot tell that there are others."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._started: dict[tuple[str, ...], asyncio.Task[Server]] = {}

    async def of(self, flags: list[str]) -> Server:
        starting = self._started.get(tuple(flags))
        if starting is None:
            starting = asyncio.ensure_future(Server.start(self._program, flags))
            self._started[tuple(flags)] = starting
        return await asyncio.shield(starting)

    async def end(self) -> None:
        for starting in self._started.values():
            with contextlib.suppress(Failed):
                await (await starting).end()
