"""This library as the conformance cases speak to it (../conformance/README.md)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from typing import Any

from countersign_client import Authenticated, Client, CountersignError, State


def tell(event: str, **more: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


class Adapter:
    def __init__(self) -> None:
        self.client: Client
        self.asked: deque[asyncio.Future[str]] = deque()
        self.running: dict[str, asyncio.Task[None]] = {}

    async def token(self) -> str:
        given: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked.append(given)
        tell("token")
        return await given

    def make(self, command: dict[str, Any]) -> None:
        chosen = ("strategy", "max_pending", "max_message_bytes", "push_ack")
        options = {name: command[name] for name in chosen if name in command}
        if "heartbeat_ms" in command:
            options["heartbeat"] = command["heartbeat_ms"] / 1_000
        self.client = Client(command["url"], self.token, backoff=(0.02, 0.2), proxy=None, **options)
        self.client.on("state", self.state)
        self.client.on("push", lambda push: tell("push", id=push.id, type=push.type, payload=push.payload))
        self.client.on("auth", self.auth)
        self.client.on("auth.required", lambda required: tell("auth.required", reason=required.reason))
        self.client.on("error", lambda error: tell("trouble", code=error.code))

    @staticmethod
    def auth(auth: Authenticated) -> None:
        tell("auth", subject=auth.subject, recovered=auth.recovered, missed=auth.missed)

    @staticmethod
    def state(state: State) -> None:
        more: dict[str, Any] = {}
        match state.name:
            case "open":
                more = {"authenticated": state.authenticated, "subject": state.subject}
            case "stopped":
                more = {"error": state.error.code, "close_code": state.close_code}
        tell("state", name=state.name, **more)

    async def asks(self, ref: str, command: dict[str, Any]) -> None:
        how: dict[str, Any] = {name: command[name] for name in ("id", "idempotent", "payload") if name in command}
        if "timeout_ms" in command:
            how["timeout"] = command["timeout_ms"] / 1_000
        try:
            match command["do"]:
                case "request":
                    tell("result", ref=ref, payload=await self.client.request(command["type"], **how))
                case "send":
                    await self.client.send(command["type"], **how)
                    tell("result", ref=ref)
                case "forget":
                    await self.client.forget()
                    tell("result", ref=ref)
                case "stream":
                    async with self.client.stream(
                        command["type"], is_last=lambda reply: reply == command.get("last", {}), **how
                    ) as replies:
                        async for reply in replies:
                            tell("reply", ref=ref, payload=reply)
                    tell("end", ref=ref)
        except CountersignError as error:
            retry = {} if error.retry_after is None else {"retry_after_ms": error.retry_after * 1_000}
            tell(
                "error",
                ref=ref,
                code=error.code,
                temporary=error.temporary,
                details=error.details,
                effect=error.effect,
                **retry,
            )
        except asyncio.CancelledError:
            tell("end", ref=ref)

    def do(self, command: dict[str, Any]) -> None:
        match command["do"]:
            case "new":
                self.make(command)
            case "connect":
                self.client.connect()
            case "close":
                self.client.close()
            case "token" if "token" in command:
                self.asked.popleft().set_result(command["token"])
            case "token":
                error = (
                    OSError(command["fail"])
                    if command["temporary"]
                    else CountersignError("no_token", command["fail"], temporary=False)
                )
                self.asked.popleft().set_exception(error)
            case "abort":
                self.running[command["ref"]].cancel()
            case _:
                self.running[command["ref"]] = asyncio.ensure_future(self.asks(command["ref"], command))


async def main() -> None:
    adapter = Adapter()
    lines = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        adapter.do(json.loads(line))
    adapter.client.close()
    await adapter.client.wait_closed()


asyncio.run(main())
