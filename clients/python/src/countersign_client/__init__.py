"""
Countersign's client: a WebSocket on which every message can be trusted, and that outlives tokens and networks.

    async with Client("wss://api.example.com", token) as client:
        client.on("push", lambda push: print(push.payload))
        order = await client.request("order", {"item": 7})
"""

from ._client import Client
from ._options import Dial, Socket, Strategy, TokenProvider
from ._protocol import SUBPROTOCOL, is_terminal
from ._request.replies import Replies
from .errors import CountersignError, RefusedHandshakeError
from .events import Authenticated, AuthRequired, Closed, Connecting, Open, Push, State, Stopped, Waiting

__all__ = [
    "SUBPROTOCOL",
    "AuthRequired",
    "Authenticated",
    "Client",
    "Closed",
    "Connecting",
    "CountersignError",
    "Dial",
    "Open",
    "Push",
    "RefusedHandshakeError",
    "Replies",
    "Socket",
    "State",
    "Stopped",
    "Strategy",
    "TokenProvider",
    "Waiting",
    "is_terminal",
]
