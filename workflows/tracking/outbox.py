"""Calls to a service that may be away: made in order, kept while it is, and made again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

MOST_WAITING = 10_000  # calls; what comes after that is lost, and said to be
SHARE = 10  # a call that fails after t seconds is not repeated for SHARE * t seconds ...
LEAST_PAUSE_S = 5.0  # ... and never sooner than this
BUDGET_S = 5.0  # what one `send` may spend on calls that have waited


class Outbox:
    """A queue in front of a service. Sending never raises and seldom waits.

    A call may be made twice, when an answer got lost: it must do no harm then. `refused` tells
    whether an error means that the same call would fail for ever; such calls are dropped.
    """

    def __init__(self, service: str, refused: Callable[[Exception], bool]) -> None:
        self._service = service
        self._refused = refused
        self._waiting: deque[tuple[str, Callable[[], object]]] = deque()
        self._retry_at = 0.0
        self._last_error = ""
        self._losses: dict[str, int] = {}  # why -> how many calls

    @property
    def problems(self) -> list[str]:
        """What went wrong and is not put right yet, one line each."""
        lines = [
            f"{self._service} did not take {count} record(s): {why}"
            for why, count in self._losses.items()
        ]
        if self._waiting and self._last_error:
            count = len(self._waiting)
            lines.append(f"{count} record(s) wait for {self._service}: {self._last_error}")
        return lines

    def send(self, what: str, call: Callable[[], object]) -> None:
        """Make the call now if the service answers, else later."""
        if len(self._waiting) >= MOST_WAITING:
            self._lose("too many waited")
            return
        self._waiting.append((what, call))
        now = time.monotonic()
        if now >= self._retry_at:
            self._deliver(now + BUDGET_S)

    def drain(self, patience_s: float) -> None:
        """Make all calls that wait; while the service is away, go on trying for that long."""
        deadline = time.monotonic() + patience_s
        self._deliver(float("inf"))
        while self._waiting and time.monotonic() < deadline:
            self._waiting.rotate(-1)  # a call that always fails must not hold up the others
            time.sleep(min(1.0, patience_s))
            self._deliver(float("inf"))

    def _deliver(self, deadline: float) -> None:
        """Make waiting calls until none is left, one fails for now, or the time is up."""
        while self._waiting and time.monotonic() < deadline:
            what, call = self._waiting[0]
            started = time.monotonic()
            try:
                call()
            except Exception as error:  # no record is worth the work that it records
                if not self._refused(error):
                    self._postpone(error, time.monotonic() - started)
                    return
                self._lose(f"{what}: {brief(error)}")
            self._waiting.popleft()

    def _postpone(self, error: Exception, spent_s: float) -> None:
        self._last_error = brief(error)
        self._retry_at = time.monotonic() + max(LEAST_PAUSE_S, SHARE * spent_s)

    def _lose(self, why: str) -> None:
        self._losses[why] = self._losses.get(why, 0) + 1


def brief(error: Exception) -> str:
    """What an error says, on one short line; of a chain of HTTP errors, the innermost."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    if "Caused by" in text:
        text = text.rpartition(": ")[2].strip("\"'()[] ")
    return text[:300]
