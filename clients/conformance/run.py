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
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

from names import Failed, Json, Names, soon
from sides import Library, Server, Servers
from wire import Wire

AT_A_TIME = 6
"""How many cases run beside each other: they wait more than they work."""


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
            case "wire" if what == "dead":
                self.wire.die()
            case "wire":
                self.wire.keep({"keep": True, "pass": False}[what])
            case "push" | "revoke":
                outcome = what.pop("outcome")
                came = await self.server.outcome(f"/{verb}", self.names.fill(what))
                if came not in (outcome if isinstance(outcome, list) else [outcome]):
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
                raise Failed(f"it sent what no step expects: {json.dumps(wire.sent.get_nowait())}")
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
