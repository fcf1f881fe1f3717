"""How far a collection is while its shards are still at work, told every half a minute on stderr.

A shard counts for the fan-out when it is whole, which at a host's pace may take hours; the journals
know better.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from nnst import storage
from nnst.web import journal

_LINE_SECONDS = 30.0


class Watch:
    """Counts the rows in the journals below a local output folder. A context manager."""

    def __init__(self, out: str, total: int, seconds: float = _LINE_SECONDS) -> None:
        self._folder = Path(out) / journal.FOLDER
        self._is_local = not storage.is_remote(out)
        self._total = total
        self._seconds = seconds
        self._read: dict[str, int] = {}  # bytes of each journal that are counted
        self._rows = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        if self._is_local:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._is_local:
            self._thread.join()

    def count(self) -> int:
        """Rows in all journals; each byte of them is read once."""
        for path in self._folder.glob("*.jsonl"):
            try:
                with path.open("rb") as stream:
                    stream.seek(self._read.get(path.name, 0))
                    data = stream.read()
            except OSError:
                continue
            self._read[path.name] = self._read.get(path.name, 0) + len(data)
            self._rows += data.count(b"\n")
        return self._rows

    def _run(self) -> None:
        begun, before = time.monotonic(), self.count()
        while not self._over.wait(self._seconds):
            rows = self.count()
            rate = (rows - before) / (time.monotonic() - begun)
            left = f", {(self._total - rows) / rate:,.0f} s left" if rate > 0 else ""
            text = (
                f"collect: {rows:,} of {self._total:,} addresses have their row, {rate:.1f}/s{left}"
            )
            print(text, file=sys.stderr, flush=True)
