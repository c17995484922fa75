"""What a case says of values, and how a case fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

SOON_S = 30
"""For whatever is to happen at once, on a slow and busy machine."""

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
