"""How long to wait: before trying again, before coming back, before sending more. Pure, but for the timers of `Comeback`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

_FORGIVEN_S: Final = 60
"""How long no limit must have been hit before it is twice as fast again."""

_LEAST_WAKING_S: Final = 1.0
"""Between two attempts that something woke there is as long at least."""

_WAKING_JITTER_S: Final = 0.5
"""All clients of a network hear at the same moment that it is back."""


class Backoff:
    """Twice as long each time up to a limit, and never as long as one's neighbour, so that a fleet does not come back all at once."""

    def __init__(self, least: float, most: float, random: Callable[[], float]) -> None:
        self._least, self._most, self._random = least, most, random
        self._next = least

    def next(self, at_least: float = 0) -> float:
        """Between half and all of the present limit, which is `at_least` or more."""
        limit = max(self._next, min(at_least, self._most))
        self._next = min(limit * 2, self._most)
        return limit * (0.5 + 0.5 * self._random())

    def reset(self) -> None:
        """It worked: the next wait is a short one again."""
        self._next = self._least


class Pace:
    """
    How fast this client may send, so that the server never has to close its connection with 4429: a bucket of a second's worth,
    below the server's limit, and further below after that was hit all the same.
    """

    def __init__(self, most_per_second: float, early_per_second: float) -> None:
        """How many messages a second, and how many before the server has taken a token."""
        self._most = self._per_second = most_per_second
        self._early = early_per_second
        self._hit_at = self._filled_at = -math.inf
        self._is_early = True
        self._left = 0.0

    def change(self, most_per_second: float, early_per_second: float, now: float) -> None:
        """These are other ones. What was used is used."""
        self._fill(now)
        used = self._rate - self._left
        is_slowed = self._per_second < self._most
        self._per_second = min(self._per_second, most_per_second) if is_slowed else most_per_second
        self._most, self._early = most_per_second, early_per_second
        self._left = self._rate - used

    def begin(self, now: float) -> None:
        """A connection is there. The server knows nothing of what was sent on the last."""
        self._is_early = True
        self._fill(now)
        self._left = self._rate

    def proven(self, now: float) -> None:
        """The server has taken a token. What was used before that is used."""
        if self._is_early:
            self._fill(now)
            used = self._rate - self._left
            self._is_early = False
            self._left = max(0.0, self._rate - used)

    def hit(self, now: float) -> None:
        """The server has closed the connection because of this."""
        self._per_second = max(1.0, self._per_second / 2)
        self._hit_at = now

    def spend(self, now: float) -> None:
        """Something is sent that cannot wait: the connection's own affairs are few."""
        self._fill(now)
        self._left -= 1

    def take(self, now: float) -> float:
        """Takes a message's place, and tells 0; or in how many seconds there will be one."""
        wait = self.wait(now)
        if wait == 0:
            self._left -= 1
        return wait

    def wait(self, now: float) -> float:
        """In how many seconds there will be a place; 0 if there is one."""
        self._fill(now)
        # What is worked out from a wait of this long is not always all of one.
        return (1 - self._left) / self._rate if self._left < 1 - 1e-9 else 0

    @property
    def _rate(self) -> float:
        return min(self._early, self._per_second) if self._is_early else self._per_second

    def _fill(self, now: float) -> None:
        if self._per_second < self._most and now - self._hit_at >= _FORGIVEN_S:
            self._per_second = min(self._most, self._per_second * 2)
            self._hit_at = now
        passed = max(0.0, now - self._filled_at)
        self._filled_at = now
        self._left = min(self._rate, self._left + passed * self._rate)


class Comeback:
    """When a client that has lost its connection comes back: later each time, or sooner if there is a reason, but not too soon or too often."""

    def __init__(self, backoff: Backoff, random: Callable[[], float], reopen: Callable[[], None]) -> None:
        self._backoff, self._random, self._open = backoff, random, reopen
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = -math.inf

    def later(self, at_least: float) -> float:
        """Comes back later; if it says so, not before a server that has too much to do may be asked again. Tells in how many seconds."""
        wait = self._backoff.next(at_least)
        if at_least > 0:
            self._not_before = max(self._not_before, _now() + wait)
        self._at(_now() + wait)
        return wait

    def wake(self) -> None:
        """Something has happened that makes it worth to come back sooner."""
        at = max(_now(), self._not_before) + self._random() * _WAKING_JITTER_S
        if self._timer is not None and at < self._timer.when():
            self._not_before = at + _LEAST_WAKING_S
            self._at(at)

    def now(self) -> None:
        """It is wanted now."""
        self.cancel()
        self._open()

    def cancel(self) -> None:
        """It does not come back by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reset(self) -> None:
        """A connection has held: the next wait is a short one again."""
        self._backoff.reset()

    def _at(self, when: float) -> None:
        self.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self.now)


def _now() -> float:
    return asyncio.get_running_loop().time()
