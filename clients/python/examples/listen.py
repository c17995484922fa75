"""
Prints what is pushed to a subject, and sends each line that is typed as a request. With `countersign dev` running:

    python examples/listen.py alice
"""

import asyncio
import json
import sys
import urllib.request

from countersign_client import Client, CountersignError

SUBJECT, PAGE = (sys.argv[1:] + ["alice", "http://127.0.0.1:8000"][len(sys.argv) - 1 :])[:2]


def fetch(path: str, what: object = None) -> dict[str, str]:
    body = None if what is None else json.dumps(what).encode()
    request = urllib.request.Request(PAGE + path, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


async def token() -> str:
    """Where a real application asks its token issuer."""
    return (await asyncio.to_thread(fetch, "/token", {"subject": SUBJECT, "expires_in_s": 60}))["token"]


async def main() -> None:
    # The page knows where the WebSocket is; an application does.
    async with Client(fetch("/about")["socket"], token) as client:
        client.on("state", lambda state: print(state, file=sys.stderr))
        client.on("error", lambda error: print(error, file=sys.stderr))
        client.on("push", lambda push: print("pushed:", json.dumps(push.payload), flush=True))
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                print("answered:", json.dumps(await client.request("echo", line.rstrip("\n"))), flush=True)
            except CountersignError as error:
                print("refused:", error, file=sys.stderr)


asyncio.run(main())
