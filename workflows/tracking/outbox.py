"""Calls to a service that may be away or slow: made in order by a thread, and made again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

MOST_WAITING = 10_000  # calls; what comes after that is lost, and said to be
PAUSE_S = 5.0  # after a call that failed, as long as there is time
HURRIED_PAUSE_S = 1.0  # and at the end
LONGEST_DRAIN_S = 600.0  # for a service that answers, but so slowly that no end is near


class Outbox:
    """A queue in front of a service. Sending neither raises nor waits.

    A call may be made twice, when an answer got lost: it must do no harm then. `refused` tells
    whether an error means that the same call would fail for ever; such calls are dropped.
    """

    def __init__(self, service: str, refused: Callable[[Exception], bool]) -> None:
        self._service = service
        self._refused = refused
        self._waiting: deque[tuple[str, Callable[[], object]]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._hurried = self._closed = False
        self._retry_at = self._taken_at = 0.0
        self._last_error = ""
        self._losses: dict[str, int] = {}  # why -> how many calls

    @property
    def problems(self) -> list[str]:
        """What went wrong and is not put right yet, one line each."""
        with self._changed:
            lines = [
                f"{self._service} did not take {count} record(s): {why}"
                for why, count in self._losses.items()
            ]
            count = len(self._waiting)
            if count and (self._last_error or self._closed):
                why = self._last_error or "it does not answer"
                lines.append(f"{count} record(s) wait for {self._service}: {why}")
        return lines

    def send(self, what: str, call: Callable[[], object]) -> None:
        """Have the call made as soon as the service takes it."""
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._lose("too many waited")
                return
            self._waiting.append((what, call))
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._deliver, daemon=True)
                self._thread.start()

    def drain(self, patience_s: float) -> None:
        """Wait until all calls are made, but no longer than so long without one being taken.

        What comes after that is not sent any more.
        """
        started = time.monotonic()
        with self._changed:
            self._hurried, self._retry_at = True, 0.0
            self._changed.notify_all()
            while self._waiting:
                now = time.monotonic()
                left = max(started, self._taken_at) + patience_s - now
                left = min(left, started + LONGEST_DRAIN_S - now)
                if left <= 0:
                    break
                self._changed.wait(left)
            self._closed = True
            self._changed.notify_all()

    def _deliver(self) -> None:
        """In the thread: make the calls, one after the other."""
        while (first := self._next()) is not None:
            what, call = first
            error = None
            try:
                call()
            except Exception as raised:  # no record is worth the work that it records
                error = raised
            with self._changed:
                if error is None or self._refused(error):
                    if error is not None:
                        self._lose(f"{what}: {brief(error)}")
                    self._waiting.popleft()
                    self._taken_at = time.monotonic()
                else:
                    self._postpone(error)
                self._changed.notify_all()

    def _next(self) -> tuple[str, Callable[[], object]] | None:
        """The call whose turn it is, when it is time; None when no more are to be made."""
        with self._changed:
            while not self._closed:
                pause = self._retry_at - time.monotonic()
                if self._waiting and pause <= 0:
                    return self._waiting[0]
                self._changed.wait(pause if self._waiting else None)
            return None

    def _postpone(self, error: Exception) -> None:
        self._last_error = brief(error)
        self._retry_at = time.monotonic() + (HURRIED_PAUSE_S if self._hurried else PAUSE_S)
        if self._hurried:
            self._waiting.rotate(-1)  # a call that always fails must not hold up the others

    def _lose(self, why: str) -> None:
        self._losses[why] = self._losses.get(why, 0) + 1


def brief(error: Exception) -> str:
    """What an error says, on one short line; of a chain of HTTP errors, the innermost."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    if "Caused by" in text:
        text = text.rpartition(": ")[2].strip("\"'() ")
    return text[:300]
