"""The epochs of a training as they end, heard of by the driver while it waits for the workers.

The first rank writes the history; when each epoch was first heard of is kept beside it. So a
training that goes on tells of every epoch with the time that it had before, and whoever records
that has each number once, whatever became of the records of the first time.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar

from nnst import storage

_POLL_SECONDS = 0.5

Row = Mapping[str, float]
Told = Callable[[int, Row, int], None]  # epoch, its metrics, when it ended in milliseconds
Heard = Callable[[Row], None]

_OVERHEARING: ContextVar[Heard | None] = ContextVar("overhearing", default=None)


@contextlib.contextmanager
def overheard(hear: Heard) -> Iterator[None]:
    """While inside, `hear` is told of every epoch of each network that this thread trains.

    In their order, and again of those that were done before.
    """
    token = _OVERHEARING.set(hear)
    try:
        yield
    finally:
        _OVERHEARING.reset(token)


def _with_hearers(on_epoch: Told) -> Told:
    hear = _OVERHEARING.get()  # here, as epochs are told of in another thread
    if hear is None:
        return on_epoch

    def tell(epoch: int, row: Row, ended: int) -> None:
        on_epoch(epoch, row, ended)
        hear(row)

    return tell


def write_history(folder: str, history: Sequence[Row]) -> None:
    """Write the rows of the epochs done, for the driver to hear of."""
    storage.put(_history_path(folder), json.dumps([dict(row) for row in history]).encode())


def epochs_told(folder: str) -> int:
    """Of how many epochs has been told in this folder, before an interruption too."""
    return len(_times(folder))


class Listener:
    """As a context, tells of each epoch once as it ends; of those before an interruption first."""

    def __init__(self, folder: str, on_epoch: Told) -> None:
        self._folder = folder
        self._on_epoch = _with_hearers(on_epoch)
        self._told = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        path = _history_path(self._folder)
        history = storage.read_json(path) if storage.exists(path) else []
        if len(history) <= self._told:
            return
        times = _times(self._folder)
        for epoch in range(self._told, len(history)):
            if epoch == len(times):
                times.append(int(time.time() * 1000))
                storage.put(_times_path(self._folder), json.dumps(times).encode())
            self._on_epoch(epoch, history[epoch], times[epoch])
            self._told = epoch + 1


def tell_again(folder: str, history: Sequence[Row], on_epoch: Told) -> None:
    """Tell of all epochs of a training that is done, with the times that they had."""
    tell = _with_hearers(on_epoch)
    for epoch, (row, ended) in enumerate(zip(history, _times(folder), strict=True)):
        tell(epoch, row, ended)


def _times(folder: str) -> list[int]:
    path = _times_path(folder)
    return [int(ended) for ended in storage.read_json(path)] if storage.exists(path) else []


def _history_path(folder: str) -> str:
    return storage.join(folder, "history.json")


def _times_path(folder: str) -> str:
    return storage.join(folder, "times.json")
