"""Progress of long work on stderr: a live bar on a terminal, a line every 30 seconds otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

_LINE_SECONDS = 30.0


class Progress:
    """Counts items done out of a total, and says so. A context manager."""

    def __init__(self, title: str, total: int, *, done: int = 0, unit: str = "pictures") -> None:
        self._title = title
        self._total = total
        self._done = self._before = done
        self._unit = unit
        self._bad: dict[str, int] = {}
        self._started = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._done)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int, bad: Mapping[str, int] | None = None) -> None:
        """Count items, and of these the bad ones by reason."""
        self._done += count
        for reason, number in (bad or {}).items():
            self._bad[reason] = self._bad.get(reason, 0) + number
        self.tick()

    def tick(self) -> None:
        """Say where things stand, if it is time to."""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, description=self._title)
        elif time.monotonic() - self._said >= _LINE_SECONDS:
            self._said = time.monotonic()
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """Where things stand: done, total, rate, failures by reason, time left."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self._done - self._before) / seconds
        text = f"{self._title}: {self._done:,} of {self._total:,} {self._unit}, {rate:.1f}/s"
        if self._bad:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self._bad.items()))
            text += f", {sum(self._bad.values()):,} bad ({reasons})"
        if rate > 0:
            text += f", {(self._total - self._done) / rate:.0f} s left"
        return text


def _bar() -> Any:
    # rich costs 0.1 s to import, which a verb that never shows a bar need not pay.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Bars(*columns, console=Console(file=sys.stderr), transient=True)
