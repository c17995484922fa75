#!/usr/bin/env python3
"""
Runs the cases of cases.json with a client library against a real terminator and real workers (`countersign dev`). README.md says how a
library is spoken to.

    COUNTERSIGN_BIN=…/countersign run.py ADAPTER [ARGUMENT…]       for one: run.py --only WORDS ADAPTER…
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import urllib.request
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

SOON_S = 30
"""For whatever is to happen at once, on a slow and busy machine."""

AT_A_TIME = 6
"""How many cases run beside each other: they wait more than they work."""

SUBPROTOCOL = Subprotocol("countersign.v1.json")

Json = Any


class Failed(Exception):
    """A case does not hold."""


async def soon(what: str, awaited: Any) -> Any:
    try:
        async with asyncio.timeout(SOON_S):
            return await awaited
    except TimeoutError:
        raise Failed(f"in {SOON_S} s not: {what}") from None


@dataclass
class Names:
    """What stands for something else in a case: `$name`."""

    known: dict[str, Json] = field(default_factory=dict)

    def fill(self, value: Json) -> Json:
        """What it says, with all names filled in."""
        if isinstance(value, dict):
            return {key: self.fill(member) for key, member in value.items()}
        if isinstance(value, list):
            return [self.fill(member) for member in value]
        if isinstance(value, str) and value.startswith("$"):
            if value not in self.known:
                raise Failed(f"nothing has the name {value} yet")
            return self.known[value]
        if isinstance(value, str) and value.startswith("x*"):
            return "x" * int(value[2:])
        return value

    def matches(self, pattern: Json, value: Json, *, whole: bool) -> bool:
        """Whether a value is like that. A name that is new is given to what stands there. `whole`: it has no other members."""
        new = dict(self.known)
        if self._matches(pattern, value, new, whole):
            self.known = new
            return True
        return False

    def _matches(self, pattern: Json, value: Json, known: dict[str, Json], whole: bool) -> bool:
        if pattern == "$any":
            return True
        if isinstance(pattern, str) and pattern.startswith("$"):
            return bool(known.setdefault(pattern, value) == value)
        if isinstance(pattern, dict) and isinstance(value, dict):
            others = value.keys() - pattern.keys() - {"timeout_ms"} if whole else ()
            return not others and all(
                key in value and self._matches(one, value[key], known, False) for key, one in pattern.items()
            )
        return bool(pattern == value and isinstance(pattern, bool) == isinstance(value, bool))


class Wire:
    """Between the library and the terminator: sees each frame, keeps what it is told to, and says things in the server's place."""

    def __init__(self, server: str) -> None:
        self._server = server
        self.handshakes: asyncio.Queue[Json] = asyncio.Queue()
        self.sent: asyncio.Queue[Json] = asyncio.Queue()
        self._keeps = asyncio.Event()
        self._keeps.set()
        self._near: ServerConnection | None = None
        self.url = ""

    async def __aenter__(self) -> Wire:
        self._listening = await serve(self._join, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], max_size=None)
        self.url = f"ws://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()

    def keep(self, yes: bool) -> None:
        """Whether what the library says from now on does not arrive."""
        if yes:
            self._keeps.clear()
        else:
            self._keeps.set()

    async def cut(self) -> None:
        """The network is gone, without a word."""
        self._present().transport.abort()

    async def say(self, what: Json) -> None:
        await self._present().send(what if isinstance(what, str) else json.dumps(what))

    async def close(self, code: int, reason: str) -> None:
        await self._present().close(code, reason)

    def _present(self) -> ServerConnection:
        if self._near is None:
            raise Failed("there is no connection")
        return self._near

    async def _join(self, near: ServerConnection) -> None:
        assert near.request is not None
        self._near = near
        self.handshakes.put_nowait({"path": near.request.path, "subprotocol": near.subprotocol})
        async with connect(self._server, subprotocols=[SUBPROTOCOL], max_size=None, proxy=None) as far:
            kept: asyncio.Queue[str | bytes] = asyncio.Queue()
            there = [asyncio.ensure_future(one) for one in (self._there(near, far, kept), self._pass_on(far, kept))]
            try:
                async for text in far:
                    await near.send(text)
            except ConnectionClosed:
                pass
            finally:
                for one in there:
                    one.cancel()
            if near.state.name == "OPEN":
                # What the terminator closes with is what the library is told.
                await near.close(far.close_code or 1011, far.close_reason or "")

    async def _there(
        self,
        near: ServerConnection,
        far: ClientConnection,
        kept: asyncio.Queue[str | bytes],
    ) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in near:
                self.sent.put_nowait(json.loads(text))
                kept.put_nowait(text)
        await far.close()

    async def _pass_on(self, far: ClientConnection, kept: asyncio.Queue[str | bytes]) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                text = await kept.get()
                await self._keeps.wait()
                await far.send(text)


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
            raise Failed("the library does not end when nobody tells it anything any more") from None
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
                # Read to the end, or it would choke on what nobody reads.
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


