"""How long a training has taken so far, whatever interrupted it."""

from __future__ import annotations

import time

from nnst import storage

SECONDS = "seconds.json"


class Clock:
    """Seconds of work in a folder, over all attempts; what an attempt did not keep is not counted.

    What is lost when a driver dies is done once more, and counted then.
    """

    def __init__(self, folder: str) -> None:
        self._path = storage.join(folder, SECONDS)
        there = storage.exists(self._path)
        self._before = float(storage.read_json(self._path)["seconds"]) if there else 0.0
        self._started = time.monotonic()

    def keep(self) -> float:
        """The seconds so far, which are written down."""
        seconds = self._before + time.monotonic() - self._started
        storage.put(self._path, storage.to_json({"seconds": seconds}))
        return seconds
