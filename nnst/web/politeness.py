"""The pace of a host: so many connections, so many requests a second, and peace when it asks.

A `Host` is used by one event loop. That its limits hold over a whole cluster is the planner's care:
a host belongs to one shard.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nnst.config import setting
from nnst.errors import FetchError


@dataclass(frozen=True, slots=True)
class PaceSettings:
    """How fast a host is asked, and how often again."""

    connections: int = setting(2, "connections to one host at a time")
    rate: float = setting(1.0, "requests a second to one host; 0 is as fast as it answers")
    tries: int = setting(3, "requests for one address where the server fails")
    backoff: float = setting(1.0, "seconds before the second try, doubled for each further one")
    max_wait: float = setting(900.0, "seconds that a Retry-After may ask for, else it is given up")
    failures: int = setting(10, "failures in a row after which a host is given up")
    in_flight: int = setting(64, "requests in flight at a time in one shard")

    def __post_init__(self) -> None:
        if min(self.connections, self.tries, self.failures, self.in_flight) < 1:
            raise ValueError("connections, tries, failures and in_flight must be 1 or more")
        if min(self.rate, self.backoff, self.max_wait) < 0:
            raise ValueError("rate, backoff and max_wait must be 0 or more")


class Host:
    """One host: waits for a turn, and remembers how it went."""

    def __init__(self, settings: PaceSettings, in_flight: asyncio.Semaphore) -> None:
        self._settings = settings
        self._in_flight = in_flight
        self._connections = asyncio.Semaphore(settings.connections)
        self._interval = 1 / settings.rate if settings.rate else 0.0
        self._next = 0.0  # when the next request may begin, in the loop's time
        self._failures = 0  # in a row
        self._given_up = ""

    def slow_down(self, seconds: float) -> None:
        """Leave at least so many seconds between requests, as robots.txt may ask for."""
        self._interval = max(self._interval, seconds)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Inside, one request may be made. Raises FetchError, `host_down`, for a given up host."""
        async with self._connections:
            await self._begin()
            try:
                yield
            finally:
                self._in_flight.release()

    async def _begin(self) -> None:
        """Wait for the host's pace and then for a place among all requests, however often the
        one passes while the other is awaited."""
        loop = asyncio.get_running_loop()
        while True:
            self._check_given_up()
            if self._next > loop.time():
                await asyncio.sleep(self._next - loop.time())
                self._check_given_up()
            await self._in_flight.acquire()
            if self._next <= loop.time():
                self._next = loop.time() + self._interval
                return
            self._in_flight.release()

    def _check_given_up(self) -> None:
        if self._given_up:
            raise FetchError("host_down", self._given_up)

    def answered(self) -> None:
        """It answered, whatever it said."""
        self._failures = 0

    def failed(self, error: FetchError) -> None:
        """It failed, or asked to be left alone for `error.wait` seconds."""
        self._failures += 1
        if self._failures >= self._settings.failures:
            self._given_up = f"{self._failures} failures in a row, the last: {error}"
        if error.wait is None:
            return
        if error.wait > self._settings.max_wait:
            self._given_up = f"it asked to be left alone for {error.wait:.0f} s"
            return
        self._next = max(self._next, asyncio.get_running_loop().time() + error.wait)

    def pause_before(self, attempt: int) -> float:
        """Seconds to wait before this attempt (1 is the second): exponential, with jitter."""
        return self._settings.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