@dataclass
class Run:
    """A case, as it goes."""

    server: Server
    wire: Wire
    library: Library
    names: Names

    async def step(self, step: Json) -> None:
        [(verb, what)] = step.items()
        match verb:
            case "client":
                await self.library.do(self.names.fill(what))
            case "give":
                await self.library.hears({"event": "token"}, self.names)
                if "fail" in what:
                    await self.library.do(
                        {
                            "do": "token",
                            "fail": what["fail"],
                            "temporary": what["temporary"],
                        }
                    )
                    return
                token = await self.server.token(
                    self.names.fill(what.get("subject", "$alice")),
                    what.get("seconds", 300),
                )
                self.names.known["$" + what.get("as", "token")] = token
                await self.library.do({"do": "token", "token": token})
            case "handshake":
                self._is(
                    "the handshake",
                    what,
                    await soon("a handshake", self.wire.handshakes.get()),
                )
            case "sent":
                self._is(
                    "the library sent",
                    what,
                    await soon(f"the library sends {what}", self.wire.sent.get()),
                )
            case "event":
                await soon(f"the library tells {what}", self.library.hears(what, self.names))
            case "total":
                count = sum(
                    Names(dict(self.names.known)).matches(what["of"], said, whole=False) for said in self.library.said
                )
                if count != what["is"]:
                    raise Failed(f"{what['of']} was told {count} times")
            case "say":
                await self.wire.say(self.names.fill(what))
            case "close":
                code, reason = self.names.fill(what)
                await self.wire.close(code, reason)
            case "wire" if what == "cut":
                await self.wire.cut()
            case "wire":
                self.wire.keep({"keep": True, "pass": False}[what])
            case "push" | "revoke":
                outcome = what.pop("outcome")
                came = await self.server.outcome(f"/{verb}", self.names.fill(what))
                if came != outcome:
                    raise Failed(f"the {verb} came to {came}")
            case _:
                raise Failed(f"no such step: {verb}")

    def _is(self, what: str, pattern: Json, value: Json) -> None:
        if not self.names.matches(pattern, value, whole=True):
            raise Failed(f"{what}: {json.dumps(value)}, and not {json.dumps(self._shown(pattern))}")

    def _shown(self, pattern: Json) -> Json:
        shown = Names({**self.names.known})
        with contextlib.suppress(Failed):
            return shown.fill(pattern)
        return pattern


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


async def run_case(server: Server, adapter: list[str], case: Json, names: Names) -> None:
    async with Wire(server.url) as wire:
        process = await asyncio.create_subprocess_exec(*adapter, stdin=PIPE, stdout=PIPE)
        library = Library(process)
        run = Run(server, wire, library, names)
        try:
            await library.do({"do": "new", "url": wire.url, **case.get("client", {})})
            for number, step in enumerate(json.loads(json.dumps(case["steps"])), 1):
                try:
                    await run.step(step)
                except Failed as failed:
                    told = f"it told: {json.dumps(library.said)}"
                    raise Failed(f"step {number}, {json.dumps(step)}: {failed}\n    {told}") from None
            await library.do({"do": "close"})
            await soon(
                "it is closed",
                library.hears({"event": "state", "name": "closed"}, run.names),
            )
            if not wire.sent.empty():
                raise Failed(f"it sent what nobody expects: {json.dumps(wire.sent.get_nowait())}")
            await library.end()
        finally:
            library.kill()


async def main(arguments: list[str]) -> int:
    only = ""
    if arguments[:1] == ["--only"]:
        only, arguments = arguments[1], arguments[2:]
    program = os.environ.get("COUNTERSIGN_BIN")
    if not program or not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    cases = json.loads((Path(__file__).parent / "cases.json").read_text())
    places, servers = asyncio.Semaphore(AT_A_TIME), Servers(program)
    failures: list[str] = []
    passed = 0

    async def one(number: int, case: Json, preset: Json) -> None:
        nonlocal passed
        own = {"alice": f"alice-{number}", "bob": f"bob-{number}"}
        names = Names({f"${name}": value for name, value in {**own, **preset}.items()})
        name = case["name"] + (f" {json.dumps(preset)}" if preset else "")
        async with places:
            try:
                await run_case(await servers.of(case.get("server", [])), arguments, case, names)
                passed += 1
                print(f"ok      {name}")
            except Failed as failed:
                failures.append(name)
                print(f"FAILED  {name}\n    {failed}")

    chosen = [case for case in cases if only in case["name"]]
    runs = [(case, preset) for case in chosen for preset in case.get("with", [{}])]
    try:
        await asyncio.gather(*(one(number, case, preset) for number, (case, preset) in enumerate(runs)))
    finally:
        await servers.end()
    print(f"{passed} passed, {len(failures)} failed")
    return 1 if failures or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
